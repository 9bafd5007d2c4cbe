"""Tests of training, sweeps and timings on stores that are damaged, full or read-only."""

import contextlib
import ctypes
import logging
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.soak import CONFIG, contents
from bsglib.runs import measures
from bsglib.runs import train as train_module
from bsglib.runs.build import dataset_of
from bsglib.runs.finished import run_id
from bsglib.runs.measures import Measure
from bsglib.runs.params import RunConfig
from bsglib.runs.store import Store, StoreError
from bsglib.runs.sweep import Entry, SweepError, compute, sweep
from bsglib.runs.timing import stored_timing
from bsglib.studies.exports import is_stored

SURFACE = Measure("loss_surface", 20, {"seeds": [0, 1], "points": 3})
SHARPNESS = Measure("keskar_sharpness", 20, {"epsilon": 0.01})
RUN = RunConfig(**CONFIG | {"epochs": 3})
OTHER = RUN.model_copy(update={"seed": 1})
EPOCHS, POINTS = 3, 9

COMPUTED_BY_MANY = """
import os, sys
from benchmarks.soak import CONFIG
from bsglib import runtime
from bsglib.runs import measures, sweep, train
from bsglib.runs.params import RunConfig
from bsglib.runs.measures import Measure
from bsglib.runs.sweep import Entry
root, processes = sys.argv[1], int(sys.argv[2])
log = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND)
def logged(function, word):
    def call(*arguments):
        os.write(log, word.encode() + b"\\n")
        return function(*arguments)
    return call
runtime.single_thread()
one, other = (RunConfig(**CONFIG | {"epochs": 9, "seed": seed}) for seed in (0, 1))
train.train(one)  # imports, before the forks
train._train_epoch = logged(train._train_epoch, "epoch")
measures.ROWS["interpolate"] = logged(measures.ROWS["interpolate"], "line")
line = {"name": "interpolate", "examples": 20, "options": {"points": 4}}
entries = Entry(one, (Measure(**line, start=other),)), Entry(other, (Measure(**line, start=one),))
for number in range(processes):
    if not os.fork():
        try:
            sweep.compute(entries[number % 2], root)
            os._exit(0)
        finally:
            os._exit(1)
sys.exit(max(os.wait()[1] for _ in range(processes)))
"""


@pytest.fixture
def computed(monkeypatch):
    """Count epochs, measures and points of surfaces as they are computed."""
    counts = Counter()

    def counted(word, function):
        def call(*arguments, **options):
            counts[word] += 1
            return function(*arguments, **options)

        return call

    def surface(*arguments, on_point, **options):
        return loss_surface(*arguments, on_point=counted("points", on_point), **options)

    loss_surface, sharpness = measures.loss_surface, measures.MEASURES["keskar_sharpness"]
    epoch = counted("epochs", train_module._train_epoch)
    monkeypatch.setattr(train_module, "_train_epoch", epoch)
    monkeypatch.setattr(measures, "loss_surface", surface)
    monkeypatch.setitem(measures.MEASURES, "keskar_sharpness", counted("measures", sharpness))
    return counts


def interrupted(patch, owner, name, after):
    """Let a function of a module fail as by Ctrl-C after so many calls."""
    original, calls = getattr(owner, name), []

    def call(*arguments, **options):
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*arguments, **options)

    patch.setattr(owner, name, call)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of two runs: complete, begun with a checkpoint, and with half a surface."""
    root = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "CHECKPOINT_EVERY_S", -1)
        patch.setattr(measures, "SAVE_EVERY_S", -1)
        for config in (RUN, OTHER):
            whole = Entry(config, (SHARPNESS, SURFACE))
            compute(whole, str(root / "whole"))
            with patch.context() as inner, pytest.raises(KeyboardInterrupt):
                interrupted(inner, train_module, "_train_epoch", 2)
                compute(whole, str(root / "begun"))
            compute(Entry(config, (SHARPNESS,)), str(root / "surface"))
            with patch.context() as inner, pytest.raises(KeyboardInterrupt):
                interrupted(inner, Store, "write_json", 4)
                compute(whole, str(root / "surface"))
    return root


def truncated(path, other):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path, other):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def empty(path, other):
    path.write_bytes(b"")


def half_renamed(path, other):
    path.rename(path.with_name(f".{path.name}.0.part"))


def foreign(path, other):
    shutil.copyfile(other, path)


AGAIN = Counter(epochs=EPOCHS, measures=1, points=POINTS)
FILES = {  # in which store, and what a loss of it costs
    "result.json": ("whole", AGAIN),
    "config.json": ("whole", AGAIN),
    "history.csv": ("whole", AGAIN),
    "final.safetensors": ("whole", AGAIN),
    "checkpoint.safetensors": ("begun", AGAIN),
    SHARPNESS.file: ("whole", Counter(measures=1)),
    SURFACE.file: ("whole", Counter(points=POINTS)),
    SURFACE.partial: ("surface", Counter(points=POINTS)),
}
LISTED = "config.json", "history.csv", "final.safetensors"  # in the result
UNHARMED = {"whole": Counter(), "begun": AGAIN - Counter(epochs=2), "surface": Counter(points=5)}


ID, OTHER_ID = (run_id(c, dataset_of(c).checksum) for c in (RUN, OTHER))
WANTED = Entry(RUN, (SHARPNESS, SURFACE))


@pytest.fixture
def copied(stores, tmp_path):
    """Return a function that copies one of the stores."""
    return lambda name: Path(shutil.copytree(stores / name, tmp_path / "store"))


@pytest.mark.parametrize("name", UNHARMED)
def test_unharmed_stores_go_on_from_what_they_have(stores, copied, computed, name):
    root = copied(name)
    compute(WANTED, str(root))
    assert computed == UNHARMED[name]
    assert contents(root / ID) == contents(stores / "whole" / ID)


@pytest.mark.parametrize("damage", [truncated, flipped, empty, half_renamed, foreign])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_noticed_said_and_computed_again(
    stores, copied, caplog, computed, name, damage
):
    kind, cost = FILES[name]
    root = copied(kind)
    path = root / ID / name
    damage(path, root / OTHER_ID / name)
    with caplog.at_level(logging.WARNING):
        compute(WANTED, str(root))
    if damage is not half_renamed or name in LISTED:  # else as if never written
        assert str(path) in caplog.text
    never_finished = name == "result.json" and damage is half_renamed
    assert computed == (Counter(epochs=EPOCHS) if never_finished else cost)
    aside = kind == "whole" and cost == AGAIN and not never_finished
    assert len(list(root.glob("damaged/*"))) == aside
    assert contents(root / ID) == contents(stores / "whole" / ID)


def test_what_is_not_ours_is_left_alone(copied, computed):
    root = copied("whole")
    strange = [root / "notes.txt", root / ID / ".DS_Store", root / "other" / "data.bin"]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not ours")
    compute(WANTED, str(root))
    assert computed == Counter()
    assert [path.read_bytes() for path in strange] == [b"not ours"] * 3


def test_a_file_where_a_run_should_be_is_set_aside(tmp_path, caplog):
    (tmp_path / ID).write_bytes(b"a file")
    compute(Entry(RUN), str(tmp_path))
    assert str(tmp_path / ID) in caplog.text
    assert [path.read_bytes() for path in tmp_path.glob("damaged/*")] == [b"a file"]
    assert is_stored(Entry(RUN), Store(tmp_path))


@contextlib.contextmanager
def files_of_at_most(size):
    """Let every longer write of this process fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("begun", "checkpoint.safetensors"),
        ("surface", SURFACE.partial),
        ("surface", SURFACE.file),
        ("whole", SURFACE.file),
    ],
)
def test_a_full_disk_is_said_and_costs_nothing(stores, copied, monkeypatch, computed, kind, file):
    root = copied(kind)
    if kind == "whole":
        (root / ID / SURFACE.file).unlink()
    before = contents(root)
    with monkeypatch.context() as patch, files_of_at_most(100):
        if file != SURFACE.file:
            patch.setattr(train_module, "CHECKPOINT_EVERY_S", -1)
            patch.setattr(measures, "SAVE_EVERY_S", -1)
        with pytest.raises(SweepError, match=f"{file} cannot be written: File too large"):
            sweep([WANTED], Store(root), workers=0)
    assert contents(root) == before, "nothing lost, nothing left over"
    computed.clear()
    compute(WANTED, str(root))
    assert computed == (UNHARMED | {"whole": Counter(points=POINTS)})[kind]
    assert contents(root / ID) == contents(stores / "whole" / ID)


@contextlib.contextmanager
def read_only(root):
    """Take the right to write below a folder, also from root, whom permissions do not bind."""
    paths = [root, *root.rglob("*")]
    modes = [path.stat().st_mode for path in paths]
    for path in paths:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    version, words = (ctypes.c_uint32 * 2)(0x20080522, 0), ctypes.c_uint32 * 6  # capget(2)
    before, libc = words(), ctypes.CDLL(None)
    bound = os.geteuid() == 0
    if bound:
        assert libc.capget(version, before) == 0
        assert libc.capset(version, words(0, *before[1:3], 0, *before[4:6])) == 0
    try:
        yield
    finally:
        if bound:
            assert libc.capset(version, before) == 0
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)


def test_a_read_only_store_is_read(copied, computed):
    root = copied("whole")
    stored_timing("timing-x", Store(root), lambda: {"rows": [1]})
    with read_only(root):
        with pytest.raises(OSError):
            (root / "x").write_bytes(b"")
        assert sweep([WANTED], Store(root), workers=0) == []
        assert stored_timing("timing-x", Store(root), pytest.fail) == {"rows": [1]}
        assert stored_timing("timing-y", Store(root), None) is None
    assert computed == Counter()


@pytest.mark.parametrize("kind", ["whole", "begun", "surface"])
def test_a_read_only_store_that_lacks_something_says_that_it_cannot_be_written(
    copied, computed, kind
):
    root = copied(kind)
    if kind == "whole":
        truncated(next(root.glob("*/history.csv")), None)
    before = contents(root)
    with read_only(root), pytest.raises(SweepError, match=f"{root}.*: Permission denied"):
        sweep([Entry(c, (SHARPNESS, SURFACE)) for c in (RUN, OTHER)], Store(root), workers=0)
    assert computed["epochs"] == computed["points"] == 0
    assert contents(root) == before


def test_a_file_that_cannot_be_read_is_no_damage(copied, computed, monkeypatch):
    root = copied("whole")
    path = root / ID / "result.json"
    read = Path.read_bytes

    def refused(self):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(StoreError, match=f"{path} cannot be read: Permission denied"):
        compute(Entry(RUN), str(root))
    assert computed == Counter() and path.is_file()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks of one")
def test_six_processes_that_want_two_runs_and_each_needs_the_other_compute_all_once(tmp_path):
    log = tmp_path / "log"
    log.touch()
    command = [sys.executable, "-c", COMPUTED_BY_MANY, str(tmp_path / "store"), "6", str(log)]
    subprocess.run(command, check=True, timeout=300, cwd=Path(__file__).parent.parent)
    assert Counter(log.read_text().split()) == {"epoch": 2 * 9, "line": 2}
