"""Keskar's metric as the authors' code computes it, to compare with `keskar_sharpness`.

The code is Chang's; Surlemont et al. took it from there. It differs from the definition in three
things, each an option here, so that a table can show which of them matters.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import fmin_l_bfgs_b
from torch import Tensor, nn

from bsglib.evaluate import SumLoss, loss_and_gradient_tensors, mean_loss, require_fixed
from bsglib.names import nearest
from bsglib.sharpness.measured import measured
from bsglib.sharpness.solvers import SOLVERS, solver_for
from bsglib.weights import flatten, install

Gradient = Literal["sum", "mean"]


@dataclass(frozen=True)
class AuthorsSharpness:
    """The metric by the authors' solver, and a record of that solver."""

    value: float  # per cent, of the loss that the solver returned; below 0 if it lost its way
    loss: float  # f(x)
    returned_loss: float  # f at what the solver returned
    largest_loss: float  # the largest f seen on the way
    iterations: int
    evaluations: int  # of loss and gradient
    stop: str  # the solver's reason
    n: int  # examples


def authors_sharpness(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float = 1e-2,
    max_iter: int = 10,
    batch_size: int = 1024,
    gradient: Gradient = "sum",
    line_search_steps: int = 1,
    loss: str | SumLoss = "cross_entropy",
) -> AuthorsSharpness:
    """Return the relative loss increase that the authors' solver reaches, in per cent.

    Source: the code of Chang & Pathak and of Surlemont et al., `get_sharpness`. L-BFGS-B of scipy
    minimizes -f in the box |z_i| <= epsilon (|x_i| + 1) around all weights x, with scipy's default
    tolerances. f is the mean loss over all examples. Its gradient is that of the sum over batches
    of each batch's mean loss: as many times too long as there are batches. A line search may
    evaluate f once. The value belongs to the point that the solver returns, not to the largest f.

    `gradient="mean"` and `line_search_steps=20`, scipy's default, correct these two one by one.

    Example: a loss that is linear in the weights w is largest at a corner of the box.

        >>> line = torch.nn.Linear(2, 1, bias=False).double()
        >>> _ = torch.nn.init.ones_(line.weight)
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]]).double()  # f = 2 w_0 + w_1 = 3
        >>> found = authors_sharpness(
        ...     line, x, torch.zeros(2), batch_size=1, loss=lambda outputs, y: outputs.sum()
        ... )
        >>> round(found.value, 9)  # 100 (2 + 1) 0.02 / (1 + 3)
        1.5

    Args:
        model: network in any mode and dtype (the authors' has float32); measured without dropout,
            left unchanged.
        x, y: inputs [n, ...] and labels [n]; all examples are used.
        epsilon: box half-width relative to |x_i| + 1, dimensionless, > 0.
        max_iter: iterations of L-BFGS-B, > 0.
        batch_size: examples per batch, > 0; the last batch is the remainder.
        gradient: "sum" of the batches' mean gradients, as in the code, or the "mean" over examples.
        line_search_steps: evaluations of f per line search, > 0.
        loss: a name in `evaluate.LOSSES`, or a function of (outputs, y) summed over examples.

    Returns:
        the value, and a record of the solver.

    Raises:
        ValueError: if an option is not allowed, the loss at the weights is not finite, or two
            evaluations of it differ.
    """
    for name, value in (("epsilon", epsilon), ("max_iter", max_iter), ("batch_size", batch_size),
                        ("line_search_steps", line_search_steps)):  # fmt: skip
        if not value > 0:
            raise ValueError(f"{name} = {value}: must be positive")
    if gradient not in get_args(Gradient):
        raise ValueError(f"gradient = {gradient!r}{nearest(gradient, get_args(Gradient))}")
    seen: list[float] = []
    with measured(model, x, "stored") as (network, x):  # a copy
        batches = list(zip(x.split(batch_size), y.split(batch_size), strict=True))

        def descend(theta: np.ndarray) -> tuple[float, np.ndarray]:
            install(network, torch.from_numpy(theta).to(x.device))
            total, slope = 0.0, 0.0
            for part, labels in batches:
                value, of_batch = loss_and_gradient_tensors(network, part, labels, loss=loss)
                total += float(value) * len(labels)
                slope += of_batch * (1 if gradient == "sum" else len(labels) / len(y))
            seen.append(total / len(y))
            return -seen[-1], -slope.cpu().numpy()

        theta = flatten(network.parameters()).double().cpu().numpy()
        start_loss = mean_loss(network, x, y, loss=loss)
        half = epsilon * (np.abs(theta) + 1)
        box = np.stack([theta - half, theta + half], axis=1)
        _, lowest, record = fmin_l_bfgs_b(
            descend, theta, bounds=box, maxiter=max_iter, maxls=line_search_steps
        )
        require_fixed(start_loss, seen[0])
    return AuthorsSharpness(
        value=100 * (-float(lowest) - start_loss) / (1 + start_loss),
        loss=start_loss,
        returned_loss=-float(lowest),
        largest_loss=max(seen),
        iterations=int(record["nit"]),
        evaluations=len(seen),
        stop=str(record["task"]),
        n=len(y),
    )


@dataclass(frozen=True)
class SharpnessByParts:
    """The largest increase of the loss over all examples at the ends of several ascents."""

    value: float  # per cent
    loss: float  # f(x)
    max_loss: float  # the largest f at the end of an ascent
    n: int  # examples of f


def sharpness_by_parts(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float = 1e-2,
    max_iter: int = 10,
    parts: int = 2,
    size: int = 3000,
    loss: str | SumLoss = "cross_entropy",
) -> SharpnessByParts:
    """Return a lower bound of Keskar's metric, from ascents over parts of the examples.

    L-BFGS-B climbs the mean loss of a part, from the weights, in the metric's box; f over all
    examples is then evaluated where it got to. The largest f counts, so this is a lower bound of
    the metric over all examples, as the metric by one ascent over all of them is. Where the two
    differ, the ascent with the lower value ended at a local maximum.

    Args:
        model: network in any mode and dtype; measured without dropout, left unchanged.
        x, y: inputs [n, ...] and labels [n].
        epsilon: box half-width relative to |x_i| + 1, dimensionless, > 0.
        max_iter: iterations of L-BFGS-B, > 0.
        parts: ascents, each over the next `size` examples, > 0.
        size: examples of a part, > 0; of fewer than parts * size examples the last parts are
            missing.
        loss: a name in `evaluate.LOSSES`, or a function of (outputs, y) summed over examples.

    Raises:
        ValueError: if an option is not allowed.
    """
    for name, value in (("epsilon", epsilon), ("max_iter", max_iter), ("parts", parts),
                        ("size", size)):  # fmt: skip
        if not value > 0:
            raise ValueError(f"{name} = {value}: must be positive")
    with measured(model, x, "stored") as (network, x):  # a copy
        theta = flatten(network.parameters()).double()
        bounds = epsilon * (theta.abs() + 1)
        start_loss = mean_loss(network, x, y, loss=loss)
        ends = [start_loss]
        for part, labels in list(zip(x.split(size), y.split(size), strict=True))[:parts]:
            install(network, theta + _highest(network, part, labels, theta, bounds, max_iter, loss))
            ends.append(mean_loss(network, x, y, loss=loss))
    rise = max(ends) - start_loss
    return SharpnessByParts(100 * rise / (1 + start_loss), start_loss, max(ends), len(y))


def _highest(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    theta: Tensor,
    bounds: Tensor,
    max_iter: int,
    loss: str | SumLoss,
) -> Tensor:
    """Return the step from theta to the largest loss that an ascent over x, y sees."""
    seen: list[tuple[float, Tensor]] = []
    scale = 1.0

    def descend(z: Tensor) -> tuple[float, Tensor]:
        nonlocal scale
        install(network, theta + z)
        value, gradient = loss_and_gradient_tensors(network, x, y, loss=loss)
        if not seen and (steepest := float(gradient.abs().max())) > 0:
            scale = 1 / steepest
        seen.append((float(value), z.clone()))
        return -scale * float(value), -scale * gradient

    SOLVERS[solver_for(None, x)](descend, torch.zeros_like(bounds), bounds, max_iter)
    return max(seen, key=lambda pair: pair[0])[1]
