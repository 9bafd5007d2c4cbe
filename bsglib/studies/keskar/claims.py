"""The statistic that tests each claim of Keskar et al.; claims.yaml has the statements."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bsglib.claims import NOT_HERE, Measured
from bsglib.stats import kendall
from bsglib.studies import claims_file, notes
from bsglib.studies.comparing import (
    Comparison,
    Of,
    Side,
    diverged,
    last_minus_first,
    points_last_minus_first,
    rises,
    side,
)
from bsglib.studies.keskar import published
from bsglib.studies.keskar.derived import (
    EVERY,
    FROZEN,
    LEARNED,
    OTHERS,
    SOURCES,
    TRAINED,
    VARIED,
    controls,
    correlation,
    last_epochs,
    lost,
    measures,
    pair,
    script_epochs,
    sharper,
)
from bsglib.studies.keskar.protocol import (
    ADAPTIVE,
    BATCH_SUBSPACE,
    EVOLUTION,
    LB,
    LOSS,
    MAIN,
    RATES,
    SB,
    SIZES,
    SUBSPACE,
    SWITCH,
    UPDATES,
)
from bsglib.studies.study import Results
from bsglib.studies.tables import rank_with_batch_size

STEP = 0.25  # of alpha, from a minimizer to where its rise is read off the line
RIVALS = {"epochs": EVOLUTION, "tuned": RATES, "updates": UPDATES, "loss": LOSS}  # by claims' ends
SUBSPACES = {  # other statistics of batch norm, and distributions of the subspace's columns
    "column": (BATCH_SUBSPACE, SUBSPACE),
    "others": (
        ("frozen statistics", SUBSPACE),
        ("columns of length one", "unit_columns"),
        ("uniform columns", "uniform_columns"),
    ),
}


def readable(results: Results, sides: tuple[Side, ...]) -> str | None:
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
    found = sharper(name, gates=())(results)
    ratios = pd.Series(found.values, found.seeds, dtype=float)
    return np.sign(steeper(name, results) * np.log(ratios)).dropna()  # a seed may lack its line


def follows(one: Side, results: Results) -> Measured:
    """Return Kendall's correlation of training loss and sharpness over the epochs of each seed."""
    runs = one.of(results)
    seeds = {seed: mine for seed, mine in runs.groupby("seed")}
    found = [
        Measured(tuple(float(kendall(m["train_loss"], m[c])) for m in seeds.values()), tuple(seeds))
        for c in measures(runs)
    ]
    if not found:
        return Measured(not_testable="a run has no sharpness")
    others = dict(zip((name for name, _ in FROZEN), found[1:], strict=False))
    return Measured(found[0].values, found[0].seeds, others=others)


def at_the_end(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs where each ended."""
    return last_epochs(runs)


def after_a_switch(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that began with small batches."""
    return runs[runs["first_epochs"] > 0]


def first_over_last(table: pd.DataFrame) -> pd.Series:
    """Return the value without a warm start over that after the longest one."""
    return table[min(table.columns)] / table[max(table.columns)]


def of_each(name: str) -> dict[str, Comparison]:
    """Return the statistics of tables 2 to 4 and of the parametric plots."""
    claim, both = f"keskar-{name.lower()}", pair(name, MAIN)
    learned = (*lost(name).gates, Of(TRAINED, first=1))  # the claim is on an SB that is trained
    on_line = {"sides": both, "gates": (EVERY, readable, *controls(name, "loss"))}
    return {
        f"{claim}-training": lost(name, column="train_accuracy", gates=learned),
        f"{claim}-gap": lost(name),
        f"{claim}-sharper": sharper(name),
        f"{claim}-sharper-subspace": sharper(name, **SUBSPACES),
        f"{claim}-sharper-adaptive": sharper(name, column=ADAPTIVE, others=()),
        f"{claim}-line": Comparison(partial(steeper, name), **on_line),
        f"{claim}-agree": Comparison(partial(agreement, name), **on_line),
    }


def of_varied(name: str) -> dict[str, Comparison]:
    """Return the statistics of a network that the paper varies further."""
    claim = f"keskar-{name.lower()}"
    sizes, rates, switch, path = (
        side(network=name, condition=condition) for condition in (SIZES, RATES, SWITCH, EVOLUTION)
    )
    switched = side(network=name, condition=SWITCH, choose=after_a_switch)
    sharp = {"column": SOURCES, "others": OTHERS, "gates": (EVERY, *controls(name, "sharpness"))}
    tested = {"column": "test_accuracy", "gates": (LEARNED, *controls(name, "accuracy"))}

    def gained(one: Side) -> Comparison:
        note = partial(notes.beside, sides=(one,), across="first_epochs")
        options = {"across": "first_epochs", "note": note} | tested
        return Comparison(points_last_minus_first, (one,), **options)

    falls = tested | {"note": partial(notes.beside, sides=(sizes,))}
    statistics = {
        f"{claim}-sharpness-rises": Comparison(rank_with_batch_size, (sizes,), **sharp),
        f"{claim}-accuracy-falls": Comparison(rank_with_batch_size, (sizes,), **falls),
        f"{claim}-switch-works": gained(switch),
        f"{claim}-switch-timing": gained(switched),
        f"{claim}-switch-flatter": Comparison(
            first_over_last, (switch,), across="first_epochs", **sharp
        ),
    }
    for ending, batch in (("small", SB), ("large", LB)):
        own = side(network=name, condition=EVOLUTION, batch=batch)
        trained = Of(diverged, first=1), Of(TRAINED, first=1, derive=at_the_end)
        statistics[f"{claim}-evolution-{ending}"] = Comparison(
            partial(follows, own),
            (own, path),  # a claim waits for both batches
            gates=(*trained, *controls(name, "sharpness")),
        )
    for ending, column in (("", "test_error"), ("-gap", "generalization_gap")):
        by, gates = partial(correlation, name, column), controls(name, "sharpness")
        statistics[f"{claim}-correlation{ending}"] = Comparison(by, (sizes, rates), gates=gates)
    early = tuple(replace(one, choose=script_epochs) for one in pair(name, EVOLUTION))
    statistics[f"{claim}-gap-as-run"] = lost(name, EVOLUTION, sides=early)
    statistics[f"{claim}-sharper-as-run"] = sharper(
        name, EVOLUTION, sides=early[::-1], gates=(LEARNED, *controls(name, "sharpness"))
    )
    for ending, condition in RIVALS.items():
        statistics[f"{claim}-gap-{ending}"] = lost(name, condition)
        statistics[f"{claim}-sharper-{ending}"] = sharper(name, condition)
    return statistics


NOT_YET = {
    "keskar-augmentation": "augmentation and conservative training",
    "keskar-adversarial": "adversarial training",
    "keskar-line-search": "full-batch training with line search",
    "keskar-resilient": "runs with other activations, without batch norm and dropout",
}


def not_run(needed: str, results: Results) -> Measured:
    """Return what a claim would need."""
    return Measured(not_run=f"{needed}: {NOT_HERE}")


def numbers(name: str | None = None) -> dict[str, Any]:
    """Return what the templates of claims.yaml are filled with, for a network."""
    if name is None:
        return {}
    accuracy = published.ACCURACY[name]
    return {
        "key": name.lower(),
        "training": published.difference(*accuracy[:2]),
        "test": published.difference(*accuracy[2:]),
        "full_space": published.quotient(*published.FULL_SPACE[name][1::-1]),
        "subspace": published.quotient(*published.SUBSPACE[name][1::-1]),
        "step": STEP,
        "threshold": published.THRESHOLDS.get(name),
    }


STATISTICS = {claim: partial(not_run, needed) for claim, needed in NOT_YET.items()}
for network in published.NETWORKS:
    STATISTICS |= of_each(network)
for network in VARIED:
    STATISTICS |= of_varied(network)
CLAIMS = claims_file.read(Path(__file__).with_name("claims.yaml"), STATISTICS, numbers)
