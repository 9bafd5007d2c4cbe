"""Contour maps of loss surfaces: those compared share grid, range and colour bar."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from bsglib.figures.style import GREY, PALE, even_ticks, ink_on, nothing_yet, panels, plain, title
from bsglib.landscape import Surface

PLANE = ("$a$, first direction", "$b$, second direction")  # what the axes of a surface are


def plot_contours(
    surface: Surface | None,
    ax: Axes,
    *,
    range: tuple[float, float],
    axes: tuple[str, str] = PLANE,
) -> Axes:
    """Draw a surface as a contour map: colours are log10 of the loss, lines are labelled losses.

    A cross stands at the weights themselves. What has a missing point as a corner is hatched, not
    filled. A colour bar takes `ax.collections[0]`; `contour_panels` draws one for all.

    Args:
        surface: over a plane; None while it is not computed.
        ax: where to draw.
        range: the lowest and highest loss of the colours: `loss_range` of all surfaces shown.
        axes: what the two axes are; the seeds of the directions belong here or in the caption.

    Returns:
        the axes.

    Raises:
        ValueError: if the surface is a curve along one direction.
    """
    if surface is None:
        return nothing_yet(ax)
    if surface.b is None:
        raise ValueError("surface: a curve along one direction; `plot_line_band` draws these")
    low, high = np.log10(range)
    z = np.ma.masked_invalid(log10_loss(surface).T)  # [b, a], as contour takes it
    beyond = "both" if z.min() < low - 1e-6 or z.max() > high + 1e-6 else "neither"
    fill = {"levels": np.linspace(low - 1e-6, high + 1e-6, 25), "vmin": low, "vmax": high}
    filled = ax.contourf(
        surface.a, surface.b, z, extend=beyond, corner_mask=False, cmap="cividis", **fill
    )
    filled.set(edgecolor="face", linewidth=0.3)  # else an SVG shows seams between the colours
    levels = [v for v in np.log10(loss_levels(range)) if z.min() < v < z.max()]
    if levels:
        colours = {plain(10**level): filled.cmap(filled.norm(level)) for level in levels}
        lines = ax.contour(
            surface.a, surface.b, z, levels, corner_mask=False, linewidths=0.6,
            colors=[ink_on(colour) for colour in colours.values()], linestyles="solid",
        )  # fmt: skip
        words = dict(zip(levels, colours, strict=True))
        for text in ax.clabel(lines, fmt=words, fontsize=6.5, inline_spacing=2):
            # On the colour of its level: on that of a band beside it the ink may be too faint.
            text.set_bbox({"facecolor": colours[text.get_text()], "edgecolor": "none", "pad": 0.3})
    if z.mask.any():
        ax.patch.set(facecolor="none", edgecolor=GREY, linewidth=0)
        ax.patch.set(hatch="/////", hatch_linewidth=0.5)
    ax.plot(0, 0, "x", color=PALE, ms=6, mew=1.6, zorder=3)
    ax.set_aspect("equal")
    even_ticks(ax.xaxis, surface.a)
    even_ticks(ax.yaxis, surface.b)
    ax.set(xlabel=axes[0], ylabel=axes[1])
    ax.spines[:].set(visible=True, zorder=0)  # the edge of the map, seen against the page
    return ax


def contour_panels(
    surfaces: Mapping[str, Surface | None],
    *,
    axes: tuple[str, str] = PLANE,
    label: str = "loss (nats)",
    columns: int = 2,
    coarse: Collection[str] = (),
) -> Figure:
    """Return a figure of contour maps with one range and one colour bar.

    Args:
        surfaces: name of each panel and its surface, all over one grid; None while it is not
            computed. Two networks side by side fill a row, so a row is a pair of directions.
        axes: what the axes of all panels are.
        label: of the colour bar, with its unit.
        columns: panels in a row.
        coarse: panels over another, coarser grid, whose points are drawn.

    Raises:
        ValueError: if there is one surface only, or others than the coarse ones have different
            grids.
    """
    known = [surface for surface in surfaces.values() if surface is not None]
    of_one_grid = [s for name, s in surfaces.items() if s is not None and name not in coarse]
    require_one_grid(of_one_grid, len(surfaces))
    rows = -(-len(surfaces) // columns)
    fig, grid = panels(rows, columns, height=0.9 + 2.9 * rows, sharex=True, sharey=True)
    range = loss_range(known) if known else (1.0, 10.0)
    for place, (name, surface) in enumerate(surfaces.items()):
        plot_contours(surface, grid.flat[place], range=range, axes=axes)
        if name in coarse and surface is not None:
            points = np.meshgrid(surface.a, surface.b)
            grid.flat[place].plot(*points, ".", color=PALE, mec="none", ms=3, clip_on=False)
        title(grid.flat[place], name)
    for ax in grid.flat[len(surfaces) :]:
        ax.set_visible(False)
    for ax in grid.flat:
        ax.label_outer()
    maps = [ax.collections[0] for ax in grid.flat if ax.collections]
    if maps:
        missing = any(np.isnan(log10_loss(surface)).any() for surface in known)
        bar = fig.colorbar(maps[0], ax=grid, location="bottom", shrink=0.5, aspect=40, pad=0.02)
        _loss_ticks(bar, range)
        bar.set_label(f"{label}; hatched: missing" if missing else label)
    return fig


def require_one_grid(surfaces: Sequence[Surface], panels: int) -> None:
    """Refuse a comparison whose panels are not one grid, and a surface without its partner.

    Args:
        surfaces: those of the panels that are computed.
        panels: their number, with those still to be computed.

    Raises:
        ValueError: if there is one panel only, a surface is a curve, or the grids differ.
    """
    if panels < 2:
        raise ValueError("surfaces: a surface is shown beside another one, on the same scale")
    if any(surface.b is None for surface in surfaces):
        raise ValueError("surfaces: one is a curve; `plot_line_band` draws these")
    for name in "ab":
        grids = [getattr(surface, name) for surface in surfaces]
        if any(len(g) != len(grids[0]) or not np.allclose(g, grids[0]) for g in grids):
            raise ValueError(f"surfaces: their {name} differ; compared is over one grid")


def surface_rows(surfaces: Mapping, names: Sequence[str]) -> pd.DataFrame:
    """Return the points of surfaces or curves as rows.

    Args:
        surfaces: a `Surface` for each key, which is a tuple if there is more than one name.
        names: of the columns that hold the parts of the keys.

    Returns:
        columns of those names, then a, b (of planes only) and loss, a row per point.
    """
    if not surfaces:
        return pd.DataFrame(columns=[*names, "a", "b", "loss"])
    tables = {}
    for key, surface in surfaces.items():
        axes = {"a": surface.a} if surface.b is None else {"a": surface.a, "b": surface.b}
        points = pd.MultiIndex.from_product(axes.values(), names=axes)
        tables[key] = pd.DataFrame({"loss": surface.loss.ravel()}, index=points)
    return pd.concat(tables, names=[*names]).reset_index()


def log10_loss(surface: Surface) -> np.ndarray:
    """Return log10 of a surface's losses, NaN where one is missing, infinite or not above 0."""
    drawn = np.isfinite(surface.loss) & (surface.loss > 0)
    return np.log10(surface.loss, where=drawn, out=np.full(surface.loss.shape, np.nan))


def loss_range(surfaces: Iterable[Surface]) -> tuple[float, float]:
    """Return the lowest and highest loss of several surfaces, the range that their figures share.

    Missing points do not count. Where all losses are equal the range is 10 % around them.

    Args:
        surfaces: those shown beside each other.

    Raises:
        ValueError: if no point of any surface has a loss that can be drawn.
    """
    logs = np.concatenate([log10_loss(surface).ravel() for surface in surfaces] or [[np.nan]])
    if np.isnan(logs).all():
        raise ValueError("surfaces: no point has a finite loss above 0")
    low, high = 10.0 ** np.nanmin(logs), 10.0 ** np.nanmax(logs)
    return (low, high) if high > 1.001 * low else (low / 1.1, high * 1.1)


def loss_levels(range: tuple[float, float]) -> list[float]:
    """Return round losses within a range: the contour lines, and the ticks of colour bars.

    Args:
        range: the lowest and highest loss, both above 0.

    Returns:
        1, 2 and 5 times powers of ten; the powers alone over many decades; other round numbers
        where the range is narrow.
    """
    low, high = range
    for subs in ((1, 2, 5), (1, 3), (1,)):
        levels = [v for v in LogLocator(subs=subs, numticks=99).tick_values(low, high)
                  if low <= v <= high]  # fmt: skip
        if len(levels) <= 9:
            break
    if len(levels) < 3:
        levels = [v for v in MaxNLocator(5).tick_values(low, high) if low <= v <= high]
    return [float(f"{v:.6g}") for v in levels]


def _loss_ticks(bar, range: tuple[float, float]) -> None:
    """Label a colour bar of log10 losses with the losses themselves."""
    levels = loss_levels(range)
    bar.set_ticks(np.log10(levels), labels=[plain(level) for level in levels])
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
