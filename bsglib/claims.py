"""Claims as data: the statement of a paper, and the declared rule that tests it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from bsglib.stats import Interval, interval

REPRODUCED = "reproduced"
DIRECTION_ONLY = "direction only"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"
NOT_TESTABLE = "not testable at this scale"
VERDICTS = (REPRODUCED, DIRECTION_ONLY, NOT_REPRODUCED, UNDECIDED, NOT_TESTABLE)
MIN_SEEDS = 3
TIMING_REPEATS = 5  # from which times are judged


@dataclass(frozen=True)
class Rule:
    """A range that reproduces a claim, and a wider range with the same direction."""

    text: str
    target: tuple[float, float]
    direction: tuple[float, float]
    ratios: bool = False  # the statistic is a ratio: its logarithm is averaged


def about(value: float, *, factor: float) -> Rule:
    """Return the rule: a ratio within a factor of the stated ratio; direction: same side of 1."""
    direction = (1.0, math.inf) if value > 1 else (0.0, 1.0) if value < 1 else (1.0, 1.0)
    target = value / factor, value * factor
    wider = min(direction[0], target[0]), max(direction[1], target[1])
    return Rule(f"{value:g}, within a factor of {factor:g}", target, wider, ratios=True)


def above(value: float, *, ratios: bool = False) -> Rule:
    """Return the rule: larger than a value."""
    bounds = math.nextafter(value, math.inf), math.inf
    return Rule(f"above {value:g}", bounds, bounds, ratios)


def below(value: float, *, ratios: bool = False) -> Rule:
    """Return the rule: smaller than a value."""
    bounds = -math.inf, math.nextafter(value, -math.inf)
    return Rule(f"below {value:g}", bounds, bounds, ratios)


def between(low: float, high: float, *, ratios: bool = False) -> Rule:
    """Return the rule: inside a range."""
    return Rule(f"between {low:g} and {high:g}", (low, high), (low, high), ratios)


@dataclass(frozen=True)
class Measured:
    """The statistic of a claim, one value per seed, or the reason for its absence.

    A statistic that is not a mean over seeds has its own `interval` instead of values.
    """

    values: tuple[float, ...] = ()
    interval: Interval | None = None
    not_testable: str | None = None
    note: str = ""  # on what the values exclude
    seeds: tuple[int, ...] = ()  # of the values, where they have any


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of a paper, in our words.

    `statistic` turns a study's runs into `Measured`; `value` is the paper's number as printed,
    "-" if it gives none. `kind` tells whether the paper states it, the paper asks it, or it is
    ours; `primary` claims represent their study.
    """

    id: str
    figure: str  # the report's figure or table that shows it
    locator: str  # where the paper states it
    statement: str
    quantity: str  # the statistic, with its unit
    value: str = "-"
    kind: Literal["stated", "asked", "ours"] = "stated"
    primary: bool = False
    rule: Rule
    statistic: Callable[..., Measured] = field(compare=False)


@dataclass(frozen=True)
class Verdict:
    """A claim and its verdict."""

    claim: Claim
    ours: Interval | None
    verdict: str
    reason: str

    def row(self) -> dict[str, str | int | bool]:
        """Return the columns of the tables of claims."""
        asks = self.claim.kind != "stated"
        return {
            "claim": self.claim.id,
            "statement": self.claim.statement,
            "figure": self.claim.figure,
            "locator": self.claim.locator,
            "quantity": self.claim.quantity,
            "kind": self.claim.kind,
            "primary": self.claim.primary,
            "paper": self.claim.kind if self.claim.value == "-" and asks else self.claim.value,
            "ours": "-" if self.ours is None else interval_text(self.ours),
            "n": 0 if self.ours is None else self.ours.n,
            "rule": self.claim.rule.text,
            "verdict": self.verdict,
            "reason": self.reason,
        }


def verdict(claim: Claim, measured: Measured) -> Verdict:
    """Return a claim's verdict: where the interval over seeds lies relative to its rule.

    Inside the target: reproduced. Inside the direction and outside the target: direction only.
    Outside the direction: not reproduced. Straddling a threshold: undecided. Too few seeds, or
    runs that do not meet the claim's conditions: not testable at this scale.
    """
    if measured.not_testable or not (measured.values or measured.interval):
        return Verdict(claim, None, NOT_TESTABLE, measured.not_testable or "no runs")
    bad = [v for v in measured.values if not math.isfinite(v)]
    if bad:
        return Verdict(claim, None, NOT_TESTABLE, f"{len(bad)} values are not finite")
    if claim.rule.ratios and min(measured.values, default=1) <= 0:
        return Verdict(claim, None, NOT_TESTABLE, "a ratio is not above zero")
    ours = measured.interval or interval(measured.values, ratios=claim.rule.ratios)
    if ours.n < MIN_SEEDS:
        seeds = f"{ours.n} seed{'s' * (ours.n > 1)}, {MIN_SEEDS} needed"
        return Verdict(claim, ours, NOT_TESTABLE, seeds)
    target, direction = claim.rule.target, claim.rule.direction
    if _inside(ours, target):
        word, reason = REPRODUCED, "the interval lies inside the rule"
    elif _inside(ours, direction) and _outside(ours, target):
        larger = (ours.low > target[1]) == math.isinf(direction[1])
        size = "larger" if larger else "smaller"
        word, reason = DIRECTION_ONLY, f"same direction, {size}"
    elif _outside(ours, direction):
        word, reason = NOT_REPRODUCED, "the interval lies outside the rule"
    else:
        word, reason = UNDECIDED, "the interval straddles the threshold"
    return Verdict(claim, ours, word, "; ".join(part for part in (reason, measured.note) if part))


def _inside(ours: Interval, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= ours.low and ours.high <= bounds[1]


def _outside(ours: Interval, bounds: tuple[float, float]) -> bool:
    return ours.high < bounds[0] or ours.low > bounds[1]


def interval_text(ours: Interval) -> str:
    """Return an interval as text: mean [low, high], or the value alone for n = 1.

    A value that differs from zero only by rounding is shown as zero.
    """
    mean, low, high = (0.0 if abs(x) < 1e-9 else x for x in (ours.mean, ours.low, ours.high))
    if ours.n == 1:
        return f"{mean:.3g}"
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def number_text(value: float) -> str:
    """Return a number of a table as text: three digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
