"""Tests of bsglib.studies.amendments and of the page that it reads."""

import re

import pytest

from bsglib.cli import STUDIES
from bsglib.studies import amendments

PAGE = amendments.FILE.read_text(encoding="utf-8")
CLAIMS = {claim.id for study in STUDIES.values() for claim in study.claims}
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]
IDS = sorted({re.match(r"\| `([^`]+)` \|", line).group(1) for line in ROWS})

TABLES = """# Amendments

| claim | date | why |
|---|---|---|
| `a-claim` | 2026-02-01 10:00, bbbbbbb | second |
| `b-claim` | 2026-02-01 10:00, bbbbbbb | other |

Words between.

| claim | date | old rule | new rule |
|:--|---|---|---|
| `a-claim` | 2026-01-31 09:00, aaaaaaa | above 0 | below 0 |

| words | meaning |
|---|---|
| a-claim | of another table |
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(amendments, "FILE", tmp_path / "amendments.md")
    return amendments.FILE


def test_rows_of_a_claim_come_by_heading_oldest_first(page):
    page.write_text(TABLES, encoding="utf-8")
    first, second = amendments.of_claim("a-claim")
    assert first == {
        "claim": "a-claim",
        "date": "2026-01-31 09:00, aaaaaaa",
        "old rule": "above 0",
        "new rule": "below 0",
    }
    assert second["why"] == "second"
    assert [row["why"] for row in amendments.of_claim("b-claim")] == ["other"]
    assert amendments.of_claim("c-claim") == ()


def test_without_the_page_no_claim_has_rows(page):
    assert amendments.of_claim("a-claim") == ()


def test_a_row_with_a_missing_cell_is_named(page):
    page.write_text(TABLES.replace(" | other |", " |"), encoding="utf-8")
    with pytest.raises(ValueError, match="line 6: 2 cells, 3 needed"):
        amendments.of_claim("a-claim")


def test_every_row_is_found_by_its_claim_and_has_its_cells_filled():
    found = [row for claim_id in IDS for row in amendments.of_claim(claim_id)]
    assert len(found) == len(ROWS) > 0
    assert all(all(row.values()) for row in found)


def test_every_row_of_a_change_in_the_past_has_the_date_and_the_hash_of_a_commit():
    commit = r"\d{4}-\d\d-\d\d \d\d:\d\d, [0-9a-f]{7,}"
    rows = [row for claim_id in IDS for row in amendments.of_claim(claim_id)]
    past = [row for row in rows if "digest" not in row]  # a newer row names a digest instead
    assert all(re.fullmatch(commit, row["date"]) for row in past)


def test_rows_are_of_claims_there_are_or_were():
    removed = PAGE.split("### Claims removed\n")[1].split("\n#")[0]
    gone = {claim_id for claim_id in IDS if f"| `{claim_id}` |" in removed}
    assert set(IDS) - CLAIMS == gone
