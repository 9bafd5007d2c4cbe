"""Losses on curves and planes around a model's weights."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bsglib.device_graphs import Repeated
from bsglib.evaluate import (
    SumLoss,
    fixed_function,
    loss_function,
    mean_loss,
    require_examples,
    require_fixed,
)
from bsglib.landscape.directions import Direction
from bsglib.landscape.passes import (
    along,
    as_column,
    chunk_size_for,
    in_passes,
    points_per_pass_for,
    require_finite,
    require_shape,
    require_threads,
    stacked_sums,
    stacks_of,
)
from bsglib.names import nearest
from bsglib.runtime import one_thread
from bsglib.stacked import Stacked
from bsglib.weights import equal_parts, reestimate_batch_norm

Index = tuple[int, ...]  # of a point of a surface: (i,) on a curve, (i, j) in a plane


@dataclass(frozen=True, eq=False)
class Surface:
    """Mean losses around a model's weights: a curve along one direction, or a plane along two.

    loss[i, j] is taken at the weights + a[i] * (first direction) + b[j] * (second direction); a
    contour plot takes `loss.T`. A curve has loss[i], and b and cosine are None. A loss may be NaN
    or infinite.
    """

    a: np.ndarray
    b: np.ndarray | None
    loss: np.ndarray  # [len(a), len(b)] or [len(a)]
    n: int  # examples
    cosine: float | None  # between the two directions, which are not orthogonalized


def loss_surface(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    directions: Sequence[Direction],
    extent: float | Sequence[float] = 1.0,
    points: int | Sequence[int] = 25,
    done: Mapping[Index, float] | None = None,
    on_point: Callable[[Index, float], object] | None = None,
    threads: int = 1,
    batch_norm: str = "stored",
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
    points_per_pass: int | None = None,
) -> Surface:
    """Return the mean loss at the points of a grid around the model's weights.

    The loss is the data loss on x, y, without weight decay, augmentation and dropout.

    Args:
        model: network in any mode and dtype; copied for each thread, left unchanged.
        x, y: inputs [n, ...] and labels [n], on the model's device; all examples are used.
        directions: one or two, by parameter name, such as `filter_normalized_direction`.
        extent: the grid spans -extent to extent; one number for both directions or one for each.
        points: number of points per direction, for both or for each; odd, so that the centre is
            the model's weights.
        done: known losses by index, which are not computed again.
        on_point: called in this thread with the index and loss of each computed point; as `done`,
            they resume an interrupted surface.
        threads: number of points computed in parallel, each by one thread on one core.
        batch_norm: "stored" running statistics, those of the model; "reestimate" them over x at
            every point; "batch" statistics of each chunk.
        loss: a name in `evaluate.LOSSES`, or a function of (outputs, y) summed over examples,
            called from all threads.
        chunk_size: examples per forward pass; matters for batch_norm="batch" only. None is 64,
            which keeps the activations of small images in a CPU's cache, or 4096 on an accelerator
            unless batch_norm is "batch".
        points_per_pass: number of points per forward pass, by `torch.func.vmap`; if the network or
            the loss does not allow it, one point per pass, with a warning. Losses agree up to
            rounding. None is 1 on a CPU and for convolutions, which become slower; on an
            accelerator it is the number that fills the device and fits its memory.

    Raises:
        ValueError: if a direction, size or name is not allowed, the loss at the weights is not
            finite, two evaluations of it differ, or `done` has a different loss at the centre.
    """
    if isinstance(directions, Mapping) or len(directions) not in (1, 2):
        raise ValueError("directions: needed is a list of one or two, each by parameter name")
    extents = _one_for_each("extent", extent, directions)
    shape = _one_for_each("points", points, directions)
    if not all(0 < e < math.inf for e in extents):
        raise ValueError(f"extent = {extent}: must be positive and finite")
    if not all(isinstance(p, int | np.integer) and p >= 3 and p % 2 == 1 for p in shape):
        raise ValueError(f"points = {points}: must be odd and at least 3, to have a middle")
    require_examples("x, y", x, y)
    require_threads(threads)
    chunk_size = chunk_size_for(chunk_size, x, batch_norm)
    centre = tuple(p // 2 for p in shape)
    axes = [e * np.arange(-c, c + 1) / c for e, c in zip(extents, centre, strict=True)]
    grid, losses = list(np.ndindex(*shape)), dict(done or {})
    if strange := losses.keys() - set(grid):
        raise ValueError(f"done holds the point {strange.pop()}: not on a grid of {shape} points")

    with fixed_function(model, x, batch_norm) as (model, x), one_thread(), torch.no_grad():
        networks = [deepcopy(model) for _ in range(threads)]
        start = [w.clone() for w in networks[0].parameters()]
        steps = [_like(networks[0], d, f"directions[{i}]") for i, d in enumerate(directions)]
        for i, step in enumerate(steps):
            if not any(bool(part.any()) for part in step):
                raise ValueError(f"directions[{i}] is zero for every parameter")

        def loss_at(network: nn.Module, index: Index) -> float:
            for w, origin, *ds in zip(network.parameters(), start, *steps, strict=True):
                w.copy_(origin)
                for d, axis, i in zip(ds, axes, index, strict=True):
                    w.add_(d, alpha=axis[i])
            if batch_norm == "reestimate":
                reestimate_batch_norm(network, equal_parts(x))
            return mean_loss(network, x, y, loss=loss, chunk_size=chunk_size)

        def losses_at(stack: Stacked, indices: Sequence[Index]) -> list[float]:
            places = zip(axes, zip(*indices, strict=True), strict=True)
            moves = [as_column(axis[list(place)], x.device) for axis, place in places]
            for w, origin, *ds in zip(stack.parameters(), start, *steps, strict=True):
                w.copy_(origin)
                for d, move in zip(ds, moves, strict=True):
                    w.addcmul_(d, along(move, d))
            if batch_norm == "reestimate":
                reestimate_batch_norm(stack, equal_parts(x))
            (totals,) = repeated[stack]()
            return (totals / len(y)).tolist()

        def keep(index: Index, value: float) -> None:
            losses[index] = value
            if on_point is not None:
                on_point(index, value)

        middle = loss_at(networks[0], centre)
        require_fixed(middle, loss_at(networks[0], centre))
        if centre not in losses:
            keep(centre, middle)
        elif not abs(losses[centre] - middle) <= 1e-5 * (1 + abs(middle)):
            raise ValueError(
                f"done holds the loss {losses[centre]} in the middle, {centre}, and the model's "
                f"is {middle}: it belongs to other weights, data or options"
            )
        missing = [i for i in grid if i not in losses]
        count = points_per_pass_for(points_per_pass, model, x, chunk_size)
        stacks = stacks_of(model, threads, min(count, len(missing)))
        each = loss_function(loss)
        repeated = {s: Repeated(partial(stacked_sums, s, x, y, each, chunk_size)) for s in stacks}
        in_passes(loss_at, losses_at, networks, stacks, missing, keep)

    surface = np.empty(shape)
    for index, value in losses.items():
        surface[index] = value
    b, cosine = (axes[1], _cosine(*steps)) if len(steps) == 2 else (None, None)
    return Surface(a=axes[0], b=b, loss=surface, n=len(y), cosine=cosine)


def _like(model: nn.Module, direction: Direction, name: str) -> list[Tensor]:
    """Return a direction as tensors like the model's parameters, in their order."""
    parameters = dict(model.named_parameters())
    for key, d in direction.items():
        if key not in parameters:
            raise ValueError(f"{name} has an unknown parameter {key!r}{nearest(key, parameters)}")
        require_shape(f"{name}[{key!r}]", d, parameters[key])
        require_finite(f"{name}[{key!r}]", d)
    return [
        torch.empty_like(w).copy_(direction[key]) if key in direction else torch.zeros_like(w)
        for key, w in parameters.items()
    ]


def _cosine(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    def product(u: Sequence[Tensor], v: Sequence[Tensor]) -> float:
        return sum(float((a.double() * b.double()).sum()) for a, b in zip(u, v, strict=True))

    return product(one, other) / math.sqrt(product(one, one) * product(other, other))


def _one_for_each(name: str, value: Any, directions: Sequence[Direction]) -> tuple:
    values = tuple(value) if np.ndim(value) else (value,) * len(directions)
    if len(values) != len(directions):
        raise ValueError(f"{name} = {value}: needed is one number, or {len(directions)} of them")
    return values
