"""One part of a study on a bare machine with a GPU: ceilings, runs, exports and a log.

    python -m benchmarks.gpu --row 1 --out FOLDER
    python -m benchmarks.gpu --row 8 --seeds 11 --out FOLDER
    python -m benchmarks.gpu keskar_sharp_minima --part 1 --processes 5 --minutes 9 --out FOLDER
    python -m benchmarks.gpu kaabachi_warmup --times --out FOLDER

A row is one of params/queue.yaml, counted from 1; a whole part of a study may take longer than
`--minutes` and then ends incomplete. `--times` computes no runs: it measures seconds per epoch by
batch size, with nothing else on the device, and writes `times.json`. `benchmarks/pieces.py` brings
the data.

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
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import flop
from bsglib import cli, device_graphs, runtime
from bsglib.data import Split, at_hand
from bsglib.runs import build, finished, train
from bsglib.runs.params import RunConfig
from bsglib.runs.queue import Queue, Row
from bsglib.runs.steps import MANY
from bsglib.runs.store import Store
from bsglib.runs.sweep import Entry, SweepError, by_run, run_of, sweep
from bsglib.studies import exports, profiles
from bsglib.studies import study as studies
from bsglib.studies.chang.published import SECONDS_PER_EPOCH
from bsglib.studies.kaabachi.published import TABLE
from bsglib.studies.study import StudyParameters

KEPT = ".json", ".csv"  # of a run; weights stay
STATED = {  # seconds per epoch that the sources print, by batch size
    "kaabachi_warmup": {b: row.seconds_per_epoch for b, row in TABLE.items()},  # on a Tesla T4
    "chang_batch_size": SECONDS_PER_EPOCH,
}


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


def row_of(given: argparse.Namespace) -> Row:
    """Return which entries are asked for: a row of the queue, or a part of a study."""
    if given.row is None:
        row = Row(study=given.study, part=given.part)
    else:
        row = Queue.of(Path(given.profile).stem).row(given.row)
    return row.model_copy(update={"seeds": given.seeds}) if given.seeds else row


def planned(
    row: Row, profile: str, store: Path, share: str = "0/1"
) -> tuple[StudyParameters, list[Entry], list[str]]:
    """Return the parameters, the entries of a share of a row, and what data they lack.

    Shares are cut by seed, since a seed's runs have a random subspace in common, or by run where
    there are fewer seeds than shares.
    """
    study = cli.STUDIES[row.study]
    parameters = profiles.load(study, profile, store=str(store), workers=0)
    entries = [e for e in study.design(parameters) if row.holds(row.study, e)]
    if not entries:
        raise SystemExit(f"{row.study}, {profile}: no runs in part {row.part}, seeds {row.seeds}")
    absent = sorted({e.config.dataset for e in entries if not at_hand(e.config.dataset)})
    place, shares = map(int, share.split("/"))
    by_seed = len({e.config.seed for e in entries}) >= shares
    keys = [e.config.seed if by_seed else e.run for e in entries]
    chosen = sorted(set(keys))[place::shares]
    entries = [e for e, key in zip(entries, keys, strict=True) if key in chosen]
    return parameters, [e for e in entries if e.config.dataset not in absent], absent


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


def rates(runs: Iterable[finished.Run], seconds: float, ceilings: dict[str, float]) -> dict:
    """Return runs per minute, and how near their products come to the device's own rate."""
    runs, operations = list(runs), 0.0
    for run in runs:
        config, dataset = run.config, build.dataset_of(run.config)
        model = build.build_model(config, dataset).cpu()
        x = dataset.as_input(dataset.train.x[:2], next(model.parameters()).dtype)
        passes = 1 if config.rho is None else 2
        examples = len(run.history) * len(dataset.train)
        operations += passes * examples * flop.per_example(model, x)
    rate = operations / seconds / 1e12
    share = 100 * rate / ceilings["matmul_bfloat16_tflop_s"]
    return {
        "runs_per_minute": 60 * len(runs) / seconds,
        "tflop_s": rate,
        "percent_of_bfloat16_matmul": share,
    }


class Epochs:
    """Trains on some examples again and again, to be timed.

    Args:
        config: of a run.
        samples: examples of the training set, in whole batches, at least those of one graph.
        as_graphs: as runs are trained; else step by step.
    """

    def __init__(self, config: RunConfig, samples: int, *, as_graphs: bool):
        dataset, size = build.dataset_on_device(config), config.batch_size
        x, y = dataset.train.x, dataset.train.y
        self.batches = max(1, min(len(y) // size, max(samples // size, MANY)))
        few = Split(x[: self.batches * size], y[: self.batches * size])
        self.share = len(few) / len(y)
        dataset = replace(dataset, train=few)
        model = build.build_model(config, dataset).train()
        optimizer = build.build_optimizer(config, model)
        self.steps = build.steps_of(config, dataset, model, optimizer, size)
        if not as_graphs:
            self.steps.report = {"graphs": 0}  # as where none can be captured
        self.seconds()  # captures, warms up

    def seconds(self) -> float:
        """Return the seconds that an epoch of the whole training set would take."""
        order, lrs = np.arange(len(self.steps.order)), [1e-4] * self.batches
        runtime.wait()
        start = time.perf_counter()
        self.steps.epoch(order, lrs)
        runtime.wait()
        return (time.perf_counter() - start) / self.share


def times(given: argparse.Namespace, out: Path) -> dict:
    """Return seconds per epoch, without evaluation, of each run that a study times.

    Repeats are interleaved, each in another order; nothing else runs on the device.
    """
    study = cli.STUDIES[row_of(given).study]
    parameters = profiles.load(study, given.profile, store=str(out / "store"), workers=0)
    kinds = [(c, kind) for c in study.timing(parameters).configs for kind in (True, False)]
    with device_graphs.Turn():
        timed = [Epochs(config, given.samples, as_graphs=kind) for config, kind in kinds]
        seconds = [[] for _ in timed]
        for repeat in range(given.repeats):
            places = range(len(timed))
            for place in [*places[repeat:], *places[:repeat]]:
                seconds[place].append(timed[place].seconds())
    stated, rows = STATED.get(study.name, {}), []
    for (config, _), epochs, of_one in zip(kinds, timed, seconds, strict=True):
        row = {"batch_size": config.batch_size, "sam": config.rho is not None}
        row |= {"dtype": config.dtype, "graphs": epochs.steps.report.get("graphs", 0)}
        row |= {"median": statistics.median(of_one), "low": min(of_one), "high": max(of_one)}
        rows.append(row | {"source": stated.get(config.batch_size)})
    return {"study": study.name, "repeats": given.repeats, "seconds_per_epoch": rows}


def measured(given: argparse.Namespace, out: Path) -> dict:
    """Measure what is trained in other processes: host work of a measure is one core's."""
    begun, children = time.perf_counter(), []
    for i in range(given.processes):
        command = [sys.executable, "-m", "benchmarks.gpu", *given.asked]
        command += ["--profile", given.profile, "--device", given.device, "--out", str(out)]
        command += ["--share", f"{i}/{given.processes}", "--minutes", str(given.minutes)]
        command += ["--no-measure-graphs"] * given.no_measure_graphs
        with open(out / f"share-{i}.txt", "w", encoding="utf-8") as messages:
            streams = {"stdout": messages, "stderr": subprocess.STDOUT}
            children.append(subprocess.Popen(command, **streams))
    codes = [child.wait() for child in children]
    return {"exit_codes": codes, "seconds": time.perf_counter() - begun}


def compute(given: argparse.Namespace, out: Path, ceilings: dict[str, float]) -> dict:
    """Train in this process, measure in several, and write what has come out of it."""
    row = row_of(given)
    parameters, entries, absent = planned(row, given.profile, out / "store")
    store, end = studies.store_of(parameters), time.monotonic() + 60 * given.minutes
    before, trained = store.finished(), [replace(entry, measures=()) for entry in entries]
    log = {"row": row.model_dump(exclude_none=True), "data_absent": absent}
    log["training"] = training = swept(trained, store, given.minutes)
    given.minutes = (end - time.monotonic()) / 60
    log["measures"] = measured(given, out)
    pack(store, store.finished(), out / "runs.zip")
    tables = cli.STUDIES[row.study].tables(parameters)
    exports.write(tables, out / "results" / parameters.profile / row.study)
    found = [tables.find(entry) for entry in entries]
    runs = [run_of(entry, store) for entry in by_run(entries)]
    new = [run for run in runs if run is not None and run.id not in before]
    training |= rates(new, training["seconds"], ceilings)
    log["entries"] = len(entries)
    log["entries_incomplete"] = sum(f is None or f.missing > 0 for f in found)
    return log | {"exported_runs": len(tables.runs), "exported_measures": len(tables.measures)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=list(cli.STUDIES), nargs="?")
    parser.add_argument("--profile", default="gpu", help="name below params/STUDY/, or a file")
    parser.add_argument("--part", type=int, default=1, help="of the study's design")
    parser.add_argument("--row", type=int, help="of the profile's queue, instead of a part")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the row's, or of all")
    parser.add_argument("--minutes", type=float, default=9.0, help="for the runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run")
    parser.add_argument("--processes", type=int, default=5, help="that measure, by seed or run")
    parser.add_argument("--share", help="i/n: measure every n-th seed, from the i-th, and end")
    parser.add_argument("--no-measure-graphs", action="store_true", help="if they fail")
    parser.add_argument("--times", action="store_true", help="measure seconds per epoch, and end")
    parser.add_argument("--samples", type=int, default=4096, help="per timed stretch, at least")
    parser.add_argument("--repeats", type=int, default=5, help="of each time")
    given = parser.parse_args(arguments)
    if (given.study is None) == (given.row is None):
        parser.error("name a study or a row of the queue, not both")
    given.asked = ["--row", str(given.row)] if given.row else [given.study, "--part"]
    given.asked += [] if given.row else [str(given.part)]
    given.asked += ["--seeds", *map(str, given.seeds)] if given.seeds else []
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if runtime.device().type != given.device:
        raise SystemExit(f"no {given.device} device here; --device cpu is a dry run")
    runtime.single_thread()
    device_graphs.Repeated.enabled = not given.no_measure_graphs
    train.CHECKPOINT_EVERY_S = float("inf")  # the machine and its disk are gone afterwards
    given.out.mkdir(parents=True, exist_ok=True)
    out = given.out.resolve()
    if given.share:
        parameters, entries, _ = planned(row_of(given), given.profile, out / "store", given.share)
        print(json.dumps(swept(entries, studies.store_of(parameters), given.minutes), indent=1))
        return
    log = {"machine": finished.environment()}
    if given.times:
        log |= times(given, out)
    else:
        size = {"size": 256, "gigabytes": 0.01} if given.device == "cpu" else {}
        log["ceilings"] = ceilings(**size)
        log |= compute(given, out, log["ceilings"])
    file = out / ("times.json" if given.times else "log.json")
    file.write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(log, indent=1), flush=True)


if __name__ == "__main__":
    main()
