"""Learning-rate schedules as pure functions of the update."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Learning rate at each update: scaled with the batch size, warmed up, then decayed.

    Call it with the number of updates already made. The peak is `base_lr` times 1, k or sqrt(k)
    for scaling "none", "linear" (Goyal et al. 2017) or "sqrt" (Hoffer et al. 2017), with
    k = batch_size / reference_batch_size. During the first `warmup_updates` the rate stays at
    `warmup_from` ("constant"), or rises from there to the peak by equal steps ("linear") or equal
    factors ("exponential"). At each update in `decay_at` the rate is divided by `decay_by`.

    "doubling" is the warm-up in the code of Kaabachi et al.: the rate of an epoch is the peak
    divided by 2**counter. The counter starts at `warmup_epochs` and falls by one per epoch while it
    is above 1. The rate is the peak once the counter is exactly 1. A counter from 3.5 takes 2.5 and
    1.5, never 1: the rate then stays at the peak divided by 2**1.5.
    """

    base_lr: float
    batch_size: int
    reference_batch_size: int
    scaling: Literal["none", "linear", "sqrt"] = "none"
    warmup: Literal["none", "constant", "linear", "exponential", "doubling"] = "none"
    warmup_updates: int = 0
    warmup_from: float | None = None  # None: base_lr
    decay_at: tuple[int, ...] = ()
    decay_by: float = 10.0
    warmup_epochs: float = 0.0  # of "doubling", which counts whole epochs
    updates_per_epoch: int = 1

    def __post_init__(self):
        if self.base_lr <= 0 or self.batch_size < 1 or self.reference_batch_size < 1:
            raise ValueError(f"learning rate and batch sizes must be positive: {self}")
        if self.scaling not in ("none", "linear", "sqrt"):
            raise ValueError(f"scaling = {self.scaling!r}: allowed are none, linear, sqrt")
        if self.warmup not in (kinds := ("none", "constant", "linear", "exponential", "doubling")):
            raise ValueError(f"warmup = {self.warmup!r}: allowed are {', '.join(kinds)}")
        if self.warmup == "doubling" and self.warmup_epochs < 1:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs}: doubling needs at least 1")
        lowest = self.warmup_from if self.warmup_from is not None else self.base_lr
        if lowest < 0 or (self.warmup == "exponential" and lowest == 0):
            raise ValueError(f"warmup_from = {lowest}: must be above 0, or 0 if not exponential")

    @property
    def peak_lr(self) -> float:
        """Return the scaled rate, after warm-up and before decay."""
        ratio = self.batch_size / self.reference_batch_size
        return self.base_lr * {"none": 1.0, "linear": ratio, "sqrt": ratio**0.5}[self.scaling]

    def __call__(self, update: int) -> float:
        """Return the rate of the next update after `update` updates."""
        decay = self.decay_by ** -sum(update >= knot for knot in self.decay_at)
        if self.warmup == "doubling":
            last = 1 + self.warmup_epochs % 1  # above 1 unless warmup_epochs is whole
            counter = max(self.warmup_epochs - update // self.updates_per_epoch, last)
            return self.peak_lr * decay / (1 if counter == 1 else 2**counter)
        if self.warmup == "none" or update >= self.warmup_updates:
            return self.peak_lr * decay
        start = self.base_lr if self.warmup_from is None else self.warmup_from
        progress = update / self.warmup_updates
        if self.warmup == "constant":
            return start * decay
        if self.warmup == "linear":
            return (start + (self.peak_lr - start) * progress) * decay
        return start * (self.peak_lr / start) ** progress * decay
