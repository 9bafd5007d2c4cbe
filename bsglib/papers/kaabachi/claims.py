"""What Kaabachi et al. state, the statistic that tests it, and the rule that judges it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bsglib.claims import MIN_SEEDS, TIMING_REPEATS, Claim, Measured, about, above, below, between
from bsglib.papers import Results
from bsglib.papers.kaabachi import published
from bsglib.papers.kaabachi.protocol import (
    COLD,
    EXPONENTIAL,
    LARGE,
    LENGTHS,
    LINEAR,
    LOCAL,
    SMALL,
    SQRT,
    WARM,
    KaabachiParameters,
    epochs_of,
    rate_arms,
    reference,
)
from bsglib.papers.kaabachi.readings import JUMP, LEARNED, by_warmup_length, read_off
from bsglib.papers.tables import rank_with_batch_size, tuned
from bsglib.stats import PERCENT, kendall, share

MIN_UPDATES = 50  # from which a run says something about a rate
MIN_WARMUP_UPDATES = 10  # from which a warm-up is one
ENOUGH = 0.1  # of the source's updates: an event that was not seen counts as absent from there
SIMILAR = 2.0  # percentage points
AS_FAST = 1.1  # times the other's time

# ------------------------------------------------------------- statistics: one value per seed

Statistic = Callable[[Results], Measured]
Table = pd.DataFrame  # [seed, batch size]
Sizes = Callable[[KaabachiParameters], Sequence[int]]


def exactly(*sizes: int) -> Sizes:
    """Return the batch sizes themselves, whatever the profile has."""
    return lambda p: sizes


def those_of(*sizes: int) -> Sizes:
    """Return the batch sizes that the profile has of some."""
    return lambda p: [b for b in sizes if b in (*p.small_batches, *p.large_batches)]


def all_small(p: KaabachiParameters) -> Sequence[int]:
    """Return the profile's small batch sizes."""
    return p.small_batches


def all_large(p: KaabachiParameters) -> Sequence[int]:
    """Return the profile's large batch sizes."""
    return p.large_batches


def largest(p: KaabachiParameters) -> Sequence[int]:
    """Return the profile's largest batch size."""
    return (max(p.large_batches),)


@dataclass(frozen=True)
class Need:
    """Runs that a claim compares: an arm at some batch sizes."""

    arm: str
    sizes: Sizes


def sizes_of(p: KaabachiParameters, arm: str) -> Sequence[int]:
    """Return the batch sizes of an arm."""
    if arm == SMALL:
        return p.small_batches
    if arm == LENGTHS:
        return largest(p)
    if arm == LOCAL:
        return (max(p.large_batches) // p.local_workers,)
    return p.large_batches


def _absence(results: Results, *needs: Need) -> str | None:
    """Return why some runs cannot be judged, None if all are there and were trained enough."""
    p, runs = results.parameters, results.runs
    for need in needs:
        sizes = need.sizes(p)
        if not len(sizes):
            return f"{need.arm}: none of its batch sizes is in this profile"
        for size in sizes:
            where = f"{need.arm}, B = {size}"
            designed = results.planned[need.arm] // len(sizes_of(p, need.arm))
            if size not in sizes_of(p, need.arm) or not designed:
                return f"{where}: not in this profile"
            mine = runs[(runs["arm"] == need.arm) & (runs["batch_size"] == size)]
            if len(mine) < designed:
                return f"{where}: {len(mine)} of {designed} runs"
            updates = mine.loc[mine["stopped"] != "diverged", "updates"].min()
            if updates < MIN_UPDATES:
                return f"{where}: {updates:.0f} updates, {MIN_UPDATES} needed"
            warm = warmup_updates(mine).min()
            if need.arm in WARM.values() and warm < MIN_WARMUP_UPDATES:
                return f"{where}: {warm} updates of warm-up, {MIN_WARMUP_UPDATES} needed"
    return None


def per_epoch(runs: pd.DataFrame) -> pd.Series:
    """Return how many updates an epoch of each run has."""
    return np.ceil(runs["train_size"] / (runs["batch_size"] * runs["local_workers"]))


def warmup_updates(runs: pd.DataFrame) -> pd.Series:
    """Return over how many updates each run warms up."""
    return (runs["warmup_epochs"] * per_epoch(runs)).round().astype(int)


def _compare(
    by: Callable[..., pd.Series],
    *needs: Need,
    column: str,
    learned: int | None = None,
    settled: bool = False,
) -> Statistic:
    """Return a statistic made of a column of some runs.

    Args:
        by: takes a table [seed, batch size] per need and returns a value per seed.
        *needs: what is compared.
        column: of the runs, or one that `read_off` adds.
        learned: not testable unless one of so many first needs learned something; None: of all.
        settled: not testable if a run still rose when it ended.
    """

    def statistic(results: Results) -> Measured:
        if why := _absence(results, *needs) or _unlearned(results, *needs[:learned]):
            return Measured(not_testable=why)
        if settled and (why := _rising(results, *needs)):
            return Measured(not_testable=why)
        values = by(*(_table(results, need, column) for need in needs))
        if values.isna().any():
            seeds = f"{values.isna().sum()} of {len(values)} seeds"
            return Measured(not_testable=f"{seeds} never got there")
        return Measured(tuple(values), note=_sizes_of(results, *needs))

    return statistic


def _sizes_of(results: Results, *needs: Need) -> str:
    sizes = dict.fromkeys(size for need in needs for size in need.sizes(results.parameters))
    return f"B = {', '.join(map(str, sizes))}"


def _table(results: Results, need: Need, column: str, targets: pd.Series | None = None) -> Table:
    runs = read_off(results, need.arm, columns=(column,), targets=targets)
    table = runs.pivot(index="seed", columns="batch_size", values=column)
    return table[list(need.sizes(results.parameters))].sort_index()


def _unlearned(results: Results, *needs: Need) -> str | None:
    """Return what the best of the runs reached, None if one has learned or nothing was asked."""
    if not needs:
        return None
    best = 0.0
    for need in needs:
        runs = read_off(results, need.arm, columns=("peak",))
        runs = runs[runs["batch_size"].isin(need.sizes(results.parameters))]
        best, chance = max(best, runs["peak"].mean()), 1 / runs["classes"].iloc[0]
    if best >= LEARNED * chance:
        return None
    return f"accuracy {PERCENT * best:.0f} % at best, {PERCENT * LEARNED * chance:.0f} % needed"


def _rising(results: Results, *needs: Need) -> str | None:
    """Return of which need a run reached its own accuracy only as it was ended."""
    for need in needs:
        table = _table(results, need, "rising")
        if table.to_numpy().any():
            return f"{need.arm}, B = {', '.join(map(str, table))}: still rising at the end"
    return None


def _points_gained(a: Table, b: Table) -> pd.Series:
    """Return a - b in percentage points, each a mean over its batch sizes."""
    return PERCENT * (a.mean(axis=1) - b.mean(axis=1))


def _first_minus_best_other(first: Table, *others: Table) -> pd.Series:
    return PERCENT * (first.mean(axis=1) - pd.concat(others, axis=1).max(axis=1))


def _ratio(a: Table, b: Table) -> pd.Series:
    """Return a / b, each a geometric mean over its batch sizes."""
    return np.exp(np.log(a).mean(axis=1, skipna=False) - np.log(b).mean(axis=1, skipna=False))


# A time to an accuracy may be open: the run ended before, or its own accuracy still rose then. What
# is known is a bound, which may support a claim or refute it, not both.

Costs = Callable[[Results], "pd.Series | str"]  # of an epoch by batch size, or why there are none
Times = tuple[pd.Series, pd.Series]  # by seed: an epoch count or a cost, and whether it is open
OPEN = {"target_epochs": "never got there", "own_epochs": "still rose at the end, or never learned"}


def fastest(times: Table, is_open: Table) -> Times:
    """Return the shortest time of each seed."""
    first = times.idxmin(axis=1)
    opened = [is_open.loc[seed, size] for seed, size in first.items()]
    return times.min(axis=1), pd.Series(opened, times.index)


def typical(times: Table, is_open: Table) -> Times:
    """Return the geometric mean over the batch sizes."""
    return np.exp(np.log(times).mean(axis=1)), is_open.any(axis=1)


def _sooner(
    a: Sequence[Need],
    b: Sequence[Need],
    *,
    column: str,
    by: Callable[[Table, Table], Times],
    costs: Costs | None = None,
    border: float = 1.0,
    targets: Callable[..., pd.Series] | None = None,
) -> Statistic:
    """Return the statistic: time of some runs to an accuracy over that of others.

    Args:
        a, b: the two sides.
        column: "target_epochs", to the target, or "own_epochs", to the own accuracy.
        by: of each side's tables [seed, batch size].
        costs: of an epoch; None: times are epochs.
        border: of the claim's rule, on one side of which a bound has to lie.
        targets: of the results and the needs of both sides, by seed and batch size; None: the
            common target.
    """

    def statistic(results: Results) -> Measured:
        cost = costs(results) if costs else None
        if isinstance(cost, str):
            return Measured(not_testable=cost)
        if why := _absence(results, *a, *b) or _unlearned(results, *a, *b):
            return Measured(not_testable=why)
        target = targets(results, *a, *b) if targets else None
        sides = []
        for needs in (a, b):
            pairs = [_times(results, need, column, cost, target) for need in needs]
            sides.append(by(*(pd.concat(tables, axis=1) for tables in zip(*pairs, strict=True))))
        (time_a, open_a), (time_b, open_b) = sides
        ratio = time_a / time_b
        vague = (open_a & open_b) | (open_a & (ratio <= border)) | (open_b & (ratio >= border))
        if vague.any():
            seeds = f"{vague.sum()} of {len(vague)} seeds"
            return Measured(not_testable=f"{seeds} {OPEN[column]}")
        note, bounds = _sizes_of(results, *a, *b), int((open_a | open_b).sum())
        if bounds:
            note += f"; a bound in {bounds} of {len(ratio)} seeds: some runs {OPEN[column]}"
        return Measured(tuple(ratio), note=note)

    return statistic


def _times(
    results: Results,
    need: Need,
    column: str,
    cost: pd.Series | None,
    targets: pd.Series | None,
) -> tuple[Table, Table]:
    """Return the times of some runs, that of all their epochs if open, and which are open."""
    times = _table(results, need, column, targets)
    planned = {b: epochs_of(results.parameters, need.arm, b) for b in times}
    is_open = times.isna()
    if column == "own_epochs":
        is_open |= _table(results, need, "rising").astype(bool)
    times = times.fillna(planned)
    return times if cost is None else times * cost[times.columns], is_open


def _lower_peaks(results: Results, *needs: Need) -> pd.Series:
    """Return the share of the lower of the highest accuracies, by seed and batch size.

    At least what shows that something was learned: of a run that never left chance there is
    nothing to be as fast as.
    """
    runs = read_off(results, *(need.arm for need in needs), columns=("peak",))
    lowest = results.parameters.target_share * runs.groupby(["seed", "batch_size"])["peak"].min()
    return lowest.clip(lower=LEARNED / runs["classes"].iloc[0])


def _similar(results: Results, *needs: Need) -> pd.Series:
    """Return what is as accurate as the largest small batch ends, by seed and batch size."""
    p = results.parameters
    runs = read_off(results, SMALL, columns=())
    final = runs[runs["batch_size"] == max(p.small_batches)].set_index("seed")["final"]
    sizes = {size: final - SIMILAR / PERCENT for need in needs for size in need.sizes(p)}
    return pd.concat(sizes, names=["batch_size"]).swaplevel()


def updates(results: Results) -> pd.Series:
    """Return how many updates an epoch has, by batch size."""
    runs = results.of(SMALL, LARGE)
    return per_epoch(runs).groupby(runs["batch_size"]).first()


def _best_accuracy() -> Statistic:
    inner = _compare(lambda t: PERCENT * t[4], Need(SMALL, exactly(4)), column="peak")

    def statistic(results: Results) -> Measured:
        size = results.parameters.train_size
        if size is not None and size < 0.9 * published.EXAMPLES:
            why = f"{size:,} training examples, about {published.EXAMPLES:,} needed"
            return Measured(not_testable=why)
        return inner(results)

    return statistic


def _small_epochs() -> Statistic:
    inner = _compare(
        lambda t: np.exp(np.log(t).mean(axis=1)),
        Need(SMALL, all_small),
        column="own_epochs",
        settled=True,
    )

    def statistic(results: Results) -> Measured:
        epochs = results.parameters.small_epochs
        if epochs != published.SMALL_EPOCHS:
            why = f"{epochs} epochs, {published.SMALL_EPOCHS} needed to compare their number"
            return Measured(not_testable=why)
        return inner(results)

    return statistic


def _too_short(results: Results, arm: str, sizes: Sizes) -> str | None:
    """Return whether runs made too few updates for what was not seen to count as absent."""
    runs = results.of(arm)
    runs = runs[runs["stopped"] != "diverged"]  # which is an event that was seen
    for size in sizes(results.parameters):
        made = runs.loc[runs["batch_size"] == size, "updates"].max()
        stated = published.LINEAR_EPOCHS * math.ceil(published.EXAMPLES / size)
        if made < ENOUGH * stated:
            return f"B = {size}, in {made:,.0f} of the source's {stated:,} updates"
    return None


def _rises(arm: str, sizes: Sizes, learned: int | None = None) -> Statistic:
    """Largest rise of the training loss; that no seed has a jump counts only in time enough."""
    inner = _compare(lambda t: t.mean(axis=1), Need(arm, sizes), column="rise", learned=learned)

    def statistic(results: Results) -> Measured:
        found = inner(results)
        if found.values and max(found.values) <= JUMP:
            if why := _too_short(results, arm, sizes):
                return Measured(not_testable=f"no jump seen at {why}")
        return found

    return statistic


def _steadied(inner: Statistic, sizes: Sizes) -> Statistic:
    """Return a statistic, taken where the linear rule alone has a jump to be rid of."""
    cold = Need(COLD, sizes)

    def statistic(results: Results) -> Measured:
        if why := _absence(results, cold):
            return Measured(not_testable=why)
        rise = _table(results, cold, "rise").mean(axis=1).mean()
        if rise <= JUMP:
            return Measured(not_testable=f"the linear rule alone rises by {rise:.2g} nats, no jump")
        return inner(results)

    return statistic


def _failed(arm: str, sizes: Sizes) -> Statistic:
    """Share of all runs of an arm at some batch sizes that are lost, with Wilson's interval."""

    def statistic(results: Results) -> Measured:
        need = Need(arm, sizes)
        if why := _absence(results, need):
            return Measured(not_testable=why)
        table = _table(results, need, "lost")
        found = share(int(table.to_numpy().sum()), table.size)
        if found.mean <= 0.5 and (why := _too_short(results, arm, sizes)):
            return Measured(not_testable=f"{table.to_numpy().sum()} of {table.size} lost; {why}")
        if len(table) < MIN_SEEDS:  # an interval over runs would hide that there are too few seeds
            return Measured(tuple(table.mean(axis=1)), note="share of each seed's runs")
        note = f"{_sizes_of(results, need)}; n counts runs, several of one seed; Wilson's interval"
        return Measured(interval=found, note=note)

    return statistic


def seconds(results: Results) -> pd.Series | str:
    """Return the median time per epoch by batch size, or why there is none to judge."""
    times = results.timings
    repeats = 0 if times.empty else times["repeat"].nunique()
    if repeats < TIMING_REPEATS:
        return f"{repeats} timings, {TIMING_REPEATS} needed"
    return times.groupby("batch_size")["seconds"].median()


def _timed(by: Callable[[pd.DataFrame], pd.Series], *sizes: int) -> Statistic:
    """Return a statistic of the seconds per epoch [repeat, batch size], one value per repeat.

    Args:
        by: of the table.
        *sizes: that it needs.
    """

    def statistic(results: Results) -> Measured:
        if isinstance(why := seconds(results), str):
            return Measured(not_testable=why)
        table = results.timings.pivot(index="repeat", columns="batch_size", values="seconds")
        if missing := [b for b in sizes if b not in table]:
            return Measured(not_testable=f"B = {missing[0]}: not in this profile")
        return Measured(tuple(by(table)), note="n counts repeats")

    return statistic


def at_best_rate(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs at each batch size's rate of highest mean validation accuracy.

    Args:
        runs: of several rules, all without warm-up and for as many epochs; two rules that give one
            rate are one.
    """
    runs = runs.assign(rate=runs["lr"].map("{:.4g}".format))
    runs = runs.drop_duplicates(["batch_size", "rate", "seed"])
    return tuned(runs, "validation_accuracy", rate="rate")


def _tuned(other: Need) -> Statistic:
    """Accuracy of the largest batch at its best rate, minus that of others, in points."""

    def statistic(results: Results) -> Measured:
        arms = rate_arms(results.parameters)
        if why := _absence(results, *(Need(arm, largest) for arm in arms), other):
            return Measured(not_testable=why)
        (size,) = largest(results.parameters)
        runs = read_off(results, *arms, columns=())
        runs = runs[runs["batch_size"] == size]
        best = at_best_rate(runs).set_index("seed")
        values = PERCENT * (best["final"] - _table(results, other, "final").mean(axis=1))
        note = f"B = {size}, rate {best['rate'].iloc[0]}"
        if best["lr"].iloc[0] in (runs["lr"].min(), runs["lr"].max()):
            note += ", an end of those tried"
        return Measured(tuple(values.sort_index()), note=note)

    return statistic


def _length(results: Results) -> Measured:
    needs = [Need(arm, largest) for arm in (COLD, EXPONENTIAL, LENGTHS)]
    if why := _absence(results, *needs) or _unlearned(results, *needs):
        return Measured(not_testable=why)
    table = by_warmup_length(results).pivot_table(index="seed", columns="share", values="final")
    shares = np.broadcast_to(table.columns.to_numpy(), table.shape)
    return Measured(tuple(kendall(shares, table.to_numpy())))


WORKERS = Need(LOCAL, lambda p: sizes_of(p, LOCAL))


def _local(against: str | None) -> Statistic:
    """Return the statistic: accuracy of local SGD with the most steps minus another, in points.

    Args:
        against: an arm, at the largest batch size; None: local SGD with a single step.
    """

    def statistic(results: Results) -> Measured:
        p = results.parameters
        if not p.local_steps:
            return Measured(not_testable="no local SGD in this profile")
        needs = [WORKERS, *([Need(against, largest)] if against else [])]
        if why := _absence(results, *needs) or _unlearned(results, *needs):
            return Measured(not_testable=why)
        runs, steps = read_off(results, LOCAL, columns=()), max(p.local_steps)
        if not against and (steps == 1 or 1 not in p.local_steps):
            return Measured(
                not_testable=f"steps {p.local_steps} in this profile, 1 and more needed"
            )
        table = runs.pivot(index="seed", columns="local_steps", values="final")
        other = _table(results, needs[1], "final").mean(axis=1) if against else table[1]
        values = PERCENT * (table[steps] - other)
        return Measured(tuple(values), note=f"{p.local_workers} workers, {steps} steps")

    return statistic


# ------------------------------------------------------------- claims


DISCUSSION, CONCLUSION = "section IV", "section V"
FIGURE_1, TABLE, FIGURES = "section III, figure 1", "table I", "section IV, figures 2 to 6"
FIGURE_7 = "section IV, figure 7"
PEAK = "highest test accuracy, percentage points"
FINAL = "final test accuracy, percentage points"
RISE = "largest rise of the training loss, nats"
TO_OWN = "epochs to the final accuracy"
TO_TARGET = "epochs to the common target"


AT_32, AT_512 = Need(SMALL, exactly(32)), Need(LARGE, exactly(512))
SMALLER = Need(SMALL, lambda p: [b for b in p.small_batches if b != 32])
ALL_LARGE = Need(LARGE, all_large)
IN_TABLE = Need(LARGE, those_of(*published.SEMI_LARGE))


def _seconds_stated(size: int) -> float:
    return published.TABLE[size].seconds_per_epoch


def _updates_stated(size: int) -> int:
    return published.TABLE[size].epochs * math.ceil(published.EXAMPLES / size)


def _of_size(size: int) -> list[Claim]:
    """Claims that figures 2 to 7 make for every large batch."""
    at, semi = exactly(size), size in published.SEMI_LARGE
    claims = [
        Claim(
            id=f"kaabachi-scaling-{size}",
            figure="figures-2-6",
            locator=FIGURES,
            statement=f"B = {size}: the linear rule improves the test accuracy.",
            quantity=f"{PEAK}: linear rule - unscaled, unequal epochs",
            rule=above(0),
            statistic=_compare(_points_gained, Need(LINEAR, at), Need(LARGE, at), column="peak"),
        ),
        Claim(
            id=f"kaabachi-warmup-{size}",
            figure="figures-2-6",
            locator=FIGURES,
            statement=f"B = {size}: warm-up has no clear advantage (a disadvantage is none)."
            if semi
            else f"B = {size}: with warm-up the accuracy is higher.",
            quantity=f"{PEAK}: exponential warm-up - none, equal epochs",
            rule=below(SIMILAR) if semi else above(0),
            statistic=_compare(
                _points_gained, Need(EXPONENTIAL, at), Need(COLD, at), column="peak"
            ),
        ),
        Claim(
            id=f"kaabachi-unscaled-lower-{size}",
            figure="figure-1",
            locator=DISCUSSION,
            statement=f"B = {size}, unscaled: the accuracy ends lower.",
            quantity=f"{FINAL}: B = 32 - B = {size}, unequal epochs",
            rule=above(0),
            statistic=_compare(
                _points_gained, Need(SMALL, exactly(32)), Need(LARGE, at), column="final"
            ),
        ),
        Claim(
            id=f"kaabachi-similar-{size}",
            figure="figures-2-6",
            locator=CONCLUSION if semi else "ours: section V says so of some conditions",
            statement=f"B = {size}: scaled and warmed up, it is as accurate as small batches.",
            quantity=f"{PEAK}: linear rule, warm-up - mean of small batches, unequal epochs",
            value="-" if semi else "ours",
            rule=above(-SIMILAR),
            statistic=_compare(
                _points_gained, Need(EXPONENTIAL, at), Need(SMALL, all_small), column="peak"
            ),
        ),
        Claim(
            id=f"kaabachi-{'jumps' if size in published.UNSTEADY else 'steady'}-{size}",
            figure="figure-7",
            locator=FIGURE_7,
            statement=f"B = {size}, linear rule: the training loss jumps."
            if size in published.UNSTEADY
            else f"B = {size}, linear rule: the training loss falls without jumps.",
            quantity=RISE,
            rule=above(JUMP) if size in published.UNSTEADY else below(JUMP),
            statistic=_rises(LINEAR, at, learned=0),
        ),
    ]
    if size in published.LARGEST:
        claims += [
            Claim(
                id=f"kaabachi-warmup-steadies-{size}",
                figure="figure-7",
                locator="section IV, last paragraph",
                statement=f"B = {size}: warm-up steadies the training loss.",
                quantity=f"{RISE}: none - exponential warm-up, equal epochs",
                rule=above(0),
                statistic=_steadied(
                    _compare(
                        lambda a, b: (a - b).mean(axis=1),
                        Need(COLD, at),
                        Need(EXPONENTIAL, at),
                        column="rise",
                        learned=0,
                    ),
                    at,
                ),
            ),
            Claim(
                id=f"kaabachi-sqrt-{size}",
                figure="rates",
                locator="section IV, last paragraph, a conjecture there",
                statement=f"Asked there: at B = {size} another rule (here: the square root) serves "
                "better than the linear one.",
                quantity=f"{FINAL}: square-root rule - linear rule",
                value="asked",
                rule=above(0),
                statistic=_compare(
                    _points_gained, Need(SQRT, at), Need(COLD, at), column="final", learned=1
                ),
            ),
        ]
    if size in published.TABLE:
        stated = published.TABLE[size].epochs / published.TABLE[32].epochs
        claims.append(
            Claim(
                id=f"kaabachi-epochs-{size}",
                figure="table-1",
                locator=TABLE,
                statement=f"B = {size} needs {published.TABLE[size].epochs} epochs where small "
                f"batches need {published.TABLE[32].epochs}.",
                quantity=f"{TO_OWN}: B = {size} / small batches",
                value=f"{stated:.2f}",
                rule=about(round(stated, 2), factor=1.5),
                statistic=_compare(
                    _ratio,
                    Need(LARGE, at),
                    Need(SMALL, all_small),
                    column="own_epochs",
                    settled=True,
                ),
            )
        )
    return claims


def _of_reference(batch_size: int) -> list[Claim]:
    """Whether the divergence goes when the rule starts from the batch sizes that had the rate."""
    arm = reference(batch_size)
    return [
        Claim(
            id=f"kaabachi-reference-{batch_size}-steady",
            figure="rates",
            locator="section IV: the divergence might come from rates of about 1 and 2",
            statement=f"With the rule started from B = {batch_size} (rates {batch_size} times "
            "smaller) the training loss of batches from 512 on no longer jumps.",
            quantity=f"{RISE}, mean over B",
            rule=below(JUMP),
            statistic=_steadied(
                _rises(arm, those_of(*published.UNSTEADY)), those_of(*published.UNSTEADY)
            ),
        ),
        Claim(
            id=f"kaabachi-reference-{batch_size}-accuracy",
            figure="rates",
            locator="ours: the rule as the source quotes it, from a batch that had the rate",
            statement=f"The rule started from B = {batch_size} serves the largest batch better.",
            quantity=f"{FINAL}: from B = {batch_size} - from B = 1",
            value="ours",
            rule=above(0),
            statistic=_compare(
                _points_gained, Need(arm, largest), Need(COLD, largest), column="final", learned=1
            ),
        ),
    ]


CLAIMS = (
    Claim(
        id="kaabachi-best-at-4",
        figure="figure-1",
        locator=FIGURE_1,
        statement="The highest accuracy of all batch sizes, unscaled, is that of B = 4.",
        quantity=f"{PEAK}: B = 4 - highest of all others",
        rule=above(0),
        statistic=_compare(
            _first_minus_best_other,
            Need(SMALL, exactly(4)),
            Need(SMALL, lambda p: [b for b in p.small_batches if b != 4]),
            ALL_LARGE,
            column="peak",
        ),
    ),
    Claim(
        id="kaabachi-best-82",
        figure="figure-1",
        locator=FIGURE_1,
        statement="B = 4 reaches a test accuracy of about 82 %.",
        quantity="highest test accuracy, per cent",
        value=f"{published.BEST_ACCURACY:g}",
        rule=between(published.BEST_ACCURACY - SIMILAR, published.BEST_ACCURACY + SIMILAR),
        statistic=_best_accuracy(),
    ),
    Claim(
        id="kaabachi-epochs-small",
        figure="table-1",
        locator=TABLE,
        statement="Small batches need about 35 epochs to their final accuracy.",
        quantity=f"{TO_OWN}, mean over small batches",
        value=f"{published.TABLE[32].epochs}",
        rule=between(28, 44, ratios=True),  # a count has no side of 1
        statistic=_small_epochs(),
    ),
    *(claim for size in published.LARGE for claim in _of_size(size)),
    Claim(
        id="kaabachi-scaling-semi-large",
        figure="figures-2-6",
        locator="abstract; semi-large is not defined there, here 128 to 512",
        statement="The linear rule improves the test accuracy of semi-large batches significantly.",
        quantity=f"{PEAK}: linear rule - unscaled, mean over B, unequal epochs",
        rule=above(0),
        statistic=_compare(
            _points_gained,
            Need(LINEAR, those_of(*published.SEMI_LARGE)),
            Need(LARGE, those_of(*published.SEMI_LARGE)),
            column="peak",
        ),
    ),
    Claim(
        id="kaabachi-warmup-sooner",
        figure="figures-2-6",
        locator=FIGURES,
        statement="At 1024 and 2048 warm-up reaches an accuracy sooner.",
        quantity=f"epochs to an accuracy both reach, at least {LEARNED:g} times chance: none / "
        "exponential warm-up, equal epochs",
        rule=above(1, ratios=True),
        statistic=_sooner(
            [Need(COLD, those_of(*published.LARGEST))],
            [Need(EXPONENTIAL, those_of(*published.LARGEST))],
            column="target_epochs",
            by=typical,
            targets=_lower_peaks,
        ),
    ),
    *(
        Claim(
            id=f"kaabachi-{kind}-warmup",
            figure="warm-ups",
            locator="experiment 4, not shown there",
            statement=f"The {kind} warm-up raises the accuracy of the largest batch.",
            quantity=f"{FINAL}: {kind} warm-up - none, equal epochs",
            value="not shown",
            rule=above(0),
            statistic=_compare(
                _points_gained, Need(WARM[kind], largest), Need(COLD, largest), column="final"
            ),
        )
        for kind in ("linear", "constant")
    ),
    Claim(
        id="kaabachi-diverges",
        figure="divergence",
        locator=FIGURE_7,
        statement="With the linear rule runs with batches from 512 on diverge or fall back to "
        "chance.",
        quantity="share of runs that do",
        rule=above(0.5),
        statistic=_failed(LINEAR, those_of(*published.UNSTEADY)),
    ),
    *(claim for batch_size in (4, 32) for claim in _of_reference(batch_size)),
    Claim(
        id="kaabachi-unscaled-slower",
        figure="epochs-to-accuracy",
        locator=DISCUSSION,
        statement="Unscaled large batches take longer to an accuracy, in epochs.",
        quantity=f"{TO_TARGET}: large / B = 32, mean over B",
        rule=above(1, ratios=True),
        statistic=_sooner([ALL_LARGE], [AT_32], column="target_epochs", by=typical),
    ),
    Claim(
        id="kaabachi-time-falls",
        figure="seconds",
        locator=TABLE,
        statement="The larger the batch, the less time an epoch takes.",
        quantity="seconds per epoch: rank correlation with B",
        value="-1",
        rule=below(-0.5),
        statistic=_timed(rank_with_batch_size),
    ),
    Claim(
        id="kaabachi-time-levels",
        figure="seconds",
        locator=TABLE,
        statement="It levels off: from 128 to 512 it hardly changes.",
        quantity="seconds per epoch: B = 128 / B = 512",
        value=f"{_seconds_stated(128) / _seconds_stated(512):.2f}",
        rule=between(0.8, 1.25, ratios=True),
        statistic=_timed(lambda table: table[128] / table[512], 128, 512),
    ),
    Claim(
        id="kaabachi-fastest-at-32",
        figure="table-1-seconds",
        locator=TABLE,
        statement="Time to the final accuracy is smallest at B = 32.",
        quantity="seconds to the final accuracy: B = 32 / smallest of the others",
        value=f"{published.TABLE[32].seconds / published.TABLE[16].seconds:.2f}",
        rule=below(1, ratios=True),
        statistic=_sooner(
            [AT_32], [SMALLER, IN_TABLE], column="own_epochs", by=fastest, costs=seconds
        ),
    ),
    Claim(
        id="kaabachi-fastest-at-32-target",
        figure="table-1-seconds",
        locator="ours: the final accuracies of the table are not one accuracy",
        statement="Time to a common accuracy is smallest at B = 32.",
        quantity="seconds to the common target: B = 32 / smallest of the others",
        value="ours",
        rule=below(1, ratios=True),
        statistic=_sooner(
            [AT_32], [SMALLER, IN_TABLE], column="target_epochs", by=fastest, costs=seconds
        ),
    ),
    Claim(
        id="kaabachi-offset-time",
        figure="table-1-seconds",
        locator=CONCLUSION,
        statement="Faster epochs are offset: B = 512 takes longer to its final accuracy.",
        quantity="seconds to the final accuracy: B = 512 / B = 32",
        value=f"{published.TABLE[512].seconds / published.TABLE[32].seconds:.2f}",
        rule=above(1, ratios=True),
        statistic=_sooner([AT_512], [AT_32], column="own_epochs", by=fastest, costs=seconds),
    ),
    Claim(
        id="kaabachi-offset-updates",
        figure="table-1",
        locator=f"{CONCLUSION} (against the source's own table)",
        statement="Larger batches require more gradient updates to their final accuracy.",
        quantity="updates to the final accuracy: B = 512 / B = 32",
        value=f"{_updates_stated(512) / _updates_stated(32):.2f}",
        rule=above(1, ratios=True),
        statistic=_sooner([AT_512], [AT_32], column="own_epochs", by=fastest, costs=updates),
    ),
    Claim(
        id="kaabachi-similar-time",
        figure="table-1-seconds",
        locator=CONCLUSION,
        statement="Scaled and warmed up, large batches reach the accuracy of small ones as fast.",
        quantity=f"seconds to {SIMILAR:g} points below the end of B = 32: fastest large batch / "
        "fastest small one",
        rule=below(AS_FAST, ratios=True),
        statistic=_sooner(
            [Need(EXPONENTIAL, all_large)],
            [Need(SMALL, all_small)],
            column="target_epochs",
            by=fastest,
            costs=seconds,
            border=AS_FAST,
            targets=_similar,
        ),
    ),
    Claim(
        id="kaabachi-tuned-beats-warmup",
        figure="rates",
        locator="ours: does warm-up help, or was the rate too high?",
        statement="A tuned rate without warm-up serves the largest batch better than the linear "
        "rule with warm-up.",
        quantity=f"{FINAL}: tuned rate - exponential warm-up",
        value="ours",
        rule=above(0),
        statistic=_tuned(Need(EXPONENTIAL, largest)),
    ),
    Claim(
        id="kaabachi-tuned-similar",
        figure="rates",
        locator="ours: is there a gap left?",
        statement="With its rate tuned, the largest batch is as accurate as the small ones.",
        quantity=f"{FINAL}: tuned rate - mean of small batches at one rate, unequal epochs",
        value="ours",
        rule=above(-SIMILAR),
        statistic=_tuned(Need(SMALL, all_small)),
    ),
    Claim(
        id="kaabachi-warmup-length",
        figure="rates",
        locator="ours: the source has one length",
        statement="The longer the warm-up, the more accurate the largest batch.",
        quantity="rank correlation of length and final test accuracy",
        value="ours",
        rule=above(0),
        statistic=_length,
    ),
    *(
        Claim(
            id=f"kaabachi-local-{name}",
            figure="local",
            locator="ours: local SGD, the source's reference 2",
            statement=f"Local SGD, at its workers' rate, serves better than {words}.",
            quantity=f"{FINAL}: local SGD - {arm or 'a single local step'}",
            value="ours",
            rule=above(0),
            statistic=_local(arm),
        )
        for name, words, arm in (
            ("linear", "their batch with the linear rule", COLD),
            ("warmup", "their batch with warm-up", EXPONENTIAL),
            ("steps", "their batch at that rate, which is a single local step", None),
        )
    ),
)
