"""What the studies say together: the index pages, and what the README shows of them."""

import re
from pathlib import Path
from urllib.parse import quote

import jinja2
import nbformat
from markupsafe import Markup

from bsglib.pages.report import (
    TEMPLATES,
    VERDICTS,
    Prose,
    alt_text,
    figure_name,
    is_caption,
    link,
    verdict_counts,
    verdicts,
    write_whole,
)
from bsglib.pages.themes import dark_colours, inline_svg

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
            card["thumbnail"] = Markup(_thumbnail(study, figures))
            rows = verdicts(figures / "verdicts.csv")
            card["counts"] = verdict_counts(rows)
            claims += [{**row, "card": card} for row in rows]
        cards.append(card)
    text = conclusions(reports, studies, page.parent) if profile is None else ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return write_whole(
        page,
        environment.get_template("index.html.j2").render(
            profile=profile,
            studies=cards,
            claims=claims,
            tallies=_tallies(claims),
            conclusions=Markup(Prose(set()).render(text)),
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


def _thumbnail(study: dict, figures: Path) -> str:
    alt = f"Headline figure of {study['title']}"
    svg = figures / f"{study['headline']}.svg"
    if not svg.exists():
        return ""
    return inline_svg(svg.read_text(encoding="utf-8"), f"{study['name']}-{study['headline']}", alt)


def conclusions(reports: Path, studies: list[dict], folder: Path) -> str:
    """Return what the studies say together: conclusions.md, with what was measured filled in.

    Its links have a claim's id for address and the verdict that the sentence rests on for title:
    `[](keskar-f1-gap "undecided")`. The report becomes the address, the value the text where there
    is none; where the verdict is another by now, the text says so.

    Args:
        reports: the folder of the reports, with or without conclusions.md.
        studies: dicts with `name`; the largest published profile of each is taken.
        folder: of the page that the Markdown goes to.

    Returns:
        Markdown.

    Raises:
        ValueError: if the text names a claim that no published study makes.
    """
    file = reports / "conclusions.md"
    rows = {row["claim"]: row for row in _published_claims(reports, studies, folder)}

    def measured(match: re.Match) -> str:
        words, claim, expected = match.groups()
        if claim not in rows:
            raise ValueError(f"{file}: {claim!r} is not a claim of a published study")
        row = rows[claim]
        value = words or row["ours"].replace("[", r"\[").replace("]", r"\]")
        now = "" if row["verdict"] == expected else f" (now {row['verdict']})"
        return f'[{value}{now}]({row["link"]} "{row["verdict"]}, n = {row["n"]}")'

    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return re.sub(r'\[([^\]]*)\]\(([\w-]+)\s+"([^"]+)"\)', measured, text)


def primary_claims_table(reports: Path, studies: list[dict], folder: Path) -> str:
    """Return the Markdown table of the studies' primary claims, from the largest profile of each.

    Args:
        reports: the folder of the reports.
        studies: dicts with `name`; of each its primary claims are shown.
        folder: of the page that the table goes to.

    Returns:
        a table of claim, quantity, paper, here, verdict and report, and the number of all claims.
    """
    lines = ["| claim | quantity | paper | here | verdict | report |", "|---|---|---|---|---|---|"]
    rows = _published_claims(reports, studies, folder)
    for row in (r for r in rows if r["primary"] == "True"):
        here = f"{row['ours']} (n = {row['n']})" if row["ours"] and row["n"] else row["ours"]
        columns = (
            row["statement"],
            row["quantity"],
            "our question" if row["kind"] == "ours" else row["paper"],
            here,
            f"**{row['verdict']}**",
            f"[{row['profile']}]({row['link']})",
        )
        cells = [c.replace("|", r"\|").replace("\n", " ") for c in columns]
        lines.append(f"| {' | '.join(cells)} |")
    for tally in _tallies(rows):
        counts = ", ".join(f"{each['n']} {each['verdict']}" for each in tally["counts"])
        lines += ["", f"{tally['name']}: {counts}."]
    return "\n".join(lines)


def _tallies(rows: list[dict]) -> list[dict]:
    """How many claims have each verdict: those of the papers, then open questions."""
    asked = [row["kind"] != "stated" for row in rows]
    tallies = []
    for what, name in ((False, "claims of the papers"), (True, "questions, ours or left open")):
        if those := [row for row, it in zip(rows, asked, strict=True) if it == what]:
            tallies.append({"name": f"{len(those)} {name}", "counts": verdict_counts(those)})
    return tallies


def _published_claims(reports: Path, studies: list[dict], folder: Path) -> list[dict]:
    """The claims of each study's largest profile: with it, and a link from a folder."""
    claims = []
    for study in (s["name"] for s in studies):
        if profile := published_profile(reports, study):
            page = link(reports / profile / f"{study}.html", folder)
            for row in verdicts(reports / profile / "figures" / study / "verdicts.csv"):
                place = {"profile": profile, "link": f"{page}#claim-{row['claim']}"}
                claims.append(row | place)
    return claims


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
    path = f"{reports.name}/{notebook.parent.name}/figures/{study}/{figure}.svg"
    alt = alt_text(shown.metadata)
    return f"![{alt}]({quote(path)})\n\n{caption.data['text/markdown']}"


def update_marked(page: Path, mark: str, text: str) -> None:
    """Put generated Markdown between two markers of a page, such as the README.

    Args:
        page: the file to change.
        mark: name of the markers: `<!-- mark -->` and `<!-- /mark -->`.
        text: Markdown, as from `primary_claims_table` or `headline`.

    Raises:
        ValueError: if a marker is missing.
    """
    first, last = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, opening, rest = page.read_text(encoding="utf-8").partition(first)
    _, closing, after = rest.partition(last)
    if not (opening and closing):
        raise ValueError(f"{page}: needs the markers {first} and {last}")
    write_whole(page, f"{before}{opening}\n{text}\n{closing}{after}")
