"""Seconds to rebuild each published report from its exported numbers, whole and by part.

The report is built in a copy of the project, with an empty run store. The kernel's start is what
papermill takes beyond the cells, the first cell with imports counts as imports.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import side_by_side as bench

PARTS = ("bsglib", "notebooks", "params", "reports", "README.md")


def copied(folder: str) -> Path:
    """Copy what a report is built from."""
    for name in PARTS:
        source, target = bench.ROOT / name, Path(folder) / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return Path(folder)


def rebuild(project: Path, study: str, profile: str, store: Path) -> dict:
    """Return seconds of the whole, from start to end of the process, and of its parts."""
    script = str(bench.ROOT / "benchmarks" / "ours" / "rebuild.py")
    command = [sys.executable, "-P", script, study, "--profile", profile, "--no-compute"]
    command += ["--store", str(store)]
    settings = {"cwd": project, "env": os.environ | {"PYTHONPATH": str(project)}}
    start = time.perf_counter()
    done = subprocess.run(command, **settings, capture_output=True, text=True)
    whole = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    seconds, notebook = (
        found["seconds"],
        project / "reports" / Path(profile).stem / f"{study}.ipynb",
    )
    cells = json.loads(notebook.read_text())["cells"]
    times = [c["metadata"]["papermill"]["duration"] or 0 for c in cells]
    imports = [t for t, c in zip(times, cells, strict=True) if "import " in "".join(c["source"])][0]
    parts = {
        "the command's imports": seconds["imports"],
        "loading the numbers": seconds["loading"],
        "kernel start and end": seconds["notebook"] - sum(times),
        "the notebook's imports": imports,
        "the notebook's other cells": sum(times) - imports,
        "HTML": seconds["HTML"],
    }
    parts["the rest"] = whole - sum(parts.values())
    return {"seconds": whole, "parts": parts, "peak_mb": found["peak_mb"]}


def main() -> None:
    given, rows = bench.arguments(__doc__), []
    with tempfile.TemporaryDirectory() as folder:
        project = copied(folder)
        for exported in sorted((project / "reports" / "results" / "laptop").iterdir()):
            found = [
                rebuild(project, exported.name, "laptop", project / "empty")
                for _ in range(1 if given.quick else 5)
            ]
            parts = {
                part: statistics.median(f["parts"][part] for f in found)
                for part in found[0]["parts"]
            }
            seconds = [f["seconds"] for f in found]
            details = {"unit": " s", "at_most": 15, "parts": parts}
            rows.append(
                bench.row(f"{exported.name} rebuilt", "exported numbers", seconds, **details)
            )
            for part, value in parts.items():
                print(f"    {value:6.2f} s  {part}")
    bench.write("report", rows, quick=given.quick)


if __name__ == "__main__":
    main()
