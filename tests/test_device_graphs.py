"""Tests of bsglib.device_graphs and bsglib.runs.steps: all but the capture."""

import logging
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from bsglib import device_graphs, runtime
from bsglib.runs.build import build_model, build_optimizer, dataset_on_device, steps_of
from bsglib.runs.train import train, training

KINDS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "sam": {"momentum": 0.9, "rho": 0.05},
    "adam": {"optimizer": "adam", "base_lr": 0.01},
    "bfloat16": {"dtype": "bfloat16", "momentum": 0.9},
    "batch norm": {"network": "c1", "network_options": {"width": 0.1}, "optimizer": "adam"},
    "batches of four": {"batch_size": 4},
}


def tolerance(config, steps: int) -> float:
    """How far the same steps may lead from each other, as a part of the norm of what they make.

    Not at all on a CPU. On an accelerator sums are in no fixed order: a gradient differs by
    sqrt(batch size) eps, by which Adam, dividing by |g| + 1e-7, moves a weight without a gradient
    up to 1e5 times as far. One wrong example in an epoch makes 8e-4 or more, 9e-3 in bfloat16.
    """
    if runtime.device().type == "cpu":
        return 0.0
    eps = torch.finfo(getattr(torch, config.dtype)).eps
    return eps if config.dtype == "bfloat16" else steps * eps * 1e5 * config.batch_size**0.5


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The norm of the difference of tensors, as a part of their norm; infinite if one is NaN."""
    one, other = (
        torch.cat([t.detach().reshape(-1).double().cpu() for t in tensors])
        for tensors in (found, expected)
    )
    if torch.equal(one, other):
        return 0.0
    return float(((one - other).norm() / other.norm()).nan_to_num(torch.inf))


def prepared(config, many, monkeypatch):
    """Steps of a fresh network, `many` to a graph, and its weights."""
    monkeypatch.setattr("bsglib.runs.steps.MANY", many)
    dataset = dataset_on_device(config)
    torch.manual_seed(config.seed)
    model = build_model(config, dataset).train()
    optimizer = build_optimizer(config, model)
    steps = steps_of(config, dataset, model, optimizer, config.batch_size)
    return steps, list(model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_steps_of_an_epoch_do_not_depend_on_how_many_are_one_graph(kind, tiny, monkeypatch):
    config, ways = tiny(**KINDS[kind]), []
    for many in (1, 3, 100):
        steps, weights = prepared(config, many, monkeypatch)
        count = steps.full + (steps.rest > 0)
        for epoch in range(2):
            order = np.random.default_rng(epoch).permutation(len(steps.order))
            steps.epoch(order, [0.01 / (1 + step) for step in range(count)])
        losses, correct = steps.losses()
        ways.append((weights, [losses], [correct]))
    for other in ways[1:]:
        for found, expected in zip(other, ways[0], strict=True):
            assert distance(found, expected) <= tolerance(config, 2 * count)


@pytest.mark.parametrize("kind", KINDS)
def test_comparing_graphs_with_their_pieces_leaves_no_trace(kind, tiny, monkeypatch):
    config = tiny(**KINDS[kind])
    steps, weights = prepared(config, 2, monkeypatch)
    steps.lrs.fill_(0.01)
    before, random = [t.detach().clone() for t in steps.changed], torch.get_rng_state()
    made, report = device_graphs.captured(
        steps.pieces, steps.changed, weights, steps.found, make=lambda pieces: list(pieces)
    )
    assert all(torch.equal(a, b) for a, b in zip(before, steps.changed, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    start = [w.detach().clone() for w in weights]
    for piece in steps.pieces:
        piece()
    way = distance(weights, start)
    assert way > 0
    assert report["graphs"] == len(made) > 0
    assert report["graph_difference"] * way <= tolerance(config, 2 * len(made))


def test_without_a_capture_and_with_a_wrong_one_the_pieces_themselves_go_on(
    tiny, monkeypatch, caplog
):
    steps, weights = prepared(tiny(), 2, monkeypatch)

    def refused(pieces):
        raise RuntimeError("operation not permitted when stream is capturing")

    def wrong(pieces):
        return [lambda: weights[0].data.zero_()]

    for make, words in ((refused, "not permitted"), (wrong, "they differ")):
        before = [t.detach().clone() for t in steps.changed]
        with caplog.at_level(logging.WARNING):
            made, report = device_graphs.captured(
                steps.pieces, steps.changed, weights, steps.found, make=make
            )
        assert made == steps.pieces
        assert report["graphs"] == 0
        assert words in caplog.text
        assert all(torch.equal(a, b) for a, b in zip(before, steps.changed, strict=True))


def test_runs_in_flight_are_what_they_are_alone(tiny):
    options = {"network_options": {"width": 0.1, "dropout": 0.5}, "epochs": 3}
    configs = [tiny(seed=seed, batch_size=size, **options) for seed in (0, 1) for size in (5, 16)]
    alone = [train(config) for config in configs]
    tasks = (training(config) for config in configs)
    together = {
        place: run for place, run, error in device_graphs.in_flight(tasks, 3) if error is None
    }
    for place, run in enumerate(alone):
        assert run.weights.keys() == together[place].weights.keys()
        found = distance(together[place].weights.values(), run.weights.values())
        assert found <= tolerance(run.config, run.result["updates"])


def test_a_repeated_function_gives_what_it_gives_alone():
    x = torch.arange(3.0)
    repeated = device_graphs.Repeated(lambda: (x.sum(), x * 2))
    for start in range(4):
        x.copy_(torch.arange(3.0) + start)
        total, double = repeated()
        assert total == x.sum()
        assert torch.equal(double, 2 * x)
