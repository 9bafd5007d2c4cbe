"""Verdicts as a table of a notebook and of a report."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bsglib.claims import AS_RUN, Judged
from bsglib.studies import amendments

HEAD = ("Claim", "Quantity and rule", "Paper", "Ours", "Verdict")


@dataclass(frozen=True)
class VerdictTable:
    """Verdicts as a table: HTML in a notebook, rows for a CSV file."""

    rows: pd.DataFrame
    html: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.rows[["claim", "paper", "ours", "n", "line"]].to_string(index=False)


def verdict_table(verdicts: Sequence[Judged]) -> VerdictTable:
    """Return verdicts as a table of claim, quantity and rule, paper, ours, and verdict."""
    rows = pd.DataFrame([v.row() for v in verdicts])
    head = "".join(f'<th scope="col">{name}</th>' for name in HEAD)
    lines = "\n".join(_line(row) for row in rows.to_dict("records"))
    reasons = {v.claim.margin.text: v.claim.margin.because for v in verdicts}
    margins = "<br>".join(f"Margin {size}: {coded(why)}" for size, why in reasons.items())
    foot = f'<tr><td colspan="{len(HEAD)}"><small>{margins}</small></td></tr>'
    table = f"<thead><tr>{head}</tr></thead>\n<tbody>{lines}</tbody>\n<tfoot>{foot}</tfoot>"
    return VerdictTable(rows, f'<table class="bsg verdicts">{table}</table>')


def _line(row: dict[str, str]) -> str:
    text = {key: coded(str(value)) for key, value in row.items()}
    reading = f"<b>{text['reading']}</b>" if row["reading"] == AS_RUN or row["readings"] else ""
    cells = {
        "": text["statement"] + _small(text["locator"], reading),
        "Quantity": text["quantity"] + f'<br><small class="rule">{text["rule"]}</small>',
        "Paper": text["paper"],
        "Ours": text["ours"] + (_small(f"n = {row['n']}") if row["n"] else ""),
        "Verdict": _verdict(row, text),
    }
    labels = {name: f' data-label="{name}"' if name else "" for name in cells}
    inner = "".join(f"<td{labels[name]}>{cell}</td>" for name, cell in cells.items())
    return f'<tr id="claim-{text["claim"]}">{inner}</tr>'


def _verdict(row: dict[str, str], text: dict[str, str]) -> str:
    """The cell of a verdict: its words, then its scale, p values, reason and amendments."""
    label = f'<span class="verdict {css_class(row["verdict"])}">{text["words"]}</span>'
    scale = text["scale"] + (f" ({text['shares']})" if row["shares"] else "")
    p = ", ".join(f"{name} = {text[name]}" for name in ("p", "adjusted p", "q") if row[name])
    changes = amendments.of_claim(row["claim"])
    return (
        label
        + _small(text["readings"], scale, p, text["reason"])
        + (_amended(changes) if changes else "")
    )


def _amended(changes: Sequence[dict[str, str]]) -> str:
    items = (
        "; ".join(f"{name}: {value}" for name, value in change.items() if name != "claim")
        for change in changes
    )
    listed = "".join(f"<li>{coded(item)}</li>" for item in items)
    return f"<details><summary>amended</summary><ul>{listed}</ul></details>"


def _small(*texts: str) -> str:
    return "".join(f"<br><small>{text}</small>" for text in texts if text)


def coded(text: str) -> str:
    """Return text as HTML, with code where it stands between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def css_class(word: str) -> str:
    """Return the class of a direction in the reports: same, no-effect, not-run, ..."""
    return word.replace(" ", "-")
