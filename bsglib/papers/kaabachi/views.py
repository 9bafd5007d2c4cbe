"""Tables, rows and notes that the notebook on Kaabachi et al. shows."""

import numpy as np
import pandas as pd

from bsglib.papers import Results, notes
from bsglib.papers.kaabachi import published
from bsglib.papers.kaabachi.protocol import (
    COLD,
    EXPONENTIAL,
    LARGE,
    LENGTHS,
    LINEAR,
    LOCAL,
    RATE,
    RATES,
    SMALL,
    WARM,
    KaabachiParameters,
    epochs_of,
)
from bsglib.papers.kaabachi.readings import read_off
from bsglib.papers.tables import scope_table
from bsglib.stats import PERCENT, censored_median, share

ARMS = {LARGE: "rate not scaled", LINEAR: LINEAR} | {a: f"{k} warm-up" for k, a in WARM.items()}


def scope(p: KaabachiParameters) -> pd.DataFrame:
    """Return what differs from the source: quantity, paper, here, why."""
    size = "all that is not set aside" if p.train_size is None else f"{p.train_size:,} to train on"
    epochs = [p.small_epochs, *p.large_epochs, p.scaled_epochs, p.warmup_epochs]
    rows = [
        (
            "data",
            "cifar10, 50,000 to train on",
            f"{p.dataset}, {size}",
            "a part to choose rates on" if p.train_size is None else "time",
        ),
        ("preprocessing", "a normalization", "mean 0, deviation 1 per channel", "not stated"),
        ("network", "kaabachi, {'width': 1.0}", f"{p.network}, {p.network_options}", "time"),
        (
            "batch norm",
            "after two convolutions or after each: ambiguous",
            "after a block's first convolution",
            "public networks of the same description",
        ),
        (
            "dense layers, dropout",
            "widths and kind not stated",
            "1024, 512; whole channels",
            "public networks of the same description",
        ),
        ("small batches", list(published.SMALL), p.small_batches, "time"),
        ("large batches", list(published.LARGE), p.large_batches, "enough updates"),
        ("rate that is not scaled", 0.001, p.unscaled_lr, "fewer updates per epoch"),
        ("scaled rate", "0.001 B", f"{p.lr:g} B", "time"),
        ("epochs, small batches", 50, p.small_epochs, "time"),
        ("epochs, large, not scaled", [100, 150, 200, 300, 400], p.large_epochs, "time"),
        ("epochs, linear rule", 100, p.scaled_epochs, "time"),
        (
            "epochs, warm-up",
            70,
            p.warmup_epochs,
            "as long as the linear rule" if p.warmup_epochs == p.scaled_epochs else "time",
        ),
        ("share of warm-up", 0.05, p.warmup_share, "as many epochs, 3.5, or enough updates"),
        ("warm-up", "per epoch or update, not stated", f"per update, from {p.lr:g}", "the finer"),
        ("seeds", "not stated", len(p.seeds), "an interval needs three"),
        ("test accuracy", "per epoch", _evaluated(p, max(epochs)), "time"),
        (
            "batch norm there",
            "not stated (running averages)",
            "re-estimated on training examples",
            "large batches lag behind",
        ),
        notes.arithmetic(p.dtype, "PyTorch's default"),
    ]
    return scope_table(rows)


def _evaluated(p: KaabachiParameters, last: int) -> str:
    return "per epoch" if p.evaluate == "every" else f"at log-spaced epochs up to {last}"


def accuracy(results: Results) -> pd.DataFrame:
    """Return the highest test accuracy along the runs, per cent, mean over seeds."""
    runs = read_off(results, SMALL, *ARMS)
    return _means(runs.assign(percent=PERCENT * runs["peak"]), "highest test accuracy")


def equal_footing(results: Results) -> pd.DataFrame:
    """Return test accuracy in per cent at equal epochs and at equal updates, mean over seeds.

    Epochs are those of the small batches, updates those that the largest batch made. Between epochs
    that were evaluated, accuracy is interpolated; "-" stands where a run had not been evaluated yet
    after as many updates, or made fewer. A run that diverged before counts as chance.
    """
    p, arms_shown = results.parameters, (SMALL, LARGE, LINEAR)
    runs = results.of(*arms_shown)
    largest = runs[(runs["arm"] == LARGE) & (runs["batch_size"] == max(p.large_batches))]
    limits = {"epoch": p.small_epochs}
    if len(largest):
        limits["updates"] = largest["updates"].max()
    diverged = runs[runs["stopped"] == "diverged"]
    chance = dict(zip(diverged["entry"], 1 / diverged["classes"], strict=True))
    history = results.history[results.history["arm"].isin(arms_shown)]
    history = history.dropna(subset="test_accuracy").sort_values("epoch")
    rows = []
    for (arm, b, entry), one in history.groupby(["arm", "batch_size", "entry"], sort=False):
        row = {"arm": arm, "batch_size": b}
        for column, limit in limits.items():
            at = _interpolated(one[column], one["test_accuracy"], limit)
            made, epochs = one[[column, "epoch"]].max()
            if made < limit <= made / epochs * epochs_of(p, arm, b):
                at = chance.get(entry, at)
            row[f"at {limit:,.0f} {'epochs' if column == 'epoch' else column} (%)"] = PERCENT * at
        rows.append(row)
    if not rows:
        return _not_yet()
    cells = pd.DataFrame(rows).groupby(["arm", "batch_size"])
    table = cells.mean()
    there = [arm for arm in arms_shown if arm in table.index.get_level_values("arm")]
    shown = table.map(lambda value: "-" if np.isnan(value) else f"{value:.1f}")
    return shown.assign(n=cells.size()).loc[there].rename_axis(["arm", "B"])


def _interpolated(x: pd.Series, y: pd.Series, at: float) -> float:
    """Return y at a value of x, on a logarithmic scale; NaN outside."""
    return float(np.interp(np.log(at), np.log(x), y, left=np.nan, right=np.nan))


def _means(runs: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return the means of "percent" by arm and batch size; the index is named after what it is."""
    if runs.empty:
        return _not_yet()
    table = runs.pivot_table("percent", "arm", "batch_size", sort=False)
    table = table[sorted(table.columns)].rename(columns="B = {}".format).rename_axis(columns=None)
    shown = table.map(lambda value: "" if np.isnan(value) else f"{value:.1f}")
    return shown.rename_axis(f"{what} (%), n = {runs['seed'].nunique()}")


def _not_yet() -> pd.DataFrame:
    return pd.DataFrame({"": ["not computed yet"]}).set_index("")


def table_1(results: Results) -> pd.DataFrame:
    """Return the epochs of table I beside ours, as medians with the range over seeds.

    To the run's own final accuracy, as in the source, and to the common target. A run that never
    got there counts as longer than all others.
    """
    runs = read_off(results, SMALL, LARGE)
    rows = {}
    for size, mine in runs.groupby("batch_size"):
        stated = published.TABLE.get(size)
        rows[str(size)] = {
            "paper: epochs to final accuracy": f"{stated.epochs}" if stated else "-",
            "epochs to final accuracy": _median(mine["own_epochs"]),
            "still rising then": f"{mine['rising'].sum()} of {len(mine)}",
            "final accuracy (%)": f"{PERCENT * mine['final'].mean():.1f}",
            "epochs to common target": _to_common(mine),
            "target (%)": f"{PERCENT * mine['target'].mean():.1f}".replace("nan", "-"),
            "n": f"{len(mine)}",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("B") if rows else _not_yet()


def _to_common(runs: pd.DataFrame, cost: float = 1.0) -> str:
    """Return the time to the common target; "-" where the run that sets a seed's is missing."""
    return "-" if runs["target"].isna().any() else _median(runs["target_epochs"] * cost)


def _median(times: pd.Series) -> str:
    found = censored_median([None if np.isnan(t) else t for t in times])
    if not found.reached:
        return f"none of {found.n}"
    ends = [
        f"{t:.3g}" if np.isfinite(t) else "never" for t in (found.median, found.low, found.high)
    ]
    return ends[0] if found.n == 1 else f"{ends[0]} [{ends[1]}, {ends[2]}]"


def table_1_seconds(results: Results) -> pd.DataFrame:
    """Return the seconds of table I, on the source's device and on ours, as medians."""
    if results.timings.empty:
        return _not_yet()
    median = results.timings.groupby("batch_size")["seconds"].median()
    runs = read_off(results, SMALL, LARGE)
    rows = {}
    for size, mine in runs.groupby("batch_size"):
        stated = published.TABLE.get(size)
        rows[str(size)] = {
            "paper: s per epoch": f"{stated.seconds_per_epoch:g}" if stated else "-",
            "s per epoch": f"{median[size]:.3g}",
            "paper: s to final accuracy": f"{stated.seconds:,.0f}" if stated else "-",
            "s to final accuracy": _median(mine["own_epochs"] * median[size]),
            "s to common target": _to_common(mine, median[size]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("B")


def divergence(results: Results) -> pd.DataFrame:
    """Return how many runs diverged or fell back to chance, by setting and batch size.

    With Wilson's 95 % interval of their share.
    """
    runs = read_off(results)
    if runs.empty:
        return _not_yet()
    rows = {}
    for (setting, size), mine in runs.groupby([_settings(runs), "batch_size"], sort=False):
        hits, n = int(mine["lost"].sum()), len(mine)
        found = share(hits, n)
        low, high = (PERCENT * end for end in (found.low, found.high))
        rows.setdefault(setting, {})[f"B = {size}"] = f"{hits} of {n} ({low:.0f}–{high:.0f} %)"
    return pd.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis("setting")


def _settings(runs: pd.DataFrame) -> pd.Series:
    """Return what the runs of an arm have in common but for batch size and seed."""
    more = {
        RATES: "rate " + runs["lr"].map("{:g}".format),
        LENGTHS: f"{EXPONENTIAL} in epochs: " + runs["warmup_epochs"].map("{:g}".format),
        LOCAL: f"{LOCAL} (B of a worker), local steps: " + runs["local_steps"].map("{:g}".format),
    }
    settings = runs["arm"]
    for arm, words in more.items():
        settings = settings.mask(runs["arm"] == arm, words)
    return settings


def warm_ups(results: Results, batch_size: int) -> pd.DataFrame:
    """Return the runs of one large batch with the linear rule, by warm-up, all equally long."""
    names = {COLD: "none"} | {arm: kind for kind, arm in WARM.items()}
    runs = read_off(results, *names)
    return _by_condition(runs[runs["batch_size"] == batch_size] if len(runs) else runs, names)


def _by_condition(runs: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    if runs.empty:
        return pd.DataFrame(columns=["condition", "seed", "percent", "train_loss"])
    runs = runs.assign(condition=runs["arm"].map(names), percent=PERCENT * runs["final"])
    return pd.concat([runs[runs["arm"] == arm] for arm in names])


def by_rate(results: Results) -> pd.DataFrame:
    """Return the runs that differ in their rate alone, with `lr` and `percent`."""
    runs = read_off(results, varied=RATE)
    if runs.empty:
        return runs
    lr = runs["lr"].map(lambda lr: float(f"{lr:.4g}"))  # two rules may give one rate
    return runs.assign(lr=lr, percent=PERCENT * runs["final"])


def rules(results: Results) -> pd.DataFrame:
    """Return the final test accuracy of every rule and rate in per cent, mean over seeds."""
    runs = by_rate(results)
    return _means(runs.assign(arm=_settings(runs)) if len(runs) else runs, "final test accuracy")


def by_length(results: Results) -> pd.DataFrame:
    """Return the runs of the largest batch by length of warm-up, both in per cent."""
    p = results.parameters
    runs = read_off(results, COLD, EXPONENTIAL, LENGTHS, batch_size=max(p.large_batches))
    length = PERCENT * (runs["warmup_epochs"] / p.warmup_epochs)
    runs = runs.assign(length=length, percent=PERCENT * runs["final"])
    return runs.sort_values(["length", "seed"])


def local(results: Results) -> pd.DataFrame:
    """Return the runs of local SGD beside those of the batch of all its workers."""
    largest = max(results.parameters.large_batches)
    names = {COLD: f"B = {largest}", WARM["exponential"]: f"B = {largest}, warm-up"}
    large = read_off(results, *names)
    large = large[large["batch_size"] == largest] if len(large) else large
    workers = read_off(results, LOCAL)
    tables = [_by_condition(large, names)]
    for steps, mine in workers.groupby("local_steps") if len(workers) else ():
        name = f"{mine['local_workers'].iloc[0]} workers, {steps} step{'s' * (steps > 1)}"
        tables.append(_by_condition(mine, {LOCAL: name}))
    return pd.concat([table for table in tables if len(table)] or tables[:1])


def local_table(results: Results) -> pd.DataFrame:
    """Return the final accuracy and loss of those runs, means over seeds."""
    rows = local(results).groupby("condition", sort=False)
    columns = {"percent": "test accuracy (%)", "train_loss": "training loss (nats)"}
    return rows[list(columns)].mean().rename(columns=columns).assign(n=rows.size()).round(3)
