"""Process-wide settings that make small trainings fast; the only place that sets them.

Called where processes start, never by an import: `single_thread` by everything that trains or
measures (a study's `run`, the workers of a sweep, timings), `share_memory` by the workers of a
sweep, `need_no_home` by what builds reports.
"""

import atexit
import contextlib
import ctypes
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc, malloc.h
_MOST = 2**31 - 1  # bytes


def keep_memory() -> bool:
    """Return whether malloc was told to keep freed memory instead of handing it to the kernel.

    Activations of a large batch are otherwise unmapped and page-faulted in again at every step.
    Only glibc has the switches; elsewhere nothing happens.
    """
    return _mallopt({_M_MMAP_THRESHOLD: _MOST, _M_TRIM_THRESHOLD: _MOST})


def share_memory() -> bool:
    """Return whether threads started from now on were made to share the main thread's memory.

    For a worker of Dask, which computes in a thread: memory of the thread's own would be in heaps
    of 64 MiB, and whatever is larger would be handed back. Threads that compute at once, as of a
    loss surface, are better off without: they would wait for each other.
    """
    return _mallopt({_M_ARENA_MAX: 1})


def _mallopt(options: dict[int, int]) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return all([mallopt(option, value) for option, value in options.items()])
    return False


def single_thread() -> None:
    """Give this process one thread, and let it keep its memory: runs are spread over processes."""
    keep_memory()
    limit_threads()


def limit_threads() -> None:
    """Give torch and the BLAS behind numpy and scipy one thread.

    Two spinning threads beside a busy neighbour are over ten times slower than one, and one
    thread sums in one order, so that float64 results repeat to the last digit. This needs no
    environment variable: one thread never waits for another, whatever the waiting policy.
    """
    torch.set_num_threads(1)
    _blas_threads(1)


def _blas_threads(limit: int | None) -> contextlib.AbstractContextManager:
    """Give BLAS some threads, None for as many as it has; leaving restores them."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # the pieces do without: torch has its own
        return contextlib.nullcontext()
    return threadpool_limits(limit, user_api="blas")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Do what `limit_threads` does for the duration of a `with` block, then go back."""
    before = torch.get_num_threads()
    try:
        with _blas_threads(None):  # restored on leaving
            limit_threads()
            yield
    finally:
        torch.set_num_threads(before)


def need_no_home() -> None:
    """Let Jupyter and matplotlib use a temporary folder where a user has no home, as in containers.

    Jupyter cannot even be imported without a home folder.
    """
    try:
        Path.home()
    except RuntimeError:
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"):
            os.environ.setdefault(name, folder)


def device() -> torch.device:
    """Return the device runs use: the first accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chunk_size(of: torch.device) -> int:
    """Return the number of examples per forward pass of a measure that suits a device."""
    return 512 if of.type == "cpu" else 4096


def points_per_pass(of: torch.device, examples: int, size: int) -> int:
    """Return the number of networks in a forward pass of a measure that suits a device.

    On an accelerator a pass is as large as one of a whole chunk, and the copies of the networks
    take an eighth of the free memory at most. More examples than a chunk fill the device with one
    network. A CPU gains nothing.

    Args:
        of: the device.
        examples: in a pass.
        size: bytes of a network's weights and buffers.
    """
    if of.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(of)
    return max(1, min(chunk_size(of) // examples, free // 8 // size))


def accelerators() -> int:
    """Return the number of accelerators, 0 where there are none."""
    return torch.cuda.device_count()


def choose_accelerator(index: int) -> None:
    """Make `device` mean one of several accelerators, for this process from now on."""
    torch.cuda.set_device(index)


def in_flight() -> int:
    """Return how many runs one process trains at a time: they share an accelerator."""
    return 8 if device().type == "cuda" else 1


def own_stream() -> "torch.cuda.Stream | None":
    """Return the stream that an accelerator works on for this thread, None on a CPU."""
    return torch.cuda.current_stream() if device().type == "cuda" else None


def another_stream() -> "torch.cuda.Stream | None":
    """Return another stream of an accelerator, None on a CPU."""
    return torch.cuda.Stream() if device().type == "cuda" else None


def graph(work: Callable[[], object], pool: Any = None) -> tuple[Callable[[], None], Any]:
    """Capture work on this thread's stream of an accelerator.

    Args:
        work: on tensors that stay where they are, without waiting for the device.
        pool: memory of graphs that never run at the same time.

    Returns:
        what replays it, and its memory for other graphs.
    """
    torch.cuda.synchronize()
    made = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    with torch.cuda.graph(made, pool, stream, capture_error_mode="thread_local"):
        work()
    return made.replay, made.pool()


def send(values: torch.Tensor, to: torch.Tensor) -> None:
    """Copy a tensor in host memory to one on a device, without waiting for it."""
    values = values if to.device.type == "cpu" else values.pin_memory()
    to.copy_(values, non_blocking=True)


def has_own_stream() -> bool:
    """Return whether this thread works on an accelerator, on another stream than the default."""
    return device().type == "cuda" and own_stream() != torch.cuda.default_stream()


def on_stream(stream: "torch.cuda.Stream | None") -> contextlib.AbstractContextManager:
    """Work on a stream inside a `with` block, as usual if it is None."""
    return contextlib.nullcontext() if stream is None else torch.cuda.stream(stream)


def wait() -> None:
    """Wait until the device has done what it was given, before a clock is read."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def random_states() -> dict[str, torch.Tensor]:
    """Return the states of torch's generators, uint8, by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state()} if device().type == "cuda" else states


def set_random_states(states: dict[str, torch.Tensor]) -> None:
    """Put torch's generators into the states that `random_states` returned."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


class OwnRandom:
    """Random numbers of one's own: torch's generators have these states inside a `with` block.

    It may be entered again and goes on where it was left. On an accelerator the state itself is
    exchanged, not copied: a CUDA graph draws from the state that it was captured with.
    """

    def __init__(self):
        self.cpu = torch.get_rng_state()
        if device().type == "cuda":
            self.cuda = torch.Generator("cuda")
            self.cuda.set_state(torch.cuda.get_rng_state())

    def __enter__(self) -> "OwnRandom":
        self.others = torch.get_rng_state()
        torch.set_rng_state(self.cpu)
        if device().type == "cuda":
            self.others_cuda = _generator().graphsafe_get_state()
            _generator().graphsafe_set_state(self.cuda)
        return self

    def __exit__(self, *error: object) -> None:
        self.cpu = torch.get_rng_state()
        torch.set_rng_state(self.others)
        if device().type == "cuda":
            self.cuda = _generator().graphsafe_get_state()
            _generator().graphsafe_set_state(self.others_cuda)


def renew_random_states() -> None:
    """Put a new state in the place of an accelerator's, which a failed capture has spoilt."""
    if device().type == "cuda":
        _generator().graphsafe_set_state(torch.Generator("cuda"))


def _generator() -> torch.Generator:
    return torch.cuda.default_generators[torch.cuda.current_device()]


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Keep accelerators from rounding float32 to TF32, whose ten bits hide small perturbations."""
    # Any: torch declares the switch on neither.
    backends: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def processor() -> str:
    """Return the name of the device that computes."""
    if device().type == "cuda":
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
