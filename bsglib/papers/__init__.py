"""The sources: per study its parameters, its design (which runs and measures) and its claims."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from bsglib import runtime
from bsglib.claims import Claim, Verdict, VerdictTable, verdict, verdict_table
from bsglib.measures import stored_measure
from bsglib.parallel import stored_parallel_times
from bsglib.params import ROOT, ParameterError, Parameters, RunConfig, digest, nearest, resolve
from bsglib.store import Store, StoreError
from bsglib.sweep import Entry, is_stored, run_of, sweep
from bsglib.timing import stored_epoch_times

RESULTS = ROOT / "reports" / "results"


class NoRuns(ParameterError):
    """Nothing of a study is stored or exported, and nothing was to be computed."""


class StudyParameters(Parameters):
    """What every study's notebook and parameter files may set."""

    profile: str
    store: str | None  # folder of the run store; None: $BSG_STORE, else runs/ of the project
    figures: str | None  # folder for SVG, PNG and CSV of every figure; None: keep none
    compute: bool  # compute what is missing; False: report what is there
    workers: int | None = Field(ge=0)  # processes; None: one per core, 0: this one
    scheduler: str | None  # address of a Dask cluster


@dataclass(frozen=True)
class Timing:
    """Which epochs a study times, how often, and over which numbers of processes.

    Epochs are timed in this process if `processes` is empty.
    """

    configs: tuple[RunConfig, ...]
    samples: int
    repeats: int
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Study:
    """One source: everything its notebook leans on."""

    name: str
    title: str
    source: str
    headline: str  # the figure that stands for the study
    main_claims: tuple[str, ...]  # the claims that do, in the README
    parameters: type[StudyParameters]
    design: Callable[[Any], list[Entry]]
    timing: Callable[[Any], Timing | None]
    claims: tuple[Claim, ...]

    def run(self, parameters: StudyParameters, *, progress: bool | None = None) -> "Results":
        """Return the study's numbers: stored or exported ones loaded, missing ones computed.

        Args:
            parameters: of this study.
            progress: show a bar; None: only in an interactive Jupyter session.

        Returns:
            the numbers, without the runs that are missing if `parameters.compute` is False, and
            without optional ones whose data are not at hand.

        Raises:
            NoRuns: if there are none at all.
        """
        runtime.single_thread()
        store = store_of(parameters)
        exported = self._exported(parameters)

        def known(entry: Entry) -> Numbers | None:
            return _stored(entry, store) or exported.find(entry)

        entries = [e for e in self.design(parameters) if e.computable or known(e) is not None]
        found = [known(entry) for entry in entries]
        todo = [entry for entry, numbers in zip(entries, found, strict=True) if numbers is None]
        if parameters.compute and todo:
            shown = "JPY_SESSION_NAME" in os.environ if progress is None else progress
            options = {"workers": parameters.workers, "scheduler": parameters.scheduler}
            sweep(todo, store, progress=shown, **options)
            found = [known(entry) for entry in entries]
        present = [numbers for numbers in found if numbers is not None]
        if not present:
            raise NoRuns(
                f"none of the {len(entries)} runs of {self.name}, profile {parameters.profile!r}, "
                f"is stored; set compute to true, or run `bsg compute {self.name} --profile ...`"
            )
        return Results(
            study=self,
            parameters=parameters,
            runs=pd.DataFrame([numbers.row for numbers in present]),
            history=_joined([numbers.history for numbers in present]),
            points=_joined([numbers.points for numbers in present]),
            timings=self._timings(parameters, store, exported),
            planned=Counter(entry.arm for entry in entries),
            computed=len(todo) if parameters.compute else 0,
        )

    def missing(self, parameters: StudyParameters, *, again: bool = False) -> list[Entry]:
        """Return the entries that can be computed here and are neither stored nor exported.

        Args:
            parameters: of this study.
            again: exported ones are missing, too, if they are not stored.
        """
        store, exported = store_of(parameters), self._exported(parameters)
        left = [e for e in self.design(parameters) if e.computable and not is_stored(e, store)]
        return [entry for entry in left if again or exported.find(entry) is None]

    def _exported(self, parameters: StudyParameters) -> "Export":
        return read_export(export_folder(parameters.profile, self.name))

    def _timings(self, parameters, store, exported: "Export") -> pd.DataFrame:
        plan = self.timing(parameters)
        if plan is None or not plan.repeats:
            return pd.DataFrame()
        options = {"samples": plan.samples, "repeats": plan.repeats}
        stored_times = stored_epoch_times
        if plan.processes:
            stored_times = stored_parallel_times
            options["processes"] = plan.processes
        key = digest(*(config.canonical() for config in plan.configs), str(options))
        published = exported.timings
        if not published.empty:
            published = published[published["plan"] == key]
        may_measure = parameters.compute and published.empty
        content = stored_times(plan.configs, store, compute=may_measure, **options)
        if content is None:
            return published
        rows = pd.DataFrame(content["rows"])
        configs = [plan.configs[place] for place in rows["config"]]
        return rows.assign(
            batch_size=[c.batch_size for c in configs],
            sam=[c.rho is not None for c in configs],
            processor=content["processor"],
            threads=content["threads"],
            plan=key,
        )

    def claim(self, claim_id: str) -> Claim:
        """Return a claim by its id.

        Raises:
            KeyError: if there is none, naming the nearest.
        """
        by_id = {claim.id: claim for claim in self.claims}
        if claim_id not in by_id:
            raise KeyError(f"unknown claim {claim_id!r}{nearest(claim_id, by_id)}")
        return by_id[claim_id]


@dataclass(frozen=True, repr=False, eq=False)
class Results:
    """A study's numbers as tidy tables: a row per run, run and epoch, point, timed epoch."""

    study: Study
    parameters: StudyParameters
    runs: pd.DataFrame
    history: pd.DataFrame
    points: pd.DataFrame  # of measures that have several, such as lines between minimizers
    timings: pd.DataFrame
    planned: dict[str, int]  # runs of each arm in the design
    computed: int

    @property
    def designed(self) -> int:
        """Return how many runs the design has."""
        return sum(self.planned.values())

    @property
    def complete(self) -> bool:
        """Return whether every designed run and time is there."""
        plan = self.study.timing(self.parameters)
        timed = plan is None or not plan.repeats or not self.timings.empty
        return len(self.runs) == self.designed and timed

    def verdicts(self, *claim_ids: str) -> VerdictTable:
        """Return the verdicts of some claims, all of the study's without arguments."""
        chosen = [self.study.claim(c).id for c in claim_ids] or list(self._verdicts)
        table = verdict_table([self._verdicts[c] for c in chosen])
        return replace(table, rows=table.rows.assign(study=self.study.name))

    @cached_property
    def _verdicts(self) -> dict[str, Verdict]:
        return {claim.id: verdict(claim, claim.statistic(self)) for claim in self.study.claims}

    def of(self, *arms: str) -> pd.DataFrame:
        """Return the runs of some arms, as far as they are computed."""
        return self.runs[self.runs["arm"].isin(arms)]

    def history_of(self, arm: str) -> pd.DataFrame:
        """Return the rows per epoch of an arm's runs."""
        return self.history[self.history["arm"] == arm]

    def summary(self) -> pd.DataFrame:
        """Return one row per arm: its runs, and how far they got."""
        trained = self.runs.assign(diverged=self.runs["stopped"] == "diverged")
        return trained.groupby("arm", sort=False).agg(
            runs=("run_id", "size"),
            seeds=("seed", "nunique"),
            diverged=("diverged", "sum"),
            epochs=("epochs", "median"),
            least_updates=("updates", "min"),
            train_accuracy=("train_accuracy", "median"),
            test_accuracy=("test_accuracy", "median"),
        )

    def _line(self) -> str:
        loaded, left = len(self.runs) - self.computed, self.designed - len(self.runs)
        return f"{self.designed} runs: {loaded} loaded, {self.computed} computed, {left} missing."

    def _repr_html_(self) -> str:
        table = self.summary().reset_index()
        html = table.to_html(index=False, border=0, classes="bsg", float_format="{:.3g}".format)
        return f"<p>{self._line()}</p>{html}"

    def __repr__(self) -> str:
        return f"{self._line()}\n{self.summary().to_string(float_format='{:.3g}'.format)}"


@dataclass(frozen=True)
class Numbers:
    """What one entry gave: a row, its history, and the points of its measures."""

    row: dict[str, Any]
    history: pd.DataFrame
    points: pd.DataFrame


TABLES = ("runs", "history", "points", "timings")


@dataclass(frozen=True)
class Export:
    """Published numbers of one study and profile."""

    runs: pd.DataFrame
    history: pd.DataFrame
    points: pd.DataFrame
    timings: pd.DataFrame

    def find(self, entry: Entry) -> Numbers | None:
        """Return an entry's numbers, None if they are not published."""
        return self._by_entry.get((entry.key, entry.arm))

    @cached_property
    def _by_entry(self) -> dict[tuple[str, str], Numbers]:
        histories, points = (
            dict(iter(table.groupby(["entry", "arm"]))) if len(table) else {}
            for table in (self.history, self.points)
        )
        found = {}
        for row in self.runs.to_dict("records"):
            key = row["entry"], row["arm"]
            found[key] = Numbers(row, histories[key], points.get(key, self.points.iloc[:0]))
        return found


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def export_folder(profile: str, study: str) -> Path:
    """Return where a study's published numbers lie."""
    return RESULTS / profile / study


def write_export(results: Results, folder: Path) -> None:
    """Write the numbers behind a study as CSV, to six digits: no weights, a few hundred KB.

    Raises:
        StoreError: if the folder cannot be written; what was there before stays.
    """
    tables = {name: getattr(results, name) for name in TABLES}
    parts = {name: folder / f".{name}.csv.part" for name, table in tables.items() if len(table)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in parts.items():
            tables[name].to_csv(part, index=False, float_format="%.6g")
        for name in TABLES:
            if name in parts:
                os.replace(parts[name], folder / f"{name}.csv")
            else:
                (folder / f"{name}.csv").unlink(missing_ok=True)
    except OSError as error:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        raise StoreError(f"{folder} cannot be written: {error}") from error


def read_export(folder: Path) -> Export:
    """Return published numbers, empty tables where there are none.

    Raises:
        StoreError: if a table is damaged.
    """
    ids = dict.fromkeys(("entry", "run_id", "plan"), str)  # digits alone are no number
    tables = {}
    for name in TABLES:
        path = folder / f"{name}.csv"
        if not path.is_file():
            tables[name] = pd.DataFrame()
            continue
        try:
            tables[name] = pd.read_csv(path, dtype=ids)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise StoreError(f"damaged file {path}: {error}") from error
    runs, told = (
        set(zip(table["entry"], table["arm"], strict=True)) if len(table) else set()
        for table in (tables["runs"], tables["history"])
    )
    if lost := sorted(runs - told):
        which = ", ".join(lost[0])
        raise StoreError(f"damaged file {folder / 'history.csv'}: without the run {which}")
    return Export(**tables)


def store_of(parameters: StudyParameters) -> Store:
    """Return the run store that parameters name."""
    return Store(resolve(parameters.store or os.environ.get("BSG_STORE") or "runs"))


def _stored(entry: Entry, store: Store) -> Numbers | None:
    """The numbers of a stored run, None if it or one of its measures is missing."""
    run = run_of(entry, store)
    if run is None:
        return None
    config = entry.config.model_dump()
    config["network_options"] = json.dumps(config["network_options"], sort_keys=True)
    row = {"entry": entry.key, "arm": entry.arm, "part": entry.part} | config
    row |= {name: value for name, value in run.result.items() if name != "files"}
    row |= run.kept.drop(["epoch", "updates"]).to_dict()
    labels = {name: row[name] for name in ("entry", "arm", "batch_size", "seed")}
    points = []
    for measure in entry.measures:
        values = None if run.diverged else stored_measure(run.id, measure, store)
        if values is None and not run.diverged:
            return None
        if values is not None and "rows" in values:
            options = {k: str(v) if isinstance(v, list) else v for k, v in measure.options.items()}
            shown = {"measure": measure.name, **options, **labels}
            points.append(pd.DataFrame(values["rows"]).assign(**shown))
            continue
        column = measure.column
        row |= {f"{column}.{name}": value for name, value in (values or {}).items()}
        row |= {column: row.get(f"{column}.value", float("nan"))}
    return Numbers(row, run.history.assign(**labels), _joined(points))
