"""Tests of bsglib on bad input to the command line: one table of what gets which answer.

One message, exit status 1, no traceback, no file made or changed.
"""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bsglib import cli
from bsglib.runs.store import Store

N = 60


# What is given: functions of a place that return arguments of `bsg`


def command(*arguments):
    return lambda place: [part.format(**vars(place)) for part in arguments]


def compute(*options):
    return command("compute", "surlemont_sam", *options)


def profile(content: str | bytes, *options, study="surlemont_sam"):
    """A parameter file."""

    def given(place):
        file, text = place.folder / "mine.yaml", content
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return ["compute", study, "--profile", str(file), "--workers", "0", *options]

    return given


def arrays(change=None, **changes):
    """Arrays of a user's, x [N, 1, 8, 8] and y of three classes; `change` damages the file."""

    def given(place):
        file = place.folder / "mine.npz"
        values = {"x": np.ones((N, 1, 8, 8), np.float32), "y": np.arange(N) % 3} | changes
        np.savez(file, **{name: value for name, value in values.items() if value is not None})
        if change:
            file.write_bytes(change(file.read_bytes()))
        return profile(f"dataset: {file}")(place)

    return given


def pictures(change):
    """A folder of images of two classes, changed."""

    def given(place):
        folder = place.folder / "pictures"
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (8, 8), (i, i, i)).save(folder / name / f"{i}.png")
        change(folder)
        return profile(f"dataset: {folder}")(place)

    return given


def network(name: str, **options):
    return profile(f"network: '{name}'\ndropout: null\nnetwork_options: {options}")


def run_with(config: bytes | dict):
    """A finished run whose config cannot be read, and the wish to clean up."""

    def given(place):
        if isinstance(config, dict):
            Store(place.store).write_json("0123", "config.json", config)
        else:
            Store(place.store).write("0123", "config.json", config)
        return ["clean", "--yes", "--store", place.store]

    return given


def export_into_a_file(place):
    (place.folder / "results").write_text("")
    place.patch.setattr(cli, "export_folder", lambda *names: place.folder / "results")
    return ["export", "surlemont_sam"]


# Networks of a user's that do not fit


def not_module(input_shape, classes):
    return lambda x: torch.zeros(len(x), classes)


def three_outputs(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


ME = __name__
TABLE: dict[str, tuple[Callable, tuple[str, ...]]] = {
    # parameter files
    "unknown parameter": (profile("epoch: 3"), ("mine.yaml", "'epoch'", "'epochs'?", "adam_lr, ")),
    "1e-3": (profile("sgd_lr: 1e-3"), ("'sgd_lr' = '1e-3' (str)", "write 0.001 or 1.0e-3")),
    "duplicate key": (profile("epochs: 3\nepochs: 4"), ("'epochs' occurs twice", "line 2")),
    "empty file": (profile(""), ("mine.yaml", "is empty", "name: value")),
    "Python object": (profile("epochs: !!python/object:os.system {}"), ("mine.yaml", "python/obj")),
    "another profile's name": (profile("profile: laptop"), ("mine.yaml", "'laptop'", "'mine'")),
    "batch too large": (profile("batch_sizes: [32, 4096]"), ("'batch_size' = 4096", "576 exam")),
    "batch size twice": (profile("batch_sizes: [32, 32]"), ("'batch_sizes'", "32 occurs twice")),
    "training set too large": (profile("train_size: 2000"), ("train_size = 2000", "has 1294")),
    "unknown dtype": (profile("dtype: float46"), ("'dtype' = 'float46'", "did you mean 'float64'")),
    "even number of points": (
        profile("surface_points: 4", study="chang_batch_size"),
        ("'surface_points' = 4", "odd"),
    ),
    # names and options of the command line
    "unknown study": (command("compute", "surlemont_sm"), ("'surlemont_sm'", "'surlemont_sam'?")),
    "unknown profile": (compute("--profile", "lptop"), ("'lptop'", "'laptop'?", "paper", "quick")),
    "missing file": (compute("--profile", "{folder}/no.yaml"), ("{folder}/no.yaml", "No such")),
    "negative time limit": (compute("--time-limit", "-1"), ("--time-limit -1", "such as 90s")),
    "strange scheduler": (compute("--scheduler", "nonsense://here"), ("'nonsense://here'", "tcp:")),
    "missing scheduler": (compute("--scheduler", "tcp://127.0.0.1:9"), ("no Dask scheduler",)),
    "unknown data to fetch": (command("data", "fashion_mnits"), ("_mnits'", "'fashion_mnist'?")),
    # data
    "unknown data set": (profile("dataset: digit"), ("'digit'", "did you mean 'digits'?", ".npz")),
    "missing arrays": (profile("dataset: none.npz"), ("missing data file", "/none.npz")),
    "arrays without x": (arrays(x=None), ("mine.npz holds ['y']", "needed are x")),
    "too few labels": (arrays(y=np.arange(N - 1) % 3), ("mine.npz", "(60, 1, 8, 8)", "(59,)")),
    "labels from -1": (arrays(y=np.arange(N) % 3 - 1), ("mine.npz: lowest of y is -1", "from 0")),
    "one class": (arrays(y=np.zeros(N, int)), ("mine.npz", "all labels are 0", "two classes")),
    "NaN in x": (arrays(x=np.full((N, 2), np.nan)), ("mine.npz: 120 values of x are NaN",)),
    "arrays with a flipped bit": (arrays(flipped), ("damaged data file", "mine.npz")),
    "one folder": (pictures(lambda f: (f / "dog").rename(f / ".dog")), ("one folder, 'cat'",)),
    "class without pictures": (
        pictures(lambda folder: [file.unlink() for file in (folder / "dog").iterdir()]),
        ("pictures/dog holds no images", ".png"),
    ),
    "broken picture": (
        pictures(lambda folder: (folder / "cat" / "0.png").write_bytes(b"\x89PNG")),
        ("1 of 8", "pictures/cat/0.png", "repair or delete"),
    ),
    "pictures of two sizes": (
        pictures(lambda folder: Image.new("RGB", (9, 8)).save(folder / "dog" / "9.png")),
        ("pictures/dog/9.png", "9 x 8", "image_size"),
    ),
    # networks
    "unknown network": (profile("network: surlemon"), ("'surlemon'", "did you mean 'surlemont'?")),
    "unknown option": (network("surlemont", widht=1), ("'widht'", "did you mean 'width'?")),
    "input shape that does not fit": (
        arrays(x=np.ones((2000, 64), np.float32), y=np.arange(2000) % 3),
        ("network 'surlemont'", "inputs of shape (64,)"),
    ),
    "module that is not there": (
        network("no_such_package:make"),
        ("'no_such_package:make'", "No module named 'no_such_package'", "PYTHONPATH"),
    ),
    "function that is not there": (network(f"{ME}:not_modules"), ("mean 'not_module'?",)),
    "no module": (network(f"{ME}:not_module"), (f"{ME}:not_module", "torch.nn.Module")),
    "outputs of another number": (network(f"{ME}:three_outputs"), ("(1, 3), expected (1, 10)",)),
    # store, disk and folders
    "store that is a file": (
        command("compute", "surlemont_sam", "--store", "{store}/0123/result.json"),
        ("run store {store}/0123/result.json cannot be created",),
    ),
    "store that cannot be written": (
        profile("epochs: 1", "--store", "/proc/none"),
        ("/proc/none cannot be created",),
    ),
    "run whose config is damaged": (run_with(b"{"), ("damaged file {store}/0123/config.json",)),
    "run whose config is from elsewhere": (
        run_with({"dataset": "digits", "colour": "red"}),
        ("{store}/0123/config.json", "another version", "unknown parameter 'colour'"),
    ),
    "export that cannot be written": (export_into_a_file, ("{folder}/results", "File exists")),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data, and a store that holds something."""
    folder, store = tmp_path / "folder", tmp_path / "store"
    for path in (folder / "data", store / "0123"):
        path.mkdir(parents=True)
    (store / "0123" / "result.json").write_text("{}")
    monkeypatch.setenv("BSG_DATA", str(folder / "data"))
    monkeypatch.setenv("BSG_STORE", str(store))
    return SimpleNamespace(root=tmp_path, folder=folder, store=str(store), patch=monkeypatch)


def files(place) -> dict[Path, bytes]:
    """Everything below a place but locks, which stay for the next to take them."""
    found = (path for path in place.root.rglob("*") if path.is_file())
    return {p: p.read_bytes() for p in found if p.suffix != ".lock" and ".locks" not in p.parts}


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_is_answered(name, place, bsg):
    given, parts = TABLE[name]
    given = given(place)
    before, start = files(place), time.monotonic()
    status, message = bsg(*given)
    assert status == 1, message
    assert "Traceback" not in message and "bsg: " in message
    for part in parts:
        assert part.format(**vars(place)) in message
    assert files(place) == before, "nothing is written, nothing is lost"
    assert time.monotonic() - start < 60, "nobody waits for an answer"
