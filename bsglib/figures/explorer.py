"""The explorer: a reader chooses a batch size and a learning rate, and sees that cell whole.

A cell puts out its numbers as JSON and as a table. The report's page draws the one, with the script
in templates/report/explorer.js, and folds the other; where no script runs, the table is what shows.
"""

import html
import json
from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from bsglib.figures.contours import (
    log10_loss,
    loss_levels,
    loss_range,
    require_one_grid,
    surface_rows,
)
from bsglib.figures.show import keep_rows
from bsglib.figures.style import batch_colour, plain, pushed_apart
from bsglib.figures.surface3d import losses_text, rounded
from bsglib.landscape import Surface

Cell = tuple[int, float]  # batch size, learning rate
CELL = ["batch_size", "base_lr"]
QUANTITIES = {  # in words, and the unit
    "validation_loss": ("validation loss", "nats"),
    "distance": ("distance from the initial weights", ""),
    "keskar_sharpness": ("sharpness", "%"),
}
CHOSEN_BY, MEASURED = "validation_loss", ("distance", "keskar_sharpness")
PARTS = {"train_loss": "training loss (nats)", "validation_loss": "validation loss (nats)"}
EPOCHS = 48  # of a curve that are drawn, evenly spaced on its logarithmic axis
GAP = 0.075  # between two labels, as a share of a panel's height
RAMP = [mpl.colors.to_hex(c) for c in mpl.colormaps["cividis"](np.linspace(0, 1, 32))]
PALE = 0.47  # of the ramp: below it white text has more contrast than black


def show(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    surfaces: Mapping[Cell, Surface],
    name: str,
    *,
    caption: str,
) -> None:
    """Display the explorer and its caption, and keep the data as three tables.

    The reader chooses on a map of the validation loss; curves, points and the surface of the cell
    then stand out, on axes that all cells share. Marks are means, bars what `low` and `high` say;
    in the curves thin lines are seeds, and a seed whose last loss is not finite has no part in
    their mean nor in their axis. All axes but the surface's plane are logarithmic, so a number
    that is not above 0 is told in words and in the table, and not drawn.

    Args:
        cells: a row for each batch_size, base_lr and quantity of `QUANTITIES`, with mean, low, high
            and n over the seeds that did not diverge (n = 0: none, or not measured), and diverged,
            the number of those that did. Without rows it says that nothing is computed yet.
        curves: rows with batch_size, base_lr, seed, epoch (from 1), train_loss, validation_loss.
        surfaces: of the cells by (batch_size, base_lr), all over one grid; cells may lack theirs.
        name: file name without ending, and the element's anchor in the report.
        caption: Markdown, shown under it.

    Raises:
        ValueError: if columns are missing, a row is there twice or out of range, a quantity is
            unknown, or curves or surfaces are of a cell that has no row.
    """  # noqa: DOC502 the checks raise it
    _check_rows("cells", cells, [*CELL, "quantity"], ["mean", "low", "high", "n", "diverged"])
    _check_rows("curves", curves, [*CELL, "seed", "epoch"], list(PARTS))
    _check_cells(cells, curves, surfaces)
    tables = {"curves": curves}
    if surfaces:
        tables["surfaces"] = surface_rows(surfaces, CELL)
    for part, rows in tables.items():
        keep_rows(rows, f"{name}-{part}")
    keep_rows(cells, name)
    data = _data(cells, curves, surfaces) if len(cells) else None
    shown = {"text/html": _element(data), "text/plain": _summary(data)}
    files = {f"{part} (CSV)": f"{name}-{part}.csv" for part in tables}
    display(shown, raw=True, metadata={"table": {"name": name, "files": files}})
    display(Markdown(caption), metadata={"caption_of": name})


def _data(cells: pd.DataFrame, curves: pd.DataFrame, surfaces: Mapping[Cell, Surface]) -> dict:
    """What the page's script draws: every cell's numbers and words, and the axes they share."""
    surfaces = {k: s for k, s in surfaces.items() if not np.isnan(log10_loss(s)).all()}
    curves = _with_finite(curves[curves["epoch"] >= 1])
    sizes, rates = (sorted(set(cells[column].tolist())) for column in CELL)
    by_cell = {key: rows.set_index("quantity") for key, rows in cells.groupby(CELL)}
    lines = {key: _curves(rows) for key, rows in curves.groupby(CELL)}
    grid = [
        _cell(key, by_cell[key], lines.get(key), surfaces.get(key))
        for key in ((b, lr) for lr in rates for b in sizes)
        if key in by_cell
    ]
    known = [n for n, cell in enumerate(grid) if cell["values"][CHOSEN_BY]]
    _shade([grid[n] for n in known])
    return {
        "sizes": sizes,
        "rates": rates,
        "start": min(known, key=lambda n: grid[n]["values"][CHOSEN_BY][0], default=0),
        "cells": grid,
        "epochs": _epoch_axis(curves["epoch"]),
        "losses": _axis(curves.loc[curves["finite"], list(PARTS)].to_numpy().ravel()),
        "parts": PARTS,
        "base_lr": _axis(rates, ticks=rates),
        "measures": {name: _measure(name, grid) for name in MEASURED},
        "plane": _plane(surfaces),
    }


def _cell(key: Cell, rows: pd.DataFrame, lines: dict | None, surface: Surface | None) -> dict:
    """One cell: its numbers, and in words what each of its panels shows."""
    values, said = {}, {}
    for name, (words, _) in QUANTITIES.items():
        known = name in rows.index and rows.at[name, "n"] > 0
        values[name] = None
        said[name] = f"{words} not measured"
        if known:
            values[name] = [rounded(rows.at[name, part]) for part in ("mean", "low", "high")]
            said[name] = f"{words} {_spread(name, rows)}"
    diverged, seeds = int(rows["diverged"].max()), rows["n"][rows["n"] > 0]
    failed = not len(seeds) and diverged > 0
    none = "none: its training diverged" if failed else "not computed"
    n = f"n = {_seeds(seeds)}" + (f", and {diverged} diverged" if diverged else "")
    told = f"n = 0: {_seeds([diverged])} diverged" if failed else "; ".join(
        [", ".join(said.values()), n if len(seeds) else "not computed yet"]
    )  # fmt: skip
    return {
        "batch_size": key[0],
        "base_lr": key[1],
        "colour": batch_colour(key[0]),
        "name": f"B = {key[0]}, learning rate {plain(key[1])}",
        "words": told,
        "diverged": failed,
        "values": values,
        "said": {name: said[name] for name in MEASURED}
        | {part: _course(lines[part]["mean"]) if lines else none for part in PARTS}
        | {"surface": losses_text(surface) if surface else none},
        "curves": lines,
        "surface": surface and [[rounded(v) for v in row] for row in log10_loss(surface).T],
    }


def _spread(name: str, rows: pd.DataFrame) -> str:
    """A quantity with its range over seeds, if there are several, and its unit."""
    mean, low, high = (plain(rows.at[name, part], 3) for part in ("mean", "low", "high"))
    spread = f" [{low}, {high}]" if rows.at[name, "n"] > 1 else ""
    return f"{mean}{spread} {QUANTITIES[name][1]}".strip()


def _seeds(counts: Sequence[int]) -> str:
    low, high = (int(f(counts)) for f in (min, max)) if len(counts) else (0, 0)
    return (f"{low} to {high}" if low < high else f"{high}") + (" seeds" if high != 1 else " seed")


def _course(losses: list[float | None]) -> str:
    known = [v for v in losses if v is not None]
    return f"from {plain(known[0], 3)} to {plain(known[-1], 3)}" if known else "no finite loss"


def _with_finite(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves in order, each with whether its last losses are finite."""
    curves = curves.sort_values("epoch", kind="stable")
    finite = np.isfinite(curves[list(PARTS)].astype(float)).all(axis=1)
    of_seed = finite.groupby([curves[name] for name in (*CELL, "seed")])
    return curves.assign(finite=of_seed.transform("last") if len(curves) else finite)


def _curves(rows: pd.DataFrame) -> dict:
    """A cell's curves at a few of their epochs: every seed, and the mean of the finite ones."""
    finite = rows.loc[rows["finite"], "seed"].unique()
    rows = rows.dropna(subset=list(PARTS), how="all")  # epochs without an evaluation
    epochs, drawn = rows["epoch"].unique(), {"epoch": []}
    if len(epochs):
        wanted = np.geomspace(epochs[0], epochs[-1], EPOCHS)
        nearest = epochs[np.abs(epochs[:, None] - wanted).argmin(axis=0)]
        drawn["epoch"] = sorted({*nearest.tolist(), *rows.groupby("seed")["epoch"].max().tolist()})
    for part in PARTS:
        table = rows.pivot(index="epoch", columns="seed", values=part).loc[drawn["epoch"]]
        mean = table[finite].mean(axis=1, skipna=False)  # only as far as all of them go
        seeds = [[rounded(v) for v in table[seed]] for seed in table]
        drawn[part] = {"mean": [rounded(v) for v in mean], "seeds": seeds}
    return drawn


def _shade(cells: list[dict]) -> None:
    """Give each cell the colour of its validation loss on the map, and that of the text on it."""
    logs = np.log10([max(cell["values"][CHOSEN_BY][0], 1e-12) for cell in cells] or [0.0])
    places = (logs - logs.min()) / (np.ptp(logs) or 1.0)
    for cell, place in zip(cells, places, strict=False):
        cell["shade"] = [RAMP[round(place * (len(RAMP) - 1))], "#fff" if place < PALE else "#000"]


def _measure(name: str, cells: list[dict]) -> dict:
    """A panel of one quantity against the learning rate: its axis, and where each line ends."""
    words, unit = QUANTITIES[name]
    known = [cell for cell in cells if cell["values"][name]]
    axis = _axis(v for cell in known for v in cell["values"][name])
    last = {c["batch_size"]: c for c in known if c["values"][name][0] > 0}  # rates ascend
    labels = []
    if axis:
        low, high = np.log(axis["range"])
        ends = sorted(last.values(), key=lambda cell: cell["values"][name][0])
        shares = [(np.log(c["values"][name][0]) - low) / (high - low) for c in ends]
        labels = [
            {"text": cell["batch_size"], "colour": cell["colour"], "share": round(share, 3)}
            for cell, share in zip(ends, pushed_apart(shares, GAP), strict=True)
        ]
    return {"title": f"{words} ({unit})" if unit else words, "axis": axis, "labels": labels}


def _epoch_axis(epochs: pd.Series) -> dict | None:
    last = max(epochs, default=0)
    powers = [2**k for k in range(int(np.log2(last)) + 1)] if last else []
    return _axis([1, max(last, 2)], ticks=powers[:: 1 + len(powers) // 7]) if last else None


def _axis(values: Iterable[float | None], ticks: Sequence[float] = ()) -> dict | None:
    """A logarithmic axis through all numbers above 0: its ends and ticks; None if there is none."""
    known = [v for v in values if v is not None and 0 < v < np.inf]
    if not known:
        return None
    low, high = min(known), max(known)
    if high <= 1.001 * low:
        low, high = low / 1.1, high * 1.1
    edge = (high / low) ** 0.05
    ticks = ticks or loss_levels((low, high))
    return {"range": [rounded(low / edge), rounded(high * edge)],
            "ticks": [[v, plain(v)] for v in ticks]}  # fmt: skip


def _plane(surfaces: Mapping[Cell, Surface]) -> dict | None:
    """What all surfaces share: the grid, the range of log10 loss, its ticks and colours."""
    if not surfaces:
        return None
    first, range = next(iter(surfaces.values())), loss_range(surfaces.values())
    return {
        "a": [rounded(v) for v in first.a],
        "b": [rounded(v) for v in first.b],
        "range": [rounded(v) for v in np.log10(range)],
        "ticks": [[rounded(np.log10(v)), plain(v)] for v in loss_levels(range)],
        "ramp": RAMP,
    }


def _summary(data: dict | None) -> str:
    """What the element is and which cell does best, for those who do not see it."""
    if data is None:
        return "Explorer: not computed yet."
    sizes, rates = (", ".join(map(plain, data[name])) for name in ("sizes", "rates"))
    best = data["cells"][data["start"]]
    lowest = f" The lowest validation loss has {best['name']}: {best['words']}."
    return (
        f"Explorer of {len(data['cells'])} cells, batch sizes {sizes} by learning rates {rates}."
        f"{lowest if best['values'][CHOSEN_BY] else ''}"
    )


def _element(data: dict | None) -> str:
    if data is None:
        return "<p>Explorer: not computed yet.</p>"
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", r"<\/")
    rows = [
        {"batch size": c["batch_size"], "learning rate": plain(c["base_lr"]), "result": c["words"],
         "loss surface": c["said"]["surface"]}
        for c in data["cells"]
    ]  # fmt: skip
    table = pd.DataFrame(rows).to_html(index=False, border=0, classes="bsg text")
    return (
        f'<div class="explorer" role="group" aria-label="{html.escape(_summary(data))}">'
        f'<script type="application/json">{text}</script>\n<details open><summary>All cells as a '
        f"table</summary>\n{table}</details></div>"
    )


def _check_rows(what: str, rows: pd.DataFrame, keys: list[str], values: list[str]) -> None:
    needed = keys + values
    if missing := [repr(column) for column in needed if column not in rows]:
        raise ValueError(f"{what}: without {', '.join(missing)}; needed are {', '.join(needed)}")
    for key in CELL:
        if len(bad := rows.loc[~(rows[key] > 0), key]):
            raise ValueError(f"{what}: {key} = {bad.iloc[0]}; allowed is what is above 0")
    if (twice := rows.duplicated(keys)).any():
        row = rows.loc[twice, keys].iloc[0].to_dict()
        raise ValueError(f"{what}: {row} is there twice; allowed is one row each")


def _check_cells(
    cells: pd.DataFrame, curves: pd.DataFrame, surfaces: Mapping[Cell, Surface]
) -> None:
    for name in cells["quantity"].unique():
        if name not in QUANTITIES:
            raise ValueError(f"cells: quantity {name!r}; allowed: {', '.join(QUANTITIES)}")
    seen = cells[cells["n"] > 0]
    ordered = (seen["low"] <= seen["mean"]) & (seen["mean"] <= seen["high"])
    if len(bad := seen[~(ordered & np.isfinite(seen["mean"].astype(float)))]):
        row = bad.iloc[0].to_dict()
        raise ValueError(f"cells: {row}; allowed where n > 0 is low <= mean <= high, mean finite")
    known = set(cells[CELL].itertuples(index=False, name=None))
    drawn = set(curves[CELL].itertuples(index=False, name=None))
    for what, keys in {"curves": drawn, "surfaces": set(surfaces)}.items():
        if strangers := sorted(keys - known):
            raise ValueError(
                f"{what}: cell (batch_size, base_lr) = {strangers[0]}, which has no row in cells; "
                f"those with one: {', '.join(map(str, sorted(known)))}"
            )
    require_one_grid([*surfaces.values()], 2)
