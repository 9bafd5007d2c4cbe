"""What figures and claims read off runs and their histories: peaks, times to an accuracy, jumps."""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from bsglib.studies.kaabachi import published
from bsglib.studies.kaabachi.protocol import LARGE, LINEAR, SMALL
from bsglib.studies.study import Results
from bsglib.verdicts import Shares

WITHIN = 0.005  # of the final accuracy, from which on it counts as reached
LEARNED = 2.0  # times chance: an accuracy that shows that something was learned
SETTLED = 0.9  # of a run's epochs: an accuracy reached later is only where the run was stopped
JUMP = 0.1  # nats by which a training loss has to move to count as a jump
CHANCE = 0.02  # nats below ln(classes): a loss above that is no better than chance


def epochs_to(history: pd.DataFrame, target: float) -> float | None:
    """Return after how many epochs a run's test accuracy first reaches a target.

    Between two epochs at which it was evaluated, accuracy is taken to rise in proportion to the
    logarithm of the epoch, so that sparse evaluation does not round up.

    Args:
        history: rows of one run with epoch and test_accuracy, some of them missing.
        target: a fraction.

    Returns:
        the epochs, None if it never got there: a censored time.
    """
    epochs, accuracy = _by_epoch(history, "test_accuracy")
    epochs, accuracy = epochs[~np.isnan(accuracy)], accuracy[~np.isnan(accuracy)]
    there = np.flatnonzero(accuracy >= target)
    if not len(there):
        return None
    if (place := there[0]) == 0:
        return float(epochs[0])
    before, after = accuracy[place - 1 : place + 1]
    factor = epochs[place] / epochs[place - 1]
    return float(epochs[place - 1] * factor ** ((target - before) / (after - before)))


def lost(history: pd.DataFrame, classes: int) -> bool:
    """Return whether a run diverged, or ended no better than chance after its loss had moved.

    A loss that has hardly moved is that of a rate too low, and nothing that was lost.

    Args:
        history: rows of one run with epoch and running_loss, the mean over the epoch as it went.
        classes: of the data.
    """
    _, loss = _by_epoch(history, "running_loss")
    if not np.isfinite(loss).all():
        return True
    return bool(loss[-1] > math.log(classes) - CHANCE and np.ptp(loss) > JUMP)


def largest_rise(history: pd.DataFrame, classes: int) -> float:
    """Return how far a run's training loss rises above its lowest value before, in nats.

    At most ln(classes), what there is to lose, and that much of a run that is `lost`.

    Args:
        history: as in `lost`.
        classes: of the data.
    """
    (_, loss), most = _by_epoch(history, "running_loss"), math.log(classes)
    if lost(history, classes):
        return most
    return float(min(np.max(loss - np.minimum.accumulate(loss)), most))


def _by_epoch(history: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    epochs = history["epoch"].to_numpy(float)
    order = np.argsort(epochs)
    return epochs[order], history[column].to_numpy(float)[order]


def _peak(run, history: pd.DataFrame) -> float:
    seen = history.loc[np.isfinite(history["running_loss"]), "test_accuracy"]
    return float(np.nanmax([1 / run.classes, run.final, *seen]))


def _as_run(history: pd.DataFrame) -> np.ndarray:
    """Return the test accuracies of a run as the source's code takes them, NaN where it did not."""
    if "test_accuracy_as_run" not in history:
        return np.array([np.nan])
    return history["test_accuracy_as_run"].to_numpy(float)


def _peak_as_run(run, history: pd.DataFrame) -> float:
    seen = _as_run(history)
    return math.nan if np.isnan(seen).all() else float(np.nanmax([1 / run.classes, *seen]))


def _own_epochs(run, history: pd.DataFrame) -> float:
    """Near chance, where a run that learned nothing ends, it has been from the start."""
    learned = run.stopped != "diverged" and run.final >= LEARNED / run.classes
    return _number(epochs_to(history, run.final - WITHIN if learned else math.nan))


def _number(epochs: float | None) -> float:
    return math.nan if epochs is None else epochs


READINGS = {  # of a run and its history
    "peak": _peak,  # highest test accuracy along the run
    "peak_as_run": _peak_as_run,  # the same with dropout on and the statistics of test batches
    "mode": lambda run, history: _peak_as_run(run, history) - _peak(run, history),
    "lost": lambda run, history: run.stopped == "diverged" or lost(history, run.classes),
    "rise": lambda run, history: largest_rise(history, run.classes),
    "own_epochs": _own_epochs,  # to within half a point of its final accuracy
    "rising": lambda run, history: _own_epochs(run, history) > SETTLED * run.epochs,
    "target_epochs": lambda run, history: _number(epochs_to(history, run.target)),
}


def derived(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return some runs with what is read off their histories, NaN where a run never got there.

    That is READINGS, `final` (test accuracy, chance if the run diverged), and `target`, the common
    one: a share of the final accuracy of the largest small batch with that seed.
    """
    return _all_runs(results).loc[runs.index]


def read_off(results: Results, *arms: str, **where: Any) -> pd.DataFrame:
    """Return the runs that `results.of` selects, with what is read off their histories."""
    return derived(results, results.of(*arms, **where))


def to_target(results: Results, runs: pd.DataFrame, target: pd.Series) -> pd.DataFrame:
    """Return runs with another accuracy to reach, and the epochs to it."""
    runs = runs.assign(target=target)
    return runs.assign(target_epochs=_read("target_epochs", runs, _histories(results)))


@lru_cache(maxsize=4)
def _all_runs(results: Results) -> pd.DataFrame:
    """Return all runs with all derived, once for the many claims that ask."""
    runs = results.runs
    final = runs["test_accuracy"].where(runs["stopped"] != "diverged", 1 / runs["classes"])
    runs = runs.assign(final=final, target=_common_targets(results))
    return runs.assign(**{name: _read(name, runs, _histories(results)) for name in READINGS})


@lru_cache(maxsize=4)
def _histories(results: Results) -> dict[tuple[str, str], pd.DataFrame]:
    return dict(iter(results.history.groupby(["entry", "arm"])))


def _read(name: str, runs: pd.DataFrame, histories: dict[tuple[str, str], pd.DataFrame]) -> list:
    return [READINGS[name](run, histories[run.entry, run.arm]) for run in runs.itertuples()]


def _common_targets(results: Results) -> pd.Series:
    small = results.of(SMALL, batch_size=max(results.parameters.small_batch_sizes))
    small = small[small["stopped"] != "diverged"].set_index("seed")["test_accuracy"]
    return results.runs["seed"].map(small * results.parameters.target_share)


def shares(results: Results, runs: pd.DataFrame) -> Iterator[Shares]:
    """Yield what each run has of the paper's training, whose rule to stop is a number of epochs.

    A run that diverged, or made as many epochs as the paper's, has all of the updates.
    """
    p = results.parameters
    for run in runs.itertuples():
        joint = run.batch_size * run.local_workers
        large = published.LARGE_EPOCHS.get(joint, published.LINEAR_EPOCHS)
        known = {SMALL: published.SMALL_EPOCHS, LARGE: large, LINEAR: published.LINEAR_EPOCHS}
        epochs = known.get(run.arm, published.WARMUP_EPOCHS)
        cut_off = run.stopped == "epochs" and run.epochs < epochs
        there = epochs * math.ceil(published.EXAMPLES / joint)
        yield Shares(
            updates=run.updates / there if cut_off else 1.0,
            examples=run.train_size / published.EXAMPLES,
            width=float(p.network_options.get("width", 1.0)),
            data="" if p.dataset == "cifar10" else p.dataset,
        )
