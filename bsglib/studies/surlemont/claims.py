"""The statistic that tests each claim of Surlemont et al.; claims.yaml has the statements."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from bsglib.claims import Measured
from bsglib.studies import claims_file
from bsglib.studies.claims_file import Statistics
from bsglib.studies.comparing import (
    Comparison,
    Control,
    Of,
    Parts,
    Side,
    Sizes,
    Table,
    Timed,
    Trained,
    difference,
    ends,
    largest,
    last_over_first,
    learned,
    points,
    points_last_minus_first,
    ratio,
    side,
)
from bsglib.studies.confirmatory import ADAPTIVE, AUTHORS
from bsglib.studies.notes import beside
from bsglib.studies.study import Results
from bsglib.studies.surlemont import protocol, published
from bsglib.studies.surlemont.confirmatory import (
    ADAPTIVE_ON,
    AS_RUN,
    FEW_EPOCHS,
    LARGE_RHO,
    PLAIN_OFF,
    RATES,
)
from bsglib.verdicts import Rule

SIZES = published.SIZES
SMALL, MIDDLE, LARGE, OTHERS = SIZES[:2], SIZES[2:5], SIZES[3:], SIZES[:5]  # than the largest
SGD, SAM = side(**protocol.SGD.labels), side(**protocol.SGD_SAM.labels)
FIXED, FIXED_SAM = side(**protocol.SGD_FIXED.labels), side(**protocol.SGD_FIXED_SAM.labels)
NO_DROPOUT = side(**protocol.NO_DROPOUT.labels)
NO_DROPOUT_SAM = side(**protocol.NO_DROPOUT_SAM.labels)
OTHER_RHO = side(largest, condition=(protocol.RHO_SWEEP, LARGE_RHO))
ADAM, ADAM_SAM = side(**protocol.ADAM.labels), side(**protocol.ADAM_SAM.labels)
ADAM_FIXED = side(**protocol.ADAM_FIXED.labels)
ADAM_FIXED_SAM = side(**protocol.ADAM_FIXED_SAM.labels)

# The factorial of the kind of SAM and its dropout, whose last cell is SAM as run.
PLAIN = side(arm=PLAIN_OFF)
ADAPTIVE_SAM, SAM_AS_RUN = side(condition=ADAPTIVE_ON), side(condition=AS_RUN)


def error_ratio(runs: pd.DataFrame) -> pd.Series:
    """Return train error over test error of each run, as in the paper's figure 3."""
    return (1 - runs["train_accuracy"]) / (1 - runs["test_accuracy"])


def derived(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with gaps and ratios of these.

    The generalization gap, how far the error ratio is off one, the same of the ratio of losses that
    their figure 3 shows, and the metric as their code computes it over ours.
    """
    off_one = np.log(error_ratio(runs).clip(1e-6, 1e6)).abs()  # errors of zero occur on small data
    losses = np.log(runs["validation_loss"] / runs["train_loss"]).abs()
    if AUTHORS in runs:
        runs = runs.assign(solvers=runs[AUTHORS] / runs["keskar_sharpness"])
    return runs.assign(
        accuracy_gap=runs["train_accuracy"] - runs["test_accuracy"],
        ratio_off_one=off_one,
        losses_off_one=losses,
    )


# ------------------------------------------------------------- gates and controls


def reference_learned(results: Results, sides: Sequence[Side]) -> str | None:
    """Return whether what the others are compared with has learned nothing.

    That is of two sides the second, of one its smallest batch. A lost accuracy of the others is a
    result.
    """
    runs = sides[-1].of(results)
    if len(sides) == 1:
        runs = runs[runs["batch_size"] == runs["batch_size"].min()]
    return learned(runs)


LEARNED = Of(learned)
TRAINED = LEARNED, Of(Trained())  # patience ends a network that never learned, too
SHARPER = Rule("above", claims_file.margins()["sharpness"].size, ratios=True)
LESS_ACCURATE = Rule("below", claims_file.margins()["accuracy"].size)


def _sharper(one: Side, other: Side) -> Comparison:
    """A control's effect: one side is sharper, wherever the most epochs ended its runs."""
    return Comparison(ratio, (one, other), "keskar_sharpness", gates=(LEARNED,))


SAM_FLATTENS = Control(
    "a large radius of SAM lowers the sharpness",
    _sharper(SGD.at(ends), side(ends, condition=LARGE_RHO)),
    SHARPER,
)
LOW_RATE_SHARPENS = Control(
    "at the largest batch a low rate raises the sharpness",
    _sharper(side(largest, condition=RATES, rate="fixed"), SGD.at(largest)),
    SHARPER,
)
FEW_EPOCHS_COST = Control(
    "a few epochs give a lower accuracy",
    Comparison(points, (side(ends, condition=FEW_EPOCHS), SGD.at(ends)), "test_accuracy"),
    LESS_ACCURATE,
)


# ------------------------------------------------------------- kinds of comparisons


def sharpness(
    by: Callable[..., pd.Series],
    *sides: Side,
    sizes: Sequence[int] | Sizes | None = None,
    controls: Sequence[Control] = (SAM_FLATTENS,),
) -> Comparison:
    """Return a comparison of minimizers by all registered measures of sharpness."""
    others = (("adaptive box", ADAPTIVE), ("lambda_max", "lambda_max"))
    gates = (*TRAINED, *controls)
    return Comparison(by, _at(sides, sizes), "keskar_sharpness", others, gates=gates)


of_sizes = partial(sharpness, controls=(LOW_RATE_SHARPENS,))


def accuracy(
    by: Callable[..., pd.Series],
    *sides: Side,
    column: str = "test_accuracy",
    sizes: Sequence[int] | Sizes | None = None,
) -> Comparison:
    """Return a comparison of test accuracies, of the first side with the second."""
    sides, gates = _at(sides, sizes), (reference_learned, FEW_EPOCHS_COST)
    return Comparison(by, sides, column, gates=gates, note=partial(beside, sides=sides))


def gap(
    by: Callable[..., pd.Series],
    *sides: Side,
    column: str = "accuracy_gap",
    sizes: Sequence[int] | Sizes | None = None,
) -> Comparison:
    """Return a comparison of generalization gaps, which are those of minimizers."""
    sides, gates = _at(sides, sizes), (*TRAINED, FEW_EPOCHS_COST)
    note = partial(beside, sides=sides)
    return Comparison(by, sides, column, gates=gates, derive=derived, note=note)


def _at(sides: Sequence[Side], sizes: Sequence[int] | Sizes | None) -> tuple[Side, ...]:
    return tuple(one if sizes is None else one.at(sizes) for one in sides)


def at_each(sizes: Sequence[int], kind: Callable[..., Comparison], *args, **options) -> Parts:
    """Return a comparison at each of some batch sizes, all of which have to hold."""
    return Parts(tuple((f"B = {b}", kind(*args, sizes=(b,), **options)) for b in sizes))


def against_each(sizes: Sequence[int], size: int, kind: Callable[..., Comparison], *args) -> Parts:
    """Return a comparison of a batch size with each of some others, all of which have to hold."""
    return Parts(tuple((f"against B = {b}", kind(*args, sizes=(b, size))) for b in sizes))


def of_solvers(*sides: Side, sizes: Sequence[int]) -> Comparison:
    """Return a factor between minimizers by the authors' solver, over that by ours."""
    sides, gates = _at(sides, sizes), (*TRAINED, SAM_FLATTENS)
    return Comparison(ratio, sides, "solvers", gates=gates, derive=derived)


# ------------------------------------------------------------- statistics of their own


def larger_rho(results: Results) -> Measured:
    """Return sharpness at the default radius over that at the largest one that still trains."""
    p, swept = results.parameters, OTHER_RHO.designed(results)
    larger = sorted(rho for rho in set(swept["rho"] if len(swept) else ()) if rho > p.rho)
    if not larger:
        return Measured(not_run=f"{protocol.RHO_SWEEP}: not in this profile")
    found = {}
    for rho in larger:
        at_rho = replace(OTHER_RHO, where=(*OTHER_RHO.where, ("rho", rho)))
        found[rho] = sharpness(ratio, SAM.at(largest), at_rho, controls=())(results)
    most = max(len(one.values) for one in found.values())
    trained = [rho for rho in larger if most and len(found[rho].values) == most]
    rho = max(trained, default=min(larger))
    return replace(found[rho], note=f"rho = {p.rho:g} over rho = {rho:g}")


def over_plain(plain: Table, sam: Table, size: int) -> pd.Series:
    """Return SAM's time over the plain one at a batch size."""
    return sam[size] / plain[size]


def on_adam(rate: str, sgd: Side, adam: Side, sam: Side) -> Statistics:
    """Return the statistics on Adam at one kind of rate by their claims."""
    return {
        f"surlemont-adam-accuracy-{rate}": at_each(SIZES, accuracy, points, sam, adam),
        f"surlemont-adam-worse-{rate}": accuracy(points, adam, sgd),
        f"surlemont-adam-sharpness-{rate}": at_each(SIZES, sharpness, ratio, adam, sam),
    }


def as_run() -> Statistics:
    """Return the statistics of claims on SAM, with what their code runs instead.

    Their SAM is adaptive, and its dropout is off; their test set is the validation set, and their
    ratio of errors one of losses.
    """
    of = "surlemont-sam-{}-as-run".format
    validated = partial(accuracy, column="validation_accuracy")
    return {
        of("keeps-accuracy"): at_each(SMALL, validated, points, SAM_AS_RUN, SGD),
        of("error-ratio"): at_each(
            SMALL, gap, difference, SAM_AS_RUN, SGD, column="losses_off_one"
        ),
        **{of(f"sharpness-{b}"): sharpness(ratio, SGD, SAM_AS_RUN, sizes=(b,)) for b in SMALL},
        of("lr-relation"): of_sizes(last_over_first, SAM_AS_RUN, sizes=ends),
    }


def of_the_nine(size: int) -> Statistics:
    """Return what makes the factor at a batch size: the kind of SAM, its dropout, the solver."""
    of = partial(sharpness, ratio, sizes=(size,))
    return {
        f"surlemont-adaptive-{size}": of(SGD, ADAPTIVE_SAM),
        f"surlemont-dropout-in-adaptive-{size}": of(ADAPTIVE_SAM, SAM_AS_RUN),
        f"surlemont-plain-as-run-{size}": of(SGD, PLAIN),
        f"surlemont-solver-{size}": of_solvers(SGD, SAM_AS_RUN, sizes=(size,)),
    }


WITHOUT, WITH = {"sam": False}, {"sam": True}
STATISTICS = {
    "surlemont-scaling-compensates": accuracy(points_last_minus_first, SGD, sizes=ends),
    "surlemont-sam-keeps-accuracy": at_each(SMALL, accuracy, points, SAM, SGD),
    "surlemont-sam-lowers-accuracy-large": accuracy(points, SAM, SGD, sizes=LARGE),
    "surlemont-outlier-accuracy-1024": against_each(
        OTHERS, max(SIZES), accuracy, points_last_minus_first, SAM
    ),
    **{
        f"surlemont-sam-sharpness-{size}": sharpness(ratio, SGD, SAM, sizes=(size,))
        for size in (*SMALL, *MIDDLE)
    },
    "surlemont-outlier-sharpness-1024": against_each(
        OTHERS, max(SIZES), of_sizes, last_over_first, SAM
    ),
    "surlemont-sam-small-only": sharpness(ratio, SGD, SAM, sizes=MIDDLE),
    "surlemont-scaled-equal-sharpness": of_sizes(last_over_first, SGD, sizes=ends),
    "surlemont-scaled-sharper": of_sizes(last_over_first, SGD, sizes=ends),
    "surlemont-sam-lr-relation": of_sizes(last_over_first, SAM, sizes=ends),
    "surlemont-sam-narrows-gap": at_each(SMALL, gap, points, SAM, SGD),
    "surlemont-sam-error-ratio": at_each(SMALL, gap, difference, SAM, SGD, column="ratio_off_one"),
    **on_adam("scaled", SGD, ADAM, ADAM_SAM),
    **on_adam("fixed", FIXED, ADAM_FIXED, ADAM_FIXED_SAM),
    "surlemont-adam-sharper-scaled": sharpness(ratio, ADAM, SGD),
    "surlemont-fixed-gap": gap(points_last_minus_first, FIXED, sizes=ends),
    "surlemont-fixed-sam-accuracy": at_each(SMALL, accuracy, points, FIXED_SAM, FIXED),
    "surlemont-fixed-sam-small": at_each(SMALL, sharpness, ratio, FIXED, FIXED_SAM),
    "surlemont-fixed-sam-large": sharpness(ratio, FIXED, FIXED_SAM, sizes=MIDDLE),
    "surlemont-dropout-explains": sharpness(ratio, SGD, NO_DROPOUT_SAM, sizes=(32,)),
    "surlemont-dropout-alone": at_each(SMALL, sharpness, ratio, SGD, NO_DROPOUT),
    "surlemont-sam-without-dropout": sharpness(ratio, NO_DROPOUT, NO_DROPOUT_SAM, sizes=(32,)),
    **as_run(),
    **{name: each for size in SMALL for name, each in of_the_nine(size).items()},
    "surlemont-sam-doubles-time": Parts(
        tuple(
            (f"B = {b}", Timed(partial(over_plain, size=b), (WITHOUT, WITH), (b,))) for b in SIZES
        )
    ),
    "surlemont-large-batch-faster": Timed(last_over_first, (WITHOUT,)),
    "surlemont-larger-rho": larger_rho,
}


def numbers(size: int = min(SIZES), **_: str) -> dict[str, str]:
    """Return the source's numbers for the templates of claims.yaml."""
    low, high = published.SPREAD.get(size, (0, 0))
    found = {"by": published.SAM_DIVIDES.get(size, 0), "low": low, "high": high}
    return {name: f"{number:g}" for name, number in (found | {"time": published.SAM_TIME}).items()}


CLAIMS = claims_file.read(Path(__file__).with_name("claims.yaml"), STATISTICS, numbers)
