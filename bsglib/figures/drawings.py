"""Figures that explain instead of showing results: data, a network, and two ideas."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor, nn

from bsglib.figures.style import FULL_WIDTH, GREY, INK, panels, plain, title
from bsglib.weights import modes_kept

PAGE = "#ffffff"  # the report replaces it by the page's own colour
NETWORK_WIDTH = 3.5  # inches: a phone shows it at full size
ROW_OF_CLASSES = 10  # more stand in further rows
KINDS = {
    "ConvTranspose": "transposed conv",
    "Conv": "conv",
    "Linear": "dense",
    "MaxPool": "max pool",
    "AvgPool": "average pool",
    "BatchNorm": "batch norm",
    "Dropout": "dropout",
    "Flatten": "flatten",
    "ConstantPad": "pad",
}  # by the beginning of a class's name; of others the whole name is shown


# ---------------------------------------------------------------- data


def draw_examples(
    x: Tensor, y: Tensor, classes: Sequence[str], *, per_class: int = 6, seed: int = 0
) -> Figure:
    """Return a figure of images chosen at random, under the names of their classes.

    Up to four classes stand below each other, more of them side by side.

    Args:
        x: images [n, channels, height, width], of one channel or three: bytes, or any floats,
            which are then shown from the smallest of the set to the largest.
        y: labels int64 [n].
        classes: name of each label.
        per_class: images of a class.
        seed: of the choice.

    Raises:
        ValueError: if x are no images, or a class has fewer than are asked for.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x has shape {tuple(x.shape)}: needed are images [n, 1 or 3, h, w]")
    if per_class < 1:
        raise ValueError(f"per_class = {per_class}: must be at least 1")
    generator, chosen = np.random.default_rng(seed), []
    for label, name in enumerate(classes):
        of_class = np.flatnonzero(y.cpu().numpy() == label)
        if len(of_class) < per_class:
            raise ValueError(
                f"per_class = {per_class}: class {name!r} has {len(of_class)} examples"
            )
        chosen.append(generator.choice(of_class, per_class, replace=False))
    stacked = len(classes) <= 4
    columns = 1 if stacked else min(len(classes), ROW_OF_CLASSES)
    rows = -(-len(classes) // columns)
    shown = _colours(x, np.concatenate(chosen)).reshape(len(classes), per_class, *x.shape[2:], 4)
    strips = [_strip(images, along=1 if stacked else 0) for images in shown]
    height, width = strips[0].shape[:2]
    each = FULL_WIDTH / columns * height / width + 0.22  # inches, with the name
    fig, axes = panels(rows, columns, height=rows * each)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, strip, name in zip(axes.flat, strips, classes, strict=False):
        ax.imshow(strip, interpolation="none")  # an SVG then holds the pixels themselves
        ax.set_title(name, loc="left", pad=3)
    return fig


def _colours(x: Tensor, index: np.ndarray) -> np.ndarray:
    """The images of an index as RGBA in [0, 1], on the scale of the whole set."""
    images = x[torch.from_numpy(index).to(x.device)].double().cpu().numpy()
    low, high = (float(v) for v in (x.min(), x.max()))
    if x.dtype == torch.uint8 and x.shape[1] == 3:
        low, high = 0.0, 255.0
    images = (images - low) / (high - low or 1.0)
    rgb = np.broadcast_to(images, (len(images), 3, *images.shape[2:])).transpose(0, 2, 3, 1)
    return np.concatenate([rgb, np.ones_like(rgb[..., :1])], axis=-1)


def _strip(images: np.ndarray, *, along: int) -> np.ndarray:
    """Images [k, h, w, 4] as one, side by side (along = 1) or not (0), with gaps to see through."""
    gap = max(1, images.shape[1 + along] // 16)
    sides = [(0, 0)] * 4
    sides[1 + along] = (0, gap)
    padded = np.concatenate(np.pad(images, sides), axis=along)
    return padded[:, :-gap] if along else padded[:-gap]


# ---------------------------------------------------------------- a network


@dataclass(frozen=True)
class Layer:
    """What a module of a network does to one example."""

    kind: str
    shape: tuple[int, ...]  # of its output
    parameters: int  # 0 where they are shared with a layer before
    weighted: bool  # whether it multiplies by a matrix: with it a block begins


def network_layers(model: nn.Module, input_shape: Sequence[int]) -> list[Layer]:
    """Return the layers of a network in the order in which they run, by running it once.

    Layers are the modules that hold no other ones, or parameters of their own. What a network does
    outside of modules is not seen.

    Args:
        model: any network, left unchanged.
        input_shape: of one example.

    Raises:
        ValueError: if the network does not take such an example, or holds no parameters.
    """
    weights = list(model.parameters())
    if not weights:
        raise ValueError("model: a network without parameters has no layers to draw")
    layers, counted = [], set()

    def ran(module: nn.Module, _, output) -> None:
        own = list(module.parameters(recurse=False))
        fresh = [w for w in own if id(w) not in counted]
        counted.update(map(id, own))
        first = output if isinstance(output, Tensor) else output[0]  # recurrent layers give two
        size, weighted = sum(w.numel() for w in fresh), any(w.ndim > 1 for w in own)
        layers.append(Layer(_kind(module), tuple(first.shape[1:]), size, weighted))

    leaves = [m for m in model.modules() if not [*m.children()] or [*m.parameters(recurse=False)]]
    hooks = [leaf.register_forward_hook(ran) for leaf in leaves]
    try:
        with torch.no_grad(), modes_kept(model):
            model.eval()(torch.zeros(1, *input_shape).to(weights[0]))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"input_shape = {tuple(input_shape)}: the network does not take it: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return layers


def _kind(module: nn.Module) -> str:
    name = type(module).__name__
    kind = next((kind for start, kind in KINDS.items() if name.startswith(start)), name)
    if kind == "dropout":
        return f"{kind} {module.p:g}"
    kernel = getattr(module, "kernel_size", ())
    kernel = 2 * (kernel,) if isinstance(kernel, int) else kernel
    return " ".join([kind, *(["×".join(map(str, kernel))] if kernel else [])])


def draw_network(model: nn.Module, input_shape: Sequence[int]) -> Figure:
    """Return a diagram of a network, made by running it once: a box per block, from the input on.

    A block is a convolution or dense layer with all that follows it up to the next one. Right stand
    the shape of its output and its number of parameters. At the left it is sketched: an image as a
    square, its side the square root of the width to scale, with one more behind it for every two
    doublings of the channels; a vector as a column, its height the logarithm of the length.

    Args:
        model: any network whose modules run one after the other, left unchanged.
        input_shape: of one example.

    Raises:
        ValueError: as `network_layers`.
    """
    layers = [Layer("input", tuple(input_shape), 0, False), *network_layers(model, input_shape)]
    numbers = np.cumsum([layer.weighted for layer in layers])
    blocks = [
        [layers[i] for i in places]
        for _, places in groupby(range(len(layers)), lambda i: numbers[i])
    ]
    texts = [_wrapped([layer.kind for layer in block[1:]]) for block in blocks]
    heights = [0.24 + 0.14 * max(len(lines), i > 0) for i, lines in enumerate(texts)]  # inches
    total = sum(w.numel() for w in model.parameters())
    gap, end = 0.1, 0.3
    height = sum(heights) + gap * len(blocks) + end
    fig, ax = plt.subplots(figsize=(NETWORK_WIDTH, height))
    plt.close(fig)  # shown once, by `show`
    ax.set(xlim=(0, NETWORK_WIDTH), ylim=(-height, 0))  # inches, nearly
    ax.set_axis_off()
    top, tallest = -gap / 2, max(input_shape[-1], 1)
    for i, (block, lines, high) in enumerate(zip(blocks, texts, heights, strict=True)):
        _draw_block(ax, block, lines, top, high)
        _sketch(ax, _shapes(block)[0], 0.27, top - high / 2, tallest)
        if i:
            ax.plot([2.0, 2.0], [top, top + gap], color=GREY, lw=1)
        top -= high + gap
    ax.text(3.4, top - 0.02, f"{total:,} parameters in all", ha="right", va="top")
    return fig


def _wrapped(kinds: list[str]) -> list[str]:
    """Kinds of layers in lines that leave room for a number, none of them broken."""
    words = [kind.replace(" ", "\N{NO-BREAK SPACE}") for kind in kinds]
    return textwrap.wrap("\N{NO-BREAK SPACE}· ".join(words), 31)


def _shapes(block: list[Layer]) -> list[tuple[int, ...]]:
    """The shape of a block's output, before it that of an image that the block flattens."""
    before = [a.shape for a, b in pairwise(block) if len(b.shape) < len(a.shape)]
    return [*before, block[-1].shape]


def _draw_block(ax: Axes, block: list[Layer], lines: list[str], top: float, high: float) -> None:
    ax.add_patch(Rectangle((0.55, top - high), 2.93, high, fc="none", ec=GREY, lw=0.8))
    sizes = [" × ".join(map(str, shape)) for shape in _shapes(block)]
    parameters = sum(layer.parameters for layer in block)
    ax.text(0.62, top - 0.05, block[0].kind, va="top", weight="bold")
    ax.text(3.41, top - 0.05, " → ".join(sizes), va="top", ha="right")
    small = {"va": "top", "fontsize": 7, "color": GREY}
    ax.text(0.62, top - 0.21, "\n".join(lines), linespacing=1.3, **small)
    if parameters:
        ax.text(3.41, top - 0.21, f"{parameters:,} parameters", ha="right", **small)


def _sketch(ax: Axes, shape: tuple[int, ...], x: float, y: float, tallest: int) -> None:
    if len(shape) < 3:
        high = 0.03 * np.log2(1 + np.prod(shape))
        ax.add_patch(Rectangle((x - 0.03, y - high / 2), 0.06, high, fc=PAGE, ec=INK, lw=0.8))
        return
    side, behind = 0.3 * np.sqrt(shape[-1] / tallest), int(np.log2(shape[0]) / 2)
    for k in range(behind, -1, -1):
        shift = 0.025 * (k - behind / 2)
        corner = (x - side / 2 + shift, y - side / 2 + shift)
        ax.add_patch(Rectangle(corner, side, side, fc=PAGE, ec=INK, lw=0.8))


# ---------------------------------------------------------------- ideas


def draw_minima(*, widths: tuple[float, float] = (1.0, 0.25), shift: float = 0.35) -> Figure:
    """Return a figure of the idea that a flat minimum loses less than a sharp one on other data.

    The training loss is that of two wells of equal depth; the test loss is the same curve, shifted.

    Args:
        widths: standard deviations of the two wells, the flat one first, up to 1.
        shift: of the test loss, in units of the weight.

    Raises:
        ValueError: if the widths are not in order, or too large for two separate wells.
    """
    flat, sharp = widths
    if not 0 < sharp < flat <= 1:
        raise ValueError(f"widths = {widths}: needed are two, 0 < sharp < flat <= 1, flat first")
    weight = np.linspace(-5, 4, 1801)

    def loss(w: np.ndarray) -> np.ndarray:
        wells = (np.exp(-(((w - at) / s) ** 2) / 2) for at, s in ((-2, flat), (2, sharp)))
        return 1.1 - sum(wells)

    train, test = loss(weight), loss(weight - shift)
    fig, axes = panels(1, 1, height=2.4)
    ax = axes[0, 0]
    ax.plot(weight, train, color=INK, lw=1.0, alpha=0.5, label="training loss")
    ax.plot(weight, test, color=INK, lw=1.8, label="test loss")
    for half, name in ((weight < 0, "flat"), (weight >= 0, "sharp")):
        at = np.flatnonzero(half)[train[half].argmin()]
        place, low, high = weight[at], train[at], test[at]
        ax.plot([place, place], [low, high], color=GREY, lw=3, zorder=0)
        ax.plot(place, low, "o", ms=4, color=INK)
        words = f"{name} minimum\n+{high - low:.2f} on test data"
        ax.annotate(words, (place, low), (0, -7), textcoords="offset points", ha="center", va="top")
    ax.set(xlabel="a weight", ylabel="loss", xticks=[], yticks=[], ylim=(-0.25, 1.2))
    ax.legend(loc="lower left", fontsize=7.5)
    return fig


def draw_gradients(a: Sequence[float], b: Sequence[float]) -> Figure:
    """Return a figure of why two gradients in one batch make a shorter step than one by one.

    Left the gradients a and b, head to tail as two updates would follow them, and their mean, the
    update of both in one batch; right the mean length of an update in either case, of which the
    first is never the shorter one (triangle inequality). Source: Chang & Pathak, figures 14, 15.

    Args:
        a, b: gradients [p], neither zero. Of more than two dimensions the plane is drawn in which
            they lie, with their true lengths and angle.

    Raises:
        ValueError: if their sizes differ, or one is zero or not finite.
    """
    a, b = (np.asarray(v, dtype=float).ravel() for v in (a, b))
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if a.shape != b.shape or len(a) < 2:
        raise ValueError(f"a has {len(a)} components, b {len(b)}: needed are two or more in both")
    if not all(0 < length < np.inf for length in lengths):
        raise ValueError(
            f"|a| = {lengths[0]:g}, |b| = {lengths[1]:g}: needed are finite lengths above 0"
        )
    if len(a) > 2:
        cosine = np.clip(a @ b / np.prod(lengths), -1, 1)
        a = np.array([lengths[0], 0.0])
        b = lengths[1] * np.array([cosine, np.sqrt(1 - cosine**2)])
    mean, origin = (a + b) / 2, np.zeros(2)
    turn = 1 if a[0] * b[1] >= a[1] * b[0] else -1  # to the left, as b leaves a
    fig, axes = panels(1, 2, height=2.4, width_ratios=(3, 2))
    ax = axes[0, 0]
    for start, end, name, colour, width, side in (
        (origin, a, "a", GREY, 1.6, turn),
        (a, a + b, "b", GREY, 1.6, turn),
        (origin, mean, "(a + b) / 2", INK, 2.4, -turn),
    ):
        arrow = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0}
        ax.add_patch(FancyArrowPatch(start, end, color=colour, lw=width, **arrow))
        along = (end - start) / (np.linalg.norm(end - start) or 1.0)
        away = side * np.array([along[1], -along[0]])
        ha = "center" if abs(away[0]) < 0.3 else "left" if away[0] > 0 else "right"
        va = "center" if abs(away[1]) < 0.3 else "bottom" if away[1] > 0 else "top"
        ax.annotate(name, (start + end) / 2, 5 * away, textcoords="offset points", color=colour,
                    ha=ha, va=va)  # fmt: skip
    ax.plot(*np.transpose([mean, a + b]), ":", color=GREY, lw=1)
    ax.update_datalim([origin, a, a + b, mean])
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.15)
    ax.autoscale_view()
    ax.set_axis_off()
    title(ax, "two gradients and their mean")
    ax = axes[0, 1]
    steps = {
        "batch size 1": ("(|a| + |b|) / 2", sum(lengths) / 2, GREY),
        "batch size 2": ("|a + b| / 2", np.linalg.norm(a + b) / 2, INK),
    }
    for place, (formula, length, colour) in enumerate(steps.values()):
        ax.barh(place, length, color=colour, height=0.25)
        ax.annotate(f"{formula} = {plain(round(length, 4))}", (0, place - 0.2), (3, 0),
                    textcoords="offset points", va="bottom")  # fmt: skip
    ax.set_yticks(range(len(steps)), steps)
    ax.set(ylim=(1.5, -0.7), xlabel="in units of the learning rate")
    ax.tick_params(left=False)
    title(ax, "mean length of an update")
    return fig
