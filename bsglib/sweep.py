"""Many runs and measures, on the cores of this machine or on a cluster."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import re
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from bsglib import runtime
from bsglib.data import DataError, at_hand, checksum
from bsglib.gradients import gradient_agreement
from bsglib.landscape import (
    filter_normalized_direction,
    interpolate,
    loss_surface,
    trajectory_plane,
)
from bsglib.params import ParameterError, RunConfig, digest, nearest
from bsglib.sharpness import hessian_trace, keskar_sharpness, lambda_max, sam_sharpness
from bsglib.store import DamagedError, Store
from bsglib.train import (
    DTYPES,
    Run,
    build_model,
    build_optimizer,
    dataset_of,
    log_spaced,
    stored_run,
    train,
    train_batch,
)
from bsglib.weights import flatten

log = logging.getLogger(__name__)

MEASURES = {
    measure.__name__: measure
    for measure in (keskar_sharpness, lambda_max, hessian_trace, sam_sharpness)
}
LINE = "interpolate"  # the measure that takes a second run
CONNECT_S = 10  # to a scheduler that is running
SAVE_EVERY_S = 5.0  # the points of a surface computed so far
DASK = {
    "distributed.worker.daemon": True,
    "distributed.admin.log-format": "%(message)s",
    "distributed.scheduler.allowed-failures": 1,  # of a run among others; then it is tried alone
    # results are names: spilling them frees nothing, and a paused worker would stay so, because
    # malloc keeps its memory; one that is about to exceed its share is killed and replaced
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
PRELOAD = "from bsglib import runtime\nruntime.share_memory()\n"  # before a worker's thread starts


@dataclass(frozen=True)
class Measure:
    """A function of MEASURES, applied to a run's kept weights and first training examples.

    Or one of ROWS, which give rows:

    - LINE: loss and accuracy between the kept weights of another run, at alpha = 0, and this one's,
      at alpha = 1, over the first training examples and as many test examples, drawn at random
      because a test set may be sorted.
    - "distances": of the kept weights from the initial ones, layer by layer; "whole" for all.
    - "update_norms": their quantiles, of a run with `record_path`.
    - "trajectory": the recorded weights up to the kept ones, in the plane of their two leading
      principal directions.
    - "gradient_agreement": norms of the mean gradients of batches drawn from the first training
      examples, by the `batch_sizes` in its options.
    - "loss_surface": along filter-normalized directions of the `seeds` in its options; goes on
      where it was interrupted.
    """

    name: str
    examples: int
    options: dict[str, Any] = field(default_factory=dict)
    start: RunConfig | None = None  # the other run of a LINE
    label: str = ""  # column of the value in tables; "" is the name

    def __post_init__(self):
        """Refuse a name that no worker would know.

        Raises:
            ValueError: if the name is none of MEASURES and ROWS.
        """
        if self.name not in (known := [*MEASURES, *ROWS]):
            raise ValueError(f"unknown measure {self.name!r}{nearest(self.name, known)}")

    @property
    def column(self) -> str:
        """Return the column of its value in tables."""
        return self.label or self.name

    @property
    def file(self) -> str:
        """Return where a run keeps it."""
        parts = [self.name, str(self.examples), json.dumps(self.options, sort_keys=True)]
        parts += [] if self.start is None else [self.start.canonical()]
        return f"measures/{self.name}-{digest(*parts)}.json"

    @property
    def partial(self) -> str:
        """Return where a run keeps what was computed of it before an interruption."""
        return f"{self.file}.partial"


@dataclass(frozen=True)
class Entry:
    """One run of a study's design: what to train, what to measure, and its part in the study."""

    config: RunConfig
    measures: tuple[Measure, ...] = ()
    arm: str = ""
    part: int = 1
    optional: bool = False  # left out, without an error, where its data are not at hand

    @cached_property
    def key(self) -> str:
        """Return the identity of config and measures, whatever machine computes them."""
        measures = (m.file + m.label for m in self.measures)
        return digest(self.config.canonical(), *measures)

    @property
    def computable(self) -> bool:
        """Return whether its data are at hand, or have to be."""
        return not self.optional or at_hand(self.config.dataset)

    @cached_property
    def samples(self) -> int:
        """Return the training examples passed forward and backward, at most."""
        passes = 1 if self.config.rho is None else 2
        size = self.config.train_size or len(dataset_of(self.config).train)
        return self.config.epochs * size * passes


class SweepError(RuntimeError):
    """Some runs failed; the others are stored."""


_alone = threading.Lock()


def compute(entry: Entry, root: str) -> str:
    """Train and measure one entry into the store at `root`, one at a time in a process.

    A Dask worker may have been started with several threads; torch's random state is shared.

    Returns:
        the run's id.
    """
    with _alone:
        return _compute(entry, root)


def _compute(entry: Entry, root: str) -> str:
    runtime.single_thread()
    store = Store(root)
    run = train(entry.config, store=store)
    for measure in entry.measures:
        if not run.diverged and stored_measure(run.id, measure, store) is None:
            _take(run, measure, store)
        store.remove(run.id, measure.partial)  # not before: a kill would lose the points
    return run.id


def _take(run: Run, measure: Measure, store: Store) -> None:
    """Measure a run into the store, unless another process has done it meanwhile."""
    with store.lock(run.id):
        store.remove_leftovers(run.id)
        if stored_measure(run.id, measure, store) is None:
            content = {"run_id": run.id, "name": measure.name, "examples": measure.examples}
            values = ROWS.get(measure.name, _measure)(run, measure, store)
            content |= {"options": measure.options, "values": values}
            store.write_json(run.id, measure.file, content)


def _line(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    start = train(measure.start, store=store)
    if start.diverged:
        return {"rows": []}
    dataset, n = dataset_of(run.config).to(runtime.device()), measure.examples
    drawn = torch.from_numpy(np.random.default_rng(0).permutation(len(dataset.test))[:n])
    sets = {
        name: (dataset.as_input(split.x[index], DTYPES[run.config.dtype]), split.y[index])
        for name, split, index in (
            ("train", dataset.train, slice(n)),
            ("test", dataset.test, drawn.to(dataset.test.y.device)),
        )
    }
    options = {"low": -1.0, "high": 2.0, "points": 25} | measure.options
    alphas = np.linspace(*(options.pop(name) for name in ("low", "high", "points")))
    model = run.model().to(runtime.device())
    rows = interpolate(model, start.weights, run.weights, sets, alphas=alphas, **options)
    return {"rows": rows.to_dict("records")}


def _distances(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    dataset = dataset_of(run.config)
    with torch.random.fork_rng():
        torch.manual_seed(run.config.seed)
        initial = dict(build_model(run.config, dataset).named_parameters())
    rows = {"whole": {"layer": "whole", "weights": 0, "distance": 0.0, "initial_norm": 0.0}}
    for name, before in initial.items():
        layer, before = name.rpartition(".")[0], before.detach().cpu().double()
        row = rows.setdefault(layer, dict.fromkeys(rows["whole"], 0) | {"layer": layer})
        moved = float((run.weights[name].double() - before).square().sum())
        for r in (row, rows["whole"]):
            r["weights"] += before.numel()
            r["distance"] += moved
            r["initial_norm"] += float(before.square().sum())
    for row in rows.values():
        row |= {name: math.sqrt(row[name]) for name in ("distance", "initial_norm")}
    return {"rows": list(rows.values())}


def _recorded(run: Run, measure: Measure) -> None:
    if not run.path:
        raise ParameterError(f"measure {measure.name!r}: needs a run with 'record_path' = true")


def _update_norms(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    _recorded(run, measure)
    levels = np.linspace(0, 1, 101)
    norms = np.quantile(run.path["norms"].double().numpy(), levels)
    return {"rows": [{"level": q, "norm": n} for q, n in zip(levels, norms.tolist(), strict=True)]}


def _trajectory(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    _recorded(run, measure)
    recorded = (int(name.split(".")[1]) for name in run.path if name.startswith("weights."))
    kept = int(run.result["kept_epoch"])
    before = sorted(epoch for epoch in recorded if epoch < kept)
    if len(before) < 2:  # kept where it started, as it were: three points span a plane
        return {"rows": []}
    weights = [run.path[f"weights.{epoch}"] for epoch in before]
    plane = trajectory_plane(torch.stack([*weights, flatten(run.model().parameters())]))
    epochs = [*before, kept]
    columns = zip(epochs, plane.coordinates.tolist(), strict=True)
    shares = {"explained_a": plane.explained[0], "explained_b": plane.explained[1]}
    return {"rows": [{"epoch": epoch, "a": a, "b": b} | shares for epoch, (a, b) in columns]}


def _agreement(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    model, x, y = _on_training_set(run, measure.examples)
    found = gradient_agreement(model, x, y, **measure.options)
    return {"rows": found.rows().to_dict("records")}


def _surface(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    model, x, y = _on_training_set(run, measure.examples)
    options = dict(measure.options)
    seeds = options.pop("seeds")
    directions = [filter_normalized_direction(model, seed=seed) for seed in seeds]
    done: dict[tuple[int, ...], float] = {}
    try:
        stored = store.read_json(run.id, measure.partial) or {"points": []}
        done = {tuple(index): value for index, value in stored["points"]}
    except DamagedError as error:
        log.warning("%s; the surface starts anew", error)
    saved_at = time.monotonic()

    def keep(index: tuple[int, ...], value: float) -> None:
        nonlocal saved_at
        done[index] = value
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            points = [[list(i), v] for i, v in done.items()]
            store.write_json(run.id, measure.partial, {"run_id": run.id, "points": points})
            saved_at = time.monotonic()

    surface = loss_surface(model, x, y, directions=directions, done=done, on_point=keep, **options)
    b = [0.0] if surface.b is None else surface.b.tolist()
    losses = surface.loss.reshape(len(surface.a), -1).tolist()
    return {
        "rows": [
            {"a": a, "b": other, "loss": loss, "cosine": surface.cosine}
            for a, row in zip(surface.a.tolist(), losses, strict=True)
            for other, loss in zip(b, row, strict=True)
        ]
    }


ROWS = {
    LINE: _line,
    "distances": _distances,
    "update_norms": _update_norms,
    "trajectory": _trajectory,
    "gradient_agreement": _agreement,
    "loss_surface": _surface,
}


def _on_training_set(run: Run, examples: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return a run's network and its first training examples, on the device."""
    dataset = dataset_of(run.config).to(runtime.device())
    x = dataset.as_input(dataset.train.x[:examples], DTYPES[run.config.dtype])
    return run.model().to(runtime.device()), x, dataset.train.y[:examples]


def _measure(run: Run, measure: Measure, store: Store) -> dict[str, Any]:
    model, x, y = _on_training_set(run, measure.examples)
    return dataclasses.asdict(MEASURES[measure.name](model, x, y, **measure.options))


def stored_measure(identity: str, measure: Measure, store: Store) -> dict[str, Any] | None:
    """Return the values of a stored measure, None if it is not there or damaged."""
    try:
        content = store.read_json(identity, measure.file)
    except DamagedError as error:
        log.warning("%s; it is measured again", error)
        return None
    return None if content is None else content["values"]


def run_of(entry: Entry, store: Store) -> Run | None:
    """Return an entry's run from the store, None if it is not there, nor if its data are not."""
    try:
        return stored_run(entry.config, checksum(entry.config.dataset), store)
    except DataError:  # told where it is to be computed
        return None


def is_stored(entry: Entry, store: Store) -> bool:
    """Return whether an entry's run and measures are all in the store."""
    run = run_of(entry, store)
    return run is not None and (
        run.diverged or all(stored_measure(run.id, m, store) is not None for m in entry.measures)
    )


def sweep(
    entries: Sequence[Entry],
    store: Store,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    time_limit_s: float | None = None,
    progress: bool = False,
) -> list[Entry]:
    """Compute entries into the store; return those left when the time limit struck.

    Args:
        entries: what to compute, in this order.
        store: where; on a cluster a folder that all workers see.
        workers: processes with one thread each, None for one per core, 0 for this process.
        scheduler: address of a Dask scheduler, instead of workers of our own.
        time_limit_s: stop after so many seconds; interrupted runs resume at the next call.
        progress: show a bar with the time left on stderr.

    Returns:
        the entries that were not computed.

    Raises:
        SweepError: after all others have finished, naming the entries that failed and why; or at
            once, where no scheduler answers.
    """
    if not entries:
        return []
    _validate(entries)
    tasks = _by_run(entries)
    deadline = time.monotonic() + (float("inf") if time_limit_s is None else time_limit_s)
    done, failures = set(), {}
    run_all = _in_process if workers == 0 and scheduler is None else _on_dask
    with _bar(tasks, progress) as bar:
        for entry, error in run_all(tasks, store, workers, scheduler, deadline):
            done.add(entry.config.canonical())
            if error is not None:
                failures[entry.key] = f"{entry.arm}, {entry.config.canonical()}: {error!r}"
            bar.set_postfix_str(f"{len(done)} of {len(tasks)} runs", refresh=False)
            bar.update(entry.samples)
    if failures:
        raise SweepError(
            f"{len(failures)} of {len(tasks)} runs failed:\n" + "\n".join(failures.values())
        )
    return [entry for entry in entries if entry.config.canonical() not in done]


def _by_run(entries: Sequence[Entry]) -> list[Entry]:
    """Return one entry per run: where arms share one, its measures are those of all."""
    shared: dict[str, Entry] = {}
    for entry in entries:
        first = shared.setdefault(entry.config.canonical(), entry)
        measures = {measure.file: measure for measure in (*first.measures, *entry.measures)}
        both = dataclasses.replace(first, measures=tuple(measures.values()))
        shared[entry.config.canonical()] = both
    return list(shared.values())


def _validate(entries: Sequence[Entry]) -> None:
    """Fail before anything is computed, not once per run, where data or network do not fit."""
    kinds = {
        (c.dataset, c.image_size, c.network, str(c.network_options)): entry
        for entry in entries
        for c in [entry.config]
    }
    sizes = ("batch_size", "first_batch_size")
    largest = [max(entries, key=lambda e, size=s: getattr(e.config, size) or 0) for s in sizes]
    for entry in [*largest, *kinds.values()]:
        dataset = dataset_of(entry.config)
        with torch.random.fork_rng():
            build_model(entry.config, dataset)


def _bar(entries: Sequence[Entry], progress: bool) -> tqdm:
    layout = "{percentage:3.0f} % |{bar:30}| {postfix}, {elapsed} gone, {remaining} left"
    total = sum(entry.samples for entry in entries)
    every = 0.5 if sys.stderr.isatty() else 15  # seconds; a log file keeps every line
    options = {"mininterval": every, "disable": not progress, "file": sys.stderr}
    return tqdm(total=total, bar_format=layout, **options)


def _in_process(entries, store, workers, scheduler, deadline):
    for entry in entries:
        if time.monotonic() > deadline:
            return
        try:
            compute(entry, str(store.root))
            yield entry, None
        except Exception as error:
            yield entry, error


def _on_dask(entries, store, workers, scheduler, deadline):
    import dask
    from distributed import Client, LocalCluster
    from distributed.scheduler import KilledWorker

    if scheduler is not None:
        _require_scheduler(scheduler)
    with dask.config.set(DASK):
        cluster = scheduler or LocalCluster(
            n_workers=min(workers or runtime.cores(), len(entries)),
            threads_per_worker=1,
            preload=PRELOAD,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs="ERROR",
        )
        with Client(cluster) as client:
            suspects = []
            try:
                for entry, error in _computed(client, entries, store, deadline):
                    if isinstance(error, KilledWorker):
                        suspects.append(entry)
                    else:
                        yield entry, error
                for entry in suspects:  # alone: what had waited for the same worker is innocent
                    for _, error in _computed(client, [entry], store, deadline):
                        killed = isinstance(error, KilledWorker)
                        yield entry, _death(client, error) if killed else error
            except TimeoutError:
                return
            finally:
                if scheduler is None:
                    cluster.close()


def _computed(client, entries, store, deadline):
    """Yield entries as workers finish them, with None or what failed, until the deadline."""
    from distributed import as_completed

    futures = {  # unique keys: the store, not Dask, knows what is already computed
        client.submit(compute, entry, str(store.root), pure=False, priority=-i): entry
        for i, entry in enumerate(entries)
    }
    left = None if deadline == float("inf") else max(1.0, deadline - time.monotonic())
    for future in as_completed(futures, timeout=left):
        if future.status not in ("finished", "error"):
            raise SweepError(
                f"the Dask scheduler {client.scheduler.address} went away; what is finished is "
                "stored, the same call goes on with the rest"
            )
        yield futures[future], future.exception()


def _death(client, error) -> SweepError:
    """Return what is known about a run whose workers died, at last alone with it."""
    worker, lines = error.last_worker, []
    with contextlib.suppress(Exception):  # the log is a help; its machine may be gone as well
        client.wait_for_workers(1, timeout=60)
        logs = client.get_worker_logs(nanny=True).values()  # newest line first
        lines = [line for log_of_one in logs for _, line in log_of_one[::-1]]
    lines = dict.fromkeys(line for line in lines if re.search(rf"\b{worker.pid}\b", line))
    return SweepError(
        "every worker that computed it died, also alone with it (signal 9 without another word is "
        f"mostly a machine out of memory): {'; '.join(lines) or f'no log of {worker.address}'}"
    )


def _require_scheduler(address: str) -> None:
    """Fail within seconds, not minutes, where no scheduler answers."""
    from distributed import Security
    from distributed.comm import connect

    async def answer() -> None:
        security = Security().get_connection_args("client")
        (await connect(address, timeout=CONNECT_S, **security)).abort()

    try:
        with ThreadPoolExecutor(1) as pool:  # a loop may be running in this thread, as in Jupyter
            pool.submit(asyncio.run, answer()).result()
    except (OSError, ValueError) as error:
        raise SweepError(
            f"scheduler {address!r}: no Dask scheduler answers there ({error}); needed is the "
            "address that `dask scheduler` prints, such as tcp://127.0.0.1:8786"
        ) from error


def megabytes(entries: Sequence[Entry]) -> float:
    """Return about how much disk the runs of entries take: weights, history, measures."""
    sizes: dict[str, float] = {}
    total = 0.0
    for entry in _by_run(entries):
        config = entry.config
        copies = 1  # of the weights
        if config.record_path:
            copies += 1 + sum(map(log_spaced, range(1, config.epochs + 1)))
        sized = config.dataset, str(config.image_size), config.dtype
        kind = digest(*sized, config.network, str(config.network_options))
        if kind not in sizes:
            with torch.random.fork_rng():
                model = build_model(config, dataset_of(config))
            weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
            sizes[kind] = weights / 1e6
        total += copies * sizes[kind] + 0.02
    return total


def seconds(entries: Sequence[Entry]) -> float:
    """Return how long entries would train on one core, from one timed batch of each kind."""
    rates: dict[str, float] = {}
    total = 0.0
    for entry in _by_run(entries):
        config = entry.config
        sizes = config.dataset, str(config.image_size), str(config.batch_size)
        kind = digest(config.network, str(config.network_options), *sizes, config.dtype)
        if kind not in rates:
            rates[kind] = _seconds_per_sample(config)
        total += entry.samples * rates[kind]
    return total


def _seconds_per_sample(config: RunConfig) -> float:
    runtime.single_thread()
    dataset = dataset_of(config).to(runtime.device())
    model = build_model(config, dataset)
    optimizer = build_optimizer(config.model_copy(update={"rho": None}), model)
    x = dataset.as_input(dataset.train.x[: config.batch_size], DTYPES[config.dtype])
    y = dataset.train.y[: config.batch_size]
    times = []
    for _ in range(4):
        start = time.perf_counter()
        loss, _ = train_batch(model, optimizer, x, y, autocast=config.dtype == "bfloat16")
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times) / len(x)
