"""Tests of bsglib.figures.explorer: its numbers and words, and the element in a browser."""

import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_browser import (
    MARKS,
    TEXTS,
    THEMES,
    browser,
    complaints,
    tab,  # noqa: F401 a fixture
)

from bsglib.figures import explorer, show
from bsglib.landscape import Surface
from bsglib.pages import report

SIZES, RATES, SEEDS = (32, 64, 128, 256), (0.01, 0.02, 0.04, 0.08, 0.16), (0, 1, 2)
DIVERGED, HALF, BARE = (32, 0.16), (64, 0.16), (256, 0.01)  # all seeds; one seed; no surface
LACKING = (256, 0.02)
GRID = [(b, lr) for b in SIZES for lr in RATES if (b, lr) != LACKING]


def curve(size, rate, seed, last=40):
    """Losses that fall faster at a higher rate and a smaller batch, to the end or to infinity."""
    epochs = np.arange(1, last + 1)
    level = 0.3 + 0.05 * np.log2(256 / size) * (rate / 0.16) + 0.02 * seed
    train = level + 0.4 * np.exp(-epochs * rate * 32 / size)
    validation = train + 0.05 + 0.002 * epochs
    if (size, rate) == DIVERGED or ((size, rate) == HALF and seed == 2):
        train, validation = (np.append(v[:4], [9e9, np.inf]) for v in (train, validation))
    names = {"batch_size": size, "base_lr": rate, "seed": seed}
    table = {"epoch": epochs[: len(train)], "train_loss": train, "validation_loss": validation}
    return pd.DataFrame(names | table)


@pytest.fixture(scope="module")
def curves():
    return pd.concat([curve(*key, seed) for key in GRID for seed in SEEDS], ignore_index=True)


@pytest.fixture(scope="module")
def cells(curves):
    """A row per cell and quantity, as a notebook makes it of the runs."""
    finite = np.isfinite(curves.groupby(["batch_size", "base_lr", "seed"])["train_loss"].max())
    runs = curves.groupby(["batch_size", "base_lr", "seed"])["validation_loss"].min().reset_index()
    runs["distance"] = np.sqrt(runs["base_lr"] / runs["batch_size"]) * (9 + runs["seed"])
    runs["keskar_sharpness"] = runs["batch_size"] / 30 * 0.02 / runs["base_lr"] + runs["seed"]
    runs["diverged"] = ~finite.to_numpy()
    quantities = list(explorer.QUANTITIES)
    runs[quantities] = runs[quantities].mask(runs["diverged"])
    lost = runs.groupby(["batch_size", "base_lr"])["diverged"].sum()
    long = runs.melt(["batch_size", "base_lr"], quantities, "quantity")
    rows = long.groupby(["batch_size", "base_lr", "quantity"])["value"].agg(
        mean="mean", low="min", high="max", n="count"
    )
    return rows.reset_index().join(lost, on=["batch_size", "base_lr"])


@pytest.fixture(scope="module")
def surfaces():
    grid = np.linspace(-1, 1, 13)
    made = {}
    for size, rate in GRID:
        loss = 0.3 + size / 64 * grid[:, None] ** 2 + 0.02 / rate * (grid - 0.1) ** 2
        made[size, rate] = Surface(grid, grid, loss, 1000, 0.0)
    made[64, 0.02].loss[0, 12] = np.nan
    made[DIVERGED].loss[:] = np.nan
    del made[BARE]
    return made


def displayed(*arguments, folder=None, **options):
    """What a notebook's cell puts out: the element, then its caption."""
    outputs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explorer, "display", lambda data, raw=False, metadata=None: outputs.append(
            new_output("display_data", data if raw else {"text/markdown": data.data},
                       metadata=metadata)))  # fmt: skip
        patch.setattr(show, "_kept", {"folder": folder})
        explorer.show(*arguments, **{"caption": "**All cells, n = 3.**"} | options)
    return outputs


def drawn(outputs):
    """The numbers that the page's script gets."""
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>',
                         outputs[0].data["text/html"], re.S)  # fmt: skip
    return json.loads(text)


@pytest.fixture(scope="module")
def given(cells, curves, surfaces):
    return cells, curves, surfaces


@pytest.fixture(scope="module")
def data(given):
    return drawn(displayed(*given, "explorer"))


def of(data, key):
    (cell,) = (c for c in data["cells"] if (c["batch_size"], c["base_lr"]) == key)
    return cell


def test_every_number_comes_through_and_it_begins_with_the_lowest_validation_loss(given, data):
    cells, curves, surfaces = given
    assert [(c["batch_size"], c["base_lr"]) for c in data["cells"]] == sorted(
        GRID, key=lambda key: key[::-1]
    )
    for row in cells[cells["n"] > 0].itertuples():
        shown = of(data, (row.batch_size, row.base_lr))["values"][row.quantity]
        assert shown == pytest.approx([row.mean, row.low, row.high], rel=1e-4)
    lines = of(data, (64, 0.02))["curves"]
    mine = curves[(curves["batch_size"] == 64) & (curves["base_lr"] == 0.02)]
    for part in explorer.PARTS:
        table = mine.pivot(index="epoch", columns="seed", values=part).loc[lines["epoch"]]
        assert np.allclose(np.transpose(lines[part]["seeds"]), table, rtol=1e-4)
        assert np.allclose(lines[part]["mean"], table.mean(axis=1), rtol=1e-4)
    for key in ((128, 0.04), (64, 0.02)):
        shown, loss = np.array(of(data, key)["surface"], float), surfaces[key].loss
        assert np.allclose(shown, np.log10(loss).T, atol=1e-4, equal_nan=True)
    assert of(data, (64, 0.02))["surface"][12][0] is None  # z[b][a], as the page reads it
    assert data["plane"]["a"] == surfaces[64, 0.02].a.round(5).tolist()
    losses = cells[cells["quantity"] == "validation_loss"]
    best, first = losses.loc[losses["mean"].idxmin()], data["cells"][data["start"]]
    assert (first["batch_size"], first["base_lr"]) == (best["batch_size"], best["base_lr"])


def changed(cells, **values):
    rows = cells.copy()
    for name, value in values.items():
        rows[name] = rows[name].astype(object)
        rows.loc[0, name] = value
    return rows


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda c, v, s: (c.drop(columns="n"), v, s), r"cells: without 'n'; needed are batch_size"),
        (lambda c, v, s: (changed(c, low=1e9), v, s), "allowed where n > 0 is low <= mean <= high"),
        (lambda c, v, s: (pd.concat([c, c[:1]]), v, s), "cells: .*twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused(given, wrong, message):
    with pytest.raises(ValueError, match=message):
        displayed(*wrong(*given), "explorer")


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def page(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer")
    figures = folder / "laptop" / "figures" / "study"
    outputs = displayed(*given, "explorer", folder=str(figures))
    text = "# What does $B$ do?\n\nA page with the explorer.\n\n## Explorer\n\nChoose a cell."
    cells = [new_markdown_cell(text), new_code_cell("show()", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells), folder / "study.ipynb")
    return report.to_html(
        folder / "study.ipynb", folder / "laptop" / "study.html",
        figures=figures, assets=folder / "assets", command="bsg report study",
    )  # fmt: skip


ARROWS = {"Left": 37, "Up": 38, "Right": 39, "Down": 40}
CENTRE = """(e => {{ e.scrollIntoView({{block: "center"}}); const box = e.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2]; }})({})"""
BUTTON = "document.querySelector('.choices input[aria-label=\"B = {}, learning rate {}\"]')"
# What a reader sees of a choice: words, checked button, names, and what stands in front.
STATE = """({
  words: document.querySelector(".words").textContent,
  checked: [...document.querySelectorAll(".choices :checked")].map(e => e.ariaLabel),
  names: [...document.querySelectorAll(".panel > svg")].map(e => e.getAttribute("aria-label")),
  chosen: [...document.querySelectorAll(".cell.chosen")].map(e => e.innerHTML),
  front: [...document.querySelectorAll(".cell.chosen")].every(e => !e.nextElementSibling),
  map: document.querySelector(".map").innerHTML,
  axes: [...document.querySelectorAll(".panel > svg > text, .axis, .scale")].map(e => e.outerHTML)
})"""


@pytest.fixture(scope="module")
def opened(tab, page):  # noqa: F811
    tab.open(page)
    return tab, list(tab.events)


@pytest.fixture
def shown(opened, data):
    """The tab with the page in it, in a wide window, as it is at first."""
    tab = opened[0]  # noqa: F811
    tab.look()
    tab.run(f"document.querySelectorAll('.choices input')[{data['start']}].click()")
    tab.events.clear()
    yield tab
    assert complaints(tab.events) == []
    tab.look()


def click(tab, key):  # noqa: F811
    point = dict(zip("xy", tab.run(CENTRE.format(BUTTON.format(*key))), strict=True))
    for kind in ("mousePressed", "mouseReleased"):
        tab.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **point)


@browser
def test_the_mouse_chooses_a_cell_and_all_panels_follow(shown, data):
    before, cell = shown.run(STATE), of(data, (128, 0.02))
    assert before["words"].startswith(data["cells"][data["start"]]["name"])
    click(shown, (128, 0.02))
    after = shown.run(STATE)
    assert after["words"] == f"{cell['name']}: {cell['words']}."
    assert after["checked"] == [cell["name"]]
    assert len(after["chosen"]) == len(before["chosen"]) == 4 and after["front"]
    assert all(a != b for a, b in zip(after["chosen"], before["chosen"], strict=True))
    assert after["map"] != before["map"]
    assert all(cell["name"] in name for name in after["names"]) and len(after["names"]) == 5
    assert after["axes"] == before["axes"], "axes and their labels stay where they are"


@browser
@pytest.mark.parametrize(
    ("start", "way", "passed"),
    [
        ((64, 0.04), "Right Down Left Up", [(128, 0.04), (128, 0.08), (64, 0.08), (64, 0.04)]),
        ((64, 0.08), "Down Down Left Left", [(64, 0.16), (64, 0.16), (32, 0.16), (32, 0.16)]),
    ],
    ids=["there and back", "to the edge"],
)
def test_arrow_keys_go_where_they_point(shown, start, way, passed):
    click(shown, start)
    seen = []
    for key in way.split():
        options = {"key": f"Arrow{key}", "windowsVirtualKeyCode": ARROWS[key]}
        for kind in ("keyDown", "keyUp"):
            shown.send("Input.dispatchKeyEvent", type=kind, **options)
        seen.append(shown.run(STATE)["words"].split(":")[0])
    assert seen == [f"B = {b}, learning rate {lr:g}" for b, lr in passed]
    assert shown.run("document.activeElement.ariaLabel") == seen[-1]
    assert shown.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@browser
@THEMES
def test_it_stands_out_from_the_page(shown, theme):
    shown.look(theme)
    click(shown, (32, 0.01))
    texts = shown.run(TEXTS)
    assert len(texts) > 30 and [each for each in texts if each[0] < 4.5] == []
    marks = MARKS.replace(".canvas svg, .thumbnail svg", ".panel > svg").replace(
        '"defs, clipPath"', '"svg svg svg, .map, .scale, .cell:not(.chosen)"'
    )
    found = shown.run(marks)
    texts = [mark for mark in found if mark["tag"] == "text"]
    assert len(texts) > 40 and [mark for mark in texts if mark["contrast"] < 4.5] == []
    least = {"light": 1.7, "dark": 3}[theme]  # a light batch colour's lines are wide, and labelled
    lines = [mark for mark in found if mark["kind"] == "stroke" and mark["alpha"] > 0.95]
    assert len(lines) > 10 and [mark for mark in lines if mark["contrast"] < least] == []
