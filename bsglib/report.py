"""Notebooks become reports: papermill runs them, an own nbconvert template turns them into HTML.

A page needs no network: equations are MathML, figures inlined SVG whose colours follow the reader's
light or dark theme, and the only script is plotly's, in pages with an interactive figure.
"""

import csv
import html as markup
import json
import math
import os
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import jinja2
import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from latex2mathml.converter import convert
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from nbconvert.exporters import TemplateExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from traitlets import default

from bsglib import claims
from bsglib.claims import NOT_TESTABLE, css_class
from bsglib.params import ROOT

TEMPLATES = Path(__file__).parent / "templates"
QUESTIONS = ("ours", "asked")  # in place of a source's number, where a source claims nothing
PUBLISHED = ("paper", "laptop")  # the largest first

PLOTLY = "application/vnd.plotly.v1+json"
HINT = """<p class="hint">Drag it, or use the arrow keys, to turn; <kbd>+</kbd> and <kbd>−</kbd>
come closer and go back; <kbd>0</kbd> returns to the first view. Pointing at a surface shows the
loss there; all of them are in the data.</p>"""
VERDICTS = {word: css_class(word) for word in claims.VERDICTS}
INKS = {
    "#1f2328": "currentColor",
    "#000000": "currentColor",
    "#6a737d": "var(--ink-2)",
    "#ffffff": "var(--page)",
    "#d55e00": "var(--vermillion)",
}
LETTERS = r"color-mix(in oklab, \2 50%, var(--ink))"  # a line's label: its hue, dark enough to read
BATCH_COLOURS = {to_hex(c): f"--b-{to_hex(c)[1:]}" for c in colormaps["viridis"].colors}
BATCH_COLOURS |= {
    "#7ad151": "--b32",
    "#44bf70": "--b64",
    "#22a884": "--b128",
    "#21908d": "--b256",
    "#2a788e": "--b512",
    "#355f8d": "--b1024",
    "#414487": "--b2048",
    "#482475": "--b4096",
    "#440154": "--b8192",
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
        figures: the folder PROFILE/figures/STUDY with each figure's SVG, PNG and CSV.
        assets: the folder of plotly.min.js, written there if the page has an interactive figure.
        command: the command that makes the page again, shown at its head.

    Returns:
        the path of the page.
    """
    cells = nbformat.read(notebook, as_version=4)
    outputs = [output for cell in cells.cells for output in cell.get("outputs", [])]
    captions = {o.metadata.caption_of: o.data["text/markdown"] for o in outputs if _is_caption(o)}
    names = {_name(output) for output in outputs}
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
    resources = {
        "title": prose.title or markup.escape(notebook.stem),
        "plain_title": _text(prose.title) or markup.escape(notebook.stem),
        "headings": prose.headings,
        "profile": markup.escape(figures.parents[1].name),
        "verdicts": verdict_counts(figures / "verdicts.csv"),
        "command": markup.escape(command),
        "plotly": _relative(assets / "plotly.min.js", html.parent) if interactive else None,
        "explorer": 'class="explorer"' in shown,
        "dark": dark_colours(shown),
    }
    page, _ = exporter.from_notebook_node(cells, resources)
    return _write(html, page)


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
    data, name, metadata = output.data, _name(output), output.metadata
    if PLOTLY in data:
        kind, body = "interactive", _interactive(data[PLOTLY], name, metadata)
    elif "figure" in metadata:
        kind, body = "drawing", _drawing(name, data, metadata, figures)
    elif "text/html" in data:
        body = re.sub(r'(?<="colour":")#[0-9a-f]{6}', _themed, _boxed(data["text/html"]))
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
    alt = metadata.get("image/png", {}).get("alt") or data.get("text/plain", "")
    svg = figures / f"{name}.svg"
    if svg.exists():
        drawing = inline_svg(svg.read_text(encoding="utf-8"), name, alt)
    else:
        png = data["image/png"].replace("\n", "")
        drawing = f'<img src="data:image/png;base64,{png}" alt="{markup.escape(alt)}">'
    return f'<div class="canvas" tabindex="0">{drawing}</div>'


def _interactive(plot: dict, name: str | None, metadata: dict) -> str:
    alt = metadata.get(PLOTLY, {}).get("alt") or f"Interactive figure {name or ''}".strip()
    height = plot.get("layout", {}).get("height", 460)
    text = json.dumps({k: plot.get(k, {}) for k in ("data", "layout")}).replace("</", r"<\/")
    in_space = any(t.get("type", "").endswith(("3d", "surface")) for t in plot.get("data", []))
    hint = HINT if in_space else ""
    return (
        f'<div class="plotly-figure" role="group" aria-label="{markup.escape(alt)}">'
        f'<div class="plot" style="height:{height}px"></div>{hint}'
        f'<script type="application/json">{text}</script></div>'
    )


def inline_svg(svg: str, prefix: str, alt: str) -> str:
    """Return matplotlib's SVG ready to stand in a page beside others.

    Ids get a prefix, because matplotlib reuses them between figures; neutral inks become the page's
    and the batch-size colours become variables, which `dark_colours` defines for the dark theme.

    Args:
        svg: the file's text.
        prefix: what the ids start with, unique in the page.
        alt: the text for those who do not see the figure.

    Returns:
        one <svg> element.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.S
    )
    prefix = re.sub(r"\W", "-", prefix)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}--\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{prefix}--", svg)
    svg = re.sub(r"(?<![(\w])#[0-9a-fA-F]{6}\b(?!-)", _themed, svg)
    svg = re.sub(r"(<text[^>]*fill: )(var\(--[bv][^)]*\))", rf"\1{LETTERS}", svg)
    svg = re.sub(r'(?<= d=")[^"]+', _rounded, svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    width = re.search(r'width="([\d.]+pt)"', svg)
    natural = f' style="--natural:{width[1]}"' if width else ""
    label = markup.escape(alt)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"{natural}', 1)


def _themed(match: re.Match) -> str:
    colour = match[0].lower()
    if colour in BATCH_COLOURS:
        return f"var({BATCH_COLOURS[colour]}, {colour})"
    return INKS.get(colour, match[0])


def _rounded(match: re.Match) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", match[0]).replace("\n", "")


def dark_colours(html: str) -> dict[str, str]:
    """Return the dark theme's value of each batch-size colour that the page uses.

    Args:
        html: the page, or a part of it.

    Returns:
        the colour of each variable, lifted off the dark background.
    """
    used = sorted(set(re.findall(r"var\((--b[^,]+), (#[0-9a-f]{6})\)", html)))
    return {name: lifted(colour) for name, colour in used}


def lifted(colour: str) -> str:
    """Return a batch-size colour for the dark theme: the same hue, lighter, in the same order.

    OKLCh lightness (Ottosson 2020) goes from viridis's own range to .525-.94, which keeps the order
    and has contrast 3 on the dark page at its darkest; chroma is at least .11, where sRGB has it.

    Args:
        colour: an sRGB colour as "#rrggbb".

    Returns:
        an sRGB colour as "#rrggbb".
    """
    light, a, b = _oklab(to_rgb(colour))
    hue, chroma = math.atan2(b, a), max(math.hypot(a, b), 0.11)
    light = 0.525 + 0.75 * (light - _oklab(to_rgb("#440154"))[0])
    while True:
        rgb = _srgb(light, chroma * math.cos(hue), chroma * math.sin(hue))
        if min(rgb) >= 0 and max(rgb) <= 1:
            return to_hex(rgb)
        chroma *= 0.98


def _oklab(rgb) -> tuple[float, float, float]:
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    l_ = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    m_ = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    s_ = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return (
        0.2104542553 * l_ + 0.7936177850 * m_ - 0.0040720468 * s_,
        1.9779984951 * l_ - 2.4285922050 * m_ + 0.4505937099 * s_,
        0.0259040371 * l_ + 0.7827717662 * m_ - 0.8086757660 * s_,
    )


def _srgb(light: float, a: float, b: float) -> list[float]:
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return [12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in linear]


def _is_caption(output) -> bool:
    return "caption_of" in output.get("metadata", {})


def _is_widget(output) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def _name(output) -> str | None:
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
    kinds = {"SVG": "svg", "PNG": "png", "data (CSV)": "csv"}
    found = {k: figures / f"{name}.{v}" for k, v in kinds.items() if name}
    found |= {k: figures / file for k, file in others.items()}
    return " · ".join(
        f'<a href="{_relative(path, folder)}">{kind}</a>'
        for kind, path in found.items()
        if path.exists()
    )


def _relative(path: Path, folder: Path) -> str:
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
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    target = assets / "plotly.min.js"
    if not target.exists() or target.stat().st_size != len(script.encode()):
        _write(target, script)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


# ---------------------------------------------------------------- verdicts over all studies


def verdicts(file: Path) -> list[dict[str, str]]:
    """Return the rows of a study's verdicts.csv.

    Args:
        file: the table that the notebook's last claims cell wrote; may be missing.

    Returns:
        one dict per claim, empty if there is no file.

    Raises:
        ValueError: if a verdict is none of the five words.
    """
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        if row["verdict"] not in VERDICTS:
            allowed = ", ".join(VERDICTS)
            raise ValueError(f"{file}: verdict {row['verdict']!r}; allowed: {allowed}")
        row["class"] = VERDICTS[row["verdict"]]
    return rows


def verdict_counts(file: Path) -> list[dict]:
    """Return how many claims have each verdict, the best first.

    Args:
        file: a verdicts.csv; may be missing.

    Returns:
        dicts with `verdict`, `class` and `n`, without the verdicts that no claim has.
    """
    counts = Counter(row["verdict"] for row in verdicts(file))
    return [{"verdict": v, "class": c, "n": counts[v]} for v, c in VERDICTS.items() if counts[v]]


def published(reports: Path, study: str, profile: str | None = None) -> str | None:
    """Return the largest profile in which a study has a page, or None.

    Args:
        reports: the folder of the reports.
        study: the study's name.
        profile: look at this profile only.

    Returns:
        the profile's name.
    """
    profiles = PUBLISHED if profile is None else (profile,)
    return next((p for p in profiles if (reports / p / f"{study}.html").exists()), None)


def write_index(reports: Path, profile: str | None, studies: list[dict]) -> Path:
    """Return the index page: a card for each study and one table of all claims.

    Args:
        reports: the folder of the reports.
        profile: the profile to show; None for the largest that each study has.
        studies: dicts with `name`, `title`, `source` and `headline`, a figure's name.

    Returns:
        the path of reports/PROFILE/index.html or, without a profile, reports/index.html.
    """
    page = (reports / profile if profile else reports) / "index.html"
    cards, claims = [], []
    for index, study in enumerate(studies, start=1):
        shown = published(reports, study["name"], profile)
        card = {**study, "index": index, "profile": shown}
        card |= {"link": None, "counts": [], "thumbnail": ""}
        if shown:
            figures = reports / shown / "figures" / study["name"]
            card["link"] = _relative(reports / shown / f"{study['name']}.html", page.parent)
            card["counts"] = verdict_counts(figures / "verdicts.csv")
            card["thumbnail"] = Markup(_thumbnail(study, figures, page.parent))
            claims += [{**row, "card": card} for row in verdicts(figures / "verdicts.csv")]
        cards.append(card)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return _write(
        page,
        environment.get_template("index.html.j2").render(
            profile=profile,
            studies=cards,
            claims=claims,
            summary=_summary(claims),
            judged=sum(row["verdict"] != NOT_TESTABLE for row in claims),
            verdicts={v: c for v, c in VERDICTS.items() if any(r["verdict"] == v for r in claims)},
            others=[
                (p, _relative(reports / p / "index.html", page.parent))
                for p in PUBLISHED
                if p != profile and (reports / p / "index.html").exists()
            ],
            everything="../index.html" if profile and (reports / "index.html").exists() else None,
            dark=dark_colours("".join(card["thumbnail"] for card in cards)),
        ),
    )


def _summary(claims: list[dict]) -> list[dict]:
    """The main claims by verdict; those that could not be judged are counted, not told."""
    main = [r for r in claims if r["claim"] in r["card"].get("main_claims", [r["claim"]])]
    rows = [
        {"verdict": word, "class": css, "claims": [r for r in main if r["verdict"] == word]}
        for word, css in VERDICTS.items()
    ]
    return [row | {"told": row["verdict"] != NOT_TESTABLE} for row in rows if row["claims"]]


def _thumbnail(study: dict, figures: Path, folder: Path) -> str:
    alt = f"Headline figure of {study['title']}"
    svg, png = (figures / f"{study['headline']}.{kind}" for kind in ("svg", "png"))
    if svg.exists():
        text = svg.read_text(encoding="utf-8")
        return inline_svg(text, f"{study['name']}-{study['headline']}", alt)
    if png.exists():
        return f'<img src="{_relative(png, folder)}" alt="{markup.escape(alt)}">'
    return ""


def main_claims_table(reports: Path, studies: list[dict]) -> str:
    """Return the Markdown table of the studies' main claims, from the largest profile of each.

    Args:
        reports: the folder of the reports, in the project root.
        studies: dicts with `name`, and `main_claims`, the ids of those to show; without, all.

    Returns:
        a table of claim, quantity, paper, here, verdict and report, and the number of all claims.
    """
    lines = ["| claim | quantity | paper | here | verdict | report |", "|---|---|---|---|---|---|"]
    counts, asked = Counter(), 0
    for study, main in ((s["name"], s.get("main_claims")) for s in studies):
        profile = published(reports, study)
        if profile is None:
            continue
        rows = verdicts(reports / profile / "figures" / study / "verdicts.csv")
        counts.update(row["verdict"] for row in rows)
        asked += sum(row["paper"] in QUESTIONS or row["locator"].startswith("ours") for row in rows)
        for row in (r for r in rows if main is None or r["claim"] in main):
            here = f"{row['ours']} (n = {row['n']})" if row["ours"] and row["n"] else row["ours"]
            page = f"{reports.name}/{profile}/{study}.html#claim-{row['claim']}"
            link = f"[{profile}]({quote(page, safe='/#')})"
            paper = "our question" if row["paper"] == "ours" else row["paper"]
            columns = (
                row["statement"],
                row["quantity"],
                paper,
                here,
                f"**{row['verdict']}**",
                link,
            )
            cells = [c.replace("|", r"\|").replace("\n", " ") for c in columns]
            lines.append(f"| {' | '.join(cells)} |")
    total = ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word])
    of_these = f" {asked} of them are questions, ours or left open there." if asked else ""
    return "\n".join([*lines, "", f"All {counts.total()} claims: {total or 'none yet'}.{of_these}"])


def headline(reports: Path, study: str, figure: str, notebook: Path) -> str:
    """Return a figure and its caption as Markdown for the README.

    Args:
        reports: the folder of the reports, in the project root.
        study: name of the study.
        figure: name of its figure.
        notebook: the executed notebook that shows it, in the folder of its profile.

    Returns:
        an image with its alt text, and the caption.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [o for cell in cells for o in cell.get("outputs", []) if "metadata" in o]
    (shown,) = (o for o in outputs if _name(o) == figure)
    (caption,) = (o for o in outputs if _is_caption(o) and o.metadata.caption_of == figure)
    path = f"{reports.name}/{notebook.parent.name}/figures/{study}/{figure}.png"
    alt = shown.metadata["image/png"]["alt"]
    return f"![{alt}]({quote(path)})\n\n{caption.data['text/markdown']}"


def update_marked(page: Path, mark: str, text: str) -> None:
    """Put generated Markdown between two markers of a page, such as the README.

    Args:
        page: the file to change.
        mark: name of the markers: `<!-- mark -->` and `<!-- /mark -->`.
        text: Markdown, as from `main_claims_table` or `headline`.

    Raises:
        ValueError: if a marker is missing.
    """
    first, last = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, opening, rest = page.read_text(encoding="utf-8").partition(first)
    _, closing, after = rest.partition(last)
    if not (opening and closing):
        raise ValueError(f"{page}: needs the markers {first} and {last}")
    _write(page, f"{before}{opening}\n{text}\n{closing}{after}")
