"""Tests of bsglib.graphs and bsglib.steps: all but the capture, for which it takes a GPU."""

import logging

import numpy as np
import pytest
import torch

from bsglib import graphs
from bsglib.steps import Steps
from bsglib.store import Store
from bsglib.sweep import Entry, sweep
from bsglib.train import build_model, build_optimizer, dataset_on_device, steps_of, train, training

KINDS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "sam": {"momentum": 0.9, "rho": 0.05},
    "adam": {"optimizer": "adam", "base_lr": 0.01},
    "bfloat16": {"dtype": "bfloat16", "momentum": 0.9},
    "batch norm": {"network": "c1", "network_options": {"width": 0.1}, "optimizer": "adam"},
    "batches of four": {"batch_size": 4},
}


def prepared(config, many, monkeypatch):
    """Steps of a fresh network, `many` to a graph, and its weights."""
    monkeypatch.setattr("bsglib.steps.MANY", many)
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
        ways.append((torch.cat([w.detach().reshape(-1) for w in weights]), *steps.losses()))
    for other in ways[1:]:
        assert all(torch.equal(a, b) for a, b in zip(ways[0], other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_comparing_graphs_with_their_pieces_leaves_no_trace(kind, tiny, monkeypatch):
    steps, weights = prepared(tiny(**KINDS[kind]), 2, monkeypatch)
    before, random = [t.detach().clone() for t in steps.changed], torch.get_rng_state()
    made, report = graphs.captured(
        steps.pieces, steps.changed, weights, steps.found, make=lambda pieces: list(pieces)
    )
    assert all(torch.equal(a, b) for a, b in zip(before, steps.changed, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert (report["graphs"], report["graph_difference"]) == (len(made), 0)


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
            made, report = graphs.captured(
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
    together = {place: run for place, run, error in graphs.in_flight(tasks, 3) if error is None}
    for place, run in enumerate(alone):
        assert run.weights.keys() == together[place].weights.keys()
        assert all(torch.equal(run.weights[n], together[place].weights[n]) for n in run.weights)


def test_the_times_of_a_run_are_without_the_turns_of_others(tiny, monkeypatch):
    clock, original = [0.0], Steps.epoch

    def of_a_second(steps, *arguments):
        clock[0] += 1
        original(steps, *arguments)

    for name in ("perf_counter", "process_time"):
        monkeypatch.setattr(f"time.{name}", lambda: clock[0])
    monkeypatch.setattr(Steps, "epoch", of_a_second)
    task = training(tiny(epochs=3))
    with pytest.raises(StopIteration) as end:
        while True:
            next(task)
            clock[0] += 1000
    result = end.value.value.result
    assert clock[0] == 3003
    assert (result["wall_time_s"], result["processor_s"]) == (3, 3)


def test_a_run_in_flight_that_fails_does_not_take_the_others_along():
    def task(fails):
        yield
        if fails:
            raise ValueError("broken")
        return "done"

    found = {p: (r, str(e)) for p, r, e in graphs.in_flight(map(task, [0, 1, 0]), 2)}
    assert found == {0: ("done", "None"), 1: (None, "broken"), 2: ("done", "None")}


def test_after_the_deadline_what_is_in_flight_is_closed():
    closed = []

    def task():
        try:
            while True:
                yield
        finally:
            closed.append(1)

    assert list(graphs.in_flight(iter([task(), task()]), 2, until=0)) == []
    assert not closed  # they never began
    with pytest.MonkeyPatch.context() as patch:
        clock = iter(range(100))
        patch.setattr("time.monotonic", lambda: next(clock))
        assert list(graphs.in_flight(iter([task(), task()]), 2, until=5)) == []
    assert len(closed) == 2


def test_a_measure_waits_for_the_other_run_of_its_line(tiny, tmp_path, monkeypatch):
    from bsglib.measures import Measure, stored_measure

    monkeypatch.setattr("bsglib.runtime.in_flight", lambda: 4)
    small, large = tiny(epochs=4), tiny(epochs=1, batch_size=20)
    line = Measure("interpolate", 16, {"points": 4}, small)
    store = Store(tmp_path / "together")
    assert sweep([Entry(small), Entry(large, (line,))], store, workers=0) == []
    (run,) = [r for r in store.finished() if stored_measure(r, line, store)]
    assert len(stored_measure(run, line, store)["rows"]) == 8


def test_a_repeated_function_gives_what_it_gives_alone():
    x = torch.arange(3.0)
    repeated = graphs.Repeated(lambda: (x.sum(), x * 2))
    for start in range(4):
        x.copy_(torch.arange(3.0) + start)
        total, double = repeated()
        assert total == x.sum()
        assert torch.equal(double, 2 * x)
