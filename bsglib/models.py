"""The papers' networks, by name; a user's by "package.module:function"."""

import importlib
import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bsglib.params import nearest


class ModelError(ValueError):
    """A network is unknown, or does not take the options or inputs given."""


def build(name: str, input_shape: tuple[int, ...], classes: int, **options) -> nn.Module:
    """Return a network with fresh weights, drawn in float64 from torch's generator.

    Drawn in float64 because float32 random kernels differ between CPUs; cast it afterwards.

    Args:
        name: one of `NETWORKS`, or "package.module:function" of a function that takes
            (input_shape, classes, **options) and returns a module.
        input_shape: shape of one example, for images (channels, height, width).
        classes: number of classes, the size of the output.
        **options: what the network offers, for instance width and dropout.

    Raises:
        ModelError: if the name or an option is unknown or the input shape does not fit.
    """
    make = _find(name)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = make(input_shape, classes, **options)
        with torch.no_grad():
            outputs = model.eval()(torch.zeros(1, *input_shape)).shape
    except (TypeError, ValueError, RuntimeError) as error:
        known = [
            p for p in inspect.signature(make).parameters if p not in ("input_shape", "classes")
        ]
        raise ModelError(
            f"network {name!r} with options {options} does not take inputs of shape "
            f"{tuple(input_shape)}: {error}. Its options: {', '.join(known) or 'none'}"
        ) from error
    finally:
        torch.set_default_dtype(default)
    if outputs != (1, classes):
        raise ModelError(
            f"network {name!r} gives outputs {tuple(outputs)}, expected (1, {classes})"
        )
    return model.train()


class Dropout(nn.Module):
    """Zero each value with probability p in training and scale the others by 1 / (1 - p).

    On a CPU the mask is made of raw 16-bit random numbers, since `bernoulli_` alone takes a
    quarter of a training step of these networks; p is thereby rounded to a multiple of 2**-16.
    """

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1 - 2**-16:
            raise ValueError(f"dropout p = {p}: allowed are values from 0 to below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x with values dropped in training mode, x itself in evaluation mode."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        dropped = round(self.p * 2**16)  # of the 2**16 values that 16 bits can take
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        keep = torch.empty_like(x).copy_(bits.ge_(dropped - 2**15))  # in the layout of x
        return x * keep.mul_(2**16 / (2**16 - dropped))

    def extra_repr(self) -> str:
        """Return what torch shows in parentheses."""
        return f"p={self.p}"


def surlemont(
    input_shape: tuple[int, ...], classes: int, *, width: float = 1.0, dropout: float = 0.5
) -> nn.Module:
    """Return the network of Surlemont et al., section IV.A, with Keras' initial weights.

    Two blocks of 3x3 convolution (32 and 64 filters times `width`), ReLU, 2x2 max pooling and
    dropout, then one dense layer. Pooling stands before ReLU, and flattening before dropout: the
    same function, a quarter of the work, in one memory layout.

    Returns:
        a module from images [n, channels, height, width] to scores [n, classes].

    Raises:
        ValueError: if the width is not positive, or input_shape is not that of an image.
    """
    if width <= 0:
        raise ValueError(f"width = {width}: must be positive")
    channels, height, side = input_shape
    first, second = (max(1, round(filters * width)) for filters in (32, 64))
    model = nn.Sequential(
        nn.Conv2d(channels, first, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        Dropout(dropout),
        nn.Conv2d(first, second, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(second * (height // 4) * (side // 4), classes),
    )
    return glorot_uniform(model)


def glorot_uniform(model: nn.Module) -> nn.Module:
    """Return the model with Keras' default weights: Glorot uniform, biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return model


NETWORKS: dict[str, Callable[..., nn.Module]] = {"surlemont": surlemont}


def _find(name: str) -> Callable[..., nn.Module]:
    if name in NETWORKS:
        return NETWORKS[name]
    module, _, function = name.partition(":")
    if not module or not function:
        known = [*NETWORKS, '"package.module:function"']
        raise ModelError(f"unknown network {name!r}{nearest(name, known)}")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"network {name!r} cannot be imported: {error}") from error
