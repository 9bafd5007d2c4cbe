"""Tests of bsglib.runs.store."""

import errno
import os

import pytest

from bsglib.runs.store import StoreError


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
