"""The numbers of Surlemont et al., and what their code and stored runs say of their training.

The runs are those of the authors' repository: every arm twice, some under several names.
"""

import math

# What section V says SAM divides the sharpness by, and how far the runs of the same configuration
# scatter about it: six at B = 32, four at B = 64.
SAM_DIVIDES = {32: 9.0, 64: 2.0}
SPREAD = {32: (2.4, 10.5), 64: (1.27, 2.0)}
SAM_TIME = 2.0  # time per epoch with SAM over that without: it "basically doubles"

EXAMPLES = 48_000  # to train with, of 60,000: the others validate
MAX_EPOCHS = 500
SIZES = (32, 64, 128, 256, 512, 1024)
_EPOCHS = {  # until they stopped, mean of two runs; optimizer, rate, SAM: at these batch sizes
    ("sgd", "scaled", False): (199.5, 169, 132, 144.5, 159.5, 131.5),
    ("sgd", "scaled", True): (309, 234, 179, 153, 138, 200),
    ("sgd", "fixed", False): (146, 234.5, 367.5, 500, 500, 500),
    ("sgd", "fixed", True): (133.5, 225.5, 385.5, 500, 500, 500),
    ("adam", "scaled", False): (58.5, 54, 36.5, 40, 36.5, 24),
    ("adam", "scaled", True): (15.5, 15.5, 15, 15.5, 20.5, 21.5),
    ("adam", "fixed", False): (69, 63, 58, 107.5, 117, 163),
    ("adam", "fixed", True): (16, 18, 24, 35.5, 51.5, 81.5),
}


def updates(optimizer: str, rate: str, sam: bool, batch_size: int) -> float:
    """Return how many updates the authors' runs made; at other batch sizes, at most."""
    epochs = dict(zip(SIZES, _EPOCHS.get((optimizer, rate, sam), ()), strict=False))
    return epochs.get(batch_size, MAX_EPOCHS) * math.ceil(EXAMPLES / batch_size)
