"""Notebooks become reports: papermill runs them, an own nbconvert template turns them into HTML.

A page needs no network: equations are MathML, figures inlined SVG whose colours follow the reader's
light or dark theme. Of each figure a script makes a PNG, for those who want one; plotly's script
is in pages with an interactive figure.
"""

import base64
import csv
import gzip
import html as markup
import json
import os
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from latex2mathml.converter import convert
from nbconvert.exporters import TemplateExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from traitlets import default

from bsglib.claims import AS_RUN, AS_WRITTEN
from bsglib.figures.show import PLOTLY
from bsglib.pages.themes import dark_colours, inline_svg, page_colour
from bsglib.project import ROOT
from bsglib.studies.verdict_table import css_class
from bsglib.verdicts import DIRECTIONS, SCALES

TEMPLATES = Path(__file__).parent / "templates"
UNPACK = TEMPLATES / "report" / "unpack.js"
HINT = """<p class="hint">Drag it, or use the arrow keys, to turn; <kbd>+</kbd> and <kbd>−</kbd>
come closer and go back; <kbd>0</kbd> returns to the first view. Pointing at a surface shows the
loss there; all of them are in the data.</p>"""
VERDICTS = {word: css_class(word) for word in DIRECTIONS}
EVIDENCE = {
    "confirmatory": "new seeds; the rules were locked before their numbers were opened",
    "exploratory": "some seeds were looked at while the rules were made",
}


# ---------------------------------------------------------------- running


class ThisKernel(AsyncKernelManager):
    """A kernel of this interpreter, whatever a user's kernelspec named python3 points to."""

    @default("kernel_spec_manager")
    def _no_kernel_folders(self):
        return KernelSpecManager(kernel_dirs=[])


def execute(notebook: Path, output: Path, parameters: dict, *, progress: bool = False) -> Path:
    """Return `output`, the notebook executed with `parameters` from the project root.

    Args:
        notebook: the notebook to run, left as it is.
        output: where the executed notebook goes; written whole or not at all.
        parameters: values for the cell after the one tagged `parameters`.
        progress: whether to show a bar over the cells.

    Returns:
        the path of the executed notebook.

    Raises:
        papermill.PapermillExecutionError: if a cell fails; what ran until then is kept beside
            `output`, with the suffix `.failed.ipynb`.
    """  # noqa: DOC502 papermill raises it
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.{os.getpid()}.ipynb")
    failed = output.with_suffix(".failed.ipynb")
    literal = [str(p).replace("{", "{{").replace("}", "}}") for p in (notebook.resolve(), partial)]
    try:
        with TemporaryDirectory() as own:  # a user's configuration could change what cells print
            papermill.execute_notebook(
                *literal,
                parameters,
                kernel_name="python3",
                language="python",
                kernel_manager_class=ThisKernel,
                progress_bar=progress,
                cwd=ROOT,
                request_save_on_cell_execute=False,  # else the whole file is written twice a cell
                autosave_cell_every=0,
                shutdown_kernel="immediate",  # a polite end, with nothing to put in order, is slow
                extra_arguments=[
                    f"--IPKernelApp.ipython_dir={own}",
                    "--IPKernelApp.exec_PYTHONSTARTUP=False",
                    "--IPKernelApp.log_level=ERROR",  # else it warns of its own transport
                    # Looking for cycles goes through all of torch and matplotlib, for a seventh of
                    # the time; the kernel ends before what it would free is missed.
                    "--IPKernelApp.exec_lines=import gc; gc.disable()",
                ],
            )
    except BaseException:
        if partial.exists():
            os.replace(partial, failed)
        raise
    os.replace(partial, output)
    failed.unlink(missing_ok=True)
    return output


# ---------------------------------------------------------------- notebook to page


def to_html(notebook: Path, html: Path, *, figures: Path, assets: Path, command: str) -> Path:
    """Return `html`, the executed notebook as one page that reads well without a network.

    Args:
        notebook: an executed notebook.
        html: the page to write.
        figures: the folder PROFILE/figures/STUDY with each figure's SVG and CSV.
        assets: the folder of plotly.js, written there if the page has an interactive figure.
        command: the command that makes the page again, shown at its head.

    Returns:
        the path of the page.
    """
    cells = nbformat.read(notebook, as_version=4)
    outputs = [output for cell in cells.cells for output in cell.get("outputs", [])]
    captions = {o.metadata.caption_of: o.data["text/markdown"] for o in outputs if is_caption(o)}
    names = {figure_name(output) for output in outputs}
    prose = Prose(names | {"main"})
    for cell in cells.cells:
        if cell.cell_type == "markdown":
            cell.source = prose.render(cell.source)
        elif cell.cell_type == "code":
            cell.outputs = [
                _readable(output, prose, captions, figures, html.parent)
                for output in cell.outputs
                if output.get("metadata", {}).get("caption_of", "") not in names
                and not _is_widget(output)
            ]
    _unique_claims(cells)
    shown = "".join(o.data.get("text/html", "") for o in _displays(cells))
    interactive = 'class="interactive"' in shown
    if interactive:
        _copy_plotly(assets)
    exporter = TemplateExporter(
        template_name="report",
        extra_template_basedirs=[str(TEMPLATES)],
        file_extension=".html",
        filters={"code": _highlighted, "markdown": prose.render, "terminal": _terminal},
    )
    rows = verdicts(figures / "verdicts.csv")
    resources = {
        "title": prose.title or markup.escape(notebook.stem),
        "plain_title": _text(prose.title) or markup.escape(notebook.stem),
        "headings": prose.headings,
        "profile": markup.escape(figures.parents[1].name),
        "evidence": {row["evidence"]: EVIDENCE[row["evidence"]] for row in rows},
        "tallies": tallies(rows),
        "command": markup.escape(command),
        "plotly": link(assets / "plotly.js", html.parent) if interactive else None,
        "explorer": 'class="explorer"' in shown,
        "dark": dark_colours(shown),
    }
    page, _ = exporter.from_notebook_node(cells, resources)
    return write_whole(html, page)


class Prose(IPythonRenderer):
    """Markdown to HTML, with equations in MathML and a list of the headings it came across."""

    def __init__(self, taken: set[str]):
        """Start a page.

        Args:
            taken: ids that no heading may have.
        """
        super().__init__(escape=False)
        self.taken, self.headings, self.title = set(taken), [], ""

    def render(self, source: str) -> str:
        """Return the HTML of a piece of Markdown.

        Args:
            source: Markdown, with equations between dollar signs.

        Returns:
            HTML in which each table has a box of its own to scroll in.
        """
        return _boxed(MarkdownWithMath(renderer=self).render(source))

    def heading(self, text, level, **attrs):  # noqa: D102
        if level == 1 and not self.title:
            self.title = text
            return ""
        slug = re.sub(r"\W+", "-", markup.unescape(_text(text)).lower()).strip("-") or "section"
        anchor, n = slug, 1
        while anchor in self.taken:
            anchor, n = f"{slug}-{n + 1}", n + 1
        self.taken.add(anchor)
        self.headings.append({"level": level, "id": anchor, "text": text})
        link = f'<a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
        return f'<h{level} id="{anchor}">{text} {link}</h{level}>\n'

    def block_math(self, body):  # noqa: D102
        return mathml(body, "block")

    def inline_math(self, body):  # noqa: D102
        equation = mathml(body, "inline")  # a long one gets a line of its own on a phone
        return equation if len(body) < 30 else equation.replace("<math", '<math class="long"', 1)

    def latex_environment(self, name, body):  # noqa: D102
        inner = body if name.startswith("equation") else rf"\begin{{{name}}}{body}\end{{{name}}}"
        return mathml(inner, "block")


def mathml(latex: str, display: str) -> str:
    """Return an equation as MathML.

    Args:
        latex: the equation, without its delimiters.
        display: "block" or "inline".

    Returns:
        one <math> element.

    Raises:
        ValueError: if latex2mathml cannot read the equation.
    """
    try:
        return convert(latex.strip(), display=display)
    except Exception as error:
        raise ValueError(f"equation {latex.strip()!r}: not LaTeX that becomes MathML") from error


def _readable(output, prose: Prose, captions: dict, figures: Path, folder: Path):
    """Return the output with its figure, table or interactive figure as finished HTML."""
    if output.output_type not in ("display_data", "execute_result"):
        return output
    output.output_type = "display_data"
    data, name, metadata = output.data, figure_name(output), output.metadata
    if PLOTLY in data:
        kind, body = "interactive", _interactive(data[PLOTLY], name, metadata)
    elif "figure" in metadata:
        kind, body = "drawing", _drawing(name, data, metadata, figures)
    elif "text/html" in data:
        body = re.sub(r'(?<="colour":")#[0-9a-f]{6}', page_colour, _boxed(data["text/html"]))
        kind = "data"
    else:
        return output
    if name is None and kind == "data":
        output.data = NotebookNode({"text/html": body})
        return output
    links = _links(name, figures, folder, metadata.get("table", {}).get("files", {}))
    caption = prose.render(captions.get(name, "")) + (links and f'<p class="files">{links}</p>')
    figcaption = caption and f"<figcaption>{caption}</figcaption>"
    anchor = f' id="{markup.escape(name)}"' if name else ""
    page = f'<figure{anchor} class="{kind}">{body}{figcaption}</figure>'
    output.data = NotebookNode({"text/html": page})
    return output


def _drawing(name: str, data: dict, metadata: dict, figures: Path) -> str:
    alt = alt_text(metadata) or data.get("text/plain", "")
    svg = figures / f"{name}.svg"
    if svg.exists():
        drawing = inline_svg(svg.read_text(encoding="utf-8"), name, alt)
    else:
        png = data["image/png"].replace("\n", "")
        drawing = f'<img src="data:image/png;base64,{png}" alt="{markup.escape(alt)}">'
    return f'<div class="canvas" tabindex="0">{drawing}</div>'


def _interactive(plot: dict, name: str | None, metadata: dict) -> str:
    alt = alt_text(metadata) or f"Interactive figure {name or ''}".strip()
    height = plot.get("layout", {}).get("height", 460)
    text = json.dumps({k: plot.get(k, {}) for k in ("data", "layout")}).replace("</", r"<\/")
    in_space = any(t.get("type", "").endswith(("3d", "surface")) for t in plot.get("data", []))
    hint = HINT if in_space else ""
    return (
        f'<div class="plotly-figure" role="group" aria-label="{markup.escape(alt)}">'
        f'<div class="plot" style="height:{height}px"></div>{hint}'
        f'<script type="application/json">{text}</script></div>'
    )


def alt_text(metadata: dict) -> str | None:
    """Return what an output says for those who cannot see it, whatever its kind, if it does."""
    return next((of["alt"] for of in metadata.values() if "alt" in of), None)


def is_caption(output) -> bool:
    """Return whether an output of a cell is a caption."""
    return "caption_of" in output.get("metadata", {})


def _is_widget(output) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def figure_name(output) -> str | None:
    """Return the name of the figure or table that the output shows, if it has one."""
    metadata = output.get("metadata", {})
    return (metadata.get("figure") or metadata.get("table") or {}).get("name")


def _displays(cells) -> list:
    return [o for cell in cells.cells for o in cell.get("outputs", []) if "data" in o]


def _unique_claims(cells) -> None:
    """Keep each claim's anchor where it stands first, in the section of its figure."""
    seen = set()
    for output in _displays(cells):
        if "text/html" in output.data:
            output.data["text/html"] = re.sub(
                r' id="(claim-[^"]+)"',
                lambda m: "" if m[1] in seen else seen.add(m[1]) or m[0],
                output.data["text/html"],
            )


def _boxed(html: str) -> str:
    box = '<div class="table" role="region" aria-label="Table" tabindex="0">'
    return re.sub(r"<table\b.*?</table>", lambda m: f"{box}{m[0]}</div>", html, flags=re.S)


def _links(name: str | None, figures: Path, folder: Path, others: dict[str, str]) -> str:
    kinds = {"SVG": "svg", "data (CSV)": "csv"}
    found = {k: figures / f"{name}.{v}" for k, v in kinds.items() if name}
    found |= {k: figures / file for k, file in others.items()}
    return " · ".join(
        f'<a href="{link(path, folder)}">{kind}</a>'
        for kind, path in found.items()
        if path.exists()
    )


def link(path: Path, folder: Path) -> str:
    """Return the link from a page in a folder to a file."""
    return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())


def _text(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html).strip()


def _highlighted(source: str) -> str:
    code = highlight(source, get_lexer_by_name("ipython3"), HtmlFormatter())
    return code.replace("<pre>", '<pre tabindex="0">', 1)  # long lines scroll, also by keyboard


def _terminal(text: str) -> str:
    """Return the text as a terminal leaves it: no colours, and the last state of each bar."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
    return markup.escape(re.sub(r"[^\n]*\r(?=[^\n])", "", text).strip("\r\n"))


def _copy_plotly(assets: Path) -> None:
    """Keep plotly's script, packed in one that unpacks it: two fifths of its size."""
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    notice = script[: script.index("*/") + 2]  # its version and licence
    target = assets / "plotly.js"
    if not target.exists() or not target.read_text(encoding="utf-8").startswith(notice):
        packed = base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
        unpack = UNPACK.read_text(encoding="utf-8").rstrip()
        write_whole(target, f'{notice}\n{unpack}("{packed}");\n')


def write_whole(path: Path, text: str) -> Path:
    """Write a text file whole or not at all, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


# ---------------------------------------------------------------- verdicts of a study


def verdicts(file: Path) -> list[dict[str, str]]:
    """Return the rows of a study's verdicts.csv.

    Args:
        file: the table that the notebook's last claims cell wrote; may be missing.

    Returns:
        one dict per claim, with the `class` of its direction; empty if there is no file.

    Raises:
        ValueError: if a direction or the kind of evidence is an unknown word.
    """
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        for column, known in (("verdict", VERDICTS), ("evidence", EVIDENCE)):
            if row.get(column) not in known:
                allowed = ", ".join(known)
                raise ValueError(f"{file}: {column} {row.get(column)!r}; allowed: {allowed}")
        row["class"] = VERDICTS[row["verdict"]]
        row.setdefault("reading", AS_WRITTEN)  # tables without the column have no other
    return rows


def tallies(rows: list[dict]) -> list[dict]:
    """Return how many claims have each direction: of the sources, as run, and other questions.

    Args:
        rows: of `verdicts`.

    Returns:
        dicts with `name`, the number of claims in words, and `counts`: of each direction that there
        is, in their order, the `verdict`, its `class`, the number `n`, and the `scales`, such as
        "3 reduced, 9 toy".
    """
    found = []
    for kind, of in GROUPS:
        those = [row for row in rows if _group(row) == (kind, of)]
        if those:
            name = f"{len(those)} {kind}{'s' * (len(those) > 1)} {of}"
            found.append({"name": name, "counts": _counts(those)})
    return found


GROUPS = (
    ("claim", "of the sources"),
    ("claim", "of the sources, tested as run"),
    ("question", "of ours, or left open"),
)


def _group(row: dict) -> tuple[str, str]:
    """Where a claim is counted: each of the sources' once, and what their code does apart."""
    return GROUPS[2 if row["kind"] != "stated" else row["reading"] == AS_RUN]


def _counts(rows: list[dict]) -> list[dict]:
    found = Counter((row["verdict"], row["scale"]) for row in rows)
    counts = []
    for word, css in VERDICTS.items():
        if n := sum(k for (verdict, _), k in found.items() if verdict == word):
            scales = ", ".join(f"{found[word, s]} {s}" for s in SCALES if found[word, s])
            counts.append({"verdict": word, "class": css, "n": n, "scales": scales})
    return counts


def tally_text(tally: dict) -> str:
    """Return one of `tallies` as a line: 12 same: 3 reduced, 9 toy; 4 opposite: 4 toy."""
    return "; ".join(
        ": ".join(filter(None, (f"{each['n']} {each['verdict']}", each["scales"])))
        for each in tally["counts"]
    )
