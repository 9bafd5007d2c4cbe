"""Means, shares, rank correlations and censored times over seeds with their uncertainty.

An `Estimate` gives its interval at any level, and the p values of the same distribution: `Student`
for means, `Share` for shares, `Signs` and `Permuted` for rank correlations.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations, product

import numpy as np
from scipy.special import bdtr, betaincinv, stdtr, stdtrit  # scipy.stats takes a second to import

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
    x = _averaged(values, ratios)
    mean, n = x.mean(), len(x)
    if n == 1:
        half = np.inf
    else:
        half = stdtrit(n - 1, (1 + level) / 2) * x.std(ddof=1) / np.sqrt(n)
    ends = np.array([mean, mean - half, mean + half])
    value, low, high = map(float, np.exp(ends) if ratios else ends)
    return Interval(value, low, high, n)


def _averaged(values: Sequence[float], ratios: bool) -> np.ndarray:
    """The numbers that are averaged: logarithms for ratios."""
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all() or (ratios and not (x > 0).all()):
        raise ValueError(
            f"values = {x.tolist()}: needed one finite{' positive' * ratios} number each"
        )
    return np.log(x) if ratios else x


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


def one_varies(axes: Mapping[str, Sequence[float]], name: str) -> list[list[int]]:
    """Return the groups of two configurations and more that differ in one hyperparameter alone.

    Args:
        axes: each hyperparameter's value in every configuration.
        name: of the hyperparameter.

    Returns:
        the places of each group's configurations.
    """
    others = list(zip(*(values for other, values in axes.items() if other != name), strict=True))
    others = others or [()] * len(axes[name])
    groups = ([i for i, o in enumerate(others) if o == group] for group in dict.fromkeys(others))
    return [group for group in groups if len(group) > 1]


def grouped_kendall(a: np.ndarray, b: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the mean of Kendall's rank correlations within groups, weighted by their sizes.

    The variance of a correlation of n independent pairs is about 4 / 9n, so that sizes are nearly
    the best weights.

    Args:
        a, b: values [..., configurations].
        groups: places of the configurations of each group, at least two.
    """
    taus = [kendall(a[..., list(g)], b[..., list(g)]) for g in groups]
    return np.average(taus, axis=0, weights=[len(g) for g in groups])


# ------------------------------------------------------------- estimates


class Estimate(ABC):
    """An estimate from n seeds, repeats or configurations: intervals at any level, and p values."""

    @abstractmethod
    def interval(self, level: float = 0.95) -> Interval:
        """Return the estimate with its interval; one at a higher level contains it."""

    def p_differs(self, null: float) -> float:
        """Return the two-sided p value of the null value.

        It is the smallest alpha at which the interval of level 1 - alpha excludes the null value.
        """

        def excluded(level: float) -> bool:
            found = self.interval(level)
            return found.low > null or found.high < null

        return _smallest_alpha(excluded)

    def p_within(self, low: float, high: float) -> float:
        """Return the larger p value of two one-sided tests that the truth lies within low and high.

        Source: Schuirmann 1987. It is below alpha where the interval of level 1 - 2 alpha lies
        inside low and high; one half where the estimate itself does not.
        """

        def inside(level: float) -> bool:
            found = self.interval(level)
            return low < found.low and found.high < high

        return _smallest_alpha(inside) / 2


def _smallest_alpha(holds: Callable[[float], bool]) -> float:
    """The smallest alpha at whose level, 1 - alpha, something holds that holds at lower ones."""
    low, high = 0.0, 1.0
    for _ in range(53):  # as many halvings as a double has bits
        middle = (low + high) / 2
        low, high = (low, middle) if holds(1 - middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Student(Estimate):
    """An estimate whose deviation in standard errors follows Student's t distribution.

    Where it is one of ratios, `centre` and `error` are those of logarithms; intervals and null
    values are ratios.
    """

    centre: float
    error: float  # standard error; infinite for n = 1
    freedom: float  # degrees of freedom
    n: int
    ratios: bool = False

    def interval(self, level: float = 0.95) -> Interval:
        """Return the estimate with its t interval."""
        half = math.inf
        if math.isfinite(self.error):
            half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        ends = np.array([self.centre, self.centre - half, self.centre + half])
        mean, low, high = map(float, np.exp(ends) if self.ratios else ends)
        return Interval(mean, low, high, self.n)

    def p_differs(self, null: float) -> float:
        """Return the two-sided p value of the null value."""
        return 2 * self._tail(-abs(self.centre - self._scaled(null)))

    def p_within(self, low: float, high: float) -> float:
        """Return the larger p value of two one-sided tests that the truth lies within low and high.

        Source: Schuirmann 1987.
        """
        below, above = self.centre - self._scaled(low), self._scaled(high) - self.centre
        return self._tail(-min(below, above))

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.ratios else value

    def _tail(self, deviation: float) -> float:
        """The probability of a deviation that is lower still."""
        if self.error == 0:
            return 0.5 if deviation == 0 else float(deviation > 0)
        return float(stdtr(self.freedom, deviation / self.error))


def student(values: Sequence[float], *, ratios: bool = False) -> Student:
    """Return the mean of independent values as an estimate; `interval` of the same values.

    Args:
        values: one number per seed, n >= 1, finite.
        ratios: average logarithms (geometric mean); values > 0.

    Raises:
        ValueError: if there are no values, or they are not finite, or not positive for ratios.
    """
    x = _averaged(values, ratios)
    n = len(x)
    error = float(x.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Student(float(x.mean()), error, max(n - 1, 1), n, ratios)


def with_test_set(values: Sequence[float], examples: Sequence[float]) -> Student:
    """Return a mean difference over seeds whose error includes that of a finite test set.

    Seeds and test examples are both drawn at random and crossed: every seed is tested on every
    example. The variance of the mean is s^2 / n + v / N; it counts what is particular to one seed
    and one example twice, so that it errs on the large side.

    Source: Clark 1973, whose min F' is the square of this t, with the degrees of freedom of
    Satterthwaite 1946: (a + b)^2 / (a^2 / (n - 1) + b^2 / (N - 1)), a = s^2 / n, b = v / N.

    Args:
        values: a difference of accuracies or mean losses per seed, n >= 1; s^2 is their variance.
        examples: the difference at each test example, mean over seeds [N], N >= 2, in the same
            unit; v is their variance.

    Raises:
        ValueError: if there are no values, fewer than two examples, or they are not finite.
    """
    one, each = student(values), _averaged(examples, ratios=False)
    if len(each) < 2:
        raise ValueError(f"examples = {each.tolist()}: needed are at least two")
    a, b = one.error**2, float(each.var(ddof=1)) / len(each)
    if one.n == 1 or a + b == 0:
        return one
    freedom = (a + b) ** 2 / (a**2 / (one.n - 1) + b**2 / (len(each) - 1))
    return Student(one.centre, math.sqrt(a + b), freedom, one.n)


@dataclass(frozen=True)
class Share(Estimate):
    """The share of seeds in which something happened, with the interval of Clopper and Pearson.

    Every seed is one trial: what happens in several arms of a seed is not independent. The interval
    covers at least as often as it says.

    Raises:
        ValueError: if there is no seed, or hits are not between 0 and n.
    """

    hits: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.n or self.n < 1:
            raise ValueError(
                f"hits = {self.hits}, n = {self.n}: needed are seeds, and as many hits"
            )

    def interval(self, level: float = 0.95) -> Interval:
        """Return the share with its exact interval."""
        hits, misses, tail = self.hits, self.n - self.hits, (1 - level) / 2
        low = float(betaincinv(hits, misses + 1, tail)) if hits else 0.0
        high = float(betaincinv(hits + 1, misses, 1 - tail)) if misses else 1.0
        return Interval(hits / self.n, low, high, self.n)


@dataclass(frozen=True)
class Signs(Estimate):
    """The median of one value per seed, such as a rank correlation, judged by signs alone.

    The interval reaches from one of the values to another: it excludes zero where the sign test
    does, and holds its level for any continuous distribution. Fewer than six seeds exclude nothing
    at 95 %: the interval is then all that is possible.

    Args:
        values: one per seed, within the bounds.
        bounds: of what is possible; those of a rank correlation.

    Raises:
        ValueError: if there are no values, or one lies outside the bounds.
    """

    values: tuple[float, ...]
    bounds: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not self.values or not all(low <= value <= high for value in self.values):
            raise ValueError(f"values = {self.values}: needed are some from {low:g} to {high:g}")

    def interval(self, level: float = 0.95) -> Interval:
        """Return the median with its interval."""
        n, (low, high) = len(self.values), self.bounds
        tails = bdtr(np.arange(n), n, 0.5)  # of at most so many values on one side of the median
        ordered = [low, *sorted(self.values), high]
        place = int((tails <= (1 - level) / 2).sum())
        return Interval(float(np.median(self.values)), ordered[place], ordered[n + 1 - place], n)


@dataclass(frozen=True)
class Permuted(Estimate):
    """A rank correlation over configurations, judged by permutations of them.

    The p value of zero is the share of permutations with a correlation as far from zero. The
    interval reaches as far to both sides as the permutations' correlations do, within [-1, 1]: it
    excludes zero exactly where the permutation test does. Other values are excluded as if the
    correlation scattered about them as it does about zero.
    """

    correlation: float
    distances: np.ndarray = field(repr=False, compare=False)  # from zero of the permuted, ascending
    n: int

    def interval(self, level: float = 0.95) -> Interval:
        """Return the correlation with its interval; [-1, 1] where no permutation is far enough."""
        values, first = np.unique(self.distances, return_index=True)
        p = 1 - first / len(self.distances)  # the share at least as far
        allowed = p >= 1 - level - 1e-14  # p of alpha is not below it
        half = 2.0 if allowed.all() else float(values[allowed].max(initial=0.0))
        low, high = max(-1.0, self.correlation - half), min(1.0, self.correlation + half)
        return Interval(self.correlation, low, high, self.n)


def permuted(
    a: Sequence[float],
    b: Sequence[float],
    groups: Sequence[Sequence[int]] | None = None,
    *,
    most: int = 50_000,
    draws: int = 9_999,
    seed: int = 0,
) -> Permuted:
    """Return the rank correlation of two values over configurations, judged by permutations.

    All permutations are taken where they are few enough, else the one at hand and random ones,
    which is an exact test, too (Phipson & Smyth 2010). Configurations change places with those that
    share a group with them, directly or through others: with one group, or with groups along each
    hyperparameter of a grid, with all; with groups along one hyperparameter, within these alone.

    Args:
        a, b: a value per configuration, mean over seeds.
        groups: places of the configurations that are compared with each other, such as those of
            `one_varies`; None: all with all. The correlation is that of `grouped_kendall`.
        most: permutations that are all taken.
        draws: random ones, where there are more.
        seed: of the draws.

    Raises:
        ValueError: if the numbers of values differ, or no group has two configurations.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"values of shape {x.shape} and {y.shape}: needed is the same number")
    compared = [list(g) for g in (groups or [range(len(x))]) if len(g) > 1]
    if not compared:
        raise ValueError(f"{len(x)} configurations: no two of them are compared")
    orders = _orders(len(x), _joined(compared), most=most, draws=draws, seed=seed)
    found = grouped_kendall(np.broadcast_to(x, orders.shape), y[orders], compared)
    distances = np.sort(np.abs(found).round(12))  # equal ones up to rounding are equal
    places = len(set().union(*compared))
    return Permuted(float(np.round(found[0], 12)), distances, places)


def _joined(groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups of which no two share a member, joined from those that do."""
    found: list[set[int]] = []
    for group in map(set, groups):
        touching = [other for other in found if other & group]
        found = [other for other in found if not other & group] + [group.union(*touching)]
    return [sorted(group) for group in found]


def _orders(
    n: int, sets: Sequence[Sequence[int]], *, most: int, draws: int, seed: int
) -> np.ndarray:
    """Orders of n places [orders, n], permuted within sets, the one at hand first."""
    every = math.prod(math.factorial(len(s)) for s in sets) <= most
    generator = np.random.default_rng(seed)

    def drawn() -> Iterator[list[np.ndarray]]:
        yield [np.array(s) for s in sets]
        for _ in range(draws):
            yield [generator.permutation(s) for s in sets]

    exchanged = product(*(permutations(s) for s in sets)) if every else drawn()
    places = np.concatenate([np.array(s) for s in sets])
    rows = np.array([np.concatenate(order) for order in exchanged])
    orders = np.tile(np.arange(n), (len(rows), 1))
    orders[:, places] = rows
    return orders


# ------------------------------------------------------------- many claims


def holm(p: Sequence[float]) -> np.ndarray:
    """Return p values adjusted for their number: one of them below alpha errs at most so often.

    Source: Holm 1979. The k-th smallest of m is multiplied by m - k + 1, and none is smaller than
    one before it.

    Raises:
        ValueError: if one is not in [0, 1].
    """
    values = np.asarray(p, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p = {values.tolist()}: needed are values from 0 to 1")
    order = np.argsort(values)
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1)
    return adjusted


def false_discovery(p: Sequence[float]) -> np.ndarray:
    """Return the false-discovery q of each p value by Benjamini & Hochberg 1995."""
    from scipy.stats import false_discovery_control

    return false_discovery_control(p)


# ------------------------------------------------------------- regression


def power_law(y: Sequence[float], x: Mapping[str, Sequence[float]]) -> dict[str, Student]:
    """Return the exponents of y = c x1^e1 x2^e2 ..., least squares of the logarithms.

    All runs count as independent. Those of a seed share their start: the mean over seeds of each
    seed's own exponents, by `student`, does without this assumption where a seed has runs enough.

    Args:
        y: a value per run, > 0, such as a sharpness.
        x: what it may depend on by name, a value per run each, > 0.

    Returns:
        each name's exponent with the t distribution of the residuals' degrees of freedom.

    Raises:
        ValueError: if a value is not finite and positive, there are no more runs than coefficients,
            or one name's logarithm is a linear combination of the others'.
    """
    logs = _averaged(y, ratios=True)
    columns = [np.ones(len(logs)), *(_averaged(values, ratios=True) for values in x.values())]
    design, n = np.column_stack(columns), len(logs)
    coefficients, _, rank, _ = np.linalg.lstsq(design, logs)
    freedom = n - design.shape[1]
    if freedom < 1 or rank < design.shape[1]:
        raise ValueError(f"{n} runs do not tell {', '.join(x)} apart")
    residuals = logs - design @ coefficients
    variance = residuals @ residuals / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    return {
        name: Student(float(c), float(e), freedom, n)
        for name, c, e in zip(x, coefficients[1:], errors[1:], strict=True)
    }
