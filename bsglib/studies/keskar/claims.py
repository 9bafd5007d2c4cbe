"""The statistic that tests each claim of Keskar et al.; claims.yaml has the statements."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bsglib.claims import Measured
from bsglib.stats import interval, kendall
from bsglib.studies import stated
from bsglib.studies.comparing import (
    Comparison,
    Of,
    Side,
    diverged,
    last_minus_first,
    last_over_first,
    points,
    points_last_minus_first,
    ratio,
    rises,
    side,
)
from bsglib.studies.keskar import published
from bsglib.studies.keskar.protocol import (
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
from bsglib.studies.keskar.readings import EVERY, correlation, gates, pair
from bsglib.studies.study import Results
from bsglib.studies.tables import listed, rank_with_batch_size

STEP = 0.25  # of alpha, from a minimizer to where its rise is read off the line
VARIED = ("F2", "C1")  # the networks that the paper varies further
RIVALS = {"epochs": EVOLUTION, "tuned": RATES, "updates": UPDATES, "loss": LOSS}  # by claims' ends


def lost(name: str, condition: str = MAIN, column: str = "test_accuracy", **options) -> Comparison:
    """Return the comparison of an accuracy: SB - LB in percentage points."""
    options = {"gates": gates(condition)} | options
    return Comparison(points, pair(name, condition), column, **options)


def sharper(name: str, condition: str = MAIN, column: str = SHARPNESS, **options) -> Comparison:
    """Return the comparison of a sharpness: LB / SB."""
    return replace(lost(name, condition, column, **options), by=lambda sb, lb: ratio(lb, sb))


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
        ("unit_columns", "columns of length one"),
        ("uniform_columns", "uniform columns"),
    ):
        if column in small and small[column].notna().all() and large[column].notna().all():
            ours = interval(tuple(large[column] / small[column]), ratios=True)
            found.append(f"ratio with {words}: {ours.mean:.2g}")
    return ", ".join(found)


def readable(results: Results, sides: Sequence[Side]) -> str | None:
    """Return why rises cannot be read off the lines, None if they can."""
    steps = STEP / 3 * (results.parameters.line_points - 1)  # from a point to the next
    if steps != round(steps):
        return f"the line has no points at a distance of {STEP:g} from its ends"
    return "no lines computed" if results.points.empty else None


def steeper(name: str, results: Results) -> pd.Series:
    """Return how much more the training loss rises around LB than around SB, in nats, by seed."""
    line = results.points_of(network=name, path="linear", set="train")
    return last_minus_first(rises(line, STEP))


def agreement(name: str, results: Results) -> pd.Series:
    """Return whether rise and sharpness name the same batch as sharper, +1 or -1 by seed."""
    small, large = (one.of(results).set_index("seed")[SHARPNESS] for one in pair(name, MAIN))
    return np.sign(steeper(name, results) * np.log(large / small))


def follows(one: Side, results: Results) -> list[float]:
    """Return Kendall's correlation of sharpness and training loss over the epochs of each seed."""
    seeds = one.of(results).groupby("seed")
    return [float(kendall(runs["train_loss"], runs[SHARPNESS])) for _, runs in seeds]


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
        f"{claim}-line": Comparison(partial(steeper, name), **on_line),
        f"{claim}-agree": Comparison(partial(agreement, name), **on_line),
    }


def of_varied(name: str) -> dict[str, Comparison]:
    """Return the statistics of a network that the paper varies further."""
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
        f"{claim}-switch-timing": switched(
            lambda table: points_last_minus_first(table.drop(columns=0)), column=test
        ),
        f"{claim}-switch-flatter": switched(lambda t: 1 / last_over_first(t), column=SHARPNESS),
    }
    for ending, batch in (("small", SB), ("large", LB)):
        own = side(network=name, condition=EVOLUTION, batch=batch)
        statistics[f"{claim}-evolution-{ending}"] = Comparison(
            partial(follows, own),
            (own, path),  # a claim waits for both batches
            gates=(Of(diverged, first=1),),
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
    return Measured(not_testable=f"not run yet: requires {needed}")


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
