"""Means, shares and censored times over seeds with intervals, and rank correlation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # Student's t quantile; scipy.stats takes a second to import

PERCENT = 100.0  # of a fraction


@dataclass(frozen=True)
class Interval:
    """A mean over n values and its confidence interval, which is infinite for n = 1."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float], *, level: float = 0.95, ratios: bool = False) -> Interval:
    """Return the mean of independent values with Student's t interval.

    Args:
        values: one number per seed, n >= 1, finite.
        level: confidence, in (0, 1).
        ratios: average logarithms (geometric mean), so that a and 1/a are symmetric; values > 0.

    Raises:
        ValueError: if values are missing, not finite, or not positive with ratios.
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
    value, low, high = map(float, np.exp(ends) if ratios else ends)
    return Interval(value, low, high, n)


def share(hits: int, n: int, *, level: float = 0.95) -> Interval:
    """Return the share of hits among n independent trials with Wilson's interval.

    Raises:
        ValueError: if n is below 1, or hits are not between 0 and n.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"hits = {hits}, n = {n}: needed are trials, and at most as many hits")
    from scipy.stats import binomtest  # here, because of its second

    bounds = binomtest(hits, n).proportion_ci(level, method="wilson")
    return Interval(hits / n, float(bounds.low), float(bounds.high), n)


@dataclass(frozen=True)
class Median:
    """The median and range of times, some of them censored."""

    median: float  # infinite if half or more are censored
    low: float
    high: float  # infinite if one is censored
    n: int
    reached: int  # number that are not censored


def censored_median(times: Sequence[float | None]) -> Median:
    """Return the median and range of times; None is a censored time.

    A censored time counts as longer than all others: without it, slow runs would look fast. For an
    even number of times, the median is the larger of the two middle times.

    Raises:
        ValueError: if times is empty.
    """
    if not len(times):
        raise ValueError("times = []: needed is at least one")
    ordered = sorted(np.inf if t is None else float(t) for t in times)
    reached = sum(np.isfinite(t) for t in ordered)
    return Median(ordered[len(ordered) // 2], ordered[0], ordered[-1], len(ordered), int(reached))


def kendall(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Kendall's rank correlation of a and b over their last axis, in [-1, 1].

    The mean over all pairs of sign(a_i - a_j) sign(b_i - b_j); a tie counts as zero (tau-a).

    Args:
        a, b: values [..., n], n >= 2.
    """
    a, b = (np.asarray(values, dtype=float) for values in (a, b))
    i, j = np.triu_indices(a.shape[-1], k=1)
    signs = np.sign(a[..., i] - a[..., j]) * np.sign(b[..., i] - b[..., j])
    return signs.mean(axis=-1)


def granulated_kendall(
    a: np.ndarray,
    b: np.ndarray,
    axes: Mapping[str, Sequence[float]],
    *,
    along: Sequence[str] | None = None,
) -> np.ndarray:
    """Return the rank correlation of a and b over pairs that differ in one hyperparameter only.

    Source: Jiang et al. 2020, section 3: Kendall's coefficient within each group of configurations
    that differ in one hyperparameter only, averaged over groups, then over hyperparameters.

    Args:
        a, b: values [..., configurations].
        axes: each hyperparameter's value in every configuration.
        along: the hyperparameters to average over; None: all.

    Raises:
        ValueError: if no two configurations differ in one hyperparameter only, or `along` has an
            unknown name.
    """
    if unknown := [name for name in along or () if name not in axes]:
        raise ValueError(f"along = {unknown[0]!r}: allowed are {', '.join(axes)}")
    per_axis = []
    for name in axes if along is None else along:
        others = list(
            zip(*(values for other, values in axes.items() if other != name), strict=True)
        )
        others = others or [()] * np.shape(a)[-1]
        groups = [
            [i for i, o in enumerate(others) if o == group] for group in dict.fromkeys(others)
        ]
        taus = [kendall(a[..., g], b[..., g]) for g in groups if len(g) > 1]
        if taus:
            per_axis.append(np.mean(taus, axis=0))
    if not per_axis:
        names = ", ".join(axes if along is None else along)
        raise ValueError(f"axes {names}: no two configurations differ in one alone")
    return np.mean(per_axis, axis=0)


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *samples: np.ndarray,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return a statistic of the configurations' means over seeds with its bootstrap interval.

    Seeds are resampled with replacement within each configuration, the same seeds for all samples.
    Resampled means of n seeds vary too little, by a factor of sqrt((n - 1) / n); their deviations
    are divided by this factor. The interval holds percentiles.

    Args:
        statistic: maps means [..., configurations], one array per sample, to values [...].
        *samples: measurements [configurations, seeds].
        replicates: number of bootstrap samples.
        seed: of the bootstrap.
        level: confidence, in (0, 1).

    Returns:
        the statistic of the original means, its interval, and the number of seeds.
    """
    configurations, n = samples[0].shape
    generator = np.random.default_rng(seed)
    draws = generator.integers(n, size=(replicates, configurations, n))
    wider = np.sqrt(n / max(n - 1, 1))
    means = []
    for sample in samples:
        centre = sample.mean(axis=1)
        drawn = np.take_along_axis(sample[None], draws, axis=2).mean(axis=2)
        means.append(centre + wider * (drawn - centre))
    low, high = np.quantile(statistic(*means), [(1 - level) / 2, (1 + level) / 2])
    centre = float(statistic(*(s.mean(axis=1) for s in samples)))
    return Interval(centre, float(low), float(high), n)
