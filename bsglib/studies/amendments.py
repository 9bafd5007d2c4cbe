"""Amendments of claims, as docs/amendments.md lists them."""

from functools import cache

from bsglib.project import ROOT

FILE = ROOT / "docs" / "amendments.md"


@cache
def _rows() -> dict[str, list[dict[str, str]]]:
    """The rows of the page's tables by the claim in their first column."""
    found: dict[str, list[dict[str, str]]] = {}
    head: list[str] = []
    for line in FILE.read_text(encoding="utf-8").splitlines() if FILE.is_file() else ():
        if not line.startswith("|"):
            head = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not head:
            head = cells
        elif set(line) - set("|-: "):
            row = dict(zip(head, cells, strict=True))
            found.setdefault(row["claim"].strip("`"), []).append(row)
    return found


def of_claim(claim_id: str) -> tuple[dict[str, str], ...]:
    """Return the amendments of a claim, oldest first: the cells of its rows by their headings."""
    return tuple(_rows().get(claim_id, ()))
