"""Verdicts as a table of a notebook and of a report."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bsglib.claims import Verdict


@dataclass(frozen=True)
class VerdictTable:
    """Verdicts as a table: HTML in a notebook, rows for a CSV file."""

    rows: pd.DataFrame
    html: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.rows[["claim", "paper", "ours", "n", "verdict"]].to_string(index=False)


def verdict_table(verdicts: Sequence[Verdict]) -> VerdictTable:
    """Return verdicts as a table with claim, paper, ours with interval and n, rule, verdict."""
    rows = pd.DataFrame([v.row() for v in verdicts])
    head = ("claim", "quantity", "paper", "ours", "n", "rule", "verdict")
    lines = ["<tr>" + "".join(f'<th scope="col">{name}</th>' for name in head) + "</tr>"]
    for row in rows.to_dict("records"):
        text = {key: html.escape(str(value)) for key, value in row.items()}
        label = f'<span class="verdict {css_class(row["verdict"])}">{text["verdict"]}</span>'
        reason = f"<br><small>{text['reason']}</small>"
        where = f"<br><small>{text['locator']}</small>"
        cells = [text["statement"] + where, text["quantity"], text["paper"], text["ours"]]
        cells += [text["n"], text["rule"], label + reason]
        cells = [f"<td>{cell}</td>" for cell in cells]
        lines.append(f'<tr id="claim-{text["claim"]}">{"".join(cells)}</tr>')
    table = '<table class="bsg verdicts">' + "\n".join(lines) + "</table>"
    return VerdictTable(rows, table)


def css_class(word: str) -> str:
    """Return the class of a verdict in the reports: reproduced, direction-only, ..."""
    return word.removesuffix(" at this scale").replace(" ", "-")
