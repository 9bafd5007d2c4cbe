"""What all measures of sharpness share: a fixed function of the weights, and its start."""

import contextlib
from collections.abc import Iterator
from typing import TypedDict

import torch
from torch import Tensor, nn

from bsglib import runtime
from bsglib.evaluate import SumLoss, fixed_function, loss_and_gradient, mean_loss, require_fixed
from bsglib.weights import equal_parts, reestimate_batch_norm


class PassOptions(TypedDict):
    """What every pass takes: the arguments of `mean_loss` and `loss_and_gradient`."""

    loss: str | SumLoss
    chunk_size: int | None


def pass_options(
    x: Tensor, loss: str | SumLoss, batch_norm: str, chunk_size: int | None
) -> PassOptions:
    """What every pass over x takes; chunks as the device likes them, unless statistics depend."""
    if chunk_size is None:
        chunk_size = 512 if batch_norm == "batch" else runtime.chunk_size(x.device)
    return {"loss": loss, "chunk_size": chunk_size}


@contextlib.contextmanager
def measured(model: nn.Module, x: Tensor, batch_norm: str) -> Iterator[tuple[nn.Module, Tensor]]:
    """Fix the function to be measured, with batch norm's statistics those at these weights."""
    with fixed_function(model, x, batch_norm) as (network, x):
        if batch_norm == "reestimate":
            reestimate_batch_norm(network, equal_parts(x))
        yield network, x


def at_start(model: nn.Module, x: Tensor, y: Tensor, options: PassOptions) -> tuple[float, Tensor]:
    """Loss and gradient at the weights, of a loss that comes out the same again."""
    loss, gradient = loss_and_gradient(model, x, y, **options)
    require_fixed(loss, mean_loss(model, x, y, **options))
    if bad := int((~torch.isfinite(gradient)).sum()):
        raise ValueError(f"the gradient at the weights holds {bad} values that are not finite")
    return loss, gradient
