"""Tests of reports/recompute.py: published verdicts follow from the published tables."""

import ast
import importlib.util
import json
import math
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from bsglib import stats, verdicts
from bsglib.project import ROOT
from bsglib.runs.outcomes import Outcomes
from bsglib.studies import exports, kaabachi, profiles, registration, surlemont
from bsglib.studies import study as of_study

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


# ------------------------------------------------------------- made-up runs of the profile confirm

OWN = "adaptive-", "dropout-in-adaptive-", "plain-as-run-", "solver-", "flat-", "mode-"
OWN += ("warmup-beyond-rate-",)
PLAIN, BROKEN = 0, 1  # worlds: the second has more noise, and runs that diverged or were cut off
BREAKS = (
    surlemont.confirmatory.ADAPTIVE_ON,
    surlemont.confirmatory.AS_RUN,
    surlemont.confirmatory.PLAIN_OFF,
)
BREAKS += surlemont.protocol.SGD.label, kaabachi.confirmatory.AS_RUN, kaabachi.confirmatory.FLAT
SHOWN = {  # by arm: factors of sharpness, and what is added to accuracies, that controls show
    surlemont.confirmatory.LARGE_RHO: (0.2, 0),
    surlemont.confirmatory.FEW_EPOCHS: (1, -0.3),
    surlemont.confirmatory.SGD_FIXED.label: (9, 0),
    surlemont.confirmatory.RATES: (9, 0),
    kaabachi.confirmatory.FEW_EPOCHS: (1, -0.3),
}


def told(entry, world):
    """Sharpness and accuracy of a run, and its random numbers: an effect of its arm, and noise."""
    arm = np.random.default_rng([world, entry.config.batch_size, *entry.arm.encode()])
    own = np.random.default_rng([world, entry.config.seed, *entry.run.encode()])
    effect, noise = arm.choice([0, 0, 0.5, 2]), own.normal(0, 0.03 + 0.05 * (world == BROKEN))
    factor, added = SHOWN.get(entry.arm, (1, 0))
    sharpness = factor * np.exp((effect if factor == 1 else 0) + noise)
    return sharpness, 0.6 + added + 0.03 * effect + noise / 5, own


def rows_of(entry, world):
    """What is exported of a made-up run: its row, history, measures and outcomes."""
    c, (sharpness, accuracy, own) = entry.config, told(entry, world)
    epoch = np.unique(np.geomspace(1, c.epochs, 8).astype(int))
    loss, reached = 0.3 + np.exp(-epoch / 5), accuracy - 0.2 / epoch + own.normal(0, 0.01)
    loss[-2] += 0.0 if entry.arm == kaabachi.confirmatory.LOW else own.choice([0.3, 0.4])
    updates = epoch * math.ceil(c.train_size / c.batch_size)
    seen = {"updates": updates, "running_loss": loss, "test_accuracy": reached}
    seen["test_accuracy_as_run"] = reached - 0.02 * own.random(len(epoch))
    last = {name: values[-1] for name, values in seen.items()} | {"train_loss": 0.3}
    last |= {"validation_loss": 0.4 + own.random() / 9, "validation_accuracy": reached[-1]}
    last |= {"train_accuracy": 0.95, "test_loss": 0.5, "lr": c.base_lr, "run_id": entry.run}
    ends = c.patience is None or entry.arm == surlemont.confirmatory.FEW_EPOCHS
    last |= {"stopped": "epochs" if ends else "patience"}
    breaks = world == BROKEN and entry.arm in BREAKS
    if breaks and own.random() < 0.05:
        last |= {"stopped": "epochs", "train_accuracy": own.choice([0.15, 0.5, 0.92])}
    if gone := breaks and own.random() < 0.05:
        seen["running_loss"][-1], last["stopped"] = math.nan, "diverged"
        last |= dict.fromkeys(("train_loss", "train_accuracy", "validation_loss"), math.nan)
    row = {"run": entry.run} | c.model_dump() | {"classes": 10, "kept_epoch": c.epochs} | last
    row |= {n: json.dumps(row[n], sort_keys=True) for n in ("network_options", "record_epochs")}
    measured, packed = [], {}
    for measure in () if gone else entry.measures:
        known = {"run": entry.run, "measure": measure.digest}
        told_of = {"name": measure.name, "examples": measure.examples, "epoch": measure.epoch}
        told_of |= {"options": json.dumps(measure.options, sort_keys=True), "processor_s": 1.0}
        if measure.name == "test_outcomes":
            correct = own.random(400) < reached[-1]
            packed = known | Outcomes(correct, own.random(400)).packed()
        elif measure.column in ("keskar_sharpness", "adaptive", "lambda_max", "authors"):
            value = sharpness * np.exp(own.normal(0, 0.02 * bool(measure.label)))
            measured.append(known | told_of | {"value": value})
    return row, pd.DataFrame({"run": entry.run, "epoch": epoch} | seen), measured, packed


def made_up(study, world, root, monkeypatch):
    """Results of the profile confirm in a made-up world, from tables that lie below `root`."""
    shutil.copytree(ROOT / "params" / study.name, root / "params" / study.name)
    (root / "bsglib" / "studies").mkdir(parents=True)
    for name in ("claims.lock", "margins.yaml"):
        shutil.copy(ROOT / "bsglib" / "studies" / name, root / "bsglib" / "studies")
    p = profiles.load(study, "confirm", compute=False, store=str(root / "none"))
    entries = {entry.run: entry for entry in reversed(study.design(p))}
    rows = [rows_of(entry, world) for entry in entries.values()]
    runs, histories, measures, outcomes = zip(*rows, strict=True)
    tables = exports.Tables(
        runs=pd.DataFrame(runs),
        history=pd.concat(histories),
        measures=pd.DataFrame([one for of_run in measures for one in of_run]),
        outcomes=pd.DataFrame(filter(None, outcomes)),
    )
    monkeypatch.setattr(of_study, "RESULTS", root / "reports" / "results")
    exports.write(tables, of_study.export_folder("confirm", study.name))
    claims = [claim for found in registration.read().values() for claim in found.items()]
    primary = [claim for claim, registered in claims if registered["primary"]]
    pd.DataFrame({"claim": primary, "p": 1.0}).to_csv(of_study.primary_file("confirm"))
    return study.run(p)


@pytest.mark.slow
@pytest.mark.parametrize("world", [PLAIN, BROKEN], ids=["plain", "broken"])
@pytest.mark.parametrize("module", [surlemont, kaabachi], ids=["surlemont", "kaabachi"])
def test_verdicts_on_made_up_runs_are_those_of_the_package(module, world, tmp_path, monkeypatch):
    results = made_up(module.study, world, tmp_path, monkeypatch)
    rows = results.verdicts().rows.set_index("claim")
    figures = tmp_path / "reports" / "confirm" / "figures" / module.study.name
    figures.mkdir(parents=True)
    rows.to_csv(figures / "verdicts.csv")
    assert recompute.differences(tmp_path, "confirm") == []
    short = rows.index.str.partition("-").get_level_values(2)
    new = rows[(rows["reading"] == "as run") | short.str.startswith(OWN)]
    absent = new.index[new["verdict"].isin([verdicts.NOT_RUN, verdicts.NOT_TESTABLE])]
    assert len(new) > 12 and (world == BROKEN or absent.str.contains("2048").all())
