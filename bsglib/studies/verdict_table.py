"""Verdicts as a table of a notebook and of a report."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bsglib.claims import Judged
from bsglib.studies import amendments

HEAD = ("claim", "quantity", "paper", "ours", "n", "rule", "verdict")


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
    """Return verdicts as a table with claim, paper, ours with interval and n, rule, verdict."""
    rows = pd.DataFrame([v.row() for v in verdicts])
    lines = ["<tr>" + "".join(f'<th scope="col">{name}</th>' for name in HEAD) + "</tr>"]
    for row in rows.to_dict("records"):
        text = {key: html.escape(str(value)) for key, value in row.items()}
        cells = [
            text["statement"] + _small(text["locator"]),
            text["quantity"],
            text["paper"],
            text["ours"],
            text["n"],
            text["rule"] + _small(text["because"]),
            _verdict(row),
        ]
        cells = [f"<td>{cell}</td>" for cell in cells]
        lines.append(f'<tr id="claim-{text["claim"]}">{"".join(cells)}</tr>')
    table = '<table class="bsg verdicts">' + "\n".join(lines) + "</table>"
    return VerdictTable(rows, table)


def _verdict(row: dict[str, str]) -> str:
    """The cell of a verdict: its words, then its scale, p values, reason and amendments."""
    words = html.escape(row["words"])
    label = f'<span class="verdict {css_class(row["verdict"])}">{words}</span>'
    scale = row["scale"] + (f" ({row['shares']})" if row["shares"] else "")
    p = ", ".join(f"{name} = {row[name]}" for name in ("p", "adjusted p", "q") if row[name])
    small = "".join(_small(html.escape(text)) for text in (scale, p, row["reason"]) if text)
    changes = amendments.of_claim(row["claim"])
    return label + small + (_amended(changes) if changes else "")


def _amended(changes: Sequence[dict[str, str]]) -> str:
    items = (
        "; ".join(f"{name}: {value}" for name, value in change.items() if name != "claim")
        for change in changes
    )
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    return f"<details><summary>amended</summary><ul>{listed}</ul></details>"


def _small(text: str) -> str:
    return f"<br><small>{text}</small>"


def css_class(word: str) -> str:
    """Return the class of a direction in the reports: same, no-effect, not-run, ..."""
    return word.replace(" ", "-")
