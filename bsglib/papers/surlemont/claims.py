"""What Surlemont et al. state, the statistic that tests it, and the rule that judges it."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from bsglib.claims import TIMING_REPEATS, Claim, Measured, about, above, below, between
from bsglib.papers import Results
from bsglib.papers.surlemont.protocol import (
    ADAM,
    ADAM_FIXED,
    ADAM_FIXED_SAM,
    ADAM_SAM,
    NO_DROPOUT,
    NO_DROPOUT_SAM,
    RHO_SWEEP,
    SGD,
    SGD_FIXED,
    SGD_FIXED_SAM,
    SGD_SAM,
    Arm,
    SurlemontParameters,
)
from bsglib.papers.tables import per_seed
from bsglib.stats import PERCENT

TRAINED = 0.75  # training accuracy from which a run counts as a minimizer worth comparing
ALIKE = 2.0  # percentage points of training accuracy: two cut off that near are equally far
SMALL, LARGE, ALL = (32, 64), (256, 512, 1024), (32, 64, 128, 256, 512, 1024)
MIDDLE = (128, 256, 512)


def error_ratio(runs: pd.DataFrame) -> pd.Series:
    """Return train error over test error of each run, which the source's figure 3 shows."""
    return (1 - runs["train_accuracy"]) / (1 - runs["test_accuracy"])


# ------------------------------------------------------------- statistics: one value per seed

Sizes = Callable[[SurlemontParameters], Sequence[int]]


def ends(p: SurlemontParameters) -> tuple[int, int]:
    """Return the profile's smallest and largest batch size."""
    return min(p.batch_sizes), max(p.batch_sizes)


def smallest(p: SurlemontParameters) -> tuple[int]:
    """Return the profile's smallest batch size."""
    return (min(p.batch_sizes),)


def _compare(
    by: Callable[..., pd.Series],
    *arms: Arm,
    column: str = "keskar_sharpness",
    sizes: Sequence[int] | Sizes | None = None,
    trained: Sequence[Arm] | None = None,
    trained_at: Sizes | None = None,
    equally_far: bool = False,
    drop_untrained: bool = False,
) -> Callable[[Results], Measured]:
    """Return a statistic made of a column of some arms.

    Args:
        by: takes a table [seed, batch size] per arm and returns a value per seed.
        *arms: what is compared.
        column: of the runs, or one that `_derived` adds.
        sizes: batch sizes it takes; None: all of the study.
        trained: arms whose runs have to be trained; None: all that are compared.
        trained_at: batch sizes at which they have to be; None: all that are compared.
        equally_far: not testable where runs were cut off with different training accuracies.
        drop_untrained: leave out batch sizes at which they are not, and say so, instead of
            calling the claim not testable.
    """

    def statistic(results: Results) -> Measured:
        p, runs = results.parameters, results.runs
        wanted = list(sizes(p) if callable(sizes) else sizes or p.batch_sizes)
        for arm in arms:
            for size in wanted:
                if runs.empty or _at(runs, arm, size).empty:
                    return Measured(not_testable=f"no runs at B = {size} ({arm.label})")
        gated, at = arms if trained is None else trained, trained_at(p) if trained_at else wanted
        failed = _untrained(runs, gated, at)
        kept = [size for size in wanted if size not in failed]
        if failed and not (kept and drop_untrained):
            return Measured(not_testable=next(iter(failed.values())))
        if equally_far and (why := _cut_off_apart(runs, arms, kept)):
            return Measured(not_testable=why)
        tables = [per_seed(_derived(runs), column, arm=arm.label)[kept].dropna() for arm in arms]
        seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
        who = "all are" if gated == arms else f"{gated[0].label} is" if gated else ""
        note = f"at B = {', '.join(map(str, kept))}, where {who} trained" if failed else ""
        return Measured(tuple(by(*(table.loc[seeds] for table in tables))), note=note)

    return statistic


def _at(runs: pd.DataFrame, arm: Arm, batch_size: int) -> pd.DataFrame:
    return runs[(runs["arm"] == arm.label) & (runs["batch_size"] == batch_size)]


def _untrained(runs: pd.DataFrame, arms: Sequence[Arm], sizes: Sequence[int]) -> dict[int, str]:
    """Batch sizes at which a run of the arms is not trained, with what the worst run reached."""
    failed = {}
    for size in sizes:
        mine = pd.concat([runs.iloc[:0], *(_at(runs, arm, size) for arm in arms)])
        mine = mine.assign(reached=mine["train_accuracy"].where(mine["stopped"] != "diverged", 0))
        if mine.empty or mine["reached"].min() >= TRAINED:
            continue
        worst = mine.loc[mine["reached"].idxmin()]
        reached, needed = PERCENT * worst["reached"], PERCENT * TRAINED
        reached = f"training accuracy {reached:.0f} %, {needed:.0f} % needed"
        if worst["stopped"] == "diverged":
            reached = "diverged"
        failed[size] = f"{worst['arm']}, B = {size}, {worst['updates']:.0f} updates: {reached}"
    return failed


def _cut_off_apart(runs: pd.DataFrame, arms: Sequence[Arm], sizes: Sequence[int]) -> str | None:
    """Return how far the arms got, if the last epoch cut one off at another training accuracy."""
    mine = [pd.concat(_at(runs, arm, size) for size in sizes) for arm in arms]
    reached = [PERCENT * rows["train_accuracy"].mean() for rows in mine]
    cut_off = any((rows["stopped"] == "epochs").any() for rows in mine)
    if not cut_off or max(reached) - min(reached) <= ALIKE:
        return None
    told = " and ".join(f"{r:.1f} % ({arm.label})" for r, arm in zip(reached, arms, strict=True))
    return f"cut off at training accuracies of {told}"


def _derived(runs: pd.DataFrame) -> pd.DataFrame:
    ratio = error_ratio(runs).clip(1e-6, 1e6)  # errors of zero occur on small data
    gap = PERCENT * (runs["train_accuracy"] - runs["test_accuracy"])
    return runs.assign(gap_points=gap, ratio_off_one=np.log(ratio).abs())


def _ratio(a: pd.DataFrame, b: pd.DataFrame) -> pd.Series:
    """Return a / b, geometric mean over batch sizes."""
    return np.exp(np.log(a / b).mean(axis=1))


def _gain(a: pd.DataFrame, b: pd.DataFrame) -> pd.Series:
    """Return b - a in percentage points, mean over batch sizes."""
    return PERCENT * (b - a).mean(axis=1)


def _drop(a: pd.DataFrame, b: pd.DataFrame) -> pd.Series:
    """Return a - b, mean over batch sizes."""
    return (a - b).mean(axis=1)


def _last_over_first(table: pd.DataFrame) -> pd.Series:
    return table[max(table.columns)] / table[min(table.columns)]


def _last_minus_first(table: pd.DataFrame) -> pd.Series:
    return table[max(table.columns)] - table[min(table.columns)]


def _last_over_lowest(table: pd.DataFrame) -> pd.Series:
    last = max(table.columns)
    return table[last] / table.drop(columns=last).min(axis=1)


def _last_minus_lowest(table: pd.DataFrame) -> pd.Series:
    last = max(table.columns)
    return PERCENT * (table[last] - table.drop(columns=last).min(axis=1))


def _larger_rho(results: Results) -> Measured:
    """Sharpness at the default radius over that at the largest one that still trains."""
    largest = max(results.parameters.batch_sizes)
    default = _compare(lambda table: table[largest], SGD_SAM, sizes=(largest,))(results)
    if default.not_testable:
        return default
    swept = results.runs[results.runs["arm"] == RHO_SWEEP]
    whole = swept.groupby("rho")["seed"].transform("nunique") == len(results.parameters.seeds)
    worst = swept[whole].groupby("rho")["train_accuracy"].min()
    usable = [r for r in worst.index if r > results.parameters.rho and worst[r] >= TRAINED]
    if not usable:
        needed = f"{PERCENT * TRAINED:.0f} %"
        why = "no whole rho sweep" if worst.empty else f"no larger rho trains to {needed}"
        return Measured(not_testable=why)
    rhos = swept.pivot(index="seed", columns="rho", values="keskar_sharpness")
    table = per_seed(results.runs, "keskar_sharpness", arm=SGD_SAM.label)[largest]
    values = tuple((table / rhos[max(usable)]).dropna())
    return Measured(values, note=f"rho = {results.parameters.rho:g} over rho = {max(usable):g}")


def _timed(by: Callable[[pd.DataFrame, pd.DataFrame], pd.Series]) -> Callable[[Results], Measured]:
    """A statistic of seconds per epoch: `by` takes tables [repeat, batch size], plain and SAM."""

    def statistic(results: Results) -> Measured:
        times = results.timings
        repeats = 0 if times.empty else times["repeat"].nunique()
        if repeats < TIMING_REPEATS:
            return Measured(not_testable=f"{repeats} timings, {TIMING_REPEATS} needed")
        table = times.pivot(index="repeat", columns=["sam", "batch_size"], values="seconds")
        return Measured(tuple(by(table[False], table[True])), note="n counts repeats")

    return statistic


def _ratio_farthest_from_two(plain: pd.DataFrame, sam: pd.DataFrame) -> pd.Series:
    ratios = sam / plain
    return ratios[np.log(ratios.median() / 2).abs().idxmax()]


# ------------------------------------------------------------- claims


PHI = "sharpness without SAM / with SAM"
POINTS = "validation accuracy, percentage points"
ENDS = "sharpness at the largest B / at the smallest"
FIGURE_2, RUNTIME = "section V, figure 2", "section V, paragraph on runtime"
ON_ADAM, LAST = "section V, paragraph on Adam", "section V, last paragraph"
SUMMARY, ABSTRACT = "section V, summary paragraph", "abstract"
CITED_CODE = "ours, on the code that section IV.A cites"

CLAIMS = (
    Claim(
        id="surlemont-scaling-compensates",
        figure="figure-1",
        locator=f"{ABSTRACT}, of earlier work",
        statement="With scaled learning rate, the largest batch is as accurate as the smallest.",
        quantity=f"{POINTS}: largest - smallest B",
        rule=above(-1),
        statistic=_compare(
            lambda t: PERCENT * _last_minus_first(t),
            SGD,
            column="validation_accuracy",
            sizes=ends,
            trained_at=smallest,
        ),
    ),
    Claim(
        id="surlemont-sam-keeps-accuracy",
        figure="figure-1",
        locator=SUMMARY,
        statement="SAM keeps the validation accuracy at B = 32 and 64.",
        quantity=f"{POINTS}: SAM - SGD, mean over B",
        rule=between(-1, 1),
        statistic=_compare(
            _gain, SGD, SGD_SAM, column="validation_accuracy", sizes=SMALL, trained=(SGD,)
        ),
    ),
    Claim(
        id="surlemont-sam-lowers-accuracy-large",
        figure="figure-1",
        locator=SUMMARY,
        statement="At large batches SAM lowers the final validation accuracy.",
        quantity=f"{POINTS}: SAM - SGD, mean over B = 256, 512, 1024",
        rule=below(0),
        statistic=_compare(
            _gain, SGD, SGD_SAM, column="validation_accuracy", sizes=LARGE, trained=(SGD,)
        ),
    ),
    Claim(
        id="surlemont-outlier-accuracy-1024",
        figure="figure-1",
        locator="section V, figure 1",
        statement="With SAM, B = 1024 has a lower validation accuracy than any other batch size.",
        quantity=f"{POINTS}: B = 1024 - lowest of the others",
        rule=below(0),
        statistic=_compare(
            _last_minus_lowest, SGD_SAM, column="validation_accuracy", sizes=ALL, trained=()
        ),
    ),
    Claim(
        id="surlemont-sam-sharpness-32",
        figure="figure-2",
        locator=FIGURE_2,
        statement="SAM divides the sharpness at B = 32 by about nine.",
        quantity=PHI,
        value="9",
        rule=about(9, factor=1.5),
        statistic=_compare(_ratio, SGD, SGD_SAM, sizes=(32,)),
    ),
    Claim(
        id="surlemont-sam-sharpness-64",
        figure="figure-2",
        locator=FIGURE_2,
        statement="SAM divides the sharpness at B = 64 by about two.",
        quantity=PHI,
        value="2",
        rule=about(2, factor=1.5),
        statistic=_compare(_ratio, SGD, SGD_SAM, sizes=(64,)),
    ),
    Claim(
        id="surlemont-sam-sharpness-128",
        figure="figure-2",
        locator=FIGURE_2,
        statement="At B = 128 SAM no longer lowers the sharpness.",
        quantity=PHI,
        rule=below(1.1, ratios=True),
        statistic=_compare(_ratio, SGD, SGD_SAM, sizes=(128,)),
    ),
    Claim(
        id="surlemont-sam-sharpness-256",
        figure="figure-2",
        locator=FIGURE_2,
        statement="At B = 256 the sharpness is worse with SAM.",
        quantity=PHI,
        rule=below(1, ratios=True),
        statistic=_compare(_ratio, SGD, SGD_SAM, sizes=(256,)),
    ),
    Claim(
        id="surlemont-sam-sharpness-512",
        figure="figure-2",
        locator=FIGURE_2,
        statement="At B = 512 the sharpness is worse with SAM.",
        quantity=PHI,
        rule=below(1, ratios=True),
        statistic=_compare(_ratio, SGD, SGD_SAM, sizes=(512,)),
    ),
    Claim(
        id="surlemont-outlier-sharpness-1024",
        figure="figure-2",
        locator=FIGURE_2,
        statement="With SAM, B = 1024 has the lowest sharpness of all batch sizes.",
        quantity="sharpness at B = 1024 / lowest of the others",
        rule=below(1, ratios=True),
        statistic=_compare(_last_over_lowest, SGD_SAM, sizes=ALL),
    ),
    Claim(
        id="surlemont-sam-small-only",
        figure="figure-2",
        locator=SUMMARY,
        statement="At B = 128, 256 and 512 SAM does not lower the sharpness.",
        quantity=f"{PHI}, mean over B",
        rule=below(1.1, ratios=True),
        statistic=_compare(_ratio, SGD, SGD_SAM, sizes=MIDDLE),
    ),
    Claim(
        id="surlemont-scaled-equal-sharpness",
        figure="figure-2",
        locator="section V, paragraph on figure 2",
        statement="Without SAM and with scaled learning rate, sharpness does not differ between "
        "the smallest and the largest batch (against earlier work).",
        quantity=ENDS,
        rule=about(1, factor=1.5),
        statistic=_compare(_last_over_first, SGD, sizes=ends),
    ),
    Claim(
        id="surlemont-scaled-sharper",
        figure="figure-2",
        locator=f"{ABSTRACT}, of earlier work",
        statement="With scaled learning rate, minima of large batches stay sharper (against the "
        "source's own result).",
        quantity=ENDS,
        rule=above(1, ratios=True),
        statistic=_compare(_last_over_first, SGD, sizes=ends),
    ),
    Claim(
        id="surlemont-sam-lr-relation",
        figure="figure-2",
        locator="section I, a question there",
        statement="Asked there: scaling the learning rate keeps the sharpness equal with SAM too.",
        quantity=f"{ENDS}, with SAM",
        value="asked",
        rule=about(1, factor=1.5),
        statistic=_compare(_last_over_first, SGD_SAM, sizes=ends),
    ),
    Claim(
        id="surlemont-sam-narrows-gap",
        figure="figure-3",
        locator="section V, first paragraph",
        statement="SAM narrows the generalization gap at B = 32 and 64.",
        quantity="test error - train error, percentage points: SAM - SGD, mean over B",
        rule=below(0),
        statistic=_compare(
            lambda a, b: _drop(b, a), SGD, SGD_SAM, column="gap_points", sizes=SMALL
        ),
    ),
    Claim(
        id="surlemont-sam-error-ratio",
        figure="figure-3",
        locator="figure 3",
        statement="SAM brings train error / test error closer to one at B = 32 and 64.",
        quantity="|ln(train error / test error)|: SGD - SAM, mean over B",
        rule=above(0),
        statistic=_compare(_drop, SGD, SGD_SAM, column="ratio_off_one", sizes=SMALL),
    ),
    Claim(
        id="surlemont-adam-accuracy-scaled",
        figure="figure-4",
        locator=ON_ADAM,
        statement="With Adam and scaled rate SAM does not improve the validation accuracy.",
        quantity=f"{POINTS}: SAM - Adam, mean over B",
        rule=below(0.5),
        statistic=_compare(
            _gain,
            ADAM,
            ADAM_SAM,
            column="validation_accuracy",
            trained=(ADAM,),
            drop_untrained=True,
        ),
    ),
    Claim(
        id="surlemont-adam-accuracy-fixed",
        figure="figure-4",
        locator=ON_ADAM,
        statement="With Adam and fixed rate SAM does not improve the validation accuracy.",
        quantity=f"{POINTS}: SAM - Adam, mean over B",
        rule=below(0.5),
        statistic=_compare(
            _gain,
            ADAM_FIXED,
            ADAM_FIXED_SAM,
            column="validation_accuracy",
            trained=(ADAM_FIXED,),
            drop_untrained=True,
        ),
    ),
    Claim(
        id="surlemont-adam-worse-scaled",
        figure="figure-4",
        locator=LAST,
        statement="With scaled rate, Adam is less accurate than SGD (there: worse).",
        quantity=f"{POINTS}: Adam - SGD, without SAM, mean over B",
        rule=below(0),
        statistic=_compare(
            _gain,
            SGD,
            ADAM,
            column="validation_accuracy",
            trained=(SGD,),
            equally_far=True,
            drop_untrained=True,
        ),
    ),
    Claim(
        id="surlemont-adam-worse-fixed",
        figure="figure-4",
        locator=LAST,
        statement="With fixed rate, Adam is less accurate than SGD (there: worse).",
        quantity=f"{POINTS}: Adam - SGD, without SAM, mean over B",
        rule=below(0),
        statistic=_compare(
            _gain,
            SGD_FIXED,
            ADAM_FIXED,
            column="validation_accuracy",
            trained=(SGD_FIXED,),
            equally_far=True,
            drop_untrained=True,
        ),
    ),
    Claim(
        id="surlemont-adam-sharpness-scaled",
        figure="figure-5",
        locator=ON_ADAM,
        statement="With Adam and scaled rate SAM does not lower the sharpness.",
        quantity=f"{PHI}, mean over B",
        rule=below(1.1, ratios=True),
        statistic=_compare(_ratio, ADAM, ADAM_SAM, drop_untrained=True),
    ),
    Claim(
        id="surlemont-adam-sharpness-fixed",
        figure="figure-5",
        locator=ON_ADAM,
        statement="With Adam and fixed rate SAM does not lower the sharpness.",
        quantity=f"{PHI}, mean over B",
        rule=below(1.1, ratios=True),
        statistic=_compare(_ratio, ADAM_FIXED, ADAM_FIXED_SAM, drop_untrained=True),
    ),
    Claim(
        id="surlemont-adam-sharper-scaled",
        figure="figure-5",
        locator=LAST,
        statement="With scaled rate, Adam's minima are sharper than those of SGD.",
        quantity="sharpness of Adam / of SGD, mean over B",
        rule=above(1, ratios=True),
        statistic=_compare(
            lambda a, b: _ratio(b, a), SGD, ADAM, equally_far=True, drop_untrained=True
        ),
    ),
    Claim(
        id="surlemont-fixed-gap",
        figure="figure-6",
        locator="section II.A, of earlier work; the fixed rate is ours",
        statement="With the learning rate fixed, the generalization gap of the largest batch is "
        "wider than that of the smallest.",
        quantity="test error - train error, percentage points: largest - smallest B",
        rule=above(0),
        statistic=_compare(_last_minus_first, SGD_FIXED, column="gap_points", sizes=ends),
    ),
    Claim(
        id="surlemont-fixed-sam-accuracy",
        figure="figure-6",
        locator=SUMMARY,
        statement="With fixed learning rate, SAM keeps the validation accuracy at B = 32 and 64.",
        quantity=f"{POINTS}: SAM - SGD, mean over B",
        rule=between(-1, 1),
        statistic=_compare(
            _gain,
            SGD_FIXED,
            SGD_FIXED_SAM,
            column="validation_accuracy",
            sizes=SMALL,
            trained=(SGD_FIXED,),
        ),
    ),
    Claim(
        id="surlemont-fixed-sam-small",
        figure="figure-7",
        locator=SUMMARY,
        statement="With the learning rate fixed, SAM lowers the sharpness at B = 32 and 64.",
        quantity=f"{PHI}, mean over B",
        rule=above(1.1, ratios=True),
        statistic=_compare(_ratio, SGD_FIXED, SGD_FIXED_SAM, sizes=SMALL),
    ),
    Claim(
        id="surlemont-fixed-sam-large",
        figure="figure-7",
        locator=SUMMARY,
        statement="With the learning rate fixed, SAM does not lower it at B = 128, 256 and 512.",
        quantity=f"{PHI}, mean over B",
        rule=below(1.1, ratios=True),
        statistic=_compare(_ratio, SGD_FIXED, SGD_FIXED_SAM, sizes=MIDDLE, drop_untrained=True),
    ),
    Claim(
        id="surlemont-dropout-explains",
        figure="dropout",
        locator=CITED_CODE,
        statement="SAM with dropout switched off, as in the cited code, divides the sharpness at "
        "B = 32 by about nine.",
        quantity="sharpness of SGD with dropout / SAM without",
        value="9",
        rule=about(9, factor=1.5),
        statistic=_compare(_ratio, SGD, NO_DROPOUT_SAM, sizes=(32,)),
    ),
    Claim(
        id="surlemont-dropout-alone",
        figure="dropout",
        locator=CITED_CODE,
        statement="Switching dropout off lowers the sharpness at B = 32 and 64 without any SAM.",
        quantity="sharpness of SGD with dropout / without, mean over B",
        value="ours",
        rule=above(1, ratios=True),
        statistic=_compare(_ratio, SGD, NO_DROPOUT, sizes=SMALL),
    ),
    Claim(
        id="surlemont-sam-without-dropout",
        figure="dropout",
        locator=f"{CITED_CODE}; added after its runs were seen",
        statement="With dropout off in both, SAM divides the sharpness at B = 32 by about nine.",
        quantity=f"{PHI}, no dropout",
        value="9",
        rule=about(9, factor=1.5),
        statistic=_compare(_ratio, NO_DROPOUT, NO_DROPOUT_SAM, sizes=(32,)),
    ),
    Claim(
        id="surlemont-sam-doubles-time",
        figure="runtime",
        locator=RUNTIME,
        statement="SAM about doubles the time per epoch at every batch size.",
        quantity="time with SAM / without, at the batch size farthest from 2",
        value="2",
        rule=about(2, factor=1.15),
        statistic=_timed(_ratio_farthest_from_two),
    ),
    Claim(
        id="surlemont-large-batch-faster",
        figure="runtime",
        locator=RUNTIME,
        statement="Larger batches take less time per epoch.",
        quantity="time at the largest B / at the smallest",
        rule=below(1, ratios=True),
        statistic=_timed(lambda plain, sam: _last_over_first(plain)),
    ),
    Claim(
        id="surlemont-larger-rho",
        figure="rho",
        locator="section V, an open question",
        statement="Asked there: a larger rho changes (here: lowers) the largest batch's sharpness.",
        quantity="sharpness at the default rho / at the largest that trains",
        value="asked",
        rule=above(1.5, ratios=True),
        statistic=_larger_rho,
    ),
)
