"""Train a network, or load it from the run store, or go on where it was interrupted."""

import contextlib
import hashlib
import io
import json
import logging
import math
import platform
import time
from collections.abc import Callable, Generator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from bsglib import __version__, graphs, models, runtime
from bsglib.data import Dataset, Split
from bsglib.data import load as load_data
from bsglib.evaluate import evaluate, metrics
from bsglib.local import train_apart
from bsglib.params import ParameterError, RunConfig, digest
from bsglib.sam import SAM
from bsglib.schedules import Schedule
from bsglib.steps import Steps, Update
from bsglib.store import Store
from bsglib.weights import equal_parts, flatten, has_batch_norm, reestimate_batch_norm

log = logging.getLogger(__name__)

TRAINING_VERSION = "2"  # raise it when the numbers of the same config change
CHUNK_SIZE = 128  # examples per forward pass on a CPU: activations stay in its cache
CURVE_EXAMPLES = 1024  # on which batch norm is re-estimated where the test set alone is evaluated
CHECKPOINT_EVERY_S = 20.0
CHECKPOINT, PATH = "checkpoint.safetensors", "path.safetensors"
SPLITS = "train", "validation", "test"
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}


@dataclass(frozen=True)
class Run:
    """A finished run: its config, how it ended, a row per epoch, and the weights kept.

    With `record_path`, `path` holds "norms" of the updates [updates], and the weights [p] after
    some epochs as "weights.0" (the initial ones), "weights.1", ... `states` loads what the network
    was after each of the config's `record_epochs`: weights, buffers and random state.
    """

    id: str
    config: RunConfig
    result: dict
    history: pd.DataFrame
    weights: dict[str, Tensor]
    path: dict[str, Tensor] = field(default_factory=dict)
    states: dict[int, Callable[[], dict[str, Tensor]]] = field(default_factory=dict)

    @property
    def kept(self) -> pd.Series:
        """Return the row of the epoch whose weights were kept."""
        return self.history.iloc[self.result.get("kept_epoch", len(self.history)) - 1]

    @property
    def diverged(self) -> bool:
        """Return whether the loss became infinite or NaN."""
        return self.result["stopped"] == "diverged"

    def model(self, epoch: int | None = None) -> nn.Module:
        """Return the network with the weights kept, in evaluation mode, on the CPU.

        Args:
            epoch: one of the config's `record_epochs`: the network as it was after it, batch norm
                re-estimated on the training set, as at the end of a run. None: the weights kept.
        """
        shape, classes = self.result["input_shape"], self.result["classes"]
        with torch.random.fork_rng():
            model = models.build(self.config.network, shape, classes, **self.config.network_options)
        model.to(DTYPES[self.config.dtype])
        if epoch is None:
            model.load_state_dict(self.weights)
        else:
            model.load_state_dict(_below("model.", self.states[epoch]()))
            if has_batch_norm(model):
                model.to(runtime.device())
                _reestimate(model, dataset_on_device(self.config))
                model.cpu()
        return model.eval()


def run_id(config: RunConfig, data_checksum: str) -> str:
    """Return the identity of a run: config, data, kind of device, training version."""
    return digest(config.canonical(), data_checksum, runtime.device().type, TRAINING_VERSION)


def dataset_of(config: RunConfig) -> Dataset:
    """Return the data a config names, split as it says.

    Raises:
        ParameterError: if the batch is larger than the training set.
    """
    dataset = load_data(config.dataset, **_split_of(config))
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


def train(
    config: RunConfig,
    *,
    store: Store | None = None,
    resume: bool = True,
    prefix: RunConfig | None = None,
) -> Run:
    """Return the run of a config: loaded if stored, else trained, from its checkpoint if any.

    The initial weights depend on the seed alone, so batch sizes share them; every epoch is
    shuffled anew and uses every example. A loss that stops being finite ends the run and is
    recorded. In float64 on a CPU the same config gives the same numbers, interrupted or not.

    Whole sets are evaluated after the last epoch, and after "every" one or "log"-spaced ones: 1, 2,
    3, 4, 6, 8, 11, 16, ...; with "validation" also at those and at the one whose weights are kept,
    and at all others that set alone; with "test" at the spaced ones the test set alone, batch norm
    re-estimated on the first CURVE_EXAMPLES training examples; with "last" at no other. With
    `evaluate_as_run` the test set is also evaluated as in code that never leaves training mode:
    dropout on, batch norm on the statistics of each test batch, which is as large as a training
    batch. `test_loss_as_run` and `test_accuracy_as_run` stand beside the others.

    With several local workers (local SGD, Lin et al. 2020, arXiv 1808.07217) each makes
    `local_steps` updates on batches of its own, at the learning rate of its own batch size; then
    their weights are averaged, as they are at the end of an epoch. An update is then one of each.

    Args:
        config: what to train.
        store: where runs are kept; None trains without keeping anything.
        resume: use a checkpoint of an interrupted run.
        prefix: a run whose first epochs are the `first_epochs` of this one. Where it is stored with
            its state after them, training starts from there, with the same numbers.

    Returns:
        the finished run.

    Raises:
        ValueError: if `prefix` is not such a run.
    """
    task = training(config, store=store, resume=resume, prefix=prefix)
    ((_, run, error),) = graphs.in_flight(iter([task]), 1)
    if error is not None:
        raise error
    return run


def training(
    config: RunConfig,
    *,
    store: Store | None = None,
    resume: bool = True,
    prefix: RunConfig | None = None,
) -> Generator[None, None, Run]:
    """Do what `train` does, and yield each time when the device has an epoch to work on.

    Yields:
        nothing; it is for others to go on meanwhile (`graphs.in_flight`).

    Returns:
        the finished run.

    Raises:
        ValueError: as `train`.
    """  # noqa: DOC502
    if prefix is not None:
        _require_prefix(prefix, config)
    dataset = dataset_of(config)
    identity = run_id(config, dataset.checksum)
    if store is None:
        return (yield from _train(config, dataset, identity, None, None))
    if (run := stored_run(config, dataset.checksum, store)) is None:  # reading needs no lock
        with store.lock(identity):
            store.result(identity, set_aside=True)
            run = stored_run(config, dataset.checksum, store)  # of a process that held the lock
            if run is None:
                if not resume:
                    store.remove(identity, CHECKPOINT)
                return (yield from _train(config, dataset, identity, store, prefix))
    store.remove(identity, CHECKPOINT)  # left where a kill came between the result and this
    return run


def stored_run(config: RunConfig, data_checksum: str, store: Store) -> Run | None:
    """Return a complete run from the store, None if it is not there."""
    identity = run_id(config, data_checksum)
    if (result := store.result(identity)) is None:
        return None
    folder = store.folder(identity)
    history = pd.read_csv(folder / "history.csv")
    weights = load((folder / "final.safetensors").read_bytes())
    path = load((folder / PATH).read_bytes()) if PATH in result["files"] else {}
    kept = [e for e in config.record_epochs if _state_file(e) in result["files"]]
    states = {epoch: partial(load_file, folder / _state_file(epoch)) for epoch in kept}
    return Run(identity, config, result, history, weights, path, states)


def _state_file(epoch: int) -> str:
    return f"state-{epoch}.safetensors"


@dataclass
class _State:
    """What a checkpoint holds, besides the random state."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    initial: Tensor  # weights [p], drawn anew from the seed
    history: list[dict] = field(default_factory=list)
    updates: int = 0
    best: float | None = None  # of what patience looks at: an accuracy, or minus a loss
    stale_epochs: int = 0
    diverged_at: int | None = None
    wall_time_s: float = 0.0
    processor_s: float = 0.0  # evaluation included
    kept_epoch: int | None = None  # of the best weights; None: the last ones are kept
    kept: dict[str, Tensor] = field(default_factory=dict)  # those weights, and buffers
    norms: list[Tensor] = field(default_factory=list)  # of the updates, epoch by epoch
    path: dict[str, Tensor] = field(default_factory=dict)  # weights [p] by the number of epochs
    states: dict[int, bytes] = field(default_factory=dict)  # after `record_epochs`, without a store
    steps: Steps | None = None  # made when they begin, and when the optimizer is another one
    begun_at: float | None = None  # of the epoch that the device works on
    begin: Tensor | None = None  # weights [p] then, where the path is recorded


def _train(
    config: RunConfig,
    dataset: Dataset,
    identity: str,
    store: Store | None,
    prefix: RunConfig | None,
) -> Generator[None, None, Run]:
    begun, dataset = time.process_time(), dataset_on_device(config)
    state = _fresh(config, dataset)
    if store is not None:
        store.remove_leftovers(identity)
        if not _restored(state, store.folder(identity) / CHECKPOINT, identity):
            state = _fresh(config, dataset)
            if prefix is not None and (run := stored_run(prefix, dataset.checksum, store)):
                _continue_from(run, state, config.first_epochs)
    saved_at, stopped = time.monotonic(), _stopped(state, config)
    while not stopped:
        _begin_epoch(state, config, dataset)
        left = time.perf_counter(), time.process_time()
        yield  # the turns of others, which are not part of this run's times
        state.begun_at += time.perf_counter() - left[0]
        begun += time.process_time() - left[1]
        _train_epoch(state, config, dataset)
        state.history[-1] |= _curve_point(state, config, dataset)
        _judge(state, config)
        if len(state.history) in config.record_epochs:
            _record_state(state, identity, store)
        stopped = _stopped(state, config)
        if stopped and "train_loss" not in state.history[-1]:
            state.history[-1] |= _metrics(state, dataset)
        if config.evaluate_as_run and "test_loss" in state.history[-1]:
            state.history[-1] |= _test_in_training_mode(state, config, dataset)
        if stopped and not math.isfinite(state.history[-1]["train_loss"]):
            stopped = "diverged"  # in the very last update, which no later loss shows
            if state.diverged_at is None:
                state.diverged_at = state.updates
        now = time.process_time()
        state.processor_s, begun = state.processor_s + now - begun, now
        if store is not None and time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
            store.write(identity, CHECKPOINT, _checkpoint(state, identity))
            saved_at = time.monotonic()
    if config.keep == "best_if_stopped" and stopped != "patience":
        state.kept, state.kept_epoch = {}, None
    if state.kept and stopped != "diverged":
        state.model.load_state_dict(state.kept)
        if "train_loss" not in (kept := state.history[state.kept_epoch - 1]):
            kept |= _metrics(state, dataset)
    if has_batch_norm(state.model) and stopped != "diverged":
        _reestimate(state.model, dataset)
    state.processor_s += time.process_time() - begun
    return _finish(config, dataset, identity, store, state, stopped)


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
    """Return the config's optimizer, inside SAM if it has a radius."""
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


def batches_of(config: RunConfig, train: Split, epoch: int) -> tuple[Tensor, ...]:
    """Return the places in the training set of an epoch's batches; the last may be smaller.

    With local workers a batch holds those of all.
    """
    shuffle = torch.from_numpy(order_of(config, train, epoch)).to(train.y.device)
    return shuffle.split(batch_size_at(config, epoch) * config.local_workers)


def order_of(config: RunConfig, train: Split, epoch: int) -> np.ndarray:
    """Return the places in the training set in the order of an epoch."""
    drawn = epoch if config.shuffle == "every" else 0
    return np.random.default_rng([config.seed, drawn]).permutation(len(train))


def _fresh(config: RunConfig, dataset: Dataset) -> _State:
    torch.manual_seed(config.seed)
    model = build_model(config, dataset)
    return _State(model, build_optimizer(config, model), flatten(model.parameters()).clone())


def train_batch(
    model, optimizer, x: Tensor, y: Tensor, *, autocast: bool, divisor: float | None = None
) -> tuple[Tensor, Tensor]:
    """Make one update on a batch and return its mean loss and right answers before the update.

    The batch is worked through in chunks whose gradients add up, unless the network has batch
    norm, which needs the batch whole. Of a network on several devices (DDP), only the last chunk
    exchanges gradients.

    Args:
        model, optimizer: the network, in training mode, and the optimizer of its weights.
        x, y: inputs [n, ...] and labels int64 [n].
        autocast: compute in bfloat16 where that is safe.
        divisor: what the sum of the losses is divided by; None is n, which gives their mean.

    Returns:
        mean loss and number of right answers, both scalars on the device of x.
    """
    divisor = len(y) if divisor is None else divisor
    alone = getattr(model, "no_sync", contextlib.nullcontext)
    whole = x.device.type != "cpu" or has_batch_norm(model)
    chunk_size = len(x) if whole else CHUNK_SIZE
    passes = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        total, correct = 0.0, 0
        chunks = list(zip(x.split(chunk_size), y.split(chunk_size), strict=True))
        for place, (part, labels) in enumerate(chunks, 1):
            with contextlib.nullcontext() if place == len(chunks) else alone():
                with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
                    outputs = model(part).to(x.dtype)
                loss = nn.functional.cross_entropy(outputs, labels, reduction="sum") / divisor
                loss.backward()
            total = total + loss.detach()
            correct = correct + (outputs.detach().argmax(1) == labels).sum()
        passes.append((total, correct))
        return total

    optimizer.step(closure)
    return passes[0]  # SAM makes a second pass, away from the weights


def _begin_epoch(state: _State, config: RunConfig, dataset: Dataset) -> None:
    """Have the device make an epoch's updates, without waiting for it."""
    epoch, train = len(state.history), dataset.train
    if epoch and epoch == config.first_epochs:
        state.optimizer, state.best, state.steps = build_optimizer(config, state.model), None, None
    updates, schedule = _updates_of(config, dataset, epoch)
    if config.record_path:
        state.begin = flatten(state.model.parameters()).clone()
    state.begun_at = time.perf_counter()
    state.model.train()
    if not config.sam_dropout:
        _without_dropout(state.model)
    if config.local_workers == 1:
        if state.steps is None:
            size = batch_size_at(config, epoch)
            state.steps = steps_of(config, dataset, state.model, state.optimizer, size)
        lrs = [schedule(state.updates + step) for step in range(updates)]
        state.steps.epoch(order_of(config, train, epoch), lrs)


def _updates_of(config: RunConfig, dataset: Dataset, epoch: int) -> tuple[int, Schedule]:
    """Return the number of an epoch's updates and their learning rates."""
    size = batch_size_at(config, epoch)
    updates = -(-len(dataset.train) // (size * config.local_workers))
    return updates, schedule_of(config, size, updates)


def _train_epoch(state: _State, config: RunConfig, dataset: Dataset) -> None:
    if state.begun_at is None:
        _begin_epoch(state, config, dataset)
    epoch, train = len(state.history), dataset.train
    size, weights = batch_size_at(config, epoch), list(state.model.parameters())
    updates, schedule = _updates_of(config, dataset, epoch)
    if config.local_workers == 1:
        losses, correct = state.steps.losses()
    else:
        losses, correct = _apart(state, config, dataset, schedule)
    sizes = torch.full((updates,), float(size * config.local_workers), dtype=torch.float64)
    sizes[-1] = len(train) - sizes[:-1].sum()
    infinite = (~losses.isfinite()).nonzero()
    if len(infinite):
        state.diverged_at = state.updates + int(infinite[0])
    state.wall_time_s += time.perf_counter() - state.begun_at
    state.begun_at = None
    state.updates += updates
    row = {
        "epoch": epoch + 1,
        "updates": state.updates,
        "lr": schedule(state.updates - 1),
        "running_loss": float((losses * sizes).sum() / sizes.sum()),
        "running_accuracy": int(correct.sum()) / len(train),
    }
    if config.record_path:
        now = flatten(weights)
        row |= {"distance": float((now - state.initial).double().norm())}
        row |= {"epoch_distance": float((now - state.begin).double().norm())}
        norms = state.steps.norms.clone().cpu()
        before = state.history[-1]["path_length"] if state.history else 0.0
        row |= {"path_length": before + float(norms.double().sum())}
        state.norms.append(norms)
        if epoch == 0:
            state.path["0"] = state.initial.cpu()
        if log_spaced(epoch + 1):
            state.path[str(epoch + 1)] = now.cpu()
    state.history.append(row)


def _update_of(config: RunConfig, dataset: Dataset, model, optimizer) -> Update:
    train = dataset.train

    def update(index: Tensor) -> tuple[Tensor, Tensor]:
        x, y = dataset.as_input(train.x[index], DTYPES[config.dtype]), train.y[index]
        return train_batch(model, optimizer, x, y, autocast=config.dtype == "bfloat16")

    return update


def steps_of(config: RunConfig, dataset: Dataset, model, optimizer, batch_size: int) -> Steps:
    """Return the updates of a network in training mode, an epoch at a time."""
    return Steps(
        _update_of(config, dataset, model, optimizer),
        optimizer,
        list(model.parameters()),
        list(model.buffers()),
        examples=len(dataset.train),
        batch_size=batch_size,
        path=config.record_path,
    )


def _apart(
    state: _State, config: RunConfig, dataset: Dataset, schedule: Schedule
) -> tuple[Tensor, Tensor]:
    """Make an epoch's updates by local workers; return each step's mean loss and right answers."""
    update = _update_of(config, dataset, state.model, state.optimizer)

    def at_its_rate(step: int, index: Tensor) -> tuple[Tensor, Tensor]:
        for group in state.optimizer.param_groups:
            group["lr"] = schedule(state.updates + step)
        return update(index)

    found = []
    numbered = list(enumerate(batches_of(config, dataset.train, len(state.history))))
    for first in range(0, len(numbered), config.local_steps):
        steps = numbered[first : first + config.local_steps]
        found += train_apart(state.model, steps, config.local_workers, at_its_rate)
    losses, correct = zip(*found, strict=True)
    return torch.stack(losses).double().cpu(), torch.stack(correct).cpu()


def _judge(state: _State, config: RunConfig) -> None:
    """See whether the last epoch was better than all before, and keep its weights if asked to."""
    row = state.history[-1]
    value = {
        "accuracy": row["running_accuracy"],
        "loss": -row["running_loss"],
        "validation_loss": -row.get("validation_loss", math.nan),
    }[config.patience_on]
    improved = state.best is None or value > state.best
    state.best = value if improved else state.best
    state.stale_epochs = 0 if improved else state.stale_epochs + 1
    if improved and config.keep != "last":
        state.kept_epoch = len(state.history)
        state.kept = {name: t.clone() for name, t in state.model.state_dict().items()}


def _stopped(state: _State, config: RunConfig) -> str | None:
    if state.diverged_at is not None:
        return "diverged"
    if len(state.history) > config.first_epochs:
        if config.patience is not None and state.stale_epochs >= config.patience:
            return "patience"
        loss, target = state.history[-1]["running_loss"], config.target_loss
        if target is not None and loss <= target:
            return "target_loss"
    return "epochs" if len(state.history) >= config.epochs else None


def _curve_point(state: _State, config: RunConfig, dataset: Dataset) -> dict[str, float]:
    """Return what is evaluated after an epoch: see `train`."""
    mode, epoch = config.evaluate, len(state.history)
    spaced = log_spaced(epoch)
    if (
        epoch in config.record_epochs
        or mode == "every"
        or (spaced and mode in ("log", "validation"))
    ):
        return _metrics(state, dataset)
    if mode == "validation":
        return _metrics(state, dataset, ("validation",))
    if mode != "test" or not spaced:
        return {}
    model = state.model
    if has_batch_norm(model):
        model = deepcopy(model)
        _reestimate(model, dataset, CURVE_EXAMPLES)
    return _evaluated_on(("test",), model, dataset)


def _without_dropout(model: nn.Module) -> None:
    """Put the dropout of a network in training mode, and nothing else of it, in evaluation mode."""
    for layer in model.modules():
        if isinstance(layer, models.Dropout | nn.modules.dropout._DropoutNd):
            layer.eval()


def _test_in_training_mode(state: _State, config: RunConfig, dataset: Dataset) -> dict[str, float]:
    """Return loss and accuracy on the test set in training mode; the run itself is as before."""
    test, epoch = dataset.test, len(state.history)
    order = np.random.default_rng([config.seed, epoch, 1]).permutation(len(test))
    index = torch.from_numpy(order).to(test.y.device)
    as_input = partial(dataset.as_input, dtype=DTYPES[config.dtype])
    with torch.random.fork_rng():
        model = deepcopy(state.model).train()  # whose running statistics move
        batches = {"as_input": as_input, "chunk_size": config.batch_size}
        found = metrics(model, test.x[index], test.y[index], **batches)
    return {"test_loss_as_run": found.loss, "test_accuracy_as_run": found.accuracy}


def log_spaced(epoch: int) -> bool:
    """Return whether an epoch is 1, 2, 3, 4, 6, 8, 11, 16, ...: factors of about 1.4."""
    return epoch in {round(2 ** (k / 2)) for k in range(40)}


def _metrics(state: _State, dataset: Dataset, splits: Sequence[str] = SPLITS) -> dict[str, float]:
    """Return loss and accuracy on some splits, batch norm on statistics of the training set.

    The running averages lag behind by as many updates as they are long, whole epochs of a large
    batch: what they give stands beside, and is no generalization gap.
    """
    row = _evaluated_on(splits, state.model, dataset)
    if not has_batch_norm(state.model):
        return row
    model = deepcopy(state.model)
    _reestimate(model, dataset)
    before = {f"{name}_before_reestimation": value for name, value in row.items()}
    return _evaluated_on(splits, model, dataset) | before


def _evaluated_on(splits: Sequence[str], model: nn.Module, dataset: Dataset) -> dict[str, float]:
    as_input = partial(dataset.as_input, dtype=next(model.parameters()).dtype)
    row = {}
    for name in splits:
        split = getattr(dataset, name)
        if len(split):
            found = evaluate(model, split.x, split.y, as_input=as_input)
            row |= {f"{name}_loss": found.loss, f"{name}_accuracy": found.accuracy}
    return row


def _reestimate(model: nn.Module, dataset: Dataset, examples: int | None = None) -> None:
    """Average the batch statistics over the training set, or over its first examples."""
    dtype = next(model.parameters()).dtype
    parts = equal_parts(dataset.train.x[:examples], 1024)
    reestimate_batch_norm(model, (dataset.as_input(part, dtype) for part in parts))


PLAIN = (
    "history",
    "updates",
    "best",
    "stale_epochs",
    "diverged_at",
    "wall_time_s",
    "processor_s",
    "kept_epoch",
)


def _checkpoint(state: _State, identity: str) -> bytes:
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    tensors |= {f"rng.{name}": t for name, t in runtime.random_states().items()}
    tensors |= {f"kept.{name}": t for name, t in state.kept.items()}
    tensors |= {f"norms.{epoch}": t for epoch, t in enumerate(state.norms)}
    tensors |= {f"path.{epoch}": t for epoch, t in state.path.items()}
    scalars = {}
    for index, slots in state.optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            kept = tensors if isinstance(value, Tensor) else scalars
            kept[f"optimizer.{index}.{name}"] = value
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    plain = json.dumps({name: getattr(state, name) for name in PLAIN} | {"optimizer": scalars})
    checksum = _checksum(tensors, plain)
    return save(tensors, {"run_id": identity, "state": plain, "checksum": checksum})


def _checksum(tensors: dict[str, Tensor], plain: str) -> str:
    total = hashlib.sha256(plain.encode())
    for name in sorted(tensors):
        total.update(name.encode() + tensors[name].numpy().tobytes())
    return total.hexdigest()


def _restored(state: _State, path: Path, identity: str) -> bool:
    """Bring a fresh state to where a checkpoint was written; False if there is no sound one."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["checksum"] != _checksum(tensors, metadata["state"]):
            raise ValueError("its checksum is wrong")
        if metadata.get("run_id", identity) != identity:
            raise ValueError(f"it belongs to the run {metadata['run_id']}")
        plain = json.loads(metadata["state"])
        slots: dict[int, dict] = {}
        for name, value in (
            _below("optimizer.", tensors) | _below("optimizer.", plain["optimizer"])
        ).items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = value
        for index, w in enumerate(state.model.parameters()):
            for slot, value in slots.get(index, {}).items():
                if isinstance(value, Tensor) and value.shape == w.shape:  # a fused step does not
                    slots[index][slot] = torch.empty_like(w).copy_(value)  # look at its layout
        groups = state.optimizer.state_dict()["param_groups"]
        state.model.load_state_dict(_below("model.", tensors))
        state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        runtime.set_random_states(_below("rng.", tensors))
        state.kept, state.path = _below("kept.", tensors), _below("path.", tensors)
        norms = _below("norms.", tensors)
        state.norms = [norms[str(epoch)] for epoch in range(len(norms))]
        for name in PLAIN:
            setattr(state, name, plain[name])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        log.warning("checkpoint %s is damaged (%s): training starts anew", path, error)
        return False
    return True


def _record_state(state: _State, identity: str, store: Store | None) -> None:
    """Keep what the network is after this epoch, for measures and for runs that go on from it."""
    epoch = len(state.history)
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    tensors |= {f"rng.{name}": t for name, t in runtime.random_states().items()}
    content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    if store is None:
        state.states[epoch] = content
    else:
        store.write(identity, _state_file(epoch), content)


def _require_prefix(prefix: RunConfig, config: RunConfig) -> None:
    """Refuse a run whose first epochs differ from the `first_epochs` of another.

    Raises:
        ValueError: naming the fields that differ.
    """
    same = {"batch_size": config.first_batch_size, "first_batch_size": None, "first_epochs": 0}
    free = {"epochs", "patience", "patience_on", "target_loss", "record_epochs"}
    expected = config.model_copy(update=same).model_dump(exclude=free)
    differ = [
        name for name, value in prefix.model_dump(exclude=free).items() if value != expected[name]
    ]
    if differ or config.keep != "last" or config.record_path:
        raise ValueError(f"prefix: its first epochs are not those of the run, by {differ}")


def _continue_from(run: Run, state: _State, epochs: int) -> None:
    """Bring a fresh state to where a run was after some epochs, if it kept that.

    The optimizer starts anew at the switch, so its state is not needed.
    """
    if epochs not in run.states:
        return
    tensors = run.states[epochs]()
    state.model.load_state_dict(_below("model.", tensors))
    runtime.set_random_states(_below("rng.", tensors))
    rows = run.history.iloc[:epochs].to_dict("records")
    state.history = [{k: v for k, v in row.items() if not pd.isna(v)} for row in rows]
    state.updates = int(state.history[-1]["updates"])


def _below(prefix: str, values: dict) -> dict:
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}


def _finish(config, dataset, identity, store, state: _State, stopped: str) -> Run:
    weights = {
        name: t.detach().cpu().contiguous().clone() for name, t in state.model.state_dict().items()
    }
    path = {f"weights.{epoch}": t for epoch, t in state.path.items()}
    path |= {"norms": torch.cat(state.norms)} if state.norms else {}
    history = pd.DataFrame(state.history)
    result = {
        "run_id": identity,
        "stopped": stopped,
        "diverged_at": state.diverged_at,
        "kept_epoch": state.kept_epoch or len(state.history),
        "epochs": len(state.history),
        "updates": state.updates,
        "wall_time_s": state.wall_time_s,
        "processor_s": state.processor_s,
        "input_shape": list(dataset.input_shape),
        "classes": len(dataset.classes),
        "train_size": len(dataset.train),
        "data_checksum": dataset.checksum,
        "training_version": TRAINING_VERSION,
    } | environment()
    result |= {} if state.steps is None else state.steps.report
    if store is not None:
        buffer = io.StringIO()
        history.to_csv(buffer, index=False)
        store.write_json(identity, "config.json", config.model_dump())
        store.write(identity, "history.csv", buffer.getvalue().encode())
        store.write(identity, "final.safetensors", save(weights))
        files = ["config.json", "history.csv", "final.safetensors"]
        if path:
            store.write(identity, PATH, save(path))
            files.append(PATH)
        files += [_state_file(e) for e in config.record_epochs if e <= len(history)]
        store.finish(identity, result, files)
        store.remove(identity, CHECKPOINT)
        history = pd.read_csv(io.StringIO(buffer.getvalue()))
        kept = {e: store.folder(identity) / _state_file(e) for e in config.record_epochs}
        states = {e: partial(load_file, file) for e, file in kept.items() if e <= len(history)}
    else:
        states = {epoch: partial(load, content) for epoch, content in state.states.items()}
    return Run(identity, config, result, history, weights, path, states)


def environment() -> dict[str, str | int]:
    """Return versions, processor and threads, for the record."""
    return {
        "python_version": platform.python_version(),
        "bsglib_version": __version__,
        "torch_version": torch.__version__,
        "numpy_version": np.__version__,
        "device": runtime.device().type,
        "processor": runtime.processor(),
        "threads": torch.get_num_threads(),
    }
