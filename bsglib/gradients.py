"""How far the gradients of single examples agree, and so how long a batch's gradient is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bsglib.evaluate import SumLoss, fixed_function, loss_and_gradient, mean_loss, require_fixed
from bsglib.weights import equal_parts, reestimate_batch_norm

SPREAD = 0.1, 0.9  # of the draws: between these shares lies what `rows` calls low and high


@dataclass(frozen=True, eq=False)
class GradientAgreement:
    """Norms of the mean gradients of random batches, and what they should be."""

    norms: dict[int, np.ndarray]  # batch size -> norms [draws]
    full_norm: float  # |g|, of the mean gradient g of all examples
    trace: float  # of the covariance Sigma of the examples' gradients, divided by n
    cosine: float  # mean over all pairs of different examples
    n: int  # examples

    def rows(self) -> pd.DataFrame:
        """Return a row per batch size.

        Returns:
            columns examples (in a batch), draws, norm (mean over draws), norm_rms (root mean
            square, what `expected_norm` predicts), low and high (a tenth of the draws lies beyond
            each), predicted, and in all rows full_norm, trace, cosine, n.
        """
        same = {"full_norm": self.full_norm, "trace": self.trace, "cosine": self.cosine}
        rows = []
        for size, norms in self.norms.items():
            low, high = np.quantile(norms, SPREAD)
            measured = {"norm": norms.mean(), "norm_rms": math.sqrt((norms**2).mean())}
            predicted = expected_norm(self.full_norm, self.trace, self.n, size)
            spread = {"low": low, "high": high, "predicted": float(predicted)}
            rows.append({"examples": size, "draws": len(norms)} | measured | spread | same)
        return pd.DataFrame(rows).assign(n=self.n)


def expected_norm(
    full_norm: float, trace: float, n: int, batch_size: int | np.ndarray
) -> float | np.ndarray:
    """Return the root mean square of |g_B|, g_B the mean gradient of B of n examples.

    Exactly, for batches drawn without replacement: E|g_B|^2 = |g|^2 + tr(Sigma)/B (n - B)/(n - 1),
    the variance of a mean of a finite population (Cochran 1977, theorem 2.2), summed over weights.
    The mean of |g_B| itself is at most this.

    Args:
        full_norm: |g|, the norm of the mean gradient of all examples.
        trace: of Sigma, the covariance of the examples' gradients, divided by n.
        n: examples, at least 2.
        batch_size: B, a number or an array of them, from 1 to n.
    """
    return np.sqrt(full_norm**2 + trace / batch_size * (n - batch_size) / (n - 1))


def gradient_agreement(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    batch_sizes: Sequence[int],
    draws: int = 32,
    seed: int = 0,
    batch_norm: str = "stored",
    loss: str | SumLoss = "cross_entropy",
    chunk_size: int | None = None,
) -> GradientAgreement:
    """Return how long mean gradients of random batches are, and how well examples' ones agree.

    The more the gradients of single examples cancel, the shorter the mean of a batch: the triangle
    inequality of Chang & Pathak's figures 14 to 16, measured. Two passes are made: one example at
    a time for the covariance's trace and the cosines, in the memory of three gradients; then batch
    by batch, draws * sum(batch_sizes) examples in all.

    The mean cosine over all pairs is (|u_1 + ... + u_n|^2 - n) / (n (n - 1)) with u_i the unit
    gradients. Examples whose gradient is exactly zero have no direction and are left out of it;
    where fewer than two are left it is NaN.

    Args:
        model: network in any mode and dtype; measured without dropout, left unchanged.
        x, y: inputs [n, ...] and labels [n], n at least 2: the population drawn from.
        batch_sizes: each from 1 to n.
        draws: batches of each size, at least 2, drawn without replacement within a batch.
        seed: of the draws; those of one size do not depend on the other sizes.
        batch_norm: "stored" running statistics; "reestimate" them once over x. With those of a
            batch an example would have no gradient of its own.
        loss: a name in `evaluate.LOSSES`, or a function of (outputs, y) summed over examples.
        chunk_size: examples per forward pass; None for what suits the device.

    Raises:
        ValueError: if a size, a number or a name is not allowed, loss or gradient is not finite,
            or two evaluations of the loss differ (the function measured has to be fixed).
    """
    n = len(y)
    if n < 2:
        raise ValueError(f"y has {n} examples: at least 2 are needed for a covariance")
    if draws < 2:
        raise ValueError(f"draws = {draws}: at least 2 are needed for a spread")
    sizes = list(batch_sizes)
    if not sizes or not all(isinstance(b, int | np.integer) and 1 <= b <= n for b in sizes):
        raise ValueError(f"batch_sizes = {sizes}: allowed are 1 to {n}, the number of examples")
    if batch_norm not in (allowed := ("stored", "reestimate")):
        raise ValueError(f"batch_norm = {batch_norm!r}: allowed are {', '.join(allowed)}")
    with fixed_function(model, x, batch_norm) as (model, x):  # a copy
        if batch_norm == "reestimate":
            reestimate_batch_norm(model, equal_parts(x))
        loss_and_gradient_of = partial(loss_and_gradient, model, loss=loss, chunk_size=chunk_size)
        full_loss, full = loss_and_gradient_of(x, y)
        require_fixed(full_loss, mean_loss(model, x, y, loss=loss, chunk_size=chunk_size))
        squares, units, directed = 0.0, torch.zeros_like(full), 0
        for i in range(n):
            _, gradient = loss_and_gradient_of(x[i : i + 1], y[i : i + 1])
            norm = float(gradient.norm())
            if not math.isfinite(norm):
                raise ValueError(f"the gradient of example {i} has the norm {norm}")
            squares += norm**2
            if norm > 0:
                units, directed = units.add_(gradient, alpha=1 / norm), directed + 1
        norms = {}
        for size in map(int, sizes):
            generator = np.random.default_rng([seed, size])
            norms[size] = np.empty(draws)
            for draw in range(draws):
                batch = torch.from_numpy(generator.choice(n, size, replace=False)).to(y.device)
                _, gradient = loss_and_gradient_of(x[batch], y[batch])
                norms[size][draw] = float(gradient.norm())
    full_norm, pairs = float(full.norm()), directed * (directed - 1)
    return GradientAgreement(
        norms=norms,
        full_norm=full_norm,
        trace=max(0.0, squares / n - full_norm**2),  # below only by rounding
        cosine=float(units @ units - directed) / pairs if pairs else float("nan"),
        n=n,
    )
