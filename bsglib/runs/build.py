"""What a config names: its data, network, optimizer, learning rates, batches and updates."""

import contextlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from bsglib import models, runtime
from bsglib.data import Dataset, Split
from bsglib.data import load as load_data
from bsglib.proximal import Proximal
from bsglib.runs.augment import COLUMNS, augmented
from bsglib.runs.params import ParameterError, RunConfig
from bsglib.runs.steps import Steps, Update
from bsglib.sam import SAM, frozen_batch_norm
from bsglib.schedules import Schedule
from bsglib.weights import has_batch_norm

CHUNK_SIZE = 128  # examples per forward pass on a CPU: activations stay in its cache


DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}


def dataset_of(config: RunConfig) -> Dataset:
    """Return the data a config names, split as it says.

    Raises:
        ParameterError: if the batch is larger than the training set, or images are to be augmented
            and the data are none.
    """
    dataset = load_data(config.dataset, **_split_of(config))
    if config.augment and len(dataset.input_shape) != 3:
        raise ParameterError(
            f"parameter 'augment' = {config.augment}: needs images, an example of "
            f"{config.dataset!r} has the shape {list(dataset.input_shape)}"
        )
    for name, size in _batch_sizes(config).items():
        workers = config.local_workers
        if size * workers > len(dataset.train):
            each = f" for each of {workers} 'local_workers'" * (workers > 1)
            raise ParameterError(
                f"parameter {name!r} = {size}{each}: the training set has {len(dataset.train)} "
                "examples, a batch cannot be larger"
            )
    return dataset


def _split_of(config: RunConfig) -> dict:
    names = "train_size", "validation_fraction", "image_size", "split_seed", "standardise"
    return {name: getattr(config, name) for name in names}


def dataset_on_device(config: RunConfig) -> Dataset:
    """Return the data a config names on the device runs use; an accelerator keeps the last ones.

    Raises:
        ParameterError: as `dataset_of`.
    """  # noqa: DOC502
    device = runtime.device()
    if device.type == "cpu":
        return dataset_of(config)
    return _kept_on(device, config.dataset, tuple(_split_of(config).items()))


@lru_cache(maxsize=8)
def _kept_on(device: torch.device, name: str, options: tuple) -> Dataset:
    return load_data(name, **dict(options)).to(device)


def _batch_sizes(config: RunConfig) -> dict[str, int]:
    sizes = {name: getattr(config, name) for name in ("batch_size", "first_batch_size")}
    return {name: size for name, size in sizes.items() if size is not None}


def build_model(config: RunConfig, dataset: Dataset) -> nn.Module:
    """Return the config's network with fresh weights, in its dtype, on the device.

    Raises:
        ParameterError: if a last batch would have one example, too few for its batch norm.
    """
    shape, classes = dataset.input_shape, len(dataset.classes)
    model = models.build(config.network, shape, classes, **config.network_options)
    normed = any(isinstance(m, nn.BatchNorm1d) for m in model.modules())
    for name, size in _batch_sizes(config).items():
        whole = size * config.local_workers
        last = len(dataset.train) % whole or whole
        if normed and last // config.local_workers < 2:
            raise ParameterError(
                f"parameter {name!r} = {size}: the last batch of the {len(dataset.train)} "
                f"training examples has one, and batch norm in {config.network!r} needs two; "
                f"choose another {name} or train_size"
            )
    layout = torch.channels_last if len(shape) == 3 else torch.contiguous_format
    model.to(runtime.device(), DTYPES[config.dtype], memory_format=layout)
    for w in model.parameters():  # a fused step reads memory as it lies: it has to be dense
        if not (w.is_contiguous() or w.is_contiguous(memory_format=layout)):
            w.data = w.data.contiguous()
    return model


def build_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the config's optimizer, inside SAM or `Proximal` where the config asks for one."""
    options = {"lr": config.base_lr, "fused": True}  # one pass over the weights
    if config.optimizer == "sgd":
        base = torch.optim.SGD(model.parameters(), momentum=config.momentum, **options)
        if config.momentum:  # there from the start: weights may get their first gradient late
            for w in model.parameters():
                base.state[w]["momentum_buffer"] = torch.zeros_like(w)
    else:  # Keras' defaults, which differ from torch's in eps
        options["capturable"] = runtime.device().type != "cpu"  # its count of steps is there, too
        base = torch.optim.Adam(model.parameters(), eps=1e-7, **options)
        for w in model.parameters():  # there from the start: a graph is captured around it
            base.state[w] = {"step": torch.zeros((), device=w.device)}
            base.state[w] |= {name: torch.zeros_like(w) for name in ("exp_avg", "exp_avg_sq")}
    if config.proximal is not None:
        return Proximal(base, strength=config.proximal, steps=config.proximal_steps, model=model)
    if config.rho is None:
        return base
    return SAM(base, rho=config.rho, adaptive=config.sam_adaptive, model=model)


def batch_size_at(config: RunConfig, epoch: int) -> int:
    """Return the batch size of an epoch, counted from 0."""
    return config.first_batch_size if epoch < config.first_epochs else config.batch_size


def schedule_of(config: RunConfig, batch_size: int, updates: int) -> Schedule:
    """Return the config's learning-rate schedule at a batch size and so many updates per epoch."""
    return Schedule(
        config.base_lr,
        batch_size,
        config.reference_batch_size,
        config.scaling,
        config.warmup,
        warmup_updates=round(config.warmup_epochs * updates),
        warmup_epochs=config.warmup_epochs,
        updates_per_epoch=updates,
    )


def updates_of(config: RunConfig, dataset: Dataset, epoch: int) -> tuple[int, Schedule]:
    """Return the number of an epoch's updates and their learning rates."""
    size = batch_size_at(config, epoch)
    updates = -(-len(dataset.train) // (size * config.local_workers))
    return updates, schedule_of(config, size, updates)


def order_of(config: RunConfig, train: Split, epoch: int) -> np.ndarray:
    """Return the places in the training set in the order of an epoch."""
    drawn = epoch if config.shuffle == "every" else 0
    return np.random.default_rng([config.seed, drawn]).permutation(len(train))


def batches_of(config: RunConfig, train: Split, epoch: int) -> tuple[Tensor, ...]:
    """Return the places in the training set of an epoch's batches; the last may be smaller.

    With local workers a batch holds those of all.
    """
    shuffle = torch.from_numpy(order_of(config, train, epoch)).to(train.y.device)
    return shuffle.split(batch_size_at(config, epoch) * config.local_workers)


def train_batch(
    model,
    optimizer,
    x: Tensor,
    y: Tensor,
    *,
    autocast: bool,
    divisor: float | None = None,
    adversarial: float | None = None,
    adversarial_weight: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Make one update on a batch and return its mean loss and right answers before the update.

    The batch is worked through in chunks whose gradients add up, unless the network has batch
    norm, which needs the batch whole. Of a network on several devices (DDP), only the last chunk
    exchanges gradients.

    Adversarial training (Goodfellow et al. 2015, arXiv 1412.6572) minimises
    (1 - a) L(x) + a L(x + epsilon sign(grad_x L(x))), with constant examples x + ...: the fast
    gradient sign method at the weights before the update. Inputs are not clipped. Dropout draws a
    new mask for these examples; batch norm takes their own statistics and keeps none of them.

    Args:
        model, optimizer: the network, in training mode, and the optimizer of its weights.
        x, y: inputs [n, ...] and labels int64 [n].
        autocast: compute in bfloat16 where that is safe.
        divisor: what the sum of the losses is divided by; None is n, which gives their mean.
        adversarial: epsilon, in units of the network's inputs; None trains on x alone.
        adversarial_weight: a, in (0, 1).

    Returns:
        mean loss and number of right answers on x, both scalars on the device of x.
    """
    divisor = len(y) if divisor is None else divisor
    alone = getattr(model, "no_sync", contextlib.nullcontext)
    whole = x.device.type != "cpu" or has_batch_norm(model)
    chunk_size = len(x) if whole else CHUNK_SIZE
    passes = []

    def summed(part: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
            outputs = model(part).to(x.dtype)
        return nn.functional.cross_entropy(outputs, labels, reduction="sum") / divisor, outputs

    def closure() -> Tensor:
        optimizer.zero_grad()
        total, correct = 0.0, 0
        chunks = list(zip(x.split(chunk_size), y.split(chunk_size), strict=True))
        for place, (part, labels) in enumerate(chunks, 1):
            with contextlib.nullcontext() if place == len(chunks) else alone():
                if adversarial is None:
                    loss, outputs = summed(part, labels)
                    loss.backward()
                else:
                    part = part.detach().requires_grad_()
                    loss, outputs = summed(part, labels)
                    (loss * (1 - adversarial_weight)).backward()
                    moved = part.detach() + adversarial * part.grad.sign()
                    with frozen_batch_norm(model):
                        (summed(moved, labels)[0] * adversarial_weight).backward()
            total = total + loss.detach()
            correct = correct + (outputs.detach().argmax(1) == labels).sum()
        passes.append((total, correct))
        return total

    optimizer.step(closure)
    return passes[0]  # SAM and the proximal method make more, away from the weights


def options_of(config: RunConfig) -> dict:
    """Return the options of `train_batch` that a config sets."""
    options: dict = {"autocast": config.dtype == "bfloat16"}
    if config.adversarial is not None:
        names = "adversarial", "adversarial_weight"
        options |= {name: getattr(config, name) for name in names}
    return options


def update_of(
    config: RunConfig, dataset: Dataset, model, optimizer, drawn: Tensor | None = None
) -> Update:
    """Return the update on a batch, given the places of its examples in the training set.

    Args:
        config, dataset, model, optimizer: of the run.
        drawn: random numbers of each training example, [N, COLUMNS], to augment it by; they may
            change between updates.
    """
    train, dtype, options = dataset.train, DTYPES[config.dtype], options_of(config)

    def update(index: Tensor) -> tuple[Tensor, Tensor]:
        x = train.x[index]
        if drawn is not None:
            x = augmented(x.to(dtype), drawn[index], config.augment)
        return train_batch(model, optimizer, dataset.as_input(x, dtype), train.y[index], **options)

    return update


def steps_of(config: RunConfig, dataset: Dataset, model, optimizer, batch_size: int) -> Steps:
    """Return the updates of a network in training mode, an epoch at a time."""
    weight = next(model.parameters())
    drawn = weight.new_zeros(len(dataset.train), COLUMNS) if config.augment else None
    return Steps(
        update_of(config, dataset, model, optimizer, drawn),
        optimizer,
        list(model.parameters()),
        list(model.buffers()),
        examples=len(dataset.train),
        batch_size=batch_size,
        path=config.record_path,
        drawn=drawn,
    )


def without_dropout(model: nn.Module) -> None:
    """Put the dropout of a network in training mode, and nothing else of it, in evaluation mode."""
    for layer in model.modules():
        if isinstance(layer, models.Dropout | nn.modules.dropout._DropoutNd):
            layer.eval()
