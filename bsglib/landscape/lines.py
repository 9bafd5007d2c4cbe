"""Losses along a path between two minimizers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bsglib.device_graphs import Repeated
from bsglib.evaluate import SumLoss, fixed_function, loss_function, metric_sums, require_examples
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
from bsglib.weights import equal_parts, has_batch_norm, reestimate_batch_norm


def interpolate(
    model: nn.Module,
    weights_a: Mapping[str, Tensor],
    weights_b: Mapping[str, Tensor],
    sets: Mapping[str, tuple[Tensor, Tensor]],
    *,
    alphas: Iterable[float],
    path: str = "linear",
    batch_norm: str = "reestimate",
    threads: int = 1,
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
    points_per_pass: int | None = None,
) -> pd.DataFrame:
    """Return loss and accuracy along a path between the weights of two networks.

    Source: Keskar et al. 2017, figures 3 and 7: alpha x_b + (1 - alpha) x_a on the linear path,
    sin(alpha pi / 2) x_b + cos(alpha pi / 2) x_a on the curvilinear path. At alpha = 0 and 1 the
    weights are exactly the given ones.

    Args:
        model: a classifier with the two networks' structure; copied, left unchanged.
        weights_a, weights_b: the state dicts of the two networks.
        sets: inputs [n, ...] and labels int64 [n] by name, on the model's device.
        alphas: coordinates, including 0 and 1, such as `np.linspace(-1, 2, 25)`.
        path: "linear" or "curvilinear".
        batch_norm: "reestimate" the running statistics over the set named "train" at every alpha;
            "batch" statistics of each chunk; "stored": those of the two networks, interpolated
            linearly on either path, variances no lower than 0, and counts from the nearer end.
        threads: number of alphas computed in parallel, each by one thread on one core.
        loss: a name in `evaluate.LOSSES`, or a function of (outputs, y) summed over examples.
        chunk_size: examples per forward pass, as for `loss_surface`.
        points_per_pass: number of alphas per forward pass, as for `loss_surface`.

    Returns:
        columns alpha, set, loss, accuracy; rows in the order of alphas, then of sets.

    Raises:
        ValueError: if weights do not fit the model or are not finite, alphas lack 0 or 1, a name
            is not allowed, or the set "train" for the re-estimation of batch norm is missing.
    """
    alphas = [float(alpha) for alpha in alphas]
    if not {0.0, 1.0} <= set(alphas) or not np.isfinite(alphas).all():
        raise ValueError(f"alphas = {alphas}: must be finite, with exactly 0 and 1 among them")
    if path not in (allowed := ("linear", "curvilinear")):
        raise ValueError(f"path = {path!r}{nearest(path, allowed)}")
    if not sets:
        raise ValueError("sets is empty: needed are inputs and labels by name")
    for name, (x, y) in sets.items():
        require_examples(f"set {name!r}", x, y)
    require_threads(threads)
    reestimate = batch_norm == "reestimate" and has_batch_norm(model)
    if reestimate and "train" not in sets:
        raise ValueError(
            f"sets = {', '.join(sets)}: batch_norm='reestimate' needs the one named 'train'"
        )
    rows: dict[float, list[dict]] = {}
    first, _ = next(iter(sets.values()))
    chunk_size = chunk_size_for(chunk_size, first, batch_norm)
    with fixed_function(model, first, batch_norm) as (model, _), one_thread(), torch.no_grad():
        a, b = _fitted(model, weights_a, "weights_a"), _fitted(model, weights_b, "weights_b")
        learned = dict(model.named_parameters(remove_duplicate=False))
        networks = [deepcopy(model) for _ in range(threads)]
        repeated = {
            (network, name): Repeated(
                partial(metric_sums, network, x, y, loss=loss, chunk_size=chunk_size)
            )
            for network in networks
            for name, (x, y) in sets.items()
        }
        largest = max((x for x, _ in sets.values()), key=len)
        count = points_per_pass_for(points_per_pass, model, largest, chunk_size)
        stacks = stacks_of(model, threads, min(count, len(alphas)))
        each = _loss_and_correct(loss)
        repeated |= {
            (stack, name): Repeated(partial(stacked_sums, stack, x, y, each, chunk_size))
            for stack in stacks
            for name, (x, y) in sets.items()
        }

        def rows_at(network: nn.Module, alpha: float) -> list[dict]:
            for name, tensor in network.state_dict().items():
                ends = a[name], b[name]
                tensor.copy_(
                    _weight(*ends, alpha, path) if name in learned else _buffer(name, *ends, alpha)
                )
            if reestimate:
                reestimate_batch_norm(network, equal_parts(sets["train"][0]))
            return [row(alpha, name, *repeated[network, name]()) for name in sets]

        def rows_at_several(stack: Stacked, alphas: Sequence[float]) -> list[list[dict]]:
            column = as_column(alphas, first.device)
            for name, tensor in stack.tensors().items():
                ends = a[name], b[name]
                tensor.copy_(
                    _weights(*ends, column, path)
                    if name in learned
                    else _buffers(name, *ends, column)
                )
            if reestimate:
                reestimate_batch_norm(stack, equal_parts(sets["train"][0]))
            sums = {name: repeated[stack, name]()[0].tolist() for name in sets}
            return [
                [row(alpha, name, *sums[name][place]) for name in sets]
                for place, alpha in enumerate(alphas)
            ]

        def row(alpha: float, name: str, total: Tensor | float, correct: Tensor | float) -> dict:
            n = len(sets[name][1])
            means = {"loss": float(total) / n, "accuracy": int(correct) / n}
            return {"alpha": alpha, "set": name} | means

        in_passes(rows_at, rows_at_several, networks, stacks, alphas, rows.__setitem__)
    return pd.DataFrame([row for alpha in alphas for row in rows[alpha]])


def _weight(a: Tensor, b: Tensor, alpha: float, path: str) -> Tensor:
    if path == "linear" or alpha in (0, 1):  # cos(pi / 2) is not quite zero
        return a.lerp(b, alpha)
    return math.cos(alpha * math.pi / 2) * a + math.sin(alpha * math.pi / 2) * b


def _buffer(name: str, a: Tensor, b: Tensor, alpha: float | Tensor) -> Tensor:
    if not a.is_floating_point():
        return a if alpha < 0.5 else b
    between = torch.where(a == b, a, a.lerp(b, alpha))  # constants may be infinite
    return between.clamp_min(0) if name.endswith("running_var") else between


def _weights(a: Tensor, b: Tensor, alphas: Tensor, path: str) -> Tensor:
    """Return `_weight` for each of some alphas, a float64 vector [k]: a tensor [k, ...]."""
    at = along(alphas, a)
    line = a.lerp(b, at)
    if path == "linear":
        return line
    angles = alphas * math.pi / 2
    curve = along(angles.cos(), a) * a + along(angles.sin(), a) * b
    return torch.where((at == 0) | (at == 1), line, curve)


def _buffers(name: str, a: Tensor, b: Tensor, alphas: Tensor) -> Tensor:
    """Return `_buffer` for each of some alphas, a float64 vector [k]: a tensor [k, ...]."""
    if not a.is_floating_point():
        return torch.where(alphas.view(-1, *[1] * a.ndim) < 0.5, a, b)
    return _buffer(name, a, b, along(alphas, a))


def _loss_and_correct(loss: str | SumLoss) -> SumLoss:
    sum_loss = loss_function(loss)

    def both(outputs: Tensor, y: Tensor) -> Tensor:
        """Return summed loss and number of correct answers, float64 [2]."""
        correct = (outputs.argmax(1) == y).sum()
        return torch.stack([sum_loss(outputs, y).double(), correct.double()])

    return both


def _fitted(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return a state dict in the dtypes and on the devices of the model's own."""
    state = model.state_dict()
    if not isinstance(weights, Mapping):
        kind = type(weights).__name__
        raise ValueError(f"{name} is of type {kind}: needed is what a network's state_dict() gives")
    if wrong := sorted(state.keys() ^ weights.keys()):
        which = "lacks" if wrong[0] in state else "has an unknown"
        raise ValueError(f"{name} {which} {wrong[0]!r}: needed are the model's state_dict() names")
    for key, tensor in weights.items():
        require_shape(f"{name}[{key!r}]", tensor, state[key])
    for key, _ in model.named_parameters():
        require_finite(f"{name}[{key!r}]", weights[key])
    return {key: tensor.to(state[key]) for key, tensor in weights.items()}
