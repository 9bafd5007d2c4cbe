"""The statistic that tests each claim of Keskar et al.; what they state is in claims.yaml."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bsglib.claims import Measured
from bsglib.papers import Results, matching, stated
from bsglib.papers.comparing import (
    Comparison,
    Of,
    Side,
    Table,
    Trained,
    diverged,
    last_over_first,
    points,
    points_last_minus_first,
    ratio,
    side,
)
from bsglib.papers.keskar import published
from bsglib.papers.keskar.protocol import (
    ADAPTIVE,
    EVOLUTION,
    LB,
    LOSS,
    MAIN,
    RATES,
    SB,
    SHARPNESS,
    SIZES,
    SUBSPACE,
    SWITCH,
    UPDATES,
)
from bsglib.papers.tables import rank_with_batch_size, tuned_by_others
from bsglib.stats import Interval, bootstrap, granulated_kendall, interval, kendall

GRID = ("batch_size", "base_lr")  # what a configuration is
TRAINED = 0.9  # training accuracy from which a run counts as a minimizer worth comparing
MATCHED = 2.0  # factor within which training losses count as equal
MIN_CONFIGURATIONS = 4  # for a rank correlation
STEP = 0.25  # of alpha, from a minimizer to where its rise is read off the line
VARIED = ("F2", "C1")  # the networks the source varies further


def last_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs where each ended, of the states after some of their epochs."""
    return runs.sort_values("epochs", kind="stable").groupby(["batch_size", "seed"]).tail(1)


CHOICES = {EVOLUTION: last_epochs, RATES: partial(tuned_by_others, by="validation_accuracy")}


def pair(name: str, condition: str) -> tuple[Side, Side]:
    """Return the small and the large batch of a network as a condition compares them."""
    choose = CHOICES.get(condition)
    small, large = (
        side(network=name, condition=condition, batch=batch, choose=choose) for batch in (SB, LB)
    )
    return small, large


def equally_low(results: Results, sides: Sequence[Side]) -> str | None:
    """Return the mean training losses of the sides, None if they count as equal."""
    losses = [one.of(results)["train_loss"].mean() for one in sides]
    if max(losses) > MATCHED * min(losses):
        both = " and ".join(f"{loss:.2g}" for loss in losses)
        return f"training losses {both}: not within a factor {MATCHED:g}"
    return None


EVERY = Of(Trained(TRAINED))
GATES = {LOSS: (EVERY, equally_low)}  # of conditions; others: EVERY
RIVALS = {"epochs": EVOLUTION, "tuned": RATES, "updates": UPDATES, "loss": LOSS}


def lost(name: str, condition: str = MAIN, column: str = "test_accuracy", **options) -> Comparison:
    """Return the comparison of an accuracy: SB - LB in percentage points."""
    options = {"gates": GATES.get(condition, (EVERY,))} | options
    return Comparison(points, pair(name, condition), column, **options)


def sharper(name: str, condition: str = MAIN, column: str = SHARPNESS, **options) -> Comparison:
    """Return the comparison of a sharpness: LB / SB."""
    return replace(lost(name, condition, column, **options), by=lambda sb, lb: ratio(lb, sb))


def points_last_minus_second(table: Table) -> pd.Series:
    """Return the value at the largest of a table's columns minus that at the second smallest."""
    return points_last_minus_first(table.drop(columns=min(table.columns)))


def first_over_last(table: Table) -> pd.Series:
    """Return the value at the smallest of a table's columns over that at the largest."""
    return 1 / last_over_first(table)


def listed(values: pd.Series) -> str:
    """Return the distinct values in order."""
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


def reached(condition: str, name: str, results: Results) -> str:
    """Return the mean training losses of what a condition compares, and the rates it chose."""
    sides = [one.of(results) for one in pair(name, condition)]
    note = "training loss " + ", ".join(f"{runs['train_loss'].mean():.2g}" for runs in sides)
    if condition == RATES:
        note = f"rates {' and '.join(listed(runs['base_lr']) for runs in sides)}; {note}"
    return note


def other_subspaces(name: str, results: Results) -> str:
    """Return the ratio of sharpness in subspaces of other distributions, where it was measured."""
    small, large = (one.of(results).set_index("seed") for one in pair(name, MAIN))
    found = []
    for column, words in (
        ("unit_columns", "with columns of length one"),
        ("uniform_columns", "uniform ones"),
    ):
        if column in small and small[column].notna().all() and large[column].notna().all():
            ours = interval(tuple(large[column] / small[column]), ratios=True)
            found.append(f"{words} {ours.mean:.2g}")
    return ", ".join(found)


def readable(results: Results, sides: Sequence[Side]) -> str | None:
    """Return why rises cannot be read off the lines, None if they can."""
    steps = STEP / 3 * (results.parameters.line_points - 1)  # from a point to the next
    if steps != round(steps):
        return f"the line has no points {STEP:g} from its ends"
    return "no lines yet" if results.points.empty else None


def rises(name: str, results: Results) -> pd.Series:
    """Return how much more the training loss rises around LB than around SB, in nats, by seed.

    On the linear path: the mean of the losses STEP to either side of a minimizer, minus that at the
    minimizer.
    """
    points = matching(results.points, network=name, path="linear", set="train")
    table = points.assign(alpha=points["alpha"].round(6)).pivot(
        index="seed", columns="alpha", values="loss"
    )
    small, large = ((table[end - STEP] + table[end + STEP]) / 2 - table[end] for end in (0.0, 1.0))
    return large - small


def agreement(name: str, results: Results) -> pd.Series:
    """Return whether rise and sharpness name the same batch as sharper, +1 or -1 by seed."""
    small, large = (one.of(results).set_index("seed")[SHARPNESS] for one in pair(name, MAIN))
    return np.sign(rises(name, results) * np.log(large / small))


def follows(one: Side, results: Results) -> list[float]:
    """Return Kendall's correlation of sharpness and training loss over the epochs of each seed."""
    seeds = one.of(results).groupby("seed")
    return [float(kendall(runs["train_loss"], runs[SHARPNESS])) for _, runs in seeds]


def configurations(results: Results, name: str) -> pd.DataFrame:
    """Return the runs of a network's grid of batch sizes and rates, where every seed is trained."""
    runs = results.of(network=name, condition=(SIZES, RATES))
    if runs.empty:
        return runs
    test_error, train_error = 1 - runs["test_accuracy"], 1 - runs["train_accuracy"]
    runs = runs.assign(test_error=test_error, generalization_gap=test_error - train_error)
    runs = runs.drop_duplicates([*GRID, "seed"])
    measured = runs[[SHARPNESS, "test_error"]].notna().all(axis=1)
    fit = measured & (runs["stopped"] != "diverged") & (runs["train_accuracy"] >= TRAINED)
    by_configuration = runs.assign(fit=fit).groupby(list(GRID))["fit"]
    keep = by_configuration.transform("sum") == runs["seed"].nunique()
    return runs[keep].sort_values([*GRID, "seed"])


def granulated(runs: pd.DataFrame, column: str, along: tuple[str, ...] = GRID) -> Interval | None:
    """Return the granulated rank correlation of sharpness and a column over configurations.

    Args:
        runs: those of `configurations`.
        column: of the runs.
        along: the hyperparameters whose own groups count; the others still tell groups apart.

    Returns:
        the correlation with its bootstrap interval over seeds, None for too few configurations.
    """
    grid = runs.groupby(list(GRID)).first().index if len(runs) else ()
    if len(grid) < MIN_CONFIGURATIONS:
        return None
    axes = {axis: list(grid.get_level_values(axis)) for axis in GRID}
    samples = (runs[c].to_numpy().reshape(len(grid), -1) for c in (SHARPNESS, column))
    return bootstrap(lambda a, b: granulated_kendall(a, b, axes, along=along), *samples)


def correlation(name: str, column: str, results: Results) -> Measured:
    """Return the granulated rank correlation of sharpness and a column."""
    runs = configurations(results, name)
    n = runs.groupby(list(GRID)).ngroups
    if (found := granulated(runs, column)) is None:
        why = f"{n} trained configurations, {MIN_CONFIGURATIONS} needed"
        return Measured(not_testable=why)
    return Measured(interval=found, note=f"{n} configurations; bootstrap over seeds only")


def of_each(name: str) -> dict[str, Comparison]:
    """Return the statistics of tables 2 to 4 and of the parametric plots."""
    claim, both = f"keskar-{name.lower()}", pair(name, MAIN)
    small_trained = (Of(diverged), replace(EVERY, first=1))
    others = partial(other_subspaces, name)
    on_line = {"sides": both, "gates": (EVERY, readable)}
    return {
        f"{claim}-training": lost(name, column="train_accuracy", gates=small_trained),
        f"{claim}-gap": lost(name),
        f"{claim}-sharper": sharper(name),
        f"{claim}-sharper-subspace": sharper(name, column=SUBSPACE, note=others),
        f"{claim}-sharper-adaptive": sharper(name, column=ADAPTIVE),
        f"{claim}-line": Comparison(partial(rises, name), **on_line),
        f"{claim}-agree": Comparison(partial(agreement, name), **on_line),
    }


def of_varied(name: str) -> dict[str, Comparison]:
    """Return the statistics of a network that the source varies further."""
    claim, test = f"keskar-{name.lower()}", "test_accuracy"
    sizes, rates, switch, path = (
        side(network=name, condition=condition) for condition in (SIZES, RATES, SWITCH, EVOLUTION)
    )
    ranked = partial(Comparison, rank_with_batch_size, (sizes,), gates=(EVERY,))
    switched = partial(Comparison, sides=(switch,), across="first_epochs", gates=(EVERY,))
    statistics = {
        f"{claim}-sharpness-rises": ranked(SHARPNESS),
        f"{claim}-accuracy-falls": ranked(test),
        f"{claim}-switch-works": switched(points_last_minus_first, column=test),
        f"{claim}-switch-timing": switched(points_last_minus_second, column=test),
        f"{claim}-switch-flatter": switched(first_over_last, column=SHARPNESS),
    }
    for ending, batch in (("small", SB), ("large", LB)):
        own = side(network=name, condition=EVOLUTION, batch=batch)
        gates = (Of(diverged, first=1),)  # of its own runs, but a claim waits for both batches
        statistics[f"{claim}-evolution-{ending}"] = Comparison(
            partial(follows, own), (own, path), gates=gates
        )
    for ending, column in (("", "test_error"), ("-gap", "generalization_gap")):
        by = partial(correlation, name, column)
        statistics[f"{claim}-correlation{ending}"] = Comparison(by, (sizes, rates))
    for ending, condition in RIVALS.items():
        note = partial(reached, condition, name)
        statistics[f"{claim}-gap-{ending}"] = lost(name, condition, note=note)
        statistics[f"{claim}-sharper-{ending}"] = sharper(name, condition, note=note)
    return statistics


NOT_YET = {
    "keskar-augmentation": "augmentation and conservative training",
    "keskar-adversarial": "adversarial training",
    "keskar-line-search": "full-batch training with line search",
    "keskar-resilient": "runs with other activations, without batch norm and dropout",
}


def not_run(needed: str, results: Results) -> Measured:
    """Return what a claim would need."""
    return Measured(not_testable=f"not yet run: needs {needed}")


def numbers(name: str | None = None) -> dict[str, Any]:
    """Return what the templates of claims.yaml are filled with, for a network."""
    if name is None:
        return {}
    train_sb, train_lb, test_sb, test_lb = (a.mean for a in published.ACCURACY[name])
    full, subspace = published.FULL_SPACE[name], published.SUBSPACE[name]
    return {
        "key": name.lower(),
        "training": train_sb - train_lb,
        "test": test_sb - test_lb,
        "full_space": full[1].mean / full[0].mean,
        "subspace": subspace[1].mean / subspace[0].mean,
        "step": STEP,
        "threshold": published.THRESHOLDS.get(name),
    }


STATISTICS = {claim: partial(not_run, needed) for claim, needed in NOT_YET.items()}
for network in published.NETWORKS:
    STATISTICS |= of_each(network)
for network in VARIED:
    STATISTICS |= of_varied(network)
CLAIMS = stated.read(Path(__file__).with_name("claims.yaml"), STATISTICS, numbers)
