"""How a notebook shows a figure or a table: with a caption from its runs, and kept as files."""

from pathlib import Path
from typing import Literal

import pandas as pd
from IPython.display import HTML, Image, Markdown, display
from matplotlib import rc_context
from matplotlib.figure import Figure

from bsglib.claims import number_text
from bsglib.names import nearest
from bsglib.params import resolve
from bsglib.style import BAND_SEEDS

PNG_DPI = 200
PLOTLY = "application/vnd.plotly.v1+json"  # the media type of an interactive figure


def caption(
    statement: str,
    runs: pd.DataFrame,
    *,
    answers: str,
    detail: str = "",
    marks: Literal["points", "medians", "curves", "lines", "bands", "none"] = "points",
) -> str:
    """Return a caption whose facts come from the runs: data, network, n of seeds.

    Args:
        statement: what is plotted against what.
        runs: the runs behind the figure.
        answers: the figure of the source this one answers.
        detail: what else the reader has to know, one or two sentences.
        marks: what seeds are: small "points" beside their mean, or beside their "medians"; faint
            "curves" with a band, or faint "lines" alone; "bands" alone; "none" if none are shown.

    Raises:
        ValueError: if `marks` is none of these.
    """
    if runs.empty:
        return f"**{statement}.** Not computed yet. Answers {answers}."
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
    return " ".join(part for part in (head, detail, facts, f"Answers {answers}.") if part)


def figure(
    fig: Figure, name: str, *, rows: pd.DataFrame, caption: str, alt: str, folder: str | None
) -> None:
    """Display a figure and its caption; with a folder also keep SVG, PNG and the data as CSV.

    Args:
        fig: the figure.
        name: file name without ending, and the figure's anchor in the report.
        rows: the data behind it.
        caption: Markdown, shown under it.
        alt: what the figure shows, for those who cannot see it.
        folder: where the files go; None keeps none.
    """
    dpi, shown = fig.dpi, fig
    with rc_context({"figure.constrained_layout.use": False}):  # laid out once, not per format
        if folder is not None:
            fig.set_dpi(PNG_DPI)  # in fewer pixels hinted text is narrower, its room too small
        if (engine := fig.get_layout_engine()) is not None:
            engine.execute(fig)
            fig.set_layout_engine(None)
        fig.set_dpi(dpi)
        if folder is not None:
            path = resolve(folder)
            path.mkdir(parents=True, exist_ok=True)
            fig.savefig(path / f"{name}.svg", metadata={"Date": None})
            fig.savefig(path / f"{name}.png", dpi=PNG_DPI, transparent=False)
            shown = Image(str(path / f"{name}.png"), retina=True)
    keep_rows(rows, name, folder)
    display(shown, metadata={"image/png": {"alt": alt}, "figure": {"name": name}})
    display(Markdown(caption), metadata={"caption_of": name})


def table(shown: pd.DataFrame | object, name: str, *, folder: str | None) -> None:
    """Display a table of numbers or verdicts; with a folder also keep it as CSV.

    Args:
        shown: a DataFrame shown with its index, or what has `.rows` and shows itself as HTML.
        name: file name without ending.
        folder: where the file goes; None keeps none.
    """
    if isinstance(shown, pd.DataFrame):
        rows = shown.reset_index()
        kind = "bsg" if len(rows.select_dtypes("number").columns) else "bsg text"
        html = rows.to_html(index=False, border=0, classes=kind, float_format=number_text)
    else:
        rows, html = shown.rows, shown._repr_html_()
    keep_rows(rows, name, folder)
    display(HTML(html), metadata={"table": {"name": name}})


def keep_rows(rows: pd.DataFrame, name: str, folder: str | None) -> None:
    """Write the data behind a figure as CSV.

    Args:
        rows: the data.
        name: file name without ending.
        folder: where the file goes; None keeps none.
    """
    if folder is not None:
        path = Path(resolve(folder))
        path.mkdir(parents=True, exist_ok=True)
        rows.to_csv(path / f"{name}.csv", index=False, float_format="%.6g")
