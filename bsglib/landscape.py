"""Losses along lines between minimizers and over planes around them."""

import logging
import math
import queue
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bsglib import runtime
from bsglib.evaluate import (
    SumLoss,
    chunks,
    fixed_function,
    loss_function,
    mean_loss,
    metric_sums,
    require_examples,
    require_fixed,
)
from bsglib.graphs import Repeated
from bsglib.names import nearest
from bsglib.runtime import limit_threads, one_thread
from bsglib.stacked import Stacked
from bsglib.weights import equal_parts, has_batch_norm, reestimate_batch_norm

log = logging.getLogger(__name__)

Direction = Mapping[str, Tensor]  # a tensor for each parameter name; one that is missing is zero
Index = tuple[int, ...]  # of a point of a surface: (i,) on a curve, (i, j) in a plane

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def filter_normalized_direction(model: nn.Module, *, seed: int) -> dict[str, Tensor]:
    """Return a random direction in which every filter is as long as the model's filter.

    Source: Li et al. 2018, section 4: d_i <- d_i / ||d_i|| * ||theta_i|| for each filter i of a
    Gaussian d. A filter is what one output unit sees: a row of a dense layer, an output channel of
    a convolution (transposed ones too). Biases and the parameters of norm layers get zero, as in
    the paper's plots, and so does a filter that is zero in the model.

    Args:
        model: any network; parameters with fewer than two dimensions count as biases.
        seed: decides the direction, whatever the model's dtype and device.

    Raises:
        ValueError: if a weight is not finite.
    """
    generator, direction = np.random.default_rng(seed), {}
    owners = {w: m for m in model.modules() for w in m.parameters(recurse=False)}
    for name, w in model.named_parameters():
        if w.ndim < 2 or isinstance(owners[w], _NORMS):
            direction[name] = torch.zeros_like(w)
            continue
        _require_finite(f"the model's {name}", w)
        d = torch.from_numpy(generator.standard_normal(w.shape))
        scale = _filter_norms(w.detach().double().cpu(), owners[w]) / _filter_norms(d, owners[w])
        direction[name] = (d.unflatten(0, (len(scale), -1)) * scale).flatten(0, 1).to(w)
    return direction


def _filter_norms(w: Tensor, layer: nn.Module) -> Tensor:
    """Norms of a weight's filters, to be multiplied with it unflattened to [groups, -1, ...]."""
    transposed = isinstance(layer, _ConvTransposeNd)  # its weight: [in, out / groups, ...]
    w = w.unflatten(0, (layer.groups if transposed else 1, -1))
    unit = 2 if transposed else 1
    others = [dim for dim in range(1, w.ndim) if dim != unit]
    return torch.linalg.vector_norm(w, dim=others, keepdim=True)


@dataclass(frozen=True, eq=False)
class Surface:
    """Mean losses around a model's weights: a curve along one direction, or a plane along two.

    loss[i, j] is that of the weights + a[i] * (first direction) + b[j] * (second direction), so a
    contour plot takes `loss.T`; on a curve it is loss[i], and b and cosine are None. A loss that
    came out NaN or infinite is left so.
    """

    a: np.ndarray
    b: np.ndarray | None
    loss: np.ndarray  # [len(a), len(b)] or [len(a)]
    n: int  # examples
    cosine: float | None  # between the two directions, which are left as oblique as they are


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

    The loss is that of x, y alone: without weight decay, augmentation and dropout.

    Args:
        model: network in any mode and dtype; copied for each thread, left unchanged.
        x, y: inputs [n, ...] and labels [n], on the model's device; the whole of them is used.
        directions: one or two, by parameter name, for instance of `filter_normalized_direction`.
        extent: the grid goes from -extent to extent, one for both directions or one for each.
        points: of the grid in a direction, one number for both or one for each; odd, so that the
            model's weights are the point in the middle.
        done: losses computed before by index, not to be computed again.
        on_point: called, in this thread, with the index and loss of each point as it is computed;
            gathered into `done` they let an interrupted surface go on.
        threads: points computed at once, each by one thread on one core.
        batch_norm: "stored" running statistics, those of the model; "reestimate" them over x at
            every point; "batch" statistics of each chunk.
        loss: a name in `evaluate.LOSSES`, or a function of (outputs, y) summed over examples,
            called from several threads if there are several.
        chunk_size: examples per forward pass; matters for batch_norm="batch" only. None is 64,
            which keeps the activations of small images in a CPU's cache, and on an accelerator
            4096, but for batch_norm="batch".
        points_per_pass: points whose networks share a forward pass, by `torch.func.vmap`; one
            point a pass, with a message, where the network or the loss does not allow it. Losses
            agree to rounding. None is 1 on a CPU and for convolutions, which become slower, and on
            an accelerator as many as fill it and fit its memory.

    Raises:
        ValueError: if a direction, size or name is not allowed, the loss at the weights is not
            finite, two evaluations of it differ, or `done` holds another one for the middle.
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
    _require_threads(threads)
    chunk_size = _chunk_size(chunk_size, x, batch_norm)
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
            moves = [_column(axis[list(place)], x.device) for axis, place in places]
            for w, origin, *ds in zip(stack.parameters(), start, *steps, strict=True):
                w.copy_(origin)
                for d, move in zip(ds, moves, strict=True):
                    w.addcmul_(d, _along(move, d))
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
        count = _points_per_pass(points_per_pass, model, x, chunk_size)
        stacks = _stacks(model, threads, min(count, len(missing)))
        each = loss_function(loss)
        repeated = {s: Repeated(partial(_sums, s, x, y, each, chunk_size)) for s in stacks}
        _in_passes(loss_at, losses_at, networks, stacks, missing, keep)

    surface = np.empty(shape)
    for index, value in losses.items():
        surface[index] = value
    b, cosine = (axes[1], _cosine(*steps)) if len(steps) == 2 else (None, None)
    return Surface(a=axes[0], b=b, loss=surface, n=len(y), cosine=cosine)


@dataclass(frozen=True, eq=False)
class Plane:
    """The two leading principal directions of a path of weights, through its last point."""

    directions: Tensor  # [2, p], of length one
    coordinates: np.ndarray  # [k, 2], of the path's points; the last one is (0, 0)
    explained: tuple[float, float]  # share of the path's squared distances from its last point


def trajectory_plane(weights: Tensor) -> Plane:
    """Return the plane in which a path of weights moves most.

    Source: Li et al. 2018, section 7: principal directions of the differences to the last weights,
    not centred, so that the minimizer is the origin. A path in many dimensions that has no
    directions at all, such as a random walk, is also largely explained by two of them.

    Args:
        weights: along the path [k, p], k >= 3.

    Raises:
        ValueError: if there are fewer than three, or one is not finite.
    """
    if weights.ndim != 2 or len(weights) < 3:
        raise ValueError(f"weights {tuple(weights.shape)}: needed are [k, p] with k of at least 3")
    _require_finite("weights", weights)
    differences = (weights - weights[-1]).double()
    values, vectors = torch.linalg.eigh(differences @ differences.T)  # ascending
    order = [-1, -2]
    lengths = values[order].clamp(min=0).sqrt()
    directions = (vectors[:, order] / lengths.clamp(min=1e-300)).T @ differences
    coordinates = (vectors[:, order] * lengths).cpu().numpy()
    total = float(values.clamp(min=0).sum())
    explained = tuple(float(length**2 / total) if total else 0.0 for length in lengths)
    return Plane(directions, coordinates, explained)


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
    """Return loss and accuracy along a path from one network's weights to another's.

    Source: Keskar et al. 2017, figures 3 and 7: alpha x_b + (1 - alpha) x_a on the linear path,
    sin(alpha pi / 2) x_b + cos(alpha pi / 2) x_a on the curvilinear one. At alpha = 0 and 1 the
    weights are exactly those given.

    Args:
        model: a classifier with the two networks' structure; copied, left unchanged.
        weights_a, weights_b: the state dicts of the two networks.
        sets: inputs [n, ...] and labels int64 [n] by name, on the model's device.
        alphas: coordinates, 0 and 1 among them: `np.linspace(-1, 2, 25)` has both.
        path: "linear" or "curvilinear".
        batch_norm: "reestimate" the running statistics over the set named "train" at every alpha;
            "batch" statistics of each chunk; "stored": those of the two networks, interpolated
            linearly on either path, variances no lower than 0, and counts from the nearer end.
        threads: alphas computed at once, each by one thread on one core.
        loss: a name in `evaluate.LOSSES`, or a function of (outputs, y) summed over examples.
        chunk_size: examples per forward pass, as of `loss_surface`.
        points_per_pass: alphas whose networks share a forward pass, as of `loss_surface`.

    Returns:
        columns alpha, set, loss, accuracy; rows in the order of alphas, then of sets.

    Raises:
        ValueError: if weights do not fit the model or are not finite, alphas lack 0 or 1, a name
            is not allowed, or there is no set "train" to re-estimate batch norm over.
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
    _require_threads(threads)
    reestimate = batch_norm == "reestimate" and has_batch_norm(model)
    if reestimate and "train" not in sets:
        raise ValueError(
            f"sets = {', '.join(sets)}: batch_norm='reestimate' needs the one named 'train'"
        )
    rows = {}
    first, _ = next(iter(sets.values()))
    chunk_size = _chunk_size(chunk_size, first, batch_norm)
    with fixed_function(model, first, batch_norm) as (model, _), one_thread(), torch.no_grad():
        a, b = _fitted(model, weights_a, "weights_a"), _fitted(model, weights_b, "weights_b")
        learned = dict(model.named_parameters(remove_duplicate=False))
        networks = [deepcopy(model) for _ in range(threads)]
        options = {"loss": loss, "chunk_size": chunk_size}
        repeated = {
            (network, name): Repeated(partial(metric_sums, network, x, y, **options))
            for network in networks
            for name, (x, y) in sets.items()
        }
        largest = max((x for x, _ in sets.values()), key=len)
        count = _points_per_pass(points_per_pass, model, largest, chunk_size)
        stacks = _stacks(model, threads, min(count, len(alphas)))
        each = _loss_and_correct(loss)
        repeated |= {
            (stack, name): Repeated(partial(_sums, stack, x, y, each, chunk_size))
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
            column = _column(alphas, first.device)
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

        _in_passes(rows_at, rows_at_several, networks, stacks, alphas, rows.__setitem__)
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
    at = _along(alphas, a)
    line = a.lerp(b, at)
    if path == "linear":
        return line
    angles = alphas * math.pi / 2
    curve = _along(angles.cos(), a) * a + _along(angles.sin(), a) * b
    return torch.where((at == 0) | (at == 1), line, curve)


def _buffers(name: str, a: Tensor, b: Tensor, alphas: Tensor) -> Tensor:
    """Return `_buffer` for each of some alphas, a float64 vector [k]: a tensor [k, ...]."""
    if not a.is_floating_point():
        return torch.where(alphas.view(-1, *[1] * a.ndim) < 0.5, a, b)
    return _buffer(name, a, b, _along(alphas, a))


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64).to(device)


def _along(values: Tensor, like: Tensor) -> Tensor:
    """Return values [k] as [k, 1, ...], to be multiplied with a tensor of the tensor's dtype."""
    return values.to(like.dtype).view(-1, *[1] * like.ndim)


def _loss_and_correct(loss: str | SumLoss) -> SumLoss:
    sum_loss = loss_function(loss)

    def both(outputs: Tensor, y: Tensor) -> Tensor:
        """Return summed loss and number of right answers, float64 [2]."""
        correct = (outputs.argmax(1) == y).sum()
        return torch.stack([sum_loss(outputs, y).double(), correct.double()])

    return both


def _sums(stack: Stacked, x: Tensor, y: Tensor, each: SumLoss, chunk_size: int) -> tuple[Tensor]:
    """Return the sums over all examples of what `each` returns for a network, float64 [k, ...]."""
    of_all = vmap(each, in_dims=(0, None))
    return (sum(of_all(stack(part), of_y).double() for part, of_y in chunks(x, y, chunk_size)),)


def _points_per_pass(given: int | None, model: nn.Module, x: Tensor, chunk_size: int) -> int:
    """Return the number of points asked for, or the one that suits the device."""
    if given is not None:
        if given < 1:
            raise ValueError(f"points_per_pass = {given}: must be at least 1")
        return given
    if any(isinstance(layer, _ConvNd) for layer in model.modules()):
        return 1  # convolutions of their own weights become grouped ones
    size = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    return runtime.points_per_pass(x.device, min(chunk_size, len(x)), size)


def _stacks(model: nn.Module, threads: int, count: int) -> list[Stacked]:
    """Return `count` networks as one for each thread; nothing if there is only one."""
    return [Stacked(model, count) for _ in range(threads)] if count > 1 else []


def _in_passes(
    one: Callable[[nn.Module, Any], Any],
    several: Callable[[Stacked, Sequence], list],
    networks: Sequence[nn.Module],
    stacks: Sequence[Stacked],
    items: Iterable,
    on_result: Callable[[Any, Any], object],
) -> None:
    """Call on_result(item, result) for all items, with as many in a pass as a stack has networks.

    Without stacks, and where such a pass fails, the results are those of one(network, item).
    """
    items, refused = list(items), []
    count = stacks[0].count if stacks else 1
    groups = [items[first : first + count] for first in range(0, len(items), count)]

    def results(pair: tuple[nn.Module, Stacked | None], group: list) -> list:
        network, stack = pair
        if stack is not None and not refused:
            filled = group + group[-1:] * (count - len(group))
            try:
                return several(stack, filled)[: len(group)]
            except Exception as error:  # of any kind, from the user's network or loss
                refused.append(error)
                log.warning("not %d points in a pass, one instead: %s", count, error)
        return [one(network, item) for item in group]

    def tell(group: list, found: list) -> None:
        for item, result in zip(group, found, strict=True):
            on_result(item, result)

    pairs = list(zip(networks, stacks or [None] * len(networks), strict=True))
    _in_threads(results, pairs, groups, tell)


def _in_threads(
    function: Callable[[Any, Any], Any],
    networks: Sequence,
    items: Iterable,
    on_result: Callable[[Any, Any], object],
) -> None:
    """Call function(networks[i], item) for all items, on as many threads as there are networks.

    torch lets go of the interpreter inside its operators, so that such threads run at once; each
    has a network to itself and one core. on_result(item, result) is called in this thread.
    """
    free: queue.SimpleQueue = queue.SimpleQueue()
    for network in networks:
        free.put(network)

    stream = runtime.own_stream()

    @torch.no_grad()  # holds for a thread
    def call(item):
        network = free.get()
        try:
            with runtime.on_stream(stream):  # holds for a thread, too
                return function(network, item)
        finally:
            free.put(network)

    with ThreadPoolExecutor(len(networks), initializer=limit_threads) as pool:
        try:
            futures = {pool.submit(call, item): item for item in items}
            for future in as_completed(futures):
                on_result(futures[future], future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _like(model: nn.Module, direction: Direction, name: str) -> list[Tensor]:
    """Return a direction as tensors like the model's parameters, in their order."""
    parameters = dict(model.named_parameters())
    for key, d in direction.items():
        if key not in parameters:
            raise ValueError(f"{name} has an unknown parameter {key!r}{nearest(key, parameters)}")
        _require_shape(f"{name}[{key!r}]", d, parameters[key])
        _require_finite(f"{name}[{key!r}]", d)
    return [
        torch.empty_like(w).copy_(direction[key]) if key in direction else torch.zeros_like(w)
        for key, w in parameters.items()
    ]


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
        _require_shape(f"{name}[{key!r}]", tensor, state[key])
    for key, _ in model.named_parameters():
        _require_finite(f"{name}[{key!r}]", weights[key])
    return {key: tensor.to(state[key]) for key, tensor in weights.items()}


def _cosine(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    def product(u: Sequence[Tensor], v: Sequence[Tensor]) -> float:
        return sum(float((a.double() * b.double()).sum()) for a, b in zip(u, v, strict=True))

    return product(one, other) / math.sqrt(product(one, one) * product(other, other))


def _one_for_each(name: str, value: Any, directions: Sequence[Direction]) -> tuple:
    values = tuple(value) if np.ndim(value) else (value,) * len(directions)
    if len(values) != len(directions):
        raise ValueError(f"{name} = {value}: needed is one number, or {len(directions)} of them")
    return values


def _require_finite(name: str, tensor: Tensor) -> None:
    if bad := int((~torch.isfinite(tensor)).sum()):
        raise ValueError(f"{name} holds {bad} values that are not finite")


def _require_shape(name: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the model's {tuple(like.shape)}")


def _chunk_size(given: int | None, x: Tensor, batch_norm: str) -> int:
    cached = x.device.type == "cpu" or batch_norm == "batch"
    return given if given is not None else 64 if cached else runtime.chunk_size(x.device)


def _require_threads(threads: int) -> None:
    if threads < 1:
        raise ValueError(f"threads = {threads}: must be at least 1")
