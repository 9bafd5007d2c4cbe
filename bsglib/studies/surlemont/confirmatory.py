"""The runs that the verdicts on Surlemont et al. come from: the arms as written and as run.

All of them are trained, split, ordered and stopped as in the authors' code: four fifths against one
to validate, one order of the data for all epochs, until the validation loss has not fallen for ten
epochs, with the best weights restored then. Arms differ in what their names say.
"""

from collections.abc import Iterator
from typing import Any

from bsglib.runs.params import RunConfig
from bsglib.runs.sweep import Entry
from bsglib.studies import confirmatory
from bsglib.studies.surlemont import protocol
from bsglib.studies.surlemont.protocol import (
    NO_DROPOUT,
    NO_DROPOUT_SAM,
    SGD,
    SGD_FIXED,
    SGD_SAM,
    Arm,
    SurlemontParameters,
)

AS_WRITTEN = SGD_SAM.label
PLAIN_OFF = f"{AS_WRITTEN}, dropout off in SAM"
ADAPTIVE_ON = f"{SGD.label}, adaptive SAM"
AS_RUN = f"{ADAPTIVE_ON}, dropout off in SAM"  # of figures 1 to 3
LARGE_RHO = f"{AS_WRITTEN}, large rho"
FEW_EPOCHS = f"{SGD.label}, few epochs"
RATES = "SGD, six rates"
MAIN, CONTROLS, GRID = 1, 2, 3  # parts

# As which arms claims count them. Those whose name is a condition count for no claim of the arms as
# written. SAM with its dropout off trains as in the cited code, as a network without dropout does.
ARMS = {arm.label: arm for arm in (SGD, SGD_FIXED, SGD_SAM, NO_DROPOUT)}
ARMS |= {PLAIN_OFF: NO_DROPOUT_SAM}
CONDITIONS = {
    ADAPTIVE_ON: SGD_SAM,
    AS_RUN: NO_DROPOUT_SAM,
    LARGE_RHO: SGD_SAM,
    FEW_EPOCHS: SGD,
    RATES: SGD_FIXED,
}

Planned = Iterator[tuple[int, str, RunConfig]]  # part, arm, run


def design(p: SurlemontParameters) -> list[Entry]:
    """Return the study's runs: those of the verdicts if the parameters have `confirm`."""
    if p.confirm is None:
        return protocol.design(p)
    planned = [
        (part, arm, config)
        for seed in (*p.seeds, *p.more_seeds)
        for of_kind in ((_main, _controls, _grid) if seed in p.seeds else (_primary,))
        for part, arm, config in of_kind(p, seed)
    ]
    entries = [_entry(p, *run) for run in planned]
    return sorted(entries, key=lambda entry: entry.part)


def _primary(p: SurlemontParameters, seed: int) -> Planned:
    """The runs that primary claims compare: SGD, and SAM at all batch sizes but the largest."""
    for b in p.batch_sizes:
        yield MAIN, SGD.label, _config(p, SGD, b, seed)
        if b < p.largest:
            yield MAIN, AS_WRITTEN, _config(p, SGD_SAM, b, seed)


def _main(p: SurlemontParameters, seed: int) -> Planned:
    """SGD at both rates, and the factorial of the kind of SAM and its dropout."""
    adaptive = {"rho": p.confirm.adaptive_rho, "sam_adaptive": True}
    for b in p.batch_sizes:
        yield MAIN, SGD.label, _config(p, SGD, b, seed)
        yield MAIN, SGD_FIXED.label, _config(p, SGD_FIXED, b, seed)
        yield MAIN, AS_WRITTEN, _config(p, SGD_SAM, b, seed)
        yield MAIN, PLAIN_OFF, _config(p, SGD_SAM, b, seed, sam_dropout=False)
        yield MAIN, ADAPTIVE_ON, _config(p, SGD_SAM, b, seed, **adaptive)
        yield MAIN, AS_RUN, _config(p, SGD_SAM, b, seed, **adaptive, sam_dropout=False)


def _controls(p: SurlemontParameters, seed: int) -> Planned:
    """Dropout without SAM, and what has to show: a large radius, and far fewer updates."""
    for b in p.batch_sizes:
        yield CONTROLS, NO_DROPOUT.label, _config(p, NO_DROPOUT, b, seed)
    for b in (min(p.batch_sizes), max(p.batch_sizes)):
        large = _config(p, SGD_SAM, b, seed, rho=p.confirm.control_rho)
        yield CONTROLS, LARGE_RHO, large
        few = _config(p, SGD, b, seed, epochs=p.confirm.control_epochs)
        yield CONTROLS, FEW_EPOCHS, few


def _grid(p: SurlemontParameters, seed: int) -> Planned:
    for b in (min(p.batch_sizes), max(p.batch_sizes)):
        for rate in p.confirm.rates:
            yield GRID, RATES, _config(p, SGD_FIXED, b, seed, base_lr=rate)


def _config(
    p: SurlemontParameters, arm: Arm, batch_size: int, seed: int, **changes: Any
) -> RunConfig:
    as_run = {
        "shuffle": "once",
        "patience_on": "validation_loss",
        "keep": "best_if_stopped",
        "evaluate": "validation",
        "record_path": True,
    }
    values, recorded = (
        protocol.run_config(p, a, batch_size, seed).model_dump() for a in (arm, SGD)
    )
    if seed in p.confirm.recorded_seeds and values | changes == recorded:
        as_run["record_epochs"] = p.confirm.record_epochs  # SGD's, whatever arm it serves
    return RunConfig(**values | as_run | changes)


def _entry(p: SurlemontParameters, part: int, arm: str, config: RunConfig) -> Entry:
    at = config.record_epochs, config.seed, config.batch_size, p.confirm.curvature_examples
    measures = (
        *confirmatory.of_every_run(),
        *confirmatory.sharpness(p, p.confirm, config.seed, rho=p.rho),
        confirmatory.by_authors(p),
        *confirmatory.along_training(*at),
    )
    return Entry(config, measures, arm, part, labels=_labels(p, arm, config))


def _labels(p: SurlemontParameters, arm: str, config: RunConfig) -> dict[str, str | bool]:
    """The columns by which claims select runs; of six rates the rate of all other arms is fixed."""
    if arm in ARMS:
        return ARMS[arm].labels
    labels = CONDITIONS[arm].labels | {"condition": arm}
    return labels if arm != RATES or config.base_lr == p.sgd_lr else labels | {"rate": "other"}
