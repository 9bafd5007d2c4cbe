"""Means over seeds with their uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # Student's t quantile; scipy.stats takes a second to import


@dataclass(frozen=True)
class Interval:
    """A mean over n values and the interval in which the true mean lies; infinite for n = 1."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float], *, level: float = 0.95, ratios: bool = False) -> Interval:
    """Return the mean of independent values with Student's t interval.

    Args:
        values: one number per seed, n >= 1, finite.
        level: confidence, in (0, 1).
        ratios: average logarithms (geometric mean), so that a and 1/a count alike; values > 0.

    Raises:
        ValueError: if there are no values, or they are not finite, or not positive for ratios.
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all() or (ratios and not (x > 0).all()):
        raise ValueError(
            f"values = {x.tolist()}: needed one finite{' positive' * ratios} number each"
        )
    x = np.log(x) if ratios else x
    mean, n = x.mean(), len(x)
    if n == 1:
        half = np.inf
    else:
        half = stdtrit(n - 1, (1 + level) / 2) * x.std(ddof=1) / np.sqrt(n)
    ends = np.array([mean, mean - half, mean + half])
    return Interval(*map(float, np.exp(ends) if ratios else ends), n)
