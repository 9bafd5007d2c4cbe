"""Random flips, rotations and shifts of training images."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bsglib.runs.params import Augmentation

DEGREES = 10.0  # rotations are uniform up to this, either way
SHIFT = 0.2  # and shifts up to this part of each side: Keskar et al. 2017, appendix E
COLUMNS = 4  # random numbers of an example: of the flip, the angle, the shifts along x and y


def drawn_of(seed: int, epoch: int, examples: int) -> np.ndarray:
    """Return the random numbers of an epoch, uniform in [-1, 1), float64 [examples, COLUMNS].

    Row i belongs to example i of the training set, so that neither its batch nor the order of the
    epoch matters, and an interrupted run goes on with the same ones. All columns are drawn whatever
    they are used for: rotations are the same with and without shifts.

    Args:
        seed: of the run.
        epoch: counted from 0.
        examples: in the training set.
    """
    generator = np.random.default_rng([seed, epoch, 2])  # the order is of [seed, epoch]
    return generator.uniform(-1.0, 1.0, (examples, COLUMNS))


def augmented(x: Tensor, drawn: Tensor, kinds: Sequence[Augmentation]) -> Tensor:
    """Return images changed at random, each by its own numbers alone.

    "flip" mirrors half of the images left to right; "rotate" and "shift" are uniform up to DEGREES
    and SHIFT either way. What enters from outside has the value of the nearest pixel of the
    border, which does not depend on how inputs are scaled.

    Args:
        x: images [n, channels, height, width] of a floating dtype.
        drawn: numbers in [-1, 1), [n, COLUMNS].
        kinds: which of the changes to make.

    Returns:
        images of the same shape.
    """
    coin, turn, along_x, along_y = drawn.unbind(1)
    if "flip" in kinds:
        x = torch.where((coin < 0)[:, None, None, None], x.flip(3), x)
    if "rotate" not in kinds and "shift" not in kinds:
        return x
    angle = turn * np.deg2rad(DEGREES) * ("rotate" in kinds)
    shift = torch.stack([along_x, along_y], 1) * SHIFT * ("shift" in kinds)
    return moved(x, angle, shift)


def moved(x: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """Return images rotated about their centre and then shifted, interpolated linearly.

    Args:
        x: images [n, channels, height, width].
        angle: in radians, counter-clockwise, [n].
        shift: to the right and down, as parts of width and height, [n, 2].
    """
    height, width = x.shape[2:]
    # In pixels from the centre, element by element: a matrix product of the batch could round
    # an image by what else is in it.
    down = torch.arange(height, dtype=x.dtype, device=x.device)[:, None] - (height - 1) / 2
    right = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    right = right - (shift[:, 0] * width)[:, None, None]
    down = down - (shift[:, 1] * height)[:, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    from_x, from_y = right * cos - down * sin, right * sin + down * cos
    grid = torch.stack([from_x * (2 / width), from_y * (2 / height)], -1)
    return nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
