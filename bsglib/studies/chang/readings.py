"""Tables read off the runs of Chang & Pathak's study that its claims and its figures share."""

import numpy as np
import pandas as pd

from bsglib.studies.chang.protocol import AGREEMENT, FIXED
from bsglib.studies.comparing import seconds
from bsglib.studies.study import Results
from bsglib.studies.tables import of_common_seeds, tuned

# ------------------------------------------------------------- runs


def fixed(results: Results) -> pd.DataFrame:
    """Return the runs at the paper's rate, every batch size, of the seeds that all share."""
    return of_common_seeds(results.of(FIXED), "batch_size")


def scaled(results: Results) -> pd.DataFrame:
    """Return the runs at the linearly scaled rate, of the seeds that all batch sizes have.

    At the smallest batch size it is the fixed rate.
    """
    return of_common_seeds(results.of(scaled=True), "batch_size")


def grid(results: Results) -> pd.DataFrame:
    """Return the runs of all batch sizes and rates, of the seeds that every cell with runs has."""
    return of_common_seeds(results.of(whole_grid=True), "batch_size", "base_lr")


# ------------------------------------------------------------- losses, distances, updates


def derived(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with "gap" and "lowest_running", nats, and "total_seconds", NaN if untimed.

    The gap is validation minus training loss. The lowest running training loss is what the paper
    draws; at the lowest validation loss, which early stopping keeps, training goes on. The total is
    the epochs to the lowest validation loss times the median seconds of an epoch.
    """
    lowest = results.history.groupby(["entry", "arm"])["running_loss"].min()
    keys = pd.MultiIndex.from_frame(runs[["entry", "arm"]])
    per_epoch = runs["batch_size"].map(seconds(results, processes=1).median().astype(float))
    return runs.assign(
        gap=runs["validation_loss"] - runs["train_loss"],
        lowest_running=lowest.reindex(keys).to_numpy(),
        total_seconds=runs["kept_epoch"] * per_epoch,
    )


def at_equal_updates(results: Results) -> pd.DataFrame:
    """Return the lowest validation loss up to the updates of the shortest run of each seed."""
    history = results.history_of(FIXED)
    ends = history.groupby(["seed", "batch_size"])["updates"].max().groupby("seed").min()
    history = history[history["updates"] <= history["seed"].map(ends)]
    rows = history.groupby(["seed", "batch_size"], as_index=False)["validation_loss"].min()
    return rows.assign(updates=rows["seed"].map(ends))


def epoch_distances(results: Results) -> pd.DataFrame:
    """Return distance per epoch [(seed, epoch), batch size], epochs that both ends have."""
    p, history = results.parameters, results.history_of(FIXED)
    table = history.pivot(index=["seed", "epoch"], columns="batch_size", values="epoch_distance")
    return table.reindex(columns=[p.smallest, p.largest]).dropna()


def update_norms(results: Results) -> pd.DataFrame:
    """Return quantiles of the norms of the updates of each run at the paper's rate."""
    return results.points_of(FIXED, measure="update_norms")


def median_norms(results: Results) -> pd.DataFrame:
    """Return the median norm of the updates of each run."""
    norms = update_norms(results)
    return norms[norms["level"].round(9) == 0.5]


def layers(results: Results) -> pd.DataFrame:
    """Return the distances from the initial weights layer by layer, at the paper's rate."""
    rows = results.points_of(FIXED, measure="distances")
    return rows[rows["layer"] != "whole"]


def agreement(results: Results) -> pd.DataFrame:
    """Return the rows on how gradients agree, on the trained networks of the smallest batch."""
    return results.points_of(FIXED, measure=AGREEMENT)


# ------------------------------------------------------------- times


def most_processes(results: Results) -> int:
    """Return the largest number of processes that each had a core of its own."""
    times = results.timings
    return int(times.loc[times["processes"] <= times["cores"], "processes"].max())


# ------------------------------------------------------------- rates


def rates(results: Results) -> pd.DataFrame:
    """Return the runs of the grid; a diverged run has an infinite loss."""
    runs = grid(results)
    loss = runs["validation_loss"].where(runs["stopped"] != "diverged", np.inf)
    return runs.assign(validation_loss=loss)


def best_lrs(results: Results) -> pd.DataFrame:
    """Return the rate of the lowest validation loss [seed, batch size]; diverged runs have none."""
    runs = grid(results)
    runs = runs[runs["stopped"] != "diverged"]
    best = runs.loc[runs.groupby(["seed", "batch_size"])["validation_loss"].idxmin()]
    return best.pivot(index="seed", columns="batch_size", values="base_lr")


def at_best_rate(results: Results) -> pd.DataFrame:
    """Return the runs at each batch size's rate of lowest mean validation loss over seeds."""
    return tuned(grid(results), "validation_loss", lowest=True)
