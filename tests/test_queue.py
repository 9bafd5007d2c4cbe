"""Tests of bsglib.queue: the order in which `bsg compute --all` goes."""

import pytest
import yaml

from bsglib import cli, queue
from bsglib.params import ParameterError
from bsglib.queue import Queue, Row
from bsglib.sweep import Entry


def test_rows_come_in_their_order_seeds_within_them_and_the_rest_last(tiny):
    order = Queue((Row(study="b", part=2), Row(study="a", part=1, seeds=[10])))
    work = [("a", 11, 1), ("a", 10, 1), ("b", 11, 2), ("b", 10, 2), ("b", 10, 1)]
    entries = [(study, Entry(tiny(seed=seed), part=part)) for study, seed, part in work]
    ranked = sorted(range(len(work)), key=lambda i: order.place(*entries[i]))
    assert [work[i] for i in ranked] == [work[i] for i in (3, 2, 1, 4, 0)]


@pytest.mark.parametrize("profile", queue.profiles())
def test_every_row_names_entries_of_a_study(profile):
    for row in Queue.of(profile).rows:
        study = cli.STUDIES[row.study]
        design = study.design(cli._parameters(study, profile))
        assert any(row.holds(row.study, entry) for entry in design), row


def test_a_row_with_a_wrong_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "FILE", tmp_path / "queue.yaml")
    queue.FILE.write_text(yaml.safe_dump({"confirm": [{"study": "a", "parts": 1}]}))
    with pytest.raises(ParameterError, match="'parts'; did you mean 'part'"):
        Queue.of("confirm")
