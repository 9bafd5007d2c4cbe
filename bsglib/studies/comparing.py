"""The parts that claims share: the runs they compare, the gates on these runs, values by seed.

A claim's statistic is a `Comparison` of runs, a `Timed` of seconds per epoch, or `Parts` of these.
All first report missing runs, then the first gate that fails. Only then do they reduce the runs to
a value per seed, of those seeds that have all the runs.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from bsglib.claims import NOT_HERE, TIMING_REPEATS, Measured
from bsglib.runs.outcomes import Outcomes
from bsglib.stats import PERCENT, student
from bsglib.studies.study import Results, matching
from bsglib.studies.tables import of_common_seeds
from bsglib.verdicts import OPPOSITE, SAME, Rule, judge

WORDS = {"batch_size": "B", "base_lr": "learning rate"}  # of columns across which values stand
Table = pd.DataFrame  # [seed, batch size] of one column
Sizes = Callable[[Any], Collection[int]]  # of a study's parameters
Choice = Callable[[pd.DataFrame], pd.DataFrame]  # of runs, some of them


@dataclass(frozen=True)
class Side:
    """The runs on one side of a comparison: those with some labels, at some batch sizes."""

    where: tuple[tuple[str, Any], ...]
    sizes: tuple[int, ...] | Sizes | None = None  # None: all
    choose: Choice | None = None  # the runs among these that are compared; None: all

    def of(self, results: Results) -> pd.DataFrame:
        """Return the computed runs that are compared."""
        runs = self.computed(results)
        return runs if self.choose is None or runs.empty else self.choose(runs)

    def computed(self, results: Results) -> pd.DataFrame:
        """Return its computed runs, selected or not."""
        return self._among(results.runs, results)

    def designed(self, results: Results) -> pd.DataFrame:
        """Return its rows of the design."""
        return self._among(results.design, results)

    def left_out(self, results: Results) -> pd.DataFrame:
        """Return its rows of the design that are excluded because their data are not available."""
        return self._among(results.left_out, results)

    def batch_sizes(self, results: Results) -> list[int]:
        """Return its batch sizes, by default those of its design."""
        if self.sizes is None:
            return sorted(self.designed(results)["batch_size"].unique())
        return list(self.sizes(results.parameters) if callable(self.sizes) else self.sizes)

    def at(self, sizes: Sequence[int] | Sizes) -> "Side":
        """Return the side at other batch sizes."""
        return replace(self, sizes=sizes if callable(sizes) else tuple(sizes))

    def having(self, column: str, values: Sequence[Any]) -> "Side":
        """Return the side at some values of a column."""
        if column == "batch_size":
            return self.at(values)
        return replace(self, where=(*self.where, (column, tuple(values))))

    def _among(self, rows: pd.DataFrame, results: Results) -> pd.DataFrame:
        sizes = {} if self.sizes is None else {"batch_size": self.batch_sizes(results)}
        return matching(rows, **dict(self.where), **sizes)

    def __str__(self) -> str:
        def words(name: str, value: Any) -> str:
            if isinstance(value, bool):
                return name if value else f"no {name}"
            return " or ".join(map(str, value)) if isinstance(value, tuple) else str(value)

        return ", ".join(words(*label) for label in self.where)


def side(
    sizes: Sequence[int] | Sizes | None = None, *, choose: Choice | None = None, **where: Any
) -> Side:
    """Return a side of a comparison.

    Args:
        sizes: batch sizes, or a function of a study's parameters; None: all.
        choose: selects the compared runs, such as those at the best rate; None: all.
        **where: labels of the runs, each a value or a tuple of values.
    """
    every = Side(tuple(where.items()), choose=choose)
    return every if sizes is None else every.at(sizes)


class HasBatchSizes(Protocol):
    """Parameters of a study that has the same batch sizes throughout."""

    @property
    def batch_sizes(self) -> list[int]:
        """Return all of them."""


def ends(p: HasBatchSizes) -> tuple[int, int]:
    """Return the smallest and the largest batch size."""
    return min(p.batch_sizes), max(p.batch_sizes)


def smallest(p: HasBatchSizes) -> tuple[int]:
    """Return the smallest batch size alone."""
    return ends(p)[:1]


def largest(p: HasBatchSizes) -> tuple[int]:
    """Return the largest batch size alone."""
    return ends(p)[1:]


# ------------------------------------------------------------- gates on runs

Check = Callable[[pd.DataFrame], str | None]  # of runs: why they do not test the claim
Gate = Callable[[Results, Sequence[Side]], str | None]
Derive = Callable[[Results, pd.DataFrame], pd.DataFrame]  # adds columns to runs
ENOUGH = 0.9  # training accuracy of what counts as a minimum although no rule stopped the run
TWICE = 2  # times chance: a training accuracy that shows that something was learned
OWN_STOPS = ("patience", "target_loss")  # by a rule of the source's


def absence(results: Results, *sides: Side) -> str | None:
    """Return what is missing of some sides, None if one seed at least has all of their runs."""
    for one in sides:
        planned = one.designed(results)
        sizes = one.batch_sizes(results)
        if planned.empty and len(left_out := one.left_out(results)):
            dataset = left_out["dataset"].iloc[0]
            return f"{one}: {dataset} is not available; `bsg data {dataset}` fetches it"
        if planned.empty and not sizes:
            return f"{one}: {NOT_HERE}"
        if missing := sorted(set(sizes) - set(planned["batch_size"] if len(planned) else ())):
            return f"{one}, B = {missing[0]}: {NOT_HERE}"
    if not sides or complete_seeds(results, *sides):
        return None
    planned, there = _planned(results, sides)
    names = ", ".join(dict.fromkeys(planned["arm"]))
    return f"{len(there)} of {len(planned)} runs computed: {names}"


def complete_seeds(results: Results, *sides: Side) -> list[int]:
    """Return the seeds that have all runs of some sides that the design gives them."""
    planned, there = _planned(results, sides)
    has = set(zip(there["entry"], there["arm"], strict=True)) if len(there) else set()
    is_there = [key in has for key in zip(planned["entry"], planned["arm"], strict=True)]
    whole = pd.Series(is_there, planned.index).groupby(planned["seed"]).all()
    return sorted(whole.index[whole])


def _planned(results: Results, sides: Sequence[Side]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The designed and the computed runs of some sides."""
    pairs = zip(*((s.designed(results), s.computed(results)) for s in sides), strict=True)
    planned, there = (pd.concat(tables) for tables in pairs)
    keys = ["entry", "arm"]
    return planned.drop_duplicates(keys), there.drop_duplicates(keys) if len(there) else there


def as_they_are(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs without another column."""
    return runs


def no_note(results: Results) -> str:
    """Return no note."""
    return ""


@dataclass(frozen=True)
class Of:
    """A gate that checks runs of several sides together: all sides or the `first` ones, at `sizes`.

    `derive` adds columns to the runs.
    """

    check: Check
    first: int | None = None
    sizes: tuple[int, ...] | Sizes | None = None
    derive: Derive = as_they_are

    def __call__(self, results: Results, sides: Sequence[Side]) -> str | None:
        """Return why the runs do not test the claim, None if they do."""
        asked = [one if self.sizes is None else one.at(self.sizes) for one in sides[: self.first]]
        if not asked:
            return None
        runs = pd.concat(one.of(results) for one in asked)
        return self.check(self.derive(results, runs.drop_duplicates(["entry", "arm"])))


def diverged(runs: pd.DataFrame) -> str | None:
    """Return which run diverged, None if none did."""
    gone = runs[runs["stopped"] == "diverged"]
    return f"{run_name(gone.iloc[0])}: diverged" if len(gone) else None


def learned(runs: pd.DataFrame) -> str | None:
    """Return which run diverged or is near chance on its training set, None if none is."""
    if why := diverged(runs):
        return why
    chance = runs[~(runs["train_accuracy"] >= TWICE / runs["classes"])]
    if chance.empty:
        return None
    run = chance.iloc[0]
    reached = f"training accuracy {PERCENT * run['train_accuracy']:.0f} %"
    return f"{run_name(run)}: {reached}, as by chance"


def cut_off(runs: pd.DataFrame) -> str | None:
    """Return which run still improved at its last epoch, None if none did."""
    improving = runs[runs["stopped"] == "epochs"]
    if improving.empty:
        return None
    return f"{run_name(improving.iloc[0])}: still improving at the last epoch"


@dataclass(frozen=True)
class Trained:
    """A check that no run diverged, and that all reached a minimum.

    A minimum is where the source's own rule stopped a run, by its patience or at its target loss,
    or where the training accuracy is high enough.
    """

    accuracy: float = ENOUGH

    def __call__(self, runs: pd.DataFrame) -> str | None:
        """Return the result of the worst run, None if all are trained."""
        if why := diverged(runs):
            return why
        ended = runs["stopped"].isin(OWN_STOPS)
        runs = runs[~ended & ~(runs["train_accuracy"] >= self.accuracy)]
        if runs.empty:
            return None
        worst = runs.loc[runs["train_accuracy"].fillna(0).idxmin()]
        reached, needed = PERCENT * worst["train_accuracy"], PERCENT * self.accuracy
        reached = f"training accuracy {reached:.0f} %, {needed:.0f} % needed"
        return f"{run_name(worst)}, cut off after {worst['updates']:.0f} updates: {reached}"


def run_name(run: pd.Series) -> str:
    """Return the name of a run, for a reason."""
    return f"{run['arm']}, B = {run['batch_size']}, learning rate {run['base_lr']:g}"


# ------------------------------------------------------------- from runs to values by seed


@dataclass(frozen=True)
class Comparison:
    """A claim's statistic: values by seed, of seeds that have all runs, if these pass the gates.

    Args:
        by: reduces a table [seed, batch size] of the column per side to a value per seed; without
            a column, it takes the results.
        sides: the required runs.
        column: of the runs, or one that `derive` adds; of several the first that all runs have.
        others: columns of the other registered measures by their names.
        across: the column of the runs that replaces the batch size in the tables.
        gates: return why the runs do not test the claim.
        leave_out: a gate on each value of `across` alone; those that fail are excluded, and the
            note names the others.
        derive: adds columns to runs.
        note: of the results, on what the values exclude.
        timing: the values contain times.
    """

    by: Callable[..., "Measured | pd.Series"]
    sides: tuple[Side, ...]
    column: str | tuple[str, ...] | None = None
    others: tuple[tuple[str, str], ...] = ()
    across: str = "batch_size"
    gates: tuple[Gate, ...] = ()
    leave_out: Gate | None = None
    derive: Derive = as_they_are
    note: Callable[[Results], str] = no_note
    timing: bool = False

    def __call__(self, results: Results) -> Measured:
        """Return the values, or the reason for their absence."""
        if why := absence(results, *self.sides):
            return Measured(not_run=why)
        for control in (gate for gate in self.gates if isinstance(gate, Control)):
            if why := control.missing(results):
                return Measured(not_run=why)
        whole = tuple(complete_seeds(results, *self.sides)) if self.sides else ()
        results = results.of_seeds(whole) if self.sides else results
        sides, note = self.sides, self.note(results)
        if self.leave_out is not None:
            kept, left_out, why = self._fit(results)
            if not kept:
                return Measured(not_testable=why, seeds=whole)
            sides = tuple(one.having(self.across, kept) for one in sides)
            if left_out:
                only = f"only {WORDS.get(self.across, self.across)} = "
                only += f"{', '.join(f'{value:g}' for value in kept)} ({why})"
                note = "; ".join(filter(None, (only, note)))
        column = self._column(results, sides)
        if column and column not in self.derive(results, _joined(results, sides)):
            return Measured(not_run=f"{column}: {NOT_HERE}")
        for gate in self.gates:
            if why := gate(results, sides):
                return Measured(not_testable=why, seeds=whole)
        found = self.by(*self.tables(results, sides, column)) if column else self.by(results)
        if not isinstance(found, Measured):
            seeds = tuple(found.index) if isinstance(found, pd.Series) else ()
            examples = self._examples(results, sides, column, seeds)
            found = Measured(tuple(found), seeds, note=note, examples=examples)
        others = {name: self._by_other(results, sides, other) for name, other in self.others}
        others = {name: other for name, other in others.items() if other is not None}
        shares = tuple(results.study.shares(results, _joined(results, sides)))
        others = dict(found.others) | others
        parts = {
            name: replace(part, shares=shares, timing=self.timing)
            for name, part in found.parts.items()
        }
        return replace(found, others=others, parts=parts, shares=shares, timing=self.timing)

    def compared(self, results: Results) -> tuple[Side, ...]:
        """Return the sides at the values of `across` that are not left out."""
        if self.leave_out is None:
            return self.sides
        kept = self._fit(results)[0]
        return tuple(one.having(self.across, kept) for one in self.sides)

    def in_profile(self, results: Results) -> bool:
        """Return whether the profile has runs of every side, computed or not."""
        return all(len(s.designed(results)) or len(s.left_out(results)) for s in self.sides)

    def tables(self, results: Results, sides: Sequence[Side], column: str) -> list[Table]:
        """Return a column of each side [seed, batch size], for the seeds that all sides share."""
        tables = []
        for one in sides:
            runs = self.derive(results, of_common_seeds(one.of(results), self.across))
            tables.append(runs.pivot(index="seed", columns=self.across, values=column))
        seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
        return [table.loc[seeds] for table in tables]

    def _column(self, results: Results, sides: Sequence[Side]) -> str | None:
        """The first of the columns that all runs have, else the last."""
        if not isinstance(self.column, tuple):
            return self.column
        runs = self.derive(results, _joined(results, sides))
        return next((c for c in self.column if _has(runs, c)), self.column[-1])

    def _by_other(self, results: Results, sides: Sequence[Side], column: str) -> Measured | None:
        """The values by another measure, None where a run does not have it."""
        if not _has(self.derive(results, _joined(results, sides)), column):
            return None
        found = self.by(*self.tables(results, sides, column))
        return found if isinstance(found, Measured) else Measured(tuple(found))

    def _examples(self, results, sides, column: str | None, seeds: Sequence[int]) -> tuple:
        """The difference at each test example, mean over seeds; none if a run did not keep them."""
        kind = TESTED.get(column)
        if kind is None or self.by not in LINEAR or results.outcomes.empty:
            return ()
        kept = _kept_by_run(results)
        tables = []
        for one in sides:
            runs = of_common_seeds(one.of(results), self.across)
            runs = runs[runs["seed"].isin(seeds)]
            each = [_at_each_example(kept, run, kind) for run in runs.itertuples()]
            if any(found is None for found in each):
                return ()
            by_run = pd.DataFrame(np.stack(each), index=runs[self.across])
            tables.append(by_run.groupby(level=0).mean().T)
        return tuple(self.by(*tables))

    def _fit(self, results: Results) -> tuple[list[Any], list[Any], str]:
        """The values of `across` that pass, the excluded ones, and the first reason."""
        if self.across == "batch_size":
            values = self.sides[0].batch_sizes(results)
        else:
            shared = (set(one.designed(results)[self.across]) for one in self.sides)
            values = sorted(set.intersection(*shared))
        reasons = {}
        for value in values:
            at = [one.having(self.across, [value]) for one in self.sides]
            if why := self.leave_out(results, at):
                reasons[value] = why
        kept = [value for value in values if value not in reasons]
        return kept, list(reasons), next(iter(reasons.values()), "no value is shared")


STATE = ["run_id", "epochs"]  # what several entries may share: a run, and how long it had trained


def _kept_by_run(results: Results) -> Table:
    """What runs make of test examples, by run and epochs: entries of the same state share it."""
    keys = ["entry", "arm"]
    runs = results.runs[[*keys, *STATE]]
    kept = results.outcomes.drop(columns=STATE, errors="ignore").merge(runs, on=keys)
    return kept.drop_duplicates(STATE).set_index(STATE)


def _at_each_example(kept: Table, run: Any, kind: str) -> np.ndarray | None:
    """What a run makes of every test example, None if it did not keep it."""
    key = run.run_id, run.epochs
    if key in kept.index:
        found = Outcomes.unpacked(*kept.loc[key, ["n", "correct", "loss"]])
        return getattr(found, kind).astype(float)
    if kind == "correct" and run.stopped == "diverged":  # keeps nothing, and is right by chance
        return np.full(kept["n"].iloc[0], 1 / run.classes)
    return None


def _joined(results: Results, sides: Sequence[Side]) -> pd.DataFrame:
    """The compared runs of some sides, each once."""
    if not sides:
        return results.runs.iloc[:0]
    return pd.concat(one.of(results) for one in sides).drop_duplicates(["entry", "arm"])


def _has(runs: pd.DataFrame, column: str) -> bool:
    """Whether all runs have a number in a column."""
    return column in runs and len(runs) > 0 and bool(runs[column].notna().all())


@dataclass(frozen=True)
class Parts:
    """A claim of several parts, each of which has to hold: a statistic by name."""

    of: tuple[tuple[str, "Comparison | Timed"], ...]

    def __call__(self, results: Results) -> Measured:
        """Return the parts' values."""
        return Measured(parts={name: one(results) for name, one in self.of})

    def in_profile(self, results: Results) -> bool:
        """Return whether the profile has runs of every part, computed or not."""
        return all(one.in_profile(results) for _, one in self.of if isinstance(one, Comparison))


@dataclass(frozen=True)
class Control:
    """A gate: an effect that has to appear where the profile has runs that show it.

    Args:
        says: what has to appear.
        comparison: of the control's runs.
        rule: of the effect; one of equality has to be refuted, by an effect of either sign.
    """

    says: str
    comparison: Comparison
    rule: Rule

    def missing(self, results: Results) -> str | None:
        """Return what there is of its runs, None if enough of what the profile has."""
        if not self.comparison.in_profile(results):
            return None
        why = absence(results, *self.comparison.sides)
        return f"positive control, {self.says}: {why}" if why else None

    def __call__(self, results: Results, sides: Sequence[Side]) -> str | None:
        """Return why claims of its kind are not judged, None if they are."""
        if not self.comparison.in_profile(results):
            return None
        found = self.comparison(results)
        if why := found.not_run or found.not_testable:
            return f"positive control, {self.says}: {why}"
        values, ratios = np.array(found.values), self.rule.ratios
        if not np.isfinite(values).all() or (ratios and (values <= 0).any()):
            return f"positive control, {self.says}: values of {', '.join(map(str, values))}"
        shown = judge(student(values, ratios=ratios), self.rule, needed=2)
        wanted = OPPOSITE if self.rule.claimed == "equal" else SAME
        if shown.direction.word == wanted:
            return None
        return f"positive control, {self.says}: {shown.line()}"


def ratio(a: Table, b: Table) -> pd.Series:
    """Return a / b, each a geometric mean over its batch sizes."""
    return np.exp(np.log(a).mean(axis=1, skipna=False) - np.log(b).mean(axis=1, skipna=False))


def difference(a: Table, b: Table) -> pd.Series:
    """Return a - b, mean over batch sizes."""
    return (a - b).mean(axis=1)


def points(a: Table, b: Table) -> pd.Series:
    """Return a - b in percentage points, each a mean over its batch sizes."""
    return PERCENT * (a.mean(axis=1) - b.mean(axis=1))


def percent(table: Table) -> pd.Series:
    """Return the mean over batch sizes in per cent."""
    return PERCENT * table.mean(axis=1)


def last_over_first(table: Table) -> pd.Series:
    """Return the value at the largest batch size over that at the smallest."""
    return table[max(table.columns)] / table[min(table.columns)]


def last_minus_first(table: Table) -> pd.Series:
    """Return the value at the largest batch size minus that at the smallest."""
    return table[max(table.columns)] - table[min(table.columns)]


def points_last_minus_first(table: Table) -> pd.Series:
    """Return the largest batch's value minus the smallest's in percentage points."""
    return PERCENT * last_minus_first(table)


def rises(line: pd.DataFrame, step: float) -> Table:
    """Return how far a loss rises around each end of a line, [seed, end 0 or 1].

    The mean of the losses a step to either side of an end, minus that at the end.

    Args:
        line: rows with seed, alpha and loss.
        step: of alpha.
    """
    line = line.assign(alpha=line["alpha"].round(9))
    table = line.pivot(index="seed", columns="alpha", values="loss")
    around = {end: (table[end - step] + table[end + step]) / 2 for end in (0.0, 1.0)}
    return pd.DataFrame({end: mean - table[end] for end, mean in around.items()})


TESTED = {  # columns: fields of `Outcomes`, which are those of the last epoch
    "test_accuracy": "correct",
    "final": "correct",  # the same, or chance
    "peak": "correct",  # the highest along a run: about as many examples decide
    "peak_as_run": "correct",
    # training minus test accuracy, whose sign does not matter for a variance
    "accuracy_gap": "correct",
    "test_loss": "loss",
}
LINEAR = (difference, points, percent, last_minus_first, points_last_minus_first)


# ------------------------------------------------------------- times


@dataclass(frozen=True)
class Timed:
    """A claim's statistic of seconds per epoch: a value per repeat, given enough repeats.

    Args:
        by: reduces a table [repeat, batch size] per condition to a value per repeat.
        conditions: columns and values of the timings that distinguish conditions.
        sizes: the required batch sizes.
    """

    by: Callable[..., pd.Series]
    conditions: tuple[Mapping[str, Any], ...] = ({},)
    sizes: tuple[int, ...] = ()

    def __call__(self, results: Results) -> Measured:
        """Return the values, or the reason for their absence."""
        if why := untimed(results):
            return Measured(not_run=why)
        tables = [seconds(results, **condition) for condition in self.conditions]
        if missing := [b for b in self.sizes if b not in tables[0]]:
            return Measured(not_run=f"times, B = {missing[0]}: {NOT_HERE}")
        return Measured(tuple(self.by(*tables)), note="n counts repeats", timing=True)


def untimed(results: Results, **condition: Any) -> str | None:
    """Return the number of timings if it is too small, else None."""
    repeats = len(seconds(results, **condition))
    return f"{repeats} timings, {TIMING_REPEATS} needed" if repeats < TIMING_REPEATS else None


def seconds(results: Results, **condition: Any) -> pd.DataFrame:
    """Return seconds per epoch [repeat, batch size] under a condition."""
    times = matching(results.timings, **condition)
    if times.empty:
        return pd.DataFrame()
    return times.pivot_table("seconds", "repeat", "batch_size")
