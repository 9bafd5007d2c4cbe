"""The statistic that tests each claim of Chang & Pathak; claims.yaml has the statements."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bsglib.claims import Measured
from bsglib.runs.measures import LINE
from bsglib.stats import interval, kendall
from bsglib.studies import stated
from bsglib.studies.chang import protocol, published, readings
from bsglib.studies.chang.protocol import PLANES, SHARPNESS, SURFACE, ChangParameters
from bsglib.studies.comparing import (
    Comparison,
    Gate,
    Of,
    Side,
    Table,
    Timed,
    cut_off,
    difference,
    diverged,
    ends,
    largest,
    last_minus_first,
    last_over_first,
    ratio,
    rises,
    run_name,
    seconds,
    side,
    smallest,
    untimed,
)
from bsglib.studies.study import Results, matching
from bsglib.studies.tables import per_seed, rank_with_batch_size

TRAINED = 0.95  # of the loss of guessing; above it a run counts as not trained
OFF = 0.1  # of the training loss at which runs were to stop, by which they may miss it
DEVICES = 4  # of the paper
AT_EDGE = 0.5  # share of best rates at an end of the grid above which no slope is judged
STEP = 0.25  # of alpha, and
RADIUS = 0.5  # of the filter-normalized plane, at which the growth of the loss is read

FIXED, SCALED = side(arm=protocol.FIXED), side(scaled=True)
GRID, LOSS = side(whole_grid=True), side(arm=protocol.LOSS)


# ------------------------------------------------------------- runs fit for a claim


def others(p: ChangParameters) -> list[int]:
    """Return all batch sizes but the smallest."""
    return sorted(p.batch_sizes)[1:]


def failed(runs: pd.DataFrame) -> str | None:
    """Return which run diverged or has learned nothing, None if none did."""
    if why := diverged(runs):
        return why
    chance = runs[runs["validation_loss"] > TRAINED * np.log(runs["classes"])]
    if chance.empty:
        return None
    run = chance.iloc[0]
    return f"{run_name(run)}: validation loss {run['validation_loss']:.2f}, no better than chance"


def off_target(runs: pd.DataFrame) -> str | None:
    """Return which run is not at the training loss to stop at, None if all are.

    They stop by the loss as it runs, the mean over an epoch; what they are compared at is the loss
    of the weights at its end.
    """
    if why := diverged(runs):
        return why
    reached = runs["stopped"] == "target_loss"
    loss = runs["train_loss"].where(reached, runs["running_loss"])
    off = (loss / runs["target_loss"] - 1).abs().where(reached, np.inf)
    if off.max() <= OFF:
        return None
    run = runs.assign(loss=loss).iloc[off.argmax()]
    return f"{run_name(run)}: training loss {run['loss']:.2g}, target {run['target_loss']:g}"


def timed(results: Results, sides: Sequence[Side]) -> str | None:
    """Return how few timings there are, None if they are enough."""
    return untimed(results, processes=1)


LEARNED, ENDED = Of(failed), Of(cut_off)
SETTLED = (LEARNED, ENDED)  # runs have a lowest validation loss
SMALLEST_SETTLED = (LEARNED, Of(cut_off, sizes=smallest))
ON_TARGET = (Of(off_target, sizes=ends),)
ONE_PROCESS = ({"processes": 1},)  # condition of the times


def compare(
    by: Callable[..., Measured | pd.Series],
    *sides: Side,
    column: str | None = None,
    gates: tuple[Gate, ...] = SETTLED,
    **options: Any,
) -> Comparison:
    """Return a `Comparison` of runs that have a lowest validation loss, or pass other gates."""
    options |= {"column": column, "gates": gates, "derive": readings.derived}
    return Comparison(by, sides, **options)


# ------------------------------------------------------------- losses, distances, updates


def slower(results: Results) -> pd.Series:
    """Training loss where the smallest batch has its lowest validation loss: largest - smallest."""
    runs = readings.fixed(results)
    end = runs[runs["batch_size"] == results.parameters.smallest].set_index("seed")["kept_epoch"]
    history = results.history_of(protocol.FIXED)
    history = history[history["epoch"] <= history["seed"].map(end)]
    rows = history.groupby(["seed", "batch_size"], as_index=False).last()
    return last_minus_first(per_seed(rows, "running_loss"))


def equal_updates(results: Results) -> Measured:
    """Return the lowest validation loss up to equal updates: largest - smallest batch."""
    rows = readings.at_equal_updates(results)
    note = f"{rows['updates'].min():,} to {rows['updates'].max():,} updates"
    return Measured(tuple(last_minus_first(per_seed(rows, "validation_loss"))), note=note)


def every_layer(results: Results) -> pd.Series:
    """The layer in which the largest batch comes nearest to the smallest, or farther still."""
    table = readings.layers(results).pivot(
        index=["seed", "layer"], columns="batch_size", values="distance"
    )
    return last_over_first(table).groupby("seed").max()


def epoch_ratio(results: Results) -> Measured:
    """Return the mean distance per epoch, largest over smallest batch."""
    own = results.history_of(protocol.FIXED).groupby(["seed", "batch_size"])["epoch_distance"]
    whole = interval(tuple(last_over_first(own.mean().unstack())), ratios=True)
    common = last_over_first(readings.epoch_distances(results).groupby("seed").mean())
    return Measured(tuple(common), note=f"ratio over each run's own epochs: {whole.mean:.2g}")


def ratio_grows(results: Results) -> pd.Series:
    """Return the rank correlation of smallest over largest with the epoch."""
    ratios = 1 / last_over_first(readings.epoch_distances(results))
    return ratios.groupby("seed").agg(lambda r: kendall(r, r.index.get_level_values("epoch")))


def update_ratio(results: Results) -> pd.Series:
    """Return the median norm of the updates, largest over smallest batch."""
    return last_over_first(per_seed(readings.median_norms(results), "norm"))


def cancelling(results: Results) -> pd.Series:
    """How much of the shrinking of updates the mean gradient shows where weights are held."""
    norms = readings.agreement(results).pivot(index="seed", columns="examples", values="norm")
    return last_over_first(norms) / update_ratio(results)


# ------------------------------------------------------------- sharpness


def steeper(results: Results) -> pd.Series:
    """Return how much more log(training loss) rises around the largest batch's end of the line."""
    line = results.points_of(protocol.FIXED, measure=LINE, set="train")
    return last_minus_first(rises(line.assign(loss=np.log(line["loss"])), STEP))


def growth(results: Results) -> Table:
    """Return the mean growth of the loss within RADIUS of the filter-normalized plane, at ends."""
    p = results.parameters
    which = {"measure": SURFACE, "seeds": str(list(PLANES[0])), "points": p.explorer_points}
    planes = results.points_of(protocol.FIXED, batch_size=ends(p), **which)
    inside = planes[np.hypot(planes["a"], planes["b"]) <= RADIUS + 1e-9]
    cells = ["seed", "batch_size"]
    middle = inside[(inside["a"] == 0) & (inside["b"] == 0)].set_index(cells)["loss"]
    return (inside.groupby(cells)["loss"].mean() - middle).unstack().dropna()


def over_smallest(table: Table) -> pd.Series:
    """Return the mean over all batch sizes but the smallest over the value at the smallest."""
    smallest = min(table.columns)
    return ratio(table.drop(columns=smallest), table[[smallest]])


# ------------------------------------------------------------- a gap that scaling closes


def shortfall(table: Table) -> pd.Series:
    """Return by how much ln(distance) is lower at the largest batch."""
    return -np.log(last_over_first(table))


def closing(
    gap: Callable[[Table], pd.Series], by: Callable[[pd.Series, pd.Series], pd.Series], column: str
) -> Comparison:
    """Return a comparison of a gap at the fixed and at the scaled rate, if there is one to close.

    Args:
        gap: between the largest and the smallest batch, by seed; positive as in the paper.
        by: from the gap at the fixed and at the scaled rate to a value per seed.
        column: of the runs.
    """

    def closed(at_fixed: Table, at_scaled: Table) -> Measured | pd.Series:
        before = gap(at_fixed)
        if interval(tuple(before)).low <= 0:
            return Measured(not_testable="no gap at the fixed rate to close")
        return by(before, gap(at_scaled))

    return compare(closed, FIXED, SCALED, column=column)


# ------------------------------------------------------------- times


def parallel(
    by: Callable[[Results, Table, Table], pd.Series], *sides: Side, devices: int | None = None
) -> Comparison:
    """Return a comparison of seconds per epoch on one process and on several.

    Args:
        by: from the results and tables [repeat, batch size], of one process and of several, to a
            value per seed of the sides, or per repeat without sides.
        *sides: of `Comparison`.
        devices: how many processes; None: as many as there are cores.
    """

    def found(results: Results) -> Measured:
        n, cores = devices or readings.most_processes(results), int(results.timings["cores"].max())
        if readings.most_processes(results) < (least := devices or 2):
            here = f"{cores} core{'s' * (cores > 1)} available"
            return Measured(not_testable=f"{least} devices needed, {here}")
        values = by(results, seconds(results, processes=1), seconds(results, processes=n))
        note = f"{n} processes" + "; n counts repeats" * (not sides)
        return Measured(tuple(values), note=note)

    return compare(found, *sides, gates=(*SETTLED, timed))


def split_at(end: Callable) -> Callable[[Results, Table, Table], pd.Series]:
    """Return what returns seconds per epoch at an end, several processes over one."""
    return lambda results, one, more: more[end(more)] / one[end(one)]


def total_split(results: Results, one: Table, more: Table) -> pd.Series:
    """Return total seconds: the largest batch on several processes / the smallest on one."""
    epochs = per_seed(readings.fixed(results), "kept_epoch")
    small, large = ends(results.parameters)
    return epochs[large] * more[large].median() / (epochs[small] * one[small].median())


# ------------------------------------------------------------- rates


def on_grid(by: Callable[[Results], Measured | pd.Series], **options: Any) -> Comparison:
    """Return a comparison over the grid; a rate at which training fails is no best one."""
    return compare(by, GRID, gates=(ENDED,), **options)


def at_edge(results: Results) -> float:
    """Return the share of best rates at an end of the grid, beyond which there may be better."""
    p = results.parameters
    return float(readings.best_lrs(results).isin((min(p.lrs), max(p.lrs))).to_numpy().mean())


def at_edge_note(results: Results) -> str:
    """Return the same in words."""
    return f"{at_edge(results):.0%} of the best rates lie at an end of the grid"


def slope(results: Results) -> pd.Series:
    """Return the slope of log(best rate) over log(batch size), by seed."""
    rates = np.log2(readings.best_lrs(results))
    x = np.log2(np.array(rates.columns, dtype=float))
    x -= x.mean()
    return rates.sub(rates.mean(axis=1), axis=0) @ x / (x @ x)  # least squares


def slope_inside(results: Results) -> Measured | pd.Series:
    """Return the same if not too many best rates lie at an end of the grid."""
    at_ends = at_edge(results) > AT_EDGE
    return Measured(not_testable=at_edge_note(results)) if at_ends else slope(results)


def off_small(results: Results) -> pd.Series:
    """Return how many doublings the smallest batch's best rate lies above the paper's."""
    p = results.parameters
    return np.log2(readings.best_lrs(results)[p.smallest] / p.lr)


def off_others(results: Results) -> pd.Series:
    """Return how many doublings the others' best rates lie off the largest batch's scaled one."""
    p = results.parameters
    rates = readings.best_lrs(results).drop(columns=p.smallest)
    return np.log2(rates / p.scaled_lr(p.largest)).abs().mean(axis=1)


def tuned_gap(results: Results) -> Measured:
    """Return the test loss at the tuned rates: largest - smallest batch.

    Where the largest batch's rate is an end of the grid, a better one may lie beyond it; where the
    smallest's is, the gap may be larger still.
    """
    p, runs = results.parameters, readings.at_best_rate(results)
    rates = runs.groupby("batch_size")["base_lr"].first()
    note = f"rates {rates[p.smallest]:g} and {rates[p.largest]:g}"
    if rates[p.largest] in (min(p.lrs), max(p.lrs)):
        return Measured(
            not_testable=f"{note}: the largest batch's best rate is at an end of the grid"
        )
    if rates[p.smallest] in (min(p.lrs), max(p.lrs)):
        note += ", the first at an end of the grid"
    return Measured(tuple(last_minus_first(per_seed(runs, "test_loss"))), note=note)


def two_at_large_lr(results: Results) -> pd.DataFrame:
    """Return the runs of the two smallest batch sizes at the largest one's scaled rate."""
    p = results.parameters
    two = sorted(p.batch_sizes)[:2]
    return matching(readings.grid(results), batch_size=two, base_lr=p.scaled_lr(p.largest))


def second_over_first(results: Results) -> pd.Series:
    """Return the loss at the largest scaled rate: second smallest - smallest batch."""
    runs = two_at_large_lr(results)
    guessing = np.log(runs["classes"])
    loss = runs["validation_loss"].where(runs["stopped"] != "diverged", guessing)
    return last_minus_first(per_seed(runs.assign(loss=loss.clip(upper=guessing)), "loss"))


def wins_too_high(results: Results) -> Measured:
    """Return how often the rates at which a larger batch beats the smallest are above its best.

    Less the share of rates above it, which is how often it would be if the rate did not matter. A
    diverged run is beaten by any that is not.
    """
    p, runs = results.parameters, readings.rates(results)
    cells = runs.set_index(["seed", "base_lr", "batch_size"])["validation_loss"].unstack()
    wins = cells.drop(columns=p.smallest).lt(cells[p.smallest], axis=0).sum(axis=1)
    best = readings.best_lrs(results)[p.smallest]
    high = wins.index.get_level_values("base_lr") > wins.index.get_level_values("seed").map(best)
    all_wins = wins.groupby("seed").sum()
    if (all_wins == 0).any():
        return Measured(not_testable="the smallest batch size wins at every rate")
    share = wins.where(high, 0).groupby("seed").sum() / all_wins
    by_chance = pd.Series(high, wins.index).groupby("seed").mean()
    return Measured(tuple(share - by_chance), note=f"share of wins {share.mean():.0%}")


# ------------------------------------------------------------- claims


STATISTICS = {
    "chang-training-slower": compare(slower, FIXED, gates=SMALLEST_SETTLED),
    "chang-best-validation": compare(last_over_first, FIXED, column="validation_loss"),
    "chang-best-validation-order": compare(rank_with_batch_size, FIXED, column="validation_loss"),
    "chang-best-training": compare(last_minus_first, FIXED, column="lowest_running"),
    "chang-premise-training": compare(last_minus_first, FIXED, column="train_loss"),
    "chang-premise-gap": compare(last_minus_first, FIXED, column="gap"),
    "chang-gap-equal-updates": compare(equal_updates, FIXED, gates=(LEARNED,)),
    "chang-gap-equal-loss": compare(last_minus_first, LOSS, column="gap", gates=ON_TARGET),
    "chang-time-per-epoch": Timed(last_over_first, ONE_PROCESS),
    "chang-epochs": compare(last_over_first, FIXED, column="kept_epoch"),
    "chang-epochs-order": compare(rank_with_batch_size, FIXED, column="kept_epoch"),
    "chang-total-time": compare(
        last_over_first, FIXED, column="total_seconds", gates=(*SETTLED, timed)
    ),
    "chang-parallel-large": parallel(split_at(max), devices=DEVICES),
    "chang-parallel-small": parallel(split_at(min), devices=DEVICES),
    "chang-parallel-here": parallel(split_at(max)),
    "chang-parallel-gains": parallel(
        lambda results, one, more: last_over_first(more) / last_over_first(one)
    ),
    "chang-parallel-total": parallel(total_split, FIXED, devices=DEVICES),
    "chang-parallel-total-here": parallel(total_split, FIXED),
    "chang-nearer": compare(last_over_first, FIXED, column="distance"),
    "chang-nearer-order": compare(rank_with_batch_size, FIXED, column="distance"),
    "chang-nearer-128": compare(last_over_first, FIXED.at((64, 128)), column="distance"),
    "chang-nearer-layers": compare(every_layer, FIXED),
    "chang-epoch-distance": compare(epoch_ratio, FIXED, gates=(LEARNED,)),
    "chang-epoch-distance-grows": compare(ratio_grows, FIXED, gates=(LEARNED,)),
    "chang-update-norm": compare(update_ratio, FIXED, gates=(LEARNED,)),
    "chang-cancelling": compare(cancelling, FIXED, gates=SMALLEST_SETTLED),
    "chang-sharper-line": compare(steeper, FIXED),
    "chang-sharper": compare(last_over_first, FIXED, column=SHARPNESS),
    "chang-sharper-order": compare(rank_with_batch_size, FIXED, column=SHARPNESS),
    "chang-sharper-equal-loss": compare(last_over_first, LOSS, column=SHARPNESS, gates=ON_TARGET),
    "chang-sharper-surface": compare(lambda results: last_over_first(growth(results)), FIXED),
    "chang-scaling-helps": compare(
        difference, SCALED.at(largest), FIXED.at(largest), column="validation_loss"
    ),
    "chang-scaling-closes": closing(
        last_minus_first, lambda before, after: after.abs() - before.abs() / 2, "validation_loss"
    ),
    "chang-scaling-remains": closing(
        last_minus_first, lambda before, after: after, "validation_loss"
    ),
    "chang-scaled-epochs": compare(last_over_first, SCALED, column="kept_epoch"),
    "chang-scaled-time": compare(
        last_over_first, SCALED, column="total_seconds", gates=(*SETTLED, timed)
    ),
    "chang-scaled-flatter": compare(ratio, SCALED.at(others), FIXED.at(others), column=SHARPNESS),
    "chang-scaled-still-sharper": compare(over_smallest, SCALED, column=SHARPNESS),
    "chang-scaled-distance": closing(
        shortfall, lambda before, after: after.abs() - before.abs(), "distance"
    ),
    "chang-scaled-distance-128": compare(
        ratio, SCALED.at((128,)), FIXED.at((128,)), column="distance"
    ),
    "chang-large-lr": compare(
        second_over_first, GRID, gates=(lambda results, sides: cut_off(two_at_large_lr(results)),)
    ),
    "chang-wins-too-high": on_grid(wins_too_high),
    "chang-best-lr-rises": on_grid(slope, note=at_edge_note),
    "chang-best-lr-linear": on_grid(slope_inside, note=at_edge_note),
    "chang-best-lr-small": on_grid(off_small, note=at_edge_note),
    "chang-best-lr-others": on_grid(off_others, note=at_edge_note),
    "chang-worse-in-general": on_grid(tuned_gap),
}


def numbers() -> dict[str, Any]:
    """Return the numbers in the texts of the claims."""
    return published.compared() | {"step": STEP, "radius": RADIUS}


CLAIMS = stated.read(Path(__file__).with_name("claims.yaml"), STATISTICS, numbers)
