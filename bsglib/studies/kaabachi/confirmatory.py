"""The runs that the verdicts on Kaabachi et al. come from: the arms as written and as run.

In the authors' code warm-up goes by epochs and never reaches the scaled rate, so beside both
warm-ups stands the rate at which it stays, without any. They never leave training mode, so each
test accuracy is taken in both modes.
"""

from collections.abc import Iterator

from bsglib.runs.params import RunConfig
from bsglib.runs.sweep import Entry
from bsglib.studies import confirmatory
from bsglib.studies.kaabachi import protocol
from bsglib.studies.kaabachi.protocol import (
    COLD,
    EXPONENTIAL,
    LARGE,
    LINEAR,
    RATE,
    SMALL,
    KaabachiParameters,
)
from bsglib.studies.kaabachi.published import SEMI_LARGE

AS_RUN = "linear rule, warm-up as run"
FLAT = "linear rule, flat at the rate where the warm-up as run stays"
LOW, FEW_EPOCHS = "linear rule, low rate", "linear rule, few epochs"
MAIN, CONTROLS = 1, 2  # parts
RATES = COLD, FLAT, LOW  # these differ in their rate alone
PRIMARY = {  # what primary claims compare, at all batch sizes or at some
    SMALL: None,
    LARGE: SEMI_LARGE,
    LINEAR: SEMI_LARGE,
    EXPONENTIAL: (512, 1024),
    COLD: (1024,),
}

Planned = Iterator[tuple[int, str, RunConfig]]  # part, arm, run


def design(p: KaabachiParameters) -> list[Entry]:
    """Return the study's runs: those of the verdicts if the parameters have `confirm`."""
    if p.confirm is None:
        return protocol.design(p)
    kinds = _main, _more
    planned = [run for seed in p.seeds for of in kinds for run in of(p, seed)]
    more = (run for seed in p.confirm.more_seeds for of in kinds for run in of(p, seed))
    planned += [(part, arm, config) for part, arm, config in more if _primary(arm, config)]
    return sorted((_entry(p, *run) for run in planned), key=lambda entry: entry.part)


def _primary(arm: str, config: RunConfig) -> bool:
    sizes = PRIMARY.get(arm, ())
    return sizes is None or config.batch_size in sizes


def flat_share(epochs: float) -> float:
    """Return the share of the scaled rate at which a "doubling" warm-up of so many epochs stays."""
    return 1.0 if epochs % 1 == 0 else 2 ** -(1 + epochs % 1)


def _main(p: KaabachiParameters, seed: int) -> Planned:
    """One rate for all, and the scaled one: as it is, warmed up in two ways, flat below it."""
    for arm, config in protocol.unscaled(p, seed):
        yield MAIN, arm, config
    warm = protocol.warmup(p, "exponential", p.warmup_share)
    coded = warm | {"warmup": "doubling"}
    flat = {"base_lr": p.lr * flat_share(warm["warmup_epochs"])}
    for b in p.large_batch_sizes:
        for arm, changes in ((COLD, {}), (EXPONENTIAL, warm), (AS_RUN, coded), (FLAT, flat)):
            yield MAIN, arm, protocol.run_config(p, seed, b, p.warmup_epochs, **changes)


def _more(p: KaabachiParameters, seed: int) -> Planned:
    """The linear rule for its own epochs, and what has to show: a low rate, few updates."""
    for arm, config in protocol.linear(p, seed):
        yield CONTROLS, arm, config
    low = {"base_lr": p.lr * p.confirm.control_share}
    for b in p.large_batch_sizes[-2:]:
        yield CONTROLS, LOW, protocol.run_config(p, seed, b, p.warmup_epochs, **low)
    unscaled = {"base_lr": p.unscaled_lr, "scaling": "none"}
    for b, changes in ((min(p.small_batch_sizes), unscaled), (min(p.large_batch_sizes), {})):
        few = protocol.run_config(p, seed, b, p.confirm.control_epochs, **changes)
        yield CONTROLS, FEW_EPOCHS, few


def _entry(p: KaabachiParameters, part: int, arm: str, config: RunConfig) -> Entry:
    more = {"evaluate_as_run": True, "record_path": True}
    if part == MAIN and arm in (SMALL, COLD) and config.seed in p.confirm.recorded_seeds:
        more["record_epochs"] = p.confirm.record_epochs
    config = RunConfig(**config.model_dump() | more)
    at = config.record_epochs, config.seed, config.batch_size, p.confirm.curvature_examples
    along = confirmatory.along_training(*at, batch_norm="batch")
    labels = {"varied": RATE if arm in RATES else "", "setting": arm}
    return Entry(config, (*confirmatory.of_every_run(), *along), arm, part, labels=labels)
