"""Process-wide settings that make small trainings fast; the only place that sets them.

Called where processes start: `keep_memory` when bsglib is imported, `single_thread` by everything
that trains or measures (the notebooks' `check`, the sweep's workers, the command line).
"""

import contextlib
import ctypes
import os

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h


def keep_memory() -> bool:
    """Return whether malloc was told to keep freed memory instead of handing it to the kernel.

    Activations of a large batch are otherwise unmapped and page-faulted in again at every step.
    Only glibc has the switch; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return all(
            [mallopt(option, 2**31 - 1) for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
        )
    return False


def single_thread() -> None:
    """Give torch one thread: runs are spread over processes, one per core.

    Two spinning OpenMP threads beside a busy neighbour are over ten times slower than one, and
    one thread sums in one order, so that float64 results repeat to the last digit.
    """
    torch.set_num_threads(1)


def device() -> torch.device:
    """Return the device runs use: the first accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
