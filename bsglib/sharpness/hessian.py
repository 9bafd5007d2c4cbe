"""Curvature: the Hessian's largest eigenvalues, its trace, and along a batch's gradient."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from bsglib.evaluate import (
    SumLoss,
    chunks,
    loss_and_gradient,
    loss_function,
    require_examples,
)
from bsglib.sharpness import lanczos
from bsglib.sharpness.measured import at_start, measured, pass_options
from bsglib.sharpness.solvers import solver_for
from bsglib.weights import flatten


@dataclass(frozen=True)
class LambdaMax:
    """The largest eigenvalues of the Hessian, the first one as `value`, and their residual."""

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

    The method is restarted Lanczos in float64 with Hessian-vector products in the model's dtype:
    ARPACK on the host (solver "scipy"), or `lanczos.largest` on the model's device ("torch"). None
    selects "scipy" on a CPU and "torch" on an accelerator. Other arguments are those of
    `keskar_sharpness`; `tol` is the relative accuracy, and k is below the number of weights.

    Raises:
        ValueError: as `keskar_sharpness`, or if k is not allowed.
        scipy.sparse.linalg.ArpackNoConvergence: if ARPACK does not reach the accuracy.
    """  # noqa: DOC502
    options, products, solver = (
        pass_options(x, loss, batch_norm, chunk_size),
        0,
        solver_for(solver, x),
    )
    with measured(model, x, batch_norm) as (model, x):  # a copy
        size = sum(w.numel() for w in model.parameters())
        if not 0 < k < size:
            raise ValueError(f"k = {k}: allowed are 1 to {size - 1}, one less than the weights")
        _, gradient = at_start(model, x, y, options)

        def product(v: Tensor) -> Tensor:
            nonlocal products
            products += 1
            return hvp(model, x, y, v, **options)

        drawn = np.random.default_rng(seed).standard_normal(size)
        start = torch.from_numpy(drawn).to(gradient)
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
    """Return the result of `lanczos.largest`, by ARPACK."""

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

    The estimate is the mean of v'Hv over vectors v of random signs; it is exact for a diagonal H.
    Arguments are those of `keskar_sharpness`; `probes` is the number of vectors, at least 2.

    Raises:
        ValueError: as `keskar_sharpness`, or if there are fewer than two probes.
    """
    if probes < 2:
        raise ValueError(f"probes = {probes}: at least 2 are needed for a standard error")
    options = pass_options(x, loss, batch_norm, chunk_size)
    generator = np.random.default_rng(seed)
    with measured(model, x, batch_norm) as (model, x):  # a copy
        start_loss, gradient = at_start(model, x, y, options)
        products = []
        for _ in range(probes):
            signs = torch.from_numpy(generator.choice([-1.0, 1.0], len(gradient))).to(gradient)
            products.append(float(signs @ hvp(model, x, y, signs, **options)))
    error = float(np.std(products, ddof=1) / np.sqrt(probes))
    return HessianTrace(float(np.mean(products)), error, probes, len(y))


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
    the mean loss of a batch. SGD at rate lr stays where this is about 2 / lr. For a batch of all
    examples it is the curvature along the full gradient, at most `lambda_max`. Arguments are those
    of `keskar_sharpness`; batches are drawn without replacement within a batch.

    Raises:
        ValueError: as `keskar_sharpness`, if batch_size or draws is not allowed, or a batch's
            gradient is zero.
    """
    require_examples("x, y", x, y)
    if not 0 < batch_size <= len(y):
        raise ValueError(f"batch_size = {batch_size}: allowed are 1 to {len(y)}, the examples")
    if draws < 2:
        raise ValueError(f"draws = {draws}: at least 2 are needed for a standard error")
    generator, curvatures = np.random.default_rng(seed), []
    options = pass_options(x, loss, batch_norm, chunk_size)
    with measured(model, x, batch_norm) as (model, x):  # a copy
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
