"""One SAM step over one SGD step, ours and pytorch-optimizer's, beside the two gradients it needs.

Each package against its own SGD step: what SAM adds to two gradients. The last row of a batch size
compares the SAM steps themselves, all workers together against the peer on all cores. Batches are
ready-made on both sides.
"""

from benchmarks import side_by_side as bench
from bsglib import runtime

BATCH_SIZES = (32, 128, 512)


def compare(batch_size: int, files: dict, repeats: int) -> tuple[list, str]:
    ours = {"module": "ours.step", "size": runtime.cores(), "network": "surlemont"}
    ours |= {"dataset": "fashion_mnist", "train_size": files["samples"], "optimizer": "sgd"}
    ours |= {"momentum": 0.9, "batch_size": batch_size}
    peer = {"module": "peers.sam", "network": "surlemont", "batch_size": batch_size, **files}
    with bench.teams(
        sgd=ours | {"rho": None},
        sam=ours | {"rho": 0.05},
        peer_sgd=peer | {"rho": None},
        peer_sam=peer | {"rho": 0.05},
    ) as started:
        rates = bench.interleaved(started, repeats)
        version = started["peer_sam"].about["version"]
    what, details = f"surlemont, float32, B = {batch_size}", {"limit": 2.0}
    own = bench.ratios(rates["sgd"], rates["sam"])  # of rates: seconds a step the other way round
    theirs = bench.ratios(rates["peer_sgd"], rates["peer_sam"])
    both = {
        "ours": bench.spread(rates["sam"]),
        "theirs": bench.spread(rates["peer_sam"]),
        "rate": "samples/s",
    }
    rows = [
        bench.row(f"SAM step, {what}", "SGD step", own, at_most=2.05, **details),
        bench.row(f"pytorch-optimizer's SAM step, {what}", "its SGD step", theirs, **details),
        bench.row(
            f"SAM, {what}",
            "pytorch-optimizer",
            bench.ratios(rates["sam"], rates["peer_sam"]),
            **both,
        ),
    ]
    return rows, version


def main() -> None:
    given, rows = bench.arguments(__doc__), []
    sizes = BATCH_SIZES[-1:] if given.quick else BATCH_SIZES
    with bench.images("fashion_mnist", 1024 if given.quick else 4096) as files:
        for batch_size in sizes:
            found, version = compare(batch_size, files, 2 if given.quick else 5)
            rows += found
    bench.write("sam_step", rows, quick=given.quick, **{"pytorch-optimizer": version})


if __name__ == "__main__":
    main()
