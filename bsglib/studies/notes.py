"""Notes on measurements, for captions and tables of several studies."""

import pandas as pd

from bsglib.studies.parameters import SharpnessParameters, SweepParameters, TimingParameters


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
