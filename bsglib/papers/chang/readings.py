"""Tables read off the runs of Chang & Pathak's study, before anything is judged."""

import numpy as np
import pandas as pd

from bsglib.measures import LINE
from bsglib.papers import Results
from bsglib.papers.chang.protocol import AGREEMENT, FIXED, LOSS, OTHER, PLANES, SCALED, SURFACE
from bsglib.papers.tables import of_common_seeds, per_seed, tuned

GRID = (FIXED, SCALED, OTHER)  # the arms of all batch sizes and rates
CELL = ("batch_size", "base_lr")  # what tells the cells of the grid apart
STEP = 0.25  # of alpha, and
RADIUS = 0.5  # of the filter-normalized plane, at which the growth of the loss is read


# ------------------------------------------------------------- runs


def fixed(results: Results) -> pd.DataFrame:
    """Return the runs at the source's rate, every batch size, of the seeds that all have."""
    return of_common_seeds(results.of(FIXED), *CELL)


def scaled(results: Results) -> pd.DataFrame:
    """Return the runs at the linearly scaled rate, of the seeds that all batch sizes have.

    At the smallest batch size it is the fixed rate.
    """
    runs = results.of(FIXED, SCALED)
    smallest = runs["batch_size"] == results.parameters.smallest
    return of_common_seeds(runs[smallest | (runs["arm"] == SCALED)], *CELL)


def grid(results: Results) -> pd.DataFrame:
    """Return the runs of all batch sizes and rates, of the seeds that every cell with runs has."""
    return of_common_seeds(results.of(*GRID), *CELL)


def equal_loss(results: Results) -> pd.DataFrame:
    """Return the runs at the source's rate that stopped at one training loss."""
    return results.of(LOSS)


def two_at_large_lr(results: Results) -> pd.DataFrame:
    """Return the runs of the two smallest batch sizes at the largest one's scaled rate."""
    p, runs = results.parameters, grid(results)
    two = runs["batch_size"].isin(sorted(p.batch_sizes)[:2])
    return runs[two & (runs["base_lr"] == p.scaled_lr(p.largest))]


# ------------------------------------------------------------- losses, distances, updates


def with_losses(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with "gap", validation minus training loss, and "lowest_running", nats.

    The lowest training loss as it ran is what the source draws; at the lowest validation loss,
    which early stopping keeps, training goes on.
    """
    lowest = results.history.groupby(["entry", "arm"])["running_loss"].min()
    keys = pd.MultiIndex.from_frame(runs[["entry", "arm"]])
    gap = runs["validation_loss"] - runs["train_loss"]
    return runs.assign(gap=gap, lowest_running=lowest.reindex(keys).to_numpy())


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
    return table[[p.smallest, p.largest]].dropna()


def median_norms(results: Results) -> pd.DataFrame:
    """Return the median norm of the updates of each run at the source's rate."""
    norms = _points(results, "update_norms")
    return norms[norms["level"].round(9) == 0.5]


def layers(results: Results) -> pd.DataFrame:
    """Return the distances from the initial weights layer by layer, at the source's rate."""
    rows = _points(results, "distances")
    return rows[rows["layer"] != "whole"]


# ------------------------------------------------------------- gradients and surfaces


def agreement(results: Results) -> pd.DataFrame:
    """Return the rows on how gradients agree, on the trained networks of the smallest batch."""
    return _points(results, AGREEMENT)


def rises(results: Results) -> pd.DataFrame:
    """Return by how much log(training loss) rises STEP away from each end, by seed."""
    line = _points(results, LINE)
    line = line[line["set"] == "train"].assign(alpha=line["alpha"].round(9))
    table = np.log(line.pivot(index="seed", columns="alpha", values="loss"))
    p, ends = results.parameters, {}
    for batch_size, end in ((p.smallest, 0.0), (p.largest, 1.0)):
        ends[batch_size] = (table[end - STEP] + table[end + STEP]) / 2 - table[end]
    return pd.DataFrame(ends)


def growth(results: Results) -> pd.DataFrame:
    """Return the mean growth of the loss within RADIUS of the filter-normalized plane, by seed."""
    p, planes = results.parameters, _points(results, SURFACE)
    planes = planes[planes["seeds"] == str(list(PLANES[0]))]
    planes = planes[planes["points"] == p.explorer_points]
    inside = planes[np.hypot(planes["a"], planes["b"]) <= RADIUS + 1e-9]
    cells = ["seed", "batch_size"]
    middle = inside[(inside["a"] == 0) & (inside["b"] == 0)].set_index(cells)["loss"]
    table = (inside.groupby(cells)["loss"].mean() - middle).unstack()
    return table[[p.smallest, p.largest]].dropna()


def _points(results: Results, measure: str) -> pd.DataFrame:
    points = results.points
    return points[(points["measure"] == measure) & (points["arm"] == FIXED)]


# ------------------------------------------------------------- times


def seconds(results: Results, processes: int = 1) -> pd.DataFrame:
    """Return seconds per epoch [repeat, batch size] over some processes."""
    times = results.timings
    if times.empty:
        return pd.DataFrame()
    times = times[times["processes"] == processes]
    return times.pivot(index="repeat", columns="batch_size", values="seconds")


def total_seconds(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return epochs to the lowest validation loss times the median seconds of an epoch."""
    return per_seed(runs, "kept_epoch") * seconds(results).median()


def most_processes(results: Results) -> int:
    """Return the largest number of processes that each had a core of its own."""
    times = results.timings
    return int(times.loc[times["processes"] <= times["cores"], "processes"].max())


# ------------------------------------------------------------- rates


def best_lrs(results: Results) -> pd.DataFrame:
    """Return the rate of the lowest validation loss [seed, batch size]; diverged runs have none."""
    runs = grid(results)
    runs = runs[runs["stopped"] != "diverged"]
    best = runs.loc[runs.groupby(["seed", "batch_size"])["validation_loss"].idxmin()]
    return best.pivot(index="seed", columns="batch_size", values="base_lr")


def at_best_rate(results: Results) -> pd.DataFrame:
    """Return the runs at each batch size's rate of lowest mean validation loss over seeds."""
    return tuned(grid(results), "validation_loss", lowest=True)


def at_edge(results: Results) -> float:
    """Return the share of best rates at an end of the grid, beyond which there may be better."""
    best, p = best_lrs(results), results.parameters
    return float(best.isin((min(p.lrs), max(p.lrs))).to_numpy().mean())
