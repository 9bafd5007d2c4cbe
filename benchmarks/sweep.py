"""A sweep of equal runs over one worker per core against one worker, Dask's start included."""

import tempfile
import time

from benchmarks import side_by_side as bench
from bsglib import runtime
from bsglib.params import RunConfig
from bsglib.store import Store
from bsglib.sweep import Entry, sweep


def entries(runs: int, epochs: int) -> list[Entry]:
    """Return equal runs that differ in their seed, of the laptop profile's size."""
    config = RunConfig(
        dataset="fashion_mnist",
        train_size=10_240,
        network="surlemont",
        network_options={"width": 0.25},
        momentum=0.9,
        base_lr=0.001,
        batch_size=128,
        epochs=epochs,
        evaluate="log",
    )
    return [Entry(config.model_copy(update={"seed": seed})) for seed in range(runs)]


def seconds(runs: list[Entry], workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        sweep(runs, Store(folder), workers=workers)
        return time.perf_counter() - start


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
    bench.write("sweep", [row], quick=given.quick)


if __name__ == "__main__":
    main()
