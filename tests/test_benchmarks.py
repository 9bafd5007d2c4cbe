"""Tests of benchmarks/: ratios, spread and exponents, and the page that shows them; no timing."""

import pytest

from benchmarks import page
from benchmarks import side_by_side as bench


def test_ratios_are_formed_within_each_repeat():
    assert bench.ratios([2.0, 6.0], [1.0, 2.0]) == [2.0, 3.0]
    with pytest.raises(ValueError):
        bench.ratios([1.0], [1.0, 2.0])


def test_a_row_holds_median_and_range_and_is_judged_by_its_median():
    row = bench.row("a", "b", [5.0, 1.0, 3.0], at_least=3)
    assert (row["median"], row["low"], row["high"], row["repeats"]) == (3.0, 1.0, 5.0, 3)
    assert row["met"] is True
    assert bench.row("a", "b", [5.0, 1.0, 2.9], at_least=3)["met"] is False
    assert bench.row("a", "b", [2.0, 2.06, 2.1], at_most=2.05)["met"] is False
    assert bench.row("a", "b", [2.0])["met"] is None


def test_the_page_is_what_the_stored_results_give():
    shown = page.PAGE.read_text(encoding="utf-8")
    block = shown.partition("<!-- measured -->")[2].partition("<!-- /measured -->")[0]
    assert block.strip() == page.text(page.stored()).strip()
    block = shown.partition("<!-- gpu -->")[2].partition("<!-- /gpu -->")[0]
    assert block.strip() == page.on_gpu(page.stored_on_gpu()).strip()


def test_the_page_has_a_title_for_every_benchmark_that_make_runs():
    makefile = (bench.ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = (each for each in makefile.splitlines() if each.startswith("BENCHMARKS := "))
    assert set(line.split()[2:]) == set(page.ORDER) == set(page.TITLES)
