"""The numbers that Kaabachi et al. print: table I, on one Tesla T4, and their set-up."""

import math
from typing import NamedTuple


class Row(NamedTuple):
    """A row of table I: to the final accuracy, per epoch, and to the final accuracy again."""

    epochs: int
    seconds_per_epoch: float
    seconds: float


TABLE = {  # batch size; epochs are "about"
    4: Row(35, 79.49, 2782.15),
    8: Row(35, 46.41, 1624.35),
    16: Row(35, 27.17, 950.95),
    32: Row(35, 18.02, 630.7),
    128: Row(80, 16.96, 1356.8),
    256: Row(130, 16.23, 2109.9),
    512: Row(200, 15.88, 3176.0),
}
SMALL, LARGE = (4, 8, 16, 32), (128, 256, 512, 1024, 2048)
SEMI_LARGE = (128, 256, 512)  # "semi-large" is not defined there: those with a row in the table
LARGEST = (1024, 2048)
UNSTEADY = (512, 1024, 2048)  # where figure 7 is said to jump
BEST_ACCURACY = 82.0  # per cent, at B = 4
SMALL_EPOCHS, LINEAR_EPOCHS, WARMUP_EPOCHS, EXAMPLES = 50, 100, 70, 50_000
LARGE_EPOCHS = dict(zip(LARGE, (100, 150, 200, 300, 400), strict=True))  # rate not scaled

# Of their stored runs, by batch size: the first epoch whose training loss is not a number.
FIRST_NAN = {
    "linear rule": {512: 21, 1024: 28, 2048: 1},
    "exponential warm-up": {512: 55},
}


def quoted() -> dict[str, float]:
    """Return the numbers, and those that follow from table I, by their names in claims."""
    small, large = TABLE[32], TABLE[512]
    updates = [row.epochs * math.ceil(EXAMPLES / size) for size, row in ((512, large), (32, small))]
    return {
        "best": BEST_ACCURACY,
        "small_epochs": small.epochs,
        "levels": TABLE[128].seconds_per_epoch / large.seconds_per_epoch,
        "fastest": small.seconds / TABLE[16].seconds,
        "offset_time": large.seconds / small.seconds,
        "offset_updates": updates[0] / updates[1],
    }


def epochs(batch_size: int) -> dict[str, float]:
    """Return a batch size's epochs in table I, and relative to those of small ones, if any."""
    if batch_size not in TABLE:
        return {}
    stated = TABLE[batch_size].epochs
    return {"epochs": stated, "times_epochs": stated / TABLE[32].epochs}
