"""The statistic that tests each claim of Surlemont et al.; claims.yaml has the statements."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bsglib.claims import Measured
from bsglib.stats import PERCENT
from bsglib.studies import stated
from bsglib.studies.comparing import (
    Comparison,
    Of,
    Side,
    Sizes,
    Table,
    Timed,
    Trained,
    difference,
    ends,
    largest,
    last_minus_first,
    last_over_first,
    points,
    points_last_minus_first,
    ratio,
    side,
    smallest,
)
from bsglib.studies.study import Results
from bsglib.studies.surlemont import protocol
from bsglib.studies.surlemont.protocol import RHO_SWEEP
from bsglib.studies.tables import per_seed

TRAINED = 0.75  # training accuracy from which a run counts as a minimizer worth comparing
ALIKE = 2.0  # percentage points of training accuracy: two cut off that near are equally far
SMALL, MIDDLE, LARGE = (32, 64), (128, 256, 512), (256, 512, 1024)
ALL = (32, 64, *LARGE, 128)
SGD, SAM = side(**protocol.SGD.labels), side(**protocol.SGD_SAM.labels)
FIXED, FIXED_SAM = side(**protocol.SGD_FIXED.labels), side(**protocol.SGD_FIXED_SAM.labels)
ADAM, ADAM_SAM = side(**protocol.ADAM.labels), side(**protocol.ADAM_SAM.labels)
ADAM_FIXED = side(**protocol.ADAM_FIXED.labels)
ADAM_FIXED_SAM = side(**protocol.ADAM_FIXED_SAM.labels)
NO_DROPOUT = side(**protocol.NO_DROPOUT.labels)
NO_DROPOUT_SAM = side(**protocol.NO_DROPOUT_SAM.labels)
OTHER_RHO = side(condition=RHO_SWEEP)


def error_ratio(runs: pd.DataFrame) -> pd.Series:
    """Return train error over test error of each run, as in the paper's figure 3."""
    return (1 - runs["train_accuracy"]) / (1 - runs["test_accuracy"])


def derived(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with the generalization gap in points, and how far the error ratio is off one."""
    off_one = np.log(error_ratio(runs).clip(1e-6, 1e6)).abs()  # errors of zero occur on small data
    gap = PERCENT * (runs["train_accuracy"] - runs["test_accuracy"])
    return runs.assign(gap_points=gap, ratio_off_one=off_one)


def equally_far(results: Results, sides: Sequence[Side]) -> str | None:
    """Return how far the sides got, if the last epoch cut one off at another training accuracy."""
    mine = [one.of(results) for one in sides]
    reached = [PERCENT * runs["train_accuracy"].mean() for runs in mine]
    cut_off = any((runs["stopped"] == "epochs").any() for runs in mine)
    if not cut_off or max(reached) - min(reached) <= ALIKE:
        return None
    arms = (runs["arm"].iloc[0] for runs in mine)
    shown = " and ".join(f"{r:.1f} % ({arm})" for r, arm in zip(reached, arms, strict=True))
    return f"stopped at the maximum of epochs with training accuracies of {shown}"


EVERY = Of(Trained(TRAINED))
FIRST, NONE = replace(EVERY, first=1), replace(EVERY, first=0)


def compare(
    by: Callable[..., pd.Series],
    *sides: Side,
    column: str = "keskar_sharpness",
    sizes: Sequence[int] | Sizes | None = None,
    trained: Of = EVERY,
    at_each: bool = False,
    alike: bool = False,
) -> Comparison:
    """Return a comparison of trained runs.

    Args:
        by: of `Comparison`.
        *sides: of `Comparison`.
        column: of `Comparison`.
        sizes: batch sizes of all sides; None: all of the profile.
        trained: which of the runs have to be trained.
        at_each: leave out the batch sizes at which they are not.
        alike: refuse runs that were cut off at different training accuracies.
    """
    return Comparison(
        by,
        tuple(one if sizes is None else one.at(sizes) for one in sides),
        column,
        gates=(trained,) * (not at_each) + (equally_far,) * alike,
        leave_out=trained if at_each else None,
        derive=derived,
    )


ACCURACY = {"column": "validation_accuracy", "trained": FIRST}


def last_over_lowest(table: Table) -> pd.Series:
    """Return the largest batch's value over the lowest of the others."""
    last = max(table.columns)
    return table[last] / table.drop(columns=last).min(axis=1)


def points_last_minus_lowest(table: Table) -> pd.Series:
    """Return the largest batch's value minus the lowest of the others in percentage points."""
    last = max(table.columns)
    return PERCENT * (table[last] - table.drop(columns=last).min(axis=1))


def gained(a: Table, b: Table) -> pd.Series:
    """Return b - a in percentage points."""
    return points(b, a)


def larger_rho(results: Results) -> Measured:
    """Return sharpness at the default radius over that at the largest one that still trains."""
    p, swept = results.parameters, OTHER_RHO.of(results)
    whole = swept.groupby("rho")["seed"].transform("nunique") == len(p.seeds)
    worst = swept[whole].groupby("rho")["train_accuracy"].min()
    usable = [r for r in worst.index if r > p.rho and worst[r] >= TRAINED]
    if not usable:
        return Measured(
            not_testable=f"no larger rho reaches {PERCENT * TRAINED:.0f} % training accuracy"
        )
    rhos = swept.pivot(index="seed", columns="rho", values="keskar_sharpness")
    table = per_seed(SAM.at(largest).of(results), "keskar_sharpness").iloc[:, 0]
    values = tuple((table / rhos[max(usable)]).dropna())
    return Measured(values, note=f"rho = {p.rho:g} over rho = {max(usable):g}")


def ratio_farthest_from_two(plain: Table, sam: Table) -> pd.Series:
    """Return SAM's time over the plain one at the batch size where it is farthest from two."""
    ratios = sam / plain
    return ratios[np.log(ratios.median() / 2).abs().idxmax()]


WITHOUT, WITH = {"sam": False}, {"sam": True}
STATISTICS = {
    "surlemont-scaling-compensates": compare(
        points_last_minus_first,
        SGD,
        column="validation_accuracy",
        sizes=ends,
        trained=replace(EVERY, sizes=smallest),
    ),
    "surlemont-sam-keeps-accuracy": compare(gained, SGD, SAM, sizes=SMALL, **ACCURACY),
    "surlemont-sam-lowers-accuracy-large": compare(gained, SGD, SAM, sizes=LARGE, **ACCURACY),
    "surlemont-outlier-accuracy-1024": compare(
        points_last_minus_lowest,
        SAM,
        column="validation_accuracy",
        sizes=ALL,
        trained=NONE,
    ),
    **{
        f"surlemont-sam-sharpness-{size}": compare(ratio, SGD, SAM, sizes=(size,))
        for size in (32, 64, 128, 256, 512)
    },
    "surlemont-outlier-sharpness-1024": compare(last_over_lowest, SAM, sizes=ALL),
    "surlemont-sam-small-only": compare(ratio, SGD, SAM, sizes=MIDDLE),
    "surlemont-scaled-equal-sharpness": compare(last_over_first, SGD, sizes=ends),
    "surlemont-scaled-sharper": compare(last_over_first, SGD, sizes=ends),
    "surlemont-sam-lr-relation": compare(last_over_first, SAM, sizes=ends),
    "surlemont-sam-narrows-gap": compare(difference, SAM, SGD, column="gap_points", sizes=SMALL),
    "surlemont-sam-error-ratio": compare(difference, SGD, SAM, column="ratio_off_one", sizes=SMALL),
    "surlemont-adam-accuracy-scaled": compare(gained, ADAM, ADAM_SAM, at_each=True, **ACCURACY),
    "surlemont-adam-accuracy-fixed": compare(
        gained, ADAM_FIXED, ADAM_FIXED_SAM, at_each=True, **ACCURACY
    ),
    "surlemont-adam-worse-scaled": compare(gained, SGD, ADAM, at_each=True, alike=True, **ACCURACY),
    "surlemont-adam-worse-fixed": compare(
        gained, FIXED, ADAM_FIXED, at_each=True, alike=True, **ACCURACY
    ),
    "surlemont-adam-sharpness-scaled": compare(ratio, ADAM, ADAM_SAM, at_each=True),
    "surlemont-adam-sharpness-fixed": compare(ratio, ADAM_FIXED, ADAM_FIXED_SAM, at_each=True),
    "surlemont-adam-sharper-scaled": compare(ratio, ADAM, SGD, at_each=True, alike=True),
    "surlemont-fixed-gap": compare(last_minus_first, FIXED, column="gap_points", sizes=ends),
    "surlemont-fixed-sam-accuracy": compare(gained, FIXED, FIXED_SAM, sizes=SMALL, **ACCURACY),
    "surlemont-fixed-sam-small": compare(ratio, FIXED, FIXED_SAM, sizes=SMALL),
    "surlemont-fixed-sam-large": compare(ratio, FIXED, FIXED_SAM, sizes=MIDDLE, at_each=True),
    "surlemont-dropout-explains": compare(ratio, SGD, NO_DROPOUT_SAM, sizes=(32,)),
    "surlemont-dropout-alone": compare(ratio, SGD, NO_DROPOUT, sizes=SMALL),
    "surlemont-sam-without-dropout": compare(ratio, NO_DROPOUT, NO_DROPOUT_SAM, sizes=(32,)),
    "surlemont-sam-doubles-time": Timed(ratio_farthest_from_two, (WITHOUT, WITH)),
    "surlemont-large-batch-faster": Timed(last_over_first, (WITHOUT,)),
    "surlemont-larger-rho": Comparison(
        larger_rho,
        (SAM.at(largest), OTHER_RHO),
        gates=(FIRST,),
    ),
}
CLAIMS = stated.read(Path(__file__).with_name("claims.yaml"), STATISTICS)
