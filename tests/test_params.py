"""Tests of bsglib.runs.params."""

import math
import subprocess
import sys

import pytest

from bsglib.project import ROOT, resolve
from bsglib.runs.params import ParameterError, Parameters, RunConfig, check, parse

VALUES = {
    "dataset": "digits",
    "network": "surlemont",
    "base_lr": 0.1,
    "batch_size": 32,
    "epochs": 1,
}


class Study(Parameters):
    epochs: int
    base_lr: float
    batch_sizes: list[int]
    name: str | None = None


def config(**changes):
    return parse(VALUES | changes, RunConfig)


def test_every_mistake_is_told_at_once():
    values = {k: v for k, v in VALUES.items() if k != "network"}
    with pytest.raises(ParameterError) as caught:
        parse(values | {"epochs": "two", "batch_size": 0, "bogus": 1}, RunConfig)
    for part in ("'epochs' = 'two'", "'batch_size' = 0", "'bogus'", "'network' is missing"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epochs", value) for value in (True, 2.0, "2", 0)),
        *(("base_lr", value) for value in (True, "0.1", math.nan, math.inf, 0.0)),
        ("optimizer", "rmsprop"),
        ("scaling", "Linear"),
        ("network_options", {"width": [1]}),
        ("network_options", {"width": math.nan}),
    ],
)
def test_a_wrong_type_or_value_is_refused_by_name(name, value):
    with pytest.raises(ParameterError, match=name):
        config(**{name: value})


def test_check_returns_a_notebooks_parameters():
    namespace = {"epochs": 2, "base_lr": 1, "batch_sizes": [32, 64], "pytest": pytest, "_": 3}
    namespace |= {"__name__": "__main__", "In": ["", "epochs = 2"], "Out": {}, "Study": Study}
    found = check(namespace, Study)
    assert found == Study(epochs=2, base_lr=1.0, batch_sizes=[32, 64])


def test_relative_paths_start_at_the_project_whatever_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("runs") == ROOT / "runs"
    assert resolve(tmp_path / "runs") == (tmp_path / "runs").resolve()


@pytest.mark.slow
def test_a_notebook_run_as_a_script_says_how_it_is_run():
    script = ROOT / "notebooks" / "surlemont_sam.py"
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert ran.returncode == 1 and not ran.stdout
    (line,) = ran.stderr.splitlines()
    assert "`make lab`" in line and "`bsg report surlemont_sam`" in line


class Cells(Parameters):
    epochs: int
    base_lr: float
    seeds: list


PARAMETERS = "epochs: int = 2  # passes\nbase_lr: float = 0.1\nseeds: list = [0]"
CHECK = "parameters = check(globals(), Cells)"


def run_cells(*cells):
    """The namespace of a notebook after these cells, the last of which is running the check."""
    namespace = {}
    for cell in cells[:-1]:
        if not cell.startswith("%"):
            exec(cell, namespace)  # as a kernel does
    return namespace | {"In": ["", *cells]}


def test_a_notebook_run_a_second_time_may_hold_names_of_its_own():
    later = "%matplotlib inline", "b, rows = 1.5, [1]\nphi = 'sharpness'"
    namespace = run_cells(PARAMETERS, "pass", *later, PARAMETERS.replace("2", "3"), CHECK)
    assert check(namespace, Cells).epochs == 3


@pytest.mark.parametrize("between", ["# Parameters\nepoch = 3", "epochs = 3\nepoch = 4"])
@pytest.mark.parametrize("before", [[], [PARAMETERS, "pass", "b = 1.5"]])
def test_a_misspelt_name_is_refused_in_the_first_pass_and_in_the_second(before, between):
    with pytest.raises(ParameterError, match="'epoch'; did you mean 'epochs'"):
        check(run_cells(*before, PARAMETERS, between, CHECK), Cells)


def test_a_misspelt_name_that_was_mended_is_forgotten():
    namespace = run_cells(PARAMETERS.replace("epochs", "epoch"), "pass", PARAMETERS, CHECK)
    assert check(namespace, Cells).epochs == 2
