"""Growth of time and memory with the number of runs, weights and samples.

The exponent is the slope of log seconds over log size between the two largest sizes, where fixed
costs weigh least; 1 is linear, and the target allows for noise. Memory is what the process holds at
its peak, its libraries included.
"""

import math
import tempfile
from pathlib import Path

import numpy as np
import yaml

from benchmarks import side_by_side as bench
from benchmarks.report import copied, rebuild
from bsglib.runs.params import parse
from bsglib.runs.store import Store
from bsglib.runs.sweep import sweep
from bsglib.studies.surlemont import study

LINEAR = 1.1
TRAINING = {"dataset": "fashion_mnist", "network": "surlemont", "batch_size": 128}
METRIC = {"module": "ours.keskar", "network": "f1", "max_iter": 3}


def slope(sizes: list[float], values: list[float]) -> float:
    """Return the exponent of the power law through the two largest sizes."""
    return float(np.polyfit(np.log(sizes[-2:]), np.log(values[-2:]), 1)[0])


def growth(what: str, against: str, sizes: list[int], seconds: list[list], peak_mb: list) -> dict:
    """Return a row: the exponent of each repeat, and what it was taken from.

    `seconds` holds a list per repeat, each a value per size.
    """
    middle = [float(np.median(column)) for column in zip(*seconds, strict=True)]
    details = {"sizes": sizes, "seconds": middle, "peak_mb": peak_mb}
    details["memory_exponent"] = slope(sizes, peak_mb)
    exponents = [slope(sizes, values) for values in seconds]
    made = bench.row(what, against, exponents, at_most=LINEAR, **details)
    for size, s, mb in zip(sizes, middle, peak_mb, strict=True):
        print(f"    {size:>12,}  {s:9.3f} s  {mb:7.0f} MB")
    return made


def measured(what: str, against: str, options: dict[int, dict], repeats: int) -> dict:
    """Let the sizes take turns, a process each."""
    sides = {str(size): each for size, each in options.items()}
    with bench.teams(same_network=False, **sides) as started:
        rates = bench.interleaved(started, repeats)
        units = [team.answers[0]["units"] for team in started.values()]
        peaks = [team.answers[-1]["peak_mb"] for team in started.values()]
    seconds = np.array(units) / np.array(list(rates.values())).T  # [repeats, sizes]
    return growth(what, against, list(options), seconds.tolist(), peaks)


def with_runs(seeds: tuple[int, ...], repeats: int) -> list[dict]:
    """Store many tiny runs, then load them and rebuild the report."""
    with tempfile.TemporaryDirectory() as folder:
        project, store, files = copied(folder), Path(folder) / "runs", {}
        quick = yaml.safe_load((project / "params" / study.name / "quick.yaml").read_text())
        for count in seeds:
            values = quick | {"profile": f"grown{count}", "seeds": list(range(count)), **TINY}
            designed = study.design(parse(values, study.parameters))
            files[len(designed)] = Path(folder) / f"grown{count}.yaml"
            files[len(designed)].write_text(yaml.safe_dump(values))
        sweep(designed, Store(store))  # the largest holds the others
        loading = {
            size: {"module": "ours.load_runs", "parameters": str(file), "store": str(store)}
            for size, file in files.items()
        }
        rows = [measured("load stored runs", "runs", loading, repeats)]
        rebuilt = [
            [rebuild(project, study.name, str(file), store) for file in files.values()]
            for _ in range(repeats)
        ]
        seconds = [[found["seconds"] for found in each] for each in rebuilt]
        peaks = [found["peak_mb"] for found in rebuilt[-1]]
        return [*rows, growth("rebuild the report", "runs", list(files), seconds, peaks)]


TINY = {
    "train_size": 64,
    "batch_sizes": [4, 8, 16, 32, 64],
    "network_options": {"width": 0.0625},
    "epochs": 2,
    "max_iter": 1,
    "sharpness_examples": 16,
    "lambda_max_examples": 16,
    "timing_repeats": 0,
}


def with_weights(sizes: tuple[int, ...], repeats: int) -> dict:
    with bench.images("mnist", 512) as files:
        options = {}
        for weights in sizes:  # 784 h + 4 h^2 of them, h = 512 width
            width = (math.sqrt(784**2 + 16 * weights) - 784) / 8 / 512
            options[weights] = METRIC | {"network_options": {"width": width}, **files}
        return measured("Keskar's metric, 512 images", "weights", options, repeats)


def with_samples(sizes: tuple[int, ...], repeats: int) -> list[dict]:
    epochs = {n: {"module": "ours.train", "train_size": n, **TRAINING} for n in sizes}
    rows = [measured("training epoch, surlemont, B = 128", "samples", epochs, repeats)]
    with bench.images("mnist", sizes[-1]) as files:
        options = {n: METRIC | {"first": n, **files} for n in sizes}
        return [*rows, measured("Keskar's metric, f1", "samples", options, repeats)]


def main() -> None:
    given = bench.arguments(__doc__)
    repeats = 1 if given.quick else 2
    rows = with_runs((1, 2) if given.quick else (1, 2, 4, 8), repeats)
    thousands = (10_000, 100_000) if given.quick else (10_000, 100_000, 1_000_000, 10_000_000)
    rows += [with_weights(thousands, repeats)]
    samples = (1000, 2000) if given.quick else (1000, 4000, 16_000, 60_000)
    rows += with_samples(samples, repeats)
    bench.write("growth", rows, quick=given.quick)


if __name__ == "__main__":
    main()
