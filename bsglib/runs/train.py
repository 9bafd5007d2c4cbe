"""Train a network, or load it from the run store, or go on where it was interrupted."""

import io
import math
import time
from collections.abc import Generator
from functools import partial

import pandas as pd
import torch
from safetensors.torch import load, load_file, save
from torch import Tensor

from bsglib import device_graphs
from bsglib.data import Dataset
from bsglib.runs.augment import drawn_of
from bsglib.runs.build import (
    batch_size_at,
    batches_of,
    build_optimizer,
    dataset_of,
    dataset_on_device,
    order_of,
    steps_of,
    update_of,
    updates_of,
    without_dropout,
)
from bsglib.runs.checkpoint import content_of, continue_from, record_state, require_prefix, restored
from bsglib.runs.curves import (
    curve_point,
    log_spaced,
    metrics_of,
    reestimate,
    test_in_training_mode,
)
from bsglib.runs.finished import (
    CHECKPOINT,
    PATH,
    TRAINING_VERSION,
    Run,
    environment,
    run_id,
    state_file,
    stored_run,
)
from bsglib.runs.local_sgd import train_apart
from bsglib.runs.params import RunConfig
from bsglib.runs.state import State, fresh
from bsglib.runs.store import Store
from bsglib.schedules import Schedule
from bsglib.weights import flatten, has_batch_norm

CHECKPOINT_EVERY_S = 20.0


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

    Three strategies of Keskar et al. (2017, appendix E) change what an update sees or does: images
    are augmented (`augment`), adversarial examples join each batch (`train_batch`), or several
    proximal steps are taken on it (`Proximal`), which are one update. The running loss is that of
    the first pass over a batch, augmented but without adversarial examples. Whole sets are
    evaluated, and batch norm is re-estimated, on the data as they are.

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
    ((_, run, error),) = device_graphs.in_flight(iter([task]), 1)
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
        nothing; it is for others to go on meanwhile (`device_graphs.in_flight`).

    Returns:
        the finished run.

    Raises:
        ValueError: as `train`.
    """  # noqa: DOC502
    if prefix is not None:
        require_prefix(prefix, config)
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


def _train(
    config: RunConfig,
    dataset: Dataset,
    identity: str,
    store: Store | None,
    prefix: RunConfig | None,
) -> Generator[None, None, Run]:
    begun, dataset = time.process_time(), dataset_on_device(config)
    state = fresh(config, dataset)
    if store is not None:
        store.remove_leftovers(identity)
        if not restored(state, store.folder(identity) / CHECKPOINT, identity):
            state = fresh(config, dataset)
            if prefix is not None and (run := stored_run(prefix, dataset.checksum, store)):
                continue_from(run, state, config.first_epochs)
    saved_at, stopped = time.monotonic(), _stopped(state, config)
    while not stopped:
        _begin_epoch(state, config, dataset)
        left = time.perf_counter(), time.process_time()
        yield  # the turns of others, which are not part of this run's times
        state.begun_at += time.perf_counter() - left[0]
        begun += time.process_time() - left[1]
        _train_epoch(state, config, dataset)
        state.history[-1] |= curve_point(state, config, dataset)
        _judge(state, config)
        if len(state.history) in config.record_epochs:
            record_state(state, identity, store)
        stopped = _stopped(state, config)
        if stopped and "train_loss" not in state.history[-1]:
            state.history[-1] |= metrics_of(state, dataset)
        if config.evaluate_as_run and "test_loss" in state.history[-1]:
            state.history[-1] |= test_in_training_mode(state, config, dataset)
        if stopped and not math.isfinite(state.history[-1]["train_loss"]):
            stopped = "diverged"  # in the very last update, which no later loss shows
            if state.diverged_at is None:
                state.diverged_at = state.updates
        now = time.process_time()
        state.processor_s, begun = state.processor_s + now - begun, now
        if store is not None and time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
            store.write(identity, CHECKPOINT, content_of(state, identity))
            saved_at = time.monotonic()
    if config.keep == "best_if_stopped" and stopped != "patience":
        state.kept, state.kept_epoch = {}, None
    if state.kept and stopped != "diverged":
        state.model.load_state_dict(state.kept)
        if "train_loss" not in (kept := state.history[state.kept_epoch - 1]):
            kept |= metrics_of(state, dataset)
    if has_batch_norm(state.model) and stopped != "diverged":
        reestimate(state.model, dataset)
    state.processor_s += time.process_time() - begun
    return _finish(config, dataset, identity, store, state, stopped)


def _begin_epoch(state: State, config: RunConfig, dataset: Dataset) -> None:
    """Have the device make an epoch's updates, without waiting for it."""
    epoch, train = len(state.history), dataset.train
    if epoch and epoch == config.first_epochs:
        state.optimizer, state.best, state.steps = build_optimizer(config, state.model), None, None
    updates, schedule = updates_of(config, dataset, epoch)
    if config.record_path:
        state.begin = flatten(state.model.parameters()).clone()
    state.begun_at = time.perf_counter()
    state.model.train()
    if not config.sam_dropout:
        without_dropout(state.model)
    if config.local_workers == 1:
        if state.steps is None:
            size = batch_size_at(config, epoch)
            state.steps = steps_of(config, dataset, state.model, state.optimizer, size)
        lrs = [schedule(state.updates + step) for step in range(updates)]
        drawn = drawn_of(config.seed, epoch, len(train)) if config.augment else None
        state.steps.epoch(order_of(config, train, epoch), lrs, drawn)


def _train_epoch(state: State, config: RunConfig, dataset: Dataset) -> None:
    if state.begun_at is None:
        _begin_epoch(state, config, dataset)
    epoch, train = len(state.history), dataset.train
    size, weights = batch_size_at(config, epoch), list(state.model.parameters())
    updates, schedule = updates_of(config, dataset, epoch)
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


def _apart(
    state: State, config: RunConfig, dataset: Dataset, schedule: Schedule
) -> tuple[Tensor, Tensor]:
    """Make an epoch's updates by local workers; return each step's mean loss and right answers."""
    update = update_of(config, dataset, state.model, state.optimizer)

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


def _judge(state: State, config: RunConfig) -> None:
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


def _stopped(state: State, config: RunConfig) -> str | None:
    if state.diverged_at is not None:
        return "diverged"
    if len(state.history) > config.first_epochs:
        if config.patience is not None and state.stale_epochs >= config.patience:
            return "patience"
        loss, target = state.history[-1]["running_loss"], config.target_loss
        if target is not None and loss <= target:
            return "target_loss"
    return "epochs" if len(state.history) >= config.epochs else None


def _finish(config, dataset, identity, store, state: State, stopped: str) -> Run:
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
        files += [state_file(e) for e in config.record_epochs if e <= len(history)]
        store.finish(identity, result, files)
        store.remove(identity, CHECKPOINT)
        history = pd.read_csv(io.StringIO(buffer.getvalue()))
        kept = {e: store.folder(identity) / state_file(e) for e in config.record_epochs}
        states = {e: partial(load_file, file) for e, file in kept.items() if e <= len(history)}
    else:
        states = {epoch: partial(load, content) for epoch, content in state.states.items()}
    return Run(identity, config, result, history, weights, path, states)
