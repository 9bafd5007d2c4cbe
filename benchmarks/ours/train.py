"""Ours: an epoch as the library trains it, shuffled, converted and scheduled; one thread."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.serve import options, serve
from bsglib import runtime, train
from bsglib.params import RunConfig

runtime.single_thread()
config = RunConfig(validation_fraction=0.0, base_lr=0.001, epochs=10**6, **options())
dataset = train.dataset_of(config)
state = train._fresh(config, dataset)


def epoch() -> dict:
    train._train_epoch(state, config, dataset)  # all of `train.train` but evaluation and storing
    return {"units": len(dataset.train)}


def flop_per_sample() -> float:
    """Forward and backward, 2 per multiply-add, without the gradient for the images."""
    fresh = train._fresh(config, dataset)
    x = dataset.as_input(dataset.train.x[:8], train.DTYPES[config.dtype])
    with FlopCounterMode(display=False) as counter:
        loss = torch.nn.functional.cross_entropy(fresh.model(x), dataset.train.y[:8])
        loss.backward()
    return counter.get_total_flops() / 8


serve(
    epoch,
    weights=sum(w.numel() for w in state.model.parameters()),
    flop_per_sample=flop_per_sample(),
)
