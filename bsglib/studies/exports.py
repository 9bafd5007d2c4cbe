"""A study's numbers as tables, found by the digest of a config and of a measure.

Neither an arm's name nor the set of its measures identifies a number, so a design may grow and
its arms may be renamed without orphaning what was computed. The same tables are read off a run
store and written as CSV; a merge replaces rows and never drops one.
"""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bsglib.runs.finished import Run
from bsglib.runs.measures import OUTCOMES, Measure, stored_content
from bsglib.runs.store import Store, StoreError
from bsglib.runs.sweep import Entry, by_run, run_of

KEYS = {  # what identifies rows; those of one run or measure are replaced together
    "runs": ["run"],
    "history": ["run"],
    "measures": ["run", "measure"],
    "points": ["run", "measure"],
    "outcomes": ["run", "measure"],
    "timings": ["plan"],
}
TABLES = tuple(KEYS)
OF_MEASURE = ["run", "measure", "name", "examples", "options", "epoch", "processor_s"]


@dataclass(frozen=True)
class Numbers:
    """What one entry gave: a row, its history, points and outcomes, and how much is missing."""

    row: dict[str, Any]
    history: pd.DataFrame
    points: pd.DataFrame
    outcomes: pd.DataFrame
    missing: int = 0  # measures


@dataclass(frozen=True)
class Tables:
    """Numbers of runs, whatever design they belong to."""

    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    measures: pd.DataFrame = field(default_factory=pd.DataFrame)
    points: pd.DataFrame = field(default_factory=pd.DataFrame)
    outcomes: pd.DataFrame = field(default_factory=pd.DataFrame)
    timings: pd.DataFrame = field(default_factory=pd.DataFrame)

    def find(self, entry: Entry) -> Numbers | None:
        """Return an entry's numbers, None if its run is not there; measures may be missing.

        The state after an epoch of a run is that of a run which ends there, and found as such, too.
        """
        return self._of(entry, entry) or (entry.alone and self._of(entry.alone, entry))

    def _of(self, source: Entry, entry: Entry) -> Numbers | None:
        """An entry's numbers by the config and the measures of another one."""
        run = source.run
        if run not in self._rows["runs"]:
            return None
        row = {"entry": entry.key, "arm": entry.arm, "part": entry.part}
        row |= self._rows["runs"][run].iloc[0].drop("run").to_dict() | entry.columns
        history = self._rows["history"][run].drop(columns="run")
        if source.epoch is not None and row["stopped"] != "diverged":
            history = history[history["epoch"] <= source.epoch]
            (last,) = history.tail(1).drop(columns="epoch").to_dict("records")
            reached = {"epochs": source.epoch, "kept_epoch": source.epoch, "stopped": "epochs"}
            row |= last | reached
        points, outcomes, missing = [], [], 0
        for shown, measure in zip(entry.measures, source.measures, strict=True):
            key = run, measure.digest
            if key in self._rows["points"]:
                rows = self._rows["points"][key].drop(columns=["run", "measure"])
                points.append(rows.assign(**_labels(measure), **entry.columns))
            elif key in self._rows["outcomes"]:
                rows = self._rows["outcomes"][key].drop(columns=["run", "measure"])
                outcomes.append(rows.assign(**entry.columns))
            elif key in self._rows["measures"]:
                row |= _columns(shown, self._rows["measures"][key].iloc[0])
            else:
                row[shown.column] = float("nan")
                missing += row["stopped"] != "diverged"
        tables = history.assign(**entry.columns), joined(points), joined(outcomes)
        return Numbers(row, *tables, missing)

    @cached_property
    def _rows(self) -> dict[str, dict[Any, pd.DataFrame]]:
        """Of each table its rows by what identifies them."""
        found = {}
        for name, keys in KEYS.items():
            table = getattr(self, name)
            groups = table.groupby(keys if len(keys) > 1 else keys[0]) if len(table) else ()
            found[name] = dict(iter(groups))
        return found


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return tables below each other, an empty one if there is none."""
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _labels(measure: Measure) -> dict[str, Any]:
    options = {k: str(v) if isinstance(v, list) else v for k, v in measure.options.items()}
    return {"measure": measure.name} | options


def _columns(measure: Measure, measured: pd.Series) -> dict[str, Any]:
    """Return a measure's fields; the table has those of all measures and leaves others empty."""
    if not measure.gives_value:  # without points: it had none
        return {}
    values = measured.drop(OF_MEASURE).dropna().to_dict()
    row = {f"{measure.column}.{name}": value for name, value in values.items()}
    return row | {measure.column: values.get("value", float("nan"))}


def of_store(entries: Iterable[Entry], store: Store) -> Tables:
    """Return what a store holds of some entries."""
    tables: dict[str, dict] = {name: {} for name in TABLES}
    with_alone = ((entry, entry.alone) for entry in entries)
    for entry in by_run([entry for pair in with_alone for entry in pair if entry is not None]):
        found = run_of(entry, store)
        if found is None:
            continue
        run = entry.run
        tables["runs"][run] = pd.DataFrame([{"run": run} | _row(found)])
        tables["history"][run] = found.history.assign(run=run)
        for measure in entry.measures:
            content = stored_content(found.id, measure, store)
            if content is None:
                continue
            key, values = {"run": run, "measure": measure.digest}, content["values"]
            place = tuple(key.values())
            if "rows" in values:
                tables["points"][place] = pd.DataFrame(values["rows"]).assign(**key)
                values = {}
            elif measure.name == OUTCOMES:
                tables["outcomes"][place] = pd.DataFrame([key | values])
                values = {}
            labels = {"name": measure.name, "examples": measure.examples}
            labels |= {"options": json.dumps(measure.options, sort_keys=True)}
            labels |= {"epoch": measure.epoch, "processor_s": content.get("processor_s")}
            tables["measures"][place] = pd.DataFrame([key | labels | values])
    return Tables(**{name: joined(parts.values()) for name, parts in tables.items()})


def is_stored(entry: Entry, store: Store) -> bool:
    """Return whether an entry's run and all of its measures are in a store."""
    numbers = of_store([entry], store).find(entry)
    return numbers is not None and numbers.missing == 0


def _row(run: Run) -> dict[str, Any]:
    row = run.config.model_dump()
    for name in ("network_options", "record_epochs", "augment"):
        row[name] = json.dumps(row[name], sort_keys=True)
    row |= {name: value for name, value in run.result.items() if name != "files"}
    return row | run.kept.drop(["epoch", "updates"]).to_dict()


def read(folder: Path) -> Tables:
    """Return exported tables, empty ones where there are none.

    Raises:
        StoreError: if a table is damaged.
    """
    ids = dict.fromkeys(("run", "measure", "run_id", "plan"), str)  # digits alone are no number
    tables = {}
    for name in TABLES:
        path = folder / f"{name}.csv"
        try:
            tables[name] = pd.read_csv(path, dtype=ids) if path.is_file() else pd.DataFrame()
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise StoreError(f"damaged file {path}: {error}") from error
    runs, recorded = (set(tables[n]["run"]) if len(tables[n]) else set() for n in TABLES[:2])
    if lost := sorted(runs - recorded):
        raise StoreError(f"damaged file {folder / 'history.csv'}: without the run {lost[0]}")
    return Tables(**tables)


def write(tables: Tables, folder: Path) -> None:
    """Merge tables into those of a folder, numbers to six digits.

    Rows of a run or measure that is already there are replaced; all others stay as they are, to
    the byte, whether a design still has them or not.

    Raises:
        StoreError: if the folder cannot be read or written; what was there before stays.
    """
    parts: dict[str, Path] = {}
    try:
        for name in TABLES:
            if len(new := getattr(tables, name)):
                folder.mkdir(parents=True, exist_ok=True)
                merged = _merged(folder / f"{name}.csv", new, KEYS[name])
                parts[name] = folder / f".{name}.csv.part"
                parts[name].write_text(merged.to_csv(index=False), encoding="utf-8")
        for name, part in parts.items():
            os.replace(part, folder / f"{name}.csv")
    except OSError as error:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        raise StoreError(f"{folder} cannot be written: {error}") from error


def _merged(file: Path, new: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the rows of a file and new ones, all as text, in the order in which they came."""
    as_text = {"dtype": str, "keep_default_na": False}
    new = pd.read_csv(io.StringIO(new.to_csv(index=False, float_format="%.6g")), **as_text)
    if not file.is_file():
        return new[[*keys, *new.columns.drop(keys)]]
    old = pd.read_csv(file, **as_text)
    place = {key: i for i, key in enumerate(dict.fromkeys([*_ids(old, keys), *_ids(new, keys)]))}
    replaced = set(_ids(new, keys))
    kept = old[[key not in replaced for key in _ids(old, keys)]]
    merged = pd.concat([kept, new], ignore_index=True).fillna("")
    order = pd.Series([place[key] for key in _ids(merged, keys)]).sort_values(kind="stable").index
    return merged.loc[order]


def _ids(table: pd.DataFrame, keys: list[str]) -> list[tuple[str, ...]]:
    return list(table[keys].itertuples(index=False, name=None))


def write_manifest(folder: Path) -> Path:
    """Write the SHA-256 of every table below a folder to its MANIFEST.json, and return that."""
    manifest = folder / "MANIFEST.json"
    sums = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.csv"))
    }
    manifest.write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
    return manifest
