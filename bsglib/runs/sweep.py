"""Sweeps: many runs and measures, on the cores of this machine or on a cluster."""

import ast
import asyncio
import contextlib
import dataclasses
import logging
import math
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bsglib import runtime
from bsglib.data import DataError, at_hand, checksum
from bsglib.device_graphs import in_flight
from bsglib.names import digest
from bsglib.runs.build import build_model, dataset_of
from bsglib.runs.finished import Run, stored_run
from bsglib.runs.measures import Measure, stored_measure, take_measure
from bsglib.runs.params import RunConfig
from bsglib.runs.store import Store
from bsglib.runs.train import training

log = logging.getLogger(__name__)

CONNECT_S = 10  # to a scheduler that is running
LOOK_S = 0.1  # between two looks at what has finished, the clock and Ctrl-C
LOG_WAIT_S = 30  # for the log of a worker that died
DASK = {
    "distributed.worker.daemon": True,
    "distributed.admin.log-format": "%(message)s",
    "distributed.scheduler.allowed-failures": 1,  # of a run among others; then it is tried alone
    # results are names: spilling them frees nothing, and a paused worker would stay so, because
    # malloc keeps its memory; one that is about to exceed its share is killed and replaced
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # else the nanny of a worker that is being restarted at the wrong moment, 15 s after an earlier
    # death, is sent away, and when the last one has gone the sweep waits for ever
    "distributed.deploy.lost-worker-timeout": "3650 days",
}
PRELOAD = "from bsglib import runtime\nruntime.share_memory()\n"  # before a worker's thread starts


@dataclass(frozen=True)
class Entry:
    """One run of a study's design: its config, its measures, and its place in the study."""

    config: RunConfig
    measures: tuple[Measure, ...] = ()
    arm: str = ""
    part: int = 1
    optional: bool = False  # skipped without an error if its data are not available
    epoch: int | None = None  # of the config's record_epochs: the state of the run after it
    prefix: RunConfig | None = None  # a run whose first epochs this run may continue
    labels: Mapping[str, str | bool] = field(default_factory=dict)  # columns that identify arms

    def __post_init__(self):
        """Refuse an epoch that the run does not keep or may not reach.

        Raises:
            ValueError: if the run does not keep the epoch, or may stop before it.
        """
        c = self.config
        ends_early = c.patience is not None or c.target_loss is not None
        if self.epoch is not None and (self.epoch not in c.record_epochs or ends_early):
            raise ValueError(
                f"epoch = {self.epoch}: needs a run without patience and target_loss, with this "
                f"epoch in its record_epochs {c.record_epochs}"
            )

    @cached_property
    def run(self) -> str:
        """Return the identity of its config, the same on every machine."""
        return digest(self.config.canonical())

    @cached_property
    def key(self) -> str:
        """Return the identity of config, measures and epoch, the same on every machine."""
        measures = (m.file + m.label for m in self.measures)
        after = () if self.epoch is None else (f"epoch {self.epoch}",)
        return digest(self.config.canonical(), *measures, *after)

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns that place its rows in the study."""
        c = self.config
        place = {"entry": self.key, "arm": self.arm, "batch_size": c.batch_size, "seed": c.seed}
        return place | dict(self.labels)

    @property
    def alone(self) -> "Entry | None":
        """Return the run that ends after this entry's epoch, with the same numbers."""
        if self.epoch is None:
            return None
        config = self.config.model_copy(update={"epochs": self.epoch, "record_epochs": []})
        measures = tuple(dataclasses.replace(measure, epoch=None) for measure in self.measures)
        return dataclasses.replace(self, config=config, measures=measures, epoch=None)

    @property
    def computable(self) -> bool:
        """Return whether its data are available, or required."""
        return not self.optional or at_hand(self.config.dataset)

    @cached_property
    def samples(self) -> int:
        """Return the maximum number of training examples passed forward and backward."""
        passes = 1 if self.config.rho is None else 2
        size = self.config.train_size or len(dataset_of(self.config).train)
        return self.config.epochs * size * passes


class SweepError(RuntimeError):
    """Some runs failed; the others are stored."""


_alone = threading.Lock()


def compute(entry: Entry, root: str) -> str:
    """Train and measure one entry into the store at `root`, one at a time per process.

    A Dask worker may have several threads, which share torch's random state.

    Returns:
        the run's id.
    """
    with _alone:
        ((_, run, error),) = in_flight(iter([computing(entry, Store(root), set())]), 1)
        if error is not None:
            raise error
        return run


def computing(entry: Entry, store: Store, under_way: set[str]) -> Generator[None, None, str]:
    """Compute as `compute` does, and yield whenever other runs can continue.

    Args:
        entry: the run to train and measure.
        store: the run store.
        under_way: canonical configs that this process is computing.

    Returns:
        the run's id.
    """
    runtime.single_thread()
    while entry.prefix is not None and entry.prefix.canonical() in under_way:
        yield  # it starts from a state of that run
    under_way.add(entry.config.canonical())
    try:
        run = yield from training(entry.config, store=store, prefix=entry.prefix)
    finally:
        under_way.discard(entry.config.canonical())
    for measure in entry.measures:
        if not run.diverged and stored_measure(run.id, measure, store) is None:
            while measure.start is not None and measure.start.canonical() in under_way:
                yield  # its other run is not finished
            take_measure(run, measure, store)
            yield
        store.remove(run.id, measure.partial)  # not before: a kill would lose the points
    return run.id


def run_of(entry: Entry, store: Store) -> Run | None:
    """Return an entry's run from the store; None if the run or its data are missing."""
    if store.is_empty():  # a folder of images takes a second to check
        return None
    try:
        return stored_run(entry.config, checksum(entry.config.dataset), store)
    except DataError:  # reported when it is computed
        return None


def sweep(
    entries: Sequence[Entry],
    store: Store,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    time_limit_s: float | None = None,
    progress: bool = False,
) -> list[Entry]:
    """Compute entries into the store; return those left at the time limit.

    Args:
        entries: the runs to compute, in this order.
        store: the run store; on a cluster, a folder that all workers share.
        workers: number of processes with one thread each; None: one per core, 0: this process.
        scheduler: address of a Dask scheduler, instead of local workers.
        time_limit_s: stop after so many seconds; interrupted runs resume at the next call.
        progress: show a bar with the remaining time on stderr.

    Returns:
        the entries that were not computed.

    Raises:
        SweepError: after all other entries have finished, if entries failed; or at once, if no
            scheduler answers, or a script calls this outside of its main guard.
    """
    if not entries:
        return []
    _validate(entries)
    tasks = by_run(entries)
    deadline = time.monotonic() + (float("inf") if time_limit_s is None else time_limit_s)
    done, failures = set(), {}
    run_all = _in_process if workers == 0 and scheduler is None else _on_dask
    computed = run_all(tasks, store, workers, scheduler, deadline)
    with _bar(tasks, progress) as bar, contextlib.closing(computed):
        for entry, error in computed:
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


def by_run(entries: Sequence[Entry]) -> list[Entry]:
    """Return one entry per run; if arms share a run, it has the measures of all of them."""
    shared: dict[str, Entry] = {}
    for entry in entries:
        first = shared.setdefault(entry.config.canonical(), entry)
        measures = {measure.file: measure for measure in (*first.measures, *entry.measures)}
        prefix = first.prefix or entry.prefix
        both = dataclasses.replace(first, measures=tuple(measures.values()), prefix=prefix)
        shared[entry.config.canonical()] = both
    return list(shared.values())


def _validate(entries: Sequence[Entry]) -> None:
    """Fail before any computation, not once per run, if data or network do not fit."""
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
    under_way: set[str] = set()
    tasks = (
        computing(entry, store, under_way) for entry in entries if time.monotonic() <= deadline
    )
    count = runtime.in_flight()
    until = deadline if count > 1 else math.inf  # a single one may end
    for place, _, error in in_flight(tasks, count, until=until):
        yield entries[place], error


def _on_dask(entries, store, workers, scheduler, deadline):
    import dask
    from distributed import Client
    from distributed.scheduler import KilledWorker

    if scheduler is None:
        _require_main_guard()
    else:
        _require_scheduler(scheduler)
    with dask.config.set(DASK), _interrupt_noted() as interrupted, contextlib.ExitStack() as stack:
        if scheduler is None:
            workers = min(workers or runtime.cores(), len(entries))
            scheduler = stack.enter_context(_own_workers(workers))
        client = stack.enter_context(Client(scheduler))
        suspects = []
        try:
            for entry, error in _computed(client, entries, store, deadline, interrupted):
                if isinstance(error, KilledWorker):
                    suspects.append(entry)
                else:
                    yield entry, error
            for entry in suspects:  # alone: what had waited for the same worker is innocent
                for _, error in _computed(client, [entry], store, deadline, interrupted):
                    killed = isinstance(error, KilledWorker)
                    yield entry, _death(client, error) if killed else error
        except TimeoutError:
            return


def _require_main_guard() -> None:
    """Fail at once if workers, which import the main script, would start this sweep again."""
    main, frame = vars(sys.modules["__main__"]), sys._getframe()
    while frame and not (frame.f_globals is main and frame.f_code.co_name == "<module>"):
        frame = frame.f_back
    if frame is None or not main.get("__file__"):  # a thread, a notebook, python -c
        return
    tree = ast.parse(Path(main["__file__"]).read_bytes())
    conditions = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    if not any(node.lineno <= frame.f_lineno <= node.end_lineno for node in conditions):
        raise SweepError(
            f"{main['__file__']}, line {frame.f_lineno}: worker processes import this script and "
            'would start the sweep again; put the call under `if __name__ == "__main__":`, or '
            "set workers=0"
        )


def _own_workers(number: int):
    """Return a cluster of some workers on this machine."""
    from distributed import LocalCluster

    with _interrupt_blocked():
        return LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            preload=PRELOAD,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs="CRITICAL",  # what fails is raised; the rest is about how workers end
        )


@contextlib.contextmanager
def _interrupt_noted() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C, yield a function that returns whether it came, and raise it at the end."""
    # Raised inside Dask's code, it breaks off what starts and ends processes, and is lost where a
    # finalizer runs. A signal that is ignored, as in the background of a shell script, stays so.
    before, came = signal.getsignal(signal.SIGINT), []
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """Block Ctrl-C in processes that the block starts, also from its threads."""
    # A terminal sends it to all processes; this one ends its workers, without their tracebacks.
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start, later in such a thread, would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _computed(client, entries, store, deadline, interrupted):
    """Yield finished entries, with None or their error, until deadline or Ctrl-C."""
    from distributed import as_completed

    futures = {  # unique keys: the store, not Dask, knows what is already computed
        client.submit(compute, entry, str(store.root), pure=False, priority=-i): entry
        for i, entry in enumerate(entries)
    }
    deadline = max(deadline, time.monotonic() + 1)
    finished = as_completed(futures)
    while not finished.is_empty():
        if interrupted():
            raise KeyboardInterrupt
        if time.monotonic() > deadline:
            raise TimeoutError
        if not finished.has_ready():
            time.sleep(LOOK_S)
            continue
        future = next(finished)
        if future.status not in ("finished", "error"):
            raise SweepError(
                f"the Dask scheduler {client.scheduler.address} stopped; finished runs are "
                "stored, and the same call continues with the rest"
            )
        yield futures[future], future.exception()


def _death(client, error) -> SweepError:
    """Return the error of a run whose workers died, the last one computing only this run."""
    worker, lines, end = error.last_worker, {}, time.monotonic() + LOG_WAIT_S
    with contextlib.suppress(Exception):  # the log is a help; its machine may be gone as well
        while not lines and time.monotonic() < end:  # a nanny is asked once its next worker is up
            client.wait_for_workers(1, timeout=LOG_WAIT_S)
            logs = client.get_worker_logs(nanny=True).values()  # newest line first
            told = (line for log_of_one in logs for _, line in log_of_one[::-1])
            lines = dict.fromkeys(line for line in told if re.search(rf"\b{worker.pid}\b", line))
            time.sleep(0 if lines else 0.5)
    return SweepError(
        "every worker that computed it died, also without other runs (signal 9 with no other "
        f"message mostly means out of memory): {'; '.join(lines) or f'no log of {worker.address}'}"
    )


def _require_scheduler(address: str) -> None:
    """Fail within seconds, not minutes, if no scheduler answers."""
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
            f"scheduler {address!r}: no Dask scheduler answers ({error}); give the address "
            "that `dask scheduler` prints, such as tcp://127.0.0.1:8786"
        ) from error
