"""An epoch's updates with nothing for the host to do between them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from bsglib import device_graphs, runtime

MANY = 16  # steps in a graph

Update = Callable[[Tensor], tuple[Tensor, Tensor]]


class Steps:
    """The updates of a run: what differs from step to step are tensors on its device.

    Those are the order of the examples, the learning rates, the number of the step, and what came
    out of it; an epoch begins with one copy of order and rates to the device, and ends with one of
    losses back. On an accelerator, MANY steps are one CUDA graph, and what is left of an epoch,
    with its smaller last batch, another; where they cannot be captured, and on a CPU, the same
    functions run step by step.

    Args:
        update: makes one update on the examples at some places of the training set, int64 [n], and
            returns their mean loss and number of right answers.
        optimizer: its rate becomes a tensor.
        weights: that the updates move.
        buffers: what else they change.
        examples, batch_size: of an epoch.
        path: also record the norm of each update.
        drawn: of each example of the training set, random numbers [examples, k] that the update
            reads; every epoch brings its own.
    """

    def __init__(
        self,
        update: Update,
        optimizer: torch.optim.Optimizer,
        weights: Sequence[Tensor],
        buffers: Sequence[Tensor],
        *,
        examples: int,
        batch_size: int,
        path: bool = False,
        drawn: Tensor | None = None,
    ):
        self.update, self.weights, self.drawn = update, list(weights), drawn
        self.full, self.rest = divmod(examples, batch_size)
        self.many = min(MANY, self.full)
        device, count = self.weights[0].device, self.full + (self.rest > 0)
        single = torch.float64 if device.type == "cpu" else torch.float32  # of fused optimizers
        self.lr = torch.zeros((), dtype=single, device=device)
        for group in optimizer.param_groups:
            group["lr"] = self.lr
        self.lrs = torch.zeros(count, dtype=single, device=device)
        self.order = torch.zeros(examples, dtype=torch.int64, device=device)
        self.places = torch.arange(batch_size, device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.found = torch.zeros(count, 2, dtype=torch.float64, device=device)
        self.norms = self.weights[0].new_zeros(count) if path else None
        left = self.full % self.many + self.rest
        self.pieces = [self._several, *([self._last] if left else ())]
        self.report: dict[str, float] = {}  # of the graphs, where there are any
        slots = (t for state in optimizer.state.values() for t in state.values())
        changed = [*self.weights, *buffers, *(t for t in slots if isinstance(t, Tensor))]
        self.changed = [*changed, self.step, self.found]

    def epoch(
        self, order: np.ndarray, lrs: Sequence[float], drawn: np.ndarray | None = None
    ) -> None:
        """Have the device make an epoch's updates, without waiting for it.

        Args:
            order: places of the examples in the training set, int64 [examples].
            lrs: learning rate of each update.
            drawn: random numbers of each example, where the updates read any.
        """
        first = not self.report and self.lr.device.type != "cpu"
        runtime.send(torch.from_numpy(order), self.order)
        runtime.send(torch.tensor(lrs, dtype=self.lrs.dtype), self.lrs)
        if self.drawn is not None:
            runtime.send(torch.from_numpy(drawn).to(self.drawn.dtype), self.drawn)
        self.step.zero_()
        if first:
            self.pieces, self.report = device_graphs.captured(
                self.pieces, self.changed, self.weights, self.found
            )
        several, *last = self.pieces
        for piece in [several] * (self.full // self.many) + last:
            piece()

    def losses(self) -> tuple[Tensor, Tensor]:
        """Wait for the epoch and return each step's mean loss and right answers, float64."""
        losses, correct = self.found.cpu().unbind(1)
        return losses, correct

    def _several(self) -> None:
        for _ in range(self.many):
            self._make(self.places)

    def _last(self) -> None:
        for _ in range(self.full % self.many):
            self._make(self.places)
        if self.rest:
            self._make(self.places[: self.rest])

    def _make(self, places: Tensor) -> None:
        self.lr.copy_(self.lrs[self.step][0])
        index = self.order[self.step * len(self.places) + places]
        before = [] if self.norms is None else [w.detach().clone() for w in self.weights]
        loss, correct = self.update(index)
        row = torch.stack([loss.double(), correct.double()])[None]
        self.found.index_copy_(0, self.step, row)
        if self.norms is not None:
            self.norms.index_copy_(0, self.step, _distance(self.weights, before)[None])
        self.step += 1


@torch.no_grad()
def _distance(weights: list[Tensor], before: list[Tensor]) -> Tensor:
    """Return the Euclidean distance of weights from what they were, a scalar."""
    return torch.stack(torch._foreach_norm(torch._foreach_sub(weights, before))).norm()
