"""Seconds per epoch: interleaved and repeated, while nothing else of ours runs."""

import contextlib
import time
from collections.abc import Callable, Sequence

from bsglib import runtime
from bsglib.names import digest
from bsglib.runs.build import (
    DTYPES,
    build_model,
    build_optimizer,
    dataset_of,
    options_of,
    train_batch,
)
from bsglib.runs.finished import environment
from bsglib.runs.params import RunConfig
from bsglib.runs.store import DamagedError, Store


def epoch_times(configs: Sequence[RunConfig], *, samples: int, repeats: int) -> list[dict]:
    """Return rows of config (its place), repeat, and seconds per epoch, evaluation excluded.

    Each repeat times every config once, so that a slow spell of the machine hits all alike. A
    time is that of `samples` training examples (at least one batch), scaled to the training set.
    """
    runtime.single_thread()
    prepared = [_prepare(config, samples) for config in configs]
    rows = []
    for repeat in range(-1, repeats):  # the first round warms up and is not kept
        for place, epoch in enumerate(prepared):
            rows.append({"config": place, "repeat": repeat, "seconds": epoch()})
    return [row for row in rows if row["repeat"] >= 0]


def _prepare(config: RunConfig, samples: int):
    dataset = dataset_of(config).to(runtime.device())
    model = build_model(config, dataset)
    optimizer = build_optimizer(config, model)
    size, n = config.batch_size, len(dataset.train)
    batches = max(1, min(samples, n) // size)

    def epoch() -> float:
        runtime.wait()
        start = time.perf_counter()
        for first in range(0, batches * size, size):
            batch = slice(first, first + size)
            x = dataset.as_input(dataset.train.x[batch], DTYPES[config.dtype])
            y = dataset.train.y[batch]
            train_batch(model, optimizer, x, y, **options_of(config))
        runtime.wait()
        return (time.perf_counter() - start) * n / (batches * size)

    return epoch


def stored_epoch_times(
    configs: Sequence[RunConfig], store: Store, *, samples: int, repeats: int, compute: bool
) -> dict | None:
    """Return {"rows", and the machine they were taken on} from the store, measured if missing.

    Returns None if nothing is stored and `compute` is False.
    """
    runtime.single_thread()  # part of the identity
    names = [config.canonical() for config in configs]
    identity = "timing-" + digest(*names, str(samples), str(repeats), str(environment()))

    def measured() -> dict:
        return {"rows": epoch_times(configs, samples=samples, repeats=repeats)} | environment()

    return stored_timing(identity, store, measured if compute else None)


def stored_timing(identity: str, store: Store, measured: Callable[[], dict] | None) -> dict | None:
    """Return a stored timing, or what `measured` returns, which is stored; None without either."""
    with contextlib.suppress(DamagedError):  # it is for the holder of the lock; reading needs none
        if (content := store.read_json(identity, "timing.json")) is not None or measured is None:
            return content
    with store.lock(identity):
        try:
            content = store.read_json(identity, "timing.json")
        except DamagedError as error:
            store.set_aside(identity, str(error))
            content = None
        if content is None and measured is not None:
            content = measured()
            store.write_json(identity, "timing.json", content)
    return content


def duration(seconds: float) -> str:
    """Return a time as people say it: 67.2 s, 67 min, 3 h 05 min, 2 d 04 h."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24:02d} h"
