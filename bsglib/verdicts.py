"""A verdict in three parts: the direction of an effect, its size, and the scale of the runs.

A statistic is a difference or a ratio; lengths of ratios are those of their logarithms. The margin
is the smallest effect that would matter. The 95 % interval judges the direction. Two one-sided
tests at 5 %, that is, the 90 % interval, judge whether there is no effect. An interval that ends on
a border crosses it. docs/verdicts.md explains the rules.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from bsglib.stats import Estimate, Interval

SAME, OPPOSITE, NO_EFFECT, UNDECIDED = "same", "opposite", "no effect", "undecided"
DEPENDS, UNDECIDED_AFTER = "depends on the measure", "undecided after correction"
NOT_RUN, NOT_TESTABLE = "not run", "not testable"
DIRECTIONS = (SAME, OPPOSITE, NO_EFFECT, DEPENDS, UNDECIDED, UNDECIDED_AFTER, NOT_TESTABLE, NOT_RUN)
DECIDED = (SAME, OPPOSITE, NO_EFFECT, DEPENDS)
PRECEDENCE = (OPPOSITE, NO_EFFECT, DEPENDS, NOT_TESTABLE, NOT_RUN, UNDECIDED_AFTER, UNDECIDED, SAME)
AGREES, IMPRECISE, SMALLER, LARGER = "agrees", "imprecise", "smaller", "larger"
SIZES = (AGREES, IMPRECISE, SMALLER, LARGER)
FULL, REDUCED, TOY, OTHER_HARDWARE = "full", "reduced", "toy", "other hardware"
SCALES = (FULL, REDUCED, TOY, OTHER_HARDWARE)
NEGLIGIBLE, HIGHER, LOWER = "negligible", "higher", "lower"

SEEDS, PRIMARY_SEEDS, RANK_SEEDS = 5, 10, 6  # needed: by a claim, a primary one, a sign test
ALPHA = 0.05
ALL, TOO_FEW = 0.9, 0.1  # shares of the source's that count as all of it, and as a toy's

Claimed = Literal["above", "below", "equal"]


@dataclass(frozen=True)
class Rule:
    """What a claim says of its statistic, declared before the runs.

    Args:
        claimed: the statistic is "above" or "below" the null value, or "equal" to it. That
            something is of no use is "equal", too: a harm refutes it.
        margin: the smallest effect that would matter, > 0; of a ratio the factor, > 1.
        ratios: the statistic is a ratio.
        null: the null value; None: 1 for a ratio, else 0.
        stated: the source's number, if it prints one.
        spread: the range that the source gives around its number, if it does.

    Raises:
        ValueError: if the margin is no effect, a number of a ratio is not positive, the source's
            number is not on the claimed side, or its spread does not hold it.
    """

    claimed: Claimed
    margin: float
    ratios: bool = False
    null: float | None = None
    stated: float | None = None
    spread: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.claimed not in ("above", "below", "equal"):
            raise ValueError(f"claimed = {self.claimed!r}: allowed are above, below, equal")
        if not (1 if self.ratios else 0) < self.margin < math.inf:
            raise ValueError(f"margin = {self.margin}: has to be above {1 if self.ratios else 0}")
        numbers = [self.centre, *(self.spread or ())] + [self.stated] * (self.stated is not None)
        if not all(math.isfinite(x) and (x > 0 or not self.ratios) for x in numbers):
            raise ValueError(f"{numbers}: needed are finite{' positive' * self.ratios} numbers")
        if self.stated is not None and self.claimed != "equal" and self.side * self.effect <= 0:
            raise ValueError(f"stated = {self.stated}: not {self.claimed} {self.centre:g}")
        if self.spread is not None:
            low, high = self.spread
            if self.stated is None or not low <= self.stated <= high:
                raise ValueError(f"spread = {self.spread}: has to hold stated = {self.stated}")

    @property
    def centre(self) -> float:
        """The null value."""
        return (1.0 if self.ratios else 0.0) if self.null is None else self.null

    @property
    def side(self) -> int:
        """1 for a claim of more than the null value, -1 for one of less, 0 for equality."""
        return {"above": 1, "below": -1, "equal": 0}[self.claimed]

    @property
    def band(self) -> tuple[float, float]:
        """The null value with the margin on either side."""
        return self.around(self.centre)

    def around(self, value: float) -> tuple[float, float]:
        """Return a value with the margin on either side."""
        if self.ratios:
            return value / self.margin, value * self.margin
        return value - self.margin, value + self.margin

    def length(self, low: float, high: float) -> float:
        """Return high - low, of logarithms for ratios."""
        if not self.ratios or math.isinf(high):
            return high - low
        return math.log(high / low) if low > 0 else math.inf

    @property
    def effect(self) -> float:
        """The source's effect, with its sign; zero where it prints no number."""
        return 0.0 if self.stated is None else self.length(self.centre, self.stated)


@dataclass(frozen=True)
class Direction:
    """The direction of an effect in a word of `DIRECTIONS`.

    The detail is "negligible" beside "no effect", "higher" or "lower" beside the opposite of an
    equality, the measures that differ where it depends on the measure, and the reason where there
    is no direction.
    """

    word: str
    detail: str = ""


def direction(estimate: Estimate, rule: Rule) -> Direction:
    """Return whether an effect has the claimed direction, the first that holds.

    For a claim of an effect:

    - no effect: the 90 % interval lies inside the margin;
    - same, opposite: the 95 % interval lies on the claimed side of the null value, on the other;
    - undecided.

    For a claim of equality:

    - same: the 90 % interval lies inside the margin;
    - opposite: the 95 % interval lies outside it, higher or lower;
    - undecided.
    """
    wide, narrow = estimate.interval(1 - ALPHA), estimate.interval(1 - 2 * ALPHA)
    low, high = rule.band
    inside = low < narrow.low and narrow.high < high
    if rule.claimed == "equal":
        if inside:
            return Direction(SAME)
        side = _side(wide, low, high)
        return Direction(OPPOSITE, HIGHER if side > 0 else LOWER) if side else Direction(UNDECIDED)
    side = _side(wide, rule.centre, rule.centre)
    if inside:
        return Direction(NO_EFFECT, NEGLIGIBLE if side else "")
    return Direction({rule.side: SAME, 0: UNDECIDED}.get(side, OPPOSITE))


def _side(ours: Interval, low: float, high: float) -> int:
    """1 for an interval above a range, -1 for one below it, 0 for one that meets it."""
    return int(ours.low > high) - int(ours.high < low)


def p_value(estimate: Estimate, rule: Rule) -> float:
    """Return the p value of the direction that an estimate gives, for a correction over claims.

    Of an effect it is the two-sided p of the null value; of an effect or its absence inside the
    margin the larger one of two one-sided tests; of what refutes equality the two-sided p of the
    nearest border of the margin. It is below `ALPHA` where the direction is decided.
    """
    word, (low, high) = direction(estimate, rule), rule.band
    if word.word == OPPOSITE and rule.claimed == "equal":
        return estimate.p_differs(high if word.detail == HIGHER else low)
    if word.word == NO_EFFECT or rule.claimed == "equal":
        return estimate.p_within(low, high)
    return estimate.p_differs(rule.centre)


def size(ours: Interval, rule: Rule) -> str | None:
    """Return how an effect of the claimed direction compares with the source's number.

    Args:
        ours: the 95 % interval.
        rule: with the source's number.

    Returns:
        "agrees" if the interval meets the number plus and minus the margin, or the source's own
        spread, and is narrower than twice the claimed effect, or than twice the margin if that is
        more; "imprecise" if it meets them and is wider; else "smaller" or "larger", by whether it
        lies on the null value's side of them. None if the source prints no number.
    """
    if rule.stated is None:
        return None
    ends = [*rule.around(rule.stated), *(rule.spread or ())]
    side = _side(ours, min(ends), max(ends))
    if side == 0:
        effect = max(abs(rule.effect), rule.length(rule.centre, rule.band[1]))
        return AGREES if rule.length(ours.low, ours.high) < 2 * effect else IMPRECISE
    return LARGER if side * rule.effect > 0 else SMALLER


@dataclass(frozen=True)
class Scale:
    """The scale of the runs in a word of `SCALES`, and what makes it less than the source's."""

    word: str
    detail: str = ""


@dataclass(frozen=True)
class Shares:
    """What a side of a comparison has of the source's training; more than all counts as all.

    Args:
        updates: below one only where the run was cut off: one that stopped by the source's rule
            has all of them.
        examples: training examples.
        width: of the network.
        data: the data set, if it is another one than the source's.
    """

    updates: float = 1.0
    examples: float = 1.0
    width: float = 1.0
    data: str = ""

    def __post_init__(self) -> None:
        if not all(share > 0 for share in (self.updates, self.examples, self.width)):
            raise ValueError(f"{self}: shares have to be above zero")


def scale(*arms: Shares, examples: str = "images", timing: bool = False) -> Scale:
    """Return the scale of the arms that are compared: of each share the smallest counts.

    Args:
        *arms: at least one.
        examples: what a training example is called, in the plural.
        timing: the claim is one of times, which are those of other hardware.

    Returns:
        "full" if all shares are nine tenths at least and the data are the source's; "toy" if one is
        below a tenth, or the data are others; else "reduced".
    """
    shares = {
        "updates": min(arm.updates for arm in arms),
        examples: min(arm.examples for arm in arms),
        "width": min(arm.width for arm in arms),
    }
    less = {name: share for name, share in shares.items() if share < ALL}
    others = list(dict.fromkeys(arm.data for arm in arms if arm.data))
    detail = ", ".join([*others, *(_share_text(name, share) for name, share in less.items())])
    if timing:
        return Scale(OTHER_HARDWARE, detail)
    if others or any(share < TOO_FEW for share in less.values()):
        return Scale(TOY, detail)
    return Scale(REDUCED if less else FULL, detail)


def _share_text(name: str, share: float) -> str:
    near = Fraction(share).limit_denominator(16)
    if name == "width" and abs(near - share) < 1e-6:
        return f"width {near}"
    percent = _short(number_text(100 * share, 100 * ALL, 100 * TOO_FEW, digits=2))
    return f"width {percent} %" if name == "width" else f"{percent} % of the {name}"


def not_run(done: int, needed: int, remedy: str = "", *, of: str = "seeds") -> Direction:
    """Return that there are fewer seeds than needed, with the command that runs them and its time.

    Args:
        done: seeds that are there.
        needed: seeds that the claim needs.
        remedy: the command and its time.
        of: what is counted.
    """
    return Direction(NOT_RUN, "; ".join(filter(None, (f"{done} of {needed} {of}", remedy))))


def not_testable(precondition: str) -> Direction:
    """Return that a precondition failed: which one, with its number."""
    return Direction(NOT_TESTABLE, precondition)


@dataclass(frozen=True)
class Verdict:
    """A verdict: direction, size and scale.

    Args:
        rule: of the claim.
        direction: that of one estimate, of several measures or parts, or after a correction.
        ours: the 95 % interval; None where there is no direction.
        p: the p value of the direction, for a correction over claims; 1 where there is none.
        scale: of the runs.
        part: of a claim of several parts, the one that decides.
    """

    rule: Rule
    direction: Direction
    ours: Interval | None = None
    p: float = 1.0
    scale: Scale | None = None
    part: str = ""

    @property
    def size(self) -> str | None:
        """The size of an effect of the same direction, where the source prints a number."""
        if self.ours is None or self.direction.word != SAME:
            return None
        return size(self.ours, self.rule)

    @property
    def words(self) -> str:
        """Return direction and size in words."""
        word, detail = self.direction.word, self.direction.detail
        if word in (NOT_RUN, NOT_TESTABLE):
            return word
        effect = self.rule.claimed != "equal" and word in (SAME, OPPOSITE)
        beside = "; ".join(filter(None, (detail, self.part)))
        head = f"{word} direction" if effect else word
        head += f" ({beside})" if beside else ""
        return head + (f", {self.size}" if self.size else "")

    def line(self, printed: str = "") -> str:
        """Return the line that a reader sees.

        Args:
            printed: the number as the source prints it; "": the rule's.
        """
        if self.direction.word in (NOT_RUN, NOT_TESTABLE):
            return ": ".join(filter(None, (self.words, self.part, self.direction.detail)))
        head = self.words
        if self.ours is not None:
            head += f": {interval_text(self.ours, self.rule)}"
            if self.rule.stated is not None:
                head += f" against {printed or _short(number_text(self.rule.stated))}"
        if self.scale is None:
            return head
        bracket = f" ({self.scale.detail})" if self.scale.detail else ""
        return f"{head} · {self.scale.word}{bracket}"


def judge(
    estimate: Estimate,
    rule: Rule,
    scale: Scale | None = None,
    *,
    needed: int = SEEDS,
    remedy: str = "",
    part: str = "",
) -> Verdict:
    """Return the verdict that one estimate gives.

    Args:
        estimate: of the statistic.
        rule: of the claim.
        scale: of the runs.
        needed: seeds, repeats or configurations of the estimate.
        remedy: of too few, the command that runs the others and its time.
        part: what it is called in a claim of several parts.
    """
    ours = estimate.interval(1 - ALPHA)
    if ours.n < needed:
        return Verdict(rule, not_run(ours.n, needed, remedy), part=part)
    found = direction(estimate, rule)
    return Verdict(rule, found, ours, p_value(estimate, rule), scale, part)


def over_measures(source: Verdict, others: Mapping[str, Direction]) -> Verdict:
    """Return the verdict over all registered measures, given that by the source's own.

    Where the source's says "same" and another one says "opposite" or "no effect", it depends on the
    measure; those that are undecided, or not there, do not count.

    Args:
        source: by the source's measure, whose interval and p value stay.
        others: the directions by the other measures' names.
    """
    against = [
        f"{name}: {other.word}"
        for name, other in others.items()
        if other.word in (OPPOSITE, NO_EFFECT)
    ]
    if source.direction.word != SAME or not against:
        return source
    return replace(source, direction=Direction(DEPENDS, ", ".join(against)))


def composite(parts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a claim of several parts, each of which has to be the same.

    A part that is opposite decides whatever the others say, then one without effect, then one that
    depends on the measure. Only then do parts count that are not there, or undecided.

    Returns:
        the verdict of the part that decides. Where all are the same it is the least sure one, whose
        p value is that of the whole. Where several decide against the claim it is the surest; its p
        value is multiplied by the number of parts, any of which could have decided.

    Raises:
        ValueError: if there are no parts.
    """
    if not parts:
        raise ValueError("parts = []: needed is at least one")
    word = min((part.direction.word for part in parts), key=PRECEDENCE.index)
    deciding = sorted((p for p in parts if p.direction.word == word), key=lambda p: p.p)
    if word == SAME:
        return deciding[-1]
    return replace(deciding[0], p=min(1.0, len(parts) * deciding[0].p))


def after_correction(verdict: Verdict, adjusted_p: float) -> Verdict:
    """Return the verdict on a primary claim, given its p value adjusted for their number."""
    if verdict.direction.word not in DECIDED or adjusted_p < ALPHA:
        return verdict
    return replace(verdict, direction=Direction(UNDECIDED_AFTER))


def interval_text(ours: Interval, rule: Rule) -> str:
    """Return an interval as text: estimate [low, high].

    The text shows on which side of a rule's borders the ends lie.
    """
    borders = [*rule.band] if rule.claimed == "equal" else [rule.centre]
    borders += [] if rule.stated is None else rule.around(rule.stated)
    low, high = (number_text(end, *borders) for end in (ours.low, ours.high))
    return f"{number_text(ours.mean)} [{low}, {high}]"


def number_text(value: float, *borders: float, digits: int = 3) -> str:
    """Return a number as text, without an exponent.

    It has three digits and all those before the point, or as many, up to six, as show on which side
    of the borders it lies. What is zero but for rounding is shown as zero.

    Args:
        value: may be infinite, or NaN.
        *borders: that it must not be rounded to or across.
        digits: the fewest.
    """
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) < 1e-9:
        return "0"
    while digits < 6 and any(
        _side_of(b, value) != _side_of(b, _rounded(value, digits)) for b in borders
    ):
        digits += 1
    exponent = math.floor(math.log10(abs(_rounded(value, digits))))
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}"


def _short(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")


def _side_of(border: float, value: float) -> int:
    return int(value > border) - int(value < border)
