"""Sharpness-aware minimization around any torch optimizer."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Closure = Callable[[], Tensor]


class Around(torch.optim.Optimizer):
    """Base class of optimizers that steer another one: groups and state are that one's.

    Args:
        base_optimizer: any torch optimizer; its parameter groups and state are shared.

    Raises:
        TypeError: if base_optimizer is not an optimizer.
    """

    def __init__(self, base_optimizer: torch.optim.Optimizer):
        if not isinstance(base_optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"base_optimizer = {base_optimizer!r}: needed is an optimizer, for instance "
                "torch.optim.SGD(model.parameters(), lr=0.1)"
            )
        super().__init__(base_optimizer.param_groups, base_optimizer.defaults)
        self.base_optimizer = base_optimizer
        self._share()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the base optimizer's parameters."""
        self.base_optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict:
        """Return the base optimizer's state; there is no other state."""
        return self.base_optimizer.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the base optimizer's state."""
        self.base_optimizer.load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state


class SAM(Around):
    """Step with the gradient at the worst point within a radius (Foret et al. 2021).

    Algorithm 1 of the paper: g = grad L(w); eps = rho sign(g) |g|^(q-1) / (||g||_q^q)^(1/p) with
    1/p + 1/q = 1 (equation 2), which is rho g / ||g||_2 for p = 2. The base optimizer then steps
    from w with grad L(w + eps). The norm runs over all parameters of all groups. `adaptive`
    measures the radius relative to each weight (Kwon et al. 2021): eps = rho w^2 g / ||w g||_2.
    Weight decay of the base optimizer is not part of the perturbation. Dropout draws a new mask
    in each pass.

    With a list of closures, one per part of the batch, SAM perturbs each part separately and
    averages the gradients with equal weights (m-sharpness).

    Args:
        base_optimizer: any torch optimizer; its parameter groups and state are shared.
        rho: radius, at least 0; 0 is the base optimizer itself.
        p: order of the norm, greater than 1, may be infinite.
        adaptive: scale the perturbation by the weights; only with p = 2.
        model: if given, its batch norm updates running statistics in the first pass only.

    Raises:
        TypeError: if base_optimizer is not an optimizer.
        ValueError: if rho or p is out of range.
    """

    def __init__(
        self,
        base_optimizer: torch.optim.Optimizer,
        *,
        rho: float = 0.05,
        p: float = 2,
        adaptive: bool = False,
        model: nn.Module | None = None,
    ):
        super().__init__(base_optimizer)
        if not rho >= 0:
            raise ValueError(f"rho = {rho}: allowed are values from 0")
        if not p > 1 or (adaptive and p != 2):
            raise ValueError(f"p = {p}: allowed are values above 1, and only 2 with adaptive")
        self.rho, self.p, self.adaptive, self.model = rho, p, adaptive, model

    # torch declares a closure that may be missing and returns a float; SAM calls it twice.
    def step(self, closure: Closure | Sequence[Closure]) -> Tensor:  # type: ignore[override]
        """Make one update and return the loss before it.

        Args:
            closure: clears the gradients, computes the loss of the batch, calls backward and
                returns the loss; called twice, with gradients enabled. Or a list of them.

        Returns:
            the loss of the first pass, averaged over the closures.

        Raises:
            TypeError: if the closure is missing, or returns no loss.
        """
        if not closure:
            raise TypeError(
                f"closure = {closure!r}: needed is a function that clears the gradients, computes "
                "the loss, calls backward and returns the loss; it is called twice"
            )
        parts = [closure] if callable(closure) else list(closure)
        weights = [w for group in self.param_groups for w in group["params"]]
        losses, gradients = [], []
        with torch.enable_grad():
            for part in parts:
                if not isinstance(loss := part(), Tensor):
                    raise TypeError(f"closure returned {loss!r}: needed is the loss, a tensor")
                losses.append(loss.detach())
                if self.rho > 0:
                    self._second_pass(part, weights)
                if len(parts) > 1:
                    gradients.append([None if w.grad is None else w.grad.clone() for w in weights])
        for w, *of_parts in zip(weights, *gradients, strict=True) if gradients else ():
            found = [gradient for gradient in of_parts if gradient is not None]
            w.grad = sum(found) / len(parts) if found else None  # frozen weights stay frozen
        self.base_optimizer.step()
        return torch.stack(losses).mean()

    def _second_pass(self, closure: Closure, weights: list[Tensor]) -> None:
        moved = [w for w in weights if w.grad is not None]
        if not moved:
            return
        with torch.no_grad():
            saved = [w.clone() for w in moved]
            torch._foreach_add_(moved, self._perturbation(moved))
        try:
            with frozen_batch_norm(self.model):
                closure()
        finally:
            with torch.no_grad():
                torch._foreach_copy_(moved, saved)

    @torch.no_grad()
    def _perturbation(self, weights: list[Tensor]) -> tuple[Tensor, ...]:
        gradients = tuple(w.grad for w in weights if w.grad is not None)  # all have one
        if self.adaptive:
            gradients = torch._foreach_mul(gradients, torch._foreach_abs(weights))
        q = 1.0 if self.p == float("inf") else self.p / (self.p - 1)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, q)), q)
        norm = norm.masked_fill(norm == 0, torch.inf)  # no step then; a branch would wait for a GPU
        if self.p == 2:
            eps = torch._foreach_mul(gradients, self.rho / norm)
        else:  # |g|^(q-1) / ||g||_q^(q/p), and q/p = q - 1
            eps = tuple(self.rho * g.sign() * (g.abs() / norm) ** (q - 1) for g in gradients)
        if self.adaptive:
            eps = torch._foreach_mul(eps, torch._foreach_abs(weights))
        return eps


@contextlib.contextmanager
def frozen_batch_norm(model: nn.Module | None) -> Iterator[None]:
    """Normalise with batch statistics without an update of the running statistics."""
    layers = [] if model is None else [m for m in model.modules() if isinstance(m, _BatchNorm)]
    before = [layer.track_running_stats for layer in layers]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.track_running_stats = value
