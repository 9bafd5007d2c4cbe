"""Tests of bsglib.runs.store."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from bsglib.runs.store import Store, StoreError

WRITE_FOREVER = """
import sys
from bsglib.runs.store import Store
store, number = Store(sys.argv[1]), 0
while True:
    number += 1
    store.write_json("run", "state.json", {"number": number, "padding": [number] * 20_000})
"""
TRAIN = """
import json, sys, time
from bsglib import runtime
from bsglib.runs import train
from bsglib.runs.params import RunConfig
from bsglib.runs.store import Store
runtime.single_thread()
epoch = train._train_epoch
def counted(*arguments):
    print("epoch", flush=True)
    time.sleep(0.3)  # the other process meets the lock
    epoch(*arguments)
train._train_epoch = counted
run = train.train(RunConfig(**json.loads(sys.argv[2])), store=Store(sys.argv[1]))
print("loss", run.history["test_loss"].iloc[-1], flush=True)
"""


def parts(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def finished(store, run_id="run"):
    store.write(run_id, "final.safetensors", b"weights")
    store.write(run_id, "history.csv", b"epoch\n1\n")
    store.finish(run_id, {"stopped": "epochs"}, ["final.safetensors", "history.csv"])
    return store.folder(run_id)


def test_a_dictionary_comes_back_as_it_was_written_last(store):
    content = {"a": 1, "b": 0.1 + 0.2, "c": None, "d": [1, "ü"], "e": {"f": float("inf")}}
    for number in range(3):
        store.write_json("run", "measures/x.json", content | {"number": number})
    assert store.read_json("run", "measures/x.json") == content | {"number": 2}
    assert len(list((store.folder("run") / "measures").iterdir())) == 1


def test_what_is_not_there_is_none(store):
    assert store.read_json("run", "x.json") is None
    assert store.result("run") is None
    store.write("run", "history.csv", b"epoch\n")
    assert store.result("run") is None  # begun, not complete
    assert store.folder("run").is_dir()


def test_a_store_is_empty_until_a_run_begins(store):
    with store.lock("run"):
        assert store.is_empty()
    store.write("run", "history.csv", b"epoch\n")
    assert not store.is_empty()


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[1]", b"{}", b'"text"', b"\xff\xfe"])
def test_a_json_file_that_is_none_is_damaged(store, damage):
    store.write("run", "x.json", damage)
    with pytest.raises(StoreError, match=r"damaged file .*x\.json"):
        store.read_json("run", "x.json")


def test_an_edited_value_is_damage(store):
    store.write_json("run", "x.json", {"loss": 0.125})
    path = store.folder("run") / "x.json"
    path.write_text(path.read_text().replace("0.125", "0.124"))
    with pytest.raises(StoreError, match="checksum"):
        store.read_json("run", "x.json")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_behind(store, monkeypatch, step):
    store.write_json("run", "x.json", {"number": 1})

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(StoreError, match=r"x\.json.*No space left"):
            store.write_json("run", "x.json", {"number": 2})
    assert store.read_json("run", "x.json") == {"number": 1}
    assert parts(store.root) == []


@pytest.mark.slow
def test_a_process_killed_while_writing_leaves_a_whole_file(tmp_path):
    store, numbers = Store(tmp_path / "runs"), []
    with subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(store.root)]) as writer:
        deadline = time.monotonic() + 60
        while store.read_json("run", "state.json") is None and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(20):  # also a reader beside the writer sees whole files only
            numbers.append(store.read_json("run", "state.json")["number"])
            time.sleep(0.005)
        writer.send_signal(signal.SIGKILL)
    content = store.read_json("run", "state.json")
    assert content["padding"] == [content["number"]] * 20_000
    assert numbers == sorted(numbers)


def test_leftovers_of_killed_writers_are_swept_and_removal_takes_one_file(store):
    folder = finished(store)
    for name in ("checkpoint.safetensors", "result.json"):
        (folder / f".{name}.abc.part").write_bytes(b"half")
    assert store.result("run")["stopped"] == "epochs", "it hides no complete run"
    store.write("run", "checkpoint.safetensors", b"whole")
    store.remove_leftovers("run")
    assert parts(folder) == []
    assert (folder / "checkpoint.safetensors").exists()
    store.remove("run", "checkpoint.safetensors")
    assert not (folder / "checkpoint.safetensors").exists()
    assert store.result("run")["stopped"] == "epochs"
    store.remove("run", "never-there")


def test_a_damaged_run_is_left_by_readers_and_set_aside_by_writers_also_twice(store, caplog):
    for count in (1, 2):  # test_faults.py damages each of its files
        folder = finished(store)
        kept = {path.name for path in folder.iterdir()}
        (folder / "history.csv").write_bytes(b"epoch\n")
        assert store.result("run") is None and folder.is_dir()
        with caplog.at_level(logging.WARNING):
            assert store.result("run", set_aside=True) is None
        assert not folder.exists()
        aside = list((store.root / "damaged").iterdir())
        assert [{path.name for path in each.iterdir()} for each in aside] == [kept] * count
        assert str(folder / "history.csv") in caplog.text
        assert any(str(each) in caplog.messages[-1] for each in aside)


def test_a_store_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"run store .*file/runs cannot be created"):
        Store(tmp_path / "file" / "runs")


def test_a_run_that_cannot_be_written_is_named(store):
    (store.root / "run").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"history\.csv cannot be written"):
        store.write("run", "history.csv", b"")


@pytest.mark.slow
def test_two_processes_that_want_the_same_run_train_it_once(tmp_path, tiny):
    store, config = Store(tmp_path / "runs"), tiny(epochs=2)
    command = [sys.executable, "-c", TRAIN, str(store.root), config.model_dump_json()]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(output.count("epoch") for output in outputs) == [0, 2]
    assert outputs[0][-1] == outputs[1][-1]
    assert outputs[0][-1].startswith("loss")
