"""The papers' networks, by name; a user's by "package.module:function"."""

import importlib
import inspect
import math
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import torch
from torch import Tensor, nn

from bsglib.names import nearest


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
        ModelError: if the name or an option is unknown, the input shape does not fit, or a user's
            function fails or returns something else.
    """
    make = _find(name)
    known = [p for p in inspect.signature(make).parameters if p not in ("input_shape", "classes")]
    for option in options.keys() - known if name in NETWORKS else ():
        raise ModelError(f"network {name!r} has no option {option!r}{nearest(option, known)}")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = make(input_shape, classes, **options)
        if not isinstance(model, nn.Module):
            raise ModelError(f"network {name!r} returns {model!r}, needed is a torch.nn.Module")
        if not any(w.requires_grad for w in model.parameters()):
            raise ModelError(f"network {name!r} has no weights to train")
        with torch.no_grad():
            outputs = model.eval()(torch.zeros(1, *input_shape))
    except ModelError:
        raise
    except Exception as error:  # a user's function raises whatever it likes
        raise ModelError(
            f"network {name!r} with options {options} does not take inputs of shape "
            f"{tuple(input_shape)}: {error!r}. Its options: {', '.join(known) or 'none'}"
        ) from error
    finally:
        torch.set_default_dtype(default)
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else repr(outputs)
    if found != (1, classes):
        raise ModelError(f"network {name!r} gives outputs {found}, expected (1, {classes})")
    return model.train()


class Dropout(nn.Module):
    """Zero each value with probability p in training and scale the others by 1 / (1 - p).

    On a CPU the mask is made of raw 16-bit random numbers, since `bernoulli_` alone takes a
    quarter of a training step of these networks; p is thereby rounded to a multiple of 2**-16. The
    mask lies in memory as its input does: walking through one of them in strides costs as much.
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
        keep = torch.empty_like(x)
        bits = words.view(torch.int16)[: x.numel()].as_strided(x.shape, keep.stride())
        return x * keep.copy_(bits.ge_(dropped - 2**15)).mul_(2**16 / (2**16 - dropped))

    def extra_repr(self) -> str:
        """Return what torch shows in parentheses."""
        return f"p={self.p}"


class Flatten(nn.Flatten):
    """Flatten, and hand gradients of channels-last images back in that order.

    The pooling below would otherwise copy its gradients to and fro, a fifteenth of a step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x [n, ...] as [n, -1]."""
        if x.ndim == 4 and x.requires_grad and x.is_contiguous(memory_format=torch.channels_last):
            x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return super().forward(x)


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
    channels, height, side = input_shape
    first, second = _scaled((32, 64), width)
    model = nn.Sequential(
        nn.Conv2d(channels, first, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        Dropout(dropout),
        nn.Conv2d(first, second, 3, padding=1),
        nn.MaxPool2d(2),
        Flatten(),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(second * (height // 4) * (side // 4), classes),
    )
    return glorot_uniform(model)


ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU, "tanh": nn.Tanh}  # increasing: `c1`


def f1(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    width: float = 1.0,
    batch_norm: bool = True,
    activation: str = "relu",
) -> nn.Module:
    """Return network F1 of Keskar et al. 2017: five hidden layers of 512 units.

    Each is dense, batch norm, activation. The paper does not order the last two; this is the order
    of its convolutional networks, and of F1 in Hoffer et al.'s code. No dropout. Initial weights
    and batch norm as in Keras, which the authors used.

    Args:
        input_shape: any; inputs are flattened.
        classes: size of the output.
        width: factor of the sizes of the hidden layers.
        batch_norm: whether the network has it.
        activation: relu, elu or tanh.

    Returns:
        a module from inputs [n, ...] to scores [n, classes].

    Raises:
        ValueError: if an option is out of range.
    """
    return _hidden_layers(5, input_shape, classes, width, batch_norm, activation)


def f2(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    width: float = 1.0,
    batch_norm: bool = True,
    activation: str = "relu",
) -> nn.Module:
    """Return network F2 of Keskar et al. 2017: `f1` with seven hidden layers.

    The paper has 360 inputs and 1,973 classes (TIMIT); here both come from the data.

    Args:
        input_shape, classes, width, batch_norm, activation: as in `f1`.

    Returns:
        a module from inputs [n, ...] to scores [n, classes].

    Raises:
        ValueError: if an option is out of range.
    """
    return _hidden_layers(7, input_shape, classes, width, batch_norm, activation)


def c1(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    width: float = 1.0,
    dropout: float = 0.5,
    batch_norm: bool = True,
    activation: str = "relu",
) -> nn.Module:
    """Return network C1 of Keskar et al. 2017 (on CIFAR-100 their C3), as in the authors' code.

    Twice 5x5 convolution with 64 filters, batch norm, activation, 3x3 max pooling with stride 2;
    then dense 384 and dense 192, each with batch norm, activation and dropout; then the scores.
    Initial weights and batch norm as in Keras.

    Pooling stands before the activation, with which it commutes because the activation increases;
    it stays behind batch norm, whose gain may be negative. Pooling pads by one, as Keras' "same"
    does on Theano: n rows become n / 2, rounded up. The authors' batch norm uses batch statistics
    in evaluation too (Keras 1, mode 2); here whoever measures chooses.

    Args:
        input_shape: (channels, height, width) of an image.
        classes: size of the output.
        width: factor of the numbers of filters and of dense units.
        dropout: rate after the dense layers, in [0, 1).
        batch_norm: whether the network has it.
        activation: relu, elu or tanh.

    Returns:
        a module from images [n, channels, height, width] to scores [n, classes].

    Raises:
        ValueError: if an option is out of range, or input_shape is not that of an image.
    """
    filters, first, second = _scaled((64, 384, 192), width)
    channels, height, side = input_shape
    layers = []
    for _ in range(2):
        convolution, pool = nn.Conv2d(channels, filters, 5, padding=2), nn.MaxPool2d(3, 2, 1)
        layers += _layer(convolution, batch_norm, activation, pool=pool)
        channels, height, side = filters, math.ceil(height / 2), math.ceil(side / 2)
    model = nn.Sequential(
        *layers,
        Flatten(),
        *_layer(nn.Linear(filters * height * side, first), batch_norm, activation, dropout),
        *_layer(nn.Linear(first, second), batch_norm, activation, dropout),
        nn.Linear(second, classes),
    )
    return glorot_uniform(model)


def c2(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    width: float = 1.0,
    dropout: float = 0.5,
    batch_norm: bool = True,
    activation: str = "relu",
) -> nn.Module:
    """Return network C2 of Keskar et al. 2017 (on CIFAR-100 their C4), as in the authors' code.

    Blocks of two, two, three, three and three 3x3 convolutions with 64, 128, 256, 512 and 512
    filters, each with batch norm and activation. Dropout stands after every convolution but the
    last of a block, .3 in the first block and .4 in the others; 2x2 max pooling ends a block. Then
    dropout .5, dense 512 with batch norm, activation and dropout .5, and the scores.

    Pooling rounds sizes up, as Keras' "same" does, so that small images lose no block: where one
    pixel is left, as of 8x8 after three blocks, pooling leaves it. The rest as in `c1`.

    Args:
        input_shape, classes, width, batch_norm, activation: as in `c1`.
        dropout: rate around the dense layer, in [0, 1); the others change in proportion.

    Returns:
        a module from images [n, channels, height, width] to scores [n, classes].

    Raises:
        ValueError: if an option is out of range, or input_shape is not that of an image.
    """
    *blocks, dense = _scaled((64, 128, 256, 512, 512, 512), width)
    channels, height, side = input_shape
    layers = []
    for block, (filters, count) in enumerate(zip(blocks, (2, 2, 3, 3, 3), strict=True)):
        rate = dropout * (0.6 if block == 0 else 0.8)
        for remaining in reversed(range(count)):
            convolution = nn.Conv2d(channels, filters, 3, padding=1)
            if remaining:
                layers += _layer(convolution, batch_norm, activation, rate)
            else:
                pool = nn.MaxPool2d(2, ceil_mode=True)
                layers += _layer(convolution, batch_norm, activation, pool=pool)
            channels = filters
        height, side = math.ceil(height / 2), math.ceil(side / 2)
    model = nn.Sequential(
        *layers,
        Flatten(),
        Dropout(dropout),
        *_layer(nn.Linear(channels * height * side, dense), batch_norm, activation, dropout),
        nn.Linear(dense, classes),
    )
    return glorot_uniform(model)


def kaabachi(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    width: float = 1.0,
    dropout: float = 0.1,
    batch_norm: str = "first",
) -> nn.Module:
    """Return the network of Kaabachi et al., section II, with PyTorch's initial weights.

    Three blocks of two 3x3 convolutions (32, 64; 128, 128; 256, 256 filters), ReLU and 2x2 max
    pooling, with 5 % dropout between the second and the third; then three dense layers with two
    dropouts of 10 %. What the paper leaves open is taken from public networks of the same
    description: batch norm after the first convolution of a block, before ReLU; the 5 % of whole
    channels; dense layers of 1024 and 512 units, one dropout before the first and one before the
    scores. Pooling stands before ReLU: the same function, less work.

    Args:
        input_shape: (channels, height, width) of an image of at least 8x8.
        classes: size of the output.
        width: factor of the numbers of filters and of dense units.
        dropout: rate of the last two, in [0, 1); that between the blocks is half of it.
        batch_norm: after the "first" or "both" convolutions of each block.

    Returns:
        a module from images [n, channels, height, width] to scores [n, classes].

    Raises:
        ValueError: if an option is out of range, or input_shape is not that of an image.
    """
    if batch_norm not in (allowed := ("first", "both")):
        raise ValueError(f"batch_norm = {batch_norm!r}{nearest(batch_norm, allowed)}")
    *filters, first, second = _scaled((32, 64, 128, 128, 256, 256, 1024, 512), width)
    channels, height, side = input_shape
    layers: list[nn.Module] = []
    for i, size in enumerate(filters):
        layers.append(nn.Conv2d(channels, size, 3, padding=1))
        if i % 2 == 0 or batch_norm == "both":
            layers.append(nn.BatchNorm2d(size))
        if i % 2 == 1:
            layers.append(nn.MaxPool2d(2))
        layers.append(nn.ReLU())
        if i == 3:
            layers.append(nn.Dropout2d(dropout / 2))
        channels = size
    return nn.Sequential(
        *layers,
        Flatten(),
        Dropout(dropout),
        nn.Linear(channels * (height // 8) * (side // 8), first),
        nn.ReLU(),
        nn.Linear(first, second),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(second, classes),
    )


def chang(
    input_shape: tuple[int, ...], classes: int, *, width: float = 1.0, blocks: int = 5
) -> nn.Module:
    """Return the network of Chang & Pathak, with Keras' initial weights.

    Blocks of a 3x3 convolution (4, 8, 16, 32 and 64 filters), ReLU and 2x2 max pooling, then two
    dense layers of 256 units with ReLU, and for two classes a single unit z, whose sigmoid is the
    probability of class 1. The article gives no sizes: these are those of the authors' code, as are
    padding that keeps the size, and Keras' defaults for the rest (stride 1, biases, initial
    weights). Pooling stands before ReLU: the same function, less work.

    The two scores are (0, z). Their softmax is (1 - sigmoid(z), sigmoid(z)), so cross-entropy of
    the scores is binary cross-entropy of sigmoid(z), and class 1 is predicted where z > 0.

    Args:
        input_shape: (channels, height, width) of an image, at least 2**blocks high and wide.
        classes: with two, one unit as in the paper; with more, a dense layer of as many scores.
        width: factor of the numbers of filters and of dense units.
        blocks: how many of the five there are, from the first.

    Returns:
        a module from images [n, channels, height, width] to scores [n, classes].

    Raises:
        ValueError: if an option is out of range, or input_shape is not that of an image, or of one
            too small for the pooling.
    """
    if blocks not in range(1, 6):
        raise ValueError(f"blocks = {blocks!r}: allowed are 1 to 5")
    *filters, dense = _scaled((4, 8, 16, 32, 64, 256), width)
    channels, height, side = input_shape
    if min(height, side) < (least := 2 ** int(blocks)):
        raise ValueError(
            f"blocks = {blocks} halve an image as often: needed are images of at least "
            f"{least} x {least} pixels, or fewer blocks"
        )
    layers = []
    for size in filters[: int(blocks)]:
        layers += [nn.Conv2d(channels, size, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        channels = size
    model = nn.Sequential(
        *layers,
        Flatten(),
        nn.Linear(channels * (height // least) * (side // least), dense),
        nn.ReLU(),
        nn.Linear(dense, dense),
        nn.ReLU(),
        nn.Linear(dense, classes if classes > 2 else 1),
        *([] if classes > 2 else [nn.ConstantPad1d((1, 0), 0.0)]),  # [n, 1] -> (0, z) [n, 2]
    )
    return glorot_uniform(model)


def _scaled(sizes: Sequence[int], width: float) -> list[int]:
    if width <= 0:
        raise ValueError(f"width = {width}: must be positive")
    return [max(1, round(size * width)) for size in sizes]


def _hidden_layers(count, input_shape, classes, width, batch_norm, activation) -> nn.Module:
    sizes = [math.prod(input_shape), *_scaled(count * [512], width)]
    layers = [_layer(nn.Linear(*pair), batch_norm, activation) for pair in pairwise(sizes)]
    model = nn.Sequential(Flatten(), *chain(*layers), nn.Linear(sizes[-1], classes))
    return glorot_uniform(model)


def _layer(
    weights: nn.Conv2d | nn.Linear,
    batch_norm: bool,
    activation: str,
    dropout: float | None = None,
    pool: nn.Module | None = None,
) -> list[nn.Module]:
    """The parts of a layer of Keskar et al., batch norm with Keras' defaults."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation = {activation!r}{nearest(activation, ACTIVATIONS)}")
    if batch_norm not in (True, False):  # else kaabachi's "both" would be taken for True
        raise ValueError(f"batch_norm = {batch_norm!r}: allowed are true and false")
    norm = nn.BatchNorm2d if isinstance(weights, nn.Conv2d) else nn.BatchNorm1d
    parts = (
        weights,
        norm(len(weights.weight), eps=1e-3, momentum=0.01) if batch_norm else None,
        pool,
        ACTIVATIONS[activation](),
        None if dropout is None else Dropout(dropout),
    )
    return [part for part in parts if part is not None]


def glorot_uniform(model: nn.Module) -> nn.Module:
    """Return the model with Keras' default weights: Glorot uniform, biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    network.__name__: network for network in (surlemont, f1, f2, c1, c2, kaabachi, chang)
}


def _find(name: str) -> Callable[..., nn.Module]:
    if name in NETWORKS:
        return NETWORKS[name]
    module, _, function = name.partition(":")
    if not module or not function:
        known = [*NETWORKS, '"package.module:function"']
        raise ModelError(f"unknown network {name!r}{nearest(name, known)}")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # a user's module raises whatever it likes
        raise ModelError(
            f"network {name!r} cannot be imported: {error!r}; its folder has to be installed, or "
            "in PYTHONPATH"
        ) from error
    make = getattr(found, function, None)
    if not callable(make):
        functions = [n for n, value in vars(found).items() if callable(value) and n[0] != "_"]
        raise ModelError(
            f"network {name!r}: {function!r} is not a function of {module}"
            f"{nearest(function, functions)}"
        )
    return make
