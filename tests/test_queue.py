"""Tests of bsglib.runs.queue: the order in which `bsg compute --all` goes."""

import pytest
import yaml

from bsglib import cli
from bsglib.runs import queue
from bsglib.runs.params import ParameterError, parse
from bsglib.runs.queue import Queue, Row
from bsglib.runs.sweep import Entry
from bsglib.studies import profiles


def test_rows_come_in_their_order_seeds_within_them_and_the_rest_last(tiny):
    order = Queue((Row(study="b", part=2), Row(study="a", part=1, seeds=[10])))
    work = [("a", 11, 1), ("a", 10, 1), ("b", 11, 2), ("b", 10, 2), ("b", 10, 1)]
    entries = [(study, Entry(tiny(seed=seed), part=part)) for study, seed, part in work]
    ranked = sorted(range(len(work)), key=lambda i: order.place(*entries[i]))
    assert [work[i] for i in ranked] == [work[i] for i in (3, 2, 1, 4, 0)]


def test_a_row_may_hold_only_runs_whose_fields_have_some_values(tiny):
    row = Row(study="a", part=1, seeds=[10], only={"batch_size": [4, 8], "rho": [None]})
    assert row.holds("a", Entry(tiny(seed=10, batch_size=8)))
    for other in ({"seed": 11}, {"batch_size": 16}, {"batch_size": 8, "rho": 0.1}):
        assert not row.holds("a", Entry(tiny(**{"seed": 10, "batch_size": 8} | other)))
    with pytest.raises(ParameterError, match="batch_size"):
        parse({"study": "a", "part": 1, "only": {"batchsize": [4]}}, Row)


def test_rows_of_a_gpu_fit_nine_minutes_and_no_run_is_in_two():
    order = Queue.of("gpu")
    assert order.for_gpu and not Queue.of("confirm").for_gpu
    assert all(0 < row.minutes <= 9 for row in order.rows)
    for name in {row.study for row in order.rows}:
        study = cli.STUDIES[name]
        for entry in study.design(profiles.load(study, "gpu")):
            assert sum(row.holds(name, entry) for row in order.rows) <= 1


@pytest.mark.parametrize("profile", queue.profiles())
def test_every_row_names_entries_of_a_study(profile):
    for row in Queue.of(profile).rows:
        study = cli.STUDIES[row.study]
        design = study.design(profiles.load(study, profile))
        assert any(row.holds(row.study, entry) for entry in design), row


def test_a_row_with_a_wrong_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "FILE", tmp_path / "queue.yaml")
    queue.FILE.write_text(yaml.safe_dump({"confirm": [{"study": "a", "parts": 1}]}))
    with pytest.raises(ParameterError, match="'parts'; did you mean 'part'"):
        Queue.of("confirm")
