"""Tests of bsglib.plots."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from bsglib import plots

BATCHES = (32, 128, 512)


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        plots.use_style()
        yield


def runs(seeds=3):
    rows = [
        {"batch_size": b, "seed": s, "rho": 0.05, "value": 1.0 + s + b / 100, "arm": "SGD"}
        for b in BATCHES
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


def history(seeds=3):
    table = pd.concat([runs(seeds).assign(epoch=e) for e in (1, 2, 4, 8)])
    return table.assign(train_loss=table["value"] / table["epoch"], test_loss=table["value"])


def test_larger_batches_are_strictly_darker_and_the_fixed_scale_is_the_declared_one():
    colours = [plots.batch_colour(b) for b in plots.SIZES]
    assert colours[0] == "#7ad151" and colours[-1] == "#440154" and colours[4] == "#2a788e"
    light = [np.dot(mpl.colors.to_rgb(c), (0.2126, 0.7152, 0.0722)) for c in colours]
    assert all(a > b for a, b in zip(light, light[1:], strict=False))


def test_the_paper_s_colour_is_no_batch_s_colour():
    assert plots.PAPER.lower() not in {plots.batch_colour(b) for b in plots.SIZES}


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_curves_show_every_seed_their_mean_and_a_label_per_batch_size(seeds):
    fig, axes = plots.panels(1, 1, height=3)
    ax = plots.plot_curves(history(seeds), axes[0, 0], column="train_loss", label="loss (nats)")
    assert ax.get_xlabel() and ax.get_ylabel() == "loss (nats)"
    assert len(ax.lines) == len(BATCHES) * (1 + (seeds if seeds > 1 else 0))
    assert {text.get_text() for text in ax.texts} == {str(b) for b in BATCHES}


def test_end_labels_never_overlap():
    close = history(1).assign(train_loss=1.0)
    fig, axes = plots.panels(1, 1, height=2)
    ax = plots.plot_curves(close, axes[0, 0], column="train_loss", label="loss")
    heights = sorted(text.get_position()[1] for text in ax.texts)
    points = np.diff(heights) * ax.get_window_extent().height * 72 / fig.dpi
    assert (points > 7.5).all()


def test_a_band_is_the_range_below_five_seeds_and_an_interval_from_five_on():
    few, many = (history(n).query("batch_size == 32 and epoch == 1") for n in (3, 5))
    tables = [t.pivot(index="epoch", columns="seed", values="test_loss") for t in (few, many)]
    low, high = plots._band(tables[0])
    assert (low.item(), high.item()) == (tables[0].min(axis=1).item(), tables[0].max(axis=1).item())
    low, high = plots._band(tables[1])
    values = tables[1].to_numpy()[0]
    half = 2.7764451 * values.std(ddof=1) / np.sqrt(5)  # Student's t, 4 degrees of freedom
    assert np.allclose([low[0], high[0]], [values.mean() - half, values.mean() + half])


def test_sam_is_dashed_diamonds_and_plain_is_discs():
    fig, axes = plots.panels(1, 1, height=3)
    arms = {"SGD": runs(1), "SGD, SAM": runs(1)}
    ax = plots.plot_against_batch_size(arms, axes[0, 0], column="value", label="v", log=True)
    markers = {line.get_marker() for line in ax.lines}
    assert {"o", "D"} <= markers
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["32", "128", "512"]
    assert ax.get_xlabel() == "batch size" and ax.get_ylabel() == "v"


def test_missing_and_infinite_values_leave_gaps_instead_of_errors():
    broken = runs(1).assign(value=[np.nan, np.inf, 1.0])
    fig, axes = plots.panels(1, 1, height=3)
    ax = plots.plot_against_batch_size({"SGD": broken}, axes[0, 0], column="value", label="v")
    assert np.isfinite(ax.lines[0].get_ydata()).all()


def test_loss_panels_have_a_row_per_arm_with_training_left_and_test_right():
    fig = plots.loss_panels({"SGD": history(), "SGD, SAM": history()})
    labels = [ax.get_ylabel() for ax in fig.axes]
    assert labels == ["train loss (nats)", "test loss (nats)"] * 2
    limits = {ax.get_ylim() for ax in fig.axes}
    assert len(limits) == 1, "one scale for all"


def test_rho_panel_has_a_tick_per_radius():
    rows = pd.concat([runs().assign(rho=r) for r in (0.01, 0.1)]).query("batch_size == 512")
    fig, axes = plots.panels(1, 1, height=3)
    ax = plots.plot_against_rho(rows, axes[0, 0], column="value", label="v", log=True, scale=1)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.01", "0.1"]


def test_a_caption_names_n_data_and_the_paper_s_figure():
    facts = {"dataset": "digits", "train_size": 1024, "network": "net", "network_options": "{}"}
    rows = runs(3).assign(dtype="float64", **facts)
    text = plots.caption("What is shown", rows, answers="figure 2 of the paper", marks="curves")
    assert text.startswith("**What is shown (n = 3 seeds).**")
    assert "digits, 1,024 training examples" in text and "band: their range" in text
    assert text.endswith("Answers figure 2 of the paper.")
    assert "Small marks: seeds" in plots.caption("Marks", rows, answers="it")


def test_what_is_not_computed_yet_says_so():
    nothing = runs().iloc[:0]
    fig, axes = plots.panels(1, 3, height=2)
    plots.plot_curves(history().iloc[:0], axes[0, 0], column="train_loss", label="loss")
    plots.plot_against_batch_size({"SGD": nothing}, axes[0, 1], column="value", label="v")
    plots.plot_against_rho(nothing, axes[0, 2], column="value", label="v", log=False, scale=1)
    assert [ax.texts[0].get_text() for ax in fig.axes] == ["not computed yet"] * 3
    assert "Not computed yet" in plots.caption("Nothing", nothing, answers="it")


def test_show_keeps_svg_png_and_the_data(tmp_path):
    fig, axes = plots.panels(1, 1, height=2)
    axes[0, 0].plot([1, 2])
    plots.show(fig, "figure-9", rows=runs(), caption="c", alt="a", folder=str(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {f"figure-9.{e}" for e in ("svg", "png", "csv")}
    assert len(pd.read_csv(tmp_path / "figure-9.csv")) == len(runs())
