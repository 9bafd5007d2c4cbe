"""The interactive twin of the contour maps: loss surfaces to turn, all by one camera."""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from IPython.display import Markdown, display

from bsglib.figures.contours import log10_loss, loss_levels, loss_range, require_one_grid
from bsglib.figures.show import PLOTLY, keep_rows
from bsglib.figures.style import INK, plain
from bsglib.landscape import Surface

CAMERA = {"eye": {"x": 1.1, "y": -1.4, "z": 0.85}, "center": {"x": 0, "y": 0, "z": -0.14}}
PLANE = ("a", "b")
FIGURE_DIGITS = 7  # significant ones of every number: the last of sixteen differ by processor
DIGITS = 5  # significant ones of log10 of a loss: more than one sees, and strict nbval compares all


def surface_figure(
    surfaces: Mapping[str, Surface],
    *,
    axes: tuple[str, str] = PLANE,
    label: str = "loss (nats)",
    range: tuple[float, float] | None = None,
) -> go.Figure:
    """Return loss surfaces in space beside each other, with one camera, grid and range.

    Height and colour are log10 of the loss, their ticks the losses themselves; pointing at a
    surface shows a, b and the loss. Missing points are holes, and a cross stands at the weights
    themselves. The report's page turns all surfaces together, also by keyboard, and stacks them
    where they have no room; in a notebook each turns on its own, from the same first view.

    Args:
        surfaces: name of each panel and its surface, all over one grid. A browser draws about
            sixteen of them in a page at most.
        axes: what the two axes of the plane are, in a few words.
        label: of the colour bar, with its unit.
        range: lowest and highest loss shown; None: `loss_range` of the surfaces.

    Raises:
        ValueError: if there is one surface only, or they are over different grids.
    """
    require_one_grid(list(surfaces.values()), len(surfaces))
    range = loss_range(surfaces.values()) if range is None else range
    low, high = (float(v) for v in np.log10(range))
    levels = loss_levels(range)
    ticks = {
        "tickvals": np.log10(levels).round(6).tolist(),
        "ticktext": [plain(v) for v in levels],
    }
    fig = go.Figure(
        layout={
            "template": "none",
            "height": 430,
            "margin": {"l": 0, "r": 0, "t": 26, "b": 62},
            "font": {"size": 11, "color": INK},
            "paper_bgcolor": "white",
            "showlegend": False,
            "coloraxis": {
                "colorscale": "Cividis",
                "cmin": low,
                "cmax": high,
                "colorbar": {
                    **ticks,
                    "title": {"text": label, "side": "bottom"},
                    "orientation": "h",
                    "y": 0,
                    "yanchor": "top",
                    "ypad": 4,
                    "len": 0.5,
                    "thickness": 9,
                    "outlinewidth": 0,
                },
            },
        }
    )
    for place, (name, surface) in enumerate(surfaces.items()):
        scene = f"scene{place + 1}" if place else "scene"
        left, right = place / len(surfaces), (place + 1) / len(surfaces)
        fig.add_traces([_sheet(name, surface, scene), _weights(name, surface, scene, (low, high))])
        fig.layout[scene] = _scene(surface, axes, ticks, (low, high), (left, right))
        fig.add_annotation(
            name=scene,  # the report's page moves it with its scene
            text=f"{'abcdefgh'[place]}  {name}",
            x=left,
            y=1,
            xref="paper",
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
        )
    return fig


def surface_text(surfaces: Mapping[str, Surface], *, axes: tuple[str, str] = PLANE) -> str:
    """Return in words what the surfaces show, for those who cannot see them.

    Args:
        surfaces: name of each panel and its surface, all over one grid.
        axes: what the two axes of the plane are.
    """
    first = next(iter(surfaces.values()))
    low, high = loss_range(surfaces.values())
    spans = " and ".join(
        f"{name} from {v[0]:g} to {v[-1]:g}"
        for name, v in zip(axes, (first.a, first.b), strict=True)
    )
    parts = [
        f"Loss surfaces of {', '.join(surfaces)}, in space, over {spans}; height and colour are "
        f"the loss on one logarithmic scale from {low:.3g} to {high:.3g}."
    ]
    parts += [f"{name}: {losses_text(surface)}." for name, surface in surfaces.items()]
    return " ".join(parts)


def losses_text(surface: Surface) -> str:
    """Return in words the losses of a surface: in the middle, on the edge, and in all."""
    seen = np.ma.masked_array(surface.loss, np.isnan(log10_loss(surface)))
    centre = surface.loss[len(surface.a) // 2, len(surface.b) // 2]
    rim = np.ma.concatenate([seen[[0, -1], :].ravel(), seen[1:-1, [0, -1]].ravel()])
    edge = f"median {np.ma.median(rim):.3g} on the edge" if rim.count() else "edge missing"
    missing = f", {seen.mask.sum()} points missing" if seen.mask.any() else ""
    return (
        f"{centre:.3g} at the weights themselves, {edge}, "
        f"{seen.min():.3g} to {seen.max():.3g} in all{missing}"
    )


def show(fig: go.Figure, name: str, *, rows: pd.DataFrame, caption: str, alt: str) -> None:
    """Display an interactive figure and its caption, and keep the data.

    Args:
        fig: the figure.
        name: file name without ending, and the figure's anchor in the report.
        rows: the data behind it.
        caption: Markdown, shown under it.
        alt: what the figure shows, as `surface_text` says it; stands in where plotly is missing.
    """
    keep_rows(rows, name)
    metadata = {PLOTLY: {"alt": alt}, "figure": {"name": name}}
    # plotly's renderers do the same, but import nbformat, which takes longer than plotly does
    shown = json.loads(
        fig.to_json(), parse_float=lambda text: float(f"{float(text):.{FIGURE_DIGITS}g}")
    )
    display({PLOTLY: shown, "text/plain": alt}, raw=True, metadata=metadata)
    display(Markdown(caption), metadata={"caption_of": name})


def _sheet(name: str, surface: Surface, scene: str) -> go.Surface:
    """The surface itself, with what pointing at it shows."""
    a, b = surface.a.round(9).tolist(), surface.b.round(9).tolist()
    hover = [
        [f"a = {x:.3g}<br>b = {y:.3g}<br>loss = {plain(v)}" for x, v in zip(a, row, strict=True)]
        for y, row in zip(b, surface.loss.T, strict=True)
    ]
    return go.Surface(
        name=name,
        scene=scene,
        coloraxis="coloraxis",
        x=a,
        y=b,
        z=[[rounded(v) for v in row] for row in log10_loss(surface).T],  # z[b, a], and so is text
        text=np.array(hover),  # of a nested list plotly makes one string per row
        hoverinfo="text",  # plotly indexes customdata as [a, b], the other way round
        connectgaps=False,
        lighting={"ambient": 0.85, "diffuse": 0.3, "specular": 0.03, "roughness": 0.9},
    )


def rounded(value: float) -> float | None:
    """Return a number in as many digits as one sees, None if it is not finite."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def _weights(name: str, surface: Surface, scene: str, heights: tuple[float, float]) -> go.Scatter3d:
    """A cross on the floor and a pole above it, where the weights themselves are."""
    # lines: plotly takes a marker's cross from a font that may lack it, and the walls of a narrow
    # minimum hide a marker at its bottom
    x, y = 0.12 * surface.a[-1], 0.12 * surface.b[-1]
    floor, high = heights[0] + 0.01 * (heights[1] - heights[0]), heights[1]  # not lost in the floor
    loss = surface.loss[len(surface.a) // 2, len(surface.b) // 2]
    return go.Scatter3d(
        name=name,
        scene=scene,
        mode="lines",
        x=[-x, x, None, -x, x, None, 0.0, 0.0],
        y=[-y, y, None, y, -y, None, 0.0, 0.0],
        z=[floor, floor, None, floor, floor, None, floor, high],
        line={"color": INK, "width": 2},
        text=f"the weights themselves<br>loss = {plain(loss)}",
        hoverinfo="text",
    )


def _scene(
    surface: Surface,
    axes: tuple[str, str],
    ticks: dict,
    heights: tuple[float, float],
    place: tuple[float, float],
) -> dict:
    spans = np.ptp(surface.a), np.ptp(surface.b)
    style = {"showbackground": False, "gridcolor": "#d9d7d0", "color": INK, "zeroline": False}
    style |= {"showspikes": False, "tickfont": {"size": 10}}
    sides = [
        {**style, "title": {"text": name}, "range": [float(v[0]), float(v[-1])], "nticks": 5}
        for name, v in zip(axes, (surface.a, surface.b), strict=True)
    ]
    return {
        "domain": {"x": place, "y": (0, 1)},
        "xaxis": sides[0],
        "yaxis": sides[1],
        "zaxis": {**style, **ticks, "title": {"text": "loss"}, "range": heights},
        "aspectmode": "manual",
        "aspectratio": {"x": spans[0] / max(spans), "y": spans[1] / max(spans), "z": 0.75},
        "camera": CAMERA,
        "dragmode": "turntable",
    }
