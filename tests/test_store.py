"""Tests of bsglib.runs.store."""

import errno
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


def test_a_dictionary_comes_back_as_it_was(store):
    content = {"a": 1, "b": 0.1 + 0.2, "c": None, "d": [1, "ü"], "e": {"f": float("inf")}}
    store.write_json("run", "x.json", content)
    assert store.read_json("run", "x.json") == content


def test_what_is_not_there_is_none(store):
    assert store.read_json("run", "x.json") is None
    assert store.result("run") is None
    store.write("run", "history.csv", b"epoch\n")
    assert store.result("run") is None  # begun, not complete
    assert store.folder("run").is_dir()


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"\xff\xfe"])
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
    (folder / ".checkpoint.safetensors.abc.part").write_bytes(b"half")
    store.write("run", "checkpoint.safetensors", b"whole")
    store.remove_leftovers("run")
    assert parts(folder) == []
    assert (folder / "checkpoint.safetensors").exists()
    store.remove("run", "checkpoint.safetensors")
    assert not (folder / "checkpoint.safetensors").exists()
    assert store.result("run")["stopped"] == "epochs"
    store.remove("run", "never-there")


def test_a_run_damaged_twice_is_set_aside_twice(store):
    for _ in range(2):
        (finished(store) / "history.csv").write_bytes(b"epoch")
        assert store.result("run", set_aside=True) is None
    assert len(list((store.root / "damaged").iterdir())) == 2


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
