"""Two sides of a comparison take turns; their ratio, with its spread, becomes a row."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torchvision

from bsglib import runtime
from bsglib.data import data_folder

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
THEIR_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}  # CPU against CPU


class Worker:
    """A process of benchmarks/ours or benchmarks/peers, prepared and warmed up, then waiting."""

    def __init__(self, module: str, options: dict):
        python = THEIR_PYTHON if module.startswith("peers.") else sys.executable
        if not Path(python).is_file():
            raise SystemExit(f"no {THEIR_PYTHON.relative_to(ROOT)}: run `make bench`")
        self.messages = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [python, "-m", f"benchmarks.{module}", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            text=True,
            cwd=ROOT,
        )

    def ask(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.messages.seek(0)
            raise SystemExit(f"{self.messages.read()}{self.process.args[2]} ended unasked")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Team:
    """Workers that do the same thing at the same time, measured from outside, on one clock."""

    def __init__(self, module: str, size: int = 1, **options):
        self.workers = [Worker(module, options) for _ in range(size)]
        self.about = [worker.answer() for worker in self.workers][0]
        self.answers: list[dict] = []  # of the first worker, one per repeat

    def rate(self) -> float:
        """Return units of work per second, all workers together."""
        start = time.perf_counter()
        for worker in self.workers:
            worker.ask()
        answers = [worker.answer() for worker in self.workers]
        seconds = time.perf_counter() - start
        self.answers.append(answers[0])
        return sum(answer["units"] for answer in answers) / seconds

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


@contextmanager
def teams(*, same_network: bool = True, **arguments: dict) -> Iterator[dict[str, Team]]:
    """Start the sides of a comparison, by name; end them all on leaving.

    With `same_network`, sides that say how many weights they have must agree.
    """
    with ExitStack() as stack:
        started = {}
        for name, options in arguments.items():
            started[name] = Team(**options)
            stack.callback(started[name].close)
        weights = {
            name: team.about["weights"] for name, team in started.items() if "weights" in team.about
        }
        if same_network and len(set(weights.values())) > 1:
            raise SystemExit(f"not the same network: {weights} weights")
        yield started


def interleaved(sides: dict[str, Team], repeats: int) -> dict[str, list[float]]:
    """Return each side's rates; the order within a repeat rotates, so that none is favoured."""
    names, rates = list(sides), {name: [] for name in sides}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            rates[name].append(sides[name].rate())
    return rates


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Return ours / theirs, repeat by repeat."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def row(
    what: str,
    against: str,
    values: list[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "",
    **details,
) -> dict:
    """Return a measured value, its median and range over repeats, judged by its target.

    The median is what has to reach the target; `met` is None where there is no target.
    """
    middle, met = statistics.median(values), None
    if at_least is not None or at_most is not None:
        met = middle >= (at_least or 0) and middle <= (at_most or float("inf"))
    measured = {"median": middle, "low": min(values), "high": max(values), "repeats": len(values)}
    target = {"at_least": at_least, "at_most": at_most}
    made = {"what": what, "against": against} | measured | {"unit": unit} | target
    made |= {"met": met, **details}
    print(line(made), flush=True)
    return made


def spread(values: list[float]) -> dict:
    """Return a median with its range, for the details of a row."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measured(row: dict) -> str:
    """Return a row's value as text: median [low, high]."""
    return f"{row['median']:.3g} [{row['low']:.3g}, {row['high']:.3g}]{row['unit']}"


def target(row: dict) -> str:
    """Return a row's target as text, empty if it has none."""
    limits = {"at least": row["at_least"], "at most": row["at_most"]}
    return " and ".join(f"{word} {x:g}{row['unit']}" for word, x in limits.items() if x is not None)


def verdict(row: dict) -> str:
    """Return whether a row meets its target, as text."""
    return {True: "met", False: "not met", None: ""}[row["met"]]


def line(row: dict) -> str:
    """Return a row as one line of text."""
    return (
        f"{row['what']:44} / {row['against']:34} {measured(row):24} {target(row):16} {verdict(row)}"
    )


def arguments(doc: str) -> argparse.Namespace:
    """Return what a script was called with; warn where the machine is not idle."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few repeats, little data: a smoke run"
    )
    given = parser.parse_args()
    print(doc.splitlines()[0], "quick: these numbers say nothing." if given.quick else "")
    if os.getloadavg()[0] > 0.5:
        print(f"the machine is not idle: load {os.getloadavg()[0]:.2f}")
    return given


def write(name: str, rows: list[dict], *, quick: bool, **versions: str) -> None:
    """Store the rows of a benchmark, with the kind of machine; quick ones apart."""
    path = RESULTS / ("quick" if quick else "") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, "machine": machine() | versions, "rows": rows}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def machine() -> dict:
    """Return the kind of machine, without its name."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": runtime.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": runtime.cores(),
        "memory_gb": round(pages / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "numpy", "scipy")},
    }


@contextmanager
def images(name: str, samples: int | None) -> Iterator[dict]:
    """Give the first training images of a data set to a peer: torchvision's name, and an .npz."""
    chosen = {"fashion_mnist": "FashionMNIST", "mnist": "MNIST", "cifar10": "CIFAR10"}[name]
    dataset = getattr(torchvision.datasets, chosen)(data_folder(), download=True)
    x, y = np.asarray(dataset.data)[:samples], np.asarray(dataset.targets)[:samples]
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "data.npz", x=x, y=y.astype(np.int64))
        files = {"dataset": chosen, "folder": str(data_folder()), "npz": f"{folder}/data.npz"}
        yield files | {"samples": len(x)}
