"""Tables, rows and notes that the notebook on Keskar et al. shows."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from bsglib.claims import interval_text, number_text
from bsglib.papers import Results, notes
from bsglib.papers.keskar import published
from bsglib.papers.keskar.protocol import (
    ADAPTIVE,
    CHOICES,
    EVOLUTION,
    HALF,
    LB,
    LONG,
    LOSS,
    RATES,
    SB,
    SHARPNESS,
    SIZES,
    SUBSPACE,
    SUBSPACE_HALF,
    SWITCH,
    UPDATES,
    KeskarParameters,
    label,
)
from bsglib.papers.keskar.readings import (
    CONDITIONS,
    GRID,
    TRAINED,
    absence,
    compared,
    configurations,
    granulated,
    of,
    pairs,
    values_text,
)
from bsglib.papers.tables import scope_table
from bsglib.stats import PERCENT, interval

PHI = r"sharpness $\phi$ (%)"
LABELS = ("test accuracy (%)", PHI)
PARTS = {"train": "training", "test": "test"}
AS_IN_SOURCE = "as in the source"
LONGER = "LB trained longer"
RIVALS = (SB, LB, EVOLUTION, RATES, UPDATES, LOSS)


def scope(p: KeskarParameters) -> pd.DataFrame:
    """Return what differs from the source: quantity, paper, here, why."""
    rows = [
        ("optimizer", "Adam, rate not stated", f"Adam, {p.lr:g} at every batch size", "default"),
        ("small batch", "256", "see the networks", "fewer data"),
        ("large batch", "10 % of the data", "see the networks", "about as the paper"),
        (
            "epochs",
            "until the loss stops improving",
            "at most those of the networks"
            + f", and until {p.patience} pass without a lower training loss" * bool(p.patience),
            "time",
        ),
        ("starts", "5", "see the networks", "time"),
        (
            "initial weights",
            "uniform, others for each start",
            "Glorot uniform, the same for SB and LB of a start",
            "the authors' code",
        ),
        (
            "sharpness measured on",
            "the training set",
            f"{p.sharpness_examples:,} examples of it",
            "time",
        ),
        (
            "batch norm there",
            "batch statistics (Keras 1)",
            "running statistics, re-estimated over the training set",
            "a fixed function of the weights",
        ),
        (
            "solver",
            "L-BFGS-B, 10 iterations",
            f"L-BFGS-B, {p.max_iter} iterations, objective scaled by its first gradient",
            "ten iterations depend on the scale",
        ),
        (
            "random subspace",
            "100 dimensions, distribution not stated",
            f"{p.subspace} dimensions, standard normal",
            "chosen here",
        ),
        notes.arithmetic(p.dtype),
    ]
    return scope_table(rows)


def networks(p: KeskarParameters) -> pd.DataFrame:
    """Return a row per network of the source: its data, size and batches here, or why it is not."""
    rows = []
    for name in published.NETWORKS:
        if (network := p.networks.get(name)) is None:
            rows.append({"network": name, "data": "not in this profile"})
            continue
        all_of_it = network.train_size is None
        size = "all but the validation part" if all_of_it else f"{network.train_size:,}"
        rows.append(
            {
                "network": name,
                "data": network.dataset + ": not at hand" * (not network.computable),
                "training examples": size,
                "width": f"{network.width:g}",
                "dropout": "as the paper" if network.dropout is None else f"{network.dropout:g}",
                "SB": str(network.small_batch),
                "LB": str(network.large_batch),
                "epochs, at most": str(network.epochs),
                "starts": str(len(network.seeds)),
            }
        )
    return pd.DataFrame(rows).fillna("").set_index("network")


def accuracy(results: Results) -> pd.DataFrame:
    """Return training and test accuracy in per cent, the paper's beside ours, SB and LB."""
    columns = [
        (f"{word} {kind}", kind, f"{part}_accuracy", PERCENT)
        for part, word in (("train", "training"), ("test", "test"))
        for kind in (SB, LB)
    ]
    return _beside(results, published.ACCURACY, columns)


def sharpness(results: Results, *, subspace: bool) -> pd.DataFrame:
    """Return the metric in per cent, the paper's beside ours, at two box widths, SB and LB."""
    p = results.parameters
    table = published.SUBSPACE if subspace else published.FULL_SPACE
    names = (SUBSPACE, SUBSPACE_HALF) if subspace else (SHARPNESS, HALF)
    columns = [
        (f"{kind}, ε = {epsilon:g}", kind, column, 1.0)
        for column, epsilon in zip(names, (p.epsilon, p.epsilon / 2), strict=True)
        for kind in (SB, LB)
    ]
    return _beside(results, table, columns)


def _beside(results: Results, stated: dict, columns: list) -> pd.DataFrame:
    """A row per network and source: what the paper states, what was measured, with n."""
    rows = []
    for name in published.NETWORKS:
        heads = [head for head, *_ in columns]
        paper = dict(zip(heads, map(str, stated[name]), strict=True))
        rows.append({"network": name, "": "paper", "n": "5"} | paper)
        found = {kind: of(results, name, kind) for kind in (SB, LB)}
        if any(runs.empty for runs in found.values()):
            rows.append({"network": name, "": f"ours: {_missing(results, name)}", "n": "0"})
            continue
        ours = {
            head: _mean_and_deviation(scale * found[kind][column].dropna())
            for head, kind, column, scale in columns
        }
        n = " and ".join(str(n) for n in dict.fromkeys(len(runs) for runs in found.values()))
        rows.append({"network": name, "": "ours", "n": n} | ours)
    return pd.DataFrame(rows).fillna("").set_index(["network", ""])


def _missing(results: Results, name: str) -> str:
    if (network := results.parameters.networks.get(name)) is None:
        return "not in this profile"
    return "not computed yet" if network.computable else "data not at hand"


def _mean_and_deviation(values: pd.Series) -> str:
    if values.empty:
        return "-"
    digits = 2 if abs(values.mean()) < 100 else 1
    deviation = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def other_measures(results: Results) -> pd.DataFrame:
    """Return means over seeds of what else measures curvature, the losses there, and LB / SB."""
    names = {
        "phi (%)": SHARPNESS,
        "phi, adaptive box (%)": ADAPTIVE,
        "lambda_max": "lambda_max",
        "Hessian trace": "hessian_trace",
        "training loss": "train_loss",
    }
    rows = {}
    for name in results.parameters.networks:
        small, large = pairs(results, name, of(results, name, SB, LB))
        if small.empty:
            continue
        for kind, runs in ((SB, small), (LB, large)):
            found = {head: runs[column].mean(skipna=False) for head, column in names.items()}
            rows[name, kind] = {head: number_text(mean) for head, mean in found.items()}
        rows[name, "LB / SB"] = {h: _ratio_text(small[c], large[c]) for h, c in names.items()}
        for kind in (SB, LB, "LB / SB"):
            rows[name, kind]["n"] = f"{len(small)}"
    return _table(rows, ["network", "batch"]).replace("nan", "-")


def _ratio_text(small: pd.Series, large: pd.Series) -> str:
    """Return LB / SB with its interval; "-" where a run has no finite value above zero."""
    values = (large / small).to_numpy(float)
    fit = len(values) and np.isfinite(values).all() and (values > 0).all()
    return interval_text(interval(tuple(values), ratios=True)) if fit else "-"


def solver(results: Results) -> pd.DataFrame:
    """Return iterations, evaluations and the solver's reasons to stop, for the metric."""
    rows = {}
    if f"{SHARPNESS}.stop" not in results.runs:  # all have diverged
        return _table(rows, ["network", "batch"])
    for name in results.parameters.networks:
        for kind in (SB, LB):
            if len(runs := of(results, name, kind)):
                stops = runs[f"{SHARPNESS}.stop"].str.lower().value_counts()
                rows[name, kind] = {
                    "iterations": runs[f"{SHARPNESS}.iterations"].mean(),
                    "evaluations": runs[f"{SHARPNESS}.evaluations"].mean(),
                    "reasons to stop": "; ".join(f"{n} x {stop}" for stop, n in stops.items()),
                }
    return _table(rows, ["network", "batch"])


def choices(results: Results) -> pd.DataFrame:
    """Return what the choices that the paper leaves open do to the metric."""
    p = results.parameters
    words = {
        SHARPNESS: "full space, as in the table above",
        LONG: f"{p.long_iter} iterations instead of {p.max_iter}",
        "literal_scale": "objective not scaled",
        "batch_statistics": "batch norm on batch statistics",
        SUBSPACE: "random subspace, as in the table above",
        "unit_columns": "columns of length one",
        "uniform_columns": "uniform columns of length one",
    }
    assert set(CHOICES) <= set(words)
    rows = {}
    for name, network in p.networks.items():
        small, large = pairs(results, name, of(results, name, SB, LB))
        both = pd.concat([small, large])
        if not network.choices or small.empty or large.empty or both[SHARPNESS].isna().any():
            continue
        for column, choice in words.items():
            a, b = small[column], large[column]
            rows[name, choice] = {
                "SB (%)": number_text(a.mean()),
                "LB (%)": number_text(b.mean()),
                "LB / SB": _ratio_text(a, b),
                "iterations": f"{both[f'{column}.iterations'].mean():.3g}",
                "n": f"{len(a)}",
            }
    return _table(rows, ["network", "measured with"])


def rivals(results: Results) -> pd.DataFrame:
    """Return a row per network, condition and seed: SB - LB in points, LB / SB of sharpness.

    `unfit` says why a condition is no comparison, empty where it is one.
    """
    rows = []
    for name in varied(results):
        tables, reasons = {}, {}
        if not absence(results, name, SB, LB):
            tables[AS_IN_SOURCE] = of(results, name, SB, LB)
            gone = (tables[AS_IN_SOURCE]["stopped"] == "diverged").any()
            reasons[AS_IN_SOURCE] = "a run diverged" if gone else ""
        for condition in CONDITIONS.values():
            if not absence(results, name, condition.kind):
                arm = of(results, name, condition.kind)
                runs, why = compared(results, name, condition, arm)
                tables[condition.words], reasons[condition.words] = runs, why or ""
        if not absence(results, name, SB, UPDATES):
            long = of(results, name, UPDATES)
            long = long[long["batch_size"] == results.parameters.networks[name].large_batch]
            tables[LONGER] = pd.concat([of(results, name, SB), long])
            gone = (tables[LONGER]["stopped"] == "diverged").any()
            reasons[LONGER] = "a run diverged" if gone else ""
        for words, runs in tables.items():
            small, large = pairs(results, name, runs)
            for seed in small.index:
                a, b = small.loc[seed], large.loc[seed]
                row = {"network": name, "condition": words, "seed": seed}
                row["unfit"] = reasons[words]
                row["gap"] = PERCENT * (a["test_accuracy"] - b["test_accuracy"])
                row["sharpness_ratio"] = b[SHARPNESS] / a[SHARPNESS]
                for column in ("train_loss", "updates", "base_lr"):
                    row |= {f"{column}_SB": a[column], f"{column}_LB": b[column]}
                rows.append(row)
    columns = ["network", "condition", "seed", "unfit", "gap", "sharpness_ratio"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def what_is_left(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the gap under each condition with its interval, and the share that is left of it.

    A share is given where the source's own gap is certainly above zero and the condition is a
    comparison.
    """
    table = {}
    for (name, condition), mine in rows.groupby(["network", "condition"], sort=False):
        reference = rows[(rows["network"] == name) & (rows["condition"] == AS_IN_SOURCE)]
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
            "rate SB, LB": f"{values_text(mine['base_lr_SB'])}; {values_text(mine['base_lr_LB'])}",
            "n": str(len(mine)),
            "no comparison, because": why,
        }
    return _table(table, ["network", "compared"])


def _pair(rows: pd.DataFrame, column: str, digits: str) -> str:
    return ", ".join(f"{rows[f'{column}_{kind}'].mean():{digits}}" for kind in (SB, LB))


def thresholds(results: Results) -> pd.DataFrame:
    """Return from which batch size on the test accuracy is below that of the small batch.

    The smallest one from which on, through all larger ones, the interval over seeds of the
    difference lies below zero; as a share of the data, and the paper's.
    """
    rows = {}
    for name, network in results.parameters.networks.items():
        if absence(results, name, SIZES):
            continue
        runs = of(results, name, SIZES)
        table = runs.pivot(index="seed", columns="batch_size", values="test_accuracy").dropna()
        falls = {b: interval(table[b] - table[network.small_batch]).high < 0 for b in table}
        below = [b for b in falls if all(falls[larger] for larger in falls if larger >= b)]
        n, paper = runs["train_size"].iloc[0], published.THRESHOLDS.get(name)
        share = "" if paper is None else f" ({PERCENT * paper / published.SIZES[name]:.1f} %)"
        stated = "-" if paper is None else f"{paper:,}{share}"
        found = f"{below[0]} ({PERCENT * below[0] / n:.1f} %)" if below else "none"
        rows[name] = {"paper (share of the data)": stated, "here": found, "n": str(len(table))}
    return _table(rows, ["network"])


def _table(rows: dict, names: list[str]) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(rows, orient="index")
    if table.empty:
        return pd.DataFrame({"": ["not computed yet"]}).set_index("")
    if len(names) > 1:
        table.index = pd.MultiIndex.from_tuples(table.index)
    return table.rename_axis(names)


def varied(results: Results) -> list[str]:
    """Return the networks whose batch size, start or rate is varied here."""
    return [name for name, network in results.parameters.networks.items() if network.batch_sizes]


def shown(results: Results, kinds: Iterable[str]) -> list[str]:
    """Return the networks that have runs of some arms, in the source's order."""
    arms = set(results.runs["arm"])
    return [n for n in published.NETWORKS if any(label(n, kind) in arms for kind in kinds)]


def points(results: Results, path: str) -> pd.DataFrame:
    """Return the points on one path between minimizers, with the network's name."""
    if results.points.empty:
        return pd.DataFrame(columns=["network", "set", "alpha", "loss", "accuracy", "seed"])
    rows = results.points[results.points["path"] == path]
    return rows.assign(network=rows["arm"].str.partition(",")[0])


def line_note(p: KeskarParameters) -> str:
    """Return how the points on a path were measured, for captions."""
    return (
        f"{p.line_points} points, {p.line_examples:,} training examples (thin) and as many test "
        "examples (thick), batch norm re-estimated at each point."
    )


def shift(near: pd.DataFrame) -> pd.DataFrame:
    """Return where on the line training and test loss are lowest near each end, means over seeds.

    And by how much the test loss is above the training loss at the end itself, in nats. A lowest
    value at the edge, half-way to the other end or as far outside, is no minimum and not counted.
    """
    rows = {}
    for (name, end), mine in (
        ((name, end), rows[(rows["alpha"] - end).abs() <= 0.5])
        for name, rows in near.groupby("network", sort=False)
        for end in (0, 1)
    ):
        table = mine.pivot(index=["seed", "set"], columns="alpha", values="loss")
        lowest = table.idxmin(axis=1)
        lowest = lowest.where((lowest - end).abs() < 0.5 - 1e-9).groupby("set")
        at_end = table[float(end)].groupby("set").mean()
        rows[name, "SB" if end == 0 else "LB"] = {
            **{f"lowest {word} loss at alpha": _minimum(lowest.get_group(part))
               for part, word in PARTS.items()},
            "test - training loss (nats)": f"{at_end['test'] - at_end['train']:.3g}",
        }  # fmt: skip
    return _table(rows, ["network", "minimizer"])


def _minimum(places: pd.Series) -> str:
    """Return where minima lie in the mean, and of how many seeds; missing ones have none."""
    n = f"{places.count()} of {len(places)}"
    return f"{places.mean():.3f} ({n})" if places.count() else f"none ({n})"


def warm_start(results: Results, name: str) -> pd.DataFrame:
    """Return the runs after a switch, and small-batch runs that end where others switch."""
    network = results.parameters.networks[name]
    switched = results.of(label(name, SWITCH))
    stopped = results.of(label(name, EVOLUTION))
    ends = stopped["epochs"].isin(network.switch_epochs)
    stopped = stopped[ends & (stopped["batch_size"] == network.small_batch)]
    both = pd.concat(
        [
            switched.assign(small_batch_epochs=switched["first_epochs"]),
            stopped.assign(small_batch_epochs=stopped["epochs"]),
        ]
    )
    return both.assign(percent=PERCENT * both["test_accuracy"])


def grid(results: Results, name: str) -> pd.DataFrame:
    """Return the runs behind a network's rank correlation, with the test error in per cent."""
    runs = configurations(results, name)
    return runs.assign(percent_error=PERCENT * runs["test_error"]) if len(runs) else runs


def grid_note() -> str:
    """Return what the figure of the rank correlation shows, for its caption."""
    return (
        "Lines join the learning rates of a batch size, its number at the largest. A batch size "
        "and rate of which a run diverged or stayed below a training accuracy of "
        f"{PERCENT * TRAINED:.0f} % is left out."
    )


def joined(grids: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of several grids below each other."""
    return pd.concat([pd.DataFrame(), *grids.values()], ignore_index=True)


def _tau(runs: pd.DataFrame, column: str, along: tuple[str, ...]) -> str:
    others = [axis for axis in GRID if axis not in along]
    if others and runs.groupby(others)[list(along)].nunique().to_numpy().max() < 2:
        return "-"  # nothing varies alone along it
    return interval_text(granulated(runs, column, along))


def correlations(results: Results) -> pd.DataFrame:
    """Return the granulated rank correlation of sharpness with errors, and along each axis."""
    rows = {}
    words = {GRID: "", GRID[:1]: ", along the batch size", GRID[1:]: ", along the rate"}
    for name in varied(results):
        runs = configurations(results, name)
        if absence(results, name, SIZES, RATES) or granulated(runs, "test_error") is None:
            continue
        for column in ("test_error", "generalization_gap"):
            row = {f"tau{along}": _tau(runs, column, axes) for axes, along in words.items()}
            rows[name, column.replace("_", " ")] = row
    return _table(rows, ["network", "sharpness against"])
