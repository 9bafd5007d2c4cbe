"""Tables, rows and notes that the notebook on Chang & Pathak shows."""

import json

import numpy as np
import pandas as pd
from torch import nn

from bsglib.data import Dataset, at_hand
from bsglib.landscape import Surface
from bsglib.models import build
from bsglib.runs.build import CHUNK_SIZE, dataset_of
from bsglib.runs.curves import SPLITS
from bsglib.runs.measures import LINE
from bsglib.stats import PERCENT, interval
from bsglib.studies import notes, source
from bsglib.studies.chang import derived, published
from bsglib.studies.chang.protocol import (
    FIXED,
    LINES,
    PLANES,
    SCALED,
    SHARPNESS,
    SURFACE,
    ChangParameters,
    design,
)
from bsglib.studies.comparing import last_over_first, seconds
from bsglib.studies.study import Results, matching
from bsglib.studies.tables import dashed, per_seed, scope_table
from bsglib.verdicts import Rule, interval_text

PHI = r"sharpness $\phi$ (%)"
LOSSES = {"running_loss": "training", "validation_loss": "validation"}
KEPT = {"train_loss": "training", "validation_loss": "validation", "test_loss": "test"}
EQUAL = {
    "train_loss": "training loss (nats)",
    "validation_loss": "validation loss (nats)",
    SHARPNESS: PHI,
}
TIMES = {  # title and label of each panel
    "seconds": ("per epoch", "seconds per epoch"),
    "kept_epoch": ("epochs", "epochs to the lowest loss"),
    "total_seconds": ("in total", "seconds to the lowest loss"),
}
RUNS = {FIXED: derived.fixed, SCALED: derived.scaled}  # of each rate
STATED = {FIXED: published.VALIDATION, SCALED: published.SCALED_VALIDATION}
DATA = "cats_vs_dogs"  # whose numbers ours are compared with
PRINTED = {  # by figure of the paper: the column that it shows, and the numbers by batch size
    6: ("validation_loss", published.VALIDATION),
    8: ("seconds", published.PARALLEL_SECONDS_PER_EPOCH),
    12: ("epoch_distance", published.EPOCH_DISTANCE),
    13: ("norm", published.UPDATE_NORM),
    24: ("validation_loss", published.SCALED_VALIDATION),
    25: ("total_seconds", published.SCALED_TOTAL_SECONDS),
    26: ("keskar_sharpness", published.SCALED_SHARPNESS),
}
TIMED = {  # of its figure 7
    "seconds": published.SECONDS_PER_EPOCH,
    "kept_epoch": published.EPOCHS,
    "total_seconds": {
        b: published.TOTAL_SECONDS[32] * r for b, r in ((32, 1), (256, published.TOTAL_RATIO))
    },
}


def scope(p: ChangParameters) -> pd.DataFrame:
    """Return the differences from the paper: quantity, paper, here, why."""
    size = "all training images" if p.train_size is None else f"{p.train_size:,} training images"
    of_all = " of 24,975" if p.dataset == "cats_vs_dogs" else ""
    side = "as they are" if p.image_size is None else f"{p.image_size} x {p.image_size} pixels"
    rates = ", ".join(f"{lr:g}" for lr in p.lrs)
    chunks = f"in chunks of {CHUNK_SIZE} with summed gradients"
    both = notes.seeds(p, "at the fixed and the scaled rate")
    rows = [
        (
            "data",
            "Cats vs Dogs, 80 % of 23,262 images",
            f"{p.dataset}, {size}{of_all}",
            "time, a test set, a different exclusion of unreadable images",
        ),
        ("images, by their code", "128 x 128 pixels", side, "time"),
        ("validation set", "20 %", f"{p.validation_fraction:.0%} of all but the test set", "time"),
        ("batches on a CPU", "whole, apparently", chunks, "chunks fit the cache"),
        ("test set", "none", "held out", "validation data select weights and rates"),
        ("network, by their code", "chang {}", f"chang {p.network_options}", "time"),
        ("learning rate at the smallest B", "0.01", f"{p.lr:g}", "fewer updates"),
        ("learning rates", ".01 to .08", rates, "one rate above the paper's best"),
        ("stop after epochs without improvement, by their code", "100", f"{p.patience}", "time"),
        (
            "training loss",
            "the lowest",
            "at the selected weights, and the lowest",
            "early stopping",
        ),
        ("epochs, at most", "no limit", f"{p.epochs:,}", "time"),
        ("order of the examples", "the same in all epochs (code)", "new in every epoch", "usual"),
        (
            "initial weights",
            "one set",
            "one set per seed, for all batch sizes",
            "an interval needs seeds",
        ),
        ("seeds", "one run each, apparently", both, "an interval needs three"),
        ("sharpness", "largest loss in a box", "Keskar's ratio, per cent", "their figure 20"),
        ("sharpness measured on", "not stated", f"{p.sharpness_examples:,} examples", "time"),
        notes.arithmetic(p.dtype),
    ]
    return scope_table(rows)


# ------------------------------------------------------------- data and network


def data(p: ChangParameters) -> Dataset | None:
    """Return the training data of the runs; None if they are not available."""
    return dataset_of(design(p)[0].config) if at_hand(p.dataset) else None


def class_counts(dataset: Dataset | None) -> pd.DataFrame:
    """Return the number of examples by class and split."""
    if dataset is None:
        return pd.DataFrame(columns=["class", *SPLITS])
    classes = pd.Index(dataset.classes, name="class")
    labels = {name: getattr(dataset, name).y.numpy() for name in SPLITS}
    counts = {name: np.bincount(y, minlength=len(classes)) for name, y in labels.items()}
    return pd.DataFrame(counts, index=classes).reset_index()


def samples_note(dataset: Dataset | None, p: ChangParameters) -> str:
    """Return the caption of the sample images."""
    head, compare = f"Training images drawn at random from {p.dataset}", "Compare figure 3"
    if dataset is None:
        missing = "This machine does not have them; `bsg data` tells how to get them."
        return f"**{head}.** {missing} {compare} of the paper."
    sizes = ", ".join(f"{len(getattr(dataset, name)):,} {name}" for name in SPLITS)
    _, height, width = dataset.input_shape
    head += f", {height} x {width} pixels (n = {len(dataset.train):,})"
    return f"**{head}.** Examples: {sizes}. {compare} of the paper."


def network(results: Results) -> nn.Module:
    """Return the network of the runs with fresh weights."""
    classes, options = results.runs["classes"].iloc[0], results.parameters.network_options
    return build("chang", input_shape(results), classes, **options)


def input_shape(results: Results) -> tuple[int, ...]:
    """Return the shape of one example."""
    return tuple(json.loads(str(results.runs["input_shape"].iloc[0])))


# ------------------------------------------------------------- runs at the fixed or the scaled rate


def runs_at(results: Results, rate: str) -> pd.DataFrame:
    """Return the runs at a rate, FIXED or SCALED, with the columns of `derived.columns`.

    Diverged runs have no numbers: their weights are not minimizers.
    """
    runs = RUNS[rate](results)
    kept = runs[[*KEPT, "kept_epoch", "distance"]]  # diverged runs are not measured
    runs = runs.assign(**kept.where(runs["stopped"] != "diverged"))
    return derived.columns(results, runs)


def cells(results: Results, rate: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs at a rate, FIXED or SCALED, and their history."""
    runs = runs_at(results, rate)
    return runs, results.history.merge(runs[["entry", "arm"]], on=["entry", "arm"])


def compared(results: Results) -> dict[str, pd.DataFrame]:
    """Return the runs of both rates under the names of the lines of a figure."""
    names = {"fixed learning rate": FIXED, "scaled learning rate": SCALED}
    return {name: runs_at(results, rate) for name, rate in names.items()}


def stated(p: ChangParameters, figure: int) -> pd.DataFrame:
    """Return the paper's numbers of a figure by batch size; none if the data are not the same."""
    column, numbers = PRINTED[figure]
    return source.printed(
        column, numbers if p.dataset == DATA else {}, f"figure {figure} and its text"
    )


def stated_times(p: ChangParameters) -> pd.DataFrame:
    """Return the paper's times and epochs at the fixed rate, a column for each panel."""
    tables = [source.printed(c, numbers, "figure 7 and its text") for c, numbers in TIMED.items()]
    table = pd.concat(tables).groupby("batch_size", as_index=False).first()
    table = table if p.dataset == DATA else table.iloc[:0]
    table.attrs = tables[0].attrs | {
        "note": f'Its total at B = {max(TIMED["seconds"])} is "almost" that'
    }
    return table


def stated_best(p: ChangParameters) -> pd.DataFrame:
    """Return the paper's lowest validation losses at known rates: printed, and of its log."""
    best = {b: published.BEST_LR[b] for b in published.SCALED_VALIDATION}
    table = source.printed("validation_loss", published.SCALED_VALIDATION, "figures 24 and 29")
    log = source.read("chang", "losses").groupby(["batch_size", "base_lr"])["validation_loss"].min()
    rows = pd.concat([table.assign(base_lr=table["batch_size"].map(best)), log.reset_index()])
    rows = rows.drop_duplicates(["batch_size", "base_lr"], keep="last").drop(columns="run")
    rows.attrs = table.attrs | {"note": "At B = 32 the values of its log"}
    return rows if p.dataset == DATA else rows.iloc[:0]


def logged(p: ChangParameters, *rates: float) -> pd.DataFrame:
    """Return what the paper's log prints of its smallest batch at some rates, if data are the same.

    Args:
        p: the study's parameters.
        *rates: the rates.
    """
    table = source.read("chang", "losses", base_lr=list(rates))
    return table if p.dataset == DATA else table.iloc[:0]


def best_losses(results: Results, rate: str) -> pd.DataFrame:
    """Return losses at the lowest validation loss by batch size, beside the paper's."""
    runs = runs_at(results, rate).groupby("batch_size")
    columns = {
        "train_loss": "training",
        "validation_loss": "validation",
        "loss_gap": "validation - training",
        "test_loss": "test",
        "lowest_running": "lowest running training",
    }
    table = runs[list(columns)].agg(_mean).rename(columns=columns)
    table["validation, paper"] = pd.Series(STATED[rate])
    return dashed(table.assign(n=runs["validation_loss"].count())).rename_axis("batch size")


def _mean(values: pd.Series) -> str:
    """The mean over seeds and its interval."""
    values = values[np.isfinite(values)]
    return interval_text(interval(tuple(values)), Rule("above", 1)) if len(values) else "-"


def equal_updates(results: Results) -> pd.DataFrame:
    """Return the lowest validation loss up to equal updates, by batch size."""
    rows = derived.at_equal_updates(results).groupby("batch_size")
    table = {
        "updates, median": rows["updates"].median(),
        "lowest validation loss (nats)": rows["validation_loss"].agg(_mean),
        "n": rows.size(),
    }
    return pd.DataFrame(table).rename_axis("batch size")


def sharpness(results: Results) -> pd.DataFrame:
    """Return sharpness, loss there and largest loss in the box, by batch size and rate."""
    columns = {
        SHARPNESS: "sharpness (%)",
        f"{SHARPNESS}.loss": "loss (nats)",
        f"{SHARPNESS}.max_loss": "largest (nats)",
    }
    tables = []
    for rate in RUNS:
        runs = runs_at(results, rate).groupby("batch_size")
        table = runs[list(columns)].mean().rename(columns=columns)
        tables.append(table.assign(n=runs[SHARPNESS].count()).add_prefix(f"{rate}: "))
    return pd.concat(tables, axis=1).rename_axis("batch size, means over seeds")


# ------------------------------------------------------------- times


def times(results: Results, rate: str) -> pd.DataFrame:
    """Return median epochs, seconds per epoch and total time by batch size, beside the paper's.

    Args:
        results: of the study.
        rate: FIXED or SCALED.
    """
    runs = runs_at(results, rate)
    epochs = per_seed(runs, "kept_epoch")
    table = pd.DataFrame({"epochs to the lowest loss": epochs.median()})
    if len(per_epoch := seconds(results, processes=1)):
        table["seconds per epoch"] = per_epoch.median()
        table["seconds in total"] = per_seed(runs, "total_seconds").median()
    totals = published.SCALED_TOTAL_SECONDS
    if rate == FIXED:
        table["epochs, paper"] = pd.Series(published.EPOCHS)
        table["seconds per epoch, paper"] = pd.Series(published.SECONDS_PER_EPOCH)
        totals = published.TOTAL_SECONDS
    table["seconds in total, paper"] = pd.Series(totals)
    return dashed(table.assign(n=epochs.count())).rename_axis("batch size, medians")


def parallel_note(results: Results) -> str:
    """Return the limits of the timed processes, for a caption."""
    rows = results.timings
    taken = notes.timing(results.parameters, rows)
    if rows.empty:
        return taken
    crowded = sorted({n for n in rows["processes"] if n > rows["cores"].max()})
    own_cores = f"Up to {derived.most_processes(results)} processes have one core each."
    note = f"{taken} {own_cores}"
    if crowded:
        listed = ", ".join(map(str, crowded))
        note += f" With {listed}, processes share cores: a lower bound of the speed-up."
    return note


# ------------------------------------------------------------- distances, updates, gradients


def layer_rows(results: Results) -> pd.DataFrame:
    """Return distances by layer of the smallest and the largest batch: layer, seed, distance."""
    rows, model = derived.layers(results), network(results)
    layers = pd.Series({name: model.get_submodule(name) for name in rows["layer"].unique()})
    kinds = layers.map(lambda layer: "conv" if isinstance(layer, nn.Conv2d) else "dense")
    names = kinds + " " + (kinds.groupby(kinds).cumcount() + 1).astype(str)
    return ends(rows.assign(layer=rows["layer"].map(names)), results.parameters)


def epoch_ratio(results: Results) -> pd.DataFrame:
    """Return rows seed, epoch and ratio: distance per epoch, smallest over largest batch."""
    return (1 / last_over_first(derived.epoch_distances(results))).rename("ratio").reset_index()


def norm_table(results: Results) -> pd.DataFrame:
    """Return the median norm of an update by batch size, beside the paper's."""
    table = derived.median_norms(results).groupby("batch_size")["norm"].agg(["mean", "size"])
    table = table.rename(columns={"mean": "median norm", "size": "n"})
    return dashed(table.assign(paper=pd.Series(published.UPDATE_NORM))).rename_axis("batch size")


def agreement_note(rows: pd.DataFrame) -> str:
    """Return how the gradients were drawn, for a caption."""
    if rows.empty:
        return ""
    first = rows.iloc[0]
    return (
        f"{first['draws']:.0f} batches of each size, drawn from {first['n']:,.0f} training "
        f"examples; mean cosine between the gradients of two examples: {rows['cosine'].mean():.2g}."
    )


# ------------------------------------------------------------- lines, surfaces, trajectories


def line(results: Results) -> pd.DataFrame:
    """Return the points on the line from the smallest batch's weights to the largest one's."""
    rows = results.points_of(measure=LINE)
    return rows.reindex(columns=list(dict.fromkeys([*rows, "alpha", "set", "loss", "accuracy"])))


def surfaces(results: Results, seeds: tuple[int, ...], points: int) -> dict[tuple, Surface]:
    """Return the computed surfaces along directions of some seeds: (batch size, rate, seed).

    Args:
        results: of the study.
        seeds: of the directions, one for curves or two for planes.
        points: of the grid, in a direction.
    """
    chosen = results.points_of(measure=SURFACE, seeds=str(list(seeds)), points=points)
    if chosen.empty:
        return {}
    chosen = chosen.merge(results.runs[["entry", "arm", "base_lr"]], on=["entry", "arm"])
    n, plane = results.parameters.surface_examples, len(seeds) == 2
    of_cells = chosen.groupby(["batch_size", "base_lr", "seed"])
    return {cell: _surface(rows, n, plane=plane) for cell, rows in of_cells}


def _surface(rows: pd.DataFrame, n: int, *, plane: bool) -> Surface:
    if not plane:
        rows = rows.sort_values("a")
        return Surface(rows["a"].to_numpy(), None, rows["loss"].to_numpy(), n, None)
    table = rows.pivot(index="a", columns="b", values="loss")
    a, b = table.index.to_numpy(), table.columns.to_numpy()
    return Surface(a, b, table.to_numpy(), n, float(rows["cosine"].iloc[0]))


def planes(results: Results) -> dict[str, Surface | None]:
    """Return a panel for each plane of directions and each end: its name, and its surface."""
    p, found = results.parameters, {}
    for seeds in PLANES:
        computed = surfaces(results, seeds, p.surface_points)
        for batch_size in (p.smallest, p.largest):
            name = f"B = {batch_size}, seeds {seeds[0]}, {seeds[1]}"
            found[name] = computed.get((batch_size, p.lr, p.seeds[0]))
    return found


def known(panels: dict[str, Surface | None]) -> dict[str, Surface]:
    """Return the computed panels."""
    return {name: surface for name, surface in panels.items() if surface is not None}


def first_pair(panels: dict[str, Surface | None]) -> dict[str, Surface]:
    """Return the first plane's panels at both ends if both are computed, else nothing."""
    pair = known(dict(list(panels.items())[:2]))
    return pair if len(pair) == 2 else {}


def ends(rows: pd.DataFrame, p: ChangParameters) -> pd.DataFrame:
    """Return the rows of the smallest and the largest batch."""
    return matching(rows, batch_size=(p.smallest, p.largest))


def directions(results: Results) -> pd.DataFrame:
    """Return losses along single directions: batch_size, seed, direction, a, loss."""
    tables = []
    for direction in LINES:
        computed = surfaces(results, (direction,), results.parameters.surface_points)
        for (batch_size, _, seed), curve in computed.items():
            rows = {"a": curve.a, "loss": curve.loss, "batch_size": batch_size, "seed": seed}
            tables.append(pd.DataFrame(rows).assign(direction=direction))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def shares(way: pd.DataFrame) -> tuple[str, str]:
    """Return the labels of a plane's axes: the shares of the variance that they explain."""
    one, two = (PERCENT * way.iloc[0][f"explained_{axis}"] for axis in "ab")
    return f"first direction, {one:.0f} %", f"second direction, {two:.0f} %"


# ------------------------------------------------------------- the grid of batch size and rate


def diverged_note(runs: pd.DataFrame) -> str:
    """Return the number of diverged runs, which are not drawn, for a caption; "" for none."""
    gone = int((runs["stopped"] == "diverged").sum())
    return f"{gone} of {len(runs)} runs diverged and are not drawn." if gone else ""


def heat_map(results: Results) -> pd.DataFrame:
    """Return the mean lowest validation loss over seeds [learning rate, batch size]."""
    return derived.rates(results).pivot_table("validation_loss", "base_lr", "batch_size", "mean")


def best_rates(results: Results) -> pd.DataFrame:
    """Return the best rate run by batch size: of each seed, of the mean, and the paper's."""
    best, run = derived.best_lrs(results), derived.grid(results).groupby("batch_size")
    chosen = derived.at_best_rate(results).groupby("batch_size")
    table = {
        "rates run": run["base_lr"].nunique().map(f"{{}} of {len(results.parameters.lrs)}".format),
        "of each seed": best.agg(lambda column: ", ".join(f"{v:g}" for v in column)),
        "of the mean": chosen["base_lr"].first(),
        "paper": pd.Series(published.BEST_LR),
        "test loss at the best rate": chosen["test_loss"].agg(_mean),
        "n": chosen.size(),
    }
    return pd.DataFrame(table).reindex(best.columns).rename_axis("batch size")


def explorer_cells(results: Results) -> pd.DataFrame:
    """Return mean, low, high and n over seeds of each quantity of the explorer.

    A cell with a diverged seed has no mean: the mean of the others would suggest a good rate.
    """
    whole = results.points_of(measure="distances", layer="whole")
    distance = whole.set_index(["entry", "arm"])["distance"]
    runs = derived.grid(results).drop(columns="distance").join(distance, on=["entry", "arm"])
    rows = []
    for (batch_size, lr), of_cell in runs.groupby(["batch_size", "base_lr"]):
        gone = int((of_cell["stopped"] == "diverged").sum())
        for quantity in ("validation_loss", "distance", SHARPNESS):
            values = of_cell[quantity].dropna() if not gone else pd.Series(dtype=float)
            low, high = values.min(), values.max()
            mean = np.clip(values.mean(), low, high)  # of equal values it may be off by rounding
            row = {"batch_size": batch_size, "base_lr": lr, "quantity": quantity}
            row |= {"mean": mean, "low": low, "high": high, "n": len(values), "diverged": gone}
            rows.append(row)
    return pd.DataFrame(rows)


def explorer_curves(results: Results) -> pd.DataFrame:
    """Return the loss curves of all cells: batch_size, base_lr, seed, epoch and both losses."""
    runs = derived.grid(results)[["entry", "arm", "base_lr"]]
    history = results.history.drop(columns="train_loss").merge(runs, on=["entry", "arm"])
    history = history.rename(columns={"running_loss": "train_loss"})
    return history[["batch_size", "base_lr", "seed", "epoch", "train_loss", "validation_loss"]]


def explorer_surfaces(results: Results) -> dict[tuple[int, float], Surface]:
    """Return the surfaces of the grid's cells, first seed."""
    p = results.parameters
    computed = surfaces(results, PLANES[0], p.explorer_points)
    return {(b, lr): surface for (b, lr, seed), surface in computed.items() if seed == p.seeds[0]}


def explorer_note(p: ChangParameters, cells: pd.DataFrame) -> str:
    """Return the caption of the explorer, whose cells are those of `explorer_cells`."""
    n = int(cells["n"].max()) if len(cells) else 0
    return (
        f"**Every cell of the grid (n = {n} seed{'s' * (n > 1)}): loss, distance from the initial "
        "weights, sharpness, loss surface.** Map: lowest validation loss. Surface: "
        f"{p.surface_examples:,} training examples, first seed. Bars: range over seeds."
    )
