"""What the studies say together: the index pages, and what the README shows of them."""

import re
from pathlib import Path
from urllib.parse import quote

import jinja2
import nbformat
from markupsafe import Markup

from bsglib.pages.report import (
    EVIDENCE,
    TEMPLATES,
    VERDICTS,
    Prose,
    alt_text,
    figure_name,
    is_caption,
    link,
    tallies,
    tally_text,
    verdicts,
    write_whole,
)
from bsglib.pages.themes import dark_colours, inline_svg
from bsglib.studies.verdict_table import coded

PUBLISHED_PROFILES = ("paper", "gpu", "confirm", "laptop")  # the largest first
BASE = PUBLISHED_PROFILES[-1]  # every claim is shown with its verdict there
NOT_RUN = "not run"


def write_index(reports: Path, profile: str | None, studies: list[dict]) -> Path:
    """Return the index page: a card for each study and one table of all claims.

    Args:
        reports: the folder of the reports.
        profile: the profile to show; None for all published ones.
        studies: dicts with `name`, `title`, `source` and `headline`, a figure's name.

    Returns:
        the path of reports/PROFILE/index.html or, without a profile, reports/index.html.
    """
    page = (reports / profile if profile else reports) / "index.html"
    cards = []
    for index, study in enumerate(studies, start=1):
        of_study = _rows(reports, study, page.parent, profile)
        card = {**study, "index": index, "link": None, "thumbnail": ""}
        if of_study:
            shown = next(reversed(of_study))
            card["link"] = link(reports / shown / f"{study['name']}.html", page.parent)
            figures = reports / shown / "figures" / study["name"]
            card["thumbnail"] = Markup(_thumbnail(study, figures))
        card |= {"claims": _claims(of_study), "profiles": _tallies(of_study)}
        for of in card["profiles"]:
            of["link"] = link(reports / of["profile"] / f"{study['name']}.html", page.parent)
        cards.append(card)
    found = [row for card in cards for claim in card["claims"] for row in claim["found"]]
    text = conclusions(reports, studies, page.parent) if profile is None else ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"coded": lambda text: Markup(coded(text)), "paper": _paper}
    return write_whole(
        page,
        environment.get_template("index.html.j2").render(
            profile=profile,
            studies=cards,
            tallies=_tallies(_of_all(reports, studies, page.parent, profile)),
            conclusions=Markup(Prose(set()).render(text)),
            verdicts={v: c for v, c in VERDICTS.items() if any(r["verdict"] == v for r in found)},
            evidence={k: v for k, v in EVIDENCE.items() if any(r["evidence"] == k for r in found)},
            others=[
                (p, link(reports / p / "index.html", page.parent))
                for p in PUBLISHED_PROFILES
                if p != profile and (reports / p / "index.html").exists()
            ],
            everything="../index.html" if profile and (reports / "index.html").exists() else None,
            dark=dark_colours("".join(card["thumbnail"] for card in cards)),
        ),
    )


def _rows(
    reports: Path, study: dict, folder: Path, profile: str | None = None
) -> dict[str, list[dict]]:
    """The verdicts of a study by profile, those with a page, with their link from a folder."""
    found = {}
    for name in PUBLISHED_PROFILES if profile is None else (profile,):
        page = reports / name / f"{study['name']}.html"
        if page.exists():
            address = link(page, folder)
            rows = verdicts(reports / name / "figures" / study["name"] / "verdicts.csv")
            found[name] = [
                {**row, "profile": name, "link": f"{address}#claim-{row['claim']}"} for row in rows
            ]
    return found


def _of_all(
    reports: Path, studies: list[dict], folder: Path, profile: str | None = None
) -> dict[str, list[dict]]:
    """The verdicts of all studies by profile."""
    found = {name: [] for name in (PUBLISHED_PROFILES if profile is None else (profile,))}
    for study in studies:
        for name, rows in _rows(reports, study, folder, profile).items():
            found[name] += rows
    return found


def _claims(by_profile: dict[str, list[dict]]) -> list[dict]:
    """Claims in their order, with the verdicts that rest on runs, of the largest profile first.

    Returns:
        the rows of the last profile, each with `found`; where nothing was run, that holds the row.
    """
    claims: dict[str, dict] = {}
    for rows in reversed(by_profile.values()):
        for row in rows:
            claims.setdefault(row["claim"], {**row, "found": []})["found"].insert(0, row)
    for claim in claims.values():
        run = [row for row in claim["found"] if row["verdict"] != NOT_RUN]
        claim["found"] = run or claim["found"][-1:]
    return list(claims.values())


def _tallies(by_profile: dict[str, list[dict]]) -> list[dict]:
    """The tallies of each profile, with its kind of evidence."""
    return [
        {
            "profile": name,
            "evidence": rows[0]["evidence"],
            "link": None,
            "tallies": tallies(rows),
        }
        for name, rows in by_profile.items()
        if rows
    ]


def _thumbnail(study: dict, figures: Path) -> str:
    alt = f"Headline figure of {study['title']}"
    svg = figures / f"{study['headline']}.svg"
    if not svg.exists():
        return ""
    return inline_svg(svg.read_text(encoding="utf-8"), f"{study['name']}-{study['headline']}", alt)


def conclusions(reports: Path, studies: list[dict], folder: Path) -> str:
    """Return what the studies say together: conclusions.md, with what was measured filled in.

    Its links have a claim's id for address and the direction that the sentence rests on for title:
    `[](keskar-f1-gap "undecided")` in the profile laptop, `[](gpu/keskar-f1-gap "same")` in another
    one. The report becomes the address, the value the text where there is none; where the
    direction is another by now, the text says so.

    Args:
        reports: the folder of the reports, with or without conclusions.md.
        studies: dicts with `name`.
        folder: of the page that the Markdown goes to.

    Returns:
        Markdown.

    Raises:
        ValueError: if the text names a claim that no published study makes.
    """
    file = reports / "conclusions.md"
    by_profile = _of_all(reports, studies, folder)
    rows = {(name, row["claim"]): row for name, those in by_profile.items() for row in those}

    def measured(match: re.Match) -> str:
        words, profile, claim, expected = match.groups()
        if (row := rows.get((profile or BASE, claim))) is None:
            raise ValueError(
                f"{file}: {claim!r} is not a claim of a published study of {profile or BASE}"
            )
        value = words or _escaped(row["ours"])
        now = "" if row["verdict"] == expected else f" (now {row['verdict']})"
        title = f"{row['verdict']}, {row['evidence']}, n = {row['n']}"
        return f'[{value}{now}]({row["link"]} "{title}")'

    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return re.sub(r'\[([^\]]*)\]\((?:([\w-]+)/)?([\w-]+)\s+"([^"]+)"\)', measured, text)


def primary_claims_table(reports: Path, studies: list[dict], folder: Path) -> str:
    """Return the studies' primary claims as a table in Markdown, and the tallies of all claims.

    Args:
        reports: the folder of the reports.
        studies: dicts with `name`.
        folder: of the page that the table goes to.

    Returns:
        a table of claim, paper, confirmatory and exploratory verdict, and a line per tally.
    """
    lines = [f"| claim | paper | {' | '.join(EVIDENCE)} |", "|---|---|---|---|"]
    for study in studies:
        for claim in _claims(_rows(reports, study, folder)):
            if claim["primary"] != "True":
                continue
            cells = [f"{claim['statement']}<br><sub>{claim['quantity']}</sub>"]
            cells.append(_paper(claim["paper"]))
            for kind in EVIDENCE:
                those = (row for row in claim["found"] if row["evidence"] == kind)
                links = (f"[{_escaped(row['line'])}]({row['link']})" for row in those)
                cells.append("<br>".join(links) or "-")
            row = (cell.replace("|", r"\|").replace("\n", " ") for cell in cells)
            lines.append(f"| {' | '.join(row)} |")
    for of in _tallies(_of_all(reports, studies, folder)):
        for tally in of["tallies"]:
            head = f"{tally['name']}, {of['evidence']} (profile {of['profile']})"
            lines += ["", f"**{head}.** {tally_text(tally)}."]
    return "\n".join(lines)


def _paper(value: str) -> str:
    """The source's number, or in words that it gives none."""
    return {"ours": "our question", "asked": "asked there"}.get(value, value)


def _escaped(text: str) -> str:
    """Text with brackets for a link in Markdown."""
    return text.replace("[", r"\[").replace("]", r"\]")


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
