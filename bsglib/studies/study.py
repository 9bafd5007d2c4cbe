"""Studies, one per paper: parameters, design (runs and measures) and claims."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bsglib import runtime
from bsglib.claims import Claim, Judged, Terms, corrected, verdict, with_readings
from bsglib.names import digest, nearest
from bsglib.project import ROOT, resolve
from bsglib.runs.ddp import stored_parallel_times
from bsglib.runs.params import ParameterError, RunConfig, parse
from bsglib.runs.store import Store
from bsglib.runs.sweep import Entry, sweep
from bsglib.runs.timing import stored_epoch_times
from bsglib.stats import holm
from bsglib.studies import exports
from bsglib.studies.exports import Numbers, Tables, joined
from bsglib.studies.parameters import StudyParameters
from bsglib.studies.verdict_table import VerdictTable, verdict_table
from bsglib.verdicts import PRIMARY_SEEDS, SEEDS, Shares

RESULTS, SEALED = ROOT / "reports" / "results", ROOT / "reports" / "sealed"
SEALED_PROFILES: tuple[str, ...] = ()  # whose rules are not registered yet
CORRECTED = "confirm"  # the profile in which primary claims are tested, once
FRESH = 10  # the first seed that nobody looked at before the rules were registered
EXPLORATORY_SEEDS = 3  # that a claim needs where seeds below are among them


class NoRuns(ParameterError):
    """Nothing of a study is stored or exported, and nothing was to be computed."""


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
    """One paper's study: everything that its notebook uses."""

    name: str
    title: str
    source: str
    headline: str  # the figure that stands for the study
    parameters: type[StudyParameters]
    design: Callable[[Any], list[Entry]]
    timing: Callable[[Any], Timing | None]
    claims: tuple[Claim, ...]
    module: str | None = None  # __name__ of one outside the package, whose variable is `study`
    # What each of some runs has of the source's training, for the scale of verdicts.
    shares: Callable[["Results", pd.DataFrame], Iterable[Shares]] = lambda results, runs: ()
    examples: str = "images"  # what a training example is called

    @property
    def address(self) -> str:
        """Return what `bsg` calls it by."""
        return self.name if self.module is None else f"{self.module}:study"

    @property
    def folder(self) -> Path:
        """Return where its parameter files lie; of one outside the package beside its module."""
        if self.module is None:
            return ROOT / "params" / self.name
        return Path(sys.modules[self.module].__file__).parent / "params"

    @property
    def notebook(self) -> Path:
        """Return its notebook; outside the package it lies beside its module, too."""
        folder = ROOT / "notebooks" if self.module is None else self.folder.parent
        return folder / f"{self.name}.ipynb"

    def arm(
        self, parameters: StudyParameters, like: str, *, name: str, **changes: Any
    ) -> list[Entry]:
        """Return an arm of the user's own for `run(also=...)`: one of the design, changed.

        It has the batch sizes, seeds and measures of that arm, except for lines to other runs, and
        none of the labels by which claims and figures select runs.

        Args:
            parameters: of this study.
            like: the name of the design's arm.
            name: of the new one.
            **changes: fields of `RunConfig` and their values.

        Raises:
            ParameterError: if there is no such arm or field, or a value is out of range.
        """
        designed = self.design(parameters)
        if not (same := [entry for entry in designed if entry.arm == like]):
            known = dict.fromkeys(entry.arm for entry in designed)
            raise ParameterError(f"unknown arm {like!r}{nearest(like, known)}")
        own = {}  # by key: a changed batch size makes several entries one
        for entry in same:
            config = parse(entry.config.model_dump() | changes, RunConfig)
            measures = tuple(m for m in entry.measures if m.start is None)
            changed = Entry(config, measures, name, entry.part, entry.optional, entry.epoch)
            own[changed.key] = changed
        return list(own.values())

    def run(
        self,
        parameters: StudyParameters,
        *,
        also: Sequence[Entry] = (),
        progress: bool | None = None,
    ) -> "Results":
        """Return the study's numbers: stored or exported ones loaded, missing ones computed.

        Args:
            parameters: of this study.
            also: runs besides those of the design, in arms of other names; no claim counts them.
            progress: show a bar; None: only in an interactive Jupyter session.

        Returns:
            the numbers, without missing runs if `parameters.compute` is False, and without optional
            runs whose data are not available.

        Raises:
            NoRuns: if no run is stored.
            ParameterError: if the profile is sealed, or an arm of `also` is one of the design.
        """
        runtime.single_thread()
        if is_sealed(parameters.profile):
            raise ParameterError(
                f"profile {parameters.profile!r} is sealed: its numbers stay unread until "
                "all rules are final; `bsg compute` and `bsg export` work without reading them"
            )
        store, exported = store_of(parameters), self._exported(parameters)
        designed = self.design(parameters)
        if taken := {e.arm for e in also} & {e.arm for e in designed}:
            raise ParameterError(f"arm {min(taken)!r} is one of the design: choose another name")
        every = [*designed, *also]
        known = self._known(every, store, exported)
        todo = [e for e in every if e.computable and _incomplete(known[e.key, e.arm])]
        computed: set[tuple[str, str]] = set()
        if parameters.compute and todo:
            shown = "JPY_SESSION_NAME" in os.environ if progress is None else progress
            options = {"workers": parameters.workers, "scheduler": parameters.scheduler}
            sweep(todo, store, progress=shown, **options)
            known = self._known(every, store, exported)
            computed = {(e.key, e.arm) for e in todo}
        timings = self._timings(parameters, store, exported.timings)
        of_design = self._results(parameters, designed, known, timings, computed)
        if not also:
            return of_design
        results = self._results(parameters, every, known, timings, computed)
        return replace(results, of_design=of_design)

    def _results(self, parameters, every: list[Entry], known, timings, computed) -> "Results":
        """Return the tables of some entries, given what is known of each."""
        entries, left_out = [], []
        for e in every:
            there = e.computable or known[e.key, e.arm] is not None
            (entries if there else left_out).append(e)
        present = [known[e.key, e.arm] for e in entries if known[e.key, e.arm] is not None]
        if not present:
            raise NoRuns(
                f"none of the {len(entries)} runs of {self.name}, profile {parameters.profile!r}, "
                f"is stored; set compute to true, or run `bsg compute {self.address} --profile ...`"
            )
        return Results(
            study=self,
            parameters=parameters,
            runs=pd.DataFrame([numbers.row for numbers in present]),
            history=joined(numbers.history for numbers in present),
            points=joined(numbers.points for numbers in present),
            outcomes=joined(numbers.outcomes for numbers in present),
            timings=timings,
            design=designed_table(entries),
            left_out=designed_table(left_out),
            computed=sum((e.key, e.arm) in computed for e in entries),
        )

    def _known(
        self, entries: list[Entry], store: Store, exported: Tables
    ) -> dict[tuple[str, str], Numbers | None]:
        """Return what is stored or else exported of each entry, whichever has more measures."""
        stored, found = exports.of_store(entries, store), {}
        for entry in entries:
            numbers = [n for n in (stored.find(entry), exported.find(entry)) if n is not None]
            found[entry.key, entry.arm] = min(numbers, key=lambda n: n.missing, default=None)
        return found

    def missing(self, parameters: StudyParameters, *, again: bool = False) -> list[Entry]:
        """Return the entries that can be computed here and are neither stored nor exported.

        Args:
            parameters: of this study.
            again: exported ones are missing, too, if they are not stored.
        """
        entries = [entry for entry in self.design(parameters) if entry.computable]
        exported = Tables() if again else self._exported(parameters)
        known = self._known(entries, store_of(parameters), exported)
        return [entry for entry in entries if _incomplete(known[entry.key, entry.arm])]

    def known(self, parameters: StudyParameters) -> list[Tables]:
        """Return what the store holds of the design, and what is exported."""
        stored = exports.of_store(self.design(parameters), store_of(parameters))
        return [stored, self._exported(parameters)]

    def tables(self, parameters: StudyParameters) -> Tables:
        """Return what the store holds of the design, and the times, to be exported."""
        store = store_of(parameters)
        tables = exports.of_store(self.design(parameters), store)
        known, as_is = self._exported(parameters).timings, {"compute": False}
        found = self._timings(parameters.model_copy(update=as_is), store, known)
        return replace(tables, timings=found)

    def _exported(self, parameters: StudyParameters) -> Tables:
        return exports.read(export_folder(parameters.profile, self.name))

    def _timings(self, parameters, store, published: pd.DataFrame) -> pd.DataFrame:
        plan = self.timing(parameters)
        if plan is None or not plan.repeats:
            return pd.DataFrame()
        options = {"samples": plan.samples, "repeats": plan.repeats}
        stored_times = stored_epoch_times
        if plan.processes:
            stored_times = stored_parallel_times
            options["processes"] = plan.processes
        key = digest(*(config.canonical() for config in plan.configs), str(options))
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
    design: pd.DataFrame  # a row per run, computed or not: what its run is and belongs to
    computed: int
    outcomes: pd.DataFrame = field(default_factory=pd.DataFrame)  # of every test example, packed
    left_out: pd.DataFrame = field(default_factory=pd.DataFrame)  # as design: no data at hand
    of_design: "Results | None" = None  # without the arms that a user added; None: there are none

    @property
    def judged(self) -> "Results":
        """Return the numbers that claims are judged by: those of the design alone."""
        return self if self.of_design is None else self.of_design

    @property
    def designed(self) -> int:
        """Return how many runs the design has."""
        return len(self.design)

    @property
    def complete(self) -> bool:
        """Return whether every designed run and time is there."""
        plan = self.study.timing(self.parameters)
        timed = plan is None or not plan.repeats or not self.timings.empty
        return len(self.runs) == self.designed and timed

    def verdicts(
        self, *claim_ids: str, figure: str | tuple[str, ...] | None = None
    ) -> VerdictTable:
        """Return the verdicts of some claims.

        Args:
            *claim_ids: which; none: all of the study's.
            figure: or those that this figure or table shows, or these; without claims on runs that
                the profile does not have, unless it has none of them.

        Raises:
            KeyError: if there is no such claim, or none for the figure.
        """
        chosen = [self.study.claim(c).id for c in claim_ids] or list(self._verdicts)
        if figure is not None:
            figures = {claim.id: claim.figure for claim in self.study.claims}
            wanted = (figure,) if isinstance(figure, str) else figure
            if unknown := [name for name in wanted if name not in figures.values()]:
                near = nearest(unknown[0], set(figures.values()))
                raise KeyError(f"no claim for {unknown[0]!r}{near}")
            chosen = [c for c in chosen if figures[c] in wanted]
            chosen = [c for c in chosen if self._has_runs_of(c)] or chosen
        table = verdict_table([self._verdicts[c] for c in chosen])
        return replace(table, rows=table.rows.assign(study=self.study.name, evidence=self.evidence))

    def _has_runs_of(self, claim_id: str) -> bool:
        asked = getattr(self.study.claim(claim_id).statistic, "in_profile", None)
        return asked is None or asked(self.judged)

    @property
    def exploratory(self) -> bool:
        """Return whether seeds are among the runs that were looked at before rules were final."""
        return bool((self.design["seed"] < FRESH).any())

    @property
    def evidence(self) -> str:
        """Return "exploratory" or "confirmatory", as the table of verdicts says."""
        return "exploratory" if self.exploratory else "confirmatory"

    @property
    def terms(self) -> Terms:
        """Return under which terms the claims are judged."""
        profile = self.parameters.profile
        needed = EXPLORATORY_SEEDS if self.exploratory else SEEDS
        command = f"`bsg compute {self.study.address} --profile {profile}`"
        return Terms(
            seeds=needed,
            primary=PRIMARY_SEEDS if profile == CORRECTED else needed,
            remedy="" if len(self.runs) == self.designed else command,
            examples=self.study.examples,
        )

    def judge(self, claim: Claim) -> Judged:
        """Return the verdict on a claim, without a correction for the number of claims."""
        return verdict(claim, claim.statistic(self.judged), self.terms)

    @cached_property
    def _verdicts(self) -> dict[str, Judged]:
        found = [self.judge(claim) for claim in self.study.claims]
        adjusted = self._adjusted(found) if self.parameters.profile == CORRECTED else {}
        return {one.claim.id: one for one in with_readings(corrected(found, adjusted))}

    def _adjusted(self, judged: Sequence[Judged]) -> dict[str, float]:
        """The p values of the primary claims, adjusted by Holm over those of all studies."""
        own = {one.claim.id: one.verdict.p for one in judged if one.claim.primary}
        file = primary_file(self.parameters.profile)
        known = pd.read_csv(file, index_col="claim")["p"].to_dict() if file.is_file() else {}
        adjusted = holm([*own.values(), *(p for claim, p in known.items() if claim not in own)])
        return dict(zip(own, map(float, adjusted), strict=False))

    def of_seeds(self, seeds: Sequence[int]) -> "Results":
        """Return the numbers of some seeds."""
        chosen = frozenset(seeds)
        return self if chosen >= set(self.design["seed"]) else _of_seeds(self, chosen)

    def of(self, *arms: str, **where: Any) -> pd.DataFrame:
        """Return the runs with some labels, as far as they are computed.

        Args:
            *arms: their names; none: all.
            **where: columns and the value, or the values, that they are to have.
        """
        return matching(self.runs, *arms, **where)

    def history_of(self, *arms: str, **where: Any) -> pd.DataFrame:
        """Return the rows per epoch of the runs with some labels, as `of`."""
        return matching(self.history, *arms, **where)

    def points_of(self, *arms: str, **where: Any) -> pd.DataFrame:
        """Return the rows of measures that have several of the runs with some labels, as `of`."""
        return matching(self.points, *arms, **where)

    def timings_of(self, **where: Any) -> pd.DataFrame:
        """Return the timed epochs whose columns have some values."""
        return matching(self.timings, **where)

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


@lru_cache(maxsize=4)
def _of_seeds(results: Results, seeds: frozenset[int]) -> Results:
    """The numbers of some seeds, once for the many claims that ask."""
    tables = {
        name: table[table["seed"].isin(seeds)]
        for name in ("runs", "history", "points", "outcomes", "design")
        if len(table := getattr(results, name))
    }
    return replace(results, **tables)


def matching(rows: pd.DataFrame, *arms: str, **where: Any) -> pd.DataFrame:
    """Return the rows whose columns have some values.

    Args:
        rows: of runs, of their epochs, or of the design.
        *arms: names of arms; none: all.
        **where: columns and the value, or the list of values, that they are to have.
    """
    kept = np.ones(len(rows), bool)  # one copy of the rows, however many columns
    for column, wanted in (({"arm": list(arms)} if arms else {}) | where).items():
        if kept.any():
            several = isinstance(wanted, list | tuple)
            kept &= rows[column].isin(wanted if several else [wanted]).to_numpy()
    return rows[kept]


def designed_table(entries: list[Entry]) -> pd.DataFrame:
    """Return a row per entry of a design: its config, and its place in the study."""
    return pd.DataFrame(
        {"part": entry.part, "optional": entry.optional} | entry.config.model_dump() | entry.columns
        for entry in entries
    )


def export_folder(profile: str, study: str) -> Path:
    """Return where a study's exported numbers lie; sealed ones are read by no report."""
    return (SEALED if is_sealed(profile) else RESULTS) / profile / study


def primary_file(profile: str) -> Path:
    """Return the file with the p values of the primary claims of all studies."""
    return RESULTS / profile / "primary.csv"


def is_sealed(profile: str) -> bool:
    """Return whether a profile's numbers stay closed until the rules that judge them landed."""
    return profile in SEALED_PROFILES


def store_of(parameters: StudyParameters) -> Store:
    """Return the run store that parameters name."""
    return Store(resolve(parameters.store or os.environ.get("BSG_STORE") or "runs"))


def _incomplete(numbers: Numbers | None) -> bool:
    return numbers is None or numbers.missing > 0
