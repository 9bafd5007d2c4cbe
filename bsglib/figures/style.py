"""How figures look: colours, sizes, panels, marks, ticks and labels."""

from collections.abc import Mapping, Sequence
from functools import partial
from string import ascii_lowercase
from typing import Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Affine2D, Transform

INK, GREY, PAPER = "#1f2328", "#6a737d", "#D55E00"
# Inks on maps, which look the same in both themes; the better one has a contrast of 4.5 anywhere.
PALE, DEEP = "#fefefe", "#010101"
BELOW = {4: "#c48a1c", 8: "#b5a01b", 16: "#94b02a"}  # beyond the light end, for panels of their own
FULL_WIDTH = 7.2  # inches
BAND_SEEDS = 5  # from so many seeds on the band is an interval, below it their range


def use_style() -> None:
    """Set matplotlib's settings for every figure of the reports, whatever a user's file says."""
    mpl.rcdefaults()
    neutral = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    plt.rcParams.update(dict.fromkeys(neutral, INK))
    plt.rcParams.update(
        {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 8.5,
            "axes.titlesize": 8.5,
            "axes.titlelocation": "left",
            "axes.titley": 1.0,  # where it would go anyway: looking for ticks above takes time
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.8,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "lines.markersize": 5,
            "figure.constrained_layout.use": True,
            "figure.dpi": 96,
            "savefig.transparent": True,
            "svg.fonttype": "none",
            "svg.hashsalt": "bsglib",
            "axes.formatter.useoffset": False,
        }
    )


def batch_colour(batch_size: int) -> str:
    """Return the colour of a batch size: light for small, dark for large, on one fixed scale.

    4, 8 and 16, which would be too light for a line on white, have hues of their own instead.
    """
    if batch_size in BELOW:
        return BELOW[batch_size]
    position = 0.2 + 0.8 * np.log2(batch_size / 32) / np.log2(8192 / 32)
    return mpl.colors.to_hex(mpl.colormaps["viridis_r"](float(np.clip(position, 0.05, 1))))


def paper_opacities(n: int) -> list[float]:
    """Return n opacities for curves in the paper's colour, which each theme of a page replaces."""
    return list(np.linspace(0.5, 1, n))


def ink_on(colour: tuple[float, ...]) -> str:
    """Return whichever of PALE and DEEP has the higher contrast (WCAG) on an sRGB colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return DEEP if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.18 else PALE


def panels(rows: int, columns: int, *, height: float, **options) -> tuple[Figure, np.ndarray]:
    """Return a figure of full width with a grid [rows, columns] of axes.

    Args:
        rows: of panels.
        columns: of panels.
        height: of the figure, in inches.
        **options: of `plt.subplots`.
    """
    size = (FULL_WIDTH, height)
    rows, columns = max(rows, 1), max(columns, 1)  # what has nothing to show is empty
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    plt.close(fig)  # shown once, by `show`
    return fig, axes


def title(ax: Axes, words: str) -> None:
    """Set a panel's title: the letter of its place in the figure, and about three words."""
    letter = ascii_lowercase[ax.figure.axes.index(ax)]
    ax.set_title(f"{letter}  {words}", loc="left")


def mark_paper(
    ax: Axes,
    value: float,
    text: str = "paper",
    *,
    below: bool = False,
    side: Literal["left", "right"] = "right",
) -> None:
    """Draw the paper's number as a dotted vermillion line, labelled at an end, above or below."""
    ax.axhline(value, color=PAPER, ls=":", lw=1.2)
    x = 1 if side == "right" else 0.02
    ax.annotate(text, (x, value), xycoords=("axes fraction", "data"), color=PAPER, fontsize=7.5,
                ha=side, va="top" if below else "bottom")  # fmt: skip


def mark_paper_curve(
    ax: Axes,
    stated: Mapping[float, float],
    text: str = "paper",
    *,
    below: bool = False,
    **line: object,
) -> None:
    """Draw the paper's numbers in dotted vermillion, labelled at the last one.

    Args:
        ax: where to draw.
        stated: the numbers, by batch size or what else the x axis shows.
        text: the label; empty: none.
        below: write it below the number, not above.
        **line: what differs from a line with points, as `Axes.plot` takes it.
    """
    if not (sizes := sorted(stated)):
        return
    style = {"ls": ":", "lw": 1.2, "marker": ".", "color": PAPER, "mew": 0.9}
    ax.plot(sizes, [stated[b] for b in sizes], **style | line)
    if text:
        place = {
            "textcoords": "offset points",
            "ha": "center",
            "va": "top" if below else "baseline",
        }
        ax.annotate(text, (sizes[-1], stated[sizes[-1]]), xytext=(0, -4 if below else 4),
                    color=PAPER, fontsize=7.5, **place)  # fmt: skip


def nothing_yet(ax: Axes, words: str = "not computed yet") -> Axes:
    """Say so, where a study's later parts are still to be computed, or something is not here."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", color=GREY)
    ends = ("bottom", "left", "labelbottom", "labelleft")  # ticks may be shared with other axes
    ax.tick_params(which="both", **dict.fromkeys(ends, False))
    return ax


def fixed_ticks(axis, values: Sequence[float]) -> None:
    """Set ticks at some values, plain numbers."""
    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def even_ticks(axis, values: Sequence[float]) -> None:
    """Set five ticks from end to end, the weights themselves in the middle."""
    fixed_ticks(axis, np.linspace(min(values), max(values), 5).round(9))


def plain_log_ticks(axis) -> None:
    """Set the ticks of a logarithmic axis, plain numbers: 1, 2 and 5, more or fewer by room."""
    low, high = axis.get_view_interval()
    subs = (1, 1.5, 2, 3, 5, 7) if high < 6 * low else (1, 2, 5) if high < 500 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def plain(value: float, digits: int = 4) -> str:
    """Return a number in four digits or fewer, without an exponent from 0.0001 to 999900."""
    return f"{float(f'{value:.{digits}g}'):g}"


def pushed_apart(shares: Sequence[float], gap: float) -> list[float]:
    """Return where labels go so that none covers another: up, and back down from the top.

    Args:
        shares: where they belong, as shares of the axes, ascending.
        gap: least distance between two of them.
    """
    shares = list(shares)
    for i in range(1, len(shares)):
        shares[i] = max(shares[i], shares[i - 1] + gap)
    if shares and shares[-1] > 1:
        shares[-1] = 1.0
        for i in range(len(shares) - 2, -1, -1):
            shares[i] = min(shares[i], shares[i + 1] - gap)
    return shares


def label_ends(
    ax: Axes,
    ends: list[tuple[float, float, int]],
    names: Mapping[int, str] | None = None,
    colours: Mapping[int, str] | None = None,
) -> None:
    """Write each batch size behind its line's end, pushed apart where lines end together.

    Labels find their heights when the figure is drawn: limits and layout change until then.

    Args:
        ax: where to write.
        ends: of each line, and its batch size.
        names: what is written instead of a batch size.
        colours: of the names; None: the colours of batch sizes.
    """
    ends = sorted(ends, key=lambda end: end[1])

    def height(place: int, renderer: RendererBase) -> Transform:
        gap = 9 / (ax.get_window_extent().height * 72 / ax.figure.dpi)  # 9 pt, as a share of axes
        to_share = ax.transData + ax.transAxes.inverted()
        shares = pushed_apart([to_share.transform((x, y))[1] for x, y, _ in ends], gap)
        return Affine2D().translate(0, shares[place]) + ax.transAxes

    for place, (_, _, batch_size) in enumerate(ends):
        ax.annotate(
            (names or {}).get(batch_size, f"{batch_size}"), (1.02, 0), va="center",
            xycoords=("axes fraction", partial(height, place)), fontsize=7.5,
            color=colours[batch_size] if colours else batch_colour(batch_size),
            annotation_clip=False,
        )  # fmt: skip
