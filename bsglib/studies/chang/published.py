"""Numbers that Chang & Pathak print, by batch size, and what follows from them."""

import math
from typing import Any, NamedTuple

IMAGES, PATIENCE = 18_610, 100  # training images; epochs without a lower validation loss (code)
VALIDATION = {32: 0.344, 256: 0.395}  # lowest loss; figure 6 and its paragraph
SCALED_VALIDATION = {32: 0.345, 256: 0.352}  # figure 24; the conclusion says .343 at 32
SECONDS_PER_EPOCH = {32: 12.4, 256: 7.7}  # figure 7
EPOCHS = {32: 158, 256: 958}  # to the lowest validation loss; figure 7
TOTAL_SECONDS = {32: 1915, 256: "almost 4 x 1915"}  # figure 7
TOTAL_RATIO = 4  # "almost"
LOGGED_EPOCHS = {32: (155, 255)}  # of the lowest validation loss and of the end; the code's log
PARALLEL_SECONDS_PER_EPOCH = {256: 3.97}  # over four devices; figure 8
PARALLEL_TOTAL_SECONDS = {256: 3700}  # about; the same
SCALED_TOTAL_SECONDS = {32: 3156, 256: 2197}  # figure 25
EPOCH_DISTANCE = {32: (0.15, 0.4), 256: (0.02, 0.04)}  # ranges; figure 12
UPDATE_NORM = {32: 3.3e-3, 256: 1.5e-3}  # medians; figure 13
SCALED_SHARPNESS = {32: (1.14, 1.14), 64: (4, 7), 128: (4, 7), 256: (4, 7)}  # figure 26
SURFACE_POINTS = 5  # along each direction, from -1 to 1; figure 22 (code)
BEST_LR = {32: 0.01, 64: 0.08, 128: 0.08, 256: 0.08}  # figure 29


def updates(batch_size: int, *, at_fixed: bool) -> float:
    """Return how many updates a run of the paper took, patience included.

    Between the batch sizes whose epochs the paper gives they follow a power law; at other rates
    than the fixed one, all batch sizes take about as many as the smallest.
    """
    (small, few), (large, many) = EPOCHS.items()
    power = math.log(batch_size / small) / math.log(large / small) if at_fixed else 0
    return (few * (many / few) ** power + PATIENCE) * math.ceil(IMAGES / batch_size)


class Pair(NamedTuple):
    """Two numbers that the paper compares."""

    large: float  # of the largest batch, or of several devices
    small: float

    @property
    def ratio(self) -> float:
        """Return large / small as the tables show it."""
        return round(self.large / self.small, 2)

    @property
    def gap(self) -> float:
        """Return large - small."""
        return self.large - self.small


def compared() -> dict[str, Any]:
    """Return the numbers that are compared: by name a pair, or a table by batch size."""
    tables = {
        "validation": VALIDATION,
        "scaled": SCALED_VALIDATION,
        "seconds": SECONDS_PER_EPOCH,
        "epochs": EPOCHS,
        "norm": UPDATE_NORM,
        "scaled_total": SCALED_TOTAL_SECONDS,
        "per_epoch": {b: math.sqrt(a * z) for b, (a, z) in EPOCH_DISTANCE.items()},
        "scaled_sharpness": {b: math.sqrt(a * z) for b, (a, z) in SCALED_SHARPNESS.items()},
        "best_lr": BEST_LR,
    }
    pairs = {name: Pair(table[256], table[32]) for name, table in tables.items()}
    four = PARALLEL_SECONDS_PER_EPOCH[256], PARALLEL_TOTAL_SECONDS[256]
    ranges = {"distance": EPOCH_DISTANCE, "sharpness": SCALED_SHARPNESS}
    spreads = {  # of the ratio, from the ends of the ranges
        f"{name}_spread": (table[256][0] / table[32][1], table[256][1] / table[32][0])
        for name, table in ranges.items()
    }
    return pairs | {
        "four": Pair(four[0], SECONDS_PER_EPOCH[256]),
        "four_total": Pair(four[1], TOTAL_SECONDS[32]),
        "lowered": Pair(SCALED_VALIDATION[256], VALIDATION[256]),
        "left": Pair(pairs["scaled"].gap, pairs["validation"].gap),
        "total": TOTAL_RATIO,
        **ranges,
        **spreads,
    }
