"""Tables, rows and notes that the notebook on Surlemont et al. shows."""

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from bsglib.stats import PERCENT
from bsglib.studies import notes, source
from bsglib.studies.study import Results
from bsglib.studies.surlemont import authors, confirmatory
from bsglib.studies.surlemont.protocol import (
    RHO_SWEEP,
    SGD,
    SGD_FIXED,
    SGD_FIXED_SAM,
    SGD_SAM,
    SurlemontParameters,
)
from bsglib.studies.tables import dashed, joined, of_common_seeds, rows_table, scope_table


def scope(p: SurlemontParameters) -> pd.DataFrame:
    """Return the differences from the paper: quantity, paper, here, why."""
    size = (
        "all but the validation set"
        if p.train_size is None
        else f"{p.train_size:,} training images"
    )
    largest = max(p.batch_sizes)
    updates = "-" if p.train_size is None else f"{math.ceil(p.train_size / largest)}"
    rows = [
        (
            "data",
            "fashion_mnist, 60,000 training images",
            f"{p.dataset}, {size}",
            "validation set" if p.train_size is None else "time",
        ),
        ("network", "surlemont, {'width': 1.0}", f"{p.network}, {p.network_options}", "time"),
        (
            f"updates per epoch at B = {largest}",
            f"{math.ceil(60_000 / largest)}",
            updates,
            "fewer examples",
        ),
        ("initial weights", "not stated", "Glorot uniform, biases 0", "Keras' default"),
        ("batch sizes", [32, 64, 128, 256, 512, 1024], p.batch_sizes, "training set too small"),
        ("SGD learning rate at B = 32", 0.001, p.sgd_lr, "fewer updates"),
        ("Adam learning rate at B = 32", 0.001, p.adam_lr, "fewer updates"),
        ("momentum", 0.9, p.momentum, "chosen here"),
        ("epochs, at most", 500, p.epochs, "time"),
        ("stop after epochs without improvement", 10, p.patience, "chosen here"),
        ("SAM radius", "not stated", p.rho, "default of the cited code"),
        ("SAM's two gradients", "not stated", "new dropout masks for each", "as the cited code"),
        ("dropout", "0.5; with SAM perhaps off", f"{p.dropout}; off in two arms", "comparison"),
        ("sharpness measured on", "not stated", f"{p.sharpness_examples:,} examples", "time"),
        ("largest eigenvalue", "not measured", f"{p.lambda_max_examples:,} examples", "ours"),
        ("box half-width", 0.01, p.epsilon, "chosen here"),
        ("accuracy", "validation or test, mixed", "both, separate", "no selection on test data"),
        ("seeds", "not stated", notes.seeds(p, "for SGD with dropout"), "an interval needs three"),
        notes.arithmetic(p.dtype, "Keras' default"),
    ]
    return scope_table(rows)


def epoch_times(results: Results) -> pd.DataFrame:
    """Return the timed epochs: batch_size, sam, repeat, seconds."""
    times = results.timings
    columns = ["batch_size", "sam", "repeat", "seconds"]
    return times[columns] if len(times) else pd.DataFrame(columns=columns, dtype=float)


def epoch_time_ratios(results: Results) -> pd.DataFrame:
    """Return batch_size, repeat, sam, and the time with SAM over the time without."""
    times = epoch_times(results)
    if times.empty:
        return pd.DataFrame(columns=["batch_size", "repeat", "ratio", "sam"], dtype=float)
    table = times.pivot(index=["batch_size", "repeat"], columns="sam", values="seconds")
    return (table[True] / table[False]).rename("ratio").reset_index().assign(sam=True)


def rho_rows(results: Results) -> pd.DataFrame:
    """Return the runs of SGD with scaled rate and SAM at the largest batch, for all radii.

    Only the seeds that all radii share.
    """
    runs = results.of(SGD_SAM.label, RHO_SWEEP)
    runs = runs[runs["batch_size"] == max(results.parameters.batch_sizes)].sort_values("rho")
    return of_common_seeds(runs, "rho")


def paper_error_ratios() -> pd.DataFrame:
    """Return the authors' runs of SGD with error_ratio: training over validation error."""
    runs = source.read("surlemont", "runs", optimizer="sgd")
    return runs.assign(error_ratio=(1 - runs["train_accuracy"]) / (1 - runs["validation_accuracy"]))


def paper_times() -> pd.DataFrame:
    """Return seconds per epoch of the authors' runs of SGD with scaled rate.

    Where SAM is on, ratio is the time over that of the same run without it.
    """
    runs = source.read("surlemont", "runs", optimizer="sgd", rate="scaled")
    without = runs["seconds"].mask(runs["sam"]).groupby([runs["run"], runs["batch_size"]])
    return runs.assign(ratio=(runs["seconds"] / without.transform("max")).where(runs["sam"]))


def factorial(results: Results) -> dict[str, dict[str, pd.DataFrame]]:
    """Return the runs of SGD and of both kinds of SAM, with dropout on and off in SAM.

    Returns:
        by the title of a panel and the name of a line.
    """
    sgd = results.of(confirmatory.SGD.label)
    kinds = {
        "plain SAM, as written": (confirmatory.AS_WRITTEN, confirmatory.PLAIN_OFF),
        "adaptive SAM, as run": (confirmatory.ADAPTIVE_ON, confirmatory.AS_RUN),
    }
    names = ("SAM, dropout on", "SAM, dropout off in SAM")
    return {
        title: {"SGD": sgd} | {n: results.of(arm) for n, arm in zip(names, arms, strict=True)}
        for title, arms in kinds.items()
    }


def factorial_table(results: Results) -> pd.DataFrame:
    """Return means over the seeds that all arms share, by arm and batch size.

    Returns:
        SGD's sharpness over the arm's (geometric mean), sharpness in per cent, training loss, test
        accuracy in per cent, and n; none of arms that the profile does not have.
    """
    panels = factorial(results)
    runs = joined(runs for lines in panels.values() for runs in lines.values())
    if runs.empty or not runs["condition"].isin(confirmatory.CONDITIONS).any():
        return rows_table({}, "arm")
    runs = of_common_seeds(runs.drop_duplicates(["entry", "arm"]), "arm", "batch_size")
    logs = np.log(runs["keskar_sharpness"])
    sgd = runs["arm"] == confirmatory.SGD.label
    keys = [runs["seed"], runs["batch_size"]]
    of_sgd = logs.where(sgd).groupby(keys).transform("max")
    runs = runs.assign(factor=of_sgd - logs, percent=PERCENT * runs["test_accuracy"])
    cells = runs.groupby(["batch_size", "arm"], sort=False)
    table = {
        "SGD / arm": np.exp(cells["factor"].mean()).map("{:.3g}".format),
        "sharpness (%)": cells["keskar_sharpness"].mean().map("{:.3g}".format),
        "training loss (nats)": cells["train_loss"].mean().map("{:.3g}".format),
        "test accuracy (%)": cells["percent"].mean().map("{:.1f}".format),
        "n": cells.size(),
    }
    return pd.DataFrame(table).rename_axis(["B", "arm"]).sort_index(level="B", sort_remaining=False)


PUBLISHED, REMEASURED = "published", "theirs by theirs"
BY_OURS, OWN = "theirs by ours", "ours by ours"
BY_PARTS = "theirs by ours, over parts"
SOLVERS = {  # columns of `authors.results`
    PUBLISHED: "sharpness",
    REMEASURED: authors.THEIRS,
    authors.ALL_STEPS: authors.ALL_STEPS,
    authors.TRUE_GRADIENT: authors.TRUE_GRADIENT,
    BY_OURS: authors.OURS,
    BY_PARTS: authors.BY_PARTS,
    authors.LARGEST: authors.LARGEST,
}
PAIRS = {  # a rate, and what was run there under the name of SAM: the same arms of ours
    "scaled": ("adaptive SAM, rho 2.0", (SGD.label, confirmatory.AS_RUN)),
    "fixed": ("plain SAM, rho 0.05", (SGD_FIXED.label, SGD_FIXED_SAM.label)),
}


def authors_lines(rate: str, solver: str) -> dict[str, pd.DataFrame]:
    """Return the sharpness of the authors' networks of SGD without and with SAM, to draw it.

    Args:
        rate: of PAIRS.
        solver: of SOLVERS.

    Returns:
        by the name of the line its rows: batch_size, sam, keskar_sharpness.
    """
    rows = authors.results()
    rows = rows[(rows["optimizer"] == "sgd") & (rows["rate"] == rate)]
    rows = rows.assign(sam=rows["label"] == "SAM", keskar_sharpness=rows[SOLVERS[solver]])
    names = {"SGD": "no SAM", PAIRS[rate][0]: "SAM"}  # as the source calls them
    columns = ["batch_size", "sam", "keskar_sharpness"]
    return {name: rows.loc[rows["label"] == label, columns] for name, label in names.items()}


def authors_rows() -> pd.DataFrame:
    """Return the authors' networks of SGD with their published and measured values."""
    rows = authors.results()
    return rows[rows["optimizer"] == "sgd"].drop(columns=["model", "optimizer"])


def authors_note() -> str:
    """Return how closely the authors' networks and their solver give what they published."""
    rows = authors.results()
    checked = rows["validation"].notna()
    agreed = authors.agreeing(rows).sum()
    ratio = (rows[authors.THEIRS] / rows["sharpness"]).dropna()
    return (
        f"{agreed} of {checked.sum()} networks give the published validation loss and accuracy to "
        f"{authors.DIGITS} digits. Recomputed over published sharpness of {len(ratio)} of them: "
        f"median {ratio.median():.4g}, from {ratio.min():.4g} to {ratio.max():.4g}."
    )


def authors_factors(results: Results, batch_sizes: tuple[int, ...] = (32, 64)) -> pd.DataFrame:
    """Return by how much SAM divides the sharpness, by networks and solver.

    A row per batch size and rate: the sharpness of SGD over that of SAM at the same rate. A column
    per solver of SOLVERS, of the authors' networks; and OWN, the ratio of means over common seeds
    of the study's own runs. A dash where there is none; no column of nothing else.
    """
    found = []
    for size, (rate, (name, arms)) in itertools.product(batch_sizes, PAIRS.items()):
        row: dict = {"batch size": size, "rate": rate, "SGD over": name}
        for solver in SOLVERS:
            row[solver] = _factor(authors_lines(rate, solver).values(), size)
        own = of_common_seeds(results.of(*arms, batch_size=[size]), "arm")
        row[OWN] = _factor([own[own["arm"] == arm] for arm in arms], size)
        found.append(row)
    return dashed(pd.DataFrame(found).dropna(axis="columns", how="all"))


def _factor(pair: Iterable[pd.DataFrame], size: int) -> float:
    """Return the mean sharpness of the first over that of the second, NaN without runs."""
    plain, sam = (rows.loc[rows["batch_size"] == size, "keskar_sharpness"].mean() for rows in pair)
    return plain / sam


def authors_by_examples() -> pd.DataFrame:
    """Return our sharpness of the authors' networks of SGD by the number of training images.

    Columns: batch_size, rate, method, and a column per number of images; only networks that were
    measured on more than one number.
    """
    rows = authors.measurements()
    rows = rows[(rows["measure"] == authors.OURS) & (rows["optimizer"] == "sgd")]
    rows = rows[rows.groupby("model")["n"].transform("nunique") > 1]
    by = ["batch_size", "rate", "method"]
    return rows.pivot(index=by, columns="n", values="value").rename_axis(columns="images")
