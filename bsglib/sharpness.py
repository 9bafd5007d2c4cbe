"""How fast the loss grows around a minimizer: Keskar's metric, curvature, and SAM's objective."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from bsglib import lanczos, lbfgsb, runtime
from bsglib.evaluate import (
    SumLoss,
    chunks,
    fixed_function,
    loss_and_gradient,
    loss_and_gradient_tensors,
    loss_function,
    mean_loss,
    require_fixed,
)
from bsglib.graphs import Repeated
from bsglib.names import nearest
from bsglib.spaces import Identity, Scaled, Subspace
from bsglib.weights import equal_parts, flatten, install, reestimate_batch_norm


@dataclass(frozen=True)
class Sharpness:
    """Keskar's metric with the trace of its solver."""

    value: float  # per cent
    loss: float  # f(x)
    max_loss: float  # largest f(x + A z) seen
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
    identity or a random matrix and A+ its pseudo-inverse. The maximum is sought by L-BFGS-B from
    z = 0 and the best value seen counts, so phi is at least 0 and a lower bound of the maximum.
    Ten iterations are not invariant to the objective's scale, hence `objective_scale`.

    Args:
        model: network in any mode and dtype; measured without dropout, left unchanged.
        x, y: inputs [n, ...] and labels [n]; the whole of them is used.
        epsilon: box half-width relative to |(A+ x)_i| + 1, dimensionless, > 0.
        subspace: number of columns of A; None for the full space, A = identity.
        distribution: of A's entries: "gaussian" (standard normal), "gaussian_unit" or
            "uniform_unit" (columns scaled to length 1, uniform on [0, 1)). The paper states none.
        adaptive: take the box |z_i| <= epsilon |x_i| instead, which rescaling the weights of
            neighbouring layers does not change (Dinh et al. 2017 show that it changes the
            paper's; the normalisation is that of Kwon et al. 2021).
        seed: of A, and of the start where the gradient is exactly zero.
        max_iter: iterations of L-BFGS-B; the paper has 10.
        objective_scale: factor on the objective given to the solver; None makes its largest
            derivative 1 at the start, 1.0 is the literal mean loss.
        solver: "scipy", compiled, on the host; or "torch", the same steps on the model's device.
            None takes the first on a CPU and the second on an accelerator.
        batch_norm: "stored" running statistics; "reestimate" them once over x at the
            unperturbed weights; "batch" statistics of each chunk.
        loss: a name in `evaluate.LOSSES`, or a function of (outputs, y) summed over examples.
        chunk_size: examples per forward pass; matters for batch_norm="batch" only. None is 512 on
            a CPU and for batch_norm="batch", 4096 on an accelerator.

    Raises:
        ValueError: if epsilon, a name or a size is not allowed, the loss at the weights is not
            finite, or two evaluations of it differ (the function measured has to be fixed).
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon = {epsilon}: must be positive")
    if max_iter < 1:
        raise ValueError(f"max_iter = {max_iter}: must be at least 1")
    if objective_scale is not None and not objective_scale > 0:
        raise ValueError(f"objective_scale = {objective_scale}: must be positive, or None")
    if adaptive and subspace is not None:
        raise ValueError(f"subspace = {subspace}: must be None with adaptive")
    solver = _solver(solver, x)
    options = _options(x, loss, batch_norm, chunk_size)
    with _measured(model, x, batch_norm) as (model, x):  # a copy
        theta = flatten(model.parameters()).double()
        if adaptive:
            space = Scaled(theta)
        elif subspace is None:
            space = Identity(theta)
        else:
            space = Subspace(theta, subspace, distribution, seed)
        bounds = epsilon * (space.coordinates().abs() + 1)
        start_loss, gradient = _start(model, x, y, options)
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
        iterations, stop = SOLVERS[solver](
            lambda z: tuple(-scale * part for part in ascend(z)), start, bounds, max_iter
        )
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


def _on_host(
    objective: lbfgsb.Objective, start: Tensor, bounds: Tensor, max_iter: int
) -> tuple[int, str]:
    """Minimize like `lbfgsb.minimize`, by scipy, which wants its vectors in host memory."""

    def of_arrays(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(torch.from_numpy(z).to(start.device))
        return value, gradient.cpu().numpy()

    solve = _lbfgsb if _compiled() else _public
    return solve(of_arrays, start.cpu().numpy(), bounds.cpu().numpy(), max_iter)


SOLVERS = {"scipy": _on_host, "torch": lbfgsb.minimize}


def _solver(name: str | None, x: Tensor) -> str:
    """Return the solver asked for, or the one that suits the device."""
    name = name or ("scipy" if x.device.type == "cpu" else "torch")
    if name not in SOLVERS:
        raise ValueError(f"solver = {name!r}{nearest(name, SOLVERS)}")
    return name


Arrays = Callable[[np.ndarray], tuple[float, np.ndarray]]


def _lbfgsb(
    objective: Arrays, start: np.ndarray, bounds: np.ndarray, max_iter: int
) -> tuple[int, str]:
    """Minimize in the box |z_i| <= bounds_i.

    Drives the compiled solver behind `scipy.optimize.minimize(method="L-BFGS-B")`, with its
    defaults and no tolerances: `minimize` copies a million bounds through Python objects, one by
    one. The two agree to the last bit, by a test.

    Returns:
        the number of iterations made and the solver's reason to stop.
    """
    from scipy.optimize import _lbfgsb_py as compiled

    n, corrections, line_searches = len(start), 10, 20
    box = -bounds, bounds, np.full(n, 2, np.int32)  # 2: bounded on both sides
    real = np.zeros(2 * corrections * n + 5 * n + 11 * corrections**2 + 8 * corrections)
    integer, task, line_task = (np.zeros(size, np.int32) for size in (3 * n, 2, 2))
    saved = np.zeros(4, np.int32), np.zeros(44, np.int32), np.zeros(29)
    work = real, integer, task, *saved, line_searches, line_task
    z, value, gradient, seen, iterations = start.copy(), np.array(0.0), np.zeros(n), None, 0
    while True:
        compiled._lbfgsb.setulb(corrections, z, *box, value, gradient, 0.0, 0.0, *work)
        if task[0] == 3:  # wants value and gradient at z, sometimes a second time
            if not np.array_equal(z, seen):
                seen = z.copy()
                value, gradient = objective(seen)
        elif task[0] == 1:  # has made an iteration
            iterations += 1
            if iterations >= max_iter:
                task[:] = 5, 504
        else:
            break
    kind, reason = compiled.status_messages[task[0]], compiled.task_messages[task[1]]
    return iterations, f"{kind}: {reason}"


def _public(
    objective: Arrays, start: np.ndarray, bounds: np.ndarray, max_iter: int
) -> tuple[int, str]:
    """Minimize like `_lbfgsb`, by scipy's public entry point: the same steps, a slower start."""
    options = {"maxiter": max_iter, "maxfun": np.iinfo(np.int32).max, "ftol": 0, "gtol": 0}
    box = Bounds(-bounds, bounds)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=box, options=options)
    return found.nit, found.message


@cache
def _compiled() -> bool:
    """Return whether scipy's compiled solver is where `_lbfgsb` looks for it, and takes the same.

    It is private: another version of scipy may have moved or changed it.
    """
    point = np.zeros(1)
    try:
        return _lbfgsb(lambda z: (float(z @ z - z[0]), 2 * z - 1), point, point + 1, 2)[0] > 0
    except Exception:
        return False


@dataclass(frozen=True)
class LambdaMax:
    """The largest eigenvalues of the Hessian, the first of them as `value`, and how exact."""

    value: float
    values: list[float]
    residual: float  # largest ||H v - lambda v||, over the largest |lambda|
    products: int  # Hessian-vector products used
    n: int  # examples
    solver: str  # of SOLVERS


def lambda_max(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    k: int = 1,
    tol: float = 1e-3,
    seed: int = 0,
    solver: str | None = None,
    batch_norm: str = "stored",
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> LambdaMax:
    """Return the k algebraically largest eigenvalues of the mean loss's Hessian.

    By restarted Lanczos in float64 on Hessian-vector products in the model's dtype: ARPACK's on the
    host (solver "scipy"), or `lanczos.largest` on the model's device ("torch"); None takes the
    first on a CPU and the second on an accelerator. Other arguments are those of
    `keskar_sharpness`; `tol` is the relative accuracy asked for, and k is below the number of
    weights.

    Raises:
        ValueError: as `keskar_sharpness`, or if k is not allowed.
        scipy.sparse.linalg.ArpackNoConvergence: if ARPACK does not reach the accuracy.
    """  # noqa: DOC502
    options, products, solver = _options(x, loss, batch_norm, chunk_size), 0, _solver(solver, x)
    with _measured(model, x, batch_norm) as (model, x):  # a copy
        size = sum(w.numel() for w in model.parameters())
        if not 0 < k < size:
            raise ValueError(f"k = {k}: allowed are 1 to {size - 1}, one less than the weights")
        _, gradient = _start(model, x, y, options)

        def product(v: Tensor) -> Tensor:
            nonlocal products
            products += 1
            return hvp(model, x, y, v, **options)

        start = np.random.default_rng(seed).standard_normal(size)
        start = torch.from_numpy(start).to(gradient)
        if not product(start).any():  # the loss is linear in the weights
            return LambdaMax(0.0, [0.0] * k, 0.0, products, len(y), solver)
        find = lanczos.largest if solver == "torch" else _arpack
        values, vectors = find(product, start, k, tol)
        largest = max(map(abs, values))
        residuals = [
            float((product(v) - value * v).norm()) / largest
            for value, v in zip(values, vectors, strict=True)
        ]
    return LambdaMax(values[0], values, max(residuals), products, len(y), solver)


def _arpack(
    product: Callable[[Tensor], Tensor], start: Tensor, k: int, tol: float
) -> tuple[list[float], Tensor]:
    """Return what `lanczos.largest` returns, by ARPACK."""

    def of_array(v: np.ndarray) -> np.ndarray:
        return product(torch.from_numpy(v.ravel()).to(start)).cpu().numpy()

    hessian = LinearOperator((len(start), len(start)), matvec=of_array, dtype=np.float64)
    values, vectors = eigsh(hessian, k=k, which="LA", tol=tol, v0=start.cpu().numpy())
    order = np.argsort(values)[::-1]
    return values[order].tolist(), torch.from_numpy(vectors.T[order].copy()).to(start)


@dataclass(frozen=True)
class HessianTrace:
    """An estimate of the Hessian's trace, the sum of its eigenvalues."""

    value: float
    standard_error: float  # of the mean over probes
    probes: int
    n: int  # examples


def hessian_trace(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    probes: int = 32,
    seed: int = 0,
    batch_norm: str = "stored",
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> HessianTrace:
    """Return the trace of the mean loss's Hessian, by Hutchinson's estimator.

    The mean of v'Hv over vectors v of random signs, which is exact for a diagonal Hessian.
    Arguments are those of `keskar_sharpness`; `probes` is the number of vectors, at least 2.

    Raises:
        ValueError: as `keskar_sharpness`, or if there are fewer than two probes.
    """
    if probes < 2:
        raise ValueError(f"probes = {probes}: at least 2 are needed for a standard error")
    options = _options(x, loss, batch_norm, chunk_size)
    generator = np.random.default_rng(seed)
    with _measured(model, x, batch_norm) as (model, x):  # a copy
        start_loss, gradient = _start(model, x, y, options)
        products = []
        for _ in range(probes):
            signs = torch.from_numpy(generator.choice([-1.0, 1.0], len(gradient))).to(gradient)
            products.append(float(signs @ hvp(model, x, y, signs, **options)))
    error = float(np.std(products, ddof=1) / np.sqrt(probes))
    return HessianTrace(float(np.mean(products)), error, probes, len(y))


@dataclass(frozen=True)
class SAMSharpness:
    """The rise of the loss one step of SAM's perturbation away."""

    value: float  # max_loss - loss
    loss: float
    max_loss: float
    n: int  # examples


def sam_sharpness(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    rho: float = 0.05,
    adaptive: bool = False,
    batch_norm: str = "stored",
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> SAMSharpness:
    """Return how much the mean loss rises at the worst point that one gradient points to.

    Source: Foret et al. 2021, equation 2 with p = 2: f(x + rho g / ||g||) - f(x), g the gradient
    of the whole of x, y. Adaptive (Kwon et al. 2021): f(x + rho x^2 g / ||x g||) - f(x), products
    by element. Arguments are those of `keskar_sharpness`; a gradient of zero gives no rise.

    Raises:
        ValueError: as `keskar_sharpness`, or if rho is not positive.
    """
    if not rho > 0:
        raise ValueError(f"rho = {rho}: must be positive")
    options = _options(x, loss, batch_norm, chunk_size)
    with _measured(model, x, batch_norm) as (model, x):  # a copy
        theta = flatten(model.parameters()).double()
        start_loss, gradient = _start(model, x, y, options)
        scale = theta.abs() if adaptive else torch.ones_like(theta)
        norm = (scale * gradient).norm()
        if norm > 0:
            install(model, theta + rho * scale**2 * gradient / norm)
        max_loss = mean_loss(model, x, y, **options)
    return SAMSharpness(max_loss - start_loss, start_loss, max_loss, len(y))


@dataclass(frozen=True)
class BatchSharpness:
    """The curvature of a batch's loss along its own gradient, averaged over batches."""

    value: float
    standard_error: float  # of the mean over draws
    batch_size: int
    draws: int
    n: int  # examples that batches are drawn from


def batch_sharpness(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    batch_size: int,
    draws: int = 32,
    seed: int = 0,
    batch_norm: str = "stored",
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> BatchSharpness:
    """Return the expected curvature along the gradient of a batch: E[g'Hg / g'g].

    Source: Andreyev and Beneventano 2024, arXiv 2412.20553: gradient g and Hessian H are those of
    the mean loss of a batch; SGD of rate lr hovers where this is about 2 / lr. With a batch of all
    examples it is the curvature along the full gradient, at most `lambda_max`. Arguments are those
    of `keskar_sharpness`; batches are drawn without replacement within a batch.

    Raises:
        ValueError: as `keskar_sharpness`, if batch_size or draws is not allowed, or a batch's
            gradient is zero.
    """
    if not 0 < batch_size <= len(y):
        raise ValueError(f"batch_size = {batch_size}: allowed are 1 to {len(y)}, the examples")
    if draws < 2:
        raise ValueError(f"draws = {draws}: at least 2 are needed for a standard error")
    generator, curvatures = np.random.default_rng(seed), []
    options = _options(x, loss, batch_norm, chunk_size)
    with _measured(model, x, batch_norm) as (model, x):  # a copy
        for _ in range(draws):
            index = torch.from_numpy(generator.permutation(len(y))[:batch_size]).to(y.device)
            batch = x[index], y[index]
            gradient = loss_and_gradient(model, *batch, **options)[1]
            if not (squared := float(gradient @ gradient)) > 0:
                raise ValueError(f"the squared norm of a batch's gradient is {squared}")
            curvatures.append(float(gradient @ hvp(model, *batch, gradient, **options)) / squared)
    error = float(np.std(curvatures, ddof=1) / np.sqrt(draws))
    return BatchSharpness(float(np.mean(curvatures)), error, batch_size, draws, len(y))


def hvp(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    v: Tensor,
    *,
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> Tensor:
    """Return the Hessian of the mean loss times v [p], a float64 vector [p]."""
    sum_loss, weights = loss_function(loss), list(model.parameters())
    parts = v.to(weights[0]).split([w.numel() for w in weights])
    parts = [part.view_as(w) for part, w in zip(parts, weights, strict=True)]
    total = torch.zeros(len(v), dtype=torch.float64, device=weights[0].device)
    with torch.enable_grad():
        for inputs, labels in chunks(x, y, chunk_size):
            value = sum_loss(model(inputs), labels)
            gradients = torch.autograd.grad(
                value, weights, create_graph=True, materialize_grads=True
            )
            slope = sum((g * part).sum() for g, part in zip(gradients, parts, strict=True))
            if slope.requires_grad:  # else the loss is linear in the weights
                total += flatten(torch.autograd.grad(slope, weights, materialize_grads=True))
    return total / len(y)


def _options(x: Tensor, loss: str | SumLoss, batch_norm: str, chunk_size: int | None) -> dict:
    """What every pass over x takes; chunks as the device likes them, unless statistics depend."""
    if chunk_size is None:
        chunk_size = 512 if batch_norm == "batch" else runtime.chunk_size(x.device)
    return {"loss": loss, "chunk_size": chunk_size}


@contextlib.contextmanager
def _measured(model: nn.Module, x: Tensor, batch_norm: str) -> Iterator[tuple[nn.Module, Tensor]]:
    """Fix the function to be measured, with batch norm's statistics those at these weights."""
    with fixed_function(model, x, batch_norm) as (network, x):
        if batch_norm == "reestimate":
            reestimate_batch_norm(network, equal_parts(x))
        yield network, x


def _start(model: nn.Module, x: Tensor, y: Tensor, options: dict) -> tuple[float, Tensor]:
    """Loss and gradient at the weights, of a loss that comes out the same again."""
    loss, gradient = loss_and_gradient(model, x, y, **options)
    require_fixed(loss, mean_loss(model, x, y, **options))
    if bad := int((~torch.isfinite(gradient)).sum()):
        raise ValueError(f"the gradient at the weights holds {bad} values that are not finite")
    return loss, gradient
