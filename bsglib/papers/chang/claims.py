"""What Chang & Pathak state, the statistic that tests it, and the rule that judges it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from bsglib.claims import TIMING_REPEATS, Claim, Measured, about, above, below, between
from bsglib.papers import Results
from bsglib.papers.chang import published
from bsglib.papers.chang.protocol import FIXED, LOSS, SCALED, SHARPNESS
from bsglib.papers.chang.readings import (
    GRID,
    RADIUS,
    STEP,
    agreement,
    at_best_rate,
    at_edge,
    at_equal_updates,
    best_lrs,
    epoch_distances,
    equal_loss,
    fixed,
    grid,
    growth,
    layers,
    median_norms,
    most_processes,
    rises,
    scaled,
    seconds,
    total_seconds,
    two_at_large_lr,
    with_losses,
)
from bsglib.papers.tables import per_seed, rank_with_batch_size
from bsglib.stats import interval, kendall

Statistic = Callable[[Results], Measured]
Table = pd.DataFrame  # [seed, batch size] of one quantity
TRAINED = 0.95  # of the loss of guessing; above it a run counts as not trained
OFF = 0.1  # of the training loss at which runs were to stop, by which they may miss it
DEVICES = 4  # of the source


# ------------------------------------------------------------- runs fit for a claim

ARMS = {  # of each set of runs
    fixed: (FIXED,),
    scaled: (FIXED, SCALED),
    grid: GRID,
    two_at_large_lr: GRID,
    equal_loss: (LOSS,),
}


def absence(results: Results, *arms: str) -> str | None:
    """Return why the runs of some arms are not all there, None if they are."""
    n, planned = len(results.of(*arms)), sum(results.planned.get(arm, 0) for arm in arms)
    return f"{n} of {planned} runs of {', '.join(arms)}" if n < planned else None


def failed(runs: pd.DataFrame) -> str | None:
    """Return which run diverged or has learned nothing, None if none did."""
    if why := _diverged(runs):
        return why
    chance = runs[runs["validation_loss"] > TRAINED * np.log(runs["classes"])]
    if len(chance):
        run = chance.iloc[0]
        return f"{_where(run)}: validation loss {run['validation_loss']:.2f}, as good as chance"
    return None


def _diverged(runs: pd.DataFrame) -> str | None:
    gone = runs[runs["stopped"] == "diverged"]
    return f"{_where(gone.iloc[0])}: diverged" if len(gone) else None


def cut_off(runs: pd.DataFrame) -> str | None:
    """Return which run still improved when it was ended, None if none did."""
    improving = runs[runs["stopped"] == "epochs"]
    return f"{_where(improving.iloc[0])}: still improving when it ended" if len(improving) else None


def unsettled(runs: pd.DataFrame) -> str | None:
    """Return which run has no lowest validation loss, or none to speak of; None if all have."""
    return failed(runs) or cut_off(runs)


def smallest_unsettled(runs: pd.DataFrame) -> str | None:
    """Return the same where the smallest batch alone needs its lowest validation loss."""
    return failed(runs) or cut_off(runs[runs["batch_size"] == runs["batch_size"].min()])


def off_target(runs: pd.DataFrame) -> str | None:
    """Return which run at an end is not at the training loss to stop at, None if all are.

    They stop by the loss as it runs, the mean over an epoch; what they are compared at is the loss
    of the weights at its end. Of the batch sizes only the smallest and the largest are compared.
    """
    ends = runs["batch_size"].agg(["min", "max"])
    runs = runs[runs["batch_size"].isin(ends)]
    if why := _diverged(runs):
        return why
    reached = runs["stopped"] == "target_loss"
    loss = runs["train_loss"].where(reached, runs["running_loss"])
    off = (loss / runs["target_loss"] - 1).abs().where(reached, np.inf)
    if off.max() <= OFF:
        return None
    run = off.idxmax()
    where, target = _where(runs.loc[run]), runs.loc[run, "target_loss"]
    return f"{where}: training loss {loss[run]:.2g}, not {target:g}"


def _where(run: pd.Series) -> str:
    return f"B = {run['batch_size']}, learning rate {run['base_lr']:g}"


# ------------------------------------------------------------- statistics: one value per seed


def _judged(
    value: Callable[[Results], Measured | pd.Series],
    *sets: Callable[[Results], pd.DataFrame],
    unfit: Callable[[pd.DataFrame], str | None] = unsettled,
    timed: bool = False,
    sizes: Sequence[int] = (),
) -> Statistic:
    """Return a statistic, taken when all runs that it needs are there and fit for it.

    Args:
        value: of the results, by seed.
        *sets: of runs, that it needs.
        unfit: says why runs cannot be judged, None if they can.
        timed: whether it needs seconds per epoch, too.
        sizes: batch sizes that it needs.
    """

    def statistic(results: Results) -> Measured:
        arms = dict.fromkeys(arm for of in sets for arm in ARMS[of])
        why = absence(results, *arms) or next(
            filter(None, (unfit(of(results)) for of in sets)), None
        )
        if why := why or (_untimed(results) if timed else None):
            return Measured(not_testable=why)
        if missing := [b for b in sizes if b not in results.parameters.batch_sizes]:
            return Measured(not_testable=f"no B = {missing[0]} in this profile")
        found = value(results)
        return found if isinstance(found, Measured) else Measured(tuple(found))

    return statistic


def _taken(
    *sets: Callable[[Results], pd.DataFrame],
    by: Callable[..., pd.Series],
    column: str = SHARPNESS,
    unfit: Callable[[pd.DataFrame], str | None] = unsettled,
    sizes: Sequence[int] = (),
) -> Statistic:
    """Return a statistic of a column of the runs, or of one that `with_losses` adds.

    Args:
        *sets: of runs, a batch size and a seed each once.
        by: from a table [seed, batch size] per set to a value per seed.
        column: of the runs.
        unfit: says why runs cannot be judged, None if they can.
        sizes: batch sizes that it needs.
    """

    def value(results: Results) -> pd.Series:
        return by(*(per_seed(with_losses(results, of(results)), column) for of in sets))

    return _judged(value, *sets, unfit=unfit, sizes=sizes)


def _difference(table: Table) -> pd.Series:
    return table[max(table.columns)] - table[min(table.columns)]


def _ratio(table: Table) -> pd.Series:
    return table[max(table.columns)] / table[min(table.columns)]


def _at_end(table: Table, end: Callable) -> pd.Series:
    return table[end(table.columns)]


def _over_others(table: Table) -> pd.Series:
    """Return the geometric mean over all batch sizes but the smallest."""
    return np.exp(np.log(table.drop(columns=min(table.columns))).mean(axis=1))


def _at(batch_size: int, over: int) -> Callable[[Table], pd.Series]:
    return lambda table: table[batch_size] / table[over]


def _slower(results: Results) -> pd.Series:
    """Training loss where the smallest batch has its lowest validation loss: largest - smallest."""
    runs = fixed(results)
    ends = runs[runs["batch_size"] == results.parameters.smallest].set_index("seed")["kept_epoch"]
    history = results.history_of(FIXED)
    history = history[history["epoch"] <= history["seed"].map(ends)]
    rows = history.groupby(["seed", "batch_size"], as_index=False).last()
    return _difference(per_seed(rows, "running_loss"))


def _equal_updates(results: Results) -> Measured:
    rows = at_equal_updates(results)
    note = f"{rows['updates'].min():,} to {rows['updates'].max():,} updates"
    return Measured(tuple(_difference(per_seed(rows, "validation_loss"))), note=note)


def _every_layer(results: Results) -> pd.Series:
    """The layer in which the largest batch comes nearest to the smallest, or farther still."""
    table = layers(results).pivot(index=["seed", "layer"], columns="batch_size", values="distance")
    return _ratio(table).groupby("seed").max()


def _epoch_ratio(results: Results) -> Measured:
    own = results.history_of(FIXED).groupby(["seed", "batch_size"])["epoch_distance"].mean()
    whole = interval(tuple(_ratio(own.unstack())), ratios=True)
    note = f"over each run's own epochs {whole.mean:.2g}"
    return Measured(tuple(_ratio(epoch_distances(results).groupby("seed").mean())), note=note)


def _ratio_grows(results: Results) -> pd.Series:
    """Return the rank correlation of smallest over largest with the epoch."""
    ratios = 1 / _ratio(epoch_distances(results))
    return ratios.groupby("seed").agg(lambda r: kendall(r, r.index.get_level_values("epoch")))


def _cancelling(results: Results) -> pd.Series:
    """How much of the shrinking of updates the mean gradient shows where weights are held."""
    norms = agreement(results).pivot(index="seed", columns="examples", values="norm")
    return _ratio(norms) / _ratio(per_seed(median_norms(results), "norm"))


def _untimed(results: Results) -> str | None:
    n = len(seconds(results))
    return f"{n} timings, {TIMING_REPEATS} needed" if n < TIMING_REPEATS else None


def _timed(results: Results) -> Measured:
    return Measured(tuple(_ratio(seconds(results))), note="n counts repeats")


def _total(of: Callable[[Results], pd.DataFrame]) -> Statistic:
    return _judged(lambda results: _ratio(total_seconds(results, of(results))), of, timed=True)


def _too_few(results: Results, devices: int) -> str | None:
    cores = int(results.timings["cores"].max())
    if most_processes(results) >= devices:
        return None
    return f"{devices} devices asked for, {cores} core{'s' * (cores > 1)} here"


def _parallel(by: Callable[[Table, Table], pd.Series], *, devices: int | None = None) -> Statistic:
    """Return a statistic of seconds per epoch on one process and on several.

    Args:
        by: takes tables [repeat, batch size], of one process and of several.
        devices: how many; None: as many as there are cores.
    """

    def value(results: Results) -> Measured:
        if why := _too_few(results, devices or 2):
            return Measured(not_testable=why)
        n = devices or most_processes(results)
        several, note = seconds(results, n), f"{n} processes; n counts repeats"
        return Measured(tuple(by(seconds(results), several)), note=note)

    return _judged(value, timed=True)


def _parallel_total(*, devices: int | None = None) -> Statistic:
    """Return the statistic: total seconds, largest batch on several processes / smallest on one.

    Args:
        devices: how many; None: as many as there are cores.
    """

    def value(results: Results) -> Measured:
        if why := _too_few(results, devices or 2):
            return Measured(not_testable=why)
        p, epochs = results.parameters, per_seed(fixed(results), "kept_epoch")
        several = devices or most_processes(results)
        large = epochs[p.largest] * seconds(results, several)[p.largest].median()
        small = epochs[p.smallest] * seconds(results)[p.smallest].median()
        return Measured(tuple(large / small), note=f"{several} processes")

    return _judged(value, fixed, timed=True)


def _on_grid(by: Callable[[Results], pd.Series | Measured]) -> Statistic:
    return _judged(by, grid, unfit=cut_off)  # a rate at which training fails is no best one


def _best_rates(by: Callable[[Results], pd.Series], most: float = 1.0) -> Statistic:
    """Return a statistic of the best rates, which says how many lie at an end of the grid.

    Args:
        by: of the results, by seed.
        most: the share of them there up to which it is taken.
    """

    def value(results: Results) -> Measured:
        note = f"{at_edge(results):.0%} of the best rates lie at an end of the grid"
        if at_edge(results) > most:
            return Measured(not_testable=note)
        return Measured(tuple(by(results)), note=note)

    return _on_grid(value)


def _slope(results: Results) -> pd.Series:
    """Return the slope of log(best rate) over log(batch size), by seed."""
    rates = np.log2(best_lrs(results))
    x = np.log2(np.array(rates.columns, dtype=float))
    x -= x.mean()
    return rates.sub(rates.mean(axis=1), axis=0) @ x / (x @ x)  # least squares


def _off_small(results: Results) -> pd.Series:
    """Return how many doublings the smallest batch's best rate lies above the source's."""
    p = results.parameters
    return np.log2(best_lrs(results)[p.smallest] / p.lr)


def _off_others(results: Results) -> pd.Series:
    """Return how many doublings the others' best rates lie off the largest batch's scaled one."""
    p = results.parameters
    others = best_lrs(results).drop(columns=p.smallest)
    return np.log2(others / p.scaled_lr(p.largest)).abs().mean(axis=1)


def _tuned_gap(results: Results) -> Measured:
    """Return the test loss at the tuned rates: largest - smallest batch.

    Where the largest batch's rate is an end of the grid, a better one may lie beyond it; where the
    smallest's is, the gap may be larger still.
    """
    p, runs = results.parameters, at_best_rate(results)
    rates = runs.groupby("batch_size")["base_lr"].first()
    note = f"rates {rates[p.smallest]:g} and {rates[p.largest]:g}"
    if rates[p.largest] in (min(p.lrs), max(p.lrs)):
        return Measured(not_testable=f"{note}: the largest batch's best is an end of the grid")
    if rates[p.smallest] in (min(p.lrs), max(p.lrs)):
        note += ", the first an end of the grid"
    return Measured(tuple(_difference(per_seed(runs, "test_loss"))), note=note)


def _second_over_first(results: Results) -> pd.Series:
    """Return the loss at the largest scaled rate: second smallest - smallest batch."""
    runs = two_at_large_lr(results)
    guessing = np.log(runs["classes"])
    loss = runs["validation_loss"].where(runs["stopped"] != "diverged", guessing)
    return _difference(per_seed(runs.assign(loss=loss.clip(upper=guessing)), "loss"))


def _wins_too_high(results: Results) -> Measured:
    """Return how often the rates at which a larger batch beats the smallest are above its best.

    Less the share of rates above it, which is how often it would be if the rate did not matter. A
    diverged run is beaten by any that is not.
    """
    p, runs = results.parameters, grid(results)
    loss = runs["validation_loss"].where(runs["stopped"] != "diverged", np.inf)
    table = runs.assign(loss=loss).pivot(
        index=["seed", "base_lr"], columns="batch_size", values="loss"
    )
    wins = table.drop(columns=p.smallest).lt(table[p.smallest], axis=0).sum(axis=1)
    best = best_lrs(results)[p.smallest]
    high = wins.index.get_level_values("base_lr") > wins.index.get_level_values("seed").map(best)
    all_wins = wins.groupby("seed").sum()
    if (all_wins == 0).any():
        return Measured(not_testable="the smallest batch size wins at every rate")
    share = wins.where(high, 0).groupby("seed").sum() / all_wins
    by_chance = pd.Series(high, wins.index).groupby("seed").mean()
    return Measured(tuple(share - by_chance), note=f"share of wins {share.mean():.0%}")


def _of_a_gap(
    column: str,
    gap: Callable[[Table], pd.Series],
    by: Callable[[pd.Series, pd.Series], pd.Series],
) -> Statistic:
    """Return a statistic of the gap at the fixed and at the scaled rate, if there is one to close.

    Args:
        column: of the runs.
        gap: between the largest and the smallest batch, by seed; positive as in the source.
        by: from the gap at the fixed and at the scaled rate to a value per seed.
    """

    def value(results: Results) -> Measured:
        before, after = (gap(per_seed(of(results), column)) for of in (fixed, scaled))
        if interval(tuple(before)).low <= 0:
            return Measured(not_testable="no gap at the fixed rate that could be closed")
        return Measured(tuple(by(before, after)))

    return _judged(value, fixed, scaled)


def _shortfall(table: Table) -> pd.Series:
    """Return by how much ln(distance) is lower at the largest batch."""
    return -np.log(_ratio(table))


# ------------------------------------------------------------- claims

NATS = "nats: largest - smallest B"
ENDS = "largest B / smallest"
TAU = "rank correlation with B"
SPEED = "figure 7"


class Stated(NamedTuple):
    """A ratio of two numbers that the source prints: as the tables show it, and rounded."""

    text: str
    ratio: float


def _over(numbers: Mapping[int, float]) -> Stated:
    """Return the source's number at 256 over that at 32."""
    small, large = numbers[32], numbers[256]
    ratio = round(large / small, 2)
    return Stated(f"{large:,g} / {small:,g} = {ratio:.2f}", ratio)


def _minus(large: float, small: float) -> str:
    return f"{large:.3f} - {small:.3f} = {large - small:.3f}"


VALIDATION, SECONDS, EPOCHS, NORM, SCALED_TOTAL = map(
    _over,
    (
        published.VALIDATION,
        published.SECONDS_PER_EPOCH,
        published.EPOCHS,
        published.UPDATE_NORM,
        published.SCALED_TOTAL_SECONDS,
    ),
)
FOUR = _over({32: published.SECONDS_PER_EPOCH[256], 256: published.PARALLEL_SECONDS_PER_EPOCH[256]})
FOUR_TOTAL = _over({32: published.TOTAL_SECONDS[32], 256: published.PARALLEL_TOTAL_SECONDS[256]})
PATH = {b: math.sqrt(low * high) for b, (low, high) in published.EPOCH_DISTANCE.items()}
FIXED_256, SCALED_LOSS = published.VALIDATION[256], published.SCALED_VALIDATION
LEFT, GAP = SCALED_LOSS[256] - SCALED_LOSS[32], FIXED_256 - published.VALIDATION[32]

CLAIMS = (
    Claim(
        id="chang-training-slower",
        figure="losses",
        locator="figure 5",
        statement="The larger the batch, the slower the training loss falls.",
        quantity=f"running training loss where the smallest B is at its best, {NATS}",
        rule=above(0),
        statistic=_judged(_slower, fixed, unfit=smallest_unsettled),
    ),
    Claim(
        id="chang-best-validation",
        figure="best-losses",
        locator="figure 6",
        statement="The largest batch's lowest validation loss is higher than the smallest's.",
        quantity=f"lowest validation loss, {ENDS}",
        value=VALIDATION.text,
        rule=about(VALIDATION.ratio, factor=1.08),
        statistic=_taken(fixed, by=_ratio, column="validation_loss"),
    ),
    Claim(
        id="chang-best-validation-order",
        figure="best-losses",
        locator="figure 6",
        statement="The larger the batch, the higher the lowest validation loss.",
        quantity=f"lowest validation loss: {TAU}",
        rule=above(0),
        statistic=_taken(fixed, by=rank_with_batch_size, column="validation_loss"),
    ),
    Claim(
        id="chang-best-training",
        figure="best-losses",
        locator="figure 6",
        statement="The largest batch's lowest training loss is higher, too.",
        quantity=f"lowest training loss as it ran, {NATS}",
        rule=above(0),
        statistic=_taken(fixed, by=_difference, column="lowest_running"),
    ),
    Claim(
        id="chang-premise-training",
        figure="best-losses",
        locator="section on why batch size matters, after Keskar",
        statement="Larger batches reach a similar training loss (against the source's own "
        "figure 6).",
        quantity=f"training loss at the lowest validation loss, {NATS}",
        rule=between(-0.02, 0.02),
        statistic=_taken(fixed, by=_difference, column="train_loss"),
    ),
    Claim(
        id="chang-premise-gap",
        figure="best-losses",
        locator="section on why batch size matters, after Keskar",
        statement="Larger batches have the wider gap between training and validation loss.",
        quantity=f"validation - training loss, {NATS}",
        rule=above(0),
        statistic=_taken(fixed, by=_difference, column="gap"),
    ),
    Claim(
        id="chang-gap-equal-updates",
        figure="best-losses",
        locator="ours",
        statement="The largest batch's validation loss is higher after as many updates, too.",
        quantity=f"lowest validation loss up to equal updates, {NATS}",
        value="ours",
        rule=above(0),
        statistic=_judged(_equal_updates, fixed, unfit=failed),
    ),
    Claim(
        id="chang-gap-equal-loss",
        figure="equal-loss",
        locator="ours",
        statement="At an equal training loss the largest batch's validation loss is higher.",
        quantity=f"validation - training loss, {NATS}",
        value="ours",
        rule=above(0),
        statistic=_taken(equal_loss, by=_difference, column="gap", unfit=off_target),
    ),
    Claim(
        id="chang-time-per-epoch",
        figure="times",
        locator=SPEED,
        statement="An epoch of the largest batch takes less time.",
        quantity=f"seconds per epoch, {ENDS}",
        value=SECONDS.text,
        rule=about(SECONDS.ratio, factor=1.25),
        statistic=_judged(_timed, timed=True),
    ),
    Claim(
        id="chang-epochs",
        figure="times",
        locator=SPEED,
        statement="The largest batch needs more epochs to its lowest validation loss.",
        quantity=f"epochs, {ENDS}",
        value=EPOCHS.text,
        rule=about(EPOCHS.ratio, factor=2),
        statistic=_taken(fixed, by=_ratio, column="kept_epoch"),
    ),
    Claim(
        id="chang-epochs-order",
        figure="times",
        locator=SPEED,
        statement="The larger the batch, the more epochs.",
        quantity=f"epochs to the lowest validation loss: {TAU}",
        rule=above(0),
        statistic=_taken(fixed, by=rank_with_batch_size, column="kept_epoch"),
    ),
    Claim(
        id="chang-total-time",
        figure="times",
        locator=SPEED,
        statement="So the largest batch takes almost four times as long overall.",
        quantity=f"epochs x seconds per epoch, {ENDS}",
        value="almost 4",
        rule=about(4, factor=2),
        statistic=_total(fixed),
    ),
    Claim(
        id="chang-parallel-large",
        figure="parallel",
        locator="figure 8",
        statement="Four devices about halve the time of an epoch of the largest batch.",
        quantity="seconds per epoch, four devices / one",
        value=FOUR.text,
        rule=about(FOUR.ratio, factor=1.25),
        statistic=_parallel(
            lambda one, four: _at_end(four, max) / _at_end(one, max), devices=DEVICES
        ),
    ),
    Claim(
        id="chang-parallel-small",
        figure="parallel",
        locator="figure 8",
        statement="Four devices make the smallest batch slightly slower.",
        quantity="seconds per epoch, four devices / one",
        rule=above(1, ratios=True),
        statistic=_parallel(
            lambda one, four: _at_end(four, min) / _at_end(one, min), devices=DEVICES
        ),
    ),
    Claim(
        id="chang-parallel-here",
        figure="parallel",
        locator="ours, after figure 8",
        statement="With a process on each core, the largest batch's epoch takes less time.",
        quantity="seconds per epoch of the largest B, processes / one",
        value="ours",
        rule=below(1, ratios=True),
        statistic=_parallel(lambda one, more: _at_end(more, max) / _at_end(one, max)),
    ),
    Claim(
        id="chang-parallel-gains",
        figure="parallel",
        locator="ours, after figure 8",
        statement="Splitting a batch gains more for the largest batch than for the smallest.",
        quantity="time saved: largest B's seconds, processes / one, over the smallest's",
        value="ours",
        rule=below(1, ratios=True),
        statistic=_parallel(lambda one, more: _ratio(more) / _ratio(one)),
    ),
    Claim(
        id="chang-parallel-total",
        figure="parallel",
        locator="figure 8",
        statement="Even so the largest batch takes longer overall than the smallest on one device.",
        quantity="total seconds, largest B on several / smallest on one",
        value=FOUR_TOTAL.text,
        rule=above(1, ratios=True),
        statistic=_parallel_total(devices=DEVICES),
    ),
    Claim(
        id="chang-parallel-total-here",
        figure="parallel",
        locator="ours, after figure 8",
        statement="With a process on each core it takes longer overall, too.",
        quantity="total seconds, largest B on several / smallest on one",
        value="ours",
        rule=above(1, ratios=True),
        statistic=_parallel_total(),
    ),
    Claim(
        id="chang-nearer",
        figure="distance",
        locator="figure 10",
        statement="The largest batch's minimizer lies nearer the initial weights.",
        quantity=f"distance, {ENDS}",
        rule=below(1, ratios=True),
        statistic=_taken(fixed, by=_ratio, column="distance"),
    ),
    Claim(
        id="chang-nearer-order",
        figure="distance",
        locator="figure 10",
        statement="Generally, the larger the batch, the nearer.",
        quantity=f"distance: {TAU}",
        rule=below(0),
        statistic=_taken(fixed, by=rank_with_batch_size, column="distance"),
    ),
    Claim(
        id="chang-nearer-128",
        figure="distance",
        locator="figure 10, an exception there",
        statement="B = 128 ends farther from the initial weights than B = 64.",
        quantity="distance, B = 128 / B = 64",
        rule=above(1, ratios=True),
        statistic=_taken(fixed, by=_at(128, over=64), column="distance", sizes=(64, 128)),
    ),
    Claim(
        id="chang-nearer-layers",
        figure="layers",
        locator="figure 11",
        statement="It is nearer in every layer.",
        quantity=f"distance, {ENDS}, in the layer where that is largest",
        rule=below(1, ratios=True),
        statistic=_judged(_every_layer, fixed),
    ),
    Claim(
        id="chang-epoch-distance",
        figure="epoch-distance",
        locator="figure 12",
        statement="The largest batch covers a tenth of the distance in an epoch.",
        quantity=f"distance per epoch, mean over common epochs, {ENDS}",
        value="{} to {} / {} to {}".format(
            *published.EPOCH_DISTANCE[256], *published.EPOCH_DISTANCE[32]
        ),
        rule=about(_over(PATH)[1], factor=2),
        statistic=_judged(_epoch_ratio, fixed, unfit=failed),
    ),
    Claim(
        id="chang-epoch-distance-grows",
        figure="epoch-distance",
        locator="figure 12",
        statement="The ratio of the distances per epoch grows as training goes on.",
        quantity="smallest B / largest: rank correlation with the epoch",
        rule=above(0),
        statistic=_judged(_ratio_grows, fixed, unfit=failed),
    ),
    Claim(
        id="chang-update-norm",
        figure="update-norms",
        locator="figure 13",
        statement="Each update is smaller when the batch is larger.",
        quantity=f"median norm of the updates, {ENDS}",
        value=NORM.text,
        rule=about(NORM.ratio, factor=1.25),
        statistic=_judged(lambda r: _ratio(per_seed(median_norms(r), "norm")), fixed, unfit=failed),
    ),
    Claim(
        id="chang-cancelling",
        figure="agreement",
        locator="figures 14 to 16",
        statement="Gradients that cancel explain by how much the updates shrink.",
        quantity=f"norm of the mean gradient at fixed weights, {ENDS}, over that of the median "
        "update of whole runs",
        rule=about(1, factor=1.5),
        statistic=_judged(_cancelling, fixed, unfit=smallest_unsettled),
    ),
    Claim(
        id="chang-sharper-line",
        figure="line",
        locator="figure 18",
        statement="On the line between them, the largest batch's minimizer is much the sharper.",
        quantity=f"rise of log(training loss) {STEP:g} off the end: largest - smallest B",
        rule=above(0),
        statistic=_judged(lambda r: _difference(rises(r)), fixed),
    ),
    Claim(
        id="chang-sharper",
        figure="sharpness",
        locator="figure 21",
        statement="The largest batch's minimizer is the sharper.",
        quantity=f"sharpness, {ENDS}",
        rule=above(1, ratios=True),
        statistic=_taken(fixed, by=_ratio),
    ),
    Claim(
        id="chang-sharper-order",
        figure="sharpness",
        locator="figure 21",
        statement="The larger the batch, the sharper.",
        quantity=f"sharpness: {TAU}",
        rule=above(0),
        statistic=_taken(fixed, by=rank_with_batch_size),
    ),
    Claim(
        id="chang-sharper-equal-loss",
        figure="equal-loss",
        locator="ours",
        statement="At an equal training loss the largest batch's weights are the sharper.",
        quantity=f"sharpness, {ENDS}",
        value="ours",
        rule=above(1, ratios=True),
        statistic=_taken(equal_loss, by=_ratio, unfit=off_target),
    ),
    Claim(
        id="chang-sharper-surface",
        figure="surfaces",
        locator="figure 22",
        statement="The filter-normalized loss varies more around the largest batch's minimizer.",
        quantity=f"mean growth of the loss within {RADIUS:g}, {ENDS}",
        rule=above(1, ratios=True),
        statistic=_judged(lambda r: _ratio(growth(r)), fixed),
    ),
    Claim(
        id="chang-scaling-helps",
        figure="scaled-losses",
        locator="figure 24",
        statement="A linearly scaled rate lowers the largest batch's lowest validation loss.",
        quantity="nats: scaled - fixed rate",
        value=_minus(SCALED_LOSS[256], FIXED_256),
        rule=below(0),
        statistic=_taken(
            fixed,
            scaled,
            column="validation_loss",
            by=lambda f, s: _at_end(s, max) - _at_end(f, max),
        ),
    ),
    Claim(
        id="chang-scaling-closes",
        figure="scaled-losses",
        locator="figure 24",
        statement="It closes most of the gap between the batch sizes.",
        quantity=f"|gap left| - half of the gap at the fixed rate, {NATS}",
        value=f"{LEFT:.3f} - {GAP:.3f} / 2 = {LEFT - GAP / 2:.3f}",
        rule=below(0),
        statistic=_of_a_gap(
            "validation_loss", _difference, lambda before, after: after.abs() - before.abs() / 2
        ),
    ),
    Claim(
        id="chang-scaling-remains",
        figure="scaled-losses",
        locator="conclusion",
        statement="A small gap remains.",
        quantity=f"lowest validation loss at scaled rates, {NATS}",
        value=_minus(SCALED_LOSS[256], SCALED_LOSS[32]),
        rule=between(0.001, 0.02),
        statistic=_of_a_gap("validation_loss", _difference, lambda before, after: after),
    ),
    Claim(
        id="chang-scaled-epochs",
        figure="scaled-times",
        locator="figure 25",
        statement="With scaled rates the batch sizes need about as many epochs.",
        quantity=f"epochs to the lowest validation loss, {ENDS}",
        rule=about(1, factor=2),
        statistic=_taken(scaled, by=_ratio, column="kept_epoch"),
    ),
    Claim(
        id="chang-scaled-time",
        figure="scaled-times",
        locator="figure 25",
        statement="So the largest batch becomes the faster one overall.",
        quantity=f"epochs x seconds per epoch, {ENDS}",
        value=SCALED_TOTAL.text,
        rule=below(1, ratios=True),
        statistic=_total(scaled),
    ),
    Claim(
        id="chang-scaled-flatter",
        figure="scaled-sharpness",
        locator="figure 26",
        statement="Scaled rates make the larger batches' minimizers flatter.",
        quantity="sharpness, scaled / fixed rate, mean over all B but the smallest",
        rule=below(1, ratios=True),
        statistic=_taken(fixed, scaled, by=lambda f, s: _over_others(s / f)),
    ),
    Claim(
        id="chang-scaled-still-sharper",
        figure="scaled-sharpness",
        locator="figure 26",
        statement="They stay sharper than the smallest batch's.",
        quantity="sharpness at scaled rates, mean over all B but the smallest / the smallest",
        value="{} to {} / {}".format(
            *published.SCALED_SHARPNESS[256], published.SCALED_SHARPNESS[32][0]
        ),
        rule=above(1, ratios=True),
        statistic=_taken(scaled, by=lambda s: _over_others(s.div(_at_end(s, min), axis=0))),
    ),
    Claim(
        id="chang-scaled-distance",
        figure="scaled-distance",
        locator="figure 27",
        statement="Scaled rates close the gap in the distance from the initial weights.",
        quantity=f"|ln(distance, {ENDS})|: scaled - fixed",
        rule=below(0),
        statistic=_of_a_gap(
            "distance", _shortfall, lambda before, after: after.abs() - before.abs()
        ),
    ),
    Claim(
        id="chang-scaled-distance-128",
        figure="scaled-distance",
        locator="figure 27, an exception there",
        statement="At B = 128 the scaled rate shortens the distance.",
        quantity="distance at B = 128, scaled / fixed rate",
        rule=below(1, ratios=True),
        statistic=_taken(
            fixed, scaled, column="distance", by=lambda f, s: s[128] / f[128], sizes=(128,)
        ),
    ),
    Claim(
        id="chang-large-lr",
        figure="large-lr",
        locator="figure 28",
        statement="At a rate eight times as high the second smallest batch beats the smallest.",
        quantity="lowest validation loss, nats (of a diverged run that of guessing): second "
        "smallest - smallest B",
        rule=below(0),
        statistic=_judged(_second_over_first, two_at_large_lr, unfit=cut_off),
    ),
    Claim(
        id="chang-wins-too-high",
        figure="rates",
        locator="figure 28, what it may indicate",
        statement="Where a larger batch beats the smallest at an equal rate, the rate is above the "
        "smallest batch's best.",
        quantity="share of such wins - share of rates above its best",
        rule=above(0),
        statistic=_on_grid(_wins_too_high),
    ),
    Claim(
        id="chang-best-lr-rises",
        figure="rates",
        locator="figure 29",
        statement="Small batches do best with small rates, large ones with large rates.",
        quantity="slope of log(best rate) over log(B)",
        rule=above(0),
        statistic=_best_rates(_slope),
    ),
    Claim(
        id="chang-best-lr-linear",
        figure="rates",
        locator="conclusion, the linear rule",
        statement="The best rate grows in proportion to the batch size (against the source's own "
        "figure 29, where it is the same for all but the smallest).",
        quantity="slope of log(best rate) over log(B)",
        rule=between(0.5, 1.5),
        statistic=_best_rates(_slope, most=0.5),
    ),
    Claim(
        id="chang-best-lr-small",
        figure="rates",
        locator="figure 29",
        statement="The smallest batch does best at the lowest rate tried (there .01).",
        quantity="doublings from the lowest rate to the best one",
        rule=below(0.5),
        statistic=_best_rates(_off_small),
    ),
    Claim(
        id="chang-best-lr-others",
        figure="rates",
        locator="figure 29",
        statement="All other batch sizes do best at a rate eight times as high.",
        quantity="doublings between that rate and the best one, mean over B",
        rule=below(0.5),
        statistic=_best_rates(_off_others),
    ),
    Claim(
        id="chang-worse-in-general",
        figure="heat-map",
        locator="conclusion, a question there",
        statement="Asked there: at its own best rate the largest batch still does worse.",
        quantity=f"test loss, rates chosen by validation loss, {NATS}",
        value="asked",
        rule=above(0),
        statistic=_on_grid(_tuned_gap),
    ),
)
