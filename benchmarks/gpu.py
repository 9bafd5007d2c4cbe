"""One part of a study on a bare machine with a GPU: ceilings, runs, exports and a log.

    python -m benchmarks.gpu keskar_sharp_minima --part 1 --processes 5 --minutes 9 --out FOLDER

It needs torch, numpy, scipy, pandas, safetensors, pyyaml, threadpoolctl, filelock, tqdm, typer and
pydantic, the data sets below BSG_DATA, and no network. FOLDER then holds `results/`, which goes
below reports/, `runs.zip` with each run's config, history and measures, and `log.json`. One
process trains, with several runs in flight on streams of the device; several measure, by seed,
because a measure's host work is one core's.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import torch

from bsglib import cli, graphs, papers, runtime, train
from bsglib.data import at_hand
from bsglib.papers import StudyParameters, exports
from bsglib.store import Store
from bsglib.sweep import Entry, SweepError, sweep

KEPT = ".json", ".csv"  # of a run; weights stay


def seconds(work, repeats: int = 20) -> float:
    """Return the median seconds of some work on the device, by a clock read when it has ended."""
    times = []
    for _ in range(repeats + 2):
        runtime.wait()
        start = time.perf_counter()
        work()
        runtime.wait()
        times.append(time.perf_counter() - start)
    return sorted(times[2:])[repeats // 2]


def traffic(source: torch.Tensor) -> float:
    """Return gigabytes read and written per second by a copy."""
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source)) / 1e9


def ceilings(size: int = 8192, gigabytes: float = 4.0) -> dict[str, float]:
    """Return the rates nothing on the device exceeds: memory traffic, and matrix products."""
    device = runtime.device()
    found = {"copy_gb_s": traffic(torch.randn(int(gigabytes * 2**28), device=device))}
    a, b = torch.randn(2, size, size, device=device)
    before = torch.backends.cuda.matmul.allow_tf32
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left, right = a.to(dtype), b.to(dtype)
        taken = seconds(lambda left=left, right=right: left @ right)
        found[f"matmul_{name}_tflop_s"] = 2 * size**3 / taken / 1e12
    torch.backends.cuda.matmul.allow_tf32 = before
    return found


class Watch(threading.Thread):
    """Reads the device's own measure of being busy, once a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen, self.ended = [], threading.Event()

    def run(self) -> None:
        with contextlib.suppress(Exception):  # a driver that does not tell
            while not self.ended.wait(1.0):
                self.seen.append(torch.cuda.utilization())

    def stop(self) -> dict[str, float | None]:
        self.ended.set()
        busy = sum(self.seen) / len(self.seen) if self.seen else None
        peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
        return {"busy_percent": busy, "seconds_watched": len(self.seen), "peak_memory_gb": peak}


def pack(store: Store, runs: list[str], file: Path) -> None:
    """Write what is small of some runs into one file."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for run in runs:
            for path in sorted(store.folder(run).rglob("*")):
                if path.suffix in KEPT and not path.name.startswith("."):
                    packed.write(path, f"{run}/{path.relative_to(store.folder(run))}")


def planned(given: argparse.Namespace, out: Path) -> tuple[StudyParameters, list[Entry], list[str]]:
    """Return the parameters, the entries of a share of a part, and what data they lack."""
    study = cli.STUDIES[given.study]
    parameters = cli._parameters(study, given.profile, store=str(out / "store"), workers=0)
    entries = [e for e in study.design(parameters) if e.part == given.part]
    absent = sorted({e.config.dataset for e in entries if not at_hand(e.config.dataset)})
    share, shares = map(int, given.share.split("/"))
    seeds = sorted({e.config.seed for e in entries})[share::shares]
    entries = [e for e in entries if e.config.seed in seeds and e.config.dataset not in absent]
    return parameters, entries, absent


def swept(entries: list[Entry], store: Store, minutes: float) -> dict:
    """Compute entries as far as the time goes, and say what it took."""
    watch, begun, error, left = Watch(), time.perf_counter(), None, []
    watch.start()
    try:
        left = sweep(entries, store, workers=0, time_limit_s=60 * minutes, progress=True)
    except SweepError as failed:
        error = str(failed)
    log = {"entries": len(entries), "left": len(left), "failed": error}
    return log | {"seconds": time.perf_counter() - begun} | watch.stop()


def measured(given: argparse.Namespace, out: Path) -> dict:
    """Measure what is trained in other processes: host work of a measure is one core's."""
    begun, children = time.perf_counter(), []
    for i in range(given.processes):
        own = f"--share {i}/{given.processes} --part {given.part} --minutes {given.minutes}".split()
        command = [sys.executable, "-m", "benchmarks.gpu", given.study, "--profile", given.profile]
        command += ["--device", given.device, "--out", str(out), *own]
        command += ["--no-measure-graphs"] * given.no_measure_graphs
        with open(out / f"share-{i}.txt", "w", encoding="utf-8") as messages:
            streams = {"stdout": messages, "stderr": subprocess.STDOUT}
            children.append(subprocess.Popen(command, **streams))
    codes = [child.wait() for child in children]
    return {"exit_codes": codes, "seconds": time.perf_counter() - begun}


def compute(given: argparse.Namespace, out: Path) -> dict:
    """Train in this process, measure in several, and write what has come out of it."""
    parameters, entries, absent = planned(given, out)
    store, end = papers.store_of(parameters), time.monotonic() + 60 * given.minutes
    trained = [replace(entry, measures=()) for entry in entries]
    log = {"data_absent": absent, "training": swept(trained, store, given.minutes)}
    given.minutes = (end - time.monotonic()) / 60
    log["measures"] = measured(given, out)
    pack(store, store.finished(), out / "runs.zip")
    tables = cli.STUDIES[given.study].tables(parameters)
    exports.write(tables, out / "results" / parameters.profile / given.study)
    found = [tables.find(entry) for entry in entries]
    log["entries"] = len(entries)
    log["entries_incomplete"] = sum(f is None or f.missing > 0 for f in found)
    return log | {"exported_runs": len(tables.runs), "exported_measures": len(tables.measures)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=list(cli.STUDIES))
    parser.add_argument("--profile", default="gpu", help="name below params/STUDY/, or a file")
    parser.add_argument("--part", type=int, default=1, help="of the study's design")
    parser.add_argument("--minutes", type=float, default=9.0, help="for the runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run")
    parser.add_argument("--processes", type=int, default=5, help="that measure, by seed")
    parser.add_argument("--share", help="i/n: measure every n-th seed, from the i-th, and end")
    parser.add_argument("--no-measure-graphs", action="store_true", help="if they fail")
    given = parser.parse_args(arguments)
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if runtime.device().type != given.device:
        raise SystemExit(f"no {given.device} device here; --device cpu is a dry run")
    runtime.single_thread()
    graphs.Repeated.enabled = not given.no_measure_graphs
    train.CHECKPOINT_EVERY_S = float("inf")  # the machine and its disk are gone afterwards
    given.out.mkdir(parents=True, exist_ok=True)
    out = given.out.resolve()
    if given.share:
        parameters, entries, _ = planned(given, out)
        print(json.dumps(swept(entries, papers.store_of(parameters), given.minutes), indent=1))
        return
    size = {"size": 256, "gigabytes": 0.01} if given.device == "cpu" else {}
    log = {"machine": train.environment(), "ceilings": ceilings(**size)}
    given.share = "0/1"
    log |= compute(given, out)
    (out / "log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(log, indent=1), flush=True)


if __name__ == "__main__":
    main()
