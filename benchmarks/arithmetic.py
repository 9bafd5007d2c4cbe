"""Share of a large matrix product's rate that training reaches, on one core with one thread.

Training counts the network's own operations only: 2 per multiply-add, forward and backward,
without the gradient for the images. What it does besides (pooling, dropout, shuffling) is lost.
"""

from benchmarks import side_by_side as bench

TARGETS = {"float32": 70, "bfloat16": 55}  # per cent
CONFIG = {
    "network": "surlemont",
    "dataset": "fashion_mnist",
    "batch_size": 512,
    "optimizer": "sgd",
    "momentum": 0.9,
}


def main() -> None:
    given, rows = bench.arguments(__doc__), []
    samples, n, repeats = (1024, 512, 2) if given.quick else (8192, 2048, 7)
    for dtype, target in TARGETS.items():
        product = {"module": "ours.product", "n": n, "times": 10, "dtype": dtype}
        training = {"module": "ours.train", "train_size": samples, "dtype": dtype, **CONFIG}
        with bench.teams(training=training, product=product) as started:
            rates = bench.interleaved(started, repeats)
            flop = started["training"].about["flop_per_sample"]
        shares = [
            100 * samples_per_s * flop / limit
            for samples_per_s, limit in zip(rates["training"], rates["product"], strict=True)
        ]
        details = {"ours": bench.spread(rates["training"]), "rate": "samples/s"}
        details |= {"limit_gflop_per_s": bench.spread([r / 1e9 for r in rates["product"]])}
        details |= {"mflop_per_sample": flop / 1e6}
        what = f"surlemont, {dtype}, B = 512"
        rows.append(
            bench.row(what, "matrix product", shares, unit=" %", at_least=target, **details)
        )
    bench.write("arithmetic", rows, quick=given.quick)


if __name__ == "__main__":
    main()
