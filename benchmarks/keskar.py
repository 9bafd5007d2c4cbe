"""Keskar's metric, whole and by part, against the naive one: DataLoader and scipy on a list.

Same weights, images, objective and number of iterations; both have to find the same value.
"""

import tempfile

import numpy as np
import torch

from benchmarks import side_by_side as bench
from bsglib import models, runtime

CASES = [  # network, data set, images
    ("surlemont", "fashion_mnist", 2048),
    ("f1", "mnist", 12_000),  # a million weights
]


def initial_weights(network: str, path: str) -> None:
    torch.manual_seed(0)
    model = models.build(network, (1, 28, 28), 10).float()
    np.savez(path, *[w.detach().numpy() for w in model.parameters()])


def compare(network: str, options: dict, repeats: int) -> list[dict]:
    ours, naive = {"module": "ours.keskar"}, {"module": "peers.naive_keskar"}
    sides = {"one": ours, "all": ours | {"size": runtime.cores()}, "naive": naive}
    with bench.teams(**{name: side | options for name, side in sides.items()}) as started:
        rates = bench.interleaved(started, repeats)
        one, theirs = started["one"].answers, started["naive"].answers
    if not np.isclose(one[0]["value"], theirs[0]["value"], rtol=0.01):
        raise SystemExit(f"not the same metric: {one[0]} {theirs[0]}")
    shares = [100 * a["solver_s"] / (a["solver_s"] + a["gradient_s"]) for a in one]
    what = f"{network}, {options['samples']:,} images"
    details = {"theirs": bench.spread(rates["naive"]), "rate": "metrics/s"}
    details |= {"evaluations": [one[0]["evaluations"], theirs[0]["evaluations"]]}
    every = details | {"ours": bench.spread(rates["all"]), "at_least": 3}
    single = details | {"ours": bench.spread(rates["one"])}
    own = {"unit": " %", "at_most": 15 if network == "f1" else None}
    return [
        bench.row(
            f"Keskar's metric, {what}", "naive", bench.ratios(rates["all"], rates["naive"]), **every
        ),
        bench.row(
            f"one core, {what}", "naive", bench.ratios(rates["one"], rates["naive"]), **single
        ),
        bench.row(f"solver, {what}", "whole metric", shares, **own),
    ]


def main() -> None:
    given, rows = bench.arguments(__doc__), []
    for network, data, samples in CASES:
        samples, repeats = (256, 1) if given.quick else (samples, 3)
        with bench.images(data, samples) as files, tempfile.TemporaryDirectory() as folder:
            weights = f"{folder}/weights.npz"
            initial_weights(network, weights)
            options = {"network": network, "weights": weights, **files}
            options |= {"batch_size": 512, "max_iter": 10}
            rows += compare(network, options, repeats)
    bench.write("keskar", rows, quick=given.quick)


if __name__ == "__main__":
    main()
