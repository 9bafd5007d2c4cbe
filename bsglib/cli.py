"""`bsg`: build reports, compute studies, look after data and runs."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from bsglib.data import NAMES, DataError, data_folder, is_folder, load
from bsglib.models import ModelError
from bsglib.papers import (
    NoRuns,
    Study,
    StudyParameters,
    chang,
    export_folder,
    kaabachi,
    keskar,
    store_of,
    surlemont,
    write_export,
)
from bsglib.params import ROOT, ParameterError, RunConfig, nearest, parse, read, resolve
from bsglib.runtime import cores
from bsglib.store import Store, StoreError
from bsglib.sweep import Entry, SweepError, megabytes, seconds, sweep
from bsglib.timing import duration

STUDIES = {
    study.name: study for study in (keskar.study, chang.study, kaabachi.study, surlemont.study)
}
REPORTS, README = ROOT / "reports", ROOT / "README.md"

commands = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
Names = Annotated[list[str] | None, typer.Argument(metavar="[STUDY]...", help="default: all")]
Name = Annotated[str, typer.Argument(metavar="STUDY")]
Profile = Annotated[str, typer.Option(help="name below params/STUDY/, or a YAML file of yours")]
StoreFolder = Annotated[str | None, typer.Option("--store", help="folder of the run store")]
Workers = Annotated[int | None, typer.Option(help="processes; default one per core; 0: no Dask")]
Scheduler = Annotated[str | None, typer.Option(help="address of a Dask cluster")]


def app() -> None:
    """Run the command line; errors a user can mend end it with one message and status 1."""
    try:
        commands()
    except (ParameterError, DataError, ModelError, StoreError, SweepError, OSError) as error:
        typer.echo(f"bsg: {error}", err=True)
        sys.exit(1)


@commands.command("report")
def build_report(
    studies: Names = None,
    profile: Profile = "quick",
    compute: Annotated[
        bool | None, typer.Option(help="train what is missing; default: for quick only")
    ] = None,
    store: StoreFolder = None,
    workers: Workers = None,
) -> None:
    """Build HTML reports, their index, and of published profiles the README's tables."""
    # Without it jsonschema checks no URIs, and does not compile a grammar of them for a second.
    sys.modules.setdefault("rfc3987_syntax", None)
    from bsglib import index  # here, because computing needs no Jupyter

    built, complete = [], True
    for study in _studies(studies):
        parameters = _parameters(study, profile, store=store, workers=workers)
        name = parameters.profile
        train = name == "quick" if compute is None else compute
        typer.echo(f"{study.name}, {name}: {'computing' if train else 'loading'} runs")
        try:
            run = study.run(parameters.model_copy(update={"compute": train}), progress=True)
        except NoRuns as error:
            if studies:
                raise
            typer.echo(f"{study.name}: left out, {error}")
            complete = False
            continue
        command = f"bsg report {study.name} --profile {profile}"
        page, verdicts = _build_page(study, parameters, command)
        typer.echo(f"{_shown(page)}: {verdicts}")
        if not run.complete:
            typer.echo(f"{study.name}: runs or times are missing; claims that need them say so")
            complete = False
        built.append(study)
    if not built:
        raise NoRuns(f"no study has runs of profile {name!r}: there is nothing to report")
    cards = [
        {
            "name": s.name,
            "title": s.title,
            "source": s.source,
            "headline": s.headline,
            "main_claims": s.main_claims,
        }
        for s in STUDIES.values()
    ]
    page = index.write_index(REPORTS, name, cards)
    smallest = name == index.PUBLISHED_PROFILES[-1]  # there is no better one to hide
    if name in index.PUBLISHED_PROFILES and (complete or smallest):
        _publish(name, cards, built)
    elif name in index.PUBLISHED_PROFILES:
        typer.echo("the README and the index of all profiles stay")
    typer.echo(_shown(page))


def _build_page(study: Study, parameters: StudyParameters, command: str) -> tuple[Path, str]:
    """Execute a study's notebook on what is stored; return its page, and its verdicts in words."""
    from bsglib import report

    folder = REPORTS / parameters.profile
    figures = folder / "figures" / study.name
    values = parameters.model_dump() | {"compute": False, "figures": _shown(figures)}
    with _replaced(figures):
        notebook = report.execute(
            ROOT / "notebooks" / f"{study.name}.ipynb", folder / f"{study.name}.ipynb", values
        )
    page = report.to_html(
        notebook,
        folder / f"{study.name}.html",
        figures=figures,
        assets=REPORTS / "assets",
        command=command,
    )
    counts = report.verdict_counts(report.verdicts(figures / "verdicts.csv"))
    return page, ", ".join(f"{row['n']} {row['verdict']}" for row in counts)


def _publish(profile: str, cards: list[dict], built: list[Study]) -> None:
    """Write the index of all reports, and what the README shows of them."""
    from bsglib import index

    typer.echo(_shown(index.write_index(REPORTS, None, cards)))
    index.update_marked(README, "conclusions", index.conclusions(REPORTS, cards, README.parent))
    index.update_marked(README, "verdicts", index.main_claims_table(REPORTS, cards, README.parent))
    first = next(iter(STUDIES.values()))
    if first in built:
        notebook = REPORTS / profile / f"{first.name}.ipynb"
        shown = index.headline(REPORTS, first.name, first.headline, notebook)
        index.update_marked(README, "headline", shown)
    typer.echo(_shown(README))


@commands.command()
def compute(
    study: Name,
    profile: Profile = "quick",
    store: StoreFolder = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    part: Annotated[int | None, typer.Option(help="only this part of the design")] = None,
    time_limit: Annotated[float | None, typer.Option(help="minutes, then stop cleanly")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would take")] = False,
    again: Annotated[bool, typer.Option("--again", help="also what is published")] = False,
) -> None:
    """Train and measure what a study's profile names and is neither stored nor published."""
    if time_limit is not None and not time_limit >= 0:
        raise ParameterError(f"--time-limit {time_limit:g}: allowed are minutes from 0")
    (chosen,) = _studies([study])
    given = {"store": store, "workers": workers, "scheduler": scheduler}
    parameters = _parameters(chosen, profile, **given)
    todo, entries = _missing(chosen, parameters, part, again=again)
    typer.echo(f"{study}, {profile}: {len(entries)} runs, {len(todo)} to compute")
    if dry_run:
        processes = max(1, cores() if parameters.workers is None else parameters.workers)
        length = duration(seconds(todo) / processes)
        typer.echo(f"about {length} of training on {processes} processes, measures extra")
        typer.echo(f"about {megabytes(todo):.3g} MB of disk in {store_of(parameters).root}")
        return
    limit = None if time_limit is None else 60 * time_limit
    try:
        left = sweep(
            todo,
            store_of(parameters),
            workers=parameters.workers,
            scheduler=parameters.scheduler,
            time_limit_s=limit,
            progress=True,
        )
    except KeyboardInterrupt:
        typer.echo("interrupted: what was computed is stored, the same command goes on", err=True)
        raise
    if left:
        typer.echo(f"time limit: {len(left)} runs left, the same command goes on")
    elif _missing(chosen, parameters, None, again=again)[0]:
        typer.echo("this part is complete, others are not")
    else:
        chosen.run(parameters)  # the times per epoch, on a quiet machine
        typer.echo(f"complete: `bsg report {study} --profile {profile}` builds the report")


@commands.command()
def status(studies: Names = None, store: StoreFolder = None) -> None:
    """Show how many runs of each study and profile are stored or published, part by part."""
    for study in _studies(studies):
        for file in sorted((ROOT / "params" / study.name).glob("*.yaml")):
            parameters = _parameters(study, file.stem, store=store)
            todo, entries = _missing(study, parameters, None)
            for part in sorted({entry.part for entry in entries}):
                all_of, left = (sum(e.part == part for e in some) for some in (entries, todo))
                line = f"part {part}: {all_of - left} of {all_of} runs"
                typer.echo(f"{study.name}, {file.stem}, {line}")


@commands.command()
def data(
    names: Annotated[list[str] | None, typer.Argument(help="default: all")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="side in pixels, of folders of images", min=1)
    ] = None,
) -> None:
    """Download and verify data sets; one that cannot be had does not keep the others away."""
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


@commands.command()
def export(studies: Names = None, profile: Profile = "laptop", store: StoreFolder = None) -> None:
    """Write the numbers behind a study to reports/results/, from which its report rebuilds."""
    for study in _studies(studies):
        parameters = _parameters(study, profile, store=store).model_copy(update={"compute": False})
        folder = export_folder(parameters.profile, study.name)
        results = study.run(parameters)
        write_export(results, folder)
        typer.echo(f"{_shown(folder)}: {len(results.runs)} of {results.designed} runs")


@commands.command()
def clean(
    store: StoreFolder = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say which, remove none")] = False,
) -> None:
    """Remove finished runs whose config no parameter file below params/ names."""
    named: set[str] = set()
    for study in STUDIES.values():
        for file in sorted((ROOT / "params" / study.name).glob("*.y*ml")):
            for entry in study.design(_parameters(study, str(file))):
                starts = [measure.start for measure in entry.measures if measure.start]
                named |= {config.canonical() for config in (entry.config, *starts)}
    runs = store_of(_parameters(study, "quick", store=store))
    extra = [run for run in runs.finished() if _config(runs, run).canonical() not in named]
    typer.echo(f"{runs.root}: {len(extra)} runs that no parameter file below params/ names")
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
        raise StoreError(f"damaged file {file}, or one of another version: {error}") from error


def _studies(names: list[str] | None) -> list[Study]:
    for name in names or ():
        if name not in STUDIES:
            raise ParameterError(f"unknown study {name!r}{nearest(name, STUDIES)}")
    return [STUDIES[name] for name in names or STUDIES]


def _parameters(study: Study, profile: str, **given) -> StudyParameters:
    """Quick's values, those of the profile over them, and what the command line gave."""
    folder = ROOT / "params" / study.name
    file = folder / f"{profile}.yaml"
    if profile.endswith((".yaml", ".yml")):
        file = Path.cwd() / profile
    elif not file.is_file():
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        raise ParameterError(f"unknown profile {profile!r}{nearest(profile, known)}")
    values = read(folder / "quick.yaml") | {"profile": file.stem} | read(file)
    taken = sorted(path.stem for path in folder.glob("*.yaml"))
    if values["profile"] != file.stem or (file.parent != folder and file.stem in taken):
        raise ParameterError(
            f"parameter file {file}: its profile {values['profile']!r} has to be the file's name, "
            f"{file.stem!r}, and none of {', '.join(taken)}"
        )
    try:
        parse(values, study.parameters)
    except ParameterError as error:
        raise ParameterError(f"parameter file {file}: {error}") from None
    values |= {name: value for name, value in given.items() if value is not None}
    if "store" in given and given["store"] is not None:
        values["store"] = str(resolve(Path.cwd() / given["store"]))
    return parse(values, study.parameters)


def _missing(
    study: Study, parameters: StudyParameters, part: int | None, *, again: bool = False
) -> tuple[list[Entry], list[Entry]]:
    """Return the entries of a part, of all parts if None: the missing ones, and all."""
    entries = [entry for entry in study.design(parameters) if entry.computable]
    parts = sorted({entry.part for entry in entries})
    if part is not None and part not in parts:
        raise ParameterError(f"part {part}: {study.name} has parts {parts}")
    missing = study.missing(parameters, again=again)
    return tuple([e for e in some if part in (None, e.part)] for some in (missing, entries))


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[None]:
    """Empty a folder for new content; put the old content back if that fails."""
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
