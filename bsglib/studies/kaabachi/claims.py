"""The statistic that tests each claim of Kaabachi et al.; claims.yaml has the statements."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bsglib.claims import Measured
from bsglib.stats import PERCENT
from bsglib.studies import claims_file, notes
from bsglib.studies.comparing import (
    Comparison,
    Control,
    Gate,
    Of,
    Parts,
    Side,
    Sizes,
    Table,
    Timed,
    difference,
    largest,
    no_note,
    percent,
    points,
    ratio,
    run_name,
    seconds,
    side,
    untimed,
)
from bsglib.studies.kaabachi import confirmatory, protocol, published
from bsglib.studies.kaabachi.derived import JUMP, LEARNED, derived, read_off, to_target
from bsglib.studies.kaabachi.protocol import KaabachiParameters
from bsglib.studies.study import Results
from bsglib.studies.tables import of_common_seeds, per_seed, rank_with_batch_size, tuned
from bsglib.verdicts import Rule

MIN_UPDATES = 50  # from which a run says something about a rate
MIN_WARMUP_UPDATES = 10  # from which a warm-up is one
ENOUGH = 0.1  # of the paper's updates: from there an event not seen counts as absent
MARGINS = claims_file.margins()
SIMILAR = MARGINS["accuracy"].size  # percentage points within which accuracies are similar
SMALL, LARGE, UNSCALED = (
    side(arm=arm) for arm in (protocol.SMALL, protocol.LARGE, (protocol.SMALL, protocol.LARGE))
)
LINEAR, COLD, SQRT = (side(arm=a) for a in (protocol.LINEAR, protocol.COLD, protocol.SQRT))
WARM = {kind: side(arm=arm) for kind, arm in protocol.WARM.items()}
EXPONENTIAL = WARM["exponential"]
# As their code runs: the mode of evaluation, the warm-up; and the rate where that warm-up stays.
EVALUATED = {"evaluate_as_run": True}
SMALL_AS_RUN, LARGE_AS_RUN, UNSCALED_AS_RUN, LINEAR_AS_RUN, COLD_AS_RUN = (
    Side((*one.where, *EVALUATED.items())) for one in (SMALL, LARGE, UNSCALED, LINEAR, COLD)
)
WARM_AS_RUN, FLAT = (side(arm=arm, **EVALUATED) for arm in (confirmatory.AS_RUN, confirmatory.FLAT))


def of_profile(*sizes: int) -> Sizes:
    """Return which of some batch sizes a profile has."""

    def there(p: KaabachiParameters) -> list[int]:
        return [b for b in sizes if b in p.batch_sizes]

    return there


def smallest_small(p: KaabachiParameters) -> tuple[int]:
    """Return the smallest batch size alone."""
    return (min(p.small_batch_sizes),)


def smallest_large(p: KaabachiParameters) -> tuple[int]:
    """Return the smallest large batch size alone."""
    return (min(p.large_batch_sizes),)


def two_largest(p: KaabachiParameters) -> list[int]:
    """Return the two largest batch sizes."""
    return p.large_batch_sizes[-2:]


# ------------------------------------------------------------- what makes runs fit


def per_epoch(runs: pd.DataFrame) -> pd.Series:
    """Return how many updates an epoch of each run has."""
    return np.ceil(runs["train_size"] / (runs["batch_size"] * runs["local_workers"]))


def too_few_updates(runs: pd.DataFrame) -> str | None:
    """Return which run made, or warmed up over, too few updates; to diverge early is a result."""
    warm = (runs["warmup_epochs"] * per_epoch(runs)).round()
    for made, needed, where, what in (
        (runs["updates"], MIN_UPDATES, runs["stopped"] != "diverged", "updates"),
        (warm, MIN_WARMUP_UPDATES, runs["arm"].isin(protocol.WARM.values()), "updates of warm-up"),
    ):
        few = runs.index[where & (made < needed)]
        if len(few):
            return f"{run_name(runs.loc[few[0]])}: {made[few[0]]:.0f} {what}, {needed} needed"
    return None


def unlearned(runs: pd.DataFrame) -> str | None:
    """Return what the best arm reached, None if one has learned something."""
    best = runs.groupby("arm")["peak"].mean().max()
    needed = LEARNED / runs["classes"].iloc[0]
    why = f"highest accuracy {PERCENT * best:.0f} %, {PERCENT * needed:.0f} % needed"
    return None if best >= needed else why


def unsettled(runs: pd.DataFrame) -> str | None:
    """Return which run has no time to its own accuracy, None if all have."""
    is_open = runs[runs["rising"] | runs["own_epochs"].isna()]
    return f"{run_name(is_open.iloc[0])}: {OPEN['own_epochs']}" if len(is_open) else None


def too_short(runs: pd.DataFrame) -> str | None:
    """Return at which batch size runs were too short for what was not seen to be absent."""
    made = runs[runs["stopped"] != "diverged"].groupby("batch_size")["updates"].max()
    for size, updates in made.items():
        there = published.LINEAR_EPOCHS * math.ceil(published.EXAMPLES / size)
        if updates < ENOUGH * there:
            return f"B = {size} after {updates:,.0f} of the paper's {there:,} updates"
    return None


def no_jump_yet(runs: pd.DataFrame) -> str | None:
    """Return how short runs were, if no seed has a jump."""
    rise, why = runs.groupby("seed")["rise"].mean().max(), too_short(runs)
    return f"no jump at {why}" if why and rise <= JUMP else None


def none_lost_yet(runs: pd.DataFrame) -> str | None:
    """Return how short runs were, if none of them is lost."""
    why = too_short(runs)
    return f"none of {len(runs)} runs failed; {why}" if why and not runs["lost"].any() else None


def nothing_to_steady(runs: pd.DataFrame) -> str | None:
    """Return how little the linear rule's loss rises, None if it has a jump."""
    rise = runs.loc[runs["arm"] == protocol.COLD, "rise"].mean()
    return (
        f"the loss with the linear rule alone rises by {rise:.2g} nats, less than a jump"
        if rise <= JUMP
        else None
    )


def too_few_examples(runs: pd.DataFrame) -> str | None:
    """Return how many training examples there are, if a number needs all and has fewer."""
    size, needed = runs["train_size"].iloc[0], published.EXAMPLES
    why = f"{size:,} training examples, about {needed:,} needed"
    return None if size >= 0.9 * needed else why


def other_epochs(results: Results, sides: Sequence[Side]) -> str | None:
    """Return for how many epochs small batches are trained, if not for the paper's number."""
    epochs, needed = results.parameters.small_epochs, published.SMALL_EPOCHS
    return None if epochs == needed else f"{epochs} epochs, {needed} needed for this comparison"


def single_local_step(runs: pd.DataFrame) -> str | None:
    """Return that local SGD averages after every step, if it does."""
    return (
        "a single local step equals the large batch" if (runs["local_steps"] == 1).all() else None
    )


def best_rate_at_end(results: Results, sides: Sequence[Side]) -> str | None:
    """Return the best rate if it is the lowest or the highest that was tried."""
    tried, best = TUNED.computed(results)["lr"], TUNED.of(results)["lr"].iloc[0]
    at_end = best in (tried.min(), tried.max())
    return f"the best rate, {best:.4g}, is at an end of those tried" if at_end else None


def control(says: str, by: Callable[..., pd.Series], a: Side, b: Side, column: str, kind: str):
    """Return a positive control: a - b has to be above zero."""
    rule = Rule("above", MARGINS[kind].size)
    return Control(says, Comparison(by, (a, b), column, derive=derived), rule)


read = partial(Of, derive=derived)
LEARNS, FIRST_LEARNS, SETTLES = read(unlearned), read(unlearned, first=1), read(unsettled)
JUMPS, LOST, COLD_JUMPS = read(no_jump_yet, first=1), read(none_lost_yet), read(nothing_to_steady)
FEW = side(arm=confirmatory.FEW_EPOCHS)
SHOWS = tuple(
    control("few epochs cost accuracy", points, one.at(size), FEW.at(size), "final", "accuracy")
    for one, size in ((SMALL, smallest_small), (COLD, smallest_large))
)
STEADIER = control(
    "a lower rate is steadier",
    difference,
    COLD.at(two_largest),
    side(two_largest, arm=confirmatory.LOW),
    "rise",
    "rise of a loss",
)
ACCURATE = LEARNS, *SHOWS


# ------------------------------------------------------------- from runs to values by seed


def compare(
    by: Callable[..., pd.Series],
    *sides: Side,
    column: str | None = None,
    gates: tuple[Gate, ...] = (LEARNS,),
    **options: Any,
) -> Comparison:
    """Return a comparison of runs with enough updates; `Comparison` has its arguments."""
    options = {"note": partial(sizes_note, sides=sides)} | options
    gates = (Of(too_few_updates), *gates)
    return Comparison(by, sides, column, gates=gates, derive=derived, **options)


def gained(
    *sides: Side,
    column: str = "peak",
    gates: tuple[Gate, ...] = (),
    also: Callable[[Results], str] = no_note,
) -> Comparison:
    """Return the comparison of the accuracies of two sides, or of one alone, in points.

    Args:
        *sides: at most two.
        column: "peak", "peak_as_run" or "final".
        gates: besides those of all accuracies.
        also: what the note adds.
    """
    by = points if len(sides) > 1 else percent
    note = partial(accuracy_note, sides=sides, column=column, also=also)
    return compare(by, *sides, column=column, gates=(*gates, *ACCURATE), note=note)


gained_at_end = partial(gained, column="final")
gained_as_run = partial(gained, column="peak_as_run")


def sizes_note(results: Results, sides: Sequence[Side]) -> str:
    """Return the batch sizes of some sides."""
    sizes = dict.fromkeys(size for one in sides for size in one.batch_sizes(results))
    return f"B = {', '.join(map(str, sizes))}"


def accuracy_note(
    results: Results, sides: Sequence[Side], column: str, also: Callable[[Results], str]
) -> str:
    """Return what stands beside an accuracy of some sides."""
    parts = [also(results), sizes_note(results, sides)]
    parts.append(notes.beside(results, sides) if len(sides) > 1 else "")
    if column.startswith("peak") and len(results.outcomes):
        parts.append("the test set's variance is that of the last epoch")
    return "; ".join(filter(None, parts))


def of_first(first: Table, *_: Table) -> pd.Series:
    """Return the mean of the first side over its batch sizes."""
    return first.mean(axis=1)


def geometric_mean(table: Table) -> pd.Series:
    """Return the geometric mean over batch sizes."""
    return np.exp(np.log(table).mean(axis=1))


@dataclass(frozen=True)
class OfProfile(Parts):
    """A claim about several batch sizes, with a part for each that the profile has."""

    def there(self, results: Results) -> tuple:
        """Return the parts that the profile has, all if it has none."""
        found = (part for part in self.of if part[1].in_profile(results))
        return tuple(found) or self.of

    def __call__(self, results: Results) -> Measured:
        """Return the parts' values."""
        parts = {name: one(results) for name, one in self.there(results)}
        return Measured(parts=parts, note=f"parts: {', '.join(parts)}")

    def in_profile(self, results: Results) -> bool:
        """Return whether the profile has runs of a part, computed or not."""
        return any(one.in_profile(results) for _, one in self.of)


def at_each(sizes: Sequence[int], at: Callable[[Side], Comparison], *sides: Side) -> OfProfile:
    """Return the statistic of a claim about each of some batch sizes.

    Args:
        sizes: the batch sizes.
        at: returns the comparison of sides.
        *sides: at every batch size.
    """
    return OfProfile(tuple((f"B = {b}", at(*(one.at((b,)) for one in sides))) for b in sizes))


# A time to an accuracy may be open: the run ended before, or its own accuracy still rose then. What
# is known is a bound, which may support a claim or refute it, not both.

Times = tuple[pd.Series, pd.Series]  # by seed: an epoch count or a cost, and whether it is open
OPEN = {
    "target_epochs": "did not reach the accuracy",
    "own_epochs": "still rose at the end or learned nothing",
}


def fastest(times: Table, is_open: Table) -> Times:
    """Return the shortest time of each seed."""
    first = times.idxmin(axis=1)
    opened = [is_open.loc[seed, size] for seed, size in first.items()]
    return times.min(axis=1), pd.Series(opened, times.index)


def typical(times: Table, is_open: Table) -> Times:
    """Return the geometric mean over the batch sizes."""
    return geometric_mean(times), is_open.any(axis=1)


def sooner(
    a: Side,
    b: Side,
    *,
    column: str,
    by: Callable[[Table, Table], Times],
    cost: Callable[[Results], pd.Series] | None = None,
    kind: str = "epochs",
    target: Callable[[Results, pd.DataFrame], pd.Series] | None = None,
    gates: tuple[Gate, ...] = (LEARNS,),
) -> Comparison:
    """Return the statistic: time of some runs to an accuracy over that of others.

    Args:
        a: the one side.
        b: the other one.
        column: "target_epochs", to the target, or "own_epochs", to the own accuracy.
        by: of each side's tables [seed, batch size].
        cost: of an epoch by batch size; None: times are epochs.
        kind: of quantity, beyond whose margin a bound has to lie.
        target: of the runs of both sides; None: the common target.
        gates: of `compare`.
    """
    found = partial(times_over, a=a, b=b, column=column, by=by, cost=cost, kind=kind, target=target)
    return compare(found, a, b, gates=gates, timing=kind == "time")


def times_over(results: Results, *, a, b, column, by, cost, kind, target) -> Measured:
    """Return the values of `sooner`."""
    if kind == "time" and (why := untimed(results)):
        return Measured(not_run=why)
    runs = pd.concat(derived(results, one.of(results)) for one in (a, b))
    if target is not None:
        runs = to_target(results, runs, target(results, runs))
    costs = None if cost is None else cost(results)
    each = [
        pd.concat(by(*times(results, one, runs, column, costs)), axis=1, keys=("time", "open"))
        for one in (a, b)
    ]
    both = each[0].add_suffix("_a").join(each[1].add_suffix("_b"), how="inner")
    found, margin = both["time_a"] / both["time_b"], MARGINS[kind].size
    open_a, open_b = both["open_a"], both["open_b"]
    vague = (open_a & open_b) | (open_a & (found <= margin)) | (open_b & (found >= 1 / margin))
    if vague.any():
        seeds = f"{vague.sum()} of {len(vague)} seeds"
        return Measured(not_testable=f"{seeds} {OPEN[column]}")
    note, bounds = sizes_note(results, (a, b)), int((open_a | open_b).sum())
    if bounds:
        note += f"; only a bound in {bounds} of {len(found)} seeds: some runs {OPEN[column]}"
    return Measured(tuple(found), tuple(found.index), note=note)


def times(
    results: Results, one: Side, runs: pd.DataFrame, column: str, costs: pd.Series | None
) -> tuple[Table, Table]:
    """Return the times of a side's runs, that of all designed epochs if open; which are open."""
    runs = of_common_seeds(runs.loc[one.of(results).index], "batch_size")
    found = per_seed(runs, column)
    is_open = found.isna()
    if column == "own_epochs":
        is_open |= per_seed(runs, "rising")
    found = found.fillna(one.designed(results).groupby("batch_size")["epochs"].first())
    return found if costs is None else found * costs[found.columns], is_open


def seconds_per_epoch(results: Results) -> pd.Series:
    """Return the median seconds per epoch, by batch size."""
    return seconds(results).median()


quicker = partial(sooner, by=fastest, cost=seconds_per_epoch, kind="time")


def updates(results: Results) -> pd.Series:
    """Return how many updates an epoch has, by batch size."""
    runs = UNSCALED.of(results)
    return per_epoch(runs).groupby(runs["batch_size"]).first()


def within_reach(results: Results, runs: pd.DataFrame) -> pd.Series:
    """Return for each run a share of the lowest peak with its seed and batch size.

    At least what shows that something was learned: of a run that never left chance there is
    nothing to be as fast as.
    """
    lowest = runs.groupby(["seed", "batch_size"])["peak"].transform("min")
    return (results.parameters.target_share * lowest).clip(lower=LEARNED / runs["classes"])


def similar(results: Results, runs: pd.DataFrame) -> pd.Series:
    """Return for each run what is as accurate as its seed's largest small batch ends."""
    largest_small = max(results.parameters.small_batch_sizes)
    ends = read_off(results, protocol.SMALL, batch_size=largest_small).set_index("seed")["final"]
    return runs["seed"].map(ends - SIMILAR / PERCENT)


def at_best_rate(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs at each batch size's best rate; two rules that give one rate are one."""
    runs = runs.assign(rate=runs["lr"].map("{:.4g}".format))
    runs = of_common_seeds(runs.drop_duplicates(["batch_size", "rate", "seed"]), "rate")
    return tuned(runs, "validation_accuracy", rate="rate")


def most_steps(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with the most local steps."""
    return runs[runs["local_steps"] == runs["local_steps"].max()]


TUNED = side(largest, choose=at_best_rate, varied=protocol.RATE)
LOCAL = side(arm=protocol.LOCAL, choose=most_steps)
SINGLE_STEP = side(setting=protocol.SETTINGS[protocol.LOCAL].format(local_steps=1))


def tuned_note(results: Results) -> str:
    """Return the best rate of the largest batch."""
    return f"rate {TUNED.of(results)['rate'].iloc[0]}"


def local_note(results: Results) -> str:
    """Return how many workers of local SGD make how many steps."""
    p = results.parameters
    return f"{p.local_workers} workers, {max(p.local_steps)} steps"


# ------------------------------------------------------------- claims


def numbers(size: int | None = None, **_: object) -> dict[str, float]:
    """Return the numbers in claims: the paper's, of one or several batch sizes, and our limits."""
    found = {"similar": SIMILAR, "jump": JUMP, "learned": LEARNED}
    return found | published.quoted() | (published.epochs(size) if size else {})


def rank_of_first(first: Table, *_: Table) -> pd.Series:
    """Return the rank correlation of the first side's value and the length of warm-up."""
    return rank_with_batch_size(first)


def levels(table: Table) -> pd.Series:
    """Return the value at B = 128 over that at 512."""
    return table[128] / table[512]


tuned_gains = partial(gained_at_end, TUNED, gates=(best_rate_at_end,), also=tuned_note)
local_gains = partial(
    gained_at_end, LOCAL, gates=(Of(single_local_step, first=1),), also=local_note
)
rises = partial(compare, of_first, column="rise", gates=(JUMPS,))
steadied = partial(rises, gates=(COLD_JUMPS, STEADIER, FIRST_LEARNS, JUMPS))
diverging = partial(compare, of_first, column="lost", gates=(LOST,))
sooner_to_both = partial(sooner, column="target_epochs", by=typical, target=within_reach)
AT_4, AT_32, LARGE_512 = SMALL.at((4,)), SMALL.at((32,)), LARGE.at((512,))
SIZES = published.SMALL + published.LARGE
COLDEST, WARMEST = COLD.at(largest), EXPONENTIAL.at(largest)
SEMI_LARGE = of_profile(*published.SEMI_LARGE)


def of_size(b: int) -> dict[str, Comparison]:
    """Return the statistics of what figures 1 to 7 say of a large batch size."""
    unscaled, linear, cold, warm = (s.at((b,)) for s in (LARGE, LINEAR, COLD, EXPONENTIAL))
    found = {
        "scaling": gained(linear, unscaled),
        "warmup": gained(warm, cold),
        "unscaled-lower": gained_at_end(AT_32, unscaled),
        "similar": gained(warm, SMALL),
        "jumps" if b in published.UNSTEADY else "steady": rises(linear),
    }
    if b in published.LARGEST:
        steadies = compare(difference, cold, warm, column="rise", gates=(COLD_JUMPS, STEADIER))
        found |= {"warmup-steadies": steadies, "sqrt": gained_at_end(SQRT.at((b,)), cold)}
    if b in published.SEMI_LARGE:
        found["epochs"] = compare(
            ratio, unscaled, SMALL, column="own_epochs", gates=(LEARNS, SETTLES)
        )
    return {f"kaabachi-{name}-{b}": statistic for name, statistic in found.items()}


def as_run(b: int) -> dict[str, Comparison]:
    """Return the statistics of figures 2 to 7 at a large batch size, as their code runs."""
    unscaled, linear, cold, warm, flat = (
        s.at((b,)) for s in (LARGE_AS_RUN, LINEAR_AS_RUN, COLD_AS_RUN, WARM_AS_RUN, FLAT)
    )
    found = {
        f"kaabachi-scaling-{b}-as-run": gained_as_run(linear, unscaled),
        f"kaabachi-warmup-{b}-as-run": gained_as_run(warm, cold),
        f"kaabachi-similar-{b}-as-run": gained_as_run(warm, SMALL_AS_RUN),
        f"kaabachi-flat-{b}": gained(flat, warm),
        f"kaabachi-flat-beats-{b}": gained(flat, cold),
        f"kaabachi-warmup-beyond-rate-{b}": gained(EXPONENTIAL.at((b,)), flat),
    }
    if b in published.LARGEST:
        found[f"kaabachi-warmup-steadies-{b}-as-run"] = compare(
            difference, cold, warm, column="rise", gates=(COLD_JUMPS, STEADIER)
        )
    return found


def of_mode(b: int) -> Comparison:
    """Return what the code's mode of evaluation adds to the accuracy at a batch size."""
    return gained(UNSCALED_AS_RUN.at((b,)), column="mode")


def of_reference(b: int) -> dict[str, Comparison | Parts]:
    """Return the statistics of the linear rule that starts from a batch size."""
    lower = side(arm=protocol.reference(b))
    return {
        f"kaabachi-reference-{b}-steady": at_each(published.UNSTEADY, steadied, lower, COLD),
        f"kaabachi-reference-{b}-accuracy": gained_at_end(lower.at(largest), COLDEST),
    }


def at_32_quicker(column: str) -> OfProfile:
    """Return the statistic: time at B = 32 over that at each other batch size of the table."""
    others = [b for b in published.TABLE if b != 32]
    return at_each(others, partial(quicker, AT_32, column=column), UNSCALED)


MODES = (4, 32, 128, 512)  # batch sizes at which the mode of evaluation is compared
STATISTICS = {
    "kaabachi-best-at-4": at_each([b for b in SIZES if b != 4], partial(gained, AT_4), UNSCALED),
    "kaabachi-best-at-4-as-run": at_each(
        [b for b in SIZES if b != 4],
        partial(gained_as_run, SMALL_AS_RUN.at((4,))),
        UNSCALED_AS_RUN,
    ),
    **{name: each for b in published.LARGE for name, each in as_run(b).items()},
    **{f"kaabachi-mode-{b}": of_mode(b) for b in MODES},
    "kaabachi-best-82": gained(AT_4, gates=(Of(too_few_examples),)),
    "kaabachi-epochs-small": compare(
        geometric_mean, SMALL, column="own_epochs", gates=(other_epochs, LEARNS, SETTLES)
    ),
    **{name: each for b in published.LARGE for name, each in of_size(b).items()},
    "kaabachi-scaling-semi-large": gained(LINEAR.at(SEMI_LARGE), LARGE.at(SEMI_LARGE)),
    "kaabachi-warmup-sooner": at_each(published.LARGEST, sooner_to_both, COLD, EXPONENTIAL),
    "kaabachi-linear-warmup": gained_at_end(WARM["linear"].at(largest), COLDEST),
    "kaabachi-constant-warmup": gained_at_end(WARM["constant"].at(largest), COLDEST),
    "kaabachi-diverges": at_each(published.UNSTEADY, diverging, LINEAR),
    **of_reference(4),
    **of_reference(32),
    "kaabachi-unscaled-slower": sooner(LARGE, AT_32, column="target_epochs", by=typical),
    "kaabachi-time-falls": Timed(rank_with_batch_size),
    "kaabachi-time-levels": Timed(levels, sizes=(128, 512)),
    "kaabachi-fastest-at-32": at_32_quicker("own_epochs"),
    "kaabachi-fastest-at-32-target": at_32_quicker("target_epochs"),
    "kaabachi-offset-time": quicker(LARGE_512, AT_32, column="own_epochs"),
    "kaabachi-offset-updates": sooner(
        LARGE_512, AT_32, column="own_epochs", by=fastest, cost=updates
    ),
    "kaabachi-similar-time": quicker(EXPONENTIAL, SMALL, column="target_epochs", target=similar),
    "kaabachi-tuned-beats-warmup": tuned_gains(WARMEST),
    "kaabachi-tuned-similar": tuned_gains(SMALL),
    "kaabachi-warmup-length": compare(
        rank_of_first,
        side(arm=(protocol.COLD, protocol.EXPONENTIAL, protocol.LENGTHS), sizes=largest),
        side(arm=protocol.LENGTHS),
        column="final",
        across="warmup_epochs",
        gates=ACCURATE,
    ),
    "kaabachi-local-linear": local_gains(COLDEST),
    "kaabachi-local-warmup": local_gains(WARMEST),
    "kaabachi-local-steps": local_gains(SINGLE_STEP),
}
CLAIMS = claims_file.read(Path(__file__).with_name("claims.yaml"), STATISTICS, numbers)
