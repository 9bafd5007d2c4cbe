"""Training throughput of a sweep, all workers together, against the idiomatic loop and Keras fit.

Ours is one run per core, one thread each, all at once; a peer trains one run on all cores, as it
does by default. Same network, optimizer, batch size, images and precision.
"""

import itertools

from benchmarks import side_by_side as bench
from bsglib import runtime

SGD = ("sgd", {"momentum": 0.9})
CASES = [  # network, data set, optimizer, images per repeat, batch sizes
    ("surlemont", "fashion_mnist", SGD, 8192, (32, 128, 512, 1024)),
    ("kaabachi", "cifar10", ("sgd", {}), 512, (4, 32, 128, 512)),
    ("f1", "mnist", ("adam", {}), 16384, (256, 2048)),
]


def least(network: str, dtype: str, batch_size: int) -> tuple[float, float]:
    """Return the targets: ratio to the loop, ratio to Keras; 1 is to be ahead."""
    if network == "surlemont" and dtype == "float32":
        return 3, 1
    if network == "surlemont" and batch_size >= 512:
        return 5, 1.8
    return (2.5, 1) if (network, dtype) == ("kaabachi", "bfloat16") else (1, 1)


def sides(network, data, optimizer, batch_size, dtype, files) -> dict[str, dict]:
    name, settings = optimizer
    theirs = {"network": network, "batch_size": batch_size, "dtype": dtype, "lr": 0.001, **files}
    capital = {"sgd": "SGD", "adam": "Adam"}[name]  # in both peers
    keras = theirs | {"optimizer": capital, "settings": settings}
    loop = keras | {"settings": {"lr": 0.001, **settings}}
    ours = {"network": network, "dataset": data, "train_size": files["samples"]}
    ours |= {"optimizer": name, "batch_size": batch_size, "dtype": dtype, **settings}
    return {
        "ours": {"module": "ours.train", "size": runtime.cores(), **ours},
        "the loop": {"module": "peers.torch_loop", **loop},
        "Keras fit": {"module": "peers.keras_fit", **keras},
    }


def compare(network, data, optimizer, batch_size, dtype, files, repeats) -> tuple[list, dict]:
    with bench.teams(**sides(network, data, optimizer, batch_size, dtype, files)) as started:
        rates = bench.interleaved(started, repeats)
        keras = started["Keras fit"].about
    what, ours = f"{network}, {dtype}, B = {batch_size}", rates.pop("ours")
    rows = []
    for (peer, theirs), target in zip(
        rates.items(), least(network, dtype, batch_size), strict=True
    ):
        details = {"ours": bench.spread(ours), "theirs": bench.spread(theirs), "rate": "samples/s"}
        rows.append(bench.row(what, peer, bench.ratios(ours, theirs), at_least=target, **details))
    return rows, {"keras": keras["version"], "tensorflow": keras["tensorflow"]}


def main() -> None:
    given, rows = bench.arguments(__doc__), []
    for network, data, optimizer, samples, sizes in CASES:
        if given.quick:
            samples, sizes = 512, sizes[:1]
        with bench.images(data, samples) as files:
            for dtype, size in itertools.product(("float32", "bfloat16"), sizes):
                repeats = 2 if given.quick else 4
                found, versions = compare(network, data, optimizer, size, dtype, files, repeats)
                rows += found
    bench.write("throughput", rows, quick=given.quick, **versions)


if __name__ == "__main__":
    main()
