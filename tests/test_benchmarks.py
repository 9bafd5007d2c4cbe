"""Tests of benchmarks/: ratios, spread and exponents, and the page that shows them; no timing."""

import json
import zipfile

import pytest
import yaml

from benchmarks import gpu, page
from benchmarks import side_by_side as bench
from bsglib.runs import queue
from bsglib.studies import exports


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


@pytest.fixture
def tiny_row(tmp_path, monkeypatch):
    """The queue of a tiny profile, a file, whose second row is F1's first part."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    profile, order = tmp_path / "dry_run.yaml", tmp_path / "queue.yaml"
    network = {"model": "f1", "width": 0.02, "dataset": "digits", "train_size": 60, "epochs": 1}
    network |= {"small_batch_size": 10, "large_batch_size": 30, "seeds": [10, 11, 12]}
    values = {"profile": "dry_run", "networks": {"F1": network}, "dtype": "float32"}
    values |= {"sharpness_examples": 20, "curvature_examples": 20, "line_examples": 20}
    profile.write_text(yaml.safe_dump(values | {"line_points": 4, "subspace": 3}))
    row = {"study": "keskar_sharp_minima", "part": 1, "seeds": [10], "only": {"network": ["f1"]}}
    order.write_text(yaml.safe_dump({profile.stem: [row | {"part": 2}, row]}))
    monkeypatch.setattr(queue, "FILE", order)
    return f"--profile {profile} --device cpu".split()


def test_the_script_for_a_bare_machine_runs_dry_on_a_cpu(tmp_path, tiny_row):
    options = "keskar_sharp_minima --seeds 10 11 --processes 2 --minutes 2".split()
    gpu.main([*options, *tiny_row, "--out", str(tmp_path / "out")])
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert log["ceilings"]["copy_gb_s"] > 0
    assert (log["exported_runs"], log["entries_incomplete"]) == (4, 0)
    assert log["measures"]["exit_codes"] == [0, 0]
    assert log["training"]["runs_per_minute"] > 0
    assert 0 < log["training"]["percent_of_bfloat16_matmul"] < 100
    folder = tmp_path / "out" / "results" / "dry_run" / "keskar_sharp_minima"
    assert len(exports.read(folder).runs) == 4
    with zipfile.ZipFile(tmp_path / "out" / "runs.zip") as packed:
        assert sum(name.endswith("result.json") for name in packed.namelist()) == 4
