"""Notes on measurements, for captions and tables of several studies."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bsglib.stats import PERCENT, student
from bsglib.studies.comparing import Side
from bsglib.studies.parameters import SharpnessParameters, SweepParameters, TimingParameters
from bsglib.studies.study import Results
from bsglib.verdicts import Rule, interval_text


def timing(p: TimingParameters, times: pd.DataFrame) -> str:
    """Return how the times of a study were measured."""
    if times.empty:
        return "Not timed yet."
    first = times.iloc[0]
    cores = f"{first['cores']} cores, " if "cores" in times else ""
    return (
        f"{first['processor']}, {cores}{first['threads']} thread per process; "
        f"{times['repeat'].nunique()} interleaved repeats, scaled to an epoch from "
        f"{p.timing_samples:,} training examples, evaluation excluded."
    )


def sharpness(p: SharpnessParameters, runs: pd.DataFrame) -> str:
    """Return how the sharpness of some runs was measured."""
    limited = (runs["keskar_sharpness.iterations"] >= p.max_iter).sum()
    return (
        f"Box half-width {p.epsilon:g} (|x| + 1), full space, mean cross-entropy of "
        f"{p.sharpness_examples:,} training examples without dropout; L-BFGS-B reached its limit "
        f"of {p.max_iter} iterations in {limited} of {len(runs)} runs."
    )


def seeds(p: SweepParameters, where: str) -> str:
    """Return the number of seeds of a study, and of additional seeds of some arms."""
    return f"{len(p.seeds)}" + (f", {len(p.more_seeds)} more {where}" if p.more_seeds else "")


def arithmetic(dtype: str, otherwise: str = "as the paper") -> tuple[str, str, str, str]:
    """Return the row on precision of a scope table.

    Args:
        dtype: of the runs.
        otherwise: the reason for float32.
    """
    reasons = {"float64": "the same digits on every machine", "bfloat16": "speed"}
    return "arithmetic", "not stated (float32)", dtype, reasons.get(dtype, otherwise)


def beside(results: Results, sides: Sequence[Side], across: str = "batch_size") -> str:
    """Return what stands beside a difference of test accuracies: test loss, training accuracy.

    Both are differences with intervals over seeds, of two sides the first minus the second, of one
    side the last batch size minus the first. A gap that is one of training accuracy is not a
    generalization gap, and the test loss may speak against the test accuracy.

    Args:
        results: of a study; `partial(beside, sides=sides)` is a `Comparison`'s note.
        sides: one or two.
        across: the column whose values are averaged, as of `Comparison`.
    """
    both = (
        ("test loss", "test_loss", 1, "nats"),
        ("training accuracy", "train_accuracy", PERCENT, "points"),
    )
    found = []
    for words, column, scale, unit in both:
        tables = [one.of(results).pivot_table(column, "seed", across) for one in sides]
        if len(tables) == 1:
            differences = tables[0][max(tables[0])] - tables[0][min(tables[0])]
        else:
            differences = tables[0].mean(axis=1) - tables[1].mean(axis=1)
        values = scale * differences.to_numpy(float)
        values = values[np.isfinite(values)]
        if len(values):
            ours = student(values).interval()
            found.append(f"{words} {interval_text(ours, Rule('above', 1))} {unit}")
    order = "first - second" if len(sides) > 1 else "last - first"
    return f"{order}: {', '.join(found)}" if found else ""
