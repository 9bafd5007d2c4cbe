"""Exact mean loss, accuracy and gradient over a whole set: sums in float64, divided once."""

import contextlib
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bsglib import runtime
from bsglib.names import nearest
from bsglib.runtime import full_float32
from bsglib.weights import flatten, modes_kept

SumLoss = Callable[[Tensor, Tensor], Tensor]  # (outputs, labels) -> loss summed over examples
BATCH_NORM = ("stored", "batch", "reestimate")  # the statistics that batch norm uses in a measure


def _cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    try:
        return nn.functional.cross_entropy(outputs, y, reduction="sum")
    except (IndexError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"labels y {list(y.shape)} of {y.dtype} do not fit outputs {list(outputs.shape)}: "
            f"{error}"
        ) from error


LOSSES: dict[str, SumLoss] = {"cross_entropy": _cross_entropy}


def loss_function(loss: str | SumLoss) -> SumLoss:
    """Return the summed loss with a name, or the function itself.

    Raises:
        ValueError: if the name is unknown.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}{nearest(loss, LOSSES)}")
    return LOSSES[loss]


def chunks(x: Tensor, y: Tensor, chunk_size: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Return x [n, ...] and y [n] in parts of `chunk_size`; the last part is the remainder.

    None selects a size for their device.

    Raises:
        ValueError: if x and y differ in length or are empty, or chunk_size is not positive.
    """
    require_examples("x, y", x, y)
    chunk_size = runtime.chunk_size(x.device) if chunk_size is None else chunk_size
    if chunk_size < 1:
        raise ValueError(f"chunk_size = {chunk_size}: must be at least 1")
    return zip(x.split(chunk_size), y.split(chunk_size), strict=True)


def require_examples(name: str, x: Tensor, y: Tensor) -> None:
    """Refuse inputs and labels that differ in length or are empty.

    Raises:
        ValueError: if so; the message has both lengths.
    """
    if not len(x) == len(y) > 0:
        raise ValueError(
            f"{name}: {len(x)} inputs and {len(y)} labels; needed are equal numbers, > 0"
        )


@dataclass(frozen=True)
class Metrics:
    """Mean loss and accuracy over n examples."""

    loss: float
    accuracy: float
    n: int


@contextlib.contextmanager
def fixed_function(
    model: nn.Module, x: Tensor, batch_norm: str
) -> Iterator[tuple[nn.Module, Tensor]]:
    """Yield a copy of the model whose loss is a fixed function of its weights, and its input x.

    The copy has no dropout and no TF32. Its batch norm uses the statistics of each chunk ("batch")
    or running statistics ("stored", and "reestimate", for which the caller re-estimates them). The
    copy and x have the fastest memory format; the model is unchanged. The model has to support
    copies, which excludes the old `torch.nn.utils.weight_norm`.

    Yields:
        the copy, in the mode for measurements, and x.

    Raises:
        ValueError: if batch_norm is unknown, or the model cannot be copied.
    """
    if batch_norm not in BATCH_NORM:
        raise ValueError(f"batch_norm = {batch_norm!r}{nearest(batch_norm, BATCH_NORM)}")
    memory_format = _fastest_format(model, x)
    try:
        network = deepcopy(model)
    except RuntimeError as error:
        raise ValueError(
            f"the network cannot be copied ({error}); torch.nn.utils.parametrizations holds "
            "weight and spectral norms that can"
        ) from error
    network.to(memory_format=memory_format).eval().requires_grad_(True)
    if batch_norm == "batch":
        for layer in network.modules():
            layer.training = isinstance(layer, _BatchNorm)
    with full_float32():
        yield network, x.to(memory_format=memory_format)


def _fastest_format(model: nn.Module, x: Tensor) -> torch.memory_format:
    """Return channels last for images on a CPU, which makes pooling ten times as fast.

    A network that fails in this order, such as one that calls `view` on images, keeps its own.
    """
    if x.ndim == 4 and x.device.type == "cpu":
        with contextlib.suppress(RuntimeError), torch.no_grad():
            trial = deepcopy(model).eval().to(memory_format=torch.channels_last)
            trial(x[:2].to(memory_format=torch.channels_last))
            return torch.channels_last
    return torch.preserve_format


def require_fixed(loss: float, again: float) -> None:
    """Refuse a loss that is not finite, or that differs between two evaluations.

    Raises:
        ValueError: if the two losses are not finite or not equal.
    """
    if not math.isfinite(loss):
        raise ValueError(f"the loss at the weights is {loss}: it has to be finite")
    if not abs(again - loss) <= 1e-5 * (1 + abs(loss)):
        raise ValueError(
            f"two evaluations of the loss at the same weights give {loss} and {again}: "
            "switch off random operations of the network"
        )


def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    as_input: Callable[[Tensor], Tensor] = lambda x: x,
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> Metrics:
    """Return mean loss and accuracy over all examples of x, y, in evaluation mode.

    Args:
        model: a classifier in any mode; left in that mode.
        x, y: inputs [n, ...] and labels int64 [n], n > 0, on the model's device.
        as_input: converts a chunk of stored x to network inputs.
        loss: a name in `LOSSES`, or a function of (outputs, labels) summed over examples.
        chunk_size: examples per forward pass, None for a size for the device; it changes the result
            by rounding only.

    Raises:
        ValueError: if x and y differ in length or are empty, labels do not fit the outputs, the
            loss is unknown, or chunk_size is not positive.
    """
    with modes_kept(model):
        return metrics(model.eval(), x, y, as_input=as_input, loss=loss, chunk_size=chunk_size)


@torch.no_grad()
def metrics(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    as_input: Callable[[Tensor], Tensor] = lambda x: x,
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> Metrics:
    """Return the result of `evaluate` in the model's current mode.

    Raises:
        ValueError: as `evaluate`.
    """  # noqa: DOC502
    total, correct = metric_sums(model, x, y, as_input=as_input, loss=loss, chunk_size=chunk_size)
    return Metrics(float(total) / len(y), int(correct) / len(y), len(y))


@torch.no_grad()
def metric_sums(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    as_input: Callable[[Tensor], Tensor] = lambda x: x,
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the sums of loss and correct answers, without waiting for the device."""
    sum_loss = loss_function(loss)
    total, correct = y.new_zeros((), dtype=torch.float64), y.new_zeros((), dtype=torch.int64)
    for part, labels in chunks(x, y, chunk_size):
        outputs = model(as_input(part))
        total = total + sum_loss(outputs, labels).double()
        correct = correct + (outputs.argmax(1) == labels).sum()
    return total, correct


@torch.no_grad()
def mean_loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> float:
    """Return the mean loss over all examples of x [n, ...], y [n], in the model's current mode.

    Arguments are those of `evaluate`; labels are those of the loss.

    Raises:
        ValueError: as `evaluate`.
    """  # noqa: DOC502
    sum_loss = loss_function(loss)
    total: Tensor | float = 0.0
    for part, labels in chunks(x, y, chunk_size):
        total += sum_loss(model(part), labels).double()
    return float(total) / len(y)


def loss_and_gradient(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> tuple[float, Tensor]:
    """Return the mean loss over all examples of x [n, ...], y [n], and its float64 gradient [p].

    The model keeps its mode and its `.grad` fields. Arguments are those of `mean_loss`.

    Raises:
        ValueError: as `evaluate`.
    """  # noqa: DOC502
    value, gradient = loss_and_gradient_tensors(model, x, y, loss=loss, chunk_size=chunk_size)
    return float(value), gradient


def loss_and_gradient_tensors(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the result of `loss_and_gradient` as tensors, without waiting for the device."""
    sum_loss, weights = loss_function(loss), list(model.parameters())
    total = torch.zeros((), dtype=torch.float64, device=weights[0].device)
    gradient = total.new_zeros(sum(w.numel() for w in weights))
    with torch.enable_grad():
        for part, labels in chunks(x, y, chunk_size):
            value = sum_loss(model(part), labels)
            gradient += flatten(torch.autograd.grad(value, weights, materialize_grads=True))
            total += value.detach()
    return total / len(y), gradient / len(y)
