"""The second reading of Chang & Pathak: what their code does where the paper does not say it."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bsglib.landscape import Surface
from bsglib.stats import interval
from bsglib.studies.chang import confirmatory, derived, published
from bsglib.studies.chang.protocol import FIXED, PLANES, SHARPNESS, ChangParameters
from bsglib.studies.chang.tables import RUNS, runs_at, surfaces
from bsglib.studies.comparing import last_over_first, seconds
from bsglib.studies.confirmatory import AUTHORS
from bsglib.studies.study import Results
from bsglib.studies.tables import of_common_seeds, per_seed, rows_table
from bsglib.verdicts import Rule, interval_text, number_text

WRITTEN, RUN = "ours, as written", "ours, as run"
LOWEST, WHOLE = "to the lowest loss", "whole run"


def set_ups(p: ChangParameters) -> pd.DataFrame:
    """Return what the paper says, what its code does, and what this profile does."""
    solver = f"L-BFGS-B, {p.max_iter} iterations, the largest loss found"
    size = published.SURFACE_POINTS
    orders = "new in every epoch" + ("; one order as well" if p.confirm else "")
    rows = {
        "order of the examples": ("not stated", "one order for all epochs", orders),
        "sharpness": (
            "largest loss in a box of half-width 0.001",
            "half-width 0.01 unless given; gradient summed over batches; one step of line search; "
            "the loss where the solver stops",
            solver,
        ),
        "points of a surface": (
            "not stated",
            f"{size} x {size}",
            f"{p.surface_points} x {p.surface_points}",
        ),
        "times": ("until the validation loss converged", "see the table of times", "both"),
    }
    heads = "the paper", "its code", "here"
    return rows_table({k: dict(zip(heads, v, strict=True)) for k, v in rows.items()}, "set-up")


# ------------------------------------------------------------- times


def times(results: Results) -> pd.DataFrame:
    """Return epochs, seconds per epoch and their product at the smallest batch size.

    The paper's two totals, each with the epochs that it belongs to by the printed log, and with
    the seconds per epoch that follow; ours as medians over seeds. The paper gives one value for
    the seconds per epoch.
    """
    size = results.parameters.smallest
    rows = {}
    if size in published.LOGGED_EPOCHS:
        stated = published.SECONDS_PER_EPOCH[size]
        for words, (epochs, total) in _totals(size).items():
            rows[f"paper, {words}"] = {
                "epochs": f"{epochs}",
                "seconds per epoch": f"{stated:g}",
                "product (s)": f"{epochs * stated:,.0f}",
                "stated (s)": f"{total:,}",
                "seconds per epoch that follow": f"{total / epochs:.2f}",
            }
    runs = runs_at(results, FIXED).query("batch_size == @size")
    per_epoch = seconds(results, processes=1)
    for words, column in ((LOWEST, "kept_epoch"), (WHOLE, "epochs")):
        epochs = runs[column].median()
        row = {"epochs": "-" if np.isnan(epochs) else f"{epochs:.0f}"}
        if len(per_epoch) and size in per_epoch:
            one = float(per_epoch[size].median())
            row["seconds per epoch"] = number_text(one)
            row["product (s)"] = number_text(epochs * one)
        rows[f"ours, {words}"] = row
    return rows_table(rows, f"B = {size}").fillna("-")


def _totals(size: int) -> dict[str, tuple[int, int]]:
    """The paper's totals and the epochs they may belong to: by the log, and as printed."""
    to_best, to_end = published.LOGGED_EPOCHS[size]
    lowest, whole = published.TOTAL_SECONDS[size], published.SCALED_TOTAL_SECONDS[size]
    return {
        f"{LOWEST}, by the log": (to_best, lowest),
        f"{WHOLE}, by the log": (to_end, whole),
        f"{LOWEST}, as printed": (published.EPOCHS[size], lowest),
    }


def _times() -> str:
    """Which epochs the two totals at the smallest batch size belong to."""
    (size,) = published.LOGGED_EPOCHS
    stated = published.SECONDS_PER_EPOCH[size]
    fits = {
        f"{total:,} s in {epochs} epochs ({words})": round(total / epochs, 1) == stated
        for words, (epochs, total) in _totals(size).items()
    }
    found = [words for words, fit in fits.items() if fit]
    missed = [words for words, fit in fits.items() if not fit]
    said = f"At B = {size} an epoch of {stated:g} s fits {' and '.join(found) or 'no total'}"
    return f"{said}; it does not fit {' or '.join(missed)}." if missed else f"{said}."


# ------------------------------------------------------------- order and sharpness


def readings(results: Results) -> pd.DataFrame:
    """Return largest over smallest batch under both readings, a row per quantity.

    As written every epoch has a new order; as run one order serves all epochs. Sharpness is
    compared by the definition, and as the authors' code computes it.
    """
    orders = {WRITTEN: derived.fixed(results), RUN: one_order(results)}
    stated = published.compared()
    columns = {
        "lowest validation loss": ("validation_loss", stated["validation"].ratio),
        "epochs to the lowest validation loss": ("kept_epoch", stated["epochs"].ratio),
        "distance from the initial weights": ("distance", None),
        "sharpness": (SHARPNESS, None),
    }
    rows = {
        f"{words}: new order, one order": {h: _ratio_text(of, column) for h, of in orders.items()}
        | ({} if paper is None else {"paper": f"{paper:g}"})
        for words, (column, paper) in columns.items()
    }
    by_code = {WRITTEN: SHARPNESS, RUN: AUTHORS}
    solved = {head: _ratio_text(orders[WRITTEN], column) for head, column in by_code.items()}
    rows["sharpness: by the definition, by the code"] = solved
    return rows_table(rows, "largest B / smallest").fillna("-")


def one_order(results: Results) -> pd.DataFrame:
    """Return the runs with one order of the examples for all epochs."""
    return of_common_seeds(results.of(confirmatory.AS_RUN), "batch_size")


def _ratio_text(runs: pd.DataFrame, column: str) -> str:
    """Return the largest over the smallest batch with its interval; "-" without two of them."""
    if column not in runs or runs["batch_size"].nunique() < 2:
        return "-"
    values = last_over_first(per_seed(runs[runs["stopped"] != "diverged"], column)).dropna()
    if values.empty or not (np.isfinite(values) & (values > 0)).all():
        return "-"
    if len(values) == 1:
        return number_text(values.iloc[0])
    return interval_text(interval(tuple(values), ratios=True), Rule("above", 2, ratios=True))


def sharpness(results: Results) -> pd.DataFrame:
    """Return sharpness by batch size and rate: by the definition and as the authors' code does."""
    words = {SHARPNESS: "by the definition", AUTHORS: "as their code computes it"}
    tables = []
    for rate in RUNS:
        runs = runs_at(results, rate).groupby("batch_size")
        for column, head in words.items():
            found = runs[column].mean().map(number_text) if column in runs.obj else None
            tables.append(pd.Series(found, dtype=object).rename(f"{rate}: {head}"))
    table = pd.concat(tables, axis=1)
    ranges = published.SCALED_SHARPNESS.items()
    stated = {b: f"{low:g}" if low == high else f"{low:g} to {high:g}" for b, (low, high) in ranges}
    table["paper, scaled lr"] = pd.Series(stated, dtype=object)
    shown = table.loc[sorted(results.parameters.batch_sizes)] if len(table) else table
    return shown.fillna("-").rename_axis("batch size, means over seeds")


# ------------------------------------------------------------- surfaces


def sampled(results: Results) -> dict[str, Surface | None]:
    """Return the surfaces of the smallest and the largest batch, and each on the authors' grid.

    Of the first plane and the first seed, by the name of a panel. The authors' grid has every k-th
    point of ours; of our grids the finest for which this holds is taken.
    """
    p, found = results.parameters, {}
    points, computed = _finest(results)
    for size in (p.smallest, p.largest):
        surface = computed.get((size, p.lr, p.seeds[0]))
        found[panel(size, points)] = surface
        found[panel(size, published.SURFACE_POINTS)] = None if surface is None else coarse(surface)
    return found


def panel(batch_size: int, points: int) -> str:
    """Return the name of a panel."""
    return f"B = {batch_size}, {points} x {points} points"


def _finest(results: Results) -> tuple[int, dict[tuple, Surface]]:
    p = results.parameters
    own = sorted({p.surface_points, p.explorer_points}, reverse=True)
    fit = [n for n in own if (n - 1) % (published.SURFACE_POINTS - 1) == 0 < n - 1]
    for points in fit:
        if computed := surfaces(results, PLANES[0], points):
            return points, computed
    return (fit or own)[0], {}


def coarse(surface: Surface) -> Surface:
    """Return a surface on the authors' grid: every k-th point of each direction."""
    step = (len(surface.a) - 1) // (published.SURFACE_POINTS - 1)
    a, b = surface.a[::step], surface.b[::step]
    return Surface(a, b, surface.loss[::step, ::step], surface.n, surface.cosine)


def steepest(surface: Surface) -> float:
    """Return the largest ratio between the losses at two neighbouring points."""
    logs = np.log(np.where(surface.loss > 0, surface.loss, np.nan))
    return float(np.exp(max(np.nanmax(np.abs(np.diff(logs, axis=axis))) for axis in (0, 1))))


def lowest(surface: Surface) -> tuple[float, float, float]:
    """Return the place and the value of the lowest loss: a, b, loss."""
    i, j = np.unravel_index(np.nanargmin(surface.loss), surface.loss.shape)
    return float(surface.a[i]), float(surface.b[j]), float(surface.loss[i, j])


def _surfaces(results: Results) -> str:
    """What the authors' grid does not show."""
    p, found = results.parameters, []
    points, _ = _finest(results)
    panels = sampled(results)
    for size in (p.smallest, p.largest):
        fine, few = (panels[panel(size, n)] for n in (points, published.SURFACE_POINTS))
        if fine is None or few is None:
            continue
        factors = [number_text(steepest(surface)) for surface in (few, fine)]
        (a, b, loss), (_, _, seen) = lowest(fine), lowest(few)
        place = "at the minimizer" if a == b == 0 else f"at ({a:.2g}, {b:.2g})"
        below = f"{loss:.3g} for {seen:.3g} nats" if loss < seen else f"the same, {loss:.3g} nats"
        found.append(
            f"at B = {size} neighbouring points differ by a factor of up to {factors[0]} "
            f"({factors[1]} on ours), and the lowest loss is {below} ({place} on ours)"
        )
    if not found:
        return "The surfaces are not computed here."
    size = published.SURFACE_POINTS
    return f"On a grid of {size} x {size} points, " + "; ".join(found) + "."


# ------------------------------------------------------------- what is seen


def explained(results: Results) -> str:
    """Return sentences on what the second reading explains, as a list in Markdown."""
    parts: tuple[Callable[[Results], str], ...] = (_orders, _solver, _surfaces)
    sentences = [_times(), *(part(results) for part in parts)]
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _orders(results: Results) -> str:
    if one_order(results).empty:
        return "No run here has one order of the examples for all epochs."
    rows = readings(results)
    rows = rows[rows[RUN] != "-"]
    said = [
        f"{words.partition(':')[0]} {row[WRITTEN]} and {row[RUN]}" for words, row in rows.iterrows()
    ]
    return "Largest B over smallest, new order and one order: " + "; ".join(said) + "."


def _solver(results: Results) -> str:
    runs = derived.fixed(results)
    if AUTHORS not in runs or runs[AUTHORS].isna().all():
        return "Sharpness was not measured as the authors' code computes it here."
    share = (runs[AUTHORS] / runs[SHARPNESS]).replace([np.inf, -np.inf], np.nan).dropna()
    return (
        "The authors' solver finds between "
        f"{number_text(share.min())} and {number_text(share.max())} of the sharpness by the "
        f"definition; largest B over smallest: {_ratio_text(runs, AUTHORS)} for "
        f"{_ratio_text(runs, SHARPNESS)}."
    )
