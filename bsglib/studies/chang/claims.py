"""The statistic that tests each claim of Chang & Pathak; claims.yaml has the statements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bsglib.claims import Measured
from bsglib.runs.measures import LINE
from bsglib.stats import interval, kendall
from bsglib.studies import claims_file
from bsglib.studies.chang import derived, protocol, published
from bsglib.studies.chang.confirmatory import AS_RUN, FEW_EPOCHS, FLAT
from bsglib.studies.chang.protocol import PLANES, SHARPNESS, SURFACE, ChangParameters
from bsglib.studies.comparing import (
    Comparison,
    Control,
    Gate,
    Of,
    Side,
    Sizes,
    Table,
    Timed,
    Trained,
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
from bsglib.studies.confirmatory import ADAPTIVE, AUTHORS
from bsglib.studies.notes import beside
from bsglib.studies.study import Results
from bsglib.studies.tables import per_seed, rank_with_batch_size
from bsglib.verdicts import Rule

TRAINED = 0.95  # of the loss of guessing; above it a run counts as not trained
EQUAL = 1.1  # factor between training losses that count as equal
DEVICES = 4  # of the paper
ORDERED = 3  # batch sizes of which an order says more than a comparison of two
STEP = 0.25  # of alpha, and
RADIUS = 0.5  # of the filter-normalized plane, at which the growth of the loss is read
MEASURES = ("adaptive box", ADAPTIVE), ("lambda_max", "lambda_max")  # besides the source's


# ------------------------------------------------------------- runs fit for a claim


def larger(p: ChangParameters) -> list[int]:
    """Return all batch sizes but the smallest."""
    return sorted(p.batch_sizes)[1:]


FIXED, SCALED, LOSS = side(arm=protocol.FIXED), side(scaled=True), side(arm=protocol.LOSS)
GRID, TUNED = side(whole_grid=True), side(choose=derived.best, whole_grid=True)
HIGH = side(high_rate=True)
PAIR, SCALED_PAIR, LOSS_PAIR = FIXED.at(ends), SCALED.at(ends), LOSS.at(ends)


def failed(runs: pd.DataFrame) -> str | None:
    """Return which run diverged or has learned nothing, None if none did."""
    if why := diverged(runs):
        return why
    chance = runs[runs["validation_loss"] > TRAINED * np.log(runs["classes"])]
    if chance.empty:
        return None
    run = chance.iloc[0]
    return f"{run_name(run)}: validation loss {run['validation_loss']:.2f}, no better than chance"


def unequal(runs: pd.DataFrame) -> str | None:
    """Return which seed's training losses are not equal, None if all are."""
    if why := diverged(runs):
        return why
    losses = per_seed(runs, "train_loss")
    factors = losses.max(axis=1) / losses.min(axis=1)
    if (factors <= EQUAL).all():
        return None
    low, high = sorted(losses.loc[factors.idxmax()])[:: len(losses.columns) - 1]
    return f"seed {factors.idxmax()}: training losses {low:.3g} and {high:.3g} are not equal"


@dataclass(frozen=True)
class Inside:
    """A gate: no best rate lies at an end of the grid, beyond which there may be a better one."""

    sizes: Sizes | None = None  # None: all

    def __call__(self, results: Results, sides: Sequence[Side]) -> str | None:
        """Return how many best rates lie there, None if none does."""
        p, rates = results.parameters, derived.best_lrs(results)
        at = rates if self.sizes is None else rates[list(self.sizes(p))]
        at_end = at.isin((min(p.lrs), max(p.lrs))).to_numpy()
        found = f"{at_end.sum()} of {at_end.size} best rates lie at an end of the grid"
        return found if at_end.any() else None


def tuned_inside(results: Results, sides: Sequence[Side]) -> str | None:
    """Return which batch size's best rate, by the mean over seeds, is at an end of the grid."""
    p = results.parameters
    for b, lr in derived.tuned_rates(results).items():
        if lr in (min(p.lrs), max(p.lrs)):
            return f"B = {b}: the best rate, {lr:g}, lies at an end of the grid"
    return None


def grid_ended(results: Results, sides: Sequence[Side]) -> str | None:
    """Return which run of the grid was cut off, None if none was."""
    return cut_off(derived.grid(results))


def compare(
    by: Callable[..., Measured | pd.Series],
    *sides: Side,
    column: str | None = None,
    gates: tuple[Gate, ...] = (),
    **options: Any,
) -> Comparison:
    """Return a `Comparison` of runs with the columns of `derived.columns`."""
    options |= {"column": column, "gates": gates, "derive": derived.columns}
    return Comparison(by, sides, **options)


def control(says: str, arm: str, column: str, claimed: str, kind: str, *gates: Gate) -> Control:
    """Return a positive control: an arm against the fixed rate at the smallest batch size."""
    margin = claims_file.margins()[kind]
    rule = Rule(claimed, margin.size, ratios=margin.ratios)
    return Control(
        says, compare(ratio, side(arm=arm), FIXED.at(smallest), column=column, gates=gates), rule
    )


LEARNED, ENDED, FINITE = Of(failed), Of(cut_off), Of(diverged)
MINIMA = (LEARNED, Of(Trained()))
FLATTER = control("SAM is flatter", FLAT, SHARPNESS, "below", "sharpness", *MINIMA)
WORSE, NEARER, SOONER = (
    control(f"few epochs: {says}", FEW_EPOCHS, column, claimed, kind, FINITE)
    for says, column, claimed, kind in (
        ("a higher loss", "validation_loss", "above", "ratio of losses"),
        ("nearer to the start", "distance", "below", "distance"),
        ("the lowest loss sooner", "kept_epoch", "below", "epochs"),
    )
)
SETTLED = (LEARNED, ENDED)  # runs have a lowest validation loss
SMALLEST_SETTLED = (LEARNED, Of(cut_off, sizes=smallest))
losses = partial(compare, gates=(*SETTLED, WORSE))
epochs = partial(compare, column="kept_epoch", gates=(*SETTLED, SOONER))
moved = partial(compare, gates=(*MINIMA, NEARER))
around = partial(compare, gates=(*MINIMA, FLATTER))  # minimizers
sharp = partial(around, column=SHARPNESS, others=MEASURES)
on_grid = partial(compare, gates=(grid_ended,))  # a rate at which training fails is no best one


def order(table: Table) -> Measured | pd.Series:
    """Return the rank correlation with the batch size, given enough of them."""
    if (n := table.shape[1]) < ORDERED:
        return Measured(not_run=f"{n} batch sizes, {ORDERED} needed")
    return rank_with_batch_size(table)


def in_parts(values: dict[str, pd.Series]) -> Measured:
    """Return a claim's parts from the values by seed of each."""
    return Measured(parts={name: Measured(tuple(v), tuple(v.index)) for name, v in values.items()})


# ------------------------------------------------------------- losses, distances, updates


def slower(results: Results) -> pd.Series:
    """Training loss where the smallest batch has its lowest validation loss: largest - smallest."""
    runs = results.of(protocol.FIXED, batch_size=results.parameters.smallest)
    history = results.history_of(protocol.FIXED)
    history = history[history["epoch"] <= history["seed"].map(runs.set_index("seed")["kept_epoch"])]
    rows = history.groupby(["seed", "batch_size"], as_index=False).last()
    return last_minus_first(per_seed(rows, "running_loss"))


def equal_updates(results: Results) -> Measured:
    """Return the lowest validation loss up to equal updates: largest - smallest batch."""
    rows = derived.at_equal_updates(results, ends(results.parameters))
    note = f"{rows['updates'].min():,} to {rows['updates'].max():,} updates"
    return Measured(tuple(last_minus_first(per_seed(rows, "validation_loss"))), note=note)


def by_layer(results: Results) -> Measured:
    """Return the distance of each layer, largest over smallest batch."""
    rows = derived.layers(results)
    names = {name: f"layer {i}" for i, name in enumerate(rows["layer"].unique(), start=1)}
    layers = rows.groupby("layer", sort=False)
    return in_parts({names[n]: last_over_first(per_seed(r, "distance")) for n, r in layers})


def epoch_ratio(results: Results) -> Measured:
    """Return the mean distance per epoch, largest over smallest batch."""
    own = results.history_of(protocol.FIXED).groupby(["seed", "batch_size"])["epoch_distance"]
    whole = interval(tuple(last_over_first(own.mean().unstack())), ratios=True)
    common = last_over_first(derived.epoch_distances(results).groupby("seed").mean())
    return Measured(tuple(common), note=f"ratio over each run's own epochs: {whole.mean:.2g}")


def ratio_grows(results: Results) -> pd.Series:
    """Return the rank correlation of smallest over largest with the epoch."""
    ratios = 1 / last_over_first(derived.epoch_distances(results))
    return ratios.groupby("seed").agg(lambda r: kendall(r, r.index.get_level_values("epoch")))


def update_ratio(results: Results) -> pd.Series:
    """Return the median norm of the updates, largest over smallest batch."""
    return last_over_first(per_seed(derived.median_norms(results), "norm"))


def cancelling(results: Results) -> pd.Series:
    """How much of the shrinking of updates the mean gradient shows where weights are held."""
    norms = derived.agreement(results).pivot(index="seed", columns="examples", values="norm")
    return last_over_first(norms) / update_ratio(results)


# ------------------------------------------------------------- sharpness


def steeper(results: Results) -> pd.Series:
    """Return the factor by which the training loss rises more around the largest batch's end."""
    line = results.points_of(protocol.FIXED, measure=LINE, set="train")
    return np.exp(last_minus_first(rises(line.assign(loss=np.log(line["loss"])), STEP)))


def growth(results: Results) -> Table:
    """Return the mean growth of the loss within RADIUS of the filter-normalized plane, at ends."""
    p = results.parameters
    which = {"measure": SURFACE, "seeds": str(list(PLANES[0])), "points": p.explorer_points}
    planes = results.points_of(protocol.FIXED, batch_size=ends(p), **which)
    inside = planes[np.hypot(planes["a"], planes["b"]) <= RADIUS + 1e-9]
    cells = ["seed", "batch_size"]
    middle = inside[(inside["a"] == 0) & (inside["b"] == 0)].set_index(cells)["loss"]
    return (inside.groupby(cells)["loss"].mean() - middle).unstack().dropna()


def growth_ratio(results: Results) -> pd.Series:
    """Return the same, largest over smallest batch."""
    return last_over_first(growth(results))


def over_smallest(table: Table) -> pd.Series:
    """Return the mean over all batch sizes but the smallest over the value at the smallest."""
    smallest = min(table.columns)
    return ratio(table.drop(columns=smallest), table[[smallest]])


# ------------------------------------------------------------- a gap that scaling closes


def shortfall(table: Table) -> pd.Series:
    """Return by how much ln(distance) is lower at the largest batch."""
    return -np.log(last_over_first(table))


def no_gap(before: pd.Series) -> str | None:
    """Return that a gap at the fixed rate is not above zero, None if it is."""
    found = interval(tuple(before))
    if found.low > 0:
        return None
    return (
        f"no gap at the fixed rate to close: {found.mean:.3g} [{found.low:.3g}, {found.high:.3g}]"
    )


def share_left(gap: Callable[[Table], pd.Series], at_fixed: Table, at_scaled: Table) -> Measured:
    """Return which share of a gap between the ends is left at the scaled rate.

    It is a ratio of means; each seed's value is what it adds to this ratio, to first order, so that
    their standard error is that of the ratio by the delta method. A gap that turns counts as one.

    Args:
        gap: by seed, positive as in the paper.
        at_fixed, at_scaled: [seed, batch size] at both rates.
    """
    before, after = gap(at_fixed), gap(at_scaled)
    if why := no_gap(before):
        return Measured(not_testable=why)
    after = after * np.sign(after.mean())
    share = after.mean() / before.mean()
    values = share + (after - share * before) / before.mean()
    note = f"gap {before.mean():.3g} at the fixed rate"
    return Measured(tuple(values), tuple(values.index), note=note)


def gap_left(at_fixed: Table, at_scaled: Table) -> Measured | pd.Series:
    """Return the gap at the scaled rate if there is one at the fixed rate."""
    why = no_gap(last_minus_first(at_fixed))
    return Measured(not_testable=why) if why else last_minus_first(at_scaled)


# ------------------------------------------------------------- times


@dataclass(frozen=True)
class NeedsTimes:
    """A statistic that needs timed epochs, too."""

    of: Comparison

    def __call__(self, results: Results) -> Measured:
        """Return its values, or that there are too few timings."""
        why = untimed(results, processes=1)
        return Measured(not_run=why) if why else self.of(results)

    def in_profile(self, results: Results) -> bool:
        """Return whether the profile has its runs, computed or not."""
        return self.of.in_profile(results)


def in_total(one: Side) -> NeedsTimes:
    """Return the ratio of total seconds on one process, largest over smallest batch."""
    total = {"column": "total_seconds", "gates": SETTLED, "timing": True}
    return NeedsTimes(compare(last_over_first, one, **total))


def parallel(
    by: Callable[[Results, Table, Table], pd.Series], *sides: Side, devices: int | None = None
) -> NeedsTimes:
    """Return a comparison of seconds per epoch on one process and on several.

    Args:
        by: from the results and tables [repeat, batch size], of one process and of several, to a
            value per seed of the sides, or per repeat without sides.
        *sides: of `Comparison`.
        devices: how many processes; None: as many as there are cores.
    """
    found = partial(on_processes, by, devices, "" if sides else "n counts repeats")
    return NeedsTimes(compare(found, *sides, gates=SETTLED, timing=True))


def on_processes(
    by: Callable[[Results, Table, Table], pd.Series],
    devices: int | None,
    note: str,
    results: Results,
) -> Measured:
    """Return the values of `parallel`."""
    times, least = results.timings, devices or 2
    if (most := times["processes"].max()) < least:
        return Measured(not_run=f"timed on {most} of {least} processes")
    if derived.most_processes(results) < least:
        cores = int(times["cores"].max())
        here = f"{cores} core{'s' * (cores > 1)} available"
        return Measured(not_testable=f"{least} devices needed, {here}")
    n = devices or derived.most_processes(results)
    values = by(results, seconds(results, processes=1), seconds(results, processes=n))
    seeds = () if note else tuple(values.index)
    return Measured(tuple(values), seeds, note="; ".join(filter(None, (f"{n} processes", note))))


def split_largest(results: Results, one: Table, more: Table) -> pd.Series:
    """Return seconds per epoch of the largest batch, several processes over one."""
    return more[max(more)] / one[max(one)]


def split_smallest(results: Results, one: Table, more: Table) -> pd.Series:
    """Return the same of the smallest batch."""
    return more[min(more)] / one[min(one)]


def split_gain(results: Results, one: Table, more: Table) -> pd.Series:
    """Return the ratio of the two."""
    return last_over_first(more) / last_over_first(one)


def total_split(results: Results, one: Table, more: Table) -> pd.Series:
    """Return total seconds: the largest batch on several processes / the smallest on one."""
    kept = per_seed(results.of(protocol.FIXED), "kept_epoch")
    small, large = ends(results.parameters)
    return kept[large] * more[large].median() / (kept[small] * one[small].median())


# ------------------------------------------------------------- rates


def best_rises(results: Results) -> pd.Series:
    """Return the best rate, largest over smallest batch."""
    return last_over_first(derived.optima(results))


def best_linear(results: Results) -> Measured:
    """Return each best rate over the smallest batch's, over the ratio of the batch sizes."""
    p, rates = results.parameters, derived.optima(results)
    relative = rates.div(rates[p.smallest], axis=0)
    return in_parts({f"B = {b}": relative[b] * p.smallest / b for b in larger(p)})


def best_small(results: Results) -> pd.Series:
    """Return the smallest batch's best rate over the paper's."""
    return derived.optima(results)[results.parameters.smallest] / results.parameters.lr


def best_others(results: Results) -> Measured:
    """Return each other best rate over the largest batch's scaled one."""
    p, rates = results.parameters, derived.optima(results)
    return in_parts({f"B = {b}": rates[b] / p.scaled_lr(p.largest) for b in larger(p)})


def at_rates(results: Results) -> str:
    """Return the tuned rates, and what stands beside the difference of test losses there."""
    rates = derived.tuned_rates(results)
    listed = ", ".join(f"{lr:g} at B = {b}" for b, lr in rates.items())
    return f"rates {listed}; {beside(results, (TUNED,))}"


def wins_too_high(results: Results) -> Measured:
    """Return how often the rates at which a larger batch beats the smallest are above its best.

    Less the share of rates above it, which is how often it would be if the rate did not matter. A
    diverged run is beaten by any that is not.
    """
    p, runs = results.parameters, derived.rates(results)
    cells = runs.set_index(["seed", "base_lr", "batch_size"])["validation_loss"].unstack()
    wins = cells.drop(columns=p.smallest).lt(cells[p.smallest], axis=0).sum(axis=1)
    best = derived.best_lrs(results)[p.smallest]
    high = wins.index.get_level_values("base_lr") > wins.index.get_level_values("seed").map(best)
    all_wins = wins.groupby("seed").sum()
    if n := int((all_wins == 0).sum()):
        of = f"{n} of {len(all_wins)} seeds"
        return Measured(not_testable=f"the smallest batch size wins at every rate in {of}")
    share = wins.where(high, 0).groupby("seed").sum() / all_wins
    by_chance = pd.Series(high, wins.index).groupby("seed").mean()
    return Measured(tuple(share - by_chance), note=f"share of wins {share.mean():.0%}")


# ------------------------------------------------------------- claims


GAP = partial(beside, sides=(PAIR,))  # a note
ONE_ORDER = side(ends, arm=AS_RUN)  # as in their code
by_authors = partial(around, column=AUTHORS)  # the metric as their code computes it
STATISTICS = {
    "chang-best-validation-as-run": losses(
        last_over_first,
        ONE_ORDER,
        column="validation_loss",
        note=partial(beside, sides=(ONE_ORDER,)),
    ),
    "chang-epochs-as-run": epochs(last_over_first, ONE_ORDER),
    "chang-nearer-as-run": moved(last_over_first, ONE_ORDER, column="distance"),
    "chang-sharper-as-run": by_authors(last_over_first, ONE_ORDER),
    "chang-scaled-flatter-as-run": by_authors(ratio, SCALED.at(larger), FIXED.at(larger)),
    "chang-scaled-still-sharper-as-run": by_authors(over_smallest, SCALED),
    "chang-training-slower": compare(slower, PAIR, gates=(*SMALLEST_SETTLED, WORSE)),
    "chang-best-validation": losses(last_over_first, PAIR, column="validation_loss", note=GAP),
    "chang-best-validation-order": losses(order, FIXED, column="validation_loss"),
    "chang-best-training": losses(last_minus_first, PAIR, column="lowest_running"),
    "chang-premise-training": losses(last_minus_first, PAIR, column="train_loss"),
    "chang-premise-gap": losses(last_minus_first, PAIR, column="loss_gap", note=GAP),
    "chang-gap-equal-updates": compare(equal_updates, PAIR, gates=(LEARNED, WORSE)),
    "chang-gap-equal-loss": compare(
        last_minus_first, LOSS_PAIR, column="loss_gap", gates=(Of(unequal), WORSE)
    ),
    "chang-time-per-epoch": Timed(last_over_first, ({"processes": 1},)),
    "chang-epochs": epochs(last_over_first, PAIR),
    "chang-epochs-order": epochs(order, FIXED),
    "chang-total-time": in_total(PAIR),
    "chang-parallel-large": parallel(split_largest, devices=DEVICES),
    "chang-parallel-small": parallel(split_smallest, devices=DEVICES),
    "chang-parallel-here": parallel(split_largest),
    "chang-parallel-gains": parallel(split_gain),
    "chang-parallel-total": parallel(total_split, PAIR, devices=DEVICES),
    "chang-parallel-total-here": parallel(total_split, PAIR),
    "chang-nearer": moved(last_over_first, PAIR, column="distance"),
    "chang-nearer-order": moved(order, FIXED, column="distance"),
    "chang-nearer-128": moved(last_over_first, FIXED.at((64, 128)), column="distance"),
    "chang-nearer-layers": moved(by_layer, PAIR),
    "chang-epoch-distance": compare(epoch_ratio, PAIR, gates=(LEARNED,)),
    "chang-epoch-distance-grows": compare(ratio_grows, PAIR, gates=(LEARNED,)),
    "chang-update-norm": compare(update_ratio, PAIR, gates=(LEARNED,)),
    "chang-cancelling": compare(cancelling, PAIR, gates=SMALLEST_SETTLED),
    "chang-sharper-line": around(steeper, PAIR),
    "chang-sharper": sharp(last_over_first, PAIR),
    "chang-sharper-order": sharp(order, FIXED),
    "chang-sharper-equal-loss": sharp(
        last_over_first, LOSS_PAIR, gates=(Of(unequal), Of(Trained()), FLATTER)
    ),
    "chang-sharper-surface": around(growth_ratio, PAIR),
    "chang-scaling-helps": losses(
        difference, SCALED.at(largest), FIXED.at(largest), column="validation_loss"
    ),
    "chang-scaling-closes": losses(
        partial(share_left, last_minus_first), PAIR, SCALED_PAIR, column="validation_loss"
    ),
    "chang-scaling-remains": losses(gap_left, PAIR, SCALED_PAIR, column="validation_loss"),
    "chang-scaled-epochs": epochs(last_over_first, SCALED_PAIR),
    "chang-scaled-time": in_total(SCALED_PAIR),
    "chang-scaled-flatter": sharp(ratio, SCALED.at(larger), FIXED.at(larger)),
    "chang-scaled-still-sharper": sharp(over_smallest, SCALED),
    "chang-scaled-distance": moved(
        partial(share_left, shortfall), PAIR, SCALED_PAIR, column="distance"
    ),
    "chang-scaled-distance-128": moved(
        ratio, SCALED.at((128,)), FIXED.at((128,)), column="distance"
    ),
    "chang-large-lr": compare(
        last_minus_first, HIGH.at((32, 64)), column="bounded_loss", gates=(ENDED,)
    ),
    "chang-wins-too-high": on_grid(wins_too_high, GRID),
    "chang-best-lr-rises": on_grid(best_rises, GRID, gates=(grid_ended, Inside(ends))),
    "chang-best-lr-linear": on_grid(best_linear, GRID, gates=(grid_ended, Inside())),
    "chang-best-lr-small": on_grid(best_small, GRID, gates=(grid_ended, Inside(smallest))),
    "chang-best-lr-others": on_grid(best_others, GRID, gates=(grid_ended, Inside(larger))),
    "chang-worse-in-general": compare(
        last_minus_first,
        TUNED,
        column="test_loss",
        gates=(grid_ended, tuned_inside, LEARNED),
        note=at_rates,
    ),
}


def numbers() -> dict[str, Any]:
    """Return the numbers in the texts of the claims."""
    return published.compared() | {"step": STEP, "radius": RADIUS}


CLAIMS = claims_file.read(Path(__file__).with_name("claims.yaml"), STATISTICS, numbers)
