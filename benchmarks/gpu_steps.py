"""Steps on a GPU: as graphs, one by one, and in the idiomatic loop; solvers of a measure; surfaces.

    python -m benchmarks.gpu_steps --out FOLDER

Random images of the data sets' sizes; same network, optimizer, batch size and precision. The
idiomatic loop is that of a tutorial with its data on the device: index, forward, backward, step.
"""

import argparse
import contextlib
import itertools
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.gpu import ceilings, seconds
from bsglib import device_graphs, runtime
from bsglib.landscape import filter_normalized_direction, loss_surface
from bsglib.runs.build import DTYPES, build_model, build_optimizer, dataset_on_device, steps_of
from bsglib.runs.finished import environment
from bsglib.runs.params import RunConfig
from bsglib.sharpness import hessian_trace, keskar_sharpness, lambda_max

SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
ADAM, MOMENTUM = {"optimizer": "adam"}, {"momentum": 0.9, "base_lr": 0.01}
CASES = [  # network, data, optimizer, precision, batch sizes
    ("f1", "mnist", ADAM, "float32", (256, 4, 32, 5700)),
    ("surlemont", "mnist", {"rho": 0.05} | MOMENTUM, "bfloat16", (32, 256, 1024)),
    ("kaabachi", "cifar10", MOMENTUM, "bfloat16", (4, 32, 256)),
    ("c1", "cifar10", ADAM, "float32", (256, 4900)),
]


def arrays(folder: Path, examples: int) -> dict[str, str]:
    """Write random images of the data sets' shapes, and return their files."""
    files, generator = {}, np.random.default_rng(0)
    for name, shape in SHAPES.items():
        x = generator.integers(0, 256, (examples, *shape), dtype=np.uint8)
        y = np.arange(examples) % 10
        files[name] = str(folder / f"{name}.npz")
        np.savez(files[name], x=x, y=y, x_test=x[:100], y_test=y[:100])
    return files


def prepared(config: RunConfig):
    """Return the steps of a fresh network, and it."""
    dataset = dataset_on_device(config)
    torch.manual_seed(config.seed)
    model = build_model(config, dataset).train()
    optimizer = build_optimizer(config, model)
    steps = steps_of(config, dataset, model, optimizer, config.batch_size)
    return steps, model


def epochs(steps, count: int = 1) -> None:
    order = np.arange(len(steps.order))
    lrs = [1e-4] * len(steps.lrs)
    for _ in range(count):
        steps.epoch(order, lrs)


def per_step(steps, pieces, budget_s: float) -> float:
    """Return seconds per step of the first piece, repeated for about the time given."""

    def several() -> None:
        steps.step.zero_()
        pieces[0]()

    once = seconds(several, 1)
    return seconds(several, max(1, min(50, int(budget_s / once)))) / steps.many


def idiomatic(config: RunConfig, budget_s: float, *, compiled: bool = False) -> float:
    """Return seconds per step of a plain loop, of a network as it is or through torch.compile."""
    dataset = dataset_on_device(config)
    model = build_model(config, dataset).train()
    network = torch.compile(model) if compiled else model
    made = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[config.optimizer]
    momentum = {"momentum": config.momentum} if config.optimizer == "sgd" else {}
    optimizer = made(model.parameters(), lr=1e-4, **momentum)
    x, y, dtype = dataset.train.x, dataset.train.y, DTYPES[config.dtype]
    order = torch.randperm(len(y), device=x.device)[: config.batch_size]

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            loss = nn.functional.cross_entropy(network(x[order].to(dtype) / 255), y[order])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def several() -> None:
        for _ in range(8):
            step()

    once = seconds(several, 1)
    return seconds(several, max(1, min(30, int(budget_s / once)))) / 8


def together(config: RunConfig, rounds: int) -> float:
    """Return seconds per step of several runs, each on a stream, all their steps counted."""
    turns = [device_graphs.Turn() for _ in range(runtime.in_flight())]
    runs = []
    for seed, turn in enumerate(turns):
        with turn:
            steps, _ = prepared(config.model_copy(update={"seed": seed}))
            epochs(steps)
            runs.append(steps)
    whole = -(-rounds // (len(runs[0].lrs) or 1))
    runtime.wait()
    start = time.perf_counter()
    for _ in range(whole):
        for turn, steps in zip(turns, runs, strict=True):
            with turn:
                epochs(steps)
    runtime.wait()
    return (time.perf_counter() - start) / (whole * len(runs[0].lrs) * len(runs))


def compared(config: RunConfig, budget_s: float, *, compiled: bool = False) -> list[dict]:
    """Return how graphs differ from steps one by one, and what each costs."""
    row = {"network": config.network, "batch_size": config.batch_size, "dtype": config.dtype}
    row |= {"sam": config.rho is not None}
    with device_graphs.Turn():
        steps, _ = prepared(config)
        eager = list(steps.pieces)
        start = time.perf_counter()
        epochs(steps)
        runtime.wait()
        row |= {"capture_s": time.perf_counter() - start} | steps.report
        row["graph_ms"] = 1e3 * per_step(steps, steps.pieces, budget_s)
        row["eager_ms"] = 1e3 * per_step(steps, eager, budget_s)
        if config.rho is None:
            row["idiomatic_ms"] = 1e3 * idiomatic(config, budget_s)
            if compiled:
                row["compiled_ms"] = 1e3 * idiomatic(config, budget_s, compiled=True)
    if config.batch_size <= 1024:
        rounds = int(1e3 * budget_s / row["graph_ms"])
        row["in_flight_ms"] = 1e3 * together(config, max(1, min(2000, rounds)))
        row["samples_per_s"] = 1e3 * config.batch_size / row["in_flight_ms"]
    return [row]


def solvers(config: RunConfig, epochs_of_training: int, examples: int) -> list[dict]:
    """Return the metric, lambda_max and trace of a network after some epochs, by both solvers."""
    dataset, rows = dataset_on_device(config), []
    steps, model = prepared(config)
    epochs(steps, epochs_of_training)
    x = dataset.as_input(dataset.train.x[:examples], DTYPES[config.dtype])
    y = dataset.train.y[:examples]
    cases = itertools.product(({}, {"subspace": 100}, {"epsilon": 5e-4}), ("torch", "scipy"))
    for options, solver in cases:
        start = time.perf_counter()
        found = keskar_sharpness(model, x, y, solver=solver, **options)
        rows.append({"measure": "keskar_sharpness", "solver": solver, **options})
        rows[-1] |= {"value": found.value, "evaluations": found.evaluations}
        rows[-1]["seconds"] = time.perf_counter() - start
    for solver in ("torch", "scipy"):
        start = time.perf_counter()
        found = lambda_max(model, x[:8192], y[:8192], solver=solver)
        rows.append({"measure": "lambda_max", "solver": solver, "value": found.value})
        rows[-1] |= {"evaluations": found.products, "seconds": time.perf_counter() - start}
    start = time.perf_counter()
    trace = hessian_trace(model, x[:8192], y[:8192])
    rows.append({"measure": "hessian_trace", "value": trace.value})
    rows[-1]["seconds"] = time.perf_counter() - start
    return [{"network": config.network, "examples": len(y)} | row for row in rows]


def surfaces(config: RunConfig, points: int, examples: int) -> list[dict]:
    """Return the points per second of a loss surface around fresh weights, on a small grid."""
    dataset, (_, model) = dataset_on_device(config), prepared(config)
    x = dataset.as_input(dataset.train.x[:examples], DTYPES[config.dtype])
    y = dataset.train.y[:examples]
    directions = [filter_normalized_direction(model, seed=seed) for seed in (0, 1)]

    def grid() -> None:
        loss_surface(model, x, y, directions=directions, points=points)

    rate = points**2 / seconds(grid, 1)
    row = {"network": config.network, "examples": len(y), "points": points}
    return [row | {"points_per_s": rate}]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="little data, two sizes: a smoke run")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds per measured value")
    parser.add_argument("--compile", action="store_true", help="also the loop by torch.compile")
    parser.add_argument("--batch-size", type=int, help="one of the batch sizes")
    parser.add_argument("--only", help="one of the networks")
    parser.add_argument("--limit", type=float, default=600, help="seconds, then no other case")
    given = parser.parse_args(arguments)
    runtime.single_thread()
    given.out.mkdir(parents=True, exist_ok=True)
    files = arrays(given.out, 64 if given.quick else 16384)
    small = {"size": 256, "gigabytes": 0.01} if runtime.device().type == "cpu" else {}
    log = {"machine": environment(), "ceilings": ceilings(**small), "steps": []}
    log |= {"solvers": [], "surfaces": []}
    print(json.dumps(log), flush=True)

    def configured(network, data, optimizer, dtype, size) -> RunConfig:
        options = {"width": 0.1} if given.quick else {}
        values = {"network": network, "dataset": files[data], "network_options": options}
        values |= {"batch_size": size, "dtype": dtype, "validation_fraction": 0.0, "epochs": 1}
        return RunConfig(**{"base_lr": 0.001} | values | optimizer)

    def keep(kind: str, about: dict, work: Callable[[], list[dict]]) -> None:
        try:
            rows = work()
        except Exception as error:
            rows = [about | {"failed": repr(error)}]
        log[kind] += rows
        print("\n".join(map(json.dumps, rows)), flush=True)
        (given.out / "steps.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")

    def on_stream(work: Callable[..., list[dict]], *arguments) -> list[dict]:
        with device_graphs.Turn():
            return work(*arguments)

    begun = time.monotonic()
    for network, data, optimizer, dtype, sizes in CASES:
        about = {"network": network}
        if given.only not in (None, network):
            continue
        for size in (30,) if given.quick else sizes:
            if given.batch_size not in (None, size):
                continue
            if time.monotonic() - begun > given.limit:
                break
            config = configured(network, data, optimizer, dtype, size)
            work = partial(compared, config, given.budget, compiled=given.compile)
            keep("steps", about | {"batch_size": size}, work)
        if given.batch_size is not None or time.monotonic() - begun > given.limit:
            continue
        config = configured(network, data, optimizer, "float32", 64)
        grid = (3, 64) if given.quick else (9, 5000)
        keep("surfaces", about, partial(on_stream, surfaces, config, *grid))
        if (optimizer, dtype) == (ADAM, "float32"):
            examples = 64 if given.quick else 16384
            keep("solvers", about, partial(on_stream, solvers, config, 1, examples))
    with contextlib.suppress(OSError):
        for file in files.values():
            Path(file).unlink()


if __name__ == "__main__":
    main()
