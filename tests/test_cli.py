"""Tests of bsglib.cli, and of a study from the command to its report."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import TINY

from bsglib import cli
from bsglib.project import ROOT
from bsglib.studies import profiles, surlemont
from bsglib.studies import study as studies

RUNS = 10 * 2 + 1  # ten arms at two batch sizes, and one other radius
STORED_IN_PART_2 = 9 - 2  # at the reference batch size fixed and scaled rate share a run
STORED = RUNS - 4  # the same, in both parts


@pytest.fixture
def params(monkeypatch, tmp_path):
    """A copy of the parameter files, to be changed."""
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    return Path(shutil.copytree(ROOT / "params", tmp_path / "params"))


def test_a_data_set_that_cannot_be_had_does_not_keep_the_others_away(bsg, tmp_path, monkeypatch):
    monkeypatch.setenv("BSG_DATA", str(tmp_path))
    status, printed = bsg("data", "spoken_digits", "no_such_set", "digits")
    assert status == 1
    for part in ("0_george_0.wav", "'no_such_set'", "digits: 1438 + 359 examples"):
        assert part in printed


@pytest.mark.slow
def test_dry_run_computes_nothing_and_comes_near_to_what_is_then_taken(bsg, tmp_path):
    longer = TINY | {"train_size": 512, "epochs": 6, "network_options": {"width": 0.25}}
    (file := tmp_path / "tiny.yaml").write_text(yaml.safe_dump(longer))
    store = tmp_path / "store"
    options = ["surlemont_sam", "--profile", str(file), "--part", "2", "--store", str(store)]
    status, printed = bsg("compute", *options, "--dry-run")
    assert status == 0 and "9 runs, 9 to compute" in printed
    assert not list(store.glob("[0-9a-f]*"))
    estimated_s, unit = re.search(r"about ([\d.]+) (\w+) on 1 proc", printed).groups()
    estimated_mb = float(re.search(r"about ([\d.]+) MB of disk", printed)[1])

    bsg("compute", *options)
    results = [json.loads(path.read_text()) for path in store.glob("*/result.json")]
    assert len(results) == STORED_IN_PART_2
    results += [json.loads(path.read_text()) for path in store.glob("*/measures/*.json")]
    taken_s = sum(result["processor_s"] for result in results)  # neighbours' does not count
    taken_mb = sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) / 1e6
    assert taken_s / 3 < float(estimated_s) * {"s": 1, "min": 60}[unit] < 3 * taken_s
    assert taken_mb / 3 < estimated_mb < 3 * taken_mb


def test_status_needs_no_data(bsg, tmp_path, monkeypatch):
    monkeypatch.setenv("BSG_DATA", str(tmp_path))
    status, printed = bsg("status", "--store", str(tmp_path / "store"))
    assert status == 0
    for name in cli.STUDIES:
        assert re.search(rf"^{name}, paper, part 1: 0 of \d+ runs$", printed, re.MULTILINE)


@pytest.mark.slow
def test_a_study_from_compute_over_export_to_a_report_that_needs_no_runs(
    bsg, tiny_profile, tmp_path
):
    store = ["--store", str(tmp_path / "store")]
    study = ["surlemont_sam", "--profile", tiny_profile]
    status, printed = bsg("compute", *study, "--part", "1", *store)
    assert status == 0, printed
    status, printed = bsg("compute", *study, *store)
    assert status == 0 and f"{RUNS} runs, 9 to compute" in printed, "part 1 is not computed again"
    assert "complete" in printed

    status, printed = bsg("export", *study, *store)
    assert status == 0 and f"{RUNS} of {RUNS} runs" in printed
    results = tmp_path / "reports" / "results" / "tiny" / "surlemont_sam"
    runs = pd.read_csv(results / "runs.csv")
    assert len(runs) == STORED
    metric = pd.read_csv(results / "measures.csv").query("name == 'keskar_sharpness'")
    assert len(metric) == STORED and metric["value"].notna().all()
    exported = {path: path.read_bytes() for path in results.iterdir()}
    bsg("export", *study, *store)
    assert {path: path.read_bytes() for path in results.iterdir()} == exported
    for options, todo in (([], 0), (["--again"], RUNS)):
        empty = [*options, "--dry-run", "--store", str(tmp_path / "empty")]
        status, printed = bsg("compute", *study, *empty)
        assert f"{RUNS} runs, {todo} to compute" in printed, "published runs count as computed"

    parameters = profiles.load(surlemont.study, tiny_profile, store=str(tmp_path / "empty"))
    rebuilt = surlemont.study.run(parameters.model_copy(update={"compute": False}))
    assert len(rebuilt.runs) == RUNS and len(rebuilt.timings) == 2 * 2

    status, printed = bsg("report", *study, *store)
    assert status == 0, printed
    page = (tmp_path / "reports" / "tiny" / "surlemont_sam.html").read_text()
    assert f"{RUNS} runs: {RUNS} loaded, 0 computed, 0 missing." in page
    assert store[1] not in page, "a path of this machine"
    figures = tmp_path / "reports" / "tiny" / "figures" / "surlemont_sam"
    verdicts = pd.read_csv(figures / "verdicts.csv")
    assert list(verdicts["claim"]) == [claim.id for claim in surlemont.study.claims]
    assert list(rebuilt.verdicts().rows["ours"]) == list(verdicts["ours"])
    assert (tmp_path / "reports" / "tiny" / "index.html").is_file()


def test_a_report_without_runs_says_how_to_compute_them(bsg, tiny_profile):
    status, printed = bsg("report", "surlemont_sam", "--profile", tiny_profile)
    assert status == 1 and "run `bsg compute surlemont_sam --profile" in printed


@pytest.mark.slow
def test_computing_needs_neither_jupyter_nor_dask(tiny_profile, tmp_path):
    absent = ["IPython", "ipykernel", "papermill", "nbconvert", "nbformat", "dask", "distributed"]
    arguments = ["bsg", "compute", "surlemont_sam", "--profile", tiny_profile, "--part", "2"]
    arguments += ["--workers", "0", "--store", str(tmp_path / "store")]
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); sys.argv = {arguments}\n"
    code += "from bsglib.cli import app; app()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    results = [json.loads(path.read_text()) for path in tmp_path.glob("store/*/result.json")]
    assert len(results) == STORED_IN_PART_2
    assert all(r["stopped"] == "epochs" and r["updates"] > 0 for r in results)


@pytest.mark.slow
def test_clean_removes_only_what_no_parameter_file_names(bsg, tiny_profile, params, tmp_path):
    store = tmp_path / "store"
    bsg("compute", "surlemont_sam", "--profile", tiny_profile, "--part", "2", "--store", str(store))
    (store / "timing-0000").mkdir()

    def clean(*options):
        status, printed = bsg("clean", *options, "--store", str(store))
        return status, printed, {p.name for p in store.iterdir() if not p.name.startswith(".")}

    _, _, stored = clean("--dry-run")
    assert len(stored) == STORED_IN_PART_2 + 1
    (file := params / "surlemont_sam" / "tiny.yml").write_text(yaml.safe_dump(TINY))
    status, printed, left = clean("--yes")
    assert status == 0 and " 0 runs are in no parameter file" in printed and left == stored
    file.write_text("epochs: [")
    status, printed, left = clean("--yes")
    assert status == 1 and str(file) in printed and left == stored, "it may have named them"
    file.unlink()
    status, printed, left = clean("--dry-run")
    assert status == 0 and f" {STORED_IN_PART_2} runs are in no parameter file" in printed
    assert set(printed.split()) > stored - {"timing-0000"} and left == stored
    assert clean("--yes")[2] == {"timing-0000"}


NO_HOME = """
import pwd

def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = getpwuid
"""
COMMANDS = """
import sys
from pathlib import Path
from bsglib import cli
from bsglib.studies import study
cli.REPORTS = Path("reports").absolute()
study.RESULTS = cli.REPORTS / "results"
for line in sys.stdin:
    sys.argv = ["bsg", *line.split()]
    try:
        cli.app()
    except SystemExit as stop:
        if stop.code:
            raise
"""


@pytest.fixture
def homeless(tmp_path):
    """Return a function that runs commands for a user without a home, here and in its processes."""
    (tmp_path / "sitecustomize.py").write_text(NO_HOME)
    hints = ("HOME", "BSG_DATA", "XDG_CACHE_HOME", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in hints}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])

    def run(*lines, **variables):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        options = {"input": "\n".join(lines), "cwd": tmp_path, "env": environment | variables}
        done = subprocess.run([sys.executable, "-c", COMMANDS], **options, **pipes)
        return done.returncode, done.stdout

    return run


@pytest.mark.slow
def test_a_user_without_a_home_can_run_every_command(homeless, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    study = "surlemont_sam --profile tiny.yaml --store store"
    with_profile = [f"{command} {study}" for command in ("compute", "export", "report")]
    others = "data digits", "status surlemont_sam --store store", "clean --dry-run --store store"
    status, printed = homeless(*with_profile, *others, BSG_DATA=str(tmp_path))
    assert status == 0, printed
    assert (tmp_path / "reports" / "tiny" / "surlemont_sam.html").is_file()
