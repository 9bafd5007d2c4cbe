"""Tests of bsglib.runs.sweep and bsglib.runs.measures."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY_RUN
from dask import config as dask_config
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT
from distributed.utils import get_mp_context
from torch import nn

from bsglib.data import load
from bsglib.evaluate import evaluate
from bsglib.runs import measures
from bsglib.runs import sweep as module
from bsglib.runs import train as train_module
from bsglib.runs.finished import stored_run
from bsglib.runs.measures import Measure, stored_measure
from bsglib.runs.params import RunConfig
from bsglib.runs.store import Store
from bsglib.runs.sweep import Entry, SweepError, sweep
from bsglib.studies.exports import is_stored
from bsglib.weights import flatten

SHARPNESS = Measure("keskar_sharpness", 20, {"epsilon": 0.01})
CURVATURE = Measure("lambda_max", 20)


class Failing(nn.Flatten):
    """A layer that works when a network is tried out, and not when it is trained."""

    def forward(self, x):
        if self.training:
            raise ArithmeticError("no luck")
        return super().forward(x)


class Killing(nn.Flatten):
    """A layer whose training steps leave a line in a file and kill the process, so many times."""

    def __init__(self, marker, times):
        super().__init__()
        self.marker, self.times = Path(marker), times

    def forward(self, x):
        if self.training and deaths(self.marker) < self.times:
            with self.marker.open("a") as file:
                file.write("killed\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


class Hungry(nn.Flatten):
    """A layer whose training steps take 1.5 GB, for longer than anyone looks."""

    def forward(self, x):
        if self.training:
            taken = torch.ones(15 * 10**8, dtype=torch.uint8)
            time.sleep(60)
            del taken
        return super().forward(x)


def deaths(marker):
    return len(marker.read_text().splitlines()) if marker.exists() else 0


def failing(input_shape, classes):
    return nn.Sequential(Failing(), nn.Linear(64, classes))


def killing(input_shape, classes, *, marker, times):
    return nn.Sequential(Killing(marker, times), nn.Linear(64, classes))


def hungry(input_shape, classes):
    return nn.Sequential(Hungry(), nn.Linear(64, classes))


def config(**changes):
    return RunConfig(**TINY_RUN | changes)


def entries():
    return [
        Entry(config(seed=seed, rho=rho), (SHARPNESS, CURVATURE), arm)
        for seed in (0, 1)
        for rho, arm in ((None, "plain"), (0.05, "sam"))
    ]


def failure():
    return Entry(config(network="test_sweep:failing", network_options={}), arm="unlucky")


def run_of(entry, store):
    return stored_run(entry.config, load("digits").checksum, store)


def examples(part="train", index=slice(20)):
    """Inputs and labels of a part of the data, as a measure takes them."""
    dataset = load("digits", train_size=50)
    split = getattr(dataset, part)
    return dataset.as_input(split.x[index], torch.float64), split.y[index]


def numbers(entry, store):
    """Everything that a stored entry says, wall time aside."""
    run = run_of(entry, store)
    measures = [stored_measure(run.id, m, store) for m in entry.measures]
    weights = {name: t.tolist() for name, t in run.weights.items()}
    return run.id, run.history.to_dict("records"), weights, measures


def forbid(*args, **kwargs):
    raise AssertionError("computed again")


def line(start, **options):
    return Measure("interpolate", 20, {"points": 4} | options, start)


def test_a_line_joins_the_weights_of_two_runs(store):
    small, large = config(), config(batch_size=25)
    entry = Entry(large, (line(small), line(small, path="curvilinear")))
    sweep([entry], store, workers=0)  # the other run is trained where it is missing
    runs = [stored_run(c, load("digits").checksum, store) for c in (small, large)]
    drawn = np.random.default_rng(0).permutation(359)[:20]  # of the test set: it may be sorted
    for measure in entry.measures:
        rows = stored_measure(runs[1].id, measure, store)["rows"]
        assert [(r["alpha"], r["set"]) for r in rows] == [
            (alpha, name) for alpha in (-1.0, 0.0, 1.0, 2.0) for name in ("train", "test")
        ]
        for alpha, run in enumerate(runs):
            for name, index in (("train", slice(20)), ("test", torch.from_numpy(drawn))):
                (row,) = (r for r in rows if r["alpha"] == alpha and r["set"] == name)
                expected = evaluate(run.model(), *examples(name, index)).loss
                assert row["loss"] == pytest.approx(expected, rel=1e-12)
    assert len({measure.file for measure in (*entry.measures, line(large))}) == 3


def test_a_diverged_run_is_stored_without_measures_and_a_line_from_it_has_no_points(store):
    diverged = Entry(config(base_lr=1e200), (SHARPNESS,))
    entry = Entry(config(), (line(diverged.config),))
    assert sweep([diverged, entry], store, workers=0) == []
    assert is_stored(diverged, store) and run_of(diverged, store).diverged
    assert is_stored(entry, store)
    assert stored_measure(run_of(entry, store).id, entry.measures[0], store) == {"rows": []}


def rows_of(store, measure, **changes):
    """A run, and the rows of its one measure."""
    sweep([Entry(config(**changes), (measure,))], store, workers=0)
    run = stored_run(config(**changes), load("digits").checksum, store)
    return run, pd.DataFrame(stored_measure(run.id, measure, store)["rows"])


def test_distances_from_the_initial_weights_add_up_over_layers(store):
    run, rows = rows_of(store, Measure("distances", 1), record_path=True)
    layers, whole = rows.set_index("layer").drop("whole"), rows.set_index("layer").loc["whole"]
    path, names = run.path, dict(run.model().named_parameters())
    initial, last = path["weights.0"], flatten(run.weights[name] for name in names)
    assert whole["distance"] == pytest.approx(float((last - initial).norm()), rel=1e-12)
    assert whole["initial_norm"] == pytest.approx(float(initial.norm()), rel=1e-12)
    assert whole["weights"] == len(last) == layers["weights"].sum()
    assert np.hypot.reduce(layers["distance"]) == pytest.approx(whole["distance"], rel=1e-12)
    assert list(layers.index) == list(dict.fromkeys(name.rpartition(".")[0] for name in names))


def test_what_is_stored_is_not_computed_again_whatever_it_is_asked_for(store, monkeypatch):
    bare = [Entry(entry.config) for entry in entries()]
    assert not any(is_stored(entry, store) for entry in bare)
    assert sweep(bare, store, workers=0) == sweep([], store) == []
    assert all(is_stored(entry, store) for entry in bare)
    assert not is_stored(entries()[0], store), "measures are asked for later"
    monkeypatch.setattr(train_module, "_train_epoch", forbid)
    assert sweep(entries(), store, workers=0) == []
    assert all(is_stored(entry, store) for entry in entries())
    monkeypatch.setattr(measures, "MEASURES", dict.fromkeys(measures.MEASURES, forbid))
    named = Entry(config(), (dataclasses.replace(SHARPNESS, label="half_box"),))
    assert is_stored(named, store)
    assert sweep([*entries(), named], store, workers=0) == []


def test_one_failing_entry_is_reported_and_the_others_finish(store):
    first, second, *_ = entries()
    with pytest.raises(SweepError, match=r"1 of 3 runs failed:\nunlucky.*no luck"):
        sweep([first, failure(), second], store, workers=0)
    assert is_stored(first, store)
    assert is_stored(second, store)
    assert not is_stored(failure(), store)


def test_what_cannot_be_built_is_refused_before_anything_is_computed(store):
    bad = Entry(config(network="surlemond"))
    with pytest.raises(ValueError, match="did you mean 'surlemont'"):
        sweep([*entries(), bad], store, workers=0)
    assert list(store.root.iterdir()) == []


def test_a_time_limit_leaves_the_rest_for_the_next_call(store, monkeypatch):
    clock = iter(range(1000))
    fake = SimpleNamespace(monotonic=lambda: next(clock), perf_counter=module.time.perf_counter)
    monkeypatch.setattr(module, "time", fake)
    left = sweep(entries(), store, workers=0, time_limit_s=2.5)  # a second for each look
    assert left == entries()[2:]
    assert [is_stored(entry, store) for entry in entries()] == [True, True, False, False]
    assert sweep(left, store, workers=0, time_limit_s=0) == left
    assert sweep(left, store, workers=0) == []
    assert all(is_stored(entry, store) for entry in entries())


def test_the_key_tells_configs_measures_and_labels_apart():
    plain = Measure("lambda_max", 20)
    named = dataclasses.replace(plain, label="top")
    more = Measure("lambda_max", 21), Measure("lambda_max", 20, {"k": 2})
    keys = {Entry(config(), (measure,)).key for measure in (plain, named, *more)}
    assert len(keys | {Entry(config()).key, Entry(config(seed=1)).key}) == 6
    assert Entry(config(), (plain,), "arm", 2).key == Entry(config(), (plain,)).key
    assert (plain.column, named.column) == ("lambda_max", "top") and plain.file == named.file
    with pytest.raises(ValueError, match="'lambda_maximum'; did you mean 'lambda_max'"):
        Measure("lambda_maximum", 10)


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_to_have_one(tmp_path):
    (script := tmp_path / "script.py").write_text(
        "from test_sweep import Store, entries, sweep\n\n"
        'sweep(entries(), Store("runs"), workers=2)\n'
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "line 3: worker processes import" in (said := ran.stderr.splitlines()[-1]), ran.stderr
    assert '`if __name__ == "__main__":`' in said and "Nanny" not in ran.stderr


# On Dask: one cluster of two workers meets everything at once


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A store after a sweep with good runs and four of another kind.

    One kills its worker once, one always, one takes more memory than a worker has, one fails.
    Workers are forked from a process that has imported what they need: they die seven times.
    """
    root = tmp_path_factory.mktemp("dask")
    bad = {
        arm: Entry(config(network=f"test_sweep:{network}", network_options=options), arm=arm)
        for arm, network, options in (
            ("killer", "killing", {"marker": str(root / "once"), "times": 1}),
            ("doomed", "killing", {"marker": str(root / "always"), "times": 10**6}),
            ("hungry", "hungry", {}),
            ("unlucky", "failing", {}),
        )
    }
    store = Store(root / "runs")
    share = MEMORY_LIMIT / CPU_COUNT  # of a worker
    options = {
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.worker.memory.terminate": 1.2e9 / share,
        "distributed.deploy.lost-worker-timeout": "10 ms",  # a sweep has to have its own
    }
    with dask_config.set(options), pytest.raises(SweepError) as caught:
        get_mp_context().set_forkserver_preload(["distributed", "bsglib.runs.sweep"])
        sweep([*bad.values(), *entries()], store, workers=2)
    heading, *lines = str(caught.value).splitlines()
    said = {line.split(",")[0]: line for line in lines}
    return SimpleNamespace(store=store, bad=bad, heading=heading, said=said, root=root)


@pytest.mark.slow
def test_two_workers_give_the_numbers_of_this_process(dask, store):
    sweep(entries(), store, workers=0)
    for entry in entries():
        assert numbers(entry, store) == numbers(entry, dask.store)


@pytest.mark.slow
def test_workers_report_what_fails_and_why_and_finish_the_others(dask):
    assert dask.heading == "3 of 8 runs failed:"
    assert set(dask.said) == {"doomed", "hungry", "unlucky"}
    assert "no luck" in dask.said["unlucky"]
    assert "memory budget" in dask.said["hungry"]
    assert "killed by signal 9" in dask.said["doomed"]
    assert deaths(dask.root / "once") == 1, "a killed worker is replaced"
    assert 2 <= deaths(dask.root / "always") <= 4  # alone twice; waiting for a worker also counts
    assert [is_stored(entry, dask.store) for entry in dask.bad.values()] == [True] + 3 * [False]
