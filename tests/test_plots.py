"""Tests of bsglib.figures.plots."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from bsglib.figures import contours, plots, show, style
from bsglib.landscape import Surface

BATCHES = (32, 128, 512)
BATCH_SIZES = [2**k for k in range(5, 14)]


pytestmark = pytest.mark.usefixtures("report_style")


def runs(seeds=3):
    rows = [
        {"batch_size": b, "seed": s, "rho": 0.05, "value": 1.0 + s + b / 100, "arm": "SGD"}
        for b in BATCHES
        for s in range(seeds)
    ]
    facts = {"dataset": "digits", "train_size": 64, "dtype": "float64", "network": "small"}
    return pd.DataFrame(rows).assign(**facts, network_options="{}")


def history(seeds=3):
    table = pd.concat([runs(seeds).assign(epoch=e) for e in (1, 2, 4, 8)])
    return table.assign(train_loss=table["value"] / table["epoch"], test_loss=table["value"])


def drawn(plot, rows, **options):
    fig, axes = style.panels(1, 1, height=3)
    return plot(rows, axes[0, 0], **options)


def texts(labels):
    return [label.get_text() for label in labels]


def contrast(one, other):
    """Return the contrast of two colours (WCAG 2)."""
    shades = []
    for colour in map(mpl.colors.to_rgb, (one, other)):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        shades.append(np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05)
    return max(shades) / min(shades)


def test_a_users_matplotlibrc_changes_no_setting():
    ours = dict(mpl.rcParams)
    mpl.rcParams.update({"text.usetex": True, "font.size": 30, "axes.grid": True})
    style.use_style()
    assert dict(mpl.rcParams) == ours


def test_larger_batches_are_strictly_darker_and_the_fixed_scale_is_the_declared_one():
    colours = [style.batch_colour(b) for b in BATCH_SIZES]
    assert colours[0] == "#7ad151" and colours[-1] == "#440154" and colours[4] == "#2a788e"
    assert style.PAPER.lower() not in colours
    light = [np.dot(mpl.colors.to_rgb(c), (0.2126, 0.7152, 0.0722)) for c in colours]
    assert all(a > b for a, b in zip(light, light[1:], strict=False))


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_curves_show_every_seed_their_mean_and_band_and_a_label_per_batch_size(seeds):
    rows = history(seeds)
    ax = drawn(plots.plot_curves, rows, column="test_loss", label="loss (nats)")
    assert ax.get_xlabel() and ax.get_ylabel() == "loss (nats)"
    assert len(ax.lines) == len(BATCHES) * (1 + (seeds if seeds > 1 else 0))
    assert set(texts(ax.texts)) == {str(b) for b in BATCHES}
    values = rows.query("batch_size == 32 and epoch == 1")["test_loss"]
    half = 2.7764451 * values.std() / np.sqrt(5)  # Student's t, 4 degrees of freedom
    mean = values.mean()
    expected = (values.min(), values.max()) if seeds < 5 else (mean - half, mean + half)
    edges = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx(expected)


def test_labels_at_ends_and_of_the_papers_numbers_never_overlap():
    close = history(1).assign(train_loss=1.0)
    ax = drawn(plots.plot_curves, close, column="train_loss", label="loss")
    ax.figure.draw_without_rendering()
    bottoms = sorted(text.get_window_extent().y0 for text in ax.texts)
    assert (np.diff(bottoms) * 72 / ax.figure.dpi > 7.5).all()
    fig, axes = style.panels(1, 1, height=3)
    style.mark_paper(axes[0, 0], 0.50, "paper, 32", below=True)
    style.mark_paper(axes[0, 0], 0.51, "paper, 256")
    fig.draw_without_rendering()
    one, other = (text.get_window_extent() for text in axes[0, 0].texts)
    assert not one.overlaps(other)


def test_plain_is_discs_then_open_squares_and_sam_is_diamonds_as_long_as_there_are_markers():
    options = {"column": "value", "label": "v"}
    arms = {"SGD": runs(1), "SAM": runs(1).assign(sam=True), "no SAM": runs(1).assign(sam=False)}
    ax = drawn(plots.plot_against_batch_size, arms, **options, log=True)
    assert ax.get_yscale() == "log"
    assert [line.get_marker() for line in ax.get_legend().get_lines()] == ["o", "D", "s"]
    assert texts(ax.get_xticklabels()) == ["32", "128", "512"]
    assert ax.get_xlabel() == "batch size" and ax.get_ylabel() == "v"
    ax = drawn(plots.plot_against_batch_size, {"fixed": runs(1), "scaled": runs(1)}, **options)
    marks = {(line.get_marker(), line.get_markerfacecolor() == "none") for line in ax.lines}
    assert {("o", False), ("s", True)} <= marks and ("s", False) not in marks
    assert texts(ax.get_legend().get_texts()) == ["fixed", "scaled"]
    arms = {str(n): runs() for n in range(len(plots.MARKERS) + 1)}
    with pytest.raises(ValueError, match="allowed are 4 without SAM"):
        drawn(plots.plot_against_batch_size, arms, **options)


def test_a_ratio_is_averaged_geometrically_and_only_where_all_seeds_are():
    rows = pd.DataFrame({"seed": [0, 0, 1], "epoch": [1, 2, 1], "ratio": [2.0, 3.0, 8.0]})
    ax = drawn(plots.plot_ratio, rows, label="32 / 256")
    mean = next(
        line for line in ax.lines if line.get_alpha() is None and len(line.get_xdata()) == 2
    )
    assert np.allclose(mean.get_ydata(), [4.0, np.nan], equal_nan=True)


def test_a_figure_is_kept_as_svg_with_its_data_and_room_for_a_long_label(tmp_path, monkeypatch):
    monkeypatch.setattr(show, "_kept", {"folder": str(tmp_path)})
    fig, axes = style.panels(1, 1, height=2)
    axes[0, 0].set_yticks([0], ["with a rate tuned for each batch size and more"])
    show.figure(fig, "figure-9", "What is shown", rows=runs())
    assert {p.name for p in tmp_path.iterdir()} == {"figure-9.svg", "figure-9.csv"}
    assert len(pd.read_csv(tmp_path / "figure-9.csv")) == len(runs())
    assert fig.dpi == mpl.rcParams["figure.dpi"]
    fig.set_dpi(400)  # finer than it was laid out for
    assert 0 <= axes[0, 0].get_tightbbox().x0 * 72 / 400 < 10, "points left of it"


def diverging(seeds=3):
    """Curves of two batch sizes, of which one seed of the larger ends after the third epoch."""
    rows = history(seeds).assign(running_loss=1.0, percent=lambda t: 10.0 * t["epoch"])
    rows = rows[rows["batch_size"] < 512].reset_index(drop=True)
    last = rows.eval("batch_size == 128 and seed == 1 and epoch == 8")
    rows.loc[last, ["running_loss", "percent"]] = np.nan, 9.0
    return rows


def crosses(ax):
    return [line for line in ax.lines if line.get_marker() == "x"]


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_diverged_run_ends_in_a_cross_of_its_batch_sizes_colour(loss):
    rows = diverging().replace({"running_loss": {np.nan: loss}})
    ax = drawn(plots.plot_curves, rows, column="percent", label="accuracy (%)", log=False)
    (mark,) = crosses(ax)
    assert (mark.get_xdata().item(), mark.get_ydata().item()) == (4, 40), "before it diverged"
    assert mark.get_color() == style.batch_colour(128)
    ax = drawn(plots.plot_curves, rows, column="running_loss", label="loss (nats)")
    assert all(np.isfinite(line.get_ydata()).all() for line in ax.lines)
    assert len(crosses(ax)) == 1
    never = diverging(1).assign(running_loss=loss)
    ax = drawn(plots.plot_curves, never, column="running_loss", label="loss (nats)")
    assert {mark.get_color() for mark in crosses(ax)} == {style.batch_colour(b) for b in (32, 128)}
    for mark in crosses(ax):  # on the upper edge
        assert (mark.get_xdata().item(), mark.get_ydata().item()) == (1, 1)
        assert mark.get_transform() == ax.get_xaxis_transform()


def test_times_that_were_not_reached_are_open_triangles_at_the_last_epoch():
    rows = runs().assign(epochs=50, value=lambda t: 2.0 + t["seed"])
    never = (rows["batch_size"] == 512) | ((rows["batch_size"] == 128) & (rows["seed"] == 0))
    rows["value"] = rows["value"].where(~never)
    ax = drawn(
        plots.plot_epochs_to, rows, column="value", label="epochs", paper={"paper": {32: 35}}
    )
    triangles = [line for line in ax.lines if line.get_marker() == "^" and len(line.get_xdata())]
    assert {(x, y) for t in triangles for x, y in zip(*t.get_data(), strict=True)} == {
        (512, 50),
        (128, 50),
    }
    joined = next(line for line in ax.lines if line.get_color() == style.GREY)
    assert joined.get_xdata().tolist() == [32, 128], "half of 512 and more never got there"
    assert joined.get_ydata().tolist() == [3, 4], "a time without end counts as the longest"
    paper = next(line for line in ax.lines if line.get_color() == style.PAPER)
    assert paper.get_data()[0].tolist() == [32] and paper.get_data()[1].tolist() == [35]
    assert texts(ax.texts) == ["paper"]


# The paper's numbers beside ours


def of_paper():
    """Curves of two batch sizes, the larger of which diverges in its third epoch."""
    table = pd.DataFrame({"batch_size": [64] * 4 + [32] * 4, "epoch": [1, 2, 4, 8] * 2})
    losses = [4.0, 3.0, np.nan, np.nan, 2.0, 1.5, 1.0, 0.5]
    return table.assign(running_loss=losses, validation_loss=losses, train_loss=losses)


def test_the_papers_curves_are_dotted_named_at_their_ends_and_less_transparent_in_their_order():
    ax = drawn(plots.plot_paper, of_paper(), column="running_loss", label="loss (nats)")
    curves = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert [list(c.get_ydata()) for c in curves] == [[4, 3], [2, 1.5, 1, 0.5]]
    colours = {t.get_text(): t.get_color() for t in ax.texts}
    assert colours == dict.fromkeys(("64", "32"), style.PAPER)
    assert [c.get_alpha() for c in curves] == [0.5, 1]
    (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (2, 3)
    none = drawn(plots.plot_paper, of_paper().iloc[:0], column="running_loss", label="loss")
    assert texts(none.texts) == ["not in the paper"]


def test_batch_sizes_beyond_the_light_end_read_on_white_and_on_dark_and_differ():
    colours = [style.batch_colour(b) for b in (4, 8, 16, 32)]
    for colour in colours:
        assert contrast(colour, "white") > 1.89  # that of 32
        assert contrast(colour, "#15181c") > 3
    assert len(set(colours)) == 4


def points(seeds=3, path=4):
    """Losses and accuracies that differ by set and seed."""
    rows = [
        {"alpha": a, "set": name, "seed": s, "loss": 1 + s + a**2 + high, "accuracy": 0.5 - high}
        for a in np.linspace(-1, 2, path)
        for name, high in (("train", 0.0), ("test", 0.3))
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


LINE = {"column": "loss", "label": "loss (nats)", "log": True}


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_lines_of_training_and_test_are_means_over_seeds_with_a_band(seeds):
    rows = points(seeds)
    ax = drawn(plots.plot_line, rows, **LINE)
    for line, name in zip(ax.lines, ("train", "test"), strict=False):
        by_alpha = rows[rows["set"] == name].groupby("alpha")["loss"]
        mean = by_alpha.agg(lambda losses: np.exp(np.log(losses).mean()))  # on a logarithmic axis
        np.testing.assert_allclose(line.get_ydata(), mean)
        assert line.get_label().startswith(name)
    assert len(ax.collections) == (2 if seeds > 1 else 0)


def path_rows(seeds=2):
    """Runs whose rows are not in the order of the path."""
    rows = [
        {"batch_size": b, "seed": s, "epochs": e, "loss": 1 / e + s / 100, "phi": b * (e + s)}
        for e in (8, 1, 3)
        for s in range(seeds)
        for b in (32, 512)
    ]
    return pd.DataFrame(rows)


PATH = {"x": "loss", "y": "phi", "order": "epochs", "labels": ("x", "y")}


def conditions(seeds=3):
    rows = [
        {"condition": name, "seed": s, "gap": mean + s}
        for name, mean in (("as in the paper", 2.0), ("at equal updates", 1.0), ("another", 4.0))
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


CONDITIONS = {"column": "gap", "label": "points"}


@pytest.mark.parametrize("log", [False, True])
def test_conditions_stand_in_their_order_around_no_effect_with_seeds_mean_and_interval(log):
    none = 1 if log else 0
    ax = drawn(plots.plot_conditions, conditions(), **CONDITIONS, none=none, log=log)
    shown = texts(ax.get_yticklabels())
    assert shown == ["as in the paper", "at equal updates", "another"]
    (bottom, top), (low, high) = ax.get_ylim(), ax.get_xlim()
    assert bottom > top, "the first is on top"
    assert low < none and high > 6
    hairline, seeds, bar, mean = ax.lines[:4]
    assert set(hairline.get_xdata()) == {none}
    assert list(seeds.get_xdata()) == [2, 3, 4]
    values, of_axis = (np.log([2, 3, 4]), np.exp) if log else (np.array([2, 3, 4]), np.array)
    half = 4.30265273 * values.std(ddof=1) / np.sqrt(3)  # Student's t, 2 degrees of freedom
    np.testing.assert_allclose(bar.get_xdata(), of_axis(values.mean() + half * np.array([-1, 1])))
    np.testing.assert_allclose(mean.get_xdata(), of_axis(values.mean()))
    assert {y for line in (seeds, bar, mean) for y in line.get_ydata()} == {0}


def several():
    """Five runs of one network, three of another with two batch sizes each, on the same data."""
    facts = {"dataset": "digits", "train_size": 1024, "dtype": "float64", "network_options": "{}"}
    return pd.DataFrame(
        [
            facts | {"network": name, "seed": s, "batch_size": b}
            for name, seeds in (("f1", 5), ("c1", 3))
            for s in range(seeds)
            for b in (32, 512)
        ]
    )


def test_a_caption_lists_each_networks_data_once_the_range_of_n_and_what_the_band_is():
    text = show.caption("What is shown", several(), compare="figure 2 of the paper")
    assert text.startswith("**What is shown (n = 3 to 5 seeds).**")
    assert text.endswith("Compare figure 2 of the paper.") and "Small marks: seeds" in text
    for name in ("f1", "c1"):
        assert text.count(f"digits, 1,024 training examples, network {name} {{}}") == 1
    single = show.caption("What", several().query("seed == 0"), compare="it")
    assert "(n = 1 seed)" in single and "marks" not in single
    interval = "the 95 % interval of the mean."
    for networks, n, band in (
        (["c1"], "3", "band: their range."),
        (["f1"], "5", f"band: {interval}"),
        (["f1", "c1"], "3 to 5", f"band: their range, from 5 seeds on {interval}"),
    ):
        rows = several()[lambda t, names=networks: t["network"].isin(names)]
        text = show.caption("What", rows, compare="it", marks="curves")
        assert band in text and f"(n = {n} seeds)" in text
    with pytest.raises(ValueError, match="marks = 'point'; did you mean 'points'"):
        show.caption("What", several(), compare="figure 1", marks="point")


def bands():
    a = np.linspace(-1, 1, 5)
    curves = {
        (b, d): Surface(a=a, b=None, loss=1 + (d + b / 32) * a**2, n=1, cosine=None)
        for b in (32, 512)
        for d in range(3)
    }
    curves[512, 2].loss[-1] = np.inf
    return contours.surface_rows(curves, ["batch_size", "direction"])


def quantiles(seeds=2):
    """Norms spread evenly over logarithms: the median of a seed is that of its batch size times."""
    rows = [
        {"batch_size": b, "seed": s, "level": q, "norm": 10 ** (q - 0.5) * 4.0**s / b}
        for b in (32, 256)
        for s in range(seeds)
        for q in np.linspace(0, 1, 101)
    ]
    return pd.DataFrame(rows)


def rates(seeds=3):
    """A loss that is lowest at .01 for 32, .04 for 128; one seed of 32 diverges at .08."""
    rows = [
        {"batch_size": b, "seed": s, "base_lr": lr, "loss": 1 + s / 10 + np.log2(lr / at) ** 2}
        for b, at in ((32, 0.01), (128, 0.04))
        for s in range(seeds)
        for lr in (0.08, 0.01, 0.02, 0.04)
    ]
    rows = pd.DataFrame(rows)
    rows.loc[rows.query("batch_size == 32 and seed == 0 and base_lr == .08").index, "loss"] = np.inf
    return rows


def test_the_best_learning_rate_of_each_batch_size_is_ringed(seeds=3):
    ax = drawn(plots.plot_against_lr, rates(seeds), column="loss", label="loss (nats)")
    for batch_size, best in ((32, 0.01), (128, 0.04)):
        colour = style.batch_colour(batch_size)
        lines = [line for line in ax.lines if colour in (line.get_color(), line.get_mec())]
        *faint, mean, ring = lines
        assert len(faint) == seeds
        offset = np.arange(seeds).mean() / 10
        assert ring.get_xydata().ravel() == pytest.approx([best, 1 + offset])
        assert ring.get_markerfacecolor() == "none"
        expected = 1 + offset + np.log2(np.array([0.01, 0.02, 0.04, 0.08]) / best) ** 2
        if batch_size == 32:
            expected[-1] = np.nan  # no mean of the seeds that are left
        np.testing.assert_allclose(mean.get_ydata(), expected)


def heat():
    """Out of order, with a missing cell, a diverged one, and a column of nothing else."""
    table = {256: [0.37, 0.5, 1234.0], 32: [0.3, np.inf, np.nan], 64: [np.nan, np.inf, np.inf]}
    return pd.DataFrame(table, index=[0.01, 0.16, 0.04])


def test_a_heat_map_writes_each_value_into_its_cell_and_frames_the_best_of_each_column():
    ax = drawn(plots.plot_heatmap, heat(), label="loss (nats)")
    assert texts(ax.get_xticklabels()) == ["32", "64", "256"]
    assert texts(ax.get_yticklabels()) == ["0.01", "0.04", "0.16"]
    found = {text.get_position(): text.get_text() for text in ax.texts}
    assert found == {
        (0, 0): "0.300", (0, 1): "not run", (0, 2): "diverged",
        (1, 0): "not run", (1, 1): "diverged", (1, 2): "diverged",
        (2, 0): "0.370", (2, 1): "1,234", (2, 2): "0.500",
    }  # fmt: skip
    cells = ax.collections[0].get_array()
    assert cells.mask.tolist() == [[False, True, False], [True, True, False], [True, True, False]]
    frames = [p for p in ax.patches if not p.get_hatch()]
    assert [(round(p.get_x() + 0.42), round(p.get_y() + 0.42)) for p in frames] == [(0, 0), (2, 0)]
    hatched = [p for p in ax.patches if p.get_hatch()]
    assert [(p.get_x() + 0.5, p.get_y() + 0.5) for p in hatched] == [(1, 1), (0, 2), (1, 2)]


def test_every_value_can_be_read_on_its_cell():
    table = pd.DataFrame(np.linspace(0, 1, 30).reshape(5, 6), columns=[2**k for k in range(6)])
    ax = drawn(plots.plot_heatmap, table, label="l")
    cells = ax.collections[0]
    inks = set()
    for text in ax.texts:
        column, row = text.get_position()
        cell = cells.to_rgba(cells.get_array()[row, column])
        assert contrast(text.get_color(), cell) > 4.5, text
        inks.add(text.get_color())
    assert inks == {style.PALE, style.DEEP}


def test_every_plot_names_its_axes_and_says_what_is_not_computed_yet():
    lines = {"column": "loss", "label": "loss"}
    none = {"column": "value", "label": "v"}
    drawings = (
        (plots.plot_curves, history().assign(loss=1.0), lines),
        (plots.plot_against_rho, runs(), none | {"log": False, "scale": 1}),
        (plots.plot_epochs_to, runs().assign(epochs=50), none),
        (plots.plot_by_layer, runs().assign(layer="conv 1"), none),
        (plots.plot_ratio, history().query("batch_size == 32").assign(ratio=2.0), {"label": "r"}),
        (plots.plot_line, points(), LINE),
        (plots.plot_line_band, bands(), LINE),
        (plots.plot_path, path_rows(), PATH),
        (plots.plot_conditions, conditions(), CONDITIONS | {"none": 0}),
        (plots.plot_distribution, quantiles(), {"label": "l"}),
        (plots.plot_against_lr, rates(), lines),
        (plots.plot_heatmap, heat(), {"label": "l"}),
    )
    for plot, rows, options in drawings:
        ax = drawn(plot, rows, **options)
        assert ax.get_ylabel() or plot == plots.plot_conditions, plot
        assert ax.get_xlabel() or plot == plots.plot_by_layer, plot
    axes = [drawn(plot, rows.iloc[:0], **options) for plot, rows, options in drawings]
    axes.append(drawn(plots.plot_against_batch_size, {}, **none))
    axes.append(drawn(plots.plot_arms, {}, **lines, legend=True))
    axes.append(plots.line_panels({"F1": points().iloc[:0]}).axes[0])
    assert {ax.texts[0].get_text() for ax in axes} == {"not computed yet"}
    assert "Not computed yet" in show.caption("Nothing", runs().iloc[:0], compare="it")
