"""What is evaluated along a run, and after which epochs."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import nn

from bsglib.data import Dataset
from bsglib.evaluate import evaluate, metrics
from bsglib.runs.build import DTYPES
from bsglib.runs.params import RunConfig
from bsglib.runs.state import State
from bsglib.weights import equal_parts, has_batch_norm, reestimate_batch_norm

CURVE_EXAMPLES = 1024  # on which batch norm is re-estimated where the test set alone is evaluated


SPLITS = "train", "validation", "test"


def curve_point(state: State, config: RunConfig, dataset: Dataset) -> dict[str, float]:
    """Return what is evaluated after an epoch: see `train`."""
    mode, epoch = config.evaluate, len(state.history)
    spaced = log_spaced(epoch)
    if (
        epoch in config.record_epochs
        or mode == "every"
        or (spaced and mode in ("log", "validation"))
    ):
        return metrics_of(state, dataset)
    if mode == "validation":
        return metrics_of(state, dataset, ("validation",))
    if mode != "test" or not spaced:
        return {}
    model = state.model
    if has_batch_norm(model):
        model = deepcopy(model)
        reestimate(model, dataset, CURVE_EXAMPLES)
    return _evaluated_on(("test",), model, dataset)


def log_spaced(epoch: int) -> bool:
    """Return whether an epoch is 1, 2, 3, 4, 6, 8, 11, 16, ...: factors of about 1.4."""
    return epoch in {round(2 ** (k / 2)) for k in range(40)}


def metrics_of(state: State, dataset: Dataset, splits: Sequence[str] = SPLITS) -> dict[str, float]:
    """Return loss and accuracy on some splits, batch norm on statistics of the training set.

    The running averages lag behind by as many updates as they are long, whole epochs of a large
    batch: what they give stands beside, and is no generalization gap.
    """
    row = _evaluated_on(splits, state.model, dataset)
    if not has_batch_norm(state.model):
        return row
    model = deepcopy(state.model)
    reestimate(model, dataset)
    before = {f"{name}_before_reestimation": value for name, value in row.items()}
    return _evaluated_on(splits, model, dataset) | before


def _evaluated_on(splits: Sequence[str], model: nn.Module, dataset: Dataset) -> dict[str, float]:
    as_input = partial(dataset.as_input, dtype=next(model.parameters()).dtype)
    row = {}
    for name in splits:
        split = getattr(dataset, name)
        if len(split):
            found = evaluate(model, split.x, split.y, as_input=as_input)
            row |= {f"{name}_loss": found.loss, f"{name}_accuracy": found.accuracy}
    return row


def reestimate(model: nn.Module, dataset: Dataset, examples: int | None = None) -> None:
    """Average the batch statistics over the training set, or over its first examples."""
    dtype = next(model.parameters()).dtype
    parts = equal_parts(dataset.train.x[:examples], 1024)
    reestimate_batch_norm(model, (dataset.as_input(part, dtype) for part in parts))


def test_in_training_mode(state: State, config: RunConfig, dataset: Dataset) -> dict[str, float]:
    """Return loss and accuracy on the test set in training mode; the run itself is as before."""
    test, epoch = dataset.test, len(state.history)
    order = np.random.default_rng([config.seed, epoch, 1]).permutation(len(test))
    index = torch.from_numpy(order).to(test.y.device)
    as_input = partial(dataset.as_input, dtype=DTYPES[config.dtype])
    with torch.random.fork_rng():
        model = deepcopy(state.model).train()  # whose running statistics move
        batches = {"as_input": as_input, "chunk_size": config.batch_size}
        found = metrics(model, test.x[index], test.y[index], **batches)
    return {"test_loss_as_run": found.loss, "test_accuracy_as_run": found.accuracy}
