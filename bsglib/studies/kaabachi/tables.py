"""Tables and rows that the notebook on Kaabachi et al. shows."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from bsglib.stats import PERCENT, Share, censored_median
from bsglib.studies import notes
from bsglib.studies.comparing import seconds
from bsglib.studies.kaabachi import published
from bsglib.studies.kaabachi.confirmatory import AS_RUN, FLAT
from bsglib.studies.kaabachi.derived import read_off
from bsglib.studies.kaabachi.protocol import (
    COLD,
    EXPONENTIAL,
    LARGE,
    LENGTHS,
    LINEAR,
    LOCAL,
    RATE,
    SMALL,
    WARM,
    KaabachiParameters,
)
from bsglib.studies.study import Results
from bsglib.studies.tables import of_common_seeds, rows_table, scope_table

ARMS = {LARGE: "rate not scaled", LINEAR: LINEAR} | {a: f"{k} warm-up" for k, a in WARM.items()}
PAPER_ARMS = {"large": "not scaled", "linear": "linear rule", "exponential": "warm-up"}


def scope(p: KaabachiParameters) -> pd.DataFrame:
    """Return the differences from the paper: quantity, paper, here, why."""
    whole, cifar10, like_public = (
        p.train_size is None,
        "cifar10, 50,000 training images",
        "as public code",
    )
    size = "all but the validation set" if whole else f"{p.train_size:,} training images"
    as_long = "equal to the linear rule" if p.warmup_epochs == p.scaled_epochs else "time"
    last = max(p.small_epochs, *p.large_epochs, p.scaled_epochs, p.warmup_epochs)
    test = "per epoch" if p.evaluate == "every" else f"at log-spaced epochs up to {last}"
    small, large = map(list, (published.SMALL, published.LARGE))
    rows = [
        ("data", cifar10, f"{p.dataset}, {size}", "validation set" if whole else "time"),
        ("preprocessing", "a normalization", "mean 0, deviation 1 per channel", "not stated"),
        ("network", "kaabachi, {'width': 1.0}", f"{p.network}, {p.network_options}", "time"),
        ("batch norm", "ambiguous", "after a block's first convolution", like_public),
        ("dense layers, dropout", "not stated", "1024, 512; by channel", like_public),
        ("small batches", small, p.small_batch_sizes, "time"),
        ("large batches", large, p.large_batch_sizes, "enough updates"),
        ("rate that is not scaled", 0.001, p.unscaled_lr, "fewer updates per epoch"),
        ("scaled rate", "0.001 B", f"{p.lr:g} B", "time"),
        ("epochs, small batches", published.SMALL_EPOCHS, p.small_epochs, "time"),
        ("epochs, large, not scaled", [100, 150, 200, 300, 400], p.large_epochs, "time"),
        ("epochs, linear rule", published.LINEAR_EPOCHS, p.scaled_epochs, "time"),
        ("epochs, warm-up", 70, p.warmup_epochs, as_long),
        ("share of warm-up", 0.05, p.warmup_share, "3.5 epochs, as the paper, or enough updates"),
        ("warm-up", "per epoch or update, not stated", f"per update, from {p.lr:g}", "finer steps"),
        ("seeds", "not stated", len(p.seeds), "an interval needs three"),
        ("test accuracy", "per epoch", test, "time"),
        (
            "batch norm at evaluation",
            "not stated",
            "re-estimated on training examples",
            "running averages lag",
        ),
        notes.arithmetic(p.dtype, "PyTorch's default"),
    ]
    return scope_table(rows)


def accuracy(results: Results) -> pd.DataFrame:
    """Return the highest test accuracy during the runs, in per cent, mean over seeds."""
    return _means(read_off(results, SMALL, *ARMS), "arm", "peak", "highest test accuracy")


def rules(results: Results) -> pd.DataFrame:
    """Return the final test accuracy of every rule and rate in per cent, mean over seeds."""
    return _means(read_off(results, varied=RATE), "setting", "final", "final test accuracy")


def _means(runs: pd.DataFrame, row: str, column: str, what: str) -> pd.DataFrame:
    """Return means in per cent over the seeds that all cells have; the index has their name."""
    runs = of_common_seeds(runs, row, "batch_size")
    table = _cells(runs, row, column, lambda values: f"{PERCENT * values.mean():.1f}")
    return table.rename_axis(f"{what} (%), n = {runs['seed'].nunique()}")


def divergence(results: Results) -> pd.DataFrame:
    """Return the number of runs that diverged or ended at chance, with the exact interval."""

    def count(lost: pd.Series) -> str:
        found = Share(int(lost.sum()), len(lost)).interval()
        return f"{lost.sum()} of {found.n} ({PERCENT * found.low:.0f}–{PERCENT * found.high:.0f} %)"

    return _cells(read_off(results), "setting", "lost", count)


def _cells(
    runs: pd.DataFrame, row: str, column: str, text: Callable[[pd.Series], str]
) -> pd.DataFrame:
    """Return a text for the runs of each cell, a column per batch size; "" without any."""
    table = runs.groupby([row, "batch_size"])[column].agg(text).unstack(fill_value="")
    return table.loc[runs[row].unique()].rename(columns="B = {}".format).rename_axis(columns=None)


def equal_footing(results: Results) -> pd.DataFrame:
    """Return test accuracy in per cent at equal epochs and at equal updates, mean over seeds.

    Epochs are those of the small batches, updates those of the largest batch. Accuracy is
    interpolated between evaluated epochs. "-" marks runs with fewer updates, or without an
    evaluation up to then. A run that diverged before counts as chance.
    """
    p, order = results.parameters, [SMALL, LARGE, LINEAR]
    runs = read_off(results, *order).set_index("entry")
    limits = {f"at {p.small_epochs} epochs (%)": ("epoch", p.small_epochs)}
    if len(largest := results.of(LARGE, batch_size=max(p.large_batch_sizes))):
        most = largest["updates"].max()
        limits[f"at {most:,.0f} updates (%)"] = ("updates", most)
    evaluated = results.history_of(*order).dropna(subset="test_accuracy").sort_values("epoch")
    designed = results.design.drop_duplicates("entry").set_index("entry")["epochs"]
    rows = []
    for entry, one in evaluated.groupby("entry"):
        row, run = {}, runs.loc[entry]
        for head, (column, limit) in limits.items():
            at = np.interp(np.log(limit), np.log(one[column]), one["test_accuracy"], np.nan, np.nan)
            made, epochs = one[[column, "epoch"]].max()
            ended = made < limit <= made / epochs * designed[entry]
            at = run["final"] if ended and run["stopped"] == "diverged" else at
            row[head] = PERCENT * at
        rows.append({"arm": run["arm"], "B": run["batch_size"]} | row)
    cells = pd.DataFrame(rows, columns=["arm", "B", *limits]).groupby(["arm", "B"])
    shown = cells.mean().map(lambda value: "-" if np.isnan(value) else f"{value:.1f}")
    return shown.assign(n=cells.size()).reindex(order, level="arm")


def table_1(results: Results) -> pd.DataFrame:
    """Return the epochs of table I beside ours, as medians with the range over seeds.

    Epochs to the run's own final accuracy, as in the paper, and to the common target. A run that
    did not reach it counts as longer than all others.
    """
    sizes = read_off(results, SMALL, LARGE).groupby("batch_size")
    percent = (PERCENT * sizes[["final", "target"]].mean()).map("{:.1f}".format)
    table = {
        "paper: epochs to final accuracy": _stated(lambda row: f"{row.epochs}"),
        "epochs to final accuracy": sizes["own_epochs"].agg(_median),
        "still rising at the end": sizes["rising"].agg(lambda r: f"{r.sum()} of {len(r)}"),
        "final accuracy (%)": percent["final"],
        "epochs to common target": _to_common(sizes),
        "target (%)": percent["target"].replace("nan", "-"),
        "n": sizes.size().astype(str),
    }
    return _by_size(table, sizes)


def table_1_seconds(results: Results) -> pd.DataFrame:
    """Return the seconds of table I, on the paper's device and on ours, as medians."""
    if results.timings.empty:
        return rows_table({})
    median = seconds(results).median()
    runs = read_off(results, SMALL, LARGE)
    cost = runs["batch_size"].map(median)
    times = {name: runs[name] * cost for name in ("own_epochs", "target_epochs")}
    sizes = runs.assign(**times).groupby("batch_size")
    table = {
        "paper: s per epoch": _stated(lambda row: f"{row.seconds_per_epoch:g}"),
        "s per epoch": median.map("{:.3g}".format),
        "paper: s to final accuracy": _stated(lambda row: f"{row.seconds:,.0f}"),
        "s to final accuracy": sizes["own_epochs"].agg(_median),
        "s to common target": _to_common(sizes),
    }
    return _by_size(table, sizes)


def _stated(text: Callable[[published.Row], str]) -> pd.Series:
    return pd.Series({size: text(row) for size, row in published.TABLE.items()})


def _by_size(columns: dict[str, pd.Series], sizes: DataFrameGroupBy) -> pd.DataFrame:
    """Return columns as a table with a row per computed batch size."""
    table = pd.DataFrame(columns).reindex(list(sizes.groups)).fillna("-")
    return table.rename(index=str).rename_axis("B")


def _to_common(sizes: DataFrameGroupBy) -> pd.Series:
    """Return times to the common target; "-" if the run that sets a seed's target is missing."""
    unset = sizes["target"].agg(lambda targets: targets.isna().any()).astype(bool)
    return sizes["target_epochs"].agg(_median).mask(unset, "-")


def _median(times: pd.Series) -> str:
    found = censored_median([None if np.isnan(t) else t for t in times])
    if not found.reached:
        return f"none of {found.n}"
    median, low, high = (
        f"{t:.3g}" if np.isfinite(t) else "never" for t in (found.median, found.low, found.high)
    )
    return median if found.n == 1 else f"{median} [{low}, {high}]"


def by_rate(results: Results) -> pd.DataFrame:
    """Return the runs that differ only in their rate, with `lr` and `percent`."""
    runs = _in_percent(read_off(results, varied=RATE))
    return runs.assign(lr=runs["lr"].map("{:.4g}".format).astype(float))  # two rules may give one


def by_length(results: Results) -> pd.DataFrame:
    """Return the runs of the largest batch by length of warm-up, both in per cent."""
    p = results.parameters
    runs = read_off(results, COLD, EXPONENTIAL, LENGTHS, batch_size=max(p.large_batch_sizes))
    length = PERCENT * (runs["warmup_epochs"] / p.warmup_epochs)
    return _in_percent(runs.assign(length=length).sort_values(["length", "seed"]))


def warm_ups(results: Results, batch_size: int) -> pd.DataFrame:
    """Return the runs of one large batch with the linear rule, of equal length, by warm-up."""
    arms = [read_off(results, arm, batch_size=batch_size) for arm in (COLD, *WARM.values())]
    runs = pd.concat(arms)
    return _in_percent(runs.assign(condition=runs["warmup"]))


def local(results: Results) -> pd.DataFrame:
    """Return the runs of local SGD and of the joint batch of its workers."""
    p = results.parameters
    largest, workers = max(p.large_batch_sizes), f"{p.local_workers} workers"
    names = {COLD: f"B = {largest}", EXPONENTIAL: f"B = {largest}, warm-up"}
    arms = [read_off(results, arm, batch_size=largest) for arm in names]
    steps = read_off(results, LOCAL).sort_values("local_steps", kind="stable")
    made = steps["local_steps"].map(lambda n: f"{workers}, {n} step{'s' * (n > 1)}")
    runs = pd.concat([*arms, steps])
    return _in_percent(runs.assign(condition=runs["arm"].map(names).fillna(made)))


def _in_percent(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.assign(percent=PERCENT * runs["final"])


def local_table(results: Results) -> pd.DataFrame:
    """Return the final accuracy and loss of those runs, means over seeds."""
    rows = local(results).groupby("condition", sort=False)
    columns = {"percent": "test accuracy (%)", "train_loss": "training loss (nats)"}
    return rows[list(columns)].mean().rename(columns=columns).assign(n=rows.size()).round(3)


def modes(results: Results) -> pd.DataFrame:
    """Return the test accuracy in per cent by epoch, in evaluation mode and as their code has it.

    Returns:
        rows with arm, batch_size, seed, epoch, running_loss, mode and percent, at one rate for all
        batch sizes; none where the profile does not evaluate as their code does.
    """
    if "test_accuracy_as_run" not in results.history:
        return pd.DataFrame(columns=["arm", "batch_size", "seed", "epoch", "mode", "percent"])
    history = results.history_of(SMALL, LARGE)
    columns = {"evaluation mode": "test_accuracy", "as in their code": "test_accuracy_as_run"}
    tables = [
        history.assign(mode=mode, percent=PERCENT * history[column])
        for mode, column in columns.items()
    ]
    return pd.concat(tables, ignore_index=True).dropna(subset="percent")


def ways(results: Results) -> dict[str, pd.DataFrame]:
    """Return the runs of equal length by their way to the scaled rate, with `percent`."""
    names = {
        "scaled rate": COLD,
        "warm-up as written": EXPONENTIAL,
        "warm-up as run": AS_RUN,
        "flat lower rate": FLAT,
    }
    found = {name: read_off(results, arm) for name, arm in names.items()}
    return {name: runs.assign(percent=PERCENT * runs["peak"]) for name, runs in found.items()}


def first_nan(results: Results) -> pd.DataFrame:
    """Return the first epoch whose training loss is not finite, by arm and batch size.

    Returns:
        columns "paper", of one run each, and "here", a list over seeds; "-" where nothing was run.
    """
    rows = {}
    for arm, name in ((LINEAR, "linear rule"), (EXPONENTIAL, "exponential warm-up")):
        history = results.history_of(arm)
        lost = history[~np.isfinite(history["running_loss"])]
        first = lost.groupby(["batch_size", "seed"])["epoch"].min()
        stated = published.FIRST_NAN[name]
        for size in sorted({*results.parameters.large_batch_sizes, *stated}):
            of_seeds = history.loc[history["batch_size"] == size, "seed"].unique()
            found = [first.get((size, seed)) for seed in of_seeds]
            here = ", ".join("none" if epoch is None else f"{epoch:.0f}" for epoch in found)
            here = f"none of {len(found)}" if set(found) == {None} else here or "-"
            rows[f"{name}, B = {size}"] = {"paper": stated.get(size, "none"), "here": here}
    return rows_table(rows, "first epoch with a loss that is NaN")
