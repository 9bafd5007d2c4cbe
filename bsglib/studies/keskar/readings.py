"""Which runs of Keskar et al.'s study are compared, and what is read off them."""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from bsglib.claims import Measured
from bsglib.stats import Interval, bootstrap, granulated_kendall
from bsglib.studies.comparing import Gate, Of, Side, Trained, side
from bsglib.studies.keskar.protocol import EVOLUTION, LB, LOSS, RATES, SB, SHARPNESS, SIZES
from bsglib.studies.study import Results
from bsglib.studies.tables import tuned_by_others

GRID = ("batch_size", "base_lr")  # what a configuration is
TRAINED = 0.9  # training accuracy from which a run counts as a minimizer worth comparing
MATCHED = 2.0  # factor within which training losses count as equal
MIN_CONFIGURATIONS = 4  # for a rank correlation


def last_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs where each ended, of the states after some of their epochs."""
    return runs.sort_values("epochs", kind="stable").groupby(["batch_size", "seed"]).tail(1)


CHOICES = {EVOLUTION: last_epochs, RATES: partial(tuned_by_others, by="validation_accuracy")}


def pair(name: str, condition: str) -> tuple[Side, Side]:
    """Return the small and the large batch of a network as a condition compares them."""
    choose = CHOICES.get(condition)
    return tuple(side(network=name, condition=condition, batch=b, choose=choose) for b in (SB, LB))


def equally_low(results: Results, sides: Sequence[Side]) -> str | None:
    """Return the mean training losses of the sides, None if they count as equal."""
    losses = [one.of(results)["train_loss"].mean() for one in sides]
    if max(losses) > MATCHED * min(losses):
        both = " and ".join(f"{loss:.2g}" for loss in losses)
        return f"training losses {both} differ by more than a factor of {MATCHED:g}"
    return None


EVERY = Of(Trained(TRAINED))


def gates(condition: str) -> tuple[Gate, ...]:
    """Return what makes the runs of a condition no comparison."""
    return (EVERY, equally_low) if condition == LOSS else (EVERY,)


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
