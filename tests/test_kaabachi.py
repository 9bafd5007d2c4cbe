"""Tests of bsglib.studies.kaabachi: design, claims and tables of the study of warm-up."""

import dataclasses
import functools
import json
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from bsglib.runs.build import schedule_of
from bsglib.runs.params import ParameterError, parse
from bsglib.studies import kaabachi
from bsglib.studies.kaabachi import claims, protocol, published, tables
from bsglib.studies.kaabachi import confirmatory as of_confirm
from bsglib.studies.kaabachi.derived import WITHIN, epochs_to, largest_rise, lost
from bsglib.studies.kaabachi.protocol import (
    COLD,
    EXPONENTIAL,
    LARGE,
    LINEAR,
    LOCAL,
    RATES,
    SMALL,
    SQRT,
    reference,
)
from bsglib.studies.profiles import load
from bsglib.studies.study import Results, designed_table
from bsglib.verdicts import NOT_RUN, NOT_TESTABLE, OPPOSITE, SAME

SECOND = ("as-run", "flat", "mode")  # figures of the second reading, which confirm alone has
IDS = [claim.id for claim in kaabachi.CLAIMS if claim.figure not in SECOND]
EXAMPLES = 49_000  # of CIFAR-10, a fiftieth set aside
SEEDS = [10, 11, 12, 13, 14, 15]  # enough for the signs of six


def parameters(profile="paper"):
    return load(kaabachi.study, profile)


# A made-up world


class Told(NamedTuple):
    """What a source says about a run."""

    accuracy: float  # highest test accuracy
    epochs: float  # until it is reached
    rise: float = 0.0  # of the training loss, in nats; infinite: it diverges


LINEAR_ACCURACY = {1024: 0.77, 2048: 0.76}
EPOCHS = {1024: 280, 2048: 380} | {b: row.epochs for b, row in published.TABLE.items()}


def as_stated(arm, c):
    """A run of which all that the source says is true."""
    b, unsteady = c.batch_size, published.UNSTEADY
    if arm == LINEAR:
        return Told(LINEAR_ACCURACY.get(b, 0.8), 30, math.inf if b in unsteady else 0)
    if arm == COLD:
        return Told(LINEAR_ACCURACY.get(b, 0.8), 60, 0.5 if b in unsteady else 0)
    if c.warmup_epochs:
        return Told(0.794 + 0.1 * (c.warmup_epochs / c.epochs - 0.05), 30)
    others = {
        SMALL: (0.82 - 0.015 * math.log2(b / 4), 35),
        LARGE: (0.75 - 0.03 * math.log2(b / 128), EPOCHS.get(b)),
        LOCAL: (0.811 + 0.01 * math.log2(c.local_steps), 40),
        SQRT: (0.79, 40),
        RATES: (0.806, 40),
        of_confirm.FLAT: (0.806, 40),
    }
    return Told(*others.get(arm, (0.785, 40)))


def without_effect(arm, c):
    """A run in a world in which only the data decide."""
    return Told(0.5, 20)


def curve(told, epochs):
    """A history with the peak, the epochs and the rise that were told; diverging ends it."""
    last = epochs if math.isfinite(told.rise) else round(0.8 * epochs)
    epoch = np.arange(1, last + 1)
    missing = 0.05 * np.log(told.epochs / epoch)
    accuracy = told.accuracy - (WITHIN + missing) * (epoch < told.epochs - 1e-9)
    loss = 0.3 + 1.5 * np.exp(-epoch / 10)
    loss[-max(last // 5, 1)] += told.rise
    if not math.isfinite(told.rise):
        loss[-1], accuracy[-1] = math.nan, 0.1
        loss[:-1] = np.nan_to_num(loss[:-1], posinf=1.0)
    return pd.DataFrame({"epoch": epoch, "test_accuracy": accuracy, "running_loss": loss})


def world(rule=as_stated, p=None):
    """Results in which each run is what `rule` says, with a little noise from its seed."""
    p = p or parameters().model_copy(update={"seeds": SEEDS})
    entries, rows, histories = kaabachi.study.design(p), [], []
    for entry in entries:
        c = entry.config
        told = rule(entry.arm, c)
        generator = np.random.default_rng([c.seed, *c.canonical().encode()])
        noise = 0 if rule is without_effect else 1e-4 * generator.standard_normal()
        told = told._replace(accuracy=told.accuracy * (1 + noise))
        history, n = curve(told, c.epochs), c.train_size or EXAMPLES
        updates = math.ceil(n / (c.batch_size * c.local_workers))
        history = history.assign(**entry.columns, updates=updates * history["epoch"])
        last = history.iloc[-1]
        accuracy, loss = last["test_accuracy"], last["running_loss"]
        peak = schedule_of(c, c.batch_size, updates).peak_lr
        row = c.model_dump() | {"network_options": json.dumps(c.network_options)} | entry.columns
        row |= {"part": entry.part, "run_id": entry.key, "classes": 10, "train_size": n, "lr": peak}
        row |= {"epochs": last["epoch"], "updates": last["updates"], "test_accuracy": accuracy}
        row |= {"stopped": "epochs" if math.isfinite(loss) else "diverged", "train_loss": loss}
        row |= {"validation_accuracy": told.accuracy, "test_loss": loss, "train_accuracy": accuracy}
        rows.append(row)
        histories.append(history)
    runs, history = pd.DataFrame(rows), pd.concat(histories, ignore_index=True)
    tables = runs, history, pd.DataFrame(), timings(rule, p), designed_table(entries)
    return Results(kaabachi.study, p, *tables, computed=0)


def timings(rule, p):
    stated = {size: row.seconds_per_epoch for size, row in published.TABLE.items()}
    stated |= {1024: 15.8, 2048: 15.8}
    rows = [
        {"batch_size": b, "repeat": r, "processor": "made up", "threads": 1,
         "seconds": 16.0 if rule is without_effect else stated[b] * (1 + 1e-4 * r)}
        for r in range(p.timing_repeats)
        for b in p.batch_sizes
    ]  # fmt: skip
    return pd.DataFrame(rows)


def judged(results, name):
    return results.judge(kaabachi.study.claim(f"kaabachi-{name}"))


def row(results, name):
    return judged(results, name).row()


def why_not(results, name, word=NOT_TESTABLE):
    found = row(results, name)
    assert found["verdict"] == word, (name, found["line"])
    return found["reason"]


def words(results):
    return {name: judged(results, name.removeprefix("kaabachi-")).word for name in IDS}


def changed(results, **tables):
    return dataclasses.replace(results, **tables)


def put(results, runs=(), history=(), **where):
    """The same results with other values in some rows of the two tables."""
    tables = {}
    for name, values in (("runs", dict(runs)), ("history", dict(history))):
        table = getattr(results, name)
        mine = pd.Series(True, table.index)
        for column, wanted in where.items() if values else ():
            mine &= table[column].isin(np.atleast_1d(wanted))
        values = {column: table[column].mask(mine, value) for column, value in values.items()}
        tables[name] = table.assign(**values)
    return changed(results, **tables)


def flat(results, accuracy=0.11, **where):
    """The same results with runs that stay at an accuracy from their first epoch to their last."""
    return put(results, {"test_accuracy": accuracy}, {"test_accuracy": accuracy}, **where)


def without(results, rows):
    """The same results without some runs."""
    keys = [table["arm"] + table["entry"] for table in (results.runs, results.history)]
    history = results.history[~keys[1].isin(keys[0][rows])]
    return changed(results, runs=results.runs[~rows], history=history)


def alone(results, run):
    """The same results with nothing but one run."""
    return without(results, pd.Series(results.runs.index != run, results.runs.index))


@functools.cache
def stated_in(profile):
    return world() if profile == "paper" else world(p=parameters(profile))


@pytest.fixture
def stated():
    return stated_in("paper")


# Claims

# Its 512 rises to its last epoch, and by table I larger batches make fewer updates.
UNSETTLED = {"kaabachi-epochs-512", "kaabachi-offset-updates"}
EQUAL = {c.id for c in kaabachi.CLAIMS if c.id in IDS and c.rule.claimed == "equal"}


def test_in_a_world_like_the_source_every_effect_is_the_same_and_its_size_agrees(stated):
    wrong = {n: word for n, word in words(stated).items() if word != SAME}
    assert wrong == dict.fromkeys(UNSETTLED, NOT_TESTABLE)
    sizes = {n: judged(stated, n.removeprefix("kaabachi-")).verdict.size for n in IDS}
    assert set(sizes.values()) == {None, "agrees"}
    assert sizes["kaabachi-epochs-128"] == sizes["kaabachi-diverges"] == "agrees"


def test_in_a_world_where_nothing_matters_only_equality_and_steadiness_are_the_same():
    found = words(world(without_effect))
    same = {name for name, word in found.items() if word == SAME}
    absolute = {"kaabachi-best-82", "kaabachi-epochs-small"}  # numbers of the paper
    steady = {"kaabachi-steady-128", "kaabachi-steady-256"}
    assert same == (EQUAL - absolute - {"kaabachi-tuned-similar"}) | steady
    assert "is at an end" in why_not(world(without_effect), "tuned-similar"), "of equal rates"


def test_a_run_that_still_rises_at_its_end_gives_a_bound(stated):
    """The final accuracy of 512 comes after 200 of 200 epochs: more would have given more."""
    reason = "large batches, B = 512, learning rate 0.001: still rose at the end or learned nothing"
    assert why_not(stated, "epochs-512") == reason
    longer = row(stated, "offset-time")
    assert longer["verdict"] == SAME and "a bound in 6 of 6 seeds" in longer["reason"]
    reason = "6 of 6 seeds still rose at the end or learned nothing"
    assert why_not(stated, "offset-updates") == reason


def test_what_was_not_seen_in_a_few_updates_is_not_absent(stated):
    calm = put(stated, history={"running_loss": 1.0}, arm=[LINEAR, COLD])
    calm = put(calm, {"stopped": "epochs", "updates": 700})
    for name, b, there in (("steady-128", 128, "39,100"), ("jumps-512", 512, "9,800")):
        reason = f"no jump at B = {b} after 700 of the paper's {there} updates"
        assert why_not(calm, name) == reason
    assert "none of 6 runs failed; B = 512 after 700 of" in why_not(calm, "diverges")
    early = put(calm, {"stopped": "diverged"}, batch_size=published.UNSTEADY, seed=10)
    found = judged(early, "diverges").verdict
    assert found.ours.mean == pytest.approx(1 / 6) and found.size == "smaller", "however early"
    assert judged(calm, "jumps-1024").word == OPPOSITE, "a tenth of 4,900 are enough"
    reason = "the loss with the linear rule alone rises by 0 nats, less than a jump"
    assert reason in why_not(calm, "warmup-steadies-1024")


# Claims that cannot be tested


def test_runs_that_learned_nothing_are_no_comparison(stated):
    results = flat(stated)
    for name in ("scaling-128", "warmup-length"):
        assert why_not(results, name) == "highest accuracy 11 %, 20 % needed"
    assert judged(results, "jumps-512").word == SAME
    low = flat(stated, arm=reference(32), batch_size=published.UNSTEADY)
    assert judged(low, "reference-32-accuracy").word == OPPOSITE
    assert "highest accuracy 11 %" in why_not(low, "reference-32-steady"), "it has not moved"


def test_an_accuracy_that_no_large_batch_reaches_is_censored_and_not_dropped(stated):
    late = row(flat(stated, 0.3, arm=EXPONENTIAL), "similar-time")
    assert late["verdict"] == OPPOSITE, "all its epochs take longer than the small batch needed"
    assert late["reason"].endswith("in 6 of 6 seeds: some runs did not reach the accuracy")
    slower = row(stated, "unscaled-slower")
    assert slower["verdict"] == SAME and "a bound" in slower["reason"]


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ((None, 60), (20, 60), SAME),  # never in 60 epochs: later than 20
        ((None, 60), (55, 60), NOT_TESTABLE),  # perhaps after 61, inside the margin
        ((None, 60), (80, 100), NOT_TESTABLE),  # never in 60: perhaps after 80
        ((20, 60), (None, 60), OPPOSITE),
        ((None, 60), (None, 60), NOT_TESTABLE),
    ],
)
def test_a_bound_supports_or_refutes_and_says_nothing_else(stated, a, b, word, monkeypatch):
    """Runs of both sides that got there after some epochs, or never in so many."""
    sides, seeds = {LARGE: a, SMALL: b}, pd.Index(range(6), name="seed")

    def times(results, one, *_):
        there, trained = sides[dict(one.where)["arm"]]
        return pd.DataFrame({1: there or trained}, seeds), pd.DataFrame({1: there is None}, seeds)

    monkeypatch.setattr(claims, "times", times)
    assert judged(stated, "unscaled-slower").word == word


# What is read off a history


def history(accuracy, loss=None):
    table = pd.DataFrame({"epoch": range(1, len(accuracy) + 1), "test_accuracy": accuracy})
    return table if loss is None else table.assign(running_loss=loss)


@pytest.mark.parametrize(
    ("target", "epochs"),
    [
        (0.6, 2.0),
        (0.4, math.sqrt(2)),  # half-way up from epoch 1 to epoch 2, in the logarithm
        (0.65, 2 * 2**0.5),  # epoch 3 was not evaluated
        (0.7, 4.0),
        (0.71, None),
    ],
)
def test_time_to_accuracy_of_a_made_up_history(target, epochs):
    rows = history([0.2, 0.6, math.nan, 0.7, 0.5])
    assert epochs_to(rows, target) == (None if epochs is None else pytest.approx(epochs))
    assert epochs_to(rows.iloc[::-1], target) == epochs_to(rows, target)


@pytest.mark.parametrize(
    ("loss", "rise", "gone"),
    [
        ([2.0, 1.0, 0.5], 0.0, False),
        ([2.0, 1.0, 1.4, 0.5, 0.7], 0.4, False),
        ([2.0, 0.5, 1.0, 1.5, 0.6], 1.0, False),  # from the lowest before, not from the last
        ([2.0, 0.1, 9.0, 0.5], math.log(10), False),
        ([2.0, 1.0, math.nan], math.log(10), True),
        ([9.0, 2.303, 2.302], math.log(10), True),  # blown up at once, and never recovered
        ([2.31, 2.303, 2.302], 0.0, False),  # too slow to have anything to lose
    ],
)
def test_jumps_and_divergence_of_a_made_up_history(loss, rise, gone):
    rows = history([0.1] * len(loss), loss)
    assert largest_rise(rows, 10) == pytest.approx(rise)
    assert lost(rows, 10) == gone


# Tables


ALL = (
    "accuracy equal_footing table_1 table_1_seconds divergence by_rate rules by_length local "
    "local_table"
).split()


def every_view(results):
    """Call all that the notebook calls, and return what it shows."""
    found = [getattr(tables, name)(results) for name in ALL]
    found += [tables.warm_ups(results, size) for size in results.parameters.large_batch_sizes]
    return [table.to_html() for table in found]


@pytest.mark.parametrize("timed", [True, False])
def test_every_table_and_claim_works_where_nothing_but_one_run_is_there(timed):
    results = stated_in("quick")
    results = results if timed else changed(results, timings=pd.DataFrame())
    for arm in results.runs["arm"].unique():
        one = alone(results, results.of(arm).index[-1])
        assert all(every_view(one)), arm
        decided = {n for n, word in words(one).items() if word not in (NOT_RUN, NOT_TESTABLE)}
        assert decided <= {"kaabachi-time-falls", "kaabachi-time-levels"}, arm


# Design


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"large_epochs": [100]}, "'large_epochs' = .100.*one number for each"),
        (
            {"small_batch_sizes": [4, 128]},
            "'small_batch_sizes' = .4, 128.*the first have to be smaller",
        ),
        ({"warmup_epochs": 101}, "'warmup_epochs' = 101.*at most 'scaled_epochs' = 100"),
        ({"local_workers": 3}, "'local_workers' = 3: the largest batch, 2048"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        parse(parameters().model_dump() | changes, protocol.KaabachiParameters)
