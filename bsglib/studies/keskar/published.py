"""The numbers that Keskar et al. print: tables 2 to 4 of the paper, as mean and deviation."""

import math
from typing import NamedTuple


class Stated(NamedTuple):
    """A mean over five starts and its standard deviation; per cent in all tables."""

    mean: float
    deviation: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.deviation:.2f}"


class Effect(NamedTuple):
    """A difference or a ratio of two means, and the range of one deviation around it."""

    mean: float
    low: float
    high: float


def difference(a: Stated, b: Stated) -> Effect:
    """Return a - b."""
    mean, deviation = a.mean - b.mean, math.hypot(a.deviation, b.deviation)
    return Effect(mean, mean - deviation, mean + deviation)


def quotient(a: Stated, b: Stated) -> Effect:
    """Return a / b, with the deviation of its logarithm."""
    mean = a.mean / b.mean
    factor = math.exp(math.hypot(a.deviation / a.mean, b.deviation / b.mean))
    return Effect(mean, mean / factor, mean * factor)


def _table(rows: dict[str, tuple[float, ...]]) -> dict[str, tuple[Stated, ...]]:
    return {
        name: tuple(Stated(*pair) for pair in zip(row[::2], row[1::2], strict=True))
        for name, row in rows.items()
    }


ACCURACY = _table(  # table 2: training SB and LB, test SB and LB
    {
        "F1": (99.66, 0.05, 99.92, 0.01, 98.03, 0.07, 97.81, 0.07),
        "F2": (99.99, 0.03, 98.35, 2.08, 64.02, 0.2, 59.45, 1.05),
        "C1": (99.89, 0.02, 99.66, 0.2, 80.04, 0.12, 77.26, 0.42),
        "C2": (99.99, 0.04, 99.99, 0.01, 89.24, 0.12, 87.26, 0.07),
        "C3": (99.56, 0.44, 99.88, 0.30, 49.58, 0.39, 46.45, 0.43),
        "C4": (99.10, 1.23, 99.57, 1.84, 63.08, 0.5, 57.81, 0.17),
    }
)
FULL_SPACE = _table(  # table 3: epsilon 1e-3 SB and LB, 5e-4 SB and LB
    {
        "F1": (1.23, 0.83, 205.14, 69.52, 0.61, 0.27, 42.90, 17.14),
        "F2": (1.39, 0.02, 310.64, 38.46, 0.90, 0.05, 93.15, 6.81),
        "C1": (28.58, 3.13, 707.23, 43.04, 7.08, 0.88, 227.31, 23.23),
        "C2": (8.68, 1.32, 925.32, 38.29, 2.07, 0.86, 175.31, 18.28),
        "C3": (29.85, 5.98, 258.75, 8.96, 8.56, 0.99, 105.11, 13.22),
        "C4": (12.83, 3.84, 421.84, 36.97, 4.07, 0.87, 109.35, 16.57),
    }
)
SUBSPACE = _table(  # table 4, a random subspace of 100 dimensions: columns as in table 3
    {
        "F1": (0.11, 0.00, 9.22, 0.56, 0.05, 0.00, 9.17, 0.14),
        "F2": (0.29, 0.02, 23.63, 0.54, 0.05, 0.00, 6.28, 0.19),
        "C1": (2.18, 0.23, 137.25, 21.60, 0.71, 0.15, 29.50, 7.48),
        "C2": (0.95, 0.34, 25.09, 2.61, 0.31, 0.08, 5.82, 0.52),
        "C3": (17.02, 2.20, 236.03, 31.26, 4.03, 1.45, 86.96, 27.39),
        "C4": (6.05, 1.13, 72.99, 10.96, 1.89, 0.33, 19.85, 4.12),
    }
)
PLOTTED = {  # figure 3, the ends of its lines, one run: training SB and LB, test SB and LB
    "C1": (99.974, 99.996, 80.52, 77.26),
    "C2": (99.986, 99.992, 89.80, 89.17),
    "C3": (99.750, 99.888, 48.26, 44.25),
    "C4": (99.100, 99.576, 63.73, 64.31),
}
SCRIPT_EPOCHS, SCRIPT_BATCH = 20, 5_000  # of the script for figure 3: of SB and LB; LB, evaluation
NETWORKS = tuple(ACCURACY)
THRESHOLDS = {"F2": 15_000, "C1": 500}  # figure 4: batch sizes from which accuracy falls
TIMIT = "timit"
DATA = {"F1": "mnist", "F2": TIMIT, "C1": "cifar10", "C2": "cifar10"}
DATA |= {"C3": "cifar100", "C4": "cifar100"}
SIZES = {
    "mnist": 60_000,
    TIMIT: 721_329,
    "cifar10": 50_000,
    "cifar100": 50_000,
}  # TIMIT: table 5, not checked
SMALL_BATCH, LARGE_SHARE = 256, 0.1  # the large batch is a share of the training examples
EPOCHS = 100  # of figures 4 and 5; the tables' runs end where the loss no longer falls
