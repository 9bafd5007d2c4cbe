"""Tables read off the runs of Chang & Pathak's study that its claims and its figures share."""

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from bsglib.studies.chang import published
from bsglib.studies.chang.protocol import AGREEMENT, FIXED
from bsglib.studies.comparing import seconds
from bsglib.studies.study import Results
from bsglib.studies.tables import of_common_seeds, tuned
from bsglib.verdicts import Shares

DATA = {"cats_vs_dogs": "", "even_or_odd": "digits"}  # what others than the source's are called

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


def shares(results: Results, runs: pd.DataFrame) -> Iterator[Shares]:
    """Yield what each run has of the source's training; more than all counts as all.

    A run over all images of its data has about as many as its updates per epoch take.
    """
    for run in runs.itertuples():
        updates, b = 1.0, run.batch_size
        if run.stopped == "epochs":
            at_fixed = run.base_lr == results.parameters.lr
            updates = run.updates / published.updates(b, at_fixed=at_fixed)
        whole = pd.isna(run.train_size)
        images = run.updates / run.epochs * b if whole else run.train_size
        width = json.loads(run.network_options).get("width", 1)
        data = DATA.get(run.dataset, run.dataset)
        yield Shares(updates, images / published.IMAGES, width, data)


# ------------------------------------------------------------- losses, distances, updates


def columns(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with losses in nats, and with "total_seconds", NaN if untimed.

    The "loss_gap" is validation minus training loss. The "bounded_loss" is the lowest validation
    loss, at most that of guessing, which a diverged run has. The "lowest_running" training loss is
    what the paper draws; at the lowest validation loss, which early stopping keeps, training goes
    on.
    "total_seconds" are the epochs to the lowest validation loss times the median of an epoch.
    """
    guessing = np.log(runs["classes"])
    finite = runs["validation_loss"].where(runs["stopped"] != "diverged", guessing)
    lowest = results.history.groupby(["entry", "arm"])["running_loss"].min()
    keys = pd.MultiIndex.from_frame(runs[["entry", "arm"]])
    per_epoch = runs["batch_size"].map(seconds(results, processes=1).median().astype(float))
    return runs.assign(
        loss_gap=runs["validation_loss"] - runs["train_loss"],
        bounded_loss=np.minimum(finite, guessing),
        lowest_running=lowest.reindex(keys).to_numpy(),
        total_seconds=runs["kept_epoch"] * per_epoch,
    )


def at_equal_updates(results: Results, sizes: Sequence[int] | None = None) -> pd.DataFrame:
    """Return the lowest validation loss up to the updates of the shortest run of each seed.

    Args:
        results: of the study.
        sizes: batch sizes that are compared; None: all.
    """
    history = results.history_of(FIXED, **({} if sizes is None else {"batch_size": list(sizes)}))
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
    runs = grid(results).sort_values("base_lr")
    runs = runs[runs["stopped"] != "diverged"]
    best = runs.loc[runs.groupby(["seed", "batch_size"])["validation_loss"].idxmin()]
    return best.pivot(index="seed", columns="batch_size", values="base_lr")


def optima(results: Results) -> pd.DataFrame:
    """Return the best rate [seed, batch size], read between the rates of the grid.

    It is the vertex of the parabola, over log(rate), through the lowest validation loss and those
    at the rates beside it; a best rate at an end of the grid is returned as it is. Where training
    fails, the loss is that of guessing.
    """
    cells = columns(results, grid(results)).sort_values("base_lr").groupby(["seed", "batch_size"])
    found = {cell: _optimum(c["base_lr"], c["bounded_loss"]) for cell, c in cells}
    return pd.Series(found).rename_axis(["seed", "batch_size"]).unstack()


def _optimum(rates: pd.Series, losses: pd.Series) -> float:
    x, y = np.log(rates.to_numpy()), losses.to_numpy()
    i = int(y.argmin())
    if not 0 < i < len(y) - 1:
        return float(np.exp(x[i]))
    (left, right), middle = np.diff(y[i - 1 : i + 2]) / np.diff(x[i - 1 : i + 2]), x[i]
    if left != right:  # else all three are equal
        middle = (x[i - 1] + x[i]) / 2 - left * (x[i + 1] - x[i - 1]) / (2 * (right - left))
    return float(np.exp(middle))


def best(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs at each batch size's rate of lowest mean validation loss over seeds."""
    whole = of_common_seeds(runs, "batch_size", "base_lr")
    return tuned(whole, "validation_loss", lowest=True)


def at_best_rate(results: Results) -> pd.DataFrame:
    """Return the runs of the grid that `best` selects."""
    return best(results.of(whole_grid=True))


def tuned_rates(results: Results) -> "pd.Series[float]":
    """Return the rates of these runs by batch size."""
    return at_best_rate(results).groupby("batch_size")["base_lr"].first()
