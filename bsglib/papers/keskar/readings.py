"""Which runs of Keskar et al.'s study are compared, and what is read off them."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from bsglib.papers import Results
from bsglib.papers.keskar.protocol import (
    EVOLUTION,
    LB,
    LOSS,
    RATES,
    SB,
    SHARPNESS,
    SIZES,
    UPDATES,
    label,
)
from bsglib.papers.tables import tuned
from bsglib.stats import PERCENT, Interval, bootstrap, granulated_kendall

GRID = ("batch_size", "base_lr")  # what a configuration is
TRAINED = 0.9  # training accuracy from which a run counts as a minimizer worth comparing
MATCHED = 2.0  # factor within which training losses count as equal
MIN_CONFIGURATIONS = 4  # for a rank correlation
STEP = 0.25  # of alpha, from a minimizer to where its rise is read off the line


def of(results: Results, name: str, *kinds: str) -> pd.DataFrame:
    """Return the runs of some arms of a network, with the errors that tables show."""
    runs = results.of(*(label(name, kind) for kind in kinds))
    if runs.empty:
        return runs
    test_error, train_error = 1 - runs["test_accuracy"], 1 - runs["train_accuracy"]
    return runs.assign(test_error=test_error, generalization_gap=test_error - train_error)


def absence(results: Results, name: str, *kinds: str) -> str | None:
    """Return why some arms of a network cannot be judged yet, None if all their runs are there."""
    networks = results.parameters.networks
    if name not in networks:
        return f"no {name} in this profile"
    n = len(results.of(*(label(name, kind) for kind in kinds)))
    if not n and not networks[name].computable:
        dataset = networks[name].dataset
        return f"{name}: {dataset} is not at hand, `bsg data {dataset}` fetches it"
    arms = " and ".join(label(name, kind) for kind in kinds)
    planned = sum(results.planned.get(label(name, kind), 0) for kind in kinds)
    if not planned:
        return f"{arms}: not in this profile"
    return f"{n} of {planned} runs of {arms}" if n < planned else None


def pairs(results: Results, name: str, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs with the small and with the large batch, by the seeds that both have."""
    network = results.parameters.networks[name]
    small, large = (
        runs[runs["batch_size"] == size].set_index("seed")
        for size in (network.small_batch, network.large_batch)
    )
    both = small.index.intersection(large.index)
    return small[small.index.isin(both)].sort_index(), large[large.index.isin(both)].sort_index()


def diverged(runs: pd.DataFrame) -> str | None:
    """Return which run diverged, None if none did."""
    gone = runs[runs["stopped"] == "diverged"]
    return f"{_where(gone.iloc[0])}: diverged" if len(gone) else None


def untrained(runs: pd.DataFrame) -> str | None:
    """Return what the worst run reached, None if all got where they were to get.

    That is the training loss at which they were to stop, or else a training accuracy.
    """
    missed = runs[runs["target_loss"].notna() & (runs["stopped"] != "target_loss")]
    if len(missed):
        worst = missed.loc[missed["running_loss"].idxmax()]
        reached = f"training loss {worst['running_loss']:.2g}, not {worst['target_loss']:g}"
        return f"{_where(worst)}: {reached}"
    runs = runs[runs["target_loss"].isna() & ~(runs["train_accuracy"] >= TRAINED)]
    if runs.empty:
        return None
    worst = runs.loc[runs["train_accuracy"].idxmin()]
    reached, needed = PERCENT * worst["train_accuracy"], PERCENT * TRAINED
    reached = f"training accuracy {reached:.0f} %, {needed:.0f} % needed"
    return f"{_where(worst)}, {worst['updates']:.0f} updates: {reached}"


def _where(run: pd.Series) -> str:
    return f"{run['arm']}, B = {run['batch_size']}"


def last_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that were trained longest, in epochs."""
    return runs[runs["epochs"] == runs["epochs"].max()]


def at_best_rate(runs: pd.DataFrame) -> pd.DataFrame:
    """Return each seed's runs at the rates of highest mean validation accuracy of the other seeds.

    Two rates may be as good as each other and their minimizers of different sharpness: that the
    choice could have been another one then shows in the interval over seeds. A rate at which a run
    diverged is never the best.
    """
    cells = runs.groupby(list(GRID))
    whole = cells.filter(lambda cell: (cell["stopped"] != "diverged").all())
    parts = []
    for seed, own in whole.groupby("seed"):
        others = whole[whole["seed"] != seed]
        best = tuned(others if len(others) else own, "validation_accuracy")
        rates = best.groupby("batch_size")["base_lr"].first()
        parts.append(own[own["base_lr"] == own["batch_size"].map(rates)])
    return pd.concat(parts) if parts else runs


class Condition(NamedTuple):
    """What is made equal between the small and the large batch, and the runs that compare it."""

    words: str
    kind: str
    chosen: Callable[[pd.DataFrame], pd.DataFrame] = lambda runs: runs


CONDITIONS = {
    "epochs": Condition("at equal epochs", EVOLUTION, last_epochs),
    "tuned": Condition("with a rate tuned for each batch size", RATES, at_best_rate),
    "updates": Condition("at equal updates", UPDATES),
    "loss": Condition("at equal training loss", LOSS),
}


def compared(
    results: Results, name: str, condition: Condition, everything: pd.DataFrame
) -> tuple[pd.DataFrame, str | None]:
    """Return the runs of an arm that a condition compares, and why that is no comparison, if so."""
    runs = condition.chosen(everything)
    why = diverged(runs if condition.kind == RATES else everything) or untrained(runs)
    if not why and condition.kind == LOSS:
        small, large = (r["train_loss"].mean() for r in pairs(results, name, runs))
        if max(small, large) > MATCHED * min(small, large):
            why = f"training losses {small:.2g} and {large:.2g}: not within a factor {MATCHED:g}"
    return runs, why


def values_text(values: pd.Series) -> str:
    """Return the distinct values in order."""
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


def configurations(results: Results, name: str) -> pd.DataFrame:
    """Return the runs of a network's grid of batch sizes and rates, where every seed is trained."""
    runs = of(results, name, SIZES, RATES)
    if runs.empty:
        return runs
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


def rises(results: Results, name: str) -> pd.DataFrame:
    """Return the rise of the training loss around SB and LB on the linear path, in nats, by seed.

    The mean of the losses STEP to either side of a minimizer, minus that at the minimizer.
    """
    points = results.points
    mine = (points["arm"] == label(name, LB)) & (points["path"] == "linear")
    points = points[mine & (points["set"] == "train")]
    table = points.assign(alpha=points["alpha"].round(6)).pivot(
        index="seed", columns="alpha", values="loss"
    )
    return pd.DataFrame(
        {
            kind: (table[end - STEP] + table[end + STEP]) / 2 - table[end]
            for kind, end in ((SB, 0.0), (LB, 1.0))
        }
    )
