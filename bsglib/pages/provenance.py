"""Where a report's numbers come from: commit, versions, machine, data, runs, command."""

import html as markup
import platform
import shlex
import subprocess
from importlib.metadata import version

from IPython.display import HTML

from bsglib.project import ROOT
from bsglib.runs.finished import TRAINING_VERSION, environment
from bsglib.runs.timing import duration
from bsglib.runtime import cores

OF_THE_MACHINE = {"store", "figures", "workers", "scheduler"}  # parameters that change no number


def table(results) -> HTML:
    """Return where the numbers come from: commit, versions, machine, data, runs, command.

    Args:
        results: what a study's run() returns: study, profile, parameters, and runs with one row
            per run, of which none is fine.

    Returns:
        a table that shows itself in a notebook.
    """
    runs, here = results.runs, environment()
    distinct = runs.drop_duplicates("run_id") if "run_id" in runs else runs  # one may have two arms
    study, profile = results.study, results.parameters.profile
    path = study.folder / f"{profile}.yaml"
    file = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    if not path.is_file():  # a file of the user's, which has the profile's name
        profile = file = path.name
    command = f"bsg report {shlex.quote(study.address)} --profile {shlex.quote(profile)}"
    packages = ("bsglib", "torch", "numpy", "scipy")
    versions = [f"Python {platform.python_version()}"] + [f"{p} {version(p)}" for p in packages]
    rows = {
        "Commit": commit(),
        "Versions": ", ".join(versions),
        "Report built on": f"{here['processor']}, {cores()} cores",
        "Runs computed on": _distinct(runs, "processor") or "none",
        "Parameter file": file,
        "Device of the runs": _distinct(runs, "device") or "none",
        "Torch threads": _distinct(runs, "threads"),
        "Number type": _distinct(runs, "dtype"),
        "Seeds": _distinct(runs, "seed"),
        "Data": _distinct(runs, "dataset"),
        "Data checksum": _distinct(runs, "data_checksum"),
        "Training version": _training_version(runs),
        "Runs": str(len(distinct)),
        "Wall time of the runs": duration(distinct["wall_time_s"].sum())
        if "wall_time_s" in runs
        else "",
    }
    for column in (c for c in runs.columns if c.endswith("_version") and runs[c].nunique() > 1):
        library = column.removesuffix("_version")
        counts = ", ".join(f"{v} ({n} runs)" for v, n in runs[column].value_counts().items())
        rows[f"Mixed {library} versions"] = counts
    shown = results.parameters.model_dump(exclude=OF_THE_MACHINE, exclude_defaults=True)
    lines = [
        f'<tr><th scope="row">{key}</th><td>{markup.escape(value)}</td></tr>'
        for key, value in rows.items()
        if value
    ]
    folded = {
        "Run ids": [str(r) for r in distinct["run_id"]] if "run_id" in runs else [],
        "Parameters": [f"{k}: {v}" for k, v in shown.items()],
    }
    for key, values in folded.items():
        inner = "<br>".join(markup.escape(v) for v in values) or "none"
        fold = f"<details><summary>{len(values)}</summary><code>{inner}</code></details>"
        lines.append(f'<tr><th scope="row">{key}</th><td>{fold}</td></tr>')
    repeat = f"<code>{markup.escape(command)}</code>"
    lines.append(f'<tr><th scope="row">To repeat</th><td>{repeat}</td></tr>')
    return HTML(f'<table class="bsg provenance"><tbody>{"".join(lines)}</tbody></table>')


def setting(profile: str) -> str:
    """Return the line a notebook opens with: profile, device, torch version, commit.

    Args:
        profile: name of the set of parameters.

    Returns:
        one line.
    """
    here = environment()
    torch = f"torch {here['torch_version']}"
    return f"profile {profile}, device {here['device']}, {torch}, commit {commit()}"


def commit() -> str:
    """Return the project's git commit, with whether the files differ from it.

    Returns:
        for example "1a2b3c4d5e6f (clean)"; "unknown" outside git.
    """
    try:
        head, changes = (
            subprocess.run(
                ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (
                ["rev-parse", "--short=12", "HEAD"],
                ["status", "--porcelain", "--", ".", ":!reports"],  # which are being written
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} ({'dirty' if changes else 'clean'})"


def _training_version(runs) -> str:
    """Say with which version the runs were trained, where that is not the present one."""
    found = _distinct(runs, "training_version")
    return f"{found}; now {TRAINING_VERSION}" if found not in ("", TRAINING_VERSION) else ""


def _distinct(runs, column: str) -> str:
    if column not in runs:
        return ""
    return ", ".join(str(value) for value in sorted(runs[column].dropna().unique()))
