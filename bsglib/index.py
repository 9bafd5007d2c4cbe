"""What the studies say together: the index pages, and what the README shows of them."""

import html as markup
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import jinja2
import nbformat
from markupsafe import Markup

from bsglib.claims import NOT_TESTABLE
from bsglib.report import (
    TEMPLATES,
    VERDICTS,
    figure_name,
    is_caption,
    link,
    verdict_counts,
    verdicts,
    write_whole,
)
from bsglib.themes import dark_colours, inline_svg

QUESTIONS = ("ours", "asked")  # in place of a source's number, where a source claims nothing
PUBLISHED_PROFILES = ("paper", "laptop")  # the largest first


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
        shown = published_profile(reports, study["name"], profile)
        card = {**study, "index": index, "profile": shown}
        card |= {"link": None, "counts": [], "thumbnail": ""}
        if shown:
            figures = reports / shown / "figures" / study["name"]
            card["link"] = link(reports / shown / f"{study['name']}.html", page.parent)
            card["counts"] = verdict_counts(figures / "verdicts.csv")
            card["thumbnail"] = Markup(_thumbnail(study, figures, page.parent))
            claims += [{**row, "card": card} for row in verdicts(figures / "verdicts.csv")]
        cards.append(card)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return write_whole(
        page,
        environment.get_template("index.html.j2").render(
            profile=profile,
            studies=cards,
            claims=claims,
            summary=_summary(claims),
            judged=sum(row["verdict"] != NOT_TESTABLE for row in claims),
            verdicts={v: c for v, c in VERDICTS.items() if any(r["verdict"] == v for r in claims)},
            others=[
                (p, link(reports / p / "index.html", page.parent))
                for p in PUBLISHED_PROFILES
                if p != profile and (reports / p / "index.html").exists()
            ],
            everything="../index.html" if profile and (reports / "index.html").exists() else None,
            dark=dark_colours("".join(card["thumbnail"] for card in cards)),
        ),
    )


def published_profile(reports: Path, study: str, profile: str | None = None) -> str | None:
    """Return the largest profile in which a study has a page, or None.

    Args:
        reports: the folder of the reports.
        study: the study's name.
        profile: look at this profile only.

    Returns:
        the profile's name.
    """
    profiles = PUBLISHED_PROFILES if profile is None else (profile,)
    return next((p for p in profiles if (reports / p / f"{study}.html").exists()), None)


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
        return f'<img src="{link(png, folder)}" alt="{markup.escape(alt)}">'
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
        profile = published_profile(reports, study)
        if profile is None:
            continue
        rows = verdicts(reports / profile / "figures" / study / "verdicts.csv")
        counts.update(row["verdict"] for row in rows)
        asked += sum(row["paper"] in QUESTIONS or row["locator"].startswith("ours") for row in rows)
        for row in (r for r in rows if main is None or r["claim"] in main):
            here = f"{row['ours']} (n = {row['n']})" if row["ours"] and row["n"] else row["ours"]
            page = f"{reports.name}/{profile}/{study}.html#claim-{row['claim']}"
            to_claim = f"[{profile}]({quote(page, safe='/#')})"
            paper = "our question" if row["paper"] == "ours" else row["paper"]
            columns = (
                row["statement"],
                row["quantity"],
                paper,
                here,
                f"**{row['verdict']}**",
                to_claim,
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
    (shown,) = (o for o in outputs if figure_name(o) == figure)
    (caption,) = (o for o in outputs if is_caption(o) and o.metadata.caption_of == figure)
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
    write_whole(page, f"{before}{opening}\n{text}\n{closing}{after}")
