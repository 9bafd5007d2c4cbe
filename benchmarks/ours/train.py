"""Ours: an epoch as the library trains it, shuffled, converted and scheduled; one thread."""

from benchmarks import flop
from benchmarks.serve import options, serve
from bsglib import runtime
from bsglib.runs import build, state, train
from bsglib.runs.params import RunConfig

runtime.single_thread()
config = RunConfig(validation_fraction=0.0, base_lr=0.001, epochs=10**6, **options())
dataset = build.dataset_of(config)
state = state.fresh(config, dataset)


def epoch() -> dict:
    train._train_epoch(state, config, dataset)  # all of `train.train` but evaluation and storing
    return {"units": len(dataset.train)}


x = dataset.as_input(dataset.train.x[:8], build.DTYPES[config.dtype])
serve(
    epoch,
    weights=sum(w.numel() for w in state.model.parameters()),
    flop_per_sample=flop.per_example(state.fresh(config, dataset).model, x),
)
