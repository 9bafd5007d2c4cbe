"""Conservative training: a batch's loss is minimised near the weights, around any optimizer."""

import torch
from torch import Tensor, nn

from bsglib.sam import Around, Closure, frozen_batch_norm


class Proximal(Around):
    """Make some steps on one batch that a proximal term keeps near the weights before them.

    Source: Li et al. 2014, "Efficient mini-batch training for stochastic optimization", as used by
    Keskar et al. 2017, appendix E: w_(k+1) is about the minimizer of
    L_B(w) + lambda / 2 ||w - w_k||^2. It is found inexactly, by some steps of the base optimizer
    with the gradient grad L_B(w) + lambda (w - w_k), from w_k. Keskar et al. take 3 steps of Adam,
    which is their optimizer everywhere; so the inner steps are here those of the base optimizer, at
    its rate, and its state goes on from batch to batch. One step is the base optimizer itself.
    Dropout draws a new mask in each step.

    Args:
        base_optimizer: any torch optimizer; its parameter groups and state are shared.
        strength: lambda, at least 0.
        steps: number of inner steps, at least 1.
        model: if given, its batch norm updates running statistics in the first step only.

    Raises:
        TypeError: if base_optimizer is not an optimizer.
        ValueError: if strength or steps is out of range.
    """  # noqa: DOC502

    def __init__(
        self,
        base_optimizer: torch.optim.Optimizer,
        *,
        strength: float,
        steps: int = 3,
        model: nn.Module | None = None,
    ):
        super().__init__(base_optimizer)
        if not strength >= 0:
            raise ValueError(f"strength = {strength}: allowed are values from 0")
        if steps < 1:
            raise ValueError(f"steps = {steps}: allowed are values from 1")
        self.strength, self.steps, self.model = strength, steps, model

    # torch declares a closure that may be missing and returns a float; here it is called again.
    def step(self, closure: Closure) -> Tensor:  # type: ignore[override]
        """Make one update and return the loss before it.

        Args:
            closure: clears the gradients, computes the loss of the batch, calls backward and
                returns the loss; called once per inner step, with gradients enabled.

        Returns:
            the loss of the first inner step, without the proximal term.
        """
        weights = [w for group in self.param_groups for w in group["params"]]
        start = [w.detach().clone() for w in weights] if self.steps > 1 else []
        with torch.enable_grad():
            loss = closure().detach()
        self.base_optimizer.step()
        for _ in range(self.steps - 1):
            with torch.enable_grad(), frozen_batch_norm(self.model):
                closure()
            self._add_pull(weights, start)
            self.base_optimizer.step()
        return loss

    @torch.no_grad()
    def _add_pull(self, weights: list[Tensor], start: list[Tensor]) -> None:
        for w, before in zip(weights, start, strict=True):
            if w.grad is not None:  # frozen weights stay where they are
                w.grad.add_(w - before, alpha=self.strength)
