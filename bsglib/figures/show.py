"""How a notebook shows a figure or a table: with a caption from its runs, and kept as files."""

import io
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pandas as pd
from IPython.core.pylabtools import print_figure
from IPython.display import HTML, SVG, Markdown, display
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from bsglib.figures.style import BAND_SEEDS
from bsglib.names import nearest
from bsglib.project import resolve
from bsglib.verdicts import number_text

LAYOUT_DPI = 200  # in fewer pixels hinted text is narrower, and the room left for it too small
PALETTE = 256  # colours of a picture in a notebook, none off by more than a few levels of 255
UNDATED = dict.fromkeys(("Date", "Creator", "Format", "Type"))
NAMESPACES = {"": "http://www.w3.org/2000/svg", "xlink": "http://www.w3.org/1999/xlink"}
FAMILY, WHITE = "'DejaVu Sans', sans-serif", "background: #ffffff"
COUNTED = re.compile(r"(axes|figure|legend|line2d|matplotlib\.axis|patch|text|[xy]tick)_\d+")
PLACE = "network", "arm", "batch_size", "seed", "epoch", "updates"  # columns that tell rows apart
PLOTLY = "application/vnd.plotly.v1+json"  # the media type of an interactive figure


def caption(
    statement: str,
    runs: pd.DataFrame,
    *,
    compare: str = "",
    detail: str = "",
    marks: Literal["points", "medians", "curves", "lines", "bands", "none"] = "points",
) -> str:
    """Return a caption with facts from the runs: data, network, number of seeds.

    Args:
        statement: what is plotted against what.
        runs: the runs behind the figure.
        compare: the figure of the paper to compare with; empty: none.
        detail: further facts for the reader, one or two sentences.
        marks: how seeds are drawn: small "points" beside their mean, or beside their "medians";
            faint "curves" with a band, or faint "lines" only; "bands" only; "none".

    Raises:
        ValueError: if `marks` is unknown.
    """
    source = f"Compare {compare}." if compare else ""
    if runs.empty:
        return f"**{statement}.** Not computed yet. {source}".strip()
    setups = runs.groupby(["dataset", "train_size", "network", "network_options"], sort=False)
    n = setups["seed"].nunique()
    spread = "their range" if n.max() < BAND_SEEDS else "the 95 % interval of the mean"
    if n.min() < BAND_SEEDS <= n.max():
        spread = f"their range, from {BAND_SEEDS} seeds on the 95 % interval of the mean"
    seeds = f"{n.min()} to {n.max()}" if n.min() < n.max() else f"{n.max()}"
    said = {
        "points": "Small marks: seeds; large: their mean.",
        "medians": "Small marks: seeds; large: their median.",
        "lines": "Faint: seeds; full: their mean.",
        "none": "",
        "curves": f"Faint: seeds; full: their mean; band: {spread}.",
        "bands": f"Lines: means over seeds; bands: {spread}.",
    }
    if marks not in said:
        raise ValueError(f"marks = {marks!r}{nearest(marks, said)}")
    seen = said[marks]
    data = "; ".join(
        f"{dataset}, {size:,.0f} training examples, network {network} {options}"
        for dataset, size, network, options in setups.groups
    )
    facts = f"{data}; {runs['dtype'].iloc[0]}." + (f" {seen}" if seen and n.max() > 1 else "")
    head = f"**{statement} (n = {seeds} seed{'s' if n.max() > 1 else ''}).**"
    return " ".join(part for part in (head, detail, facts, source) if part)


_kept: dict[str, str | None] = {"folder": None}


def keep_in(folder: str | None) -> None:
    """Keep what is shown from now on as files, too: figures as SVG, the data behind them as CSV.

    Args:
        folder: where the files go; None keeps none.
    """
    _kept["folder"] = folder


def figure(
    fig: Figure,
    name: str,
    statement: str,
    runs: pd.DataFrame | None = None,
    *,
    rows: pd.DataFrame | None = None,
    drawn: Iterable[str] = (),
    paper: pd.DataFrame | None = None,
    alt: str | None = None,
    **facts: str,
) -> None:
    """Display a figure and its caption, and keep both where `keep_in` says.

    Args:
        fig: the figure.
        name: file name without ending, and the figure's anchor in the report.
        statement: what is plotted against what; without runs the whole caption, Markdown.
        runs: the runs behind the figure, of which `caption` tells the facts.
        rows: the data behind it; None: the runs.
        drawn: the columns of the rows that it shows; kept are these and what tells rows apart, or
            all columns if none is named.
        paper: the paper's numbers in it, as `bsglib.studies.source` returns them: the caption says
            how they were read, and they are kept below the rows, with a column that says whose.
        alt: what the figure shows, for those who cannot see it; None: the statement.
        **facts: what else `caption` takes.
    """
    text = statement if runs is None else caption(statement, runs, **facts)
    alt, folder = alt or statement, _kept["folder"]
    behind = runs if rows is None else rows
    if drawn:
        behind = behind[[*(c for c in PLACE if c in behind), *drawn]]
    if paper is not None and len(paper):
        said = (
            f"the paper, {paper.attrs['read']} ({paper.attrs['source']})",
            paper.attrs.get("note"),
        )
        text += f" Dotted vermillion: {'. '.join(filter(None, said))}."
        behind = pd.concat([behind.assign(whose="ours"), paper.assign(whose="paper")])
    keep_rows(behind, name)
    dpi = fig.dpi
    with rc_context({"figure.constrained_layout.use": False}):  # laid out once, not per drawing
        if folder is not None:
            fig.set_dpi(LAYOUT_DPI)
        if (engine := fig.get_layout_engine()) is not None:
            engine.execute(fig)
            fig.set_layout_engine(None)
        fig.set_dpi(dpi)
        if folder is None:
            kind, data = "image/png", {"image/png": _picture(fig), "text/plain": repr(fig)}
            display(data, raw=True, metadata={kind: {"alt": alt}, "figure": {"name": name}})
        else:
            kind, file = "image/svg+xml", Path(resolve(folder)) / f"{name}.svg"
            drawing = io.StringIO()
            fig.savefig(drawing, format="svg", metadata=UNDATED)
            file.write_text(compact(drawing.getvalue()), encoding="utf-8")
            display(SVG(str(file)), metadata={kind: {"alt": alt}, "figure": {"name": name}})
    display(Markdown(text), metadata={"caption_of": name})


def _picture(fig: Figure) -> bytes:
    """Return a figure as a PNG with a palette, a third of what all colours would take."""
    picture, file = Image.open(io.BytesIO(print_figure(fig, "png"))).convert("RGB"), io.BytesIO()
    few = picture.quantize(PALETTE, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(file, "png", optimize=True)
    return file.getvalue()


def compact(svg: str) -> str:
    """Return matplotlib's SVG in half of its size, on white: it looks the same.

    Coordinates get two decimals, hundredths of a point. What matplotlib only counted loses its id,
    groups that say nothing are dissolved, and what marks of one group share is said once.
    """
    for prefix, address in NAMESPACES.items():
        ElementTree.register_namespace(prefix, address)
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.text = element.text if (element.text or "").strip() else None
        element.tail = "\n" if "\n" in (element.tail or "") else element.tail
        if COUNTED.fullmatch(element.get("id", "")):
            del element.attrib["id"]
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        for name, short in (("d", _steps), ("x", _short), ("y", _short)):
            if name in element.attrib:
                element.set(name, short(element.get(name)))
        if "style" in element.attrib:
            element.set("style", element.get("style").replace(f"font-family: {FAMILY}; ", ""))
    _dissolve(root)
    for group in root.iter(f"{{{NAMESPACES['']}}}g"):
        _say_once(group)
    root.attrib |= {"font-family": FAMILY, "style": WHITE}
    return ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")


def _steps(path: str) -> str:
    """Return a path with straight lines as steps from point to point, which are shorter."""
    steps, here, before = "", (0, 0), ""
    for command, text in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        numbers = there = [round(100 * float(number)) for number in text.split()]
        if command == "L":  # steps between rounded points do not add up their errors
            command, numbers = "l", [there[0] - here[0], there[1] - here[1]]
        joined = " ".join(map(_decimal, numbers)).replace(" -", "-")
        again = "" if joined.startswith("-") else " "
        steps += (again if command == before == "l" else command) + joined
        here, before = there[-2:] or here, command
    return steps


def _short(number: str) -> str:
    return _decimal(round(100 * float(number)))


@cache
def _decimal(hundredths: int) -> str:
    """Return a number of hundredths as text, without a zero before the point."""
    text = f"{hundredths / 100:.2f}".rstrip("0").rstrip(".")
    return re.sub(r"^(-?)0(?=\.)", r"\1", text)


def _dissolve(element: ElementTree.Element) -> None:
    """Put in place of groups without attributes what they hold."""
    children = []
    for child in element:
        _dissolve(child)
        children += list(child) if child.tag.endswith("}g") and not child.attrib else [child]
    element[:] = children


def _say_once(group: ElementTree.Element) -> None:
    """Move the style that all marks of a group share to the group."""
    styles = {child.get("style") if child.tag.endswith("}use") else None for child in group}
    style = styles.pop() if len(styles) == 1 else None
    if style and "style" not in group.attrib and "opacity" not in re.findall(r"[\w-]+(?=:)", style):
        group.set("style", style)
        for child in group:
            del child.attrib["style"]


def table(shown: pd.DataFrame | object, name: str, *, keep: bool = True) -> None:
    """Display a table of numbers or verdicts, and keep it where `keep_in` says.

    Args:
        shown: a DataFrame shown with its index, or what has `.rows` and shows itself as HTML.
        name: file name without ending.
        keep: False keeps no file of it.
    """
    if isinstance(shown, pd.DataFrame):
        rows = shown.reset_index()
        kind = "bsg" if len(rows.select_dtypes("number").columns) else "bsg text"
        html = rows.to_html(index=False, border=0, classes=kind, float_format=number_text)
    else:
        rows, html = shown.rows, shown._repr_html_()
    if keep:
        keep_rows(rows, name)
    display(HTML(html), metadata={"table": {"name": name}})


def keep_rows(rows: pd.DataFrame, name: str) -> None:
    """Write the data behind a figure as CSV where `keep_in` says.

    Columns that are empty or name an entry are left out.

    An entry is the digest of a run and its measures in this version's design: arm, batch size and
    seed say which it is.

    Args:
        rows: the data.
        name: file name without ending.
    """
    if (folder := _kept["folder"]) is not None:
        path = Path(resolve(folder))
        path.mkdir(parents=True, exist_ok=True)
        if len(rows):
            rows = rows.dropna(axis="columns", how="all").drop(columns="entry", errors="ignore")
        rows.to_csv(path / f"{name}.csv", index=False, float_format="%.6g")
