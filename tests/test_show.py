"""Tests of bsglib.figures.show: what a figure's files and a notebook's pictures hold."""

import io

import numpy as np
import pandas as pd
import pytest
from IPython.core.pylabtools import print_figure
from PIL import Image

from bsglib.figures import show, style

pytestmark = pytest.mark.usefixtures("report_style")


def test_data_are_kept_without_empty_columns_and_without_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(show, "_kept", {})
    show.keep_in(str(tmp_path))
    rows = pd.DataFrame({"entry": ["f5a3"] * 2, "seed": [0, 1], "rho": np.nan, "loss": [np.nan, 1]})
    show.keep_rows(rows, "rows")
    assert (tmp_path / "rows.csv").read_text() == "seed,loss\n0,\n1,1\n"
    show.keep_rows(rows.iloc[:0], "none")
    assert (tmp_path / "none.csv").read_text() == "entry,seed,rho,loss\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(show, "_kept", {"folder": str(tmp_path / "figures")})
    (tmp_path / "figures").write_text("")
    with pytest.raises(OSError, match=f"{tmp_path}/figures"):
        show.keep_rows(pd.DataFrame(), "x")


def shown_by(fig, folder, monkeypatch):
    """Return the data of the picture that `show.figure` displays."""
    displayed = []
    monkeypatch.setattr(show, "display", lambda data, **options: displayed.append(data))
    monkeypatch.setattr(show, "_kept", {"folder": folder})
    show.figure(fig, "shown", "c", rows=pd.DataFrame(), alt="a")
    return displayed[0]


def test_a_notebook_s_picture_has_few_colours_and_looks_the_same(monkeypatch):
    fig, axes = style.panels(1, 2, height=2)
    for batch_size in (4, 32, 512, 8192):
        axes[0, 0].plot([batch_size, 2], color=style.batch_colour(batch_size))
    axes[0, 1].imshow(np.linspace(0, 1, 4000).reshape(40, 100), cmap="cividis")
    style.mark_paper(axes[0, 0], 1000)
    data = shown_by(fig, None, monkeypatch)
    assert data["text/plain"] == repr(fig)
    few = Image.open(io.BytesIO(data["image/png"]))
    all_of_them = Image.open(io.BytesIO(print_figure(fig, "png"))).convert("RGB")
    assert few.mode == "P" and few.size == all_of_them.size
    difference = np.abs(np.asarray(few.convert("RGB"), int) - np.asarray(all_of_them, int))
    assert difference.max() <= 16 and difference.mean() < 1


def test_the_papers_numbers_are_kept_below_ours_and_the_caption_says_how_they_were_read(
    tmp_path, monkeypatch
):
    shown = []
    monkeypatch.setattr(show, "display", lambda data, **options: shown.append(data))
    monkeypatch.setattr(show, "_kept", {"folder": str(tmp_path)})
    ours, paper = pd.DataFrame({"epoch": [1], "loss": [2.0]}), pd.DataFrame({"loss": [3.0]})
    paper.attrs = {"read": "exact", "source": "a repository", "note": "One run"}
    for theirs in (paper, paper.iloc[:0]):
        fig, _ = style.panels(1, 1, height=1)
        show.figure(fig, "f", "What.", rows=ours, drawn=["loss"], paper=theirs)
    said, without = (text.data for text in shown[1::2])
    assert said == "What. Dotted vermillion: the paper, exact (a repository). One run."
    assert without == "What." and (tmp_path / "f.csv").read_text() == "epoch,loss\n1,2\n"
    show.figure(style.panels(1, 1, height=1)[0], "f", "What.", rows=ours, paper=paper)
    assert (tmp_path / "f.csv").read_text() == "epoch,loss,whose\n1,2,ours\n,3,paper\n"
