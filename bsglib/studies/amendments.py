"""Amendments of claims, as docs/amendments.md lists them."""

import re
from functools import cache
from pathlib import Path

from bsglib.project import ROOT

FILE = ROOT / "docs" / "amendments.md"  # missing outside a clone


def of_claim(claim_id: str) -> tuple[dict[str, str], ...]:
    """Return the rows of a claim in the tables of docs/amendments.md, oldest first.

    Args:
        claim_id: as in the first column, without backticks.

    Returns:
        the cells of each row by the headings of its table; nothing if the page does not exist.

    Raises:
        ValueError: if a row has more or fewer cells than its table has headings.
    """
    return _by_claim(FILE).get(claim_id, ())


@cache
def _by_claim(file: Path) -> dict[str, tuple[dict[str, str], ...]]:
    found: dict[str, list[dict[str, str]]] = {}
    head: list[str] = []
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.startswith("|"):
            head = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not head:
            head = cells
        elif head[0] == "claim" and not re.fullmatch(r"[-|: ]+", line):
            if len(cells) != len(head):
                raise ValueError(f"{file}, line {number}: {len(cells)} cells, {len(head)} needed")
            cells[0] = cells[0].strip("`")
            found.setdefault(cells[0], []).append(dict(zip(head, cells, strict=True)))
    # a date begins with the year, so that text sorts as time
    return {i: tuple(sorted(rows, key=lambda r: r.get("date", ""))) for i, rows in found.items()}
