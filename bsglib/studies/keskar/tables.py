"""Tables, rows and notes that the notebook on Keskar et al. shows."""

from dataclasses import replace

import numpy as np
import pandas as pd

from bsglib.stats import PERCENT, interval
from bsglib.studies import notes
from bsglib.studies.comparing import Comparison, absence, side
from bsglib.studies.keskar import published
from bsglib.studies.keskar.derived import (
    GRID,
    configurations,
    lost,
    measures,
    pair,
    ranked,
    sharper,
)
from bsglib.studies.keskar.protocol import (
    ADAPTIVE,
    BATCH_HALF,
    BATCH_STATISTICS,
    BATCH_SUBSPACE,
    BATCH_SUBSPACE_HALF,
    EVOLUTION,
    HALF,
    LB,
    LONG,
    LOSS,
    MAIN,
    RATES,
    SB,
    SHARPNESS,
    SIZES,
    SUBSPACE,
    SUBSPACE_HALF,
    SWITCH,
    UPDATES,
    KeskarParameters,
)
from bsglib.studies.study import Results, matching
from bsglib.studies.tables import listed, per_seed, rows_table, scope_table
from bsglib.verdicts import Rule, interval_text, number_text

BY_RATIO, BY_RANK = Rule("above", 2, ratios=True), Rule("above", 1)  # whose borders texts show
PHI = r"sharpness $\phi$ (%)"
KEPT = {"train_loss": "mean", "updates": "mean", "base_lr": listed}  # of each side's runs
PARTS = {"train": "training", "test": "test"}
IN_FULL_SPACE = {  # columns of both boxes
    "ours, batch statistics": (BATCH_STATISTICS, BATCH_HALF),
    "ours, frozen statistics": (SHARPNESS, HALF),
}
IN_SUBSPACE = {
    "ours, batch statistics": (BATCH_SUBSPACE, BATCH_SUBSPACE_HALF),
    "ours, frozen statistics": (SUBSPACE, SUBSPACE_HALF),
}
NOTHING = pd.Series(dtype=float)
LONGER = "LB trained longer"
RIVALS = {  # words of the conditions that compare the small and the large batch
    MAIN: MAIN,
    EVOLUTION: "at equal epochs",
    RATES: "at every rate that trains both",
    UPDATES: "at equal updates",
    LOSS: "at equal training loss",
}


def scope(p: KeskarParameters) -> pd.DataFrame:
    """Return the differences from the paper: quantity, paper, here, why."""
    weights = "Glorot uniform, the same for SB and LB of a seed"
    bound = f"L-BFGS-B, {p.max_iter} iterations, objective scaled by its first gradient"
    subspace = f"{p.subspace} dimensions, standard normal"
    kept = "running statistics, re-estimated on the training set"
    rows = [
        ("optimizer", "Adam, rate not stated", f"Adam, {p.lr:g} at every batch size", "default"),
        ("small batch", "256", "see the networks", "fewer data"),
        ("large batch", "10 % of the data", "see the networks", "close to the paper"),
        ("epochs", "until the loss stops improving", "see the networks, at most", "time"),
        ("stop after epochs without a lower loss", "not stated", p.patience, "chosen here"),
        ("seeds", "5", "see the networks", "time"),
        ("initial weights", "uniform, new for each seed", weights, "the authors' code"),
        (
            "sharpness measured on",
            "the training set",
            f"{p.sharpness_examples:,} examples of it",
            "time",
        ),
        (
            "batch norm at that measure",
            "batch statistics (Keras 1)",
            f"{kept}; where measured, batch statistics too",
            "a fixed function of the weights",
        ),
        ("solver", "L-BFGS-B, 10 iterations", bound, "the result depends on the scale"),
        ("random subspace", "100 dimensions, distribution not stated", subspace, "chosen here"),
        notes.arithmetic(p.dtype),
    ]
    return scope_table(rows)


def networks(p: KeskarParameters) -> pd.DataFrame:
    """Return a row per network of the paper: its data, size and batches here."""
    rows = {name: {"data": "not in this profile"} for name in published.NETWORKS}
    for name, network in p.networks.items():
        size = "all but the validation set"
        rows[name] = {
            "data": network.dataset + ": not available" * (not network.computable),
            "training examples": f"{network.train_size:,}" if network.train_size else size,
            "width": f"{network.width:g}",
            "dropout": "as the paper" if network.dropout is None else f"{network.dropout:g}",
            "SB": str(network.small_batch_size),
            "LB": str(network.large_batch_size),
            "epochs, at most": str(network.epochs),
            "seeds": str(len(network.seeds)),
        }
    return rows_table(rows, "network").fillna("")


def accuracy(results: Results) -> pd.DataFrame:
    """Return training and test accuracy in per cent, the paper's beside ours, SB and LB."""
    columns = {
        (f"{word} {batch}", batch): f"{part}_accuracy"
        for part, word in PARTS.items()
        for batch in (SB, LB)
    }
    return _beside(results, published.ACCURACY, {"ours": columns}, PERCENT)


def sharpness(results: Results, *, subspace: bool) -> pd.DataFrame:
    """Return the metric in per cent, the paper's beside ours, at two box widths, SB and LB.

    With the paper's batch statistics where they were measured, and with frozen ones.
    """
    table = published.SUBSPACE if subspace else published.FULL_SPACE
    columns = {
        words: {
            (f"{batch}, ε = {results.parameters.epsilon / part:g}", batch): column
            for column, part in zip(names, (1, 2), strict=True)
            for batch in (SB, LB)
        }
        for words, names in (IN_SUBSPACE if subspace else IN_FULL_SPACE).items()
    }
    return _beside(results, table, columns, 1.0)


def _beside(results: Results, stated: dict, columns: dict, scale: float) -> pd.DataFrame:
    """A row per network for the paper's values, and one for each kind of ours with n."""
    rows = {}
    for name in published.NETWORKS:
        paper = zip(next(iter(columns.values())), map(str, stated[name]), strict=True)
        rows[name, "paper"] = {"n": "5"} | {head: text for (head, _), text in paper}
        sides = dict(zip((SB, LB), (one.of(results) for one in pair(name, MAIN)), strict=True))
        if any(runs.empty for runs in sides.values()):
            rows[name, "ours: not computed"] = {"n": "0"}  # the networks' table says why
            continue
        n = " and ".join(dict.fromkeys(f"{len(runs)}" for runs in sides.values()))
        for words, mine in columns.items():
            texts = {
                head: _mean_and_deviation(scale * sides[batch].get(column, NOTHING).dropna())
                for (head, batch), column in mine.items()
            }
            if set(texts.values()) != {"-"}:
                rows[name, words] = {"n": n} | texts
    return rows_table(rows, "network", "").fillna("")


def _mean_and_deviation(values: pd.Series) -> str:
    if values.empty:
        return "-"
    digits = 2 if abs(values.mean()) < 100 else 1
    deviation = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def other_measures(results: Results) -> pd.DataFrame:
    """Return means over seeds of other curvature measures and losses, and LB / SB."""
    words = {
        SHARPNESS: "phi (%)",
        ADAPTIVE: "phi, adaptive box (%)",
        "lambda_max": "lambda_max",
        "hessian_trace": "Hessian trace",
        "train_loss": "training loss",
    }
    rows = {}
    for name in results.parameters.networks:
        rows |= _measured(results, name, words)
    return rows_table(rows, "network", "measure").replace("nan", "-")


def choices(results: Results) -> pd.DataFrame:
    """Return the metric in per cent under the choices that the paper leaves open."""
    p, rows = results.parameters, {}
    words = {
        SHARPNESS: "full space (table above)",
        LONG: f"{p.long_iter} iterations instead of {p.max_iter}",
        "literal_scale": "objective not scaled",
        BATCH_STATISTICS: "batch norm with batch statistics",
        SUBSPACE: "random subspace (table above)",
        "unit_columns": "columns of length one",
        "uniform_columns": "uniform columns of length one",
    }
    for name, network in p.networks.items():
        rows |= _measured(results, name, words) if network.choices else {}
    return rows_table(rows, "network", "phi (%), measured with").replace("nan", "-")


def _measured(results: Results, name: str, words: dict[str, str]) -> dict:
    """Rows of some measures of SB and LB: their means, their ratio, the solver's iterations."""
    small, large = (one.of(results).set_index("seed") for one in pair(name, MAIN))
    shared = small.index.intersection(large.index)
    small, large, rows = small.loc[shared], large.loc[shared], {}
    both = pd.concat([small, large])
    for column, word in words.items() if len(shared) else ():
        iterations = both.get(f"{column}.iterations", pd.Series(dtype=float)).mean()
        rows[name, word] = {
            SB: number_text(small[column].mean(skipna=False)),
            LB: number_text(large[column].mean(skipna=False)),
            "LB / SB": _ratio_text(small[column], large[column]),
            "iterations": f"{iterations:.3g}",
            "n": f"{len(shared)}",
        }
    return rows


def _ratio_text(small: pd.Series, large: pd.Series) -> str:
    """Return LB / SB with its interval; "-" if a run has no finite value above zero."""
    values = (large / small).to_numpy(float)
    fit = np.isfinite(values).all() and (values > 0).all()
    if not fit:
        return "-"
    return interval_text(interval(tuple(values), ratios=True), BY_RATIO)


def rivals(results: Results) -> pd.DataFrame:
    """Return a row per network, condition and seed: SB - LB in points, LB / SB of sharpness.

    `unfit` is the reason why a condition is not a valid comparison of minimizers, or empty.
    """
    tables = []
    for name in varied(results):
        found = {words: (lost(name, c), sharper(name, c)) for c, words in RIVALS.items()}
        (small, _), (_, longer) = pair(name, MAIN), pair(name, UPDATES)
        found[LONGER] = lost(name, sides=(small, longer)), sharper(name, sides=(longer, small))
        for words, (gap, ratio) in found.items():
            if not absence(results, *gap.sides):
                rows = _compared(results, gap, ratio)
                tables.append(rows.assign(network=name, condition=words))
    kept = [f"{column}_{batch}" for column in KEPT for batch in (SB, LB)]
    columns = ["network", "condition", "seed", "unfit", "gap", "sharpness_ratio", *kept]
    return (
        pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    )


def _compared(results: Results, gap: Comparison, ratio: Comparison) -> pd.DataFrame:
    """The values of two comparisons by seed, and means of each side; of unfit runs, too."""
    values, why = {}, ""
    for column, compare in (("sharpness_ratio", ratio), ("gap", gap)):
        if reason := compare(results).not_testable:
            compare, why = replace(compare, gates=(), leave_out=None), why or reason
        found, sides = compare(results), compare.compared(results)
        values[column] = pd.Series(found.values, found.seeds, dtype=float)
    rows = pd.DataFrame(values).rename_axis("seed")
    for batch, runs in zip((SB, LB), (one.of(results) for one in sides), strict=True):
        for column, how in KEPT.items():
            rows[f"{column}_{batch}"] = runs.groupby("seed")[column].agg(how)
    return rows.reset_index().assign(unfit=why)


def what_is_left(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the gap under each condition with its interval, and the remaining share of the gap.

    A share is given if the interval of the paper's comparison lies above zero and the condition is
    a valid comparison.
    """
    table = {}
    for (name, condition), mine in rows.groupby(["network", "condition"], sort=False):
        reference = rows[(rows["network"] == name) & (rows["condition"] == MAIN)]
        gap, why = interval(mine["gap"]), mine["unfit"].iloc[0]
        whole = interval(reference["gap"]) if len(reference) else None
        ratio = mine["sharpness_ratio"]
        known = whole is not None and whole.low > 0 and not why
        table[name, condition] = {
            "SB - LB (points)": f"{gap.mean:.2f} [{gap.low:.2f}, {gap.high:.2f}]",
            "share of the gap": f"{PERCENT * gap.mean / whole.mean:.0f} %" if known else "-",
            "phi LB / SB": f"{np.exp(np.log(ratio).mean(skipna=False)):.3g}".replace("nan", "-"),
            "training loss SB, LB": _pair(mine, "train_loss", ".3g"),
            "updates SB, LB": _pair(mine, "updates", ".0f"),
            "rate SB, LB": "; ".join(mine[f"base_lr_{b}"].iloc[0] for b in (SB, LB)),
            "n": str(len(mine)),
            "not a valid comparison": why,
        }
    return rows_table(table, "network", "compared")


def _pair(rows: pd.DataFrame, column: str, digits: str) -> str:
    return ", ".join(f"{rows[f'{column}_{batch}'].mean():{digits}}" for batch in (SB, LB))


def thresholds(results: Results) -> pd.DataFrame:
    """Return the batch size above which test accuracy is lower than at the small batch.

    This is the smallest batch size at which, and at all larger ones, the interval over seeds of the
    difference lies below zero; as a share of the data, beside the paper's.
    """
    rows = {}
    for name in varied(results):
        if absence(results, sizes := side(network=name, condition=SIZES)):
            continue
        runs = sizes.of(results)
        table = per_seed(runs, "test_accuracy").dropna()
        falls = {b: interval(table[b] - table[min(table)]).high < 0 for b in table}
        below = [b for b in falls if all(falls[larger] for larger in falls if larger >= b)]
        n, found, paper = runs["train_size"].iloc[0], "none", "-"
        if below:
            found = f"{below[0]} ({PERCENT * below[0] / n:.1f} %)"
        if name in published.THRESHOLDS:
            stated = published.THRESHOLDS[name]
            paper = f"{stated:,} ({PERCENT * stated / published.SIZES[published.DATA[name]]:.1f} %)"
        rows[name] = {"paper (share of the data)": paper, "here": found, "n": str(len(table))}
    return rows_table(rows, "network")


def varied(results: Results) -> list[str]:
    """Return the networks whose batch size, warm start or rate is varied here."""
    return [
        name for name, network in results.parameters.networks.items() if network.other_batch_sizes
    ]


def points(results: Results, path: str) -> pd.DataFrame:
    """Return the points on one path between minimizers."""
    columns = ["network", "set", "alpha", "loss", "accuracy", "seed"]
    return matching(results.points, path=path).reindex(columns=columns)


def shift(near: pd.DataFrame) -> pd.DataFrame:
    """Return the alpha of the lowest training and test loss near each end, means over seeds.

    Also return the difference of test and training loss at the end, in nats. A lowest value at the
    edge, half the line away from the end, is not a minimum and does not count.
    """
    rows = {}
    for name, mine in near.groupby("network", sort=False):
        for batch, end in ((SB, 0.0), (LB, 1.0)):
            around = mine[(mine["alpha"] - end).abs() <= 0.5]
            table = around.pivot(index=["seed", "set"], columns="alpha", values="loss")
            lowest = table.idxmin(axis=1)
            lowest = lowest.where((lowest - end).abs() < 0.5 - 1e-9).groupby("set")
            at_end = table[end].groupby("set").mean()
            rows[name, batch] = {
                f"lowest {word} loss at alpha": _minimum(lowest.get_group(part))
                for part, word in PARTS.items()
            } | {"test - training loss (nats)": f"{at_end['test'] - at_end['train']:.3g}"}
    return rows_table(rows, "network", "minimizer")


def _minimum(places: pd.Series) -> str:
    """Return the mean position of minima and their number of seeds; NaN: no minimum."""
    n = f"{places.count()} of {len(places)}"
    return f"{places.mean():.3f} ({n})" if places.count() else f"none ({n})"


def warm_start(results: Results) -> pd.DataFrame:
    """Return the runs after a switch, and small-batch runs that end at the switch."""
    stopped, switched = results.of(condition=EVOLUTION, batch=SB), results.of(condition=SWITCH)
    both = [switched.assign(small_batch_epochs=switched["first_epochs"])]
    for name, network in results.parameters.networks.items():
        ends = matching(stopped, network=name, epochs=network.switch_epochs)
        both.append(ends.assign(small_batch_epochs=ends["epochs"]))
    runs = pd.concat(both)
    return runs.assign(percent=PERCENT * runs["test_accuracy"])


def grid(results: Results) -> pd.DataFrame:
    """Return the runs behind the rank correlations, with the test error in per cent."""
    grids = [configurations(results, name) for name in varied(results)]
    runs = pd.concat(grids) if grids else results.runs.iloc[:0]
    return runs.assign(percent_error=PERCENT * (1 - runs["test_accuracy"]))


def correlations(results: Results) -> pd.DataFrame:
    """Return the rank correlation of sharpness with errors, also along each axis of the grid."""
    rows = {}
    words = {GRID: "", GRID[:1]: ", along the batch size", GRID[1:]: ", along the rate"}
    for name in varied(results):
        runs, grid = configurations(results, name), side(network=name, condition=(SIZES, RATES))
        if absence(results, grid) or not (columns := measures(runs)):
            continue
        for error in ("test_error", "generalization_gap"):
            found = {word: ranked(runs, columns[0], error, along) for along, word in words.items()}
            if found[""] is not None:
                rows[name, error.replace("_", " ")] = {
                    f"tau{word}": "-" if tau is None else interval_text(tau.interval(), BY_RANK)
                    for word, tau in found.items()
                }
    return rows_table(rows, "network", "sharpness against")
