"""Tables, rows and notes that the notebook on Chang & Pathak shows."""

import json

import numpy as np
import pandas as pd
from torch import nn

from bsglib.claims import interval_text
from bsglib.data import Dataset, at_hand
from bsglib.landscape import Surface
from bsglib.measures import LINE
from bsglib.models import build
from bsglib.papers import Results, notes
from bsglib.papers.chang import published
from bsglib.papers.chang.protocol import (
    FIXED,
    LINES,
    PLANES,
    SCALED,
    SHARPNESS,
    SURFACE,
    ChangParameters,
    design,
)
from bsglib.papers.chang.readings import (
    at_best_rate,
    at_equal_updates,
    best_lrs,
    fixed,
    grid,
    layers,
    median_norms,
    most_processes,
    scaled,
    total_seconds,
    with_losses,
)
from bsglib.papers.comparing import seconds
from bsglib.papers.tables import per_seed, scope_table
from bsglib.stats import PERCENT, interval
from bsglib.train import CHUNK_SIZE, SPLITS, dataset_of

PHI = r"sharpness $\phi$ (%)"
LOSSES = {"running_loss": "training", "validation_loss": "validation"}
KEPT = {"train_loss": "training", "validation_loss": "validation", "test_loss": "test"}
EQUAL = {
    "train_loss": "training loss (nats)",
    "validation_loss": "validation loss (nats)",
    SHARPNESS: PHI,
}
TIMES = {"seconds": "per epoch", "kept_epoch": "epochs", "total_seconds": "in all"}
TIME_LABELS = {
    "seconds": "seconds per epoch",
    "kept_epoch": "epochs to the lowest loss",
    "total_seconds": "seconds to the lowest loss",
}
RATES = {FIXED: fixed, SCALED: scaled}  # the runs of each


def scope(p: ChangParameters) -> pd.DataFrame:
    """Return what differs from the source: quantity, paper, here, why."""
    size = "all of the training part" if p.train_size is None else f"{p.train_size:,}"
    images = " of 24,975 images" if p.dataset == "cats_vs_dogs" else ""
    side = "as they are" if p.image_size is None else f"{p.image_size} x {p.image_size} pixels"
    grid_here = ", ".join(f"{lr:g}" for lr in p.lrs)
    rows = [
        (
            "data",
            "Cats vs Dogs, four fifths of 23,262 images to train on",
            f"{p.dataset}, {size}{images} to train on",
            "time, a test part, and another choice of unreadable images",
        ),
        ("images, by their code", "128 x 128 pixels", side, "time"),
        ("validation part", "20 %", f"{p.validation_fraction:.0%} of what is not test", "time"),
        (
            "batches on a CPU",
            "whole, as it seems",
            f"of over {CHUNK_SIZE} in chunks whose gradients add up",
            "they fit the cache",
        ),
        ("test part", "none", "held out", "the validation part chooses weights and rates"),
        ("network, by their code", "chang {}", f"chang {p.network_options}", "time"),
        ("learning rate at the smallest B", "0.01", f"{p.lr:g}", "fewer updates"),
        ("learning rates", ".01 to .08", grid_here, "one more than the best one there"),
        ("stop after epochs without gain, by their code", "100", f"{p.patience}", "time"),
        (
            "best training loss",
            "the lowest",
            "that at the lowest validation loss; the lowest beside it",
            "weights are kept there",
        ),
        ("epochs, at most", "no limit", f"{p.epochs:,}", "time"),
        ("order of the examples", "one for all epochs (code)", "new in every epoch", "usual"),
        ("initial weights", "one set", "one per seed, for all batch sizes", "an interval"),
        (
            "seeds",
            "one run of each, as it seems",
            notes.seeds(p, "at the fixed and the scaled rate"),
            "an interval needs three",
        ),
        ("sharpness", "largest loss in a box", "Keskar's ratio, per cent", "their figure 20"),
        ("sharpness measured on", "not stated", f"{p.sharpness_examples:,} examples", "time"),
        notes.arithmetic(p.dtype),
    ]
    return scope_table(rows)


def data(p: ChangParameters) -> Dataset | None:
    """Return the data set that the runs train on; None where it is not at hand."""
    return dataset_of(design(p)[0].config) if at_hand(p.dataset) else None


def network(results: Results) -> nn.Module:
    """Return the network of the runs with fresh weights."""
    classes, options = results.runs["classes"].iloc[0], results.parameters.network_options
    return build("chang", input_shape(results), classes, **options)


def input_shape(results: Results) -> tuple[int, ...]:
    """Return the shape of one example."""
    return tuple(json.loads(str(results.runs["input_shape"].iloc[0])))


def class_counts(dataset: Dataset | None) -> pd.DataFrame:
    """Return how many examples of each class each part has."""
    if dataset is None:
        return pd.DataFrame(columns=["class", *SPLITS])
    counts = {}
    for name in SPLITS:
        split = getattr(dataset, name)
        counts[name] = np.bincount(split.y.numpy(), minlength=len(dataset.classes))
    return pd.DataFrame(counts, index=pd.Index(dataset.classes, name="class")).reset_index()


def samples_note(dataset: Dataset | None, p: ChangParameters) -> str:
    """Return the caption of the sample images."""
    if dataset is None:
        return (
            f"**Training images drawn at random from {p.dataset}.** They are not on this machine; "
            "`bsg data` says how to get them. Answers figure 3 of the article."
        )
    sizes = ", ".join(f"{len(getattr(dataset, name)):,} {name}" for name in SPLITS)
    _, height, width = dataset.input_shape
    return (
        f"**Training images drawn at random from {p.dataset}, {height} x {width} pixels (n = "
        f"{len(dataset.train):,}).** Examples: {sizes}. Answers figure 3 of the article."
    )


def network_note(results: Results) -> str:
    """Return the caption of the drawing of the network."""
    p, count = results.parameters, sum(w.numel() for w in network(results).parameters())
    return (
        f"**The network, drawn from itself: chang {p.network_options}, {count:,} parameters.** "
        "Answers figure 4 of the article."
    )


def cells(results: Results, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs and the history of the fixed or the scaled rate, for curves.

    Args:
        results: of the study.
        name: FIXED or SCALED.
    """
    runs = lasting(RATES[name](results))
    return runs, results.history[results.history["entry"].isin(runs["entry"])].merge(
        runs[["entry", "arm"]], on=["entry", "arm"]
    )


def lasting(runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs without the numbers of those that diverged: what they kept is of no minimizer."""
    measured = [*KEPT, "kept_epoch", "distance", *(c for c in runs if c.startswith(SHARPNESS))]
    numbers = runs[measured].select_dtypes("number")
    return runs.assign(**numbers.where(runs["stopped"] != "diverged"))


def best_losses(results: Results, name: str) -> pd.DataFrame:
    """Return losses at the lowest validation loss by batch size, beside the source's.

    Args:
        results: of the study.
        name: FIXED or SCALED.
    """
    runs = with_losses(results, lasting(RATES[name](results)))
    losses = published.VALIDATION if name == FIXED else published.SCALED_VALIDATION
    columns = {
        "train_loss": "training",
        "validation_loss": "validation",
        "gap": "validation - training",
        "test_loss": "test",
        "lowest_running": "lowest training, as it ran",
    }
    rows = {}
    for batch_size, of_size in runs.groupby("batch_size"):
        rows[batch_size] = {title: _mean(of_size[c]) for c, title in columns.items()}
        rows[batch_size]["validation, paper"] = losses.get(batch_size, "-")
        rows[batch_size]["n"] = int(of_size["validation_loss"].count())
    return pd.DataFrame(rows).T.rename_axis("batch size")


def _mean(values: pd.Series) -> str:
    """Return the mean over seeds and its interval."""
    values = values[np.isfinite(values)]
    return interval_text(interval(tuple(values))) if len(values) else "-"


def equal_updates(results: Results) -> pd.DataFrame:
    """Return the lowest validation loss up to equal updates, by batch size."""
    rows = at_equal_updates(results)
    table = {
        "updates, median": rows.groupby("batch_size")["updates"].median(),
        "lowest validation loss (nats)": rows.groupby("batch_size")["validation_loss"].agg(_mean),
        "n": rows.groupby("batch_size").size(),
    }
    return pd.DataFrame(table).rename_axis("batch size")


def times(results: Results, name: str) -> pd.DataFrame:
    """Return seconds per epoch, epochs and total time by batch size, beside the source's: medians.

    Args:
        results: of the study.
        name: FIXED or SCALED.
    """
    runs = lasting(RATES[name](results))
    totals = published.TOTAL_SECONDS if name == FIXED else published.SCALED_TOTAL_SECONDS
    epochs = per_seed(runs, "kept_epoch")
    table = pd.DataFrame({"epochs to the lowest loss": epochs.median()})
    if len(per_epoch := seconds(results, processes=1)):
        table["seconds per epoch"] = per_epoch.median()
        table["seconds in all"] = total_seconds(results, runs).median()
    if name == FIXED:
        table["epochs, paper"] = pd.Series(published.EPOCHS)
        table["seconds per epoch, paper"] = pd.Series(published.SECONDS_PER_EPOCH)
    table["seconds in all, paper"] = pd.Series(totals)
    return _dashed(table.assign(n=epochs.count())).rename_axis("batch size, medians")


def _dashed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a dash where the source gives no number."""
    return table.astype(object).where(table.notna(), "-")


def total_rows(results: Results, name: str) -> pd.DataFrame:
    """Return the runs of the fixed or scaled rate with a column "total_seconds", NaN if untimed."""
    runs = lasting(RATES[name](results))
    per_epoch = seconds(results, processes=1)
    median = per_epoch.median() if len(per_epoch) else pd.Series(dtype=float)
    return runs.assign(total_seconds=runs["kept_epoch"] * runs["batch_size"].map(median))


def parallel_note(results: Results) -> str:
    """Return what the timed processes can and cannot show, for a caption."""
    rows = results.timings
    if rows.empty:
        return notes.timing(results)
    crowded = sorted({n for n in rows["processes"] if n > rows["cores"].max()})
    note = f"Up to {most_processes(results)} processes have a core each."
    if crowded:
        listed = ", ".join(map(str, crowded))
        note += f" With {listed} they take turns on the cores: a lower bound of the speed-up."
    return f"{notes.timing(results)} {note}"


def time_panels(results: Results, totals: pd.DataFrame) -> list[tuple[pd.DataFrame, str]]:
    """Return rows and column of each panel on times."""
    return [(epochs_over(results, 1), "seconds"), (totals, "kept_epoch"), (totals, "total_seconds")]


def epochs_over(results: Results, processes: int) -> pd.DataFrame:
    """Return the timed epochs over some processes: batch_size, repeat, seconds."""
    table = seconds(results, processes=processes)
    if table.empty:
        return pd.DataFrame(columns=["batch_size", "repeat", "seconds"], dtype=float)
    return table.melt(value_name="seconds", ignore_index=False).reset_index()


def stated(p: ChangParameters, name: str, column: str) -> dict[str, float]:
    """Return the source's losses and what they are, where our data are the source's.

    Args:
        p: of the study.
        name: FIXED or SCALED.
        column: of the runs; the source gives validation losses alone.
    """
    if column != "validation_loss" or p.dataset != "cats_vs_dogs":
        return {}
    losses = {FIXED: published.VALIDATION, SCALED: published.SCALED_VALIDATION}[name]
    return {f"paper, {batch_size}": loss for batch_size, loss in losses.items()}


def layer_rows(results: Results) -> pd.DataFrame:
    """Return distances by layer of the smallest and the largest batch: layer, seed, distance."""
    p, rows, model = results.parameters, layers(results), network(results)
    names: dict[str, str] = {}
    for layer in rows["layer"].unique():
        kind = "conv" if isinstance(model.get_submodule(layer), nn.Conv2d) else "dense"
        count = sum(name.startswith(kind) for name in names.values())
        names[layer] = f"{kind} {count + 1}"
    ends_only = rows[rows["batch_size"].isin((p.smallest, p.largest))]
    return ends_only.assign(layer=ends_only["layer"].map(names))


def epoch_ratio(results: Results) -> pd.DataFrame:
    """Return rows seed, epoch and ratio: distance per epoch, smallest over largest batch."""
    p, history = results.parameters, results.history_of(FIXED)
    table = history.pivot(index=["seed", "epoch"], columns="batch_size", values="epoch_distance")
    ends_only = table.reindex(columns=[p.smallest, p.largest])
    ratio = (ends_only[p.smallest] / ends_only[p.largest]).dropna().rename("ratio")
    return ratio.reset_index()


def norms(results: Results) -> pd.DataFrame:
    """Return the quantiles of the norms of the updates: batch_size, seed, level, norm."""
    points = results.points
    return points[(points["measure"] == "update_norms") & (points["arm"] == FIXED)]


def norm_table(results: Results) -> pd.DataFrame:
    """Return the median norm of an update by batch size, beside the source's."""
    table = median_norms(results).groupby("batch_size")["norm"].agg(["mean", "size"])
    table = table.rename(columns={"mean": "median norm", "size": "n"})
    table = table.assign(paper=pd.Series(published.UPDATE_NORM))
    return _dashed(table).rename_axis("batch size")


def agreement_note(rows: pd.DataFrame) -> str:
    """Return how the gradients were drawn, for a caption."""
    if rows.empty:
        return ""
    first = rows.iloc[0]
    return (
        f"{first['draws']:.0f} batches of each size, drawn from {first['n']:,.0f} training "
        f"examples; mean cosine between two examples' gradients {rows['cosine'].mean():.2g}."
    )


def sharpness(results: Results) -> pd.DataFrame:
    """Return sharpness, loss there and largest loss in the box, by batch size and rate."""
    columns = {
        SHARPNESS: "sharpness (%)",
        f"{SHARPNESS}.loss": "loss (nats)",
        f"{SHARPNESS}.max_loss": "largest (nats)",
    }
    tables = {}
    for name, chosen in RATES.items():
        runs = lasting(chosen(results)).groupby("batch_size")
        n = runs[SHARPNESS].count()
        tables[name] = runs[list(columns)].mean().rename(columns=columns).assign(n=n)
    table = pd.concat(tables, axis=1)
    table.columns = [f"{name}: {column}" for name, column in table.columns]
    return table.rename_axis("batch size, means over seeds")


def line(results: Results) -> pd.DataFrame:
    """Return the points on the line from the smallest batch's weights to the largest one's."""
    points = results.points
    rows = points[points["measure"] == LINE]
    return rows.reindex(columns=list(dict.fromkeys([*rows, "alpha", "set", "loss", "accuracy"])))


def line_note(p: ChangParameters) -> str:
    """Return what the line is, for a caption."""
    return (
        f"SB: B = {p.smallest}, LB: B = {p.largest}; {p.line_examples:,} training and as many test "
        "examples, which stand in for the validation part that chose the weights."
    )


def surfaces(results: Results, seeds: tuple[int, ...], points: int) -> dict[tuple, Surface]:
    """Return the computed surfaces along directions of some seeds: (batch size, rate, seed).

    Args:
        results: of the study.
        seeds: of the directions, one for curves or two for planes.
        points: of the grid, in a direction.
    """
    rows = results.points
    chosen = rows[(rows["measure"] == SURFACE) & (rows["seeds"] == str(list(seeds)))]
    chosen = chosen[chosen["points"] == points]
    if chosen.empty:
        return {}
    labels = ["batch_size", "base_lr", "seed"]
    runs = results.runs[["entry", "arm", "base_lr"]]
    return {
        cell: _surface(of_cell, results.parameters.surface_examples, plane=len(seeds) == 2)
        for cell, of_cell in chosen.merge(runs, on=["entry", "arm"]).groupby(labels)
    }


def _surface(rows: pd.DataFrame, n: int, *, plane: bool) -> Surface:
    if not plane:
        rows = rows.sort_values("a")
        return Surface(rows["a"].to_numpy(), None, rows["loss"].to_numpy(), n, None)
    table = rows.pivot(index="a", columns="b", values="loss")
    a, b = table.index.to_numpy(), table.columns.to_numpy()
    return Surface(a, b, table.to_numpy(), n, float(rows["cosine"].iloc[0]))


def planes(results: Results) -> dict[str, Surface | None]:
    """Return a panel for each plane of directions and each end: its name, and its surface."""
    p = results.parameters
    found = {}
    for seeds in PLANES:
        computed = surfaces(results, seeds, p.surface_points)
        for batch_size in (p.smallest, p.largest):
            name = f"B = {batch_size}, seeds {seeds[0]}, {seeds[1]}"
            found[name] = computed.get((batch_size, p.lr, p.seeds[0]))
    return found


def first_pair(panels: dict[str, Surface | None]) -> dict[str, Surface]:
    """Return the first plane's panels at both ends, nothing unless both are computed."""
    pair = known(dict(list(panels.items())[:2]))
    return pair if len(pair) == 2 else {}


def known(panels: dict[str, Surface | None]) -> dict[str, Surface]:
    """Return the panels that are computed."""
    return {name: surface for name, surface in panels.items() if surface is not None}


def surface_note(p: ChangParameters) -> str:
    """Return how the surfaces were measured, for a caption."""
    return (
        f"Filter-normalized directions, biases left alone; {p.surface_points} x {p.surface_points} "
        f"points, {p.surface_examples:,} training examples, first seed; cross: the minimizer."
    )


def direction_note() -> str:
    """Return what the lines are, for a caption."""
    return f"{len(LINES)} directions of each run: faint lines, their mean and their range."


def ends(runs: pd.DataFrame, p: ChangParameters, *, first_seed: bool = False) -> pd.DataFrame:
    """Return the runs of the smallest and the largest batch.

    Args:
        runs: to choose from.
        p: of the study.
        first_seed: only.
    """
    runs = runs[runs["batch_size"].isin((p.smallest, p.largest))]
    return runs[runs["seed"] == p.seeds[0]] if first_seed else runs


def directions(results: Results) -> pd.DataFrame:
    """Return losses along single directions: batch_size, seed, direction, a, loss."""
    tables = []
    for direction in LINES:
        computed = surfaces(results, (direction,), results.parameters.surface_points)
        for (batch_size, _, seed), curve in computed.items():
            rows = {"a": curve.a, "loss": curve.loss, "batch_size": batch_size, "seed": seed}
            tables.append(pd.DataFrame(rows).assign(direction=direction))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def trajectories(results: Results) -> pd.DataFrame:
    """Return the way of the first seed's runs at both ends: batch_size, epoch, a, b, shares."""
    points = results.points
    rows = points[(points["measure"] == "trajectory")]
    return rows[rows["seed"] == results.parameters.seeds[0]]


def shares(way: pd.DataFrame) -> tuple[str, str]:
    """Return the labels of a plane's axes: the shares of the variance that they explain."""
    first = way.iloc[0]
    named = zip(("first", "second"), (first["explained_a"], first["explained_b"]), strict=True)
    one, two = (f"{name} direction, {PERCENT * share:.0f} %" for name, share in named)
    return one, two


def joined(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all tables, those in several of them once."""
    return pd.concat(tables.values()).drop_duplicates(["entry", "arm"])


def compared(results: Results) -> dict[str, pd.DataFrame]:
    """Return the runs of both rates under the names of the lines of a figure."""
    fixed_rate, scaled_rate = lasting(fixed(results)), lasting(scaled(results))
    return {"fixed learning rate": fixed_rate, "scaled learning rate": scaled_rate}


def rates(results: Results) -> pd.DataFrame:
    """Return the runs of the grid; a diverged run has an infinite loss."""
    runs = grid(results)
    loss = runs["validation_loss"].where(runs["stopped"] != "diverged", np.inf)
    return runs.assign(validation_loss=loss)


def diverged_note(runs: pd.DataFrame) -> str:
    """Return how many of some runs diverged and are not drawn, for a caption; nothing if none."""
    gone = int((runs["stopped"] == "diverged").sum())
    return f"{gone} of {len(runs)} runs diverged and are not drawn." if gone else ""


def heat_map(results: Results) -> pd.DataFrame:
    """Return the mean lowest validation loss over seeds [learning rate, batch size]."""
    return rates(results).pivot_table("validation_loss", "base_lr", "batch_size", "mean")


def best_rates(results: Results) -> pd.DataFrame:
    """Return the best rate by batch size, of those run: of each seed, of the mean, the source's."""
    best, run = best_lrs(results), grid(results).groupby("batch_size")["base_lr"].nunique()
    chosen = at_best_rate(results).groupby("batch_size")
    of_mean, test = chosen["base_lr"].first(), chosen["test_loss"]
    table = {
        "rates run": run.map(f"{{}} of {len(results.parameters.lrs)}".format),
        "of each seed": best.agg(lambda column: ", ".join(f"{v:g}" for v in column)),
        "of the mean": of_mean,
        "paper": pd.Series(published.BEST_LR),
        "test loss there": test.agg(_mean),
        "n": test.size(),
    }
    return pd.DataFrame(table).reindex(best.columns).rename_axis("batch size")


def explorer_cells(results: Results) -> pd.DataFrame:
    """Return mean, low, high and n over seeds of what the explorer shows: a row per quantity.

    A cell of which a seed diverged has no mean: that of the others would look like a good rate's.
    """
    runs = grid(results)
    points = results.points
    whole = points[(points["measure"] == "distances") & (points["layer"] == "whole")]
    distance = whole.set_index(["entry", "arm"])["distance"]
    keys = pd.MultiIndex.from_frame(runs[["entry", "arm"]])
    runs = runs.assign(distance=distance.reindex(keys).to_numpy())
    rows = []
    for (batch_size, lr), of_cell in runs.groupby(["batch_size", "base_lr"]):
        gone = of_cell["stopped"] == "diverged"
        whole_cell = of_cell.iloc[:0] if gone.any() else of_cell
        for quantity in ("validation_loss", "distance", SHARPNESS):
            values = whole_cell[quantity].dropna()
            row = {"batch_size": batch_size, "base_lr": lr, "quantity": quantity}
            low, high = values.min(), values.max()
            mean = np.clip(values.mean(), low, high)  # of equal values it may be off by rounding
            numbers = {"mean": mean, "low": low, "high": high}
            rows.append(row | numbers | {"n": len(values), "diverged": int(gone.sum())})
    return pd.DataFrame(rows)


def explorer_curves(results: Results) -> pd.DataFrame:
    """Return the loss curves of all cells: batch_size, base_lr, seed, epoch and both losses."""
    runs = grid(results)[["entry", "arm", "base_lr"]]
    history = results.history.drop(columns="train_loss").merge(runs, on=["entry", "arm"])
    history = history.rename(columns={"running_loss": "train_loss"})
    return history[["batch_size", "base_lr", "seed", "epoch", "train_loss", "validation_loss"]]


def explorer_surfaces(results: Results) -> dict[tuple[int, float], Surface]:
    """Return the surfaces of the grid's cells, first seed."""
    p = results.parameters
    computed = surfaces(results, PLANES[0], p.explorer_points)
    return {(b, lr): surface for (b, lr, seed), surface in computed.items() if seed == p.seeds[0]}


def explorer_note(p: ChangParameters, cells: pd.DataFrame) -> str:
    """Return the caption of the explorer.

    Args:
        p: of the study.
        cells: of `explorer_cells`.
    """
    n = int(cells["n"].max()) if len(cells) else 0
    return (
        f"**Every cell of the grid (n = {n} seed{'s' * (n > 1)}): loss, "
        "distance from the initial weights, sharpness, loss surface.** Map: lowest validation "
        f"loss. Surface: {p.surface_examples:,} training examples, first seed. Bars: range over "
        "seeds."
    )
