"""The numbers that Kaabachi et al. print: table I, on one Tesla T4, and their set-up."""

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
SMALL_EPOCHS, LINEAR_EPOCHS, EXAMPLES = 50, 100, 50_000
