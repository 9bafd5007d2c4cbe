"""Points per second of a filter-normalized loss surface, against the package loss-landscapes.

Smaller grids stand for the 25 x 25 of a figure, since every point costs the same. The limit is
the forward pass at the rate of a large matrix product on every core at once.
"""

from benchmarks import side_by_side as bench
from bsglib import runtime

FORWARD_FLOP = 2 * (28 * 28 * 32 * 9 + 14 * 14 * 64 * 9 * 32 + 7 * 7 * 64 * 10)  # an image


def main() -> None:
    given = bench.arguments(__doc__)
    samples, points, n, repeats = (500, 3, 512, 2) if given.quick else (5000, 9, 2048, 5)
    with bench.images("fashion_mnist", samples) as files:
        options = {"network": "surlemont", **files}
        product = {"module": "ours.product", "size": runtime.cores(), "dtype": "float32"}
        with bench.teams(
            ours={"module": "ours.surface", "points": points, **options},
            theirs={"module": "peers.surface", "points": 5, **options},
            limit=product | {"n": n, "times": 10},
        ) as started:
            rates = bench.interleaved(started, repeats)
            version = started["theirs"].about["version"]
    what, details = f"surlemont, float32, {samples:,} images", {"rate": "points/s"}
    limit = [rate / (FORWARD_FLOP * samples) for rate in rates["limit"]]
    details |= {name: bench.spread(rates[name]) for name in ("ours", "theirs")}
    details |= {"limit": bench.spread(limit)}
    peer = bench.ratios(rates["ours"], rates["theirs"])
    share = [100 * ratio for ratio in bench.ratios(rates["ours"], limit)]
    rows = [
        bench.row(f"surface, {what}", "loss-landscapes", peer, at_least=5, **details),
        bench.row(f"surface, {what}", "matrix product", share, unit=" %"),
    ]
    bench.write("surface", rows, quick=given.quick, **{"loss-landscapes": version})


if __name__ == "__main__":
    main()
