"""Tests of benchmarks/: ratios, spread and exponents, and the page that shows them; no timing."""

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import gpu, page, pieces
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


@pytest.mark.slow
def test_the_script_for_a_bare_machine_runs_dry_on_a_cpu(tmp_path, tiny_row):
    options = "keskar_sharp_minima --seeds 10 11 --processes 2 --minutes 2".split()
    gpu.main([*options, *tiny_row, "--out", str(tmp_path / "out")])
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert (log["exported_runs"], log["entries_incomplete"]) == (4, 0)
    assert log["measures"]["exit_codes"] == [0, 0]
    assert 0 < log["training"]["percent_of_bfloat16_matmul"] < 100
    folder = tmp_path / "out" / "results" / "dry_run" / "keskar_sharp_minima"
    assert len(exports.read(folder).runs) == 4
    with zipfile.ZipFile(tmp_path / "out" / "runs.zip") as packed:
        assert sum(name.endswith("result.json") for name in packed.namelist()) == 4


def test_a_row_is_computed_with_its_own_seeds_or_others(tiny_row):
    def held(*options):
        given = argparse.Namespace(study=None, row=2, profile=tiny_row[1], seeds=list(options))
        _, entries, _ = gpu.planned(gpu.row_of(given), given.profile, Path("store"))
        return {(e.part, e.config.seed) for e in entries}

    assert held() == {(1, 10)}
    assert held(11, 12) == {(1, 11), (1, 12)}
    with pytest.raises(SystemExit, match="seeds"):
        held(99)


def test_shares_are_whole_seeds(tiny_row):
    row, found = queue.Row(study="keskar_sharp_minima", part=1, seeds=[10, 11]), []
    for share in ("0/2", "1/2"):
        _, entries, _ = gpu.planned(row, tiny_row[1], Path("store"), share)
        found.append({(e.config.seed, e.config.batch_size) for e in entries})
    assert found == [{(seed, 10), (seed, 30)} for seed in (10, 11)]


def test_pieces_give_the_data_back_and_a_missing_or_damaged_one_is_refused(tmp_path, monkeypatch):
    data, sent, there = (tmp_path / name for name in ("data", "sent", "there"))
    (folder := data / "cats_vs_dogs" / "cat").mkdir(parents=True)
    for i in range(5):
        (folder / f"{i}.jpg").write_bytes(np.random.default_rng(i).bytes(300))
    monkeypatch.setenv("BSG_DATA", str(data))
    pieces.main(f"pack cats_vs_dogs --bytes 700 --out {sent}".split())
    assert max(path.stat().st_size for path in sent.glob("cats_vs_dogs.[0-9]*")) <= 700
    monkeypatch.setenv("BSG_DATA", str(there))
    pieces.main(["join", str(sent)])
    for path in folder.iterdir():
        assert (there / path.relative_to(data)).read_bytes() == path.read_bytes()
    monkeypatch.setenv("BSG_DATA", str(tmp_path / "refused"))
    (sent / "cats_vs_dogs.00").unlink()
    damaged = sent / "cats_vs_dogs.01"
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    with pytest.raises(SystemExit, match=r"\.00 is missing, cats_vs_dogs\.01 is damaged"):
        pieces.main(["join", str(sent)])
    assert not (tmp_path / "refused").exists()
