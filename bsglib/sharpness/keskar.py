"""Keskar et al.'s metric: the rise of the loss in a box around a minimizer."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bsglib.device_graphs import Repeated
from bsglib.evaluate import SumLoss, loss_and_gradient_tensors
from bsglib.sharpness.measured import at_start, measured, pass_options
from bsglib.sharpness.solvers import SOLVERS, solver_for
from bsglib.sharpness.spaces import Identity, Scaled, Subspace
from bsglib.weights import flatten, install


@dataclass(frozen=True)
class Sharpness:
    """Keskar's metric and a record of its solver."""

    value: float  # per cent
    loss: float  # f(x)
    max_loss: float  # largest f(x + A z) found
    iterations: int
    evaluations: int  # of loss and gradient
    stop: str  # the solver's reason
    objective_scale: float
    n: int  # examples
    solver: str  # of SOLVERS


def keskar_sharpness(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float = 1e-3,
    subspace: int | None = None,
    distribution: str = "gaussian",
    adaptive: bool = False,
    seed: int = 0,
    max_iter: int = 10,
    objective_scale: float | None = None,
    solver: str | None = None,
    batch_norm: str = "stored",
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> Sharpness:
    """Return the largest relative loss increase in a box around the weights, in per cent.

    Source: Keskar et al. 2017, Metric 2.1:
    phi = 100 (max over z in C of f(x + A z) - f(x)) / (1 + f(x)),
    C = {z : |z_i| <= epsilon (|(A+ x)_i| + 1)}, with x the weights, f the mean loss, A the
    identity or a random matrix and A+ its pseudo-inverse. L-BFGS-B searches for the maximum from
    z = 0, and the largest value found counts, so phi is at least 0 and a lower bound. The result of
    ten iterations depends on the scale of the objective, hence `objective_scale`.

    Args:
        model: network in any mode and dtype; measured without dropout, left unchanged.
        x, y: inputs [n, ...] and labels [n]; all examples are used.
        epsilon: box half-width relative to |(A+ x)_i| + 1, dimensionless, > 0.
        subspace: number of columns of A; None for the full space, A = identity.
        distribution: of A's entries: "gaussian" (standard normal), "gaussian_unit" or
            "uniform_unit" (columns scaled to length 1, uniform on [0, 1)). The paper states no
            distribution.
        adaptive: use the box |z_i| <= epsilon |x_i|, with the normalisation of Kwon et al. 2021.
            It is invariant to rescaling the weights of neighbouring layers; the paper's box is not
            (Dinh et al. 2017).
        seed: of A, and of the starting point if the gradient is exactly zero.
        max_iter: iterations of L-BFGS-B; the paper uses 10.
        objective_scale: factor on the solver's objective; None scales its largest initial
            derivative to 1, 1.0 is the literal mean loss.
        solver: "scipy", compiled, on the host; or "torch", the same steps on the model's device.
            None selects "scipy" on a CPU and "torch" on an accelerator.
        batch_norm: "stored" running statistics; "reestimate" them once over x at the
            unperturbed weights; "batch" statistics of each chunk.
        loss: a name in `evaluate.LOSSES`, or a function of (outputs, y) summed over examples.
        chunk_size: examples per forward pass; matters for batch_norm="batch" only. None is 512 on
            a CPU and for batch_norm="batch", 4096 on an accelerator.

    Raises:
        ValueError: if epsilon, a name or a size is not allowed, the loss at the weights is not
            finite, or two evaluations of it differ (the function has to be deterministic).
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon = {epsilon}: must be positive")
    if max_iter < 1:
        raise ValueError(f"max_iter = {max_iter}: must be at least 1")
    if objective_scale is not None and not objective_scale > 0:
        raise ValueError(f"objective_scale = {objective_scale}: must be positive, or None")
    if adaptive and subspace is not None:
        raise ValueError(f"subspace = {subspace}: must be None with adaptive")
    solver = solver_for(solver, x)
    options = pass_options(x, loss, batch_norm, chunk_size)
    with measured(model, x, batch_norm) as (model, x):  # a copy
        theta = flatten(model.parameters()).double()
        space = Identity(theta)
        if adaptive:
            space = Scaled(theta)
        elif subspace is not None:
            space = Subspace(theta, subspace, distribution, seed)
        bounds = epsilon * (space.coordinates().abs() + 1)
        start_loss, gradient = at_start(model, x, y, options)
        best, evaluations = start_loss, 1
        passes = partial(loss_and_gradient_tensors, model, x, y, **options)
        repeated = Repeated(passes, warm=True)

        def ascend(z: Tensor) -> tuple[float, Tensor]:
            nonlocal best, evaluations
            if not z.any():
                return start_loss, slope
            install(model, theta + space.into(z))
            value, gradient = repeated()
            best, evaluations = np.fmax(best, float(value)), evaluations + 1
            return float(value), space.back(gradient)

        start, slope = torch.zeros_like(bounds), space.back(gradient)
        steepest = float(slope.abs().max())
        if steepest == 0:  # stationary: z = 0 would never move
            drawn = np.random.default_rng(seed).uniform(-1, 1, tuple(bounds.shape))
            start = 1e-3 * bounds * torch.from_numpy(drawn).to(bounds)
            steepest = float(ascend(start)[1].abs().max())
        scale = objective_scale or (1 / steepest if steepest > 0 else 1.0)

        def descend(z: Tensor) -> tuple[float, Tensor]:
            value, gradient = ascend(z)
            return -scale * value, -scale * gradient

        iterations, stop = SOLVERS[solver](descend, start, bounds, max_iter)
    return Sharpness(
        value=float(100 * (best - start_loss) / (1 + start_loss)),
        loss=start_loss,
        max_loss=float(best),
        iterations=iterations,
        evaluations=evaluations,
        stop=stop,
        objective_scale=float(scale),
        n=len(y),
        solver=solver,
    )
