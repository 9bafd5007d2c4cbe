"""Claims as data: what a source says, the registered rule that tests it, and its verdict."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bsglib import verdicts
from bsglib.stats import Estimate, Share, Signs, student, with_test_set
from bsglib.verdicts import NOT_RUN, NOT_TESTABLE, RANK_SEEDS, SEEDS, Direction, Rule, Shares

TIMING_REPEATS = 5  # from which times are judged
NOT_HERE = "not in this profile"  # of runs that no command computes
AS_WRITTEN, AS_RUN = "as written", "as run"  # a source's set-up, by its text and by its code
SUFFIX = "-as-run"  # of the id of the same claim, as run


@dataclass(frozen=True)
class Margin:
    """The smallest effect that would matter in one kind of quantity, and how it is estimated.

    Args:
        name: of the kind of quantity.
        size: in the quantity's unit; of ratios the factor, > 1.
        because: the reason.
        ratios: quantities are ratios.
        estimate: "mean" of a value per seed; "signs" of them, for rank correlations; "share" of
            the seeds whose value is above zero.
    """

    name: str
    size: float
    because: str
    ratios: bool = False
    estimate: Literal["mean", "signs", "share"] = "mean"

    @property
    def text(self) -> str:
        """Return the margin in words."""
        return f"a factor of {self.size:g}" if self.ratios else f"{self.size:g}"


@dataclass(frozen=True)
class Measured:
    """The statistic of a claim, one value per seed, or the reason for its absence.

    Args:
        values: one per seed, or repeat.
        seeds: of the values, where they have any.
        estimate: of a statistic that is not a mean over seeds.
        examples: of a difference of test accuracies or losses that at each test example, mean over
            seeds, in the same unit; empty where runs did not keep it.
        not_testable: the precondition that failed, with its number.
        not_run: what there is of the runs that it needs.
        note: on what the values exclude.
        others: by the other registered measures' names.
        parts: of a claim of several parts, each of which has to hold, by their names.
        shares: what each compared run has of the source's training.
        timing: the values are times, or contain them.
    """

    values: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    estimate: Estimate | None = None
    examples: tuple[float, ...] = field(default=(), repr=False)
    not_testable: str | None = None
    not_run: str | None = None
    note: str = ""
    others: Mapping[str, "Measured"] = field(default_factory=dict)
    parts: Mapping[str, "Measured"] = field(default_factory=dict)
    shares: tuple[Shares, ...] = field(default=(), repr=False)
    timing: bool = False


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of a source, in our words.

    Args:
        id: unique.
        figure: the report's figure or table that shows it.
        locator: where the source states it.
        statement: in our words.
        quantity: the statistic, with its unit.
        value: the source's number as printed, "-" if it gives none.
        kind: whether the source states it, the source asks it, or it is ours.
        reading: whether it is tested with the set-up that the source's text describes, or with the
            one that its code has, where they differ.
        primary: one of the about twelve over all studies whose p values are corrected.
        rule: registered before the runs.
        margin: of the rule.
        statistic: turns a study's results into `Measured`.
    """

    id: str
    figure: str
    locator: str
    statement: str
    quantity: str
    value: str = "-"
    kind: Literal["stated", "asked", "ours"] = "stated"
    reading: Literal["as written", "as run"] = AS_WRITTEN
    primary: bool = False
    rule: Rule
    margin: Margin
    statistic: Callable[..., Measured] = field(compare=False)

    @property
    def rule_text(self) -> str:
        """Return the rule in words."""
        claimed = {"equal": "equal to"}.get(self.rule.claimed, self.rule.claimed)
        stated = "" if self.rule.stated is None else f", stated {self.rule.stated:.4g}"
        return f"{claimed} {self.rule.centre:g}{stated}; margin {self.margin.text}"


@dataclass(frozen=True)
class Terms:
    """Under which terms a profile's claims are judged.

    Args:
        seeds: that a claim needs.
        primary: that a primary claim needs.
        remedy: the command that computes missing runs.
        examples: what a training example of the source is called, in the plural.
    """

    seeds: int = SEEDS
    primary: int = SEEDS
    remedy: str = ""
    examples: str = "images"


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict."""

    claim: Claim
    verdict: verdicts.Verdict
    note: str = ""
    other_reading: "Judged | None" = None  # as run of a claim as written, and the reverse
    adjusted_p: float | None = None  # by Holm, over the primary claims of all studies
    q: float | None = None  # false-discovery rate, over the study's other claims

    @property
    def word(self) -> str:
        """Return the direction in a word."""
        return self.verdict.direction.word

    @property
    def readings(self) -> str:
        """Return what both readings of the claim find, in words; "" unless both have a direction.

        Of a claim as written that its source's code bears out by another set-up this says so: "same
        direction as run; no effect as written".
        """
        both = [self, self.other_reading]
        if self.other_reading is None or any(one.word in (NOT_RUN, NOT_TESTABLE) for one in both):
            return ""
        both.sort(key=lambda one: one.claim.reading)
        return "; ".join(f"{one.verdict.words} {one.claim.reading}" for one in both)

    def row(self) -> dict[str, Any]:
        """Return the columns of the tables of claims."""
        claim, found = self.claim, self.verdict
        asks, ours, printed = claim.kind != "stated", found.ours, claim.value
        absent = found.direction.word in (NOT_RUN, NOT_TESTABLE)
        why = ": ".join(filter(None, (found.part, found.direction.detail)))
        numbers = {"p": found.p if ours else None, "adjusted p": self.adjusted_p, "q": self.q}
        return {
            "claim": claim.id,
            "statement": claim.statement,
            "figure": claim.figure,
            "locator": claim.locator,
            "quantity": claim.quantity,
            "kind": claim.kind,
            "reading": claim.reading,
            "primary": claim.primary,
            "paper": claim.kind if printed == "-" and asks else printed,
            "ours": "-" if ours is None else verdicts.interval_text(ours, found.rule),
            "n": 0 if ours is None else ours.n,
            "rule": claim.rule_text,
            "because": claim.margin.because,
            "verdict": found.direction.word,
            "size": found.size or "",
            "scale": "" if found.scale is None else found.scale.word,
            "shares": "" if found.scale is None else found.scale.detail,
            "words": found.words,
            "line": found.line("" if printed == "-" else printed),
            "readings": self.readings,
            "reason": "; ".join(filter(None, (why if absent else "", self.note))),
        } | {
            name: "" if p is None else verdicts.number_text(p, 0.05) for name, p in numbers.items()
        }


def verdict(claim: Claim, measured: Measured, terms: Terms | None = None) -> Judged:
    """Return a claim's verdict, without a correction for the number of claims.

    Args:
        claim: with its rule.
        measured: its statistic.
        terms: of the profile; None: the usual numbers of seeds.
    """
    terms = terms or Terms()
    found = _verdict(claim, measured, terms)
    deciding = measured.parts.get(found.part, measured)
    notes = dict.fromkeys(filter(None, (measured.note, deciding.note)))
    return Judged(claim, found, "; ".join(notes))


def _verdict(claim: Claim, measured: Measured, terms: Terms, part: str = "") -> verdicts.Verdict:
    if measured.parts:
        return verdicts.composite(
            [_verdict(claim, one, terms, name) for name, one in measured.parts.items()]
        )
    rule, absent = claim.rule, _absent(claim, measured, terms)
    if absent is not None:
        return verdicts.Verdict(rule, absent, part=part)
    scale = None
    if measured.shares or measured.timing:
        shares = measured.shares or (Shares(),)
        scale = verdicts.scale(*shares, examples=terms.examples, timing=measured.timing)
    repeats = measured.timing and not measured.seeds  # which `Timed` counts
    needed = 1 if measured.estimate or repeats else _needed(claim, terms)
    estimate = estimate_of(claim.margin, measured)
    found = verdicts.judge(estimate, rule, scale, needed=needed, remedy=terms.remedy, part=part)
    others = {
        name: verdicts.direction(estimate_of(claim.margin, one), rule)
        for name, one in measured.others.items()
        if _absent(claim, one, terms) is None
    }
    return verdicts.over_measures(found, others)


def _needed(claim: Claim, terms: Terms) -> int:
    seeds = terms.primary if claim.primary else terms.seeds
    return max(seeds, RANK_SEEDS) if claim.margin.estimate == "signs" else seeds


def _absent(claim: Claim, measured: Measured, terms: Terms) -> Direction | None:
    """Why there is no direction, None if there is one."""
    if why := measured.not_run:
        remedy = "" if why.endswith(NOT_HERE) else terms.remedy
        return Direction(NOT_RUN, "; ".join(filter(None, (why, remedy))))
    seeds, there = terms.primary if claim.primary else terms.seeds, len(measured.seeds)
    if (measured.not_testable or measured.estimate) and 0 < there < seeds:
        return verdicts.not_run(there, seeds, terms.remedy)  # too few for gates and orders, too
    if measured.not_testable:
        return verdicts.not_testable(measured.not_testable)
    if not (measured.values or measured.estimate):
        return verdicts.not_run(0, _needed(claim, terms), terms.remedy)
    if bad := sum(not math.isfinite(value) for value in measured.values):
        return verdicts.not_testable(f"{bad} values are not finite")
    if claim.rule.ratios and min(measured.values, default=1) <= 0:
        return verdicts.not_testable("a ratio is not above zero")
    return None


def estimate_of(margin: Margin, measured: Measured) -> Estimate:
    """Return the estimate that judges a statistic: its own, or that of its kind of quantity."""
    if measured.estimate is not None:
        return measured.estimate
    values = measured.values
    if margin.estimate == "share":
        return Share(sum(value > 0 for value in values), len(values))
    if margin.estimate == "signs":
        return Signs(tuple(values))
    if measured.examples:
        return with_test_set(values, measured.examples)
    return student(values, ratios=margin.ratios)


def with_readings(judged: Sequence[Judged]) -> list[Judged]:
    """Return verdicts, those of a claim's two readings with each other."""
    by_id = {one.claim.id: one for one in judged}
    others = {i: f"{i}{SUFFIX}" for i in by_id if f"{i}{SUFFIX}" in by_id}
    others |= {run: written for written, run in others.items()}
    return [replace(one, other_reading=by_id.get(others.get(one.claim.id, ""))) for one in judged]


def corrected(judged: Sequence[Judged], adjusted: Mapping[str, float]) -> list[Judged]:
    """Return verdicts with what is printed of a correction for the number of claims.

    Args:
        judged: the verdicts of a study.
        adjusted: p values of the primary claims by id, adjusted by Holm over all studies; of none
            where the profile does not correct.

    Returns:
        the same verdicts: the primary ones after the correction, the others with their q.
    """
    from bsglib.stats import false_discovery

    tested = [one for one in judged if one.verdict.ours and one.claim.id not in adjusted]
    q = false_discovery([one.verdict.p for one in tested]) if tested else ()
    rates = {one.claim.id: float(value) for one, value in zip(tested, q, strict=True)}
    found = []
    for one in judged:
        if (p := adjusted.get(one.claim.id)) is not None:
            after = verdicts.after_correction(one.verdict, p)
            found.append(replace(one, verdict=after, adjusted_p=p))
        else:
            found.append(replace(one, q=rates.get(one.claim.id)))
    return found
