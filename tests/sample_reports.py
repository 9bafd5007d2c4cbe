"""Reports as bsglib.pages.report writes them, of notebooks made here, for the tests to look at."""

import base64
import io
from dataclasses import replace

import matplotlib
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from bsglib.claims import Claim, Margin, Measured, Terms, verdict
from bsglib.figures import contours, show, surface3d
from bsglib.landscape import Surface
from bsglib.pages import index, report
from bsglib.studies.verdict_table import verdict_table
from bsglib.verdicts import Rule, Shares

INK, INK_2, BATCHES = "#1f2328", "#6a737d", {32: "#7ad151", 512: "#2a788e", 8192: "#440154"}
STUDIES = [
    {"name": "surlemont_sam", "title": "Does SAM help?", "source": "Surlemont", "headline": "a-1"},
    {"name": "other", "title": "Is it <sharp>?", "source": "Other 2017", "headline": "figure-2"},
]
STATED, RATIO = Margin("points", 1, "one point"), Margin("ratio", 1.25, "a quarter", ratios=True)
SOME = {"locator": "Figure 2", "figure": "figure-2", "quantity": "points", "statistic": print}
POINTS = SOME | {"margin": STATED, "rule": Rule("above", 1, stated=7.1), "value": "7.1"}
FACTOR = SOME | {"margin": RATIO, "rule": Rule("above", 1.25, ratios=True, stated=10)}
GAP = Claim(id="gap", statement="The gap grows with the batch | size.", primary=True, **POINTS)
SHARP = Claim(id="sharp", statement="Sharpness grows.", value="> 10", **FACTOR)
DEEP = replace(GAP, id="deep", statement="Deep networks lose.", value="3", primary=False)
OURS = replace(GAP, id="ours", statement="Does it help?", value="-", kind="ours", margin=STATED)
TERMS = Terms(seeds=3, primary=3, remedy="`bsg compute x`")
TOY = (Shares(examples=0.05),)
MEASURED = {  # by profile, of each claim
    "laptop": [
        (GAP, Measured((4.8, 5.2, 5.6), shares=TOY)),
        (SHARP, Measured((0.8, 1.4, 2.4), shares=TOY)),
        (DEEP, Measured(not_testable="training accuracy 40 %, 75 % needed")),
        (OURS, Measured((0.1,))),
    ],
    "gpu": [
        (GAP, Measured((6.9, 7.0, 7.2, 7.1), shares=(Shares(),))),
        (SHARP, Measured()),
        (DEEP, Measured()),
        (OURS, Measured((-2, -2.1, -1.9), shares=(Shares(examples=0.5),))),
    ],
}
EVIDENCE = {"laptop": "exploratory", "gpu": "confirmatory"}


def verdicts(profile):
    """Return the table of verdicts of a profile."""
    return verdict_table([verdict(claim, one, TERMS) for claim, one in MEASURED[profile]])


PLOT = {"data": [{"type": "surface", "z": [[1, 2], [3, 4]]}], "layout": {"title": {"text": "</b>"}}}


def draw(folder, name, width=7.2):
    """Write a figure as bsglib.figures.show does, and return its PNG in base64."""
    style = {"svg.fonttype": "none", "text.color": INK, "axes.edgecolor": INK, "font.size": 8.5}
    style |= {"xtick.color": INK, "ytick.color": INK, "axes.labelcolor": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, 3), layout="constrained")
        ax = figure.add_subplot()
        for batch_size, colour in BATCHES.items():
            y = [batch_size / 8192 + i * 0.1234567 for i in range(9)]
            ax.plot(y, "-o", color=colour, lw=1.6, label=f"B = {batch_size}")
            ax.annotate(f"B = {batch_size}", (8, y[-1]), color=colour)
        ax.axhline(0.7, color="#D55E00", ls=":")
        ax.text(0, 0.72, "paper", color="#D55E00")
        ax.set(xlabel="epoch", ylabel=r"loss, $\lambda$")
        ax.spines[["top", "right"]].set_visible(False)
        ax.axvline(3, color=INK_2, lw=0.5)
        drawing = io.StringIO()
        figure.savefig(drawing, format="svg", transparent=True)
        (folder / f"{name}.svg").write_text(show.compact(drawing.getvalue()), encoding="utf-8")
    (folder / f"{name}.csv").write_text("epoch,loss\n0,1\n", encoding="utf-8")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return base64.b64encode(buffer.getvalue()).decode()


def shown(data, **metadata):
    return new_output("display_data", data=data, metadata=metadata)


def figure_outputs(folder, name, **options):
    png, alt = draw(folder, name, **options), f'Loss of "{name}" & more'
    caption = f"**Loss against epochs, n = 3.** Answers {name} with $\\epsilon = 10^{{-3}}$."
    image = {"image/png": png, "text/plain": alt}
    return [
        shown(image, **{"image/png": {"alt": alt}, "figure": {"name": name}}),
        shown({"text/markdown": caption}, caption_of=name),
    ]


def surface_outputs(folder):
    """Return what a notebook's cell that shows two loss surfaces puts out."""
    a, b = np.linspace(-1, 1, 5), np.linspace(-1, 1, 3)
    loss = 0.1 + (a[:, None] + 0.1) ** 2 + b**2
    surfaces = {"SB": Surface(a, b, loss, 9, 0.0), "LB": Surface(a, b, 3 * loss, 9, 0.0)}
    surfaces["LB"].loss[1, 2] = np.nan
    outputs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface3d, "display", lambda data, raw=False, metadata=None: outputs.append(
            shown(data if raw else {"text/markdown": data.data}, **metadata)))  # fmt: skip
        patch.setattr(show, "_kept", {"folder": str(folder)})
        surface3d.show(
            surface3d.surface_figure(surfaces),
            "figure-2-3d",
            rows=contours.surface_rows(surfaces, ["network"]),
            caption="**The same in space.**",
            alt=surface3d.surface_text(surfaces),
        )
    return outputs


def write(folder):
    """Fill a folder with reports in which one study has pages of the profiles laptop and gpu."""
    for profile, evidence in EVIDENCE.items():
        figures = folder / profile / "figures" / "surlemont_sam"
        figures.mkdir(parents=True)
        rows = verdicts(profile).rows.assign(study="surlemont_sam", evidence=evidence)
        rows.to_csv(figures / "verdicts.csv", index=False)
    table = verdicts("gpu").html
    cells = [new_code_cell("verdicts", outputs=[shown({"text/html": table})])]
    nbformat.write(new_notebook(cells=cells), folder / "gpu.ipynb")
    arguments = {"assets": folder / "assets", "command": "bsg report <x>"}
    page = folder / "gpu/surlemont_sam.html"
    report.to_html(folder / "gpu.ipynb", page, figures=figures, **arguments)
    figures = folder / "laptop" / "figures" / "surlemont_sam"
    table = verdicts("laptop").html
    (figures / "claims.csv").write_text("claim\ngap\n", encoding="utf-8")
    bar = new_output("stream", name="stderr", text=" 0%|   |\r\x1b[31m100%|###|\x1b[0m done\n")
    code = 'rows = measure(1e-3, "text")  # why\n' + "long_name = " * 20 + "0"
    cells = [
        new_markdown_cell(
            "# Does $B$ matter?\n\nWhat is asked, where $" + r"\lambda_i \leq " * 12 + "1$."
        ),
        new_code_cell("epochs: int = 2", metadata={"tags": ["parameters"]}),
        new_markdown_cell(
            "## Figure 1: loss\n\n> Loss grows with $\\lambda_{\\max}$ [1].\n\n$$"
            "\\phi = 100\\,\\frac{\\max_{z} f(x + Az) - f(x)}{1 + f(x)}$$"
        ),
        new_code_cell(code, outputs=[bar, *figure_outputs(figures, "a-1")]),
        new_code_cell("fig", outputs=figure_outputs(figures, "figure-2", width=3.5)),
        new_code_cell("table", outputs=[shown({"text/html": table}, table={"name": "claims"})]),
        new_markdown_cell(
            "### Figure 1: loss\n\nThe same heading again.\n\n| a | b |\n|---|---|\n"
            "| one | a table in Markdown |"
        ),
        new_code_cell("conclusion", outputs=[shown({"text/html": table})]),
    ]
    notebook = new_notebook(cells=cells)
    nbformat.write(notebook, folder / "study.ipynb")
    arguments |= {"figures": figures}
    report.to_html(folder / "study.ipynb", folder / "laptop/surlemont_sam.html", **arguments)
    cells.append(new_code_cell("surface", outputs=[shown({report.PLOTLY: PLOT})]))
    cells.append(new_code_cell("surfaces", outputs=surface_outputs(figures)))
    nbformat.write(new_notebook(cells=cells), folder / "plotly.ipynb")
    report.to_html(folder / "plotly.ipynb", folder / "laptop/interactive.html", **arguments)
    index.write_index(folder, "gpu", STUDIES)
    index.write_index(folder, "laptop", STUDIES)
    index.write_index(folder, None, STUDIES)
