"""Tests of bsglib.runs.ddp: several processes train as one does, and none is left behind."""

import os
import signal
import time

import numpy as np
import psutil
import pytest
import torch
from conftest import TINY_RUN
from torch import nn

from bsglib import runtime
from bsglib.runs import ddp
from bsglib.runs.build import batches_of, build_model, dataset_of
from bsglib.runs.ddp import ParallelError, train_parallel
from bsglib.runs.params import ParameterError, RunConfig
from bsglib.runs.train import train

pytestmark = pytest.mark.slow
EXACT = {"rtol": 1e-12, "atol": 1e-14}
EPOCHS = 2
TOO_FEW = 0 < runtime.accelerators() < 3, "each process takes an accelerator of its own"
enough_devices = pytest.mark.skipif(TOO_FEW[0], reason=TOO_FEW[1])


def config(**changes):
    """A run with batches of 16, 16, 16 and 2: with three processes, one gets nothing."""
    return RunConfig(**TINY_RUN | {"network_options": {"width": 0.0625, "dropout": 0.0}} | changes)


CONFIGS = {
    "momentum": config(momentum=0.9),
    "sam": config(rho=0.05, scaling="linear"),
    "chunks": config(train_size=500, batch_size=300),  # parts of more than one chunk
    "dropout": config(network_options={"width": 0.0625, "dropout": 0.5}),
    "batch norm": config(train_size=54, network="f1", network_options={"width": 0.02}),
}


@pytest.fixture(scope="module")
def runs():
    """All configs over one, two and three processes, started once."""
    if TOO_FEW[0]:
        pytest.skip(TOO_FEW[1])
    found = train_parallel(list(CONFIGS.values()), [1, 2, 3], epochs=EPOCHS, time_limit_s=300)
    return {name: found[3 * place : 3 * place + 3] for place, name in enumerate(CONFIGS)}


@pytest.mark.parametrize("name", CONFIGS)
def test_one_process_trains_as_train_does(name, runs):
    alone, run = runs[name][0], train(CONFIGS[name])
    weights = dict(build_model(CONFIGS[name], dataset_of(CONFIGS[name])).named_parameters())
    assert all(torch.equal(alone.weights[key], run.weights[key]) for key in weights)
    assert [r.processes for r in runs[name]] == [1, 2, 3]
    assert len(alone.losses) == run.result["updates"]


@pytest.mark.parametrize("several", [1, 2], ids=["two", "three"])
@pytest.mark.parametrize("name", ["momentum", "sam", "chunks"])
def test_several_processes_train_as_one_does(name, several, runs):
    one, other = runs[name][0], runs[name][several]
    np.testing.assert_allclose(other.losses, one.losses, **EXACT)
    for key, weights in one.weights.items():
        torch.testing.assert_close(other.weights[key], weights, **EXACT)
    assert one.losses[-1] < one.losses[0]


def test_batch_norm_uses_the_statistics_of_each_part(runs):
    chosen = CONFIGS["batch norm"]
    dataset = dataset_of(chosen)
    torch.manual_seed(chosen.seed)
    model = build_model(chosen, dataset)
    batch = batches_of(chosen, dataset.train, 0)[0]
    losses = [
        nn.functional.cross_entropy(
            model(dataset.as_input(dataset.train.x[part], torch.float64)), dataset.train.y[part]
        ).item()
        for part in batch.split(8)
    ]
    one, two, _ = runs["batch norm"]
    assert two.losses[0] == pytest.approx(sum(losses) / 2, rel=1e-12)
    assert one.losses[0] != pytest.approx(sum(losses) / 2, rel=1e-6)


class Unlucky(nn.Flatten):
    """A layer that fails in the last process: in training, or sleeps when it is tried out."""

    def __init__(self, how, folder):
        super().__init__()
        self.how, self.folder = how, folder

    def forward(self, x):
        if "RANK" in os.environ and (self.training or self.how not in ("fail", "kill")):
            for pid in (os.getpid(), os.getppid()):
                open(f"{self.folder}/{pid}", "w").close()
            while len(os.listdir(self.folder)) <= int(os.environ["WORLD_SIZE"]):
                time.sleep(0.01)  # else torchrun may end the others before they are seen
            if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
                if self.how == "fail":
                    raise ArithmeticError("no luck")
                if self.how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(1000)
        return super().forward(x)


def unlucky(input_shape, classes, *, how, folder):
    return nn.Sequential(Unlucky(how, folder), nn.Linear(4, classes))


@pytest.fixture
def seen(tmp_path):
    """A folder with a file per process that was started, named by its number."""
    (tmp_path / "seen").mkdir()
    return tmp_path / "seen"


def unlucky_config(how, seen):
    path = seen.parent / "data.npz"
    np.savez(path, x=np.random.default_rng(0).random((40, 4)), y=np.arange(40) % 2)
    options = {"how": how, "folder": str(seen)}
    return config(
        dataset=str(path), train_size=20, network="test_ddp:unlucky", network_options=options
    )


def running(seen):
    found = []
    for path in seen.iterdir():
        try:
            if psutil.Process(int(path.name)).status() != psutil.STATUS_ZOMBIE:
                found.append(path.name)
        except psutil.NoSuchProcess:
            pass
    return found


@enough_devices
@pytest.mark.parametrize(("how", "why"), [("fail", "ArithmeticError: no luck"), ("kill", "-9")])
def test_a_process_that_dies_is_named_and_the_others_end(how, why, seen):
    with pytest.raises(ParallelError, match=rf"^rank 1 of 2 processes failed: .*{why}") as caught:
        train_parallel([unlucky_config(how, seen)], [2], epochs=2, time_limit_s=300)
    if how == "fail":
        assert 'raise ArithmeticError("no luck")' in str(caught.value)  # the log
    assert len(list(seen.iterdir())) == 3  # torchrun and both processes
    assert running(seen) == []


def test_no_process_outlives_its_caller(seen):
    chosen = unlucky_config("hang", seen)
    caller = os.fork()
    if not caller:
        train_parallel([chosen], [1], epochs=2, time_limit_s=300)
        os._exit(0)
    try:
        wait_until(lambda: len(running(seen)) == 2, 120)  # torchrun and its process
    finally:
        os.kill(caller, signal.SIGKILL)
        os.waitpid(caller, 0)
    wait_until(lambda: running(seen) == [], 30)


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def no_launch(monkeypatch):
    monkeypatch.setattr(ddp, "_launch", None)


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        ({"batch_size": 3}, [1, 4], "'processes' = 4: 'batch_size' = 3 has too few examples"),
        ({"first_epochs": 1, "first_batch_size": 8}, [1], "'first_epochs' = 1: a parallel run"),
        ({"augment": ["flip"]}, [1], "'augment' = .'flip'.: a parallel run has no such updates"),
        ({"adversarial": 0.1}, [1], "'adversarial' = 0.1: a parallel run has no such updates"),
        ({"proximal": 0.1}, [1], "'proximal' = 0.1: a parallel run has no such updates"),
        (
            {"network": "f1", "network_options": {}, "train_size": 51},
            [2],
            "'processes' = 2: batch norm in 'f1' needs two examples in each, and the last batch "
            "of the 51 training examples has 3",
        ),
    ],
)
def test_what_cannot_be_split_is_refused_by_name(changes, processes, message, no_launch):
    with pytest.raises(ParameterError, match=message):
        train_parallel([config(**changes)], processes, epochs=2)
