"""SAM's sharpness: the rise of the loss after one step along its gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bsglib.evaluate import SumLoss, mean_loss
from bsglib.sharpness.measured import at_start, measured, pass_options
from bsglib.weights import flatten, install


@dataclass(frozen=True)
class SAMSharpness:
    """The rise of the loss under SAM's perturbation."""

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
    """Return the rise of the mean loss under one step of SAM's perturbation.

    Source: Foret et al. 2021, equation 2 with p = 2: f(x + rho g / ||g||) - f(x), g the gradient
    of all examples. Adaptive (Kwon et al. 2021): f(x + rho x^2 g / ||x g||) - f(x), products
    by element. Arguments are those of `keskar_sharpness`; a gradient of zero gives no rise.

    Raises:
        ValueError: as `keskar_sharpness`, or if rho is not positive.
    """
    if not rho > 0:
        raise ValueError(f"rho = {rho}: must be positive")
    options = pass_options(x, loss, batch_norm, chunk_size)
    with measured(model, x, batch_norm) as (model, x):  # a copy
        theta = flatten(model.parameters()).double()
        start_loss, gradient = at_start(model, x, y, options)
        scale = theta.abs() if adaptive else torch.ones_like(theta)
        norm = (scale * gradient).norm()
        if norm > 0:
            install(model, theta + rho * scale**2 * gradient / norm)
        max_loss = mean_loss(model, x, y, **options)
    return SAMSharpness(max_loss - start_loss, start_loss, max_loss, len(y))
