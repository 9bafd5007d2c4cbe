"""Shared parts of the sharpness measures: a fixed function of the weights, its initial values."""

import contextlib
from collections.abc import Iterator
from typing import TypedDict

import torch
from torch import Tensor, nn

from bsglib import runtime
from bsglib.evaluate import SumLoss, fixed_function, loss_and_gradient, mean_loss, require_fixed
from bsglib.weights import equal_parts, reestimate_batch_norm

BATCH_CHUNK = 512  # examples that share batch statistics


class PassOptions(TypedDict):
    """Options of every pass: arguments of `mean_loss` and `loss_and_gradient`."""

    loss: str | SumLoss
    chunk_size: int | None


def pass_options(
    x: Tensor, loss: str | SumLoss, batch_norm: str, chunk_size: int | None
) -> PassOptions:
    """Return the options of every pass over x; batch statistics fix the default chunk size."""
    if chunk_size is None:
        chunk_size = BATCH_CHUNK if batch_norm == "batch" else runtime.chunk_size(x.device)
    return {"loss": loss, "chunk_size": chunk_size}


@contextlib.contextmanager
def measured(model: nn.Module, x: Tensor, batch_norm: str) -> Iterator[tuple[nn.Module, Tensor]]:
    """Yield the fixed function, with batch norm's statistics at the unperturbed weights."""
    with fixed_function(model, x, batch_norm) as (network, x):
        if batch_norm == "reestimate":
            reestimate_batch_norm(network, equal_parts(x))
        yield network, x


def at_start(model: nn.Module, x: Tensor, y: Tensor, options: PassOptions) -> tuple[float, Tensor]:
    """Return loss and gradient at the weights, after a check that the loss is deterministic."""
    loss, gradient = loss_and_gradient(model, x, y, **options)
    require_fixed(loss, mean_loss(model, x, y, **options))
    if bad := int((~torch.isfinite(gradient)).sum()):
        raise ValueError(f"the gradient at the weights holds {bad} values that are not finite")
    return loss, gradient
