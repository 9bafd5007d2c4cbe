"""One function per kind of figure: each draws tidy rows on the axes it is given."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bsglib.figures.style import (
    BAND_SEEDS,
    GREY,
    INK,
    PAPER,
    batch_colour,
    even_ticks,
    fixed_ticks,
    ink_on,
    label_ends,
    mark_paper_curve,
    nothing_yet,
    panels,
    paper_opacities,
    plain_log_ticks,
    title,
)
from bsglib.gradients import expected_norm
from bsglib.stats import PERCENT, censored_median, interval

TRAIN_AND_TEST = {"train_loss": "train", "test_loss": "test"}
TRAIN_AND_VALIDATION = {"train_loss": "train", "validation_loss": "validation"}
MARKERS = "os^P"  # of lines in one panel, so that ink is not all that tells them apart
DASHES = ((), (6, 1.5), (2, 1.2), (6, 1.5, 1.5, 1.5))


def plot_curves(
    history: pd.DataFrame, ax: Axes, *, column: str, label: str, log: bool = True
) -> Axes:
    """Draw a column of the history against epochs, one line per batch size, and label its end.

    Faint lines are seeds, the full line their mean, the band their range (a 95 % interval of the
    mean from five seeds on). A run that diverged ends in a cross.

    Args:
        history: rows with batch_size, seed, epoch, running_loss and the column.
        ax: where to draw.
        column: what to draw.
        label: of the y axis, with its unit.
        log: use a logarithmic y axis.

    Returns:
        the axes.
    """
    if history.empty:
        return nothing_yet(ax)
    ends = []
    for batch_size, rows in history.groupby("batch_size"):
        table, colour = _by_seed(rows, column), batch_colour(batch_size)
        _mark_divergence(ax, rows, column, colour)
        if table.shape[1] > 1:
            for seed in table:  # each to its own end: seeds stop at different epochs
                ax.plot(table[seed].dropna(), color=colour, lw=0.6, alpha=0.5)
        common = table.dropna()
        if not len(common):  # a seed diverged at once: the longest curve has the name
            longest = table.iloc[:, int(table.notna().sum().argmax())].dropna()
            ends += [(float(e), float(v), batch_size) for e, v in longest.iloc[-1:].items()]
            continue
        low, high = _band(common)
        ax.fill_between(common.index, low, high, color=colour, alpha=0.18, lw=0)
        ax.plot(common.index, common.mean(axis=1), color=colour)
        ends.append((float(common.index[-1]), float(common.mean(axis=1).iloc[-1]), batch_size))
    if log:
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    _epoch_axis(ax, int(history["epoch"].max()))
    ax.set_ylabel(label)
    label_ends(ax, ends)
    return ax


def plot_arms(
    histories: Mapping[str, pd.DataFrame], ax: Axes, *, column: str, label: str, legend: bool
) -> Axes:
    """Draw a column against epochs for several arms of one batch size.

    The first arm is grey, the others have the colour of the batch size and dashes of their own.
    Thin lines are seeds, thick ones their mean as far as all of them got. A run that diverged ends
    in a cross.

    Args:
        histories: name of each arm and its rows, with batch_size, seed, epoch, running_loss and
            the column; at most five.
        ax: where to draw.
        column: what to draw.
        label: of the y axis, with its unit.
        legend: name the arms.

    Returns:
        the axes.
    """
    histories = {name: rows for name, rows in histories.items() if len(rows)}
    if not histories:
        return nothing_yet(ax)
    for place, (name, rows) in enumerate(histories.items()):
        colour = batch_colour(int(rows["batch_size"].iloc[0])) if place else GREY
        table = _by_seed(rows, column)
        style = {"color": colour, "dashes": DASHES[max(place - 1, 0)]}
        if table.shape[1] > 1:
            for seed in table:
                ax.plot(table[seed].dropna(), lw=0.5, alpha=0.5, **style)
        ax.plot(table.dropna().mean(axis=1), label=name, **style)
        _mark_divergence(ax, rows, column, colour)
    _epoch_axis(ax, max(int(rows["epoch"].max()) for rows in histories.values()))
    ax.set_ylabel(label)
    if legend:
        ax.legend(fontsize=7.5, handlelength=3.5)
    return ax


def plot_paper(
    curves: pd.DataFrame,
    ax: Axes,
    *,
    column: str,
    label: str,
    log: bool = True,
    by: str = "batch_size",
    names: Mapping[str, str] | None = None,
) -> Axes:
    """Draw the paper's own curves against epochs, dotted, each named at its end.

    They have a panel of their own beside ours and the paper's colour, less and less transparent in
    their order. A run that diverged ends in a cross.

    Args:
        curves: rows with epoch and the column; running_loss, if there, is missing in the epoch in
            which a run diverged.
        ax: where to draw.
        column: what to draw.
        label: of the y axis, with its unit.
        log: use a logarithmic y axis.
        by: the column that tells curves apart.
        names: what its values are called; None: what they are.

    Returns:
        the axes.
    """
    if curves.empty:
        return nothing_yet(ax, "not in the paper")
    found = dict(list(curves.groupby(by, sort=False)))
    opacities, ends = dict(zip(found, paper_opacities(len(found)), strict=True)), []
    for name, rows in found.items():
        rows = rows.assign(seed=0)
        line = _by_seed(rows, column)[0].dropna()
        ax.plot(line, color=PAPER, alpha=opacities[name], ls=(0, (1, 1)), lw=1.3)
        _mark_divergence(ax, rows, column, PAPER)
        if len(line):
            ends.append((float(line.index[-1]), float(line.iloc[-1]), name))
    if log:
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    _epoch_axis(ax, int(curves["epoch"].max()))
    ax.set_ylabel(label)
    label_ends(ax, ends, names or {name: f"{name}" for name in found}, dict.fromkeys(found, PAPER))
    return ax


def plot_epochs_to(
    runs: pd.DataFrame,
    ax: Axes,
    *,
    column: str,
    label: str,
    paper: Mapping[str, Mapping[int, float]] = {},
) -> Axes:
    """Draw the epochs that runs needed to an accuracy against their batch size.

    Discs are runs that got there, joined at their medians; open triangles, at the last epoch they
    were trained for, are runs that did not: their time is longer than that.

    Args:
        runs: rows with batch_size, epochs and the column, NaN where a run never got there.
        ax: where to draw.
        column: what to draw.
        label: of the y axis.
        paper: the paper's values, by batch size, for each line of a name.

    Returns:
        the axes.
    """
    if runs.empty:
        return nothing_yet(ax)
    medians = {}
    for batch_size, rows in runs.groupby("batch_size"):
        colour, there = batch_colour(batch_size), rows[column].notna()
        ax.plot([batch_size] * there.sum(), rows.loc[there, column], "o", ms=4.5, color=colour)
        ax.plot([batch_size] * (~there).sum(), rows.loc[~there, "epochs"], "^", ms=5.5, mfc="none",
                mec=colour, mew=1.4)  # fmt: skip
        median = censored_median(rows[column].where(there, np.inf).tolist())
        if np.isfinite(median.median):
            medians[batch_size] = median.median
    ax.plot(list(medians), list(medians.values()), color=GREY, lw=1, zorder=1)
    ends = []
    for name, values in paper.items():
        mark_paper_curve(ax, values, "", marker=".x"[len(ends)], ms=5)
        ends.append((float(max(values)), float(values[max(values)]), name))
    label_ends(ax, ends, {name: name for name in paper}, dict.fromkeys(paper, PAPER))
    sizes = sorted({*runs["batch_size"]}.union(*paper.values()))
    ax.set_xscale("log", base=2)
    fixed_ticks(ax.xaxis, sizes)
    ax.tick_params(axis="x", labelrotation=45)
    ax.set_yscale("log")
    plain_log_ticks(ax.yaxis)
    ax.set_xlabel("batch size")
    ax.set_ylabel(label)
    return ax


def loss_panels(
    histories: dict[str, pd.DataFrame],
    *,
    columns: Mapping[str, str] = TRAIN_AND_TEST,
    paper: Mapping[str, pd.DataFrame] | None = None,
    paper_columns: Mapping[str, str] = TRAIN_AND_VALIDATION,
) -> Figure:
    """Return a figure with a row of panels per arm, and a panel per kind of loss.

    Args:
        histories: name of each arm and its rows per epoch.
        columns: the two losses, left and right, and what each is called.
        paper: the paper's own curves of some of the arms, with batch_size; they stand below ours.
        paper_columns: its two losses, and what each is called.
    """
    paper = paper or {}
    sides = 2 if paper else 1
    fig, axes = panels(
        len(histories), 2 * sides, height=0.4 + 1.9 * len(histories), sharey=True, sharex="col"
    )
    for row, (name, history) in zip(axes, histories.items(), strict=True):
        for ax, (column, part) in zip(row, columns.items(), strict=False):
            label = f"{name}\nloss (nats)" if paper else f"{part} loss (nats)"
            plot_curves(history, ax, column=column, label=label)
            title(ax, part if paper else f"{name}: {part}")
        for ax, (column, part) in zip(row[2:], paper_columns.items(), strict=False):
            if name in paper:
                plot_paper(paper[name], ax, column=column, label="loss (nats)")
                title(ax, f"paper: {part}")
            else:
                ax.remove()
    for column in axes.T:
        for ax in (shown := [ax for ax in column if ax.figure])[:-1]:
            ax.set_xlabel("")
        shown[-1].tick_params(labelbottom=True)  # also where the panel below is removed
    for ax in axes[:, 1:].flat if paper else ():
        ax.set_ylabel("")
    return fig


def plot_against_batch_size(
    arms: dict[str, pd.DataFrame],
    ax: Axes,
    *,
    column: str,
    label: str,
    log: bool = False,
    scale: float = 1.0,
    legend: bool = True,
    average: str = "mean",
    paper: pd.DataFrame | None = None,
) -> Axes:
    """Draw a column of the runs against batch size: SAM as open diamonds, others as discs.

    Small marks are seeds, large ones their average, joined in grey. Dotted vermillion lines are the
    paper's, one for each of its runs.

    Args:
        arms: name of each line and its runs, with batch_size and the column. Where a column "sam"
            is true the line is dashed with open diamonds; of the others the first has discs, the
            next have open squares, triangles, crosses.
        ax: where to draw.
        column: what to draw.
        label: of the y axis, with its unit.
        log: use a logarithmic y axis, plain numbers.
        scale: factor on the values, for instance `PERCENT`.
        legend: name the lines.
        average: "mean", or "median" for times.
        paper: the paper's numbers, with batch_size and the column; where a column "sam" is true
            they have open diamonds, and a column "run" tells several lines apart.

    Returns:
        the axes.

    Raises:
        ValueError: if there are more lines than markers.
    """
    arms = {name: runs for name, runs in arms.items() if len(runs) and runs[column].notna().any()}
    if not arms:
        return nothing_yet(ax)
    plain = [name for name, runs in arms.items() if not ("sam" in runs and runs["sam"].all())]
    if len(plain) > len(MARKERS):
        raise ValueError(f"arms = {plain}: allowed are {len(MARKERS)} without SAM")
    for name, runs in arms.items():
        sam = name not in plain
        marker = "D" if sam else MARKERS[plain.index(name)]
        filled, dashes = marker == "o", (4, 2) if sam else ()
        rows = runs.assign(value=runs[column] * scale).replace([np.inf, -np.inf], np.nan)
        rows = rows.dropna(subset="value")
        centre = rows.groupby("batch_size")["value"].agg(average)
        ax.plot(centre.index, centre, color=GREY, lw=1, dashes=dashes, zorder=1)
        shift = 1 / 1.03 if filled else 1.03  # seeds of two arms side by side
        for batch_size, seeds in rows.groupby("batch_size")["value"]:
            style = {"marker": marker, "mec": batch_colour(batch_size), "ls": ""}
            style["mfc"] = batch_colour(batch_size) if filled else "none"
            if len(seeds) > 1:
                ax.plot([batch_size * shift] * len(seeds), seeds, ms=2.2, alpha=0.6, **style)
            ax.plot(batch_size, centre[batch_size], ms=6, mew=1.6, zorder=3, **style)
        style = {"marker": marker, "mec": INK, "mfc": INK if filled else "none"}
        ax.plot([], [], color=GREY, lw=1, dashes=dashes, label=name, **style)
    sizes = {b for runs in arms.values() for b in runs["batch_size"]}
    if paper is not None and len(paper):
        _paper_lines(ax, paper.assign(value=paper[column] * scale))
        for size in sorted(set(paper["batch_size"])):  # a tick where there is room for one
            if all(max(size, other) > 1.9 * min(size, other) for other in sizes):
                sizes.add(size)
    ax.set_xscale("log", base=2)
    fixed_ticks(ax.xaxis, sorted(sizes))
    ax.tick_params(axis="x", labelrotation=45 if max(sizes) > 9999 else 0)
    if paper is not None and len(paper):
        sizes |= set(paper["batch_size"])
    ax.set_xlim(min(sizes) / 1.3, max(sizes) * 1.3)
    if log:
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    ax.set_xlabel("batch size")
    ax.set_ylabel(label)
    if legend:
        ax.legend(fontsize=7.5, handlelength=3)
    return ax


def _paper_lines(ax: Axes, paper: pd.DataFrame) -> None:
    """Draw the paper's numbers by batch size, a line per run, and name each kind at its end."""
    told = [name for name in ("sam", "run") if name in paper]
    ends = {}
    for _, rows in paper.groupby(told) if told else [((), paper)]:
        sam = bool("sam" in rows and rows["sam"].all())
        values = rows.set_index("batch_size")["value"].dropna()
        open_diamonds = {"marker": "D", "ms": 3, "mfc": "none"} if sam else {}
        mark_paper_curve(ax, values.to_dict(), "", **open_diamonds)
        ends[sam] = float(values.index[-1]), float(values.iloc[-1]), sam
    names = {False: "paper", True: "paper, SAM"}
    label_ends(ax, list(ends.values()), names, dict.fromkeys(names, PAPER))


def plot_against_rho(
    runs: pd.DataFrame, ax: Axes, *, column: str, label: str, log: bool, scale: float
) -> Axes:
    """Draw a column of the runs of one batch size against SAM's radius.

    Args:
        runs: rows with rho, batch_size and the column.
        ax: where to draw.
        column: what to draw.
        label: of the y axis, with its unit.
        log: use a logarithmic y axis, plain numbers.
        scale: factor on the values.

    Returns:
        the axes.
    """
    if runs.empty:
        return nothing_yet(ax)
    colour = batch_colour(int(runs["batch_size"].iloc[0]))
    values = (runs[column] * scale).groupby(runs["rho"])
    ax.plot(runs["rho"], runs[column] * scale, "D", ms=2.2, mfc="none", mec=colour, alpha=0.6)
    mean = values.mean()
    ax.plot(
        mean.index,
        mean,
        "D",
        dashes=(4, 2),
        ls="--",
        lw=1,
        color=GREY,
        mec=colour,
        mfc="none",
        mew=1.6,
    )
    ax.set_xscale("log")
    fixed_ticks(ax.xaxis, list(mean.index))
    if log:
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    ax.set_xlabel(r"SAM radius $\rho$")
    ax.set_ylabel(label)
    return ax


def plot_line(
    points: pd.DataFrame,
    ax: Axes,
    *,
    column: str,
    label: str,
    log: bool,
    paper: pd.DataFrame | None = None,
) -> Axes:
    """Draw a column along the line between two minimizers: training thin, test thick.

    Lines are means over seeds (geometric ones on a logarithmic axis), bands their range (a 95 %
    interval of the mean from five seeds on). Hairlines stand at the minimizers.

    Args:
        points: rows with alpha, set ("train" or "test"), seed and the column.
        ax: where to draw.
        column: what to draw.
        label: of the y axis, with its unit.
        log: use a logarithmic y axis, plain numbers.
        paper: the paper's points, with alpha, set and the column.

    Returns:
        the axes.
    """
    theirs = pd.DataFrame() if paper is None else paper
    if points.empty and theirs.empty:
        return nothing_yet(ax)
    for name, rows in theirs.groupby("set", sort=False) if len(theirs) else ():
        values = rows.set_index("alpha")[column].to_dict()
        mark_paper_curve(ax, values, "", marker="", lw=0.9 if name == "train" else 1.6)
    if len(theirs):
        place = {"xycoords": "axes fraction", "ha": "right", "va": "bottom"}
        ax.annotate("paper", (1, 1.01), color=PAPER, fontsize=7.5, **place)
    for name, rows in points.groupby("set", sort=False):
        table = rows.assign(alpha=rows["alpha"].round(9)).pivot(
            index="alpha", columns="seed", values=column
        )
        style = {"color": INK, "alpha": 0.5 if name == "train" else 1.0}
        style["lw"] = 1.0 if name == "train" else 1.8
        table = table.replace([np.inf, -np.inf], np.nan).dropna()
        if table.shape[1] > 1:
            low, high = _band(table, ratios=log)
            ax.fill_between(table.index, low, high, color=INK, alpha=0.14, lw=0)
        mean = np.exp(np.log(table).mean(axis=1)) if log else table.mean(axis=1)
        ax.plot(mean, label={"train": "training"}.get(name, name), **style)
    for end in (0, 1):
        ax.axvline(end, color=GREY, lw=0.6, zorder=0)
    alphas = [*points["alpha"], *theirs.get("alpha", ())]
    low, high = min(alphas), max(alphas)
    fixed_ticks(ax.xaxis, [end for end in (-1, 0, 1, 2) if low <= end <= high])
    ax.set_xlim(low, high)
    if log:
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    ax.set_xlabel(r"$\alpha$ (0: SB, 1: LB)")
    ax.set_ylabel(label)
    return ax


def plot_line_band(curves: pd.DataFrame, ax: Axes, *, column: str, label: str, log: bool) -> Axes:
    """Draw losses along several directions through the weights of each batch size's network.

    Faint lines are single directions, the full line their mean and the band their range, both
    only where no direction's value is missing. A hairline stands at the weights themselves.

    Args:
        curves: rows with batch_size, direction, a and the column; with a column seed, a line for
            each seed and direction.
        ax: where to draw.
        column: what to draw.
        label: of the y axis, with its unit.
        log: use a logarithmic y axis, plain numbers.

    Returns:
        the axes.
    """
    if curves.empty:
        return nothing_yet(ax)
    lines = [name for name in ("seed", "direction") if name in curves]
    values = curves[column].where(np.isfinite(curves[column]))
    curves, ends = curves.assign(**{column: values, "a": curves["a"].round(9)}), []
    for batch_size, rows in curves.groupby("batch_size"):
        table = rows.pivot(index="a", columns=lines, values=column)
        colour, mean = batch_colour(batch_size), table.mean(axis=1, skipna=False)
        if table.shape[1] > 1:
            ax.plot(table, color=colour, lw=0.6, alpha=0.5)
            low, high = table.min(axis=1, skipna=False), table.max(axis=1, skipna=False)
            ax.fill_between(table.index, low, high, color=colour, alpha=0.18, lw=0)
        ax.plot(mean, color=colour)
        if mean.notna().any():
            last = mean.last_valid_index()
            ends.append((float(last), float(mean[last]), batch_size))
    ax.axvline(0, color=GREY, lw=0.6, zorder=0)
    ax.set_xlim(curves["a"].min(), curves["a"].max())
    even_ticks(ax.xaxis, curves["a"])
    if log:
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    ax.set_xlabel("$a$, along a direction")
    ax.set_ylabel(label)
    label_ends(ax, ends)
    return ax


def line_panels(
    lines: dict[str, pd.DataFrame],
    *,
    accuracy: bool = True,
    paper: Mapping[str, pd.DataFrame] | None = None,
) -> Figure:
    """Return a figure with a column per network: loss above, accuracy below.

    Args:
        lines: name of each network and its points, as `plot_line` takes them, with loss and
            accuracy.
        accuracy: draw the accuracies, too.
        paper: the paper's points of some of the networks, likewise.
    """
    rows = 2 if accuracy else 1
    fig, axes = panels(rows, len(lines), height=0.6 + 1.9 * rows, sharex=True)
    for place, (column, (name, points)) in enumerate(zip(axes.T, lines.items(), strict=False)):
        theirs = (paper or {}).get(name)
        plot_line(points, column[0], column="loss", label="loss (nats)", log=True, paper=theirs)
        brief = len(lines) > 4
        title(column[0], name if brief else f"{name}: loss")
        if accuracy:
            points, theirs = (
                None if table is None else table.assign(percent=PERCENT * table["accuracy"])
                for table in (points, theirs)
            )
            plot_line(
                points, column[1], column="percent", label="accuracy (%)", log=False, paper=theirs
            )
            title(column[1], name if brief else f"{name}: accuracy")
            column[0].set_xlabel("")
        if place:
            for ax in column:
                ax.set_ylabel("")
    for ax in [ax for ax in axes[0] if ax.get_legend_handles_labels()[0]][:1]:
        ax.legend(fontsize=7.5, handlelength=1.5)
    return fig


def plot_path(
    runs: pd.DataFrame,
    ax: Axes,
    *,
    x: str,
    y: str,
    order: str,
    labels: tuple[str, str],
    log: tuple[bool, bool] = (False, False),
    paper: pd.DataFrame | None = None,
) -> Axes:
    """Draw one column of the runs against another, a path per batch size, named at its end.

    Small marks are seeds, large ones their means, joined in the order of a third column.

    Args:
        runs: rows with batch_size, seed and the columns.
        ax: where to draw.
        x: column along the horizontal axis.
        y: column along the vertical axis.
        order: column by which a path goes on.
        labels: of the two axes, with their units.
        log: which axes are logarithmic, with plain numbers.
        paper: the paper's points, with the columns x and y, and the name of each line in "batch".

    Returns:
        the axes.
    """
    if runs.empty:
        return nothing_yet(ax)
    names, paper_ends = {}, []
    for batch, theirs in paper.dropna(subset=y).groupby("batch") if paper is not None else ():
        values = theirs.sort_values(x).set_index(x)[y].to_dict()
        mark_paper_curve(ax, values, "", ms=2.5, lw=0.8)
        paper_ends.append((*list(values.items())[-1], batch))
        names[batch] = f"paper, {batch}"
    for batch_size, rows in runs.groupby("batch_size"):
        colour, means = batch_colour(batch_size), rows.groupby(order)[[x, y]].mean()
        if rows["seed"].nunique() > 1:
            ax.plot(rows[x], rows[y], "o", ms=2.2, alpha=0.6, color=colour)
        ax.plot(means[x], means[y], "-o", ms=4.5, lw=1.2, color=colour)
        end = means.iloc[-1]
        ax.annotate(
            f"{batch_size}", (end[x], end[y]), xytext=(4, 3), textcoords="offset points",
            fontsize=7.5, color=colour,
        )  # fmt: skip
    label_ends(ax, paper_ends, names, dict.fromkeys(names, PAPER))
    for logarithmic, axis, name in zip(log, (ax.xaxis, ax.yaxis), "xy", strict=True):
        if logarithmic:
            getattr(ax, f"set_{name}scale")("log")
            plain_log_ticks(axis)
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    return ax


def plot_conditions(
    rows: pd.DataFrame, ax: Axes, *, column: str, label: str, none: float, log: bool = False
) -> Axes:
    """Draw a column for each condition, one line of marks below the other.

    Small marks are seeds, large ones their mean with its 95 % interval (of logarithms on a
    logarithmic axis), clipped where the seeds are too few for it to fit.

    Args:
        rows: with condition, seed and the column, conditions in the order to be shown.
        ax: where to draw.
        column: what to draw.
        label: of the x axis, with its unit.
        none: the value that means no effect, a hairline; NaN for none.
        log: use a logarithmic x axis, plain numbers.

    Returns:
        the axes.
    """
    conditions = list(dict.fromkeys(rows["condition"]))
    rows = rows.replace([np.inf, -np.inf], np.nan).dropna(subset=column)
    if rows.empty:
        return nothing_yet(ax)
    ax.axvline(none, color=GREY, lw=0.6)
    values = [v for v in (none, *rows[column]) if np.isfinite(v)]
    low, high = min(values), max(values)
    if log:
        ax.set_xscale("log")
        ax.set_xlim(low / (high / low) ** 0.25, high * (high / low) ** 0.25)
        plain_log_ticks(ax.xaxis)
    else:
        margin = 0.3 * (high - low) or 1.0  # where all are equal, such as chance
        ax.set_xlim(low - margin, high + margin)
    for place, condition in enumerate(conditions):
        values = rows.loc[rows["condition"] == condition, column]
        if values.empty:
            continue
        centre = interval(values, ratios=log)
        if len(values) > 1:
            ax.plot(values, [place] * len(values), "o", ms=2.2, alpha=0.6, color=INK)
            ax.plot([centre.low, centre.high], [place, place], color=INK, lw=1)
        ax.plot(centre.mean, place, "o", ms=6, color=INK)
    ax.set_yticks(range(len(conditions)), conditions)
    ax.set_ylim(len(conditions) - 0.5, -0.5)
    ax.set_xlabel(label)
    return ax


def plot_by_layer(rows: pd.DataFrame, ax: Axes, *, column: str, label: str) -> Axes:
    """Draw a column layer by layer, in their order, a line per batch size, named at its end.

    Small marks are seeds, large ones their means.

    Args:
        rows: with layer, batch_size, seed and the column.
        ax: where to draw.
        column: what to draw.
        label: of the y axis, with its unit.

    Returns:
        the axes.
    """
    if rows.empty:
        return nothing_yet(ax)
    layers, ends = list(rows["layer"].unique()), []
    for batch_size, of_size in rows.groupby("batch_size"):
        colour, values = batch_colour(batch_size), of_size.groupby("layer")[column]
        means = values.mean()[layers]
        if of_size["seed"].nunique() > 1:
            places = of_size["layer"].map(layers.index)
            ax.plot(places, of_size[column], "o", ms=2.2, alpha=0.6, color=colour)
        ax.plot(range(len(layers)), means, "-o", ms=4.5, color=colour)
        ends.append((len(layers) - 1, float(means.iloc[-1]), batch_size))
    ax.set_xticks(range(len(layers)), layers)
    ax.set_ylim(bottom=0)
    ax.set_ylabel(label)
    label_ends(ax, ends)
    return ax


def plot_ratio(rows: pd.DataFrame, ax: Axes, *, label: str) -> Axes:
    """Draw a ratio against epochs: faint lines are seeds, the full one their geometric mean.

    Args:
        rows: with seed, epoch and ratio.
        ax: where to draw.
        label: of the y axis.

    Returns:
        the axes.
    """
    if rows.empty:
        return nothing_yet(ax)
    table = np.log(rows.pivot(index="epoch", columns="seed", values="ratio"))
    if table.shape[1] > 1:
        ax.plot(np.exp(table), color=INK, lw=0.6, alpha=0.35)
    ax.plot(np.exp(table.mean(axis=1, skipna=False)), color=INK)
    ax.axhline(1, color=GREY, lw=0.6, zorder=0)
    ax.set_yscale("log")
    plain_log_ticks(ax.yaxis)
    ax.set_xlabel("epoch")
    ax.set_ylabel(label)
    return ax


def plot_distribution(
    rows: pd.DataFrame, ax: Axes, *, label: str, paper: Mapping[int, float] = {}
) -> Axes:
    """Draw how norms are distributed, one line per batch size, and mark and name the medians.

    Lines are distribution functions: the share of norms up to each one. Faint lines are seeds, the
    full one goes through the geometric means of their quantiles.

    Args:
        rows: quantiles, with batch_size, seed, level in [0, 1] and norm, as of the measure
            "update_norms"; a norm of 0 has no place on the logarithmic axis.
        ax: where to draw.
        label: of the x axis, with its unit.
        paper: the paper's medians, by batch size.

    Returns:
        the axes.
    """
    if rows.empty:
        return nothing_yet(ax)
    ends, names = [], {}
    for batch_size, quantiles in rows.groupby("batch_size"):
        table = quantiles.pivot(index="level", columns="seed", values="norm")
        table, colour = table.where(table > 0), batch_colour(batch_size)
        if table.shape[1] > 1:
            for seed in table:
                ax.plot(table[seed], table.index, color=colour, lw=0.6, alpha=0.5)
        mean = np.exp(np.log(table).mean(axis=1, skipna=False))
        median = float(np.interp(0.5, mean.index, mean))
        ax.plot(mean, mean.index, color=colour)
        ax.plot(median, 0.5, "o", ms=6, color=colour, zorder=3)
        ends.append((median, 1 - 1e-6 * len(ends), batch_size))  # listed from the top
        names[batch_size] = f"{batch_size}: median {median:.2g}"
    ax.axhline(0.5, color=GREY, lw=0.6, zorder=0)
    for place, (batch_size, median) in enumerate(paper.items()):
        text, below = f"paper, {batch_size}", place % 2 == 1
        mark_paper_curve(ax, {median: 0.5}, text, below=below, zorder=4, ms=8)
    ax.set_xscale("log")
    plain_log_ticks(ax.xaxis)
    ax.set_ylim(0, 1)
    ax.set_xlabel(label)
    ax.set_ylabel("share up to that norm")
    label_ends(ax, ends, names)
    return ax


def plot_agreement(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw norms of mean gradients against the size of the batch, and what they should be.

    A line for each batch size that networks were trained with, in its colour: the exact root mean
    square over all batches (`expected_norm`). Discs are the root mean square over the batches
    drawn, dashes their mean, which is never above it; a tenth of the draws lies beyond each end of
    the bars. Over seeds all are geometric means, and the line's band is the range (a 95 % interval
    from five seeds on).

    Args:
        rows: of the measure "gradient_agreement", with batch_size and seed of the network.
        ax: where to draw.

    Returns:
        the axes.
    """
    if rows.empty:
        return nothing_yet(ax)
    sizes, ends = sorted(set(rows["examples"])), []
    dense, shares = np.geomspace(sizes[0], sizes[-1], 101), ["norm", "norm_rms", "low", "high"]
    trained = rows.groupby("batch_size")
    for place, (batch_size, group) in enumerate(trained):
        colour, seeds = batch_colour(batch_size), group.groupby("seed")[["full_norm", "trace", "n"]]
        curves = {s: expected_norm(*v, dense) for s, v in seeds.first().T.items()}
        curves = pd.DataFrame(curves, index=dense)
        if curves.shape[1] > 1:
            low, high = _band(curves, ratios=True)
            ax.fill_between(dense, low, high, color=colour, alpha=0.18, lw=0)
        line = np.exp(np.log(curves).mean(axis=1))
        ax.plot(line, color=colour, lw=1.2)
        ends.append((float(dense[-1]), float(line.iloc[-1]), batch_size))
        seen = np.exp(np.log(group.set_index("examples")[shares]).groupby("examples").mean())
        x = seen.index * 1.06 ** (place - (len(trained) - 1) / 2)  # beside each other
        ax.vlines(x, seen["low"], seen["high"], color=colour, lw=0.8)
        ax.plot(x, seen["norm"], "_", ms=10, mew=1.2, color=colour)
        ax.plot(x, seen["norm_rms"], "o", ms=4.5, color=colour)
    ax.plot([], [], color=INK, lw=1.2, label="expected root mean square")
    ax.plot([], [], "o", ms=4.5, color=INK, label="root mean square of batches drawn")
    ax.plot([], [], "_", ms=10, mew=1.2, color=INK, label="their mean")
    ax.set_xscale("log", base=2)
    fixed_ticks(ax.xaxis, sizes)
    ax.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
    ax.set_yscale("log")
    plain_log_ticks(ax.yaxis)
    ax.set_xlabel("examples averaged over")
    ax.set_ylabel("norm of the mean gradient")
    ax.legend(fontsize=7.5)
    label_ends(ax, ends)
    return ax


def plot_against_lr(
    runs: pd.DataFrame,
    ax: Axes,
    *,
    column: str,
    label: str,
    paper: pd.DataFrame | None = None,
) -> Axes:
    """Draw a column of the runs against learning rate, a line per batch size, its lowest ringed.

    Faint lines are seeds, the full line their mean, the band their range (a 95 % interval of the
    mean from five seeds on). The line has gaps where a seed diverged or is missing.

    Args:
        runs: rows with batch_size, seed, base_lr and the column.
        ax: where to draw.
        column: what to draw.
        label: of the y axis, with its unit.
        paper: the paper's numbers, with batch_size, base_lr and the column.

    Returns:
        the axes.
    """
    if runs.empty:
        return nothing_yet(ax)
    for batch_size, rows in paper.groupby("batch_size") if paper is not None else ():
        values = rows.set_index("base_lr")[column].to_dict()
        mark_paper_curve(ax, values, f"paper, {batch_size}")
    ends = []
    for batch_size, rows in runs.groupby("batch_size"):
        table = rows.pivot(index="base_lr", columns="seed", values=column)
        table, colour = table.where(np.isfinite(table)), batch_colour(batch_size)
        mean = table.mean(axis=1, skipna=False)
        if table.shape[1] > 1:
            ax.plot(table, color=colour, lw=0.6, alpha=0.5)
            whole = table.dropna()
            low, high = _band(whole)
            band = pd.DataFrame({"low": low, "high": high}, index=whole.index).reindex(table.index)
            ax.fill_between(band.index, band["low"], band["high"], color=colour, alpha=0.18, lw=0)
        ax.plot(mean, "-o", ms=3.5, color=colour)
        if mean.notna().any():
            best, last = mean.idxmin(), mean.last_valid_index()
            ax.plot(best, mean[best], "o", ms=9, mfc="none", mec=colour, mew=1.4)
            ends.append((float(last), float(mean[last]), batch_size))
    ax.set_xscale("log")
    fixed_ticks(ax.xaxis, sorted(set(runs["base_lr"])))
    ax.set_xlabel("learning rate")
    ax.set_ylabel(label)
    label_ends(ax, ends)
    return ax


def plot_heatmap(table: pd.DataFrame, ax: Axes, *, label: str) -> Axes:
    """Draw a table of learning rate by batch size as a map, its values written in the cells.

    The lowest of each batch size has a frame.

    Args:
        table: a row per learning rate, a column per batch size; NaN where nothing was run, infinite
            where a run diverged.
        ax: where to draw; a colour bar takes its room from it.
        label: of the colour bar, with its unit.

    Returns:
        the axes.
    """
    if table.empty:
        return nothing_yet(ax)
    table = table.sort_index().sort_index(axis=1)
    values = table.to_numpy(dtype=float)
    known = np.ma.masked_invalid(values)
    edges = [np.arange(size + 1) - 0.5 for size in values.shape[::-1]]
    cells = ax.pcolormesh(*edges, known, cmap="cividis", edgecolors="#ffffff", linewidth=1.5)
    for (row, column), value in np.ndenumerate(values):
        place = {"x": column, "y": row, "ha": "center", "va": "center", "fontsize": 7.5}
        if np.isfinite(value):
            ax.text(s=_cell(value), color=ink_on(cells.to_rgba(value)), **place)
        elif np.isnan(value):
            ax.text(s="not run", color=GREY, **place)
        else:
            hatch = {"hatch": "/////", "hatch_linewidth": 0.5, "lw": 0, "zorder": 0}
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc="none", ec=GREY, **hatch))
            behind = {"fc": "#ffffff", "ec": "none", "pad": 1.5}
            ax.text(s="diverged", color=GREY, bbox=behind, **place)
    for column, size in enumerate(table):
        if known[:, column].count():
            row = table.index.get_loc(table[size].where(np.isfinite(table[size])).idxmin())
            ink = ink_on(cells.to_rgba(values[row, column]))
            corner = column - 0.42, row - 0.42
            ax.add_patch(Rectangle(corner, 0.84, 0.84, fc="none", ec=ink, lw=1.4))
    ax.set_xticks(range(values.shape[1]), [f"{size:g}" for size in table])
    ax.set_yticks(range(values.shape[0]), [f"{lr:g}" for lr in table.index])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("batch size")
    ax.set_ylabel("learning rate")
    if known.count():
        bar = ax.figure.colorbar(cells, ax=ax, shrink=0.8, aspect=30)
        bar.outline.set_visible(False)
        bar.set_label(label)
    return ax


def _cell(value: float) -> str:
    """Three digits, also where the last one is 0."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _by_seed(history: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a column as a table [epoch, seed], missing where it or the loss is not finite."""
    rows = history[np.isfinite(history[column].to_numpy()) & _going_on(history)]
    table = rows.pivot(index="epoch", columns="seed", values=column)
    return table.reindex(columns=sorted(history["seed"].unique()))  # also what diverged at once


def _mark_divergence(ax: Axes, history: pd.DataFrame, column: str, colour: str) -> None:
    """Put a cross where a run's curve ends, if its training loss stopped being finite.

    One that has no curve, because it did so in the first epoch, has its cross on the upper edge.
    """
    diverged = history.loc[~_going_on(history), "seed"].unique()
    if not len(diverged):
        return
    table, style = _by_seed(history, column), {"ms": 6, "mew": 1.6, "color": colour, "zorder": 4}
    for seed in diverged:
        if len(seen := table[seed].dropna()):
            ax.plot(seen.index[-1], seen.iloc[-1], "x", **style)
        else:
            ax.plot(1, 1, "x", transform=ax.get_xaxis_transform(), clip_on=False, **style)


def _going_on(history: pd.DataFrame) -> np.ndarray:
    """Return which epochs a run went through without diverging."""
    loss = history["running_loss"] if "running_loss" in history else np.zeros(len(history))
    return np.isfinite(np.asarray(loss))


def _epoch_axis(ax: Axes, last: int) -> None:
    ax.set_xscale("log", base=2)
    ticks = [t for t in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if t <= last]
    narrow = ax.get_subplotspec().get_gridspec().ncols > 2
    fixed_ticks(ax.xaxis, ticks[:: 2 if narrow and len(ticks) > 5 else 1])
    ax.set_xlabel("epoch")


def _band(table: pd.DataFrame, *, ratios: bool = False) -> tuple[Sequence[float], Sequence[float]]:
    if table.shape[1] < BAND_SEEDS:
        return table.min(axis=1), table.max(axis=1)
    intervals = [interval(row, ratios=ratios) for row in table.to_numpy()]
    return [i.low for i in intervals], [i.high for i in intervals]
