"""Tests of bsglib.runtime: the settings hold in every kind of process the library runs in."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from bsglib import runtime
from bsglib.runs import sweep
from bsglib.runs.store import Store
from bsglib.runs.sweep import compute

FAULTS = """
import resource, torch
{first}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)  # 64 MiB, twice as much as malloc keeps at most by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()  # the first time takes the memory, and keeps it
print(faults())
"""
PAGES = 20 * 2**26 // 4096  # touched by the second round

GLIBC = platform.libc_ver()[0] == "glibc"
needs_glibc = pytest.mark.skipif(not GLIBC, reason="mallopt's switches are glibc's")


def output_of(script: str) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@needs_glibc
def test_a_process_that_trains_keeps_freed_memory_though_torch_was_there_first():
    prepared = "from bsglib import runtime; runtime.single_thread()"
    handed_back = int(output_of(FAULTS.format(first="")))
    kept = int(output_of(FAULTS.format(first=prepared)))
    if handed_back < PAGES / 1000:
        pytest.skip("this kernel does not count page faults, or maps huge pages")
    assert kept < handed_back / 20


def threads() -> dict[str, int]:
    blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {"torch": torch.get_num_threads(), "blas": max(blas, default=1)}


def test_one_thread_for_a_block_only():
    torch.set_num_threads(2)
    before = threads()
    with pytest.raises(KeyboardInterrupt), runtime.one_thread():
        assert threads() == {"torch": 1, "blas": 1}
        raise KeyboardInterrupt
    assert threads() == before
    runtime.single_thread()
    assert threads() == {"torch": 1, "blas": 1}


@pytest.mark.slow
def test_a_worker_of_a_sweep_has_the_settings(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "compute", settings_of_a_worker)
    entries = [sweep.Entry(tiny())]
    assert sweep.sweep(entries, Store(tmp_path), workers=1) == []
    found = json.loads((tmp_path / "settings.json").read_text())
    assert found["threads"] == {"torch": 1, "blas": 1}
    assert not GLIBC or found["faults"] < PAGES / 20


def settings_of_a_worker(entry, root: str) -> str:
    """Stands for `compute`, and is run by a Dask worker: what holds after a real one."""
    run_id, names = compute(entry, root), {}
    exec(FAULTS.format(first="").replace("print(", "found = ("), names)
    found = {"threads": threads(), "faults": names["found"]}
    Path(root, "settings.json").write_text(json.dumps(found))
    return run_id
