"""One run over several devices: its batches split over processes that exchange gradients (DDP).

Processes are started by torchrun, one per accelerator (NCCL), or on CPUs any number (gloo); this
module is also the program that each of them runs. They meet in a file and talk over the loopback.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from bsglib import runtime
from bsglib.data import Dataset
from bsglib.names import digest
from bsglib.runs.build import (
    DTYPES,
    batches_of,
    build_model,
    build_optimizer,
    dataset_of,
    schedule_of,
    train_batch,
)
from bsglib.runs.finished import environment
from bsglib.runs.params import ParameterError, RunConfig
from bsglib.runs.store import Store
from bsglib.runs.timing import stored_timing
from bsglib.weights import has_batch_norm

TIME_LIMIT_S = 3600.0


class ParallelError(RuntimeError):
    """A process of a parallel run failed, or all of them took too long."""


@dataclass(frozen=True)
class ParallelRun:
    """A run over some processes: losses [updates], seconds of each epoch but the first, weights."""

    config: RunConfig
    processes: int
    losses: np.ndarray
    seconds: tuple[float, ...]
    weights: dict[str, Tensor]


def train_parallel(
    configs: Sequence[RunConfig],
    processes: Sequence[int],
    *,
    epochs: int,
    samples: int | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> list[ParallelRun]:
    """Return a run of each config over each number of processes, each process with one thread.

    Every batch of B examples is split into parts that differ by one example at most; gradients
    are those of the mean over the B examples, whatever the split, in both passes of SAM too. So
    losses and weights are those of `train.train` up to rounding, but for two layers: dropout draws
    other masks in each process, and batch norm uses the statistics of each process's part (ghost
    batch norm), and keeps the running averages of the first.

    Runs take turns, an epoch each, so that a slow spell of the machine hits all alike; processes
    that are not in a run wait. Seconds are read when all processes of a run have finished, after a
    first epoch that is not kept. Nothing is evaluated, and nothing stops a run early.

    Args:
        configs: what to train; `epochs`, `patience` and `target_loss` of theirs do not matter.
        processes: numbers of processes, each at least 1 and at most the batch size. On a CPU they
            may be more than there are cores, which takes longer than it would with as many.
        epochs: epochs to train, at least 1; one less is timed.
        samples: training examples of an epoch, rounded down to whole batches, at least one; None
            trains on all. Seconds are scaled to the training set.
        time_limit_s: seconds after which everything is ended.

    Returns:
        the runs, those of a config side by side.

    Raises:
        ParameterError: if a config cannot be trained, or not over that many processes.
        ParallelError: if a process fails, with its log, or the time limit is reached.
    """
    if epochs < 1:
        raise ParameterError(f"parameter 'epochs' = {epochs}: allowed are values from 1")
    for config in configs:
        _check(config, processes)
    runs = [(config, count) for config in configs for count in processes]
    job = {
        "runs": [[config.model_dump(), count] for config, count in runs],
        "epochs": epochs,
        "samples": samples,
        "time_limit_s": time_limit_s,
    }
    with tempfile.TemporaryDirectory(prefix="bsg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job))
        _launch(folder, max(processes), time_limit_s)
        results = json.loads((folder / "results.json").read_text())
        weights = [load_file(folder / f"{place}.safetensors") for place in range(len(runs))]
    return [
        ParallelRun(*run, np.array(result["losses"]), tuple(result["seconds"]), tensors)
        for run, result, tensors in zip(runs, results, weights, strict=True)
    ]


def _check(config: RunConfig, processes: Sequence[int]) -> None:
    if config.first_epochs:
        raise ParameterError(
            f"parameter 'first_epochs' = {config.first_epochs}: a parallel run has one batch size, "
            "allowed is 0"
        )
    if config.local_workers > 1:
        raise ParameterError(
            f"parameter 'local_workers' = {config.local_workers}: the processes of a parallel run "
            "exchange gradients at every update, allowed is 1"
        )
    for name in ("proximal", "augment", "adversarial"):
        if (value := getattr(config, name)) not in (None, []):
            raise ParameterError(
                f"parameter {name!r} = {value}: a parallel run has no such updates, leave it out"
            )
    dataset = dataset_of(config)
    with torch.random.fork_rng():
        model = build_model(config, dataset)
    normed = has_batch_norm(model)
    last = len(dataset.train) % config.batch_size or config.batch_size
    for count in processes:
        problem = None
        if count < 1:
            problem = "allowed are values from 1"
        elif count > config.batch_size:
            problem = f"'batch_size' = {config.batch_size} has too few examples to be split so"
        elif normed and last // count < 2:
            problem = (
                f"batch norm in {config.network!r} needs two examples in each, and the last batch "
                f"of the {len(dataset.train)} training examples has {last}"
            )
        elif runtime.accelerators() and count > runtime.accelerators():
            problem = f"there are {runtime.accelerators()} accelerators, and each takes one"
        if problem:
            raise ParameterError(f"parameter 'processes' = {count}: {problem}")


def _launch(folder: Path, processes: int, time_limit_s: float) -> None:
    """Run this module in some processes, and leave none of them behind.

    They hold the read end of a pipe, their standard input, and end when its write end is closed:
    by us below, or by the kernel if we are killed.

    Raises:
        ParallelError: if a process fails, or the time limit is reached.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1"]
    command += ["--nproc-per-node", str(processes), "--max-restarts", "0", "--rdzv-id", "bsg"]
    command += ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file"]  # which needs no port
    command += ["--rdzv-endpoint", str(folder / "rendezvous"), "--local-addr", "localhost"]
    command += ["--log-dir", str(folder / "logs"), "--redirects", "3"]
    command += ["-m", "bsglib.runs.ddp", str(folder)]
    with open(folder / "torchrun.log", "wb") as log:
        torchrun = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=_variables()
        )
        try:
            status = torchrun.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            raise ParallelError(
                f"{processes} processes have not finished in {time_limit_s:g} seconds and are "
                "ended; parameter 'time_limit_s' allows more"
            ) from None
        finally:
            torchrun.stdin.close()
            torchrun.terminate()  # nothing if it has ended; else it ends the processes first
            try:
                torchrun.wait(20)
            except subprocess.TimeoutExpired:
                torchrun.kill()
                torchrun.wait()
    if status:
        raise ParallelError(_failure(folder, processes, status))


def _variables() -> dict[str, str]:
    """Return environment variables: ours, modules found where we find them, the loopback alone."""
    variables = {
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "OMP_NUM_THREADS": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for name in loopback:
        variables |= {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
    return os.environ | variables


def _failure(folder: Path, processes: int, status: int) -> str:
    """Return what is known of a failed launch: who, why, and the end of the log."""
    torchrun = (folder / "torchrun.log").read_text(errors="replace")
    reports = sorted(folder.glob("failed-*"), key=lambda path: int(path.name.split("-")[1]))
    first = re.search(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", torchrun, re.S)
    if reports:
        rank, why = int(reports[0].name.split("-")[1]), reports[0].read_text()
    elif first:
        rank, why = int(first[1]), f"it ended with exit code {first[2]}, minus a signal's number"
    else:
        return (
            f"torchrun, to run {processes} processes, ended with exit code {status}. "
            f"Its log ends:\n{_end(torchrun)}"
        )
    logs = (folder / "logs").glob(f"*/*/{rank}/std*.log")
    log = "".join(path.read_text(errors="replace") for path in sorted(logs))
    return f"rank {rank} of {processes} processes failed: {why}\nIts log ends:\n{_end(log)}"


def _end(log: str) -> str:
    return "\n".join(log.splitlines()[-30:]) or "(nothing)"


def stored_parallel_times(
    configs: Sequence[RunConfig],
    store: Store,
    *,
    processes: Sequence[int] = (1, 2, 4),
    samples: int,
    repeats: int,
    compute: bool,
    time_limit_s: float = TIME_LIMIT_S,
) -> dict | None:
    """Return {"rows", and the machine they were taken on} from the store, measured if missing.

    Rows hold config (its place), batch_size, processes, repeat, seconds per epoch as measured by
    `train_parallel`, processor, threads of each process, and cores, which may be fewer than
    processes. Where there are accelerators, numbers of processes above theirs are left out. Returns
    None if nothing is stored and `compute` is False.
    """
    runtime.single_thread()  # part of the identity, as are the cores
    machine = environment() | {"cores": runtime.cores()}
    names = [config.canonical() for config in configs]
    counts = [str(count) for count in processes]
    identity = "parallel-" + digest(*names, *counts, str(samples), str(repeats), str(machine))
    options = {"epochs": repeats + 1, "samples": samples, "time_limit_s": time_limit_s}

    def measured() -> dict:
        fitting = [n for n in processes if n <= (runtime.accelerators() or n)]
        runs = train_parallel(configs, fitting, **options)
        shown = {name: machine[name] for name in ("processor", "threads", "cores")}
        rows = [
            {
                "config": place // len(fitting),
                "batch_size": run.config.batch_size,
                "processes": run.processes,
                "repeat": repeat,
                "seconds": run.seconds[repeat],
            }
            | shown
            for repeat in range(repeats)
            for place, run in enumerate(runs)
        ]
        return {"rows": rows} | machine

    return stored_timing(identity, store, measured if compute else None)


class _Replica:
    """A process's copy of the network of one run, trained on its part of every batch."""

    def __init__(self, config: RunConfig, dataset: Dataset, rank: int, processes: int, group):
        self.config, self.dataset, self.rank, self.processes = config, dataset, rank, processes
        torch.manual_seed(config.seed)  # the same weights everywhere
        self.network = self.model = build_model(config, dataset)
        self.optimizer = build_optimizer(config, self.network)
        if processes > 1:
            self.model = DistributedDataParallel(self.network, process_group=group)
        if rank:  # masks of dropout
            torch.manual_seed(int(np.random.default_rng([config.seed, rank]).integers(2**63)))
        self.random = runtime.random_states()
        self.updates = 0

    def batches(self, epoch: int, samples: int | None) -> tuple[Tensor, ...]:
        """Return the places of the examples of an epoch's whole batches, as many as asked for."""
        size, train = self.config.batch_size, self.dataset.train
        batches = batches_of(self.config, train, epoch)
        if samples is None or samples >= len(train):
            return batches
        return batches[: max(1, samples // size)]

    def train(self, batches: Sequence[Tensor]) -> Tensor:
        """Make an update on each batch and return what this process's parts add to their losses."""
        train, dtype = self.dataset.train, DTYPES[self.config.dtype]
        size = self.config.batch_size
        schedule = schedule_of(self.config, size, -(-len(train) // size))
        runtime.set_random_states(self.random)
        losses = []
        for batch in batches:
            for group in self.optimizer.param_groups:
                group["lr"] = schedule(self.updates)
            part = batch.tensor_split(self.processes)[self.rank]
            divisor = len(batch) / self.processes  # DDP averages over the processes
            if not len(part):  # a last batch of fewer examples than processes
                part, divisor = batch[:1], float("inf")
            x, y = self.dataset.as_input(train.x[part], dtype), train.y[part]
            loss, _ = train_batch(
                self.model,
                self.optimizer,
                x,
                y,
                autocast=self.config.dtype == "bfloat16",
                divisor=divisor,
            )
            losses.append(loss)
            self.updates += 1
        self.random = runtime.random_states()
        return torch.stack(losses).double() / self.processes


def _work(folder: Path, rank: int, processes: int) -> None:
    """Train this process's part of every run; the first process writes what came out."""
    job = json.loads((folder / "job.json").read_text())
    runtime.single_thread()
    if runtime.accelerators():
        runtime.choose_accelerator(rank)
    dist.init_process_group(
        "gloo",  # for barriers, and on CPUs for gradients
        store=dist.FileStore(str(folder / "store"), processes),
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=job["time_limit_s"]),
    )
    runs = [(RunConfig(**values), count) for values, count in job["runs"]]
    groups, exchanges = {}, {}
    for count in sorted({count for _, count in runs}):
        groups[count] = exchanges[count] = dist.new_group(range(count))
        if runtime.accelerators():
            exchanges[count] = dist.new_group(range(count), backend="nccl")
    replicas = {
        place: _Replica(
            config, dataset_of(config).to(runtime.device()), rank, count, exchanges[count]
        )
        for place, (config, count) in enumerate(runs)
        if rank < count
    }
    results = [{"losses": [], "seconds": []} for _ in runs]
    for epoch in range(job["epochs"]):
        for place, (_, count) in enumerate(runs):
            dist.barrier()  # those that are not in this run wait at the next
            if place in replicas:
                losses, seconds = _epoch(replicas[place], epoch, job["samples"], groups[count])
                results[place]["losses"] += losses
                results[place]["seconds"] += [seconds] if epoch else []
    if rank == 0:
        for place, replica in replicas.items():
            weights = replica.network.state_dict().items()
            tensors = {name: t.detach().cpu().contiguous() for name, t in weights}
            save_file(tensors, folder / f"{place}.safetensors")
        (folder / "results.json").write_text(json.dumps(results))
    dist.barrier()
    dist.destroy_process_group()


def _epoch(replica: _Replica, epoch: int, samples: int | None, group) -> tuple[list[float], float]:
    """Return the losses of an epoch's updates, and its seconds scaled to the training set."""
    batches = replica.batches(epoch, samples)
    runtime.wait()
    dist.barrier(group)
    start = time.perf_counter()
    losses = replica.train(batches)
    runtime.wait()
    dist.barrier(group)
    seconds = time.perf_counter() - start
    losses = losses.cpu()
    dist.all_reduce(losses, group=group)
    scale = len(replica.dataset.train) / sum(len(batch) for batch in batches)
    return losses.tolist(), seconds * scale


def _end_with_caller() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the caller has closed its end, or died
    os._exit(1)


def _main(folder: Path) -> None:
    threading.Thread(target=_end_with_caller, daemon=True).start()
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        _work(folder, rank, processes)
    except Exception as error:
        # If this is about a connection to a process that died, torchrun ends us while we sleep,
        # and only the cause is reported.
        time.sleep(1)
        why = "".join(traceback.format_exception_only(error)).strip()
        (folder / f"failed-{rank}").write_text(why)
        raise


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
