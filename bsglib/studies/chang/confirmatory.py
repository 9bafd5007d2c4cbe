"""The runs that the verdicts on Chang & Pathak come from: those of the protocol, and more.

As written every epoch is shuffled anew, in the authors' code one order serves all. The rest is the
same in both: they stop when the validation loss has not fallen for a number of epochs and keep the
best weights.
"""

from collections.abc import Iterator
from dataclasses import replace

from bsglib.runs.sweep import Entry
from bsglib.studies import confirmatory
from bsglib.studies.chang import protocol
from bsglib.studies.chang.protocol import FIXED, LOSS, OTHER, SCALED, ChangParameters

AS_RUN = "fixed lr, one order"
FLAT, FEW_EPOCHS = "fixed lr, SAM", "fixed lr, few epochs"
MAIN, CONTROLS, GRID = 1, 2, 3  # parts
PARTS = {FIXED: MAIN, SCALED: MAIN, OTHER: GRID, LOSS: GRID}


def design(p: ChangParameters) -> list[Entry]:
    """Return the study's runs: those of the verdicts if the parameters have `confirm`."""
    if p.confirm is None:
        return protocol.design(p)
    entries = [replace(e, part=PARTS[e.arm]) for e in protocol.design(p)]
    entries += [entry for seed in p.seeds for entry in _others(p, seed)]
    return sorted((_measured(p, entry) for entry in entries), key=lambda entry: entry.part)


def _others(p: ChangParameters, seed: int) -> Iterator[Entry]:
    """The fixed rate as run, and what has to show: a wide radius of SAM, and far fewer updates."""
    small, large = (
        protocol.run_config(p, seed, b, p.lr, record_epochs=[]) for b in (p.smallest, p.largest)
    )
    changes = [
        (AS_RUN, small, {"shuffle": "once"}),
        (AS_RUN, large, {"shuffle": "once"}),
        (FLAT, small, {"rho": p.confirm.control_rho}),
        (FEW_EPOCHS, small, {"epochs": p.confirm.control_epochs}),
    ]
    for arm, config, change in changes:
        yield Entry(config.model_copy(update=change), (), arm, CONTROLS)


def _measured(p: ChangParameters, entry: Entry) -> Entry:
    """The entry with everything that a rule may need."""
    config = entry.config.model_copy(update={"record_path": True})  # for the length of the path
    at = config.record_epochs, config.seed, config.batch_size, p.confirm.curvature_examples
    measures = [
        *entry.measures,
        *confirmatory.of_every_run(),
        *confirmatory.sharpness(p, p.confirm, config.seed),
        confirmatory.by_authors(p),
        *confirmatory.along_training(*at),
    ]
    distinct_ones = {measure.file: measure for measure in measures}
    return replace(entry, config=config, measures=tuple(distinct_ones.values()))
