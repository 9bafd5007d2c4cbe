"""Tests of benchmarks/: ratios, spread and exponents, and the page that shows them; no timing."""

import json
import platform
import zipfile

import pytest
import yaml

from benchmarks import gpu, gpu_steps, growth, page
from benchmarks import side_by_side as bench
from bsglib.papers import exports


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


def test_a_row_as_text():
    row = bench.row("a", "b", [71.0, 72.0, 75.0], unit=" %", at_least=70)
    assert bench.measured(row) == "72 [71, 75] %"
    assert bench.target(row) == "at least 70 %"
    assert bench.verdict(row) == "met"


class Side:
    def __init__(self, name, asked):
        self.name, self.asked = name, asked

    def rate(self):
        self.asked.append(self.name)
        return len(self.asked)


def test_sides_take_turns_in_an_order_that_rotates():
    asked = []
    rates = bench.interleaved({name: Side(name, asked) for name in "abc"}, 3)
    assert "".join(asked) == "abcbcacab"
    assert rates == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_the_exponent_of_a_power_law_is_found():
    sizes = [10, 100, 1000]
    assert growth.slope(sizes, [3 * n**0.5 for n in sizes]) == pytest.approx(0.5)
    assert growth.slope(sizes, [1.0, 1.0, 100.0]) == pytest.approx(2)  # a tail that others hide


def test_a_machine_is_described_without_its_name():
    assert {"processor", "cores", "torch"} <= set(bench.machine())
    assert platform.node() not in json.dumps(bench.machine())


def test_the_page_is_what_the_stored_results_give():
    shown = page.PAGE.read_text(encoding="utf-8")
    block = shown.partition("<!-- measured -->")[2].partition("<!-- /measured -->")[0]
    assert block.strip() == page.text(page.stored()).strip()
    block = shown.partition("<!-- gpu -->")[2].partition("<!-- /gpu -->")[0]
    assert block.strip() == page.on_gpu(page.stored_on_gpu()).strip()


def test_the_page_shows_values_targets_rates_and_sizes():
    machine = dict.fromkeys([*page.KIND, "torch"], "1")
    speeds = {"ours": bench.spread([9.0]), "theirs": bench.spread([3.0]), "rate": "images/s"}
    faster = bench.row("net", "peer", [3.0], at_least=2, **speeds)
    grown = growth.growth("load", "runs", [1, 10], [[1.0, 10.0]], [5.0, 5.0])
    results = {
        "throughput": {"machine": machine, "rows": [faster]},
        "growth": {"machine": machine, "rows": [grown]},
    }
    text = page.text(results)
    assert "| net | peer | 3 [3, 3] | at least 2 | met |" in text
    assert "| net | peer | 9 | 3 | images/s |" in text
    assert "| load | 10 runs | 10 | 5 |" in text
    assert "torch 1" in text and "On 1" not in text
    results["growth"]["machine"] = machine | {"cores": "64"}
    text = page.text(results)
    assert "On 1, 1, 64 cores" in text.partition(page.TITLES["growth"])[2]


def test_the_page_has_a_title_for_every_benchmark_that_make_runs():
    makefile = (bench.ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = (each for each in makefile.splitlines() if each.startswith("BENCHMARKS := "))
    assert set(line.split()[2:]) == set(page.ORDER) == set(page.TITLES)


def test_the_script_for_a_bare_machine_runs_dry_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    profile = tmp_path / "dry_run.yaml"
    network = {"model": "f1", "width": 0.02, "dataset": "digits", "train_size": 60, "epochs": 1}
    network |= {"small_batch": 10, "large_batch": 30, "seeds": [10, 11]}
    values = {"profile": "dry_run", "networks": {"F1": network}, "dtype": "float32"}
    values |= {"sharpness_examples": 20, "curvature_examples": 20, "line_examples": 20}
    profile.write_text(yaml.safe_dump(values | {"line_points": 4, "subspace": 3}))
    arguments = f"keskar_sharp_minima --profile {profile} --device cpu --processes 2 --minutes 2"
    gpu.main([*arguments.split(), "--out", str(tmp_path / "out")])
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert log["ceilings"]["copy_gb_s"] > 0
    assert (log["exported_runs"], log["entries_incomplete"]) == (4, 0)
    assert log["measures"]["exit_codes"] == [0, 0]
    folder = tmp_path / "out" / "results" / "dry_run" / "keskar_sharp_minima"
    assert len(exports.read(folder).runs) == 4
    with zipfile.ZipFile(tmp_path / "out" / "runs.zip") as packed:
        assert sum(name.endswith("result.json") for name in packed.namelist()) == 4


def test_the_script_compares_steps_and_solvers(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_steps, "CASES", [("f1", "mnist", gpu_steps.ADAM, "float32", (30,))])
    gpu_steps.main(["--quick", "--budget", "0", "--out", str(tmp_path)])
    log = json.loads((tmp_path / "steps.json").read_text())
    assert [row["network"] for row in log["steps"]] == ["f1"]
    assert log["steps"][0]["graph_ms"] > 0
    values = {row["solver"]: row["value"] for row in log["solvers"] if "subspace" in row}
    assert values["torch"] == pytest.approx(values["scipy"], rel=1e-3)
