"""What Surlemont et al. state, the statistic that tests it, and the rule that judges it."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bsglib.claims import Claim, Measured, about, above, below, between
from bsglib.papers import Results, per_seed
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
)
from bsglib.papers.surlemont.views import error_ratio

TRAINED = 0.75  # training accuracy from which a run counts as a minimizer worth comparing
TIMING_REPEATS = 5  # from which times are judged


def _compare(
    column: str,
    *arms: Arm,
    by: Callable[..., pd.Series],
    sizes: tuple[int, ...] | None = None,
    trained: bool = True,
) -> Callable[[Results], Measured]:
    """A claim's statistic: `by` takes a table [seed, batch size] of a column for each arm."""

    def statistic(results: Results) -> Measured:
        wanted = list(sizes or results.parameters.batch_sizes)
        if results.runs.empty:
            return Measured(not_testable="no runs")
        runs = results.runs[results.runs["batch_size"].isin(wanted)]
        for arm in arms:
            mine = runs[runs["arm"] == arm.label]
            absent = sorted(set(wanted) - set(mine["batch_size"]))
            if absent:
                return Measured(not_testable=f"no runs at B = {absent[0]} ({arm.label})")
            diverged = (mine["stopped"] == "diverged").sum()
            if diverged:
                return Measured(not_testable=f"{diverged} runs diverged ({arm.label})")
            worst = mine.loc[mine["train_accuracy"].fillna(0).idxmin()]
            if trained and not worst["train_accuracy"] >= TRAINED:
                return Measured(not_testable=_untrained(worst))
        tables = [per_seed(runs, column, arm=arm.label) for arm in arms]
        return Measured(tuple(by(*tables).dropna()))

    return statistic


def _untrained(run: pd.Series) -> str:
    got = f"training accuracy {100 * run['train_accuracy']:.0f} %, {100 * TRAINED:.0f} % needed"
    return f"{run['arm']}, B = {run['batch_size']}, {run['updates']:.0f} updates: {got}"


def _gap(results: Results, arm: Arm) -> pd.DataFrame:
    test, train = (
        per_seed(results.runs, f"{s}_accuracy", arm=arm.label) for s in ("test", "train")
    )
    return 100 * (train - test)  # test error - train error, percentage points


def _gap_narrowed(results: Results) -> Measured:
    check = _compare("test_accuracy", SGD, SGD_SAM, sizes=(32, 64), by=lambda a, b: a[32])(results)
    if check.not_testable:
        return check
    difference = _gap(results, SGD_SAM)[[32, 64]] - _gap(results, SGD)[[32, 64]]
    return Measured(tuple(difference.mean(axis=1).dropna()))


def _error_ratio_rise(results: Results) -> Measured:
    check = _compare("test_accuracy", SGD, SGD_SAM, sizes=(32, 64), by=lambda a, b: a[32])(results)
    if check.not_testable:
        return check
    ratio = error_ratio(results.runs)
    table = {
        arm: per_seed(results.runs.assign(ratio=ratio), "ratio", arm=arm.label)[[32, 64]]
        for arm in (SGD, SGD_SAM)
    }
    return Measured(tuple((table[SGD_SAM] - table[SGD]).mean(axis=1).dropna()))


def _successes(plain: Arm, sam: Arm, sizes: tuple[int, ...]) -> Callable[[Results], Measured]:
    """Number of batch sizes at which SAM lowers sharpness and keeps accuracy, per seed."""

    def statistic(results: Results) -> Measured:
        check = _compare("keskar_sharpness", plain, sam, sizes=sizes, by=lambda a, b: a[sizes[0]])
        if (measured := check(results)).not_testable:
            return measured
        phi = [per_seed(results.runs, "keskar_sharpness", arm=a.label) for a in (plain, sam)]
        accuracy = [
            per_seed(results.runs, "validation_accuracy", arm=a.label) for a in (plain, sam)
        ]
        flatter = (phi[0] / phi[1])[list(sizes)] > 1.1
        kept = (accuracy[1] - accuracy[0])[list(sizes)] >= -0.01
        return Measured(tuple((flatter & kept).sum(axis=1).astype(float)))

    return statistic


def _larger_rho(results: Results) -> Measured:
    largest = max(results.parameters.batch_sizes)
    start = _compare("keskar_sharpness", SGD_SAM, sizes=(largest,), by=lambda t: t[largest])(
        results
    )
    sweep = results.runs[results.runs["arm"] == RHO_SWEEP]
    if start.not_testable or sweep.empty:
        return Measured(not_testable=start.not_testable or "no rho sweep")
    worst = sweep.groupby("rho")["train_accuracy"].min()
    usable = [r for r in worst.index if r > results.parameters.rho and worst[r] >= TRAINED]
    if not usable:
        return Measured(not_testable=f"no larger rho trains to {100 * TRAINED:.0f} %")
    rhos = sweep.pivot(index="seed", columns="rho", values="keskar_sharpness")
    default = per_seed(results.runs, "keskar_sharpness", arm=SGD_SAM.label)[largest]
    return Measured(tuple((default / rhos[max(usable)]).dropna()))


def _sam_cost(results: Results) -> Measured:
    ratios = _epoch_ratios(results, lambda plain, sam: sam / plain)
    if isinstance(ratios, Measured):
        return ratios
    farthest = np.log(ratios.median() / 2).abs().idxmax()
    return Measured(tuple(ratios[farthest]))


def _large_batch_cost(results: Results) -> Measured:
    times = _epoch_ratios(results, lambda plain, sam: plain)
    if isinstance(times, Measured):
        return times
    return Measured(tuple(times[max(times.columns)] / times[min(times.columns)]))


def _epoch_ratios(results: Results, by: Callable) -> pd.DataFrame | Measured:
    times = results.timings
    repeats = 0 if times.empty else times["repeat"].nunique()
    if repeats < TIMING_REPEATS:
        return Measured(not_testable=f"{repeats} timings, {TIMING_REPEATS} needed")
    table = times.pivot(index="repeat", columns=["sam", "batch_size"], values="seconds")
    return by(table[False], table[True])


def _claim(name, figure, locator, statement, quantity, value, rule, statistic, erratum=None):
    return Claim(
        f"surlemont-{name}", figure, locator, statement, quantity, value, rule, statistic, erratum
    )


PHI_RATIO = "sharpness without SAM / with SAM"
POINTS = "validation accuracy, difference in percentage points"


def _phi_ratio_at(batch_size: int):
    by = lambda plain, sam: plain[batch_size] / sam[batch_size]  # noqa: E731
    return _compare("keskar_sharpness", SGD, SGD_SAM, sizes=(batch_size,), by=by)


def _mean_phi_ratio(plain: Arm, sam: Arm):
    by = lambda a, b: np.exp(np.log(a / b).mean(axis=1))  # noqa: E731
    return _compare("keskar_sharpness", plain, sam, by=by, trained=False)


def _mean_gain(plain: Arm, sam: Arm, sizes=None, *, trained=True):
    by = lambda a, b: 100 * (b - a).mean(axis=1)  # noqa: E731
    return _compare("validation_accuracy", plain, sam, sizes=sizes, by=by, trained=trained)


def _large_minus_small(arm: Arm, *, trained: bool):
    by = lambda t: 100 * (t[max(t.columns)] - t[min(t.columns)])  # noqa: E731
    return _compare("validation_accuracy", arm, by=by, trained=trained)


def _phi_large_over_small(arm: Arm):
    by = lambda t: t[max(t.columns)] / t[min(t.columns)]  # noqa: E731
    return _compare("keskar_sharpness", arm, by=by)


LARGE = (256, 512, 1024)
CLAIMS = (
    _claim(
        "scaling-compensates", "figure-1", "abstract", "With the learning rate scaled, the "
        "largest batch is as accurate as the smallest.", POINTS + " (largest - smallest B)", "-",
        above(-1), _large_minus_small(SGD, trained=True),
    ),
    _claim(
        "sam-keeps-accuracy", "figure-1", "section V, summary paragraph", "SAM keeps the "
        "validation accuracy at B = 32 and 64.", POINTS + " (SAM - SGD)", "-",
        between(-1, 1), _mean_gain(SGD, SGD_SAM, (32, 64)),
    ),
    _claim(
        "sam-lowers-accuracy-large", "figure-1", "section V, summary paragraph", "At large batches "
        "SAM lowers the final validation accuracy.", POINTS + " (SAM - SGD, mean over B = 256, "
        "512, 1024)", "-", below(0), _mean_gain(SGD, SGD_SAM, LARGE, trained=False),
    ),
    _claim(
        "outlier-accuracy-1024", "figure-1", "section V, figure 1", "With SAM, B = 1024 has "
        "a lower validation accuracy than the other batch sizes.", POINTS + " (B = 1024 - mean of "
        "the others)", "-", below(0),
        _compare(
            "validation_accuracy", SGD_SAM, trained=False, sizes=(32, 64, 128, 256, 512, 1024),
            by=lambda t: 100 * (t[1024] - t.drop(columns=1024).mean(axis=1)),
        ),
    ),
    _claim(
        "sam-sharpness-32", "figure-2", "section V, figure 2", "SAM divides the sharpness at "
        "B = 32 by about nine.", PHI_RATIO, "9", about(9, factor=1.5), _phi_ratio_at(32),
    ),
    _claim(
        "sam-sharpness-64", "figure-2", "section V, figure 2", "SAM divides the sharpness at "
        "B = 64 by about two.", PHI_RATIO, "2", about(2, factor=1.5), _phi_ratio_at(64),
    ),
    _claim(
        "sam-sharpness-128", "figure-2", "section V, figure 2", "At B = 128 SAM no longer lowers "
        "the sharpness.", PHI_RATIO, "-", below(1.1, ratios=True), _phi_ratio_at(128),
    ),
    _claim(
        "sam-sharpness-256", "figure-2", "section V, figure 2", "At B = 256 the sharpness is "
        "worse with SAM.", PHI_RATIO, "-", below(1, ratios=True), _phi_ratio_at(256),
    ),
    _claim(
        "sam-sharpness-512", "figure-2", "section V, figure 2", "At B = 512 the sharpness is "
        "worse with SAM.", PHI_RATIO, "-", below(1, ratios=True), _phi_ratio_at(512),
    ),
    _claim(
        "outlier-sharpness-1024", "figure-2", "section V, figure 2", "With SAM, B = 1024 has the "
        "lowest sharpness of all batch sizes.", "sharpness at B = 1024 / lowest of the others",
        "-", below(1, ratios=True),
        _compare(
            "keskar_sharpness", SGD_SAM, sizes=(32, 64, 128, 256, 512, 1024),
            by=lambda t: t[1024] / t.drop(columns=1024).min(axis=1),
        ),
    ),
    _claim(
        "scaled-equal-sharpness", "figure-2", "section V, paragraph on figure 2", "Without SAM and "
        "with the learning rate scaled, sharpness does not differ between batch sizes.",
        "sharpness at the largest B / at the smallest", "1", about(1, factor=1.5),
        _phi_large_over_small(SGD),
        "contradicts the source's abstract",
    ),
    _claim(
        "scaled-sharper", "figure-2", "abstract", "With the learning rate scaled, minima of large "
        "batches stay sharper.", "sharpness at the largest B / at the smallest", "-",
        above(1, ratios=True), _phi_large_over_small(SGD),
        "contradicts the source's section V",
    ),
    _claim(
        "sam-lr-relation", "figure-2", "section I, asked there", "With SAM too, scaling the "
        "learning rate with the batch keeps the sharpness equal.",
        "sharpness at the largest B / at the smallest, with SAM", "-", about(1, factor=1.5),
        _phi_large_over_small(SGD_SAM),
    ),
    _claim(
        "sam-small-only", "figure-2", "section V, summary paragraph", "At B of 128 and above SAM "
        "nowhere lowers the sharpness while keeping the accuracy.",
        "number of batch sizes where it does (of 4)", "0", below(0.5),
        _successes(SGD, SGD_SAM, (128, 256, 512, 1024)),
    ),
    _claim(
        "sam-narrows-gap", "figure-3", "section V, first paragraph", "SAM narrows the "
        "generalization gap at B = 32 and 64.", "test error - train error, SAM - SGD, percentage "
        "points", "-", below(0), _gap_narrowed,
    ),
    _claim(
        "sam-error-ratio", "figure-3", "figure 3", "SAM brings the ratio of train error to test "
        "error closer to one at B = 32 and 64.", "train error / test error, SAM - SGD", "-",
        above(0), _error_ratio_rise,
    ),
    _claim(
        "adam-accuracy-scaled", "figure-4", "section V, paragraph on Adam", "With Adam and scaled "
        "learning rate SAM does not improve the validation accuracy.", POINTS + " (SAM - Adam, "
        "mean over B)", "-", below(0.5), _mean_gain(ADAM, ADAM_SAM, trained=False),
    ),
    _claim(
        "adam-accuracy-fixed", "figure-4", "section V, paragraph on Adam", "With Adam and fixed "
        "learning rate SAM does not improve the validation accuracy.", POINTS + " (SAM - Adam, "
        "mean over B)", "-", below(0.5), _mean_gain(ADAM_FIXED, ADAM_FIXED_SAM, trained=False),
    ),
    _claim(
        "adam-worse-scaled", "figure-4", "section V, last paragraph", "With scaled learning rate, "
        "Adam is worse than SGD.", POINTS + " (Adam - SGD, mean over B)", "-", below(0),
        _mean_gain(SGD, ADAM, trained=False),
    ),
    _claim(
        "adam-worse-fixed", "figure-4", "section V, last paragraph", "With fixed learning rate, "
        "Adam is worse than SGD.", POINTS + " (Adam - SGD, mean over B)", "-", below(0),
        _mean_gain(SGD_FIXED, ADAM_FIXED, trained=False),
    ),
    _claim(
        "adam-sharpness-scaled", "figure-5", "section V, paragraph on Adam", "With Adam and scaled "
        "learning rate SAM does not lower the sharpness.", PHI_RATIO + ", mean over B", "-",
        below(1.1, ratios=True), _mean_phi_ratio(ADAM, ADAM_SAM),
    ),
    _claim(
        "adam-sharpness-fixed", "figure-5", "section V, paragraph on Adam", "With Adam and fixed "
        "learning rate SAM does not lower the sharpness.", PHI_RATIO + ", mean over B", "-",
        below(1.1, ratios=True), _mean_phi_ratio(ADAM_FIXED, ADAM_FIXED_SAM),
    ),
    _claim(
        "fixed-gap", "figure-6", "section II.A", "With the learning rate fixed, the largest batch "
        "is less accurate than the smallest.", POINTS + " (largest - smallest B)", "-", below(0),
        _large_minus_small(SGD_FIXED, trained=False),
    ),
    _claim(
        "fixed-sam-accuracy", "figure-6", "section V, summary paragraph", "With the learning rate "
        "fixed, SAM keeps the validation accuracy at B = 32 and 64.", POINTS + " (SAM - SGD)",
        "-", between(-1, 1), _mean_gain(SGD_FIXED, SGD_FIXED_SAM, (32, 64)),
    ),
    _claim(
        "fixed-sam-small", "figure-7", "section V, summary paragraph", "With the learning rate "
        "fixed, SAM lowers the sharpness and keeps the accuracy at B = 32 and 64.",
        "number of batch sizes where it does (of 2)", "2", above(1.5),
        _successes(SGD_FIXED, SGD_FIXED_SAM, (32, 64)),
    ),
    _claim(
        "fixed-sam-large", "figure-7", "section V, summary paragraph", "With the learning rate "
        "fixed, SAM nowhere does so at B of 128 and above.",
        "number of batch sizes where it does (of 4)", "0", below(0.5),
        _successes(SGD_FIXED, SGD_FIXED_SAM, (128, 256, 512, 1024)),
    ),
    _claim(
        "sam-doubles-time", "runtime", "section V, paragraph on runtime", "SAM about doubles the "
        "time per epoch at every batch size.", "time with SAM / without, batch size farthest "
        "from 2", "2", about(2, factor=1.15), _sam_cost,
    ),
    _claim(
        "large-batch-faster", "runtime", "section V, paragraph on runtime", "Larger batches take "
        "less time per epoch.", "time at the largest B / at the smallest", "-",
        below(1, ratios=True), _large_batch_cost,
    ),
    _claim(
        "dropout-explains", "dropout", "ours, on the code that section IV.A cites", "Switching "
        "dropout off with SAM, as the cited code does, divides the sharpness at B = 32 by about "
        "nine.", "sharpness of SGD with dropout / SAM without", "9", about(9, factor=1.5),
        _compare(
            "keskar_sharpness", SGD, NO_DROPOUT_SAM, sizes=(32,), by=lambda a, b: a[32] / b[32]
        ),
    ),
    _claim(
        "dropout-alone", "dropout", "ours, on the code that section IV.A cites", "Switching "
        "dropout off lowers the sharpness at B = 32 without any SAM.",
        "sharpness of SGD with dropout / without", "-", above(1, ratios=True),
        _compare("keskar_sharpness", SGD, NO_DROPOUT, sizes=(32,), by=lambda a, b: a[32] / b[32]),
    ),
    _claim(
        "larger-rho", "rho", "section V, open question", "A larger rho lowers the sharpness at "
        "the largest batch.", "sharpness at the default rho / at the largest that trains", "-",
        above(1.5, ratios=True), _larger_rho,
    ),
)  # fmt: skip
