"""`bsg`: build reports, compute studies, manage data and runs."""

import contextlib
import gc
import importlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bsglib.data import NAMES, DataError, data_folder, is_folder, load
from bsglib.models import ModelError
from bsglib.names import nearest
from bsglib.project import ROOT
from bsglib.runs import queue
from bsglib.runs.params import ParameterError, RunConfig, parse
from bsglib.runs.store import Store, StoreError
from bsglib.runs.sweep import Entry, SweepError, by_run, sweep
from bsglib.runs.timing import duration
from bsglib.runtime import cores, need_no_home, single_thread
from bsglib.studies import exports, primary, profiles, registration, surlemont
from bsglib.studies.catalogue import STUDIES
from bsglib.studies.estimates import Costs, megabytes
from bsglib.studies.parameters import StudyParameters
from bsglib.studies.study import (
    CORRECTED,
    NoRuns,
    Study,
    export_folder,
    is_sealed,
    store_of,
)
from bsglib.studies.surlemont import authors, published
from bsglib.studies.surlemont.checkpoints import CheckpointError

USER_ERRORS = (
    ParameterError, DataError, ModelError, StoreError, SweepError, CheckpointError, OSError
)  # fmt: skip
REPORTS, README = ROOT / "reports", ROOT / "README.md"

commands = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
OWN = "package.module:study"  # a study of the user's
NAMES_HELP = f"names, or {OWN} of yours; default: all"
Names = Annotated[list[str] | None, typer.Argument(metavar="[STUDY]...", help=NAMES_HELP)]
All = Annotated[bool, typer.Option("--all", help="all studies, in the order of params/queue.yaml")]
Profile = Annotated[
    str, typer.Option(help="name of a file in params/STUDY/, or path of a YAML file")
]
StoreFolder = Annotated[str | None, typer.Option("--store", help="folder of the run store")]
Workers = Annotated[int | None, typer.Option(help="processes; default: one per core; 0: no Dask")]
TimeLimit = Annotated[
    str | None, typer.Option(help="stop cleanly after this time, such as 150m, 2h or 90s")
]
Scheduler = Annotated[str | None, typer.Option(help="address of a Dask cluster")]


def app() -> None:
    """Run the command line; user errors end it with one message and status 1."""
    try:
        commands()
    except USER_ERRORS as error:
        typer.echo(f"bsg: {error}", err=True)
        sys.exit(1)


@commands.command("report")
def build_report(
    studies: Names = None,
    profile: Profile = "quick",
    compute: Annotated[
        bool | None, typer.Option(help="train missing runs; default: for quick only")
    ] = None,
    store: StoreFolder = None,
    workers: Workers = None,
) -> None:
    """Build HTML reports and their index; for published profiles also the README's tables."""
    # Without it jsonschema checks no URIs, and does not compile a grammar of them for a second.
    sys.modules.setdefault("rfc3987_syntax", None)
    need_no_home()
    gc.freeze()  # what is imported stays: the collector need not go through torch again and again
    from bsglib.pages import index

    if not (ROOT / "notebooks").is_dir():
        raise ParameterError(f"`bsg report` needs notebooks/ of a clone; {ROOT} has none")
    built = []
    for study in (chosen := _studies(studies)):
        parameters = profiles.load(study, profile, store=store, workers=workers)
        name = parameters.profile
        train = name == "quick" if compute is None else compute
        typer.echo(f"{study.name}, {name}: {'computing' if train else 'loading'} runs")
        try:
            run = study.run(parameters.model_copy(update={"compute": train}), progress=True)
        except NoRuns as error:
            if studies:
                raise
            typer.echo(f"{study.name}: skipped, {error}")
            continue
        command = f"bsg report {study.address} --profile {profile}"
        page, verdicts = _build_page(study, parameters, command)
        typer.echo(f"{_shown(page)}{verdicts}")
        if not run.complete:
            typer.echo(f"{study.name}: runs or times are missing; their claims are not run")
        built.append(study)
    if not built:
        raise NoRuns(f"no study has runs of profile {name!r}: nothing to report")
    cards = [
        {
            "name": s.name,
            "title": s.title,
            "source": s.source,
            "headline": s.headline,
        }
        for s in (STUDIES | {study.name: study for study in chosen}).values()
    ]
    page = index.write_index(REPORTS, name, cards)
    if name in index.PUBLISHED_PROFILES:
        _publish(name, cards[: len(STUDIES)], built)  # a user's studies stay out of the README
    typer.echo(_shown(page))


def _build_page(study: Study, parameters: StudyParameters, command: str) -> tuple[Path, str]:
    """Execute a study's notebook on stored runs; return its page and its verdicts as text."""
    from bsglib.pages import report

    folder = REPORTS / parameters.profile
    figures = folder / "figures" / study.name
    of_here = {"store": None, "workers": None, "scheduler": None}  # no path of ours on the page
    of_here |= {"compute": False, "figures": _shown(figures)}
    values = parameters.model_dump(exclude_defaults=True) | of_here  # the cell may lack the others
    with _replaced(figures), _variable("BSG_STORE", str(store_of(parameters).root)):
        notebook = report.execute(study.notebook, folder / f"{study.name}.ipynb", values)
    page = report.to_html(
        notebook,
        folder / f"{study.name}.html",
        figures=figures,
        assets=REPORTS / "assets",
        command=command,
    )
    found = report.tallies(report.verdicts(figures / "verdicts.csv"))
    return page, "".join(f"\n  {tally['name']}: {report.tally_text(tally)}" for tally in found)


def _publish(profile: str, cards: list[dict], built: list[Study]) -> None:
    """Write the index of all reports, and their summary in the README."""
    from bsglib.pages import index

    typer.echo(_shown(index.write_index(REPORTS, None, cards)))
    index.update_marked(README, "conclusions", index.conclusions(REPORTS, cards, README.parent))
    index.update_marked(
        README, "verdicts", index.primary_claims_table(REPORTS, cards, README.parent)
    )
    first = next(iter(STUDIES.values()))
    if first in built and profile == index.BASE:  # others may lack runs of the figure
        notebook = REPORTS / profile / f"{first.name}.ipynb"
        shown = index.headline(REPORTS, first.name, first.headline, notebook)
        index.update_marked(README, "headline", shown)
    typer.echo(_shown(README))


@commands.command()
def compute(
    studies: Names = None,
    every: All = False,
    profile: Profile = "quick",
    store: StoreFolder = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    part: Annotated[int | None, typer.Option(help="only this part of the design")] = None,
    time_limit: TimeLimit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="estimate time and disk, compute nothing")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="include published runs")] = False,
) -> None:
    """Train and measure the runs of a profile that are neither stored nor published."""
    limit_s = None if time_limit is None else _seconds(time_limit)
    given = {"store": store, "workers": workers, "scheduler": scheduler}
    works = [_work(s, p, part, again=again) for s, p in _chosen(studies, every, profile, given)]
    for work in works:
        counts = f"{len(work.entries)} runs, {len(work.todo)} to compute"
        typer.echo(f"{work.study.name}, {profile}: {counts}")
    order = queue.Queue.of(works[0].parameters.profile)
    todo = sorted(
        ((work, entry) for work in works for entry in work.todo),
        key=lambda pair: order.place(pair[0].study.name, pair[1]),
    )
    parameters, todo = works[0].parameters, [entry for _, entry in todo]
    if dry_run:
        processes = max(1, cores() if parameters.workers is None else parameters.workers)
        length = duration(sum(work.processor_seconds() for work in works) / processes)
        typer.echo(f"about {length} on {processes} processes, with evaluation and measures")
        typer.echo(f"about {megabytes(todo):.3g} MB of disk in {store_of(parameters).root}")
        return
    try:
        left = sweep(
            todo,
            store_of(parameters),
            workers=parameters.workers,
            scheduler=parameters.scheduler,
            time_limit_s=limit_s,
            progress=True,
        )
    except KeyboardInterrupt:
        typer.echo("interrupted: results so far are stored; the same command continues", err=True)
        raise
    if left:
        typer.echo(f"time limit: {len(by_run(left))} runs left; the same command continues")
        return
    for study, of_study in ((work.study, work.parameters) for work in works):
        if _work(study, of_study, None, again=again).todo:
            typer.echo("this part is complete; others are not")
        elif is_sealed(of_study.profile):
            kept = f"bsg export {study.address} --profile {profile}"
            typer.echo(f"complete: `{kept}` exports the numbers")
        else:
            study.run(of_study)  # the times per epoch, on a quiet machine
            shown = f"bsg report {study.address} --profile {profile}"
            typer.echo(f"complete: `{shown}` builds the report")


@dataclass(frozen=True)
class _Work:
    """A study's entries of some parts, and the missing ones."""

    study: Study
    parameters: StudyParameters
    entries: list[Entry]
    todo: list[Entry]

    def processor_seconds(self) -> float:
        """Return an estimate of the processor seconds of the missing entries."""
        costs = Costs(self.study.design(self.parameters), self.study.known(self.parameters))
        return sum(costs.of(entry) for entry in by_run(self.todo))


def _work(
    study: Study, parameters: StudyParameters, part: int | None, *, again: bool = False
) -> _Work:
    """Return the computable entries of a part, or of all parts if None.

    Raises:
        ParameterError: if the study has no such part.
    """
    entries = [entry for entry in study.design(parameters) if entry.computable]
    parts = sorted({entry.part for entry in entries})
    if part is not None and part not in parts:
        raise ParameterError(f"part {part}: {study.name} has parts {parts}")
    missing = study.missing(parameters, again=again)
    of_part = ([e for e in some if part in (None, e.part)] for some in (entries, missing))
    return _Work(study, parameters, *of_part)


def _chosen(
    names: list[str] | None, every: bool, profile: str, given: dict
) -> list[tuple[Study, StudyParameters]]:
    """Return the named studies, or all studies with the profile, and their parameters."""
    if every == bool(names):
        raise ParameterError(f"give names of studies or --all; allowed: {', '.join(STUDIES)}")
    chosen = _studies(names)
    if every:
        chosen = [s for s in chosen if (s.folder / f"{profile}.yaml").is_file()]
        if not chosen:
            raise ParameterError(f"unknown profile {profile!r} in every study")
    return [(study, profiles.load(study, profile, **given)) for study in chosen]


def _seconds(text: str) -> float:
    """Return a duration in seconds from 90s, 150m, 2h, or minutes without a unit."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([smh]?)", text)
    if not found:
        raise ParameterError(f"--time-limit {text}: allowed are durations such as 90s, 150m and 2h")
    return float(found[1]) * {"s": 1, "m": 60, "": 60, "h": 3600}[found[2]]


@commands.command()
def register() -> None:
    """Write anew what is registered of every claim; a change needs a row in docs/amendments.md."""
    before = registration.read()
    lock = registration.updated(before, STUDIES)
    registration.write(lock)
    for name, claims in lock.items():
        for claim, content in claims.items():
            if before.get(name, {}).get(claim, {}).get("digests") != content["digests"]:
                typer.echo(f"{name}, {claim}: {content['digests'][-1]}")
    typer.echo(_shown(registration.LOCK))


@commands.command()
def status(studies: Names = None, store: StoreFolder = None) -> None:
    """Show the number of stored or published runs by study, profile and part.

    For profiles in params/queue.yaml, also show the remaining hours on the cores of this machine,
    except for profiles counted in minutes of a GPU.
    """
    hours = {p: 0.0 for p in queue.profiles() if not queue.Queue.of(p).for_gpu}
    for study in _studies(studies):
        for file in sorted(study.folder.glob("*.yaml")):
            parameters = profiles.load(study, file.stem, store=store)
            whole = _work(study, parameters, None)
            for part in sorted({entry.part for entry in whole.entries}):
                of_part = ([e for e in s if e.part == part] for s in (whole.entries, whole.todo))
                work = _Work(study, parameters, *of_part)
                n, left = len(work.entries), len(work.todo)
                line = f"{study.name}, {file.stem}, part {part}: {n - left} of {n} runs"
                if file.stem in hours and left:
                    try:
                        seconds = work.processor_seconds() / cores()
                    except DataError:
                        seconds = float("nan")
                    hours[file.stem] += seconds / 3600
                    line += ", " + _left(seconds)
                typer.echo(line)
    for profile, left in hours.items():
        typer.echo(f"{profile}: {_left(3600 * left)} on {cores()} cores")


def _left(seconds: float) -> str:
    """Return the remaining time as text; it is unknown without the data."""
    return "about " + duration(seconds) + " left" if seconds == seconds else "data not available"


@commands.command()
def data(
    names: Annotated[list[str] | None, typer.Argument(help="default: all")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="side in pixels, for folders of images", min=1)
    ] = None,
) -> None:
    """Download and verify data sets; a failure does not stop the others."""
    failures = []
    for name in names or NAMES:
        try:
            dataset = load(name, image_size=image_size if is_folder(name) else None)
        except DataError as error:
            failures.append(str(error))
            continue
        sizes = f"{len(dataset.train) + len(dataset.validation)} + {len(dataset.test)} examples"
        typer.echo(f"{name}: {sizes}, {dataset.checksum}, in {data_folder()}")
    if failures:
        raise DataError("\n".join(failures))


@commands.command("examine-authors")
def examine_authors(
    study: Annotated[str, typer.Argument(help=surlemont.study.name)],
    weights: Annotated[Path, typer.Option(help="clone of the authors' repository")],
    out: Annotated[Path, typer.Option(help="CSV; rows that it has are kept")] = authors.MEASURED,
    only: Annotated[str, typer.Option(help="networks whose name contains this")] = "",
    measures: Annotated[
        list[str] | None, typer.Option("--measure", help="repeatable; default: all")
    ] = None,
    examples: Annotated[
        int, typer.Option(help="of the training set; the authors' sharpness takes all", min=1)
    ] = published.EXAMPLES,
    time_limit: TimeLimit = None,
) -> None:
    """Measure the networks that a study's authors trained, by their solver and by ours."""
    if study != surlemont.study.name:
        raise ParameterError(
            f"study {study!r}: only the weights of {surlemont.study.name} are public"
        )
    single_thread()
    steps = authors.examine(
        authors.weights_folder(weights),
        out,
        only=only,
        measures=measures or authors.MEASURES,
        examples=examples,
        time_limit_s=None if time_limit is None else _seconds(time_limit),
    )
    for done, total, name in steps:
        typer.echo(f"{done} of {total}, {name}")
    typer.echo(_shown(out))


@commands.command()
def export(
    studies: Names = None,
    every: All = False,
    profile: Profile = "laptop",
    store: StoreFolder = None,
) -> None:
    """Export the numbers behind a study to reports/results/, from which its report rebuilds.

    reports/results/MANIFEST.json gets their checksums. Profiles whose rules are not final go to
    reports/sealed/, which no report reads.
    """
    for study, parameters in _chosen(studies, every or not studies, profile, {"store": store}):
        folder = export_folder(parameters.profile, study.name)
        exports.write(study.tables(parameters), folder)
        work = _work(study, parameters, None)
        n, left = len(work.entries), len(work.todo)
        typer.echo(f"{_shown(folder)}: {n - left} of {n} runs")
    if not is_sealed(parameters.profile):
        if parameters.profile == CORRECTED:
            primary.write(CORRECTED)
        exports.write_manifest(folder.parent.parent)


@commands.command()
def clean(
    store: StoreFolder = None,
    yes: Annotated[bool, typer.Option("--yes", help="remove without a question")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list them, remove none")] = False,
) -> None:
    """Remove finished runs whose config is in no parameter file below params/."""
    named: set[str] = set()
    for study in STUDIES.values():
        for file in sorted(study.folder.glob("*.y*ml")):
            for entry in study.design(profiles.load(study, str(file))):
                starts = [measure.start for measure in entry.measures if measure.start]
                named |= {config.canonical() for config in (entry.config, *starts)}
    runs = store_of(profiles.load(study, "quick", store=store))
    extra = [run for run in runs.finished() if _config(runs, run).canonical() not in named]
    typer.echo(f"{runs.root}: {len(extra)} runs are in no parameter file below params/")
    if dry_run:
        typer.echo("\n".join(extra))
    elif extra and (yes or typer.confirm("remove them?")):
        for run in extra:
            with runs.lock(run):
                shutil.rmtree(runs.folder(run))


def _config(store: Store, run: str) -> RunConfig:
    file = store.folder(run) / "config.json"
    try:
        return parse(store.read_json(run, file.name) or {}, RunConfig)
    except ParameterError as error:
        raise StoreError(f"damaged file {file}, or a file from another version: {error}") from error


def _studies(names: list[str] | None) -> list[Study]:
    return [_study(name) for name in names or STUDIES]


def _study(name: str) -> Study:
    """Return a study by its name, or one of the user's by its module."""
    if name in STUDIES:
        return STUDIES[name]
    module, colon, variable = name.partition(":")
    if not colon:
        raise ParameterError(f"unknown study {name!r}{nearest(name, [*STUDIES, OWN])}")
    try:
        study = getattr(importlib.import_module(module), variable, None)
    except Exception as error:  # a user's module raises whatever it likes
        raise ParameterError(
            f"study {name!r} cannot be imported: {error!r}; its folder has to be installed, or in "
            "PYTHONPATH"
        ) from error
    if not isinstance(study, Study) or study.address != name or study.name in STUDIES:
        raise ParameterError(
            f"study {name!r}: needed is a Study, in the variable `study`, with a name that no "
            "other study has and `module=__name__`"
        )
    return study


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable, which a kernel started meanwhile inherits."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[None]:
    """Empty a folder for new content; restore the old content on failure."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
