"""What is registered of every claim before its runs are looked at: claims.lock.

It holds the rule, the margin, and a description of the statistic: runs, columns, reducer, gates,
by the names of functions and the values of their arguments. Wording and code are not part of it. A
claim that changes gets a new digest, which docs/amendments.md has to explain.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bsglib.claims import AS_WRITTEN, Claim
from bsglib.studies.study import Study

LOCK = Path(__file__).with_name("claims.lock")
WORDING = ("note", "says")  # fields of statistics
# What was registered under another name: modules called derived were called readings.
RENAMED = {"chang.derived.columns": "chang.readings.derived"}
Lock = dict[str, dict[str, dict[str, Any]]]  # by study and claim


def registered(claim: Claim) -> dict[str, Any]:
    """Return what is registered of a claim.

    Raises:
        ValueError: if its statistic holds a function without a name.
    """
    reading = {} if claim.reading == AS_WRITTEN else {"reading": claim.reading}
    return reading | {
        "rule": described(claim.rule),
        "margin": claim.margin.name,
        "estimate": claim.margin.estimate,
        "primary": claim.primary,
        "kind": claim.kind,
        "statistic": described(claim.statistic),
    }


def described(value: Any) -> Any:
    """Return a statistic, or a part of it, as data: functions by name, with what they hold.

    Raises:
        ValueError: if a function has no name.
    """
    if isinstance(value, functools.partial):
        arguments = [described(argument) for argument in value.args]
        named = {name: described(argument) for name, argument in value.keywords.items()}
        return {"function": described(value.func), "arguments": arguments} | named
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f.name, getattr(value, f.name), f.default) for f in dataclasses.fields(value))
        return {"is": type(value).__name__} | {
            name: described(field)
            for name, field, default in fields
            if name not in WORDING and field is not default and field != default
        }
    if callable(value):
        return _function(value)
    if isinstance(value, Mapping):
        return {str(key): described(field) for key, field in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _function(function: Any) -> Any:
    name = f"{function.__module__}.{function.__qualname__}".removeprefix("bsglib.studies.")
    if "<lambda>" in name:
        raise ValueError(f"{name}: what a claim holds needs a name")
    name = RENAMED.get(name, name.replace(".derived.", ".readings."))
    cells = getattr(function, "__closure__", None) or ()
    held = zip(function.__code__.co_freevars, cells, strict=True) if cells else ()
    inside = {variable: described(cell.cell_contents) for variable, cell in held}
    return {"function": name} | inside if inside else name


def digest(content: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits of what is registered."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read(file: Path = LOCK) -> Lock:
    """Return what claims.lock holds, nothing if there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def updated(lock: Lock, studies: Mapping[str, Study]) -> Lock:
    """Return a lock with the claims as they are now; each keeps the digests that it had before."""
    found: Lock = {}
    for name, study in studies.items():
        found[name] = {}
        for claim in study.claims:
            content = registered(claim)
            digests = list(lock.get(name, {}).get(claim.id, {}).get("digests", []))
            if digests[-1:] != [now := digest(content)]:
                digests.append(now)
            found[name][claim.id] = {"digests": digests} | content
    return found


def write(lock: Lock, file: Path = LOCK) -> None:
    """Write claims.lock, a line per claim."""
    studies = []
    for name, claims in lock.items():
        lines = ",\n".join(f"  {json.dumps(i)}: {json.dumps(c)}" for i, c in claims.items())
        studies.append(f"{json.dumps(name)}: {{\n{lines}\n}}")
    file.write_text("{\n" + ",\n".join(studies) + "\n}\n", encoding="utf-8")
