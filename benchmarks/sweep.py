"""A sweep of equal runs over one worker per core against one worker, Dask's start included.

The limit is what the machine itself gives: the same training, and a large matrix product, in a
process per core against one process, all warmed up.
"""

import tempfile
import time

from benchmarks import side_by_side as bench
from bsglib import runtime
from bsglib.runs.params import RunConfig
from bsglib.runs.store import Store
from bsglib.runs.sweep import Entry, sweep

TRAINING = {  # of the laptop profile's size
    "dataset": "fashion_mnist",
    "train_size": 10_240,
    "network": "surlemont",
    "network_options": {"width": 0.25},
    "momentum": 0.9,
    "batch_size": 128,
}


def entries(runs: int, epochs: int) -> list[Entry]:
    """Return equal runs that differ in their seed."""
    config = RunConfig(base_lr=0.001, epochs=epochs, evaluate="log", **TRAINING)
    return [Entry(config.model_copy(update={"seed": seed})) for seed in range(runs)]


def seconds(runs: list[Entry], workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        sweep(runs, Store(folder), workers=workers)
        return time.perf_counter() - start


def limits(cores: int, *, n: int, repeats: int) -> list[dict]:
    """Return what a process per core gives over one process."""
    kinds = {
        "training alone": {"module": "ours.train", **TRAINING},
        "matrix product": {"module": "ours.product", "n": n, "times": 20, "dtype": "float32"},
    }
    rows = []
    for what, options in kinds.items():
        sides = {"every": options | {"size": cores}, "one": options | {"size": 1}}
        with bench.teams(**sides) as started:
            rates = bench.interleaved(started, repeats)
        gain = bench.ratios(rates["every"], rates["one"])
        rows.append(bench.row(f"{what}, {cores} processes", "1 process", gain))
    return rows


def main() -> None:
    given, cores = bench.arguments(__doc__), runtime.cores()
    runs, repeats = (entries(2, 1), 1) if given.quick else (entries(8 * cores, 6), 3)
    one, every = [], []
    for repeat in range(repeats):
        sides = [(one, 1), (every, cores)]
        for times, workers in sides[:: (-1) ** repeat]:
            times.append(seconds(runs, workers))
    details = {"seconds": bench.spread(every), "one_worker_seconds": bench.spread(one)}
    least = 1.85 / 2 * cores  # the target is given for two
    speedup = bench.ratios(one, every)
    row = bench.row(
        f"sweep of {len(runs)} runs, {cores} workers",
        "1 worker",
        speedup,
        at_least=least,
        **details,
    )
    rows = limits(cores, n=512 if given.quick else 2048, repeats=2 if given.quick else 9)
    bench.write("sweep", [row, *rows], quick=given.quick)


if __name__ == "__main__":
    main()
