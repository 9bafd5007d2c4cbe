"""Tables, rows and notes that the notebook on Keskar et al. shows."""

import numpy as np
import pandas as pd

from bsglib.claims import interval_text, number_text
from bsglib.stats import PERCENT, interval
from bsglib.studies import notes
from bsglib.studies.comparing import Gate, Of, Side, absence, diverged, side
from bsglib.studies.keskar import published
from bsglib.studies.keskar.protocol import (
    ADAPTIVE,
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
from bsglib.studies.keskar.readings import GRID, configurations, gates, granulated, pair
from bsglib.studies.study import Results, matching
from bsglib.studies.tables import listed, per_seed, rows_table, scope_table

PHI = r"sharpness $\phi$ (%)"
PARTS = {"train": "training", "test": "test"}
LONGER = "LB trained longer"
RIVALS = {  # words of the conditions that compare the small and the large batch
    MAIN: MAIN,
    EVOLUTION: "at equal epochs",
    RATES: "with a rate tuned for each batch size",
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
            kept,
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
    return _beside(results, published.ACCURACY, columns, PERCENT)


def sharpness(results: Results, *, subspace: bool) -> pd.DataFrame:
    """Return the metric in per cent, the paper's beside ours, at two box widths, SB and LB."""
    table = published.SUBSPACE if subspace else published.FULL_SPACE
    names = (SUBSPACE, SUBSPACE_HALF) if subspace else (SHARPNESS, HALF)
    columns = {
        (f"{batch}, ε = {results.parameters.epsilon / part:g}", batch): column
        for column, part in zip(names, (1, 2), strict=True)
        for batch in (SB, LB)
    }
    return _beside(results, table, columns, 1.0)


def _beside(results: Results, stated: dict, columns: dict, scale: float) -> pd.DataFrame:
    """A row per network for the paper's values, and one for ours with n."""
    rows = {}
    for name in published.NETWORKS:
        paper = zip(columns, map(str, stated[name]), strict=True)
        rows[name, "paper"] = {"n": "5"} | {head: text for (head, _), text in paper}
        small, large = (one.of(results) for one in pair(name, MAIN))
        if small.empty or large.empty:
            rows[name, "ours: not computed"] = {"n": "0"}  # the networks' table says why
            continue
        n = " and ".join(dict.fromkeys(f"{len(runs)}" for runs in (small, large)))
        rows[name, "ours"] = {"n": n} | {
            head: _mean_and_deviation(scale * (small if batch == SB else large)[column].dropna())
            for (head, batch), column in columns.items()
        }
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
        "batch_statistics": "batch norm with batch statistics",
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
    return interval_text(interval(tuple(values), ratios=True)) if fit else "-"


def rivals(results: Results) -> pd.DataFrame:
    """Return a row per network, condition and seed: SB - LB in points, LB / SB of sharpness.

    `unfit` is the reason why a condition is not a valid comparison, or empty.
    """
    kept = [f"{c}_{batch}" for c in ("train_loss", "updates", "base_lr") for batch in (SB, LB)]
    columns = ["network", "condition", "seed", "unfit", "gap", "sharpness_ratio", *kept]
    tables = [pd.DataFrame(columns=columns)]
    for name in varied(results):
        for condition, (sides, checks) in _compared(name).items():
            if absence(results, *sides):
                continue
            small, large = (one.of(results) for one in sides)
            rows = small.merge(large, on="seed", suffixes=(f"_{SB}", f"_{LB}"))
            rows = rows.assign(
                network=name,
                condition=condition,
                unfit=next(filter(None, (check(results, sides) for check in checks)), ""),
                gap=PERCENT * (rows[f"test_accuracy_{SB}"] - rows[f"test_accuracy_{LB}"]),
                sharpness_ratio=rows[f"{SHARPNESS}_{LB}"] / rows[f"{SHARPNESS}_{SB}"],
            )
            tables.append(rows.drop_duplicates("seed")[columns])
    return pd.concat(tables[1:] or tables, ignore_index=True)


def _compared(name: str) -> dict[str, tuple[tuple[Side, Side], tuple[Gate, ...]]]:
    """Sides and gates of each condition, and of LB trained for the epochs of equal updates."""
    found = {words: (pair(name, c), gates(c)) for c, words in RIVALS.items()}
    (small, large), (_, longer) = pair(name, MAIN), pair(name, UPDATES)
    whole = (Of(diverged),)  # the paper compares the final states
    return found | {MAIN: ((small, large), whole), LONGER: ((small, longer), whole)}


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
            "rate SB, LB": f"{listed(mine['base_lr_SB'])}; {listed(mine['base_lr_LB'])}",
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
            paper = f"{stated:,} ({PERCENT * stated / published.SIZES[name]:.1f} %)"
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
    """Return the granulated rank correlation of sharpness with errors, and along each axis."""
    rows = {}
    words = {GRID: "", GRID[:1]: ", along the batch size", GRID[1:]: ", along the rate"}
    for name in varied(results):
        runs, grid = configurations(results, name), side(network=name, condition=(SIZES, RATES))
        if absence(results, grid) or granulated(runs, "test_error") is None:
            continue
        for column in ("test_error", "generalization_gap"):
            row = {f"tau{along}": _tau(runs, column, axes) for axes, along in words.items()}
            rows[name, column.replace("_", " ")] = row
    return rows_table(rows, "network", "sharpness against")


def _tau(runs: pd.DataFrame, column: str, along: tuple[str, ...]) -> str:
    others = [axis for axis in GRID if axis not in along]
    if others and runs.groupby(others)[list(along)].nunique().to_numpy().max() < 2:
        return "-"  # nothing varies alone along it
    return interval_text(granulated(runs, column, along))
