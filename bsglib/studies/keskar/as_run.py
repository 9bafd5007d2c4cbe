"""The second reading of Keskar et al.: what their public script does where the text is silent."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from bsglib.landscape.passes import CHUNK_SIZE
from bsglib.sharpness.measured import BATCH_CHUNK
from bsglib.stats import PERCENT, interval
from bsglib.studies.keskar import published
from bsglib.studies.keskar.claims import STEP, readable, steeper
from bsglib.studies.keskar.protocol import (
    BATCH_STATISTICS,
    EVOLUTION,
    LB,
    MAIN,
    SB,
    SHARPNESS,
    KeskarParameters,
)
from bsglib.studies.study import Results
from bsglib.studies.tables import rows_table
from bsglib.verdicts import Rule, interval_text, number_text

NEAR = 1.5  # largest factor between the script's epochs and the epoch that stands for them
PAPER, PLOT = "paper, table", "paper, plot"
END, LINES, EARLY = "ours, at the end", "ours, ends of the lines", "ours, epoch {}"
WRITTEN, RUN = "ours, as written", "ours, as run"
FAR = 5  # percentage points of training accuracy by which a network is behind the plotted one


def set_ups(p: KeskarParameters) -> pd.DataFrame:
    """Return what the text says, what the script does, and what this profile does."""
    size = min(BATCH_CHUNK, p.sharpness_examples)
    sharpness = [f"frozen, or of batches of {size:,} examples" if _by_batch(p) else "frozen"]
    if _by_batch(p) and not p.thorough:
        sharpness.append("the latter in some networks")
    line = f"of batches of {CHUNK_SIZE:,} examples" if p.thorough else "re-estimated at each point"
    ends = "a fixed number of epochs (see the networks)"
    if p.patience is not None:
        ends = f"{p.patience} epochs without a lower loss, or the maximum (see the networks)"
    of_batch = f"of the evaluated batch, {published.SCRIPT_BATCH:,} examples"
    rows = {
        "batch norm, sharpness": ("not stated", of_batch, "; ".join(sharpness)),
        "batch norm, lines": ("not stated", of_batch, line),
        "training ends": (
            "when the loss no longer falls",
            f"after {published.SCRIPT_EPOCHS} epochs, SB and LB",
            ends,
        ),
        "large batch": ("10 % of the data", f"{published.SCRIPT_BATCH:,}", "see the networks"),
        "initial weights": ("new for each seed", "one set for SB and LB", "one set per seed"),
        "points of a line": ("not stated", "25", f"{p.line_points}"),
    }
    heads = "the paper", "its script", "here"
    return rows_table({k: dict(zip(heads, v, strict=True)) for k, v in rows.items()}, "set-up")


def _by_batch(p: KeskarParameters) -> bool:
    """Return whether a network's sharpness is measured with batch statistics as well."""
    return p.thorough or any(network.choices for network in p.networks.values())


def on_lines(results: Results) -> str:
    """Return which statistics of batch norm the lines were evaluated with, for a caption."""
    if _lines_by_batch(results.points_of(path=["linear", "curvilinear"])):
        return f"batch norm with the statistics of batches of {CHUNK_SIZE:,} examples"
    return "batch norm re-estimated at each point"


def _lines_by_batch(points: pd.DataFrame) -> bool:
    return "batch_norm" in points and len(points) > 0 and (points["batch_norm"] == "batch").all()


# ------------------------------------------------------------- sharpness and lines


def readings(results: Results) -> pd.DataFrame:
    """Return LB against SB under both readings of the source, a row per network and quantity.

    As written: frozen statistics of batch norm (re-estimated ones on lines), at the end of
    training. As run: batch statistics; or the state after about as many epochs as the script's.
    """
    rows = {}
    for name in results.parameters.networks:
        rows |= {(name, words): row for words, row in _readings_of(results, name)}
    return rows_table(rows, "network", "quantity").fillna("-")


def _readings_of(results: Results, name: str) -> Iterable[tuple[str, dict[str, str]]]:
    stated = f"{published.quotient(*published.FULL_SPACE[name][1::-1]).mean:.3g}"
    end = results.of(network=name, condition=MAIN)
    frozen, by_batch = (ratios(end, column) for column in (SHARPNESS, BATCH_STATISTICS))
    if len(frozen) or len(by_batch):
        found = {WRITTEN: _text(frozen, ratios=True), RUN: _text(by_batch, ratios=True)}
        yield "sharpness LB / SB: frozen, batch statistics", found | {"paper": stated}
    path = results.of(network=name, condition=EVOLUTION)
    if (epoch := near_script(path["epochs"])) is not None:
        column = BATCH_STATISTICS if len(by_batch) else SHARPNESS
        early = ratios(path[path["epochs"] == epoch], column)
        found = {WRITTEN: _text(by_batch if len(by_batch) else frozen, ratios=True)}
        found |= {RUN: _text(early, ratios=True), "paper": stated}
        yield f"sharpness LB / SB: at the end, after epoch {epoch}", found
    lines = results.points_of(network=name, path="linear", set="train")
    if len(lines) and readable(results, ()) is None:
        column = RUN if _lines_by_batch(lines) else WRITTEN
        rise = f"rise within {STEP:g} of alpha, LB - SB (nats): re-estimated, batch statistics"
        yield rise, {column: _text(steeper(name, results).dropna())}


def ratios(runs: pd.DataFrame, column: str) -> "pd.Series[float]":
    """Return LB / SB of a column by seed, of the seeds for which both have a number above zero."""
    values = _by_seed(runs, column)
    found = values[LB] / values[SB]
    return found[np.isfinite(found) & (found > 0)]


def _by_seed(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a column by seed, of SB and LB."""
    if column not in rows:
        return pd.DataFrame(columns=[SB, LB], dtype=float)
    table = rows.pivot_table(column, "seed", "batch").reindex(columns=[SB, LB])
    return table.dropna().astype(float)


def near_script(epochs: Iterable[int]) -> int | None:
    """Return the epoch nearest to the last of the script, None if none is near."""
    far = {
        int(e): max(e, published.SCRIPT_EPOCHS) / min(e, published.SCRIPT_EPOCHS) for e in epochs
    }
    nearest = min(far, key=lambda epoch: far[epoch], default=None)
    return nearest if nearest is not None and far[nearest] <= NEAR else None


def _text(values: "pd.Series[float]", *, ratios: bool = False) -> str:
    """Return a mean with its interval; alone for one seed, "-" for none."""
    if len(values) < 2:
        return number_text(values.iloc[0]) if len(values) else "-"
    rule = Rule("above", 2, ratios=True) if ratios else Rule("above", 1)
    return interval_text(interval(tuple(values), ratios=ratios), rule)


# ------------------------------------------------------------- accuracies


def accuracies(results: Results) -> pd.DataFrame:
    """Return accuracies of SB and LB in per cent, a row per network and source of the numbers.

    The paper's table, the ends of the lines that its script plots, and ours: at the end with
    re-estimated statistics, at the ends of the lines, and after about as many epochs as the script
    has. The gap in test accuracy is SB - LB.
    """
    rows = {}
    for name in published.NETWORKS:
        rows |= {(name, words): row for words, row in _accuracies_of(results, name)}
    return rows_table(rows, "network", "").fillna("-")


def _accuracies_of(results: Results, name: str) -> Iterable[tuple[str, dict[str, str]]]:
    yield PAPER, _accuracy_row([s.mean for s in published.ACCURACY[name]], 5)
    if name in published.PLOTTED:
        yield PLOT, _accuracy_row(published.PLOTTED[name], 1)
    end, (epoch, early) = at_end(results, name), after_script(results, name)
    if len(end):
        yield END, _accuracy_row(end.mean(), len(end))
    if len(on_line := line_ends(results, name)):
        yield LINES, _accuracy_row(on_line.mean(), len(on_line))
    if epoch is not None:
        yield EARLY.format(epoch), _accuracy_row(early.mean(), len(early))


def _accuracy_row(values: Sequence[float], n: int) -> dict[str, str]:
    training_sb, training_lb, test_sb, test_lb = values
    numbers = training_sb, training_lb, test_sb, test_lb, test_sb - test_lb
    heads = "training SB", "training LB", "test SB", "test LB", "test SB - LB"
    return {k: f"{v:.2f}" for k, v in zip(heads, numbers, strict=True)} | {"n": f"{n}"}


def at_end(results: Results, name: str) -> pd.DataFrame:
    """Return a network's accuracies in per cent by seed: training SB and LB, test SB and LB."""
    return _both(results.of(network=name, condition=MAIN))


def line_ends(results: Results, name: str) -> pd.DataFrame:
    """Return the same at the ends of a network's lines, with the lines' statistics and examples."""
    points = results.points_of(network=name, path="linear")
    if points.empty:
        return points
    batches = points["alpha"].round(9).map({0.0: SB, 1.0: LB})
    table = points.assign(batch=batches).pivot_table("accuracy", "seed", ["set", "batch"])
    columns = pd.MultiIndex.from_product([["train", "test"], [SB, LB]])
    return PERCENT * table.reindex(columns=columns).dropna()


def after_script(results: Results, name: str) -> tuple[int | None, pd.DataFrame]:
    """Return the same after the evaluated epoch nearest to the script's last one, and that epoch.

    The epoch is one at which SB and LB of all seeds were evaluated; None if none is near.
    """
    rows = results.history_of(network=name, condition=MAIN)
    if rows.empty or (rows := rows[rows["test_accuracy"].notna()]).empty:
        return None, _both(rows)
    shared = set.intersection(*(set(own) for _, own in rows.groupby("entry")["epoch"]))
    epoch = near_script(shared)
    return epoch, _both(rows[rows["epoch"] == epoch])


def _both(rows: pd.DataFrame) -> pd.DataFrame:
    columns = "train_accuracy", "test_accuracy"
    return PERCENT * pd.concat({c: _by_seed(rows, c) for c in columns}, axis=1).dropna()


# ------------------------------------------------------------- what is seen


def explained(results: Results) -> str:
    """Return sentences on what the second reading changes, as a list in Markdown."""
    names = list(results.parameters.networks)
    found = [_statistics(results, names), _length(results, names), _plot(), _trained(results)]
    return "\n".join(f"- {sentence}" for sentence in found if sentence)


def _statistics(results: Results, names: Sequence[str]) -> str:
    """Which batch is sharper, by both readings of batch norm."""
    changes, agree = [], 0
    for name in names:
        end = results.of(network=name, condition=MAIN)
        frozen, by_batch = (ratios(end, column) for column in (SHARPNESS, BATCH_STATISTICS))
        if len(frozen) and len(by_batch):
            means = [float(np.exp(np.log(values).mean())) for values in (by_batch, frozen)]
            agree += (means[0] > 1) == (means[1] > 1)
            changes.append(f"{name} {number_text(means[0])} for {number_text(means[1])}")
    if not changes:
        return "Sharpness was not measured with both statistics of batch norm here."
    return (
        "Batch statistics instead of frozen ones change the ratio of sharpness, LB / SB: "
        f"{', '.join(changes)}. Both name the same batch as sharper in {agree} of {len(changes)} "
        "networks."
    )


def _length(results: Results, names: Sequence[str]) -> str:
    """The gap at the end and where the script ends."""
    changes, wider = [], 0
    for name in names:
        epoch, early = after_script(results, name)
        end = at_end(results, name)
        if epoch is not None and len(early) and len(end):
            gaps = [_gap(of.mean()) for of in (early, end)]
            wider += gaps[0] > gaps[1]
            changes.append(f"{name} {gaps[0]:.2f} and {gaps[1]:.2f} (epoch {epoch})")
    if not changes:
        return f"No network was evaluated near epoch {published.SCRIPT_EPOCHS} here."
    return (
        "SB - LB in test accuracy, in points, near the script's last epoch and at the end: "
        f"{', '.join(changes)}. The gap is wider near the script's last epoch in {wider} of "
        f"{len(changes)} networks."
    )


def _gap(accuracies: Sequence[float]) -> float:
    """Return SB - LB in test accuracy."""
    *_, small, large = accuracies
    return float(small - large)


def _plot() -> str:
    """Where the paper's plot and its table disagree on which batch tests better."""
    pairs = {
        name: (_gap(own), _gap([s.mean for s in published.ACCURACY[name]]))
        for name, own in published.PLOTTED.items()
    }
    said = {name: f"{name} {plot:.2f} and {table:.2f}" for name, (plot, table) in pairs.items()}
    opposed = [name for name, (plot, table) in pairs.items() if plot * table < 0]
    found = [
        f"The paper's plot contradicts its table in {', '.join(opposed) or 'no network'}",
        f"SB - LB in test accuracy, in points, plot and table: {', '.join(said.values())}",
    ]
    return ". ".join(found) + "."


def _trained(results: Results) -> str:
    """Whether so few epochs train the large batch as far as in the plot."""
    found, behind = [], 0
    for name, (_, plotted, *_) in published.PLOTTED.items():
        epoch, early = after_script(results, name)
        if epoch is not None and len(early):
            ours = early.mean()["train_accuracy", LB]
            behind += ours < plotted - FAR
            found.append(f"{name} {ours:.1f} for {plotted:.1f} (epoch {epoch})")
    if not found:
        return ""
    return (
        "Training accuracy of LB in per cent, ours near the script's last epoch for that of the "
        f"plot: {', '.join(found)}. It is more than {FAR} points behind in {behind} of "
        f"{len(found)} networks" + ("; these need more epochs here." if behind else ".")
    )
