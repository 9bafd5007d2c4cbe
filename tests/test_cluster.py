"""Tests of sweeps on a cluster of two nodes, and of `bsg compute` when it is interrupted."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from conftest import TINY
from typer.testing import CliRunner

from benchmarks.soak import contents
from bsglib.cli import commands

pytestmark = pytest.mark.slow
PATIENCE_S = 300
HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
PROFILE = {name: value for name, value in TINY.items() if name != "workers"} | {"epochs": 4}
BSG = sys.executable, "-c", HEARS_CTRL_C + "from bsglib.cli import app; app()"  # in the background


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def results(root):
    """Return when each finished run of a store was stored."""
    return {path: path.stat().st_mtime_ns for path in root.glob("*/result.json")}


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    file = tmp_path_factory.mktemp("profile") / "tiny.yaml"
    file.write_text(yaml.safe_dump(PROFILE))
    return str(file)


def arguments(profile, root, *more):
    return ["compute", "surlemont_sam", "--profile", profile, "--store", str(root), *more]


def started(*given):
    """Start `bsg compute` in a group of its own, as a terminal does."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*BSG, *arguments(*given)], **pipes, start_new_session=True)


def complete(profile, root):
    """Call `bsg compute` in this process; return what it has stored, but for the times."""
    done = CliRunner().invoke(commands, arguments(profile, root, "--workers", "0"))
    assert done.exit_code == 0 and "complete" in done.output, done.output
    return runs(root)


@pytest.fixture(scope="module")
def whole(profile, tmp_path_factory):
    return complete(profile, tmp_path_factory.mktemp("whole"))


def runs(root):
    return {n: c for n, c in contents(root).items() if not n.startswith("timing")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and two nodes, each a nanny with a worker, on loopback: address, processes."""
    file = tmp_path_factory.mktemp("cluster") / "scheduler.json"
    dask, at_file = (sys.executable, "-m", "dask"), ("--scheduler-file", str(file))
    loopback = "--host", "127.0.0.1", "--no-dashboard"
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    options = {"start_new_session": True, "env": environment, "stderr": subprocess.DEVNULL}
    head = [*dask, "scheduler", *loopback, "--port", "0", *at_file]
    nodes = [subprocess.Popen(head, **options)]
    try:
        address = wait_for(lambda: file.exists() and json.loads(file.read_text()))["address"]
        node = [*dask, "worker", *loopback, "--nthreads", "1", *at_file]
        nodes += [subprocess.Popen(node, **options) for _ in range(2)]
        yield address, *nodes
    finally:
        for process in nodes:
            killed(process)


def killed(process):
    """Let a node disappear with all that runs on it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_node_that_disappears_leaves_its_runs_to_the_other(cluster, profile, whole, tmp_path):
    address, _, one, _ = cluster
    process = started(profile, tmp_path, "--scheduler", address)
    wait_for(lambda: results(tmp_path))
    killed(one)
    stored = len(results(tmp_path))
    said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0 and "complete" in said, said
    assert runs(tmp_path) == whole
    assert stored < len(results(tmp_path)), "the node disappeared in the middle"


def children(process):
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("computing", [True, False], ids=["computing", "starting"])
def test_ctrl_c_leaves_a_store_that_goes_on_and_no_process(profile, whole, tmp_path, computing):
    process = started(profile, tmp_path, "--workers", "2")
    wait_for(lambda: results(tmp_path) if computing else len(children(process)) >= 2)
    before, left = results(tmp_path), children(process)
    assert len(left) >= 2
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 130 and "the same command continues" in said, said
    assert "Traceback" not in said, said
    assert psutil.wait_procs(left, timeout=10)[1] == []
    assert len(runs(tmp_path)) < len(whole)
    assert complete(profile, tmp_path) == whole
    assert results(tmp_path).items() >= before.items(), "nothing is computed twice"
