"""Tests of bsglib.runs.timing: what its rows hold; how fast anything is, is not tested."""

import pytest

from bsglib.runs import timing
from bsglib.runs.timing import epoch_times, stored_epoch_times

OPTIONS = {"samples": 32, "repeats": 3}


@pytest.fixture
def configs(tiny):
    return [tiny(), tiny(rho=0.05), tiny(batch_size=50)]


def test_rows_interleave_the_configs_within_each_repeat(configs):
    rows = epoch_times(configs, **OPTIONS)
    assert [(row["repeat"], row["config"]) for row in rows] == [
        (repeat, place) for repeat in range(3) for place in range(3)
    ]
    assert all(set(row) == {"repeat", "config", "seconds"} and row["seconds"] > 0 for row in rows)


def test_a_time_is_scaled_to_the_training_set(tiny, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(timing, "train_batch", lambda *args, **options: None)
    (row,) = epoch_times([tiny(batch_size=10)], samples=20, repeats=1)
    assert row["seconds"] == pytest.approx(50 / 20)  # one second for 20 of 50 examples


def test_stored_times_are_not_taken_again_and_others_are_not_them(configs, store, monkeypatch):
    assert stored_epoch_times(configs, store, **OPTIONS, compute=False) is None
    first = stored_epoch_times(configs, store, **OPTIONS, compute=True)
    assert len(first["rows"]) == 9
    assert {"processor", "threads", "device"} <= set(first)
    monkeypatch.setattr(timing, "epoch_times", None)
    assert stored_epoch_times(configs, store, **OPTIONS, compute=True) == first
    assert stored_epoch_times(configs, store, **OPTIONS, compute=False) == first
    for others, changes in (
        (configs[:2], {}),
        (configs, {"repeats": 2}),
        (configs, {"samples": 16}),
    ):
        assert stored_epoch_times(others, store, **OPTIONS | changes, compute=False) is None
