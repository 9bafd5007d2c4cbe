"""Settings shared by all tests: one thread, a run store of their own, no traces left behind."""

import copy
import os
from types import SimpleNamespace

import matplotlib as mpl
import pandas as pd
import pytest
import torch
import yaml

from bsglib import cli, runtime
from bsglib.figures import style
from bsglib.runs import build
from bsglib.runs.params import RunConfig
from bsglib.runs.store import Store
from bsglib.studies import study as studies

TINY = {  # changes to a quick profile: the SAM study in a second
    "profile": "tiny",
    "train_size": 64,
    "network_options": {"width": 0.1},
    "batch_sizes": [32, 64],
    "seeds": [0],
    "epochs": 2,
    "rho_sweep": [0.1],
    "sharpness_examples": 32,
    "lambda_max_examples": 32,
    "timing_samples": 64,
    "timing_repeats": 1,
    "workers": 0,
}


def pytest_configure(config):
    runtime.single_thread()


@pytest.fixture(autouse=True)
def clean_process(tmp_path):
    """Give each test its own run store and seed, and fail those that leave settings behind."""
    with pytest.MonkeyPatch.context() as patch:  # of its own: the test's is undone before
        patch.setenv("BSG_STORE", str(tmp_path / "bsg-store"))
        torch.manual_seed(0)
        folder, variables = os.getcwd(), own_variables()
        yield
        assert torch.get_num_threads() == 1
        assert torch.get_default_dtype() == torch.float32
        assert torch.is_grad_enabled()
        assert os.getcwd() == folder
        assert own_variables() == variables


def own_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("BSG_")}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


TINY_RUN = {  # the parameters of a run of some milliseconds
    "dataset": "digits",
    "train_size": 50,
    "network": "surlemont",
    "network_options": {"width": 0.0625},
    "base_lr": 0.1,
    "batch_size": 16,
    "epochs": 2,
    "dtype": "float64",
}


@pytest.fixture
def tiny():
    """Return a function that makes a config of such a run."""
    return lambda **changes: RunConfig(**TINY_RUN | changes)


@pytest.fixture
def batches(monkeypatch):
    """The batches trained on, as they come, with their rate and the weights before the update."""
    seen, train_batch = [], build.train_batch

    def recorded(model, optimizer, x, y, **options):
        now = {"lr": float(optimizer.param_groups[0]["lr"])}
        now["weights"] = {name: t.clone() for name, t in model.state_dict().items()}
        loss, correct = train_batch(model, optimizer, x, y, **options)
        seen.append(SimpleNamespace(x=x, y=y, loss=float(loss), correct=int(correct), **now))
        return loss, correct

    monkeypatch.setattr(build, "train_batch", recorded)
    return seen


@pytest.fixture
def report_style():
    """Draw as the reports do, and give matplotlib its settings back."""
    with mpl.rc_context():
        style.use_style()
        yield


@pytest.fixture(scope="session")
def reports(tmp_path_factory):
    """Return a folder of reports in which one study has pages in the laptop profile."""
    import sample_reports  # takes seconds, which the other tests do not have to wait

    folder = tmp_path_factory.mktemp("reports {a}")
    sample_reports.write(folder)
    return folder


@pytest.fixture
def bsg(monkeypatch, capsys):
    """Return a function that runs `bsg` and returns its status and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["bsg", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.app()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out + printed.err

    return run


@pytest.fixture
def tiny_profile(tmp_path, monkeypatch):
    """A parameter file of a study of a second, and reports of its own."""
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    monkeypatch.setattr(cli, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(studies, "RESULTS", tmp_path / "reports" / "results")
    monkeypatch.setattr(cli, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("<!-- verdicts -->\n<!-- /verdicts -->\n")
    return str(file)


def state_of(model):
    """Everything of a network that a measure has to leave as it was."""
    return {
        "tensors": copy.deepcopy(model.state_dict()),
        "strides": [w.stride() for w in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "flags": [w.requires_grad for w in model.parameters()],
        "gradients": [None if w.grad is None else w.grad.clone() for w in model.parameters()],
    }


def assert_same_state(model, before):
    now = state_of(model)
    assert all(torch.equal(now["tensors"][k], t) for k, t in before["tensors"].items())
    for key in ("strides", "modes", "flags"):
        assert now[key] == before[key]
    for a, b in zip(now["gradients"], before["gradients"], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def same(one, other):
    """Whether two runs have the same numbers, to the bit."""
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(t, other.weights[name]) for name, t in one.weights.items()
    )
