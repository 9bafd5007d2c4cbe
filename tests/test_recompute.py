"""Tests of reports/recompute.py: published verdicts follow from the published tables."""

import ast
import importlib.util
import math
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from bsglib import stats, verdicts
from bsglib.project import ROOT

FILE, STUDY = ROOT / "reports" / "recompute.py", "chang_batch_size"
SPEC = importlib.util.spec_from_file_location("recompute", FILE)
recompute = sys.modules["recompute"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(recompute)
RESULTS = ROOT / "reports" / "results"
PROFILES = sorted(folder.name for folder in RESULTS.iterdir() if folder.is_dir())


def test_it_shares_no_code_with_the_package():
    nodes = list(ast.walk(ast.parse(FILE.read_text(encoding="utf-8"))))
    names = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    others = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert others == {"numpy", "pandas", "scipy", "yaml"}


def test_published_tables_are_those_of_the_manifest():
    assert recompute.changed(RESULTS) == []


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_published_verdicts_are_those_recomputed(profile):
    assert recompute.differences(ROOT, profile) == []


@pytest.fixture
def copy(tmp_path):
    """A copy of one published study, with its rules and parameters."""
    places = [f"reports/results/laptop/{STUDY}", f"reports/laptop/figures/{STUDY}"]
    for place in (*places, f"params/{STUDY}"):
        names = shutil.ignore_patterns("*.svg", "explorer*")
        shutil.copytree(ROOT / place, tmp_path / place, ignore=names)
    (tmp_path / "bsglib" / "studies").mkdir(parents=True)
    for name in ("claims.lock", "margins.yaml"):
        shutil.copy(ROOT / "bsglib" / "studies" / name, tmp_path / "bsglib" / "studies")
    assert recompute.main(["--root", str(tmp_path), "--manifest"]) == 0
    return tmp_path


@pytest.mark.slow
def test_a_changed_word_or_number_is_found(copy, capsys):
    assert recompute.main(["--root", str(copy)]) == 0
    file = copy / "reports" / "laptop" / "figures" / STUDY / "verdicts.csv"
    published = pd.read_csv(file, dtype=str, keep_default_na=False).set_index("claim")
    for column, other in (("verdict", "undecided"), ("size", "larger"), ("scale", "full")):
        published.assign(**{column: other}).to_csv(file)
        assert any(
            f": {column} {other!r}" in line for line in recompute.differences(copy, "laptop")
        )
    published.to_csv(file)
    table = copy / "reports" / "results" / "laptop" / STUDY / "runs.csv"
    runs = pd.read_csv(table, dtype={"run": str})
    large = runs["batch_size"] == runs["batch_size"].max()
    runs["distance"] = runs["distance"].where(~large, 3 * runs["distance"])
    runs.to_csv(table, index=False)
    capsys.readouterr()
    assert recompute.main(["--root", str(copy)]) == 1
    shown = capsys.readouterr().out
    assert f"laptop/{STUDY}/runs.csv: another SHA-256" in shown and "chang-nearer: " in shown


def test_a_manifest_names_missing_and_new_files(copy):
    folder = copy / "reports" / "results"
    (folder / "laptop" / STUDY / "timings.csv").rename(folder / "new.csv")
    missing, new = f"laptop/{STUDY}/timings.csv: missing", "new.csv: not in MANIFEST.json"
    assert recompute.changed(folder) == [missing, new]


def estimates(random, n):
    """Yield the same estimate by both implementations."""
    values = random.normal(random.normal(), random.exponential(), n)
    yield stats.student(values), recompute.Mean(values)
    each = random.normal(0, 5, 300)
    yield stats.with_test_set(values, each), recompute.Mean(values, each)
    hits = int(random.integers(n + 1))
    yield stats.Share(hits, n), recompute.Share(hits, n)
    ranks = random.choice([-1, -0.6, -0.2, 0.2, 0.6, 1], n)
    yield stats.Signs(tuple(ranks)), recompute.Signs(ranks)
    x, y = random.normal(size=(2, 6))
    groups = [[0, 1, 2], [2, 3], [4, 5]]
    yield stats.permuted(x, y + x, groups), recompute.Permuted(x, y + x, groups)


@pytest.mark.parametrize("claimed", ["above", "below", "equal"])
def test_statistics_and_words_are_those_of_the_package(claimed):
    random = np.random.default_rng(0)
    for n in (2, 3, 5, 6, 9, 12):
        for theirs, ours in estimates(random, n):
            interval = theirs.interval(0.95)
            assert np.allclose(ours.interval(0.95), (interval.low, interval.high), atol=1e-7)
            stated = {"below": -0.5}.get(claimed, 0.5)
            rule = verdicts.Rule(claimed, 0.2, stated=stated)
            mine = recompute.Rule(claimed, 0.0, 0.2, False, stated, (), "mean", False)
            found = verdicts.direction(theirs, rule)
            word, p = recompute.direction(ours, mine)
            assert word == found.word
            assert math.isclose(min(p, 0.5), min(verdicts.p_value(theirs, rule), 0.5), abs_tol=1e-6)
            assert recompute.size(ours, mine) == verdicts.size(interval, rule)


def test_corrections_are_those_of_the_package():
    p = np.random.default_rng(0).random(12) ** 3
    ours = recompute.holm(dict(enumerate(p)))
    assert np.allclose([ours[i] for i in range(12)], stats.holm(p))
