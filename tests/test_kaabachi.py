"""Tests of bsglib.papers.kaabachi: design, claims and tables of the study of warm-up."""

import dataclasses
import functools
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch

from bsglib import cli, plots, style
from bsglib.claims import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, UNDECIDED, verdict
from bsglib.data import Split
from bsglib.papers import Results, designed_table, kaabachi, notes
from bsglib.papers.kaabachi import claims, protocol, published, views
from bsglib.papers.kaabachi.protocol import (
    COLD,
    LARGE,
    LENGTHS,
    LINEAR,
    LOCAL,
    RATES,
    SMALL,
    SQRT,
    WARM,
    WARMUPS,
    reference,
)
from bsglib.papers.kaabachi.readings import WITHIN, epochs_to, largest_rise, lost, read_off
from bsglib.params import ROOT, ParameterError, parse
from bsglib.train import batches_of, schedule_of

FILES = (ROOT / "params" / kaabachi.study.name).glob("*.yaml")
PROFILES = sorted({f.stem for f in FILES} - {"confirm"})  # of which test_confirm.py has the tests
each_profile = pytest.mark.parametrize("profile", PROFILES)
IDS = [claim.id for claim in kaabachi.CLAIMS]
EXAMPLES = 49_000  # of CIFAR-10, a fiftieth set aside


def parameters(profile="paper"):
    return cli._parameters(kaabachi.study, profile)


def config_of(profile, arm, **fields):
    """The first run of an arm whose config has some values."""
    return next(
        e.config
        for e in protocol.design(parameters(profile))
        if e.arm == arm and all(getattr(e.config, k) == v for k, v in fields.items())
    )


# A made-up world


@dataclasses.dataclass(frozen=True)
class Told:
    """What a source says about a run."""

    accuracy: float  # highest test accuracy
    epochs: float  # until it is reached
    rise: float = 0.0  # of the training loss, in nats; infinite: it diverges


LINEAR_ACCURACY = {64: 0.805, 128: 0.805, 256: 0.803, 512: 0.802, 1024: 0.77, 2048: 0.76}


def as_stated(arm, c, p):
    """A run of which all that the source says is true."""
    b, share = c.batch_size, c.warmup_epochs / c.epochs
    if arm == SMALL:
        return Told(0.82 - 0.005 * math.log2(b / 4), 35)
    if arm == LARGE:
        stated = {size: row.epochs for size, row in published.TABLE.items()}
        accuracy = 0.75 - 0.03 * math.log2(b / 128)
        return Told(accuracy, (stated | {64: 60, 1024: 280, 2048: 380})[b])
    if arm == LINEAR:
        return Told(LINEAR_ACCURACY[b], 60 if b in published.LARGEST else 30,
                    math.inf if b in published.UNSTEADY else 0)  # fmt: skip
    if arm == COLD:
        return Told(LINEAR_ACCURACY[b], 60, 0.5 if b in published.LARGEST else 0)
    if arm in WARM.values() or arm == LENGTHS:
        return Told(0.80 + 0.1 * (share - 0.05), 30)
    if arm == LOCAL:
        return Told(0.811 + 0.01 * math.log2(c.local_steps), 40)
    return Told({SQRT: 0.79, RATES: 0.812}.get(arm, 0.785), 40)


def without_effect(arm, c, p):
    """A run in a world in which only the data decide."""
    return Told(0.5, 20)


def curve(told, epochs, seed):
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
    p = p or parameters()
    entries, rows, histories = protocol.design(p), [], []
    for entry in entries:
        c = entry.config
        told = rule(entry.arm, c, p)
        generator = np.random.default_rng([c.seed, *c.canonical().encode()])
        noise = 0 if rule is without_effect else 1e-4 * generator.standard_normal()
        told = dataclasses.replace(told, accuracy=told.accuracy * (1 + noise))
        history, n = curve(told, c.epochs, c.seed), c.train_size or EXAMPLES
        updates = math.ceil(n / (c.batch_size * c.local_workers))
        history = history.assign(**entry.columns, updates=updates * history["epoch"])
        last = history.iloc[-1]
        diverged = not math.isfinite(last["running_loss"])
        peak = schedule_of(c, c.batch_size, updates).peak_lr
        row = c.model_dump() | {"network_options": json.dumps(c.network_options)} | entry.columns
        row |= {"part": entry.part, "run_id": entry.key, "classes": 10, "train_size": n, "lr": peak}
        row |= {"stopped": "diverged" if diverged else "epochs", "epochs": last["epoch"]}
        row |= {"updates": last["updates"], "diverged_at": last["updates"] if diverged else None}
        row |= {"test_accuracy": last["test_accuracy"], "running_loss": last["running_loss"]}
        row |= {"train_accuracy": last["test_accuracy"], "validation_accuracy": told.accuracy}
        row |= {"train_loss": last["running_loss"], "test_loss": last["running_loss"]}
        rows.append(row)
        histories.append(history)
    runs, history = pd.DataFrame(rows), pd.concat(histories, ignore_index=True)
    tables = runs, history, pd.DataFrame(), timings(rule, p), designed_table(entries)
    return Results(kaabachi.study, p, *tables, computed=0)


def timings(rule, p):
    stated = {size: row.seconds_per_epoch for size, row in published.TABLE.items()}
    stated |= {1024: 15.8, 2048: 15.8, 64: 17.5}
    sizes = (*p.small_batches, *p.large_batches)
    return pd.DataFrame(
        [
            {"batch_size": b, "sam": False, "repeat": r, "processor": "made up", "threads": 1,
             "seconds": 16.0 if rule is without_effect else stated[b] * (1 + 1e-4 * r)}
            for r in range(p.timing_repeats)
            for b in sizes
        ]
    )  # fmt: skip


def judged(results, name):
    claim = kaabachi.study.claim(f"kaabachi-{name}")
    return verdict(claim, claim.statistic(results))


def words(results):
    return {name: judged(results, name.removeprefix("kaabachi-")).verdict for name in IDS}


def changed(results, **tables):
    return dataclasses.replace(results, **tables)


def without(results, rows):
    """The same results without some runs."""
    keys = [list(table["arm"] + table["entry"]) for table in (results.runs, results.history)]
    gone = {key for key, out in zip(keys[0], rows, strict=True) if out}
    history = results.history[[key not in gone for key in keys[1]]]
    return changed(results, runs=results.runs[~rows], history=history)


@functools.cache
def stated_in(profile):
    return world(p=parameters(profile))


@pytest.fixture
def stated():
    return stated_in("paper")


# Claims


# Its 512 rises to its last epoch, and by table I larger batches make fewer updates.
UNSETTLED = {"kaabachi-epochs-512", "kaabachi-offset-updates"}
NO_EFFECT = {
    *(f"kaabachi-warmup-{b}" for b in published.SEMI_LARGE),
    *(f"kaabachi-similar-{b}" for b in published.LARGE),
    *(f"kaabachi-steady-{b}" for b in (128, 256)),
    "kaabachi-time-levels",
    "kaabachi-similar-time",
    "kaabachi-tuned-similar",
}


def test_a_world_like_the_source_reproduces_its_claims(stated):
    wrong = {n: word for n, word in words(stated).items() if word != REPRODUCED}
    assert wrong == dict.fromkeys(UNSETTLED, NOT_TESTABLE)
    longer = parameters().model_copy(update={"large_epochs": [100, 150, 250, 350, 500]})
    settled = {n: word for n, word in words(world(p=longer)).items() if word != REPRODUCED}
    assert settled == {"kaabachi-offset-updates": NOT_REPRODUCED}


def test_a_world_where_nothing_matters_reproduces_only_claims_of_no_effect():
    found = {name for name, word in words(world(without_effect)).items() if word == REPRODUCED}
    assert found == NO_EFFECT


def test_the_numbers_of_the_made_up_world_are_those_of_the_source(stated):
    assert judged(stated, "best-82").ours.mean == pytest.approx(82, abs=0.1)
    assert judged(stated, "epochs-small").ours.mean == pytest.approx(35, rel=0.03)
    for size in (128, 256):
        ours = judged(stated, f"epochs-{size}").ours.mean
        assert ours == pytest.approx(published.TABLE[size].epochs / 35, rel=0.03)
    assert judged(stated, "offset-time").ours.mean == pytest.approx(3176 / 630.7, rel=0.03)
    assert judged(stated, "time-levels").ours.mean == pytest.approx(16.96 / 15.88, rel=1e-3)
    assert judged(stated, "diverges").ours.n == 9


def test_a_run_that_still_rises_at_its_end_gives_a_bound(stated):
    """The final accuracy of 512 comes after 200 of 200 epochs: more would have given more."""
    reason = "large batches, B = 512, learning rate 0.001: still rose at the end, or never learned"
    assert why_not(stated, "epochs-512") == reason
    longer = judged(stated, "offset-time")
    assert longer.verdict == REPRODUCED and "a bound in 3 of 3 seeds" in longer.reason
    reason = "3 of 3 seeds still rose at the end, or never learned"
    assert why_not(stated, "offset-updates") == reason


def test_what_was_not_seen_in_a_few_updates_is_not_absent(stated):
    steady = stated.history["arm"].isin([LINEAR, COLD])
    loss = stated.history["running_loss"].mask(steady, 1.0)
    calm = changed(
        stated,
        history=stated.history.assign(running_loss=loss),
        runs=stated.runs.assign(stopped="epochs", updates=700),
    )
    reason = "no jump seen at B = 128, in 700 of the source's 39,100 updates"
    assert why_not(calm, "steady-128") == reason
    reason = "no jump seen at B = 512, in 700 of the source's 9,800 updates"
    assert why_not(calm, "jumps-512") == reason
    assert why_not(calm, "diverges").startswith("0 of 9 lost; B = 512, in 700 of")
    gone = stated.runs["batch_size"] == 512
    early = changed(
        calm, runs=calm.runs.assign(stopped=calm.runs["stopped"].mask(gone, "diverged"))
    )
    assert judged(early, "diverges").ours.mean == pytest.approx(1 / 3), "seen, however early"
    assert judged(calm, "jumps-1024").verdict == NOT_REPRODUCED, "a tenth of 4,900 are enough"
    for name in ("warmup-steadies-1024", "reference-4-steady"):
        assert why_not(calm, name) == "the linear rule alone rises by 0 nats, no jump"


def test_a_jump_in_one_seed_was_seen(stated):
    history = stated.history
    linear = (history["arm"] == LINEAR) & (history["batch_size"] == 512)
    loss = history["running_loss"].mask(linear, 1.0)
    once = linear & (history["seed"] == 0) & (history["epoch"] > 50)
    runs = stated.runs.assign(stopped="epochs", updates=700)
    found = judged(
        changed(stated, history=history.assign(running_loss=loss.mask(once, 1.2)), runs=runs),
        "jumps-512",
    )
    assert found.ours.mean == pytest.approx(0.2 / 3) and found.verdict == UNDECIDED


def test_runs_from_another_reference_are_free_of_jumps_only_after_enough_updates(stated):
    assert judged(stated, "reference-4-steady").verdict == REPRODUCED
    few = stated.runs["updates"].mask(stated.runs["arm"] == reference(4), 700)
    reason = "no jump seen at B = 512, in 700 of the source's 9,800 updates"
    assert why_not(changed(stated, runs=stated.runs.assign(updates=few)), "reference-4-steady") == (
        reason
    )


def test_a_warm_up_of_a_few_updates_is_none(stated):
    shorter = stated.runs["warmup_epochs"] / 20
    results = changed(stated, runs=stated.runs.assign(warmup_epochs=shorter))
    assert why_not(results, "warmup-1024").endswith(
        "B = 1024, learning rate 0.001: 8 updates of warm-up, 10 needed"
    )
    assert judged(results, "warmup-128").verdict == REPRODUCED


# Claims that cannot be tested


def why_not(results, name):
    found = judged(results, name)
    assert found.verdict == NOT_TESTABLE, (name, found)
    return found.reason


def test_a_batch_size_that_a_profile_leaves_out_is_named():
    results = stated_in("laptop")
    for size in (256, 2048):
        assert why_not(results, f"scaling-{size}") == f"{LINEAR}, B = {size}: not in this profile"
    assert why_not(results, "best-82") == "4,096 training examples, about 50,000 needed"
    assert why_not(results, "epochs-small").startswith("10 epochs, 50 needed")
    assert judged(results, "scaling-512").verdict == REPRODUCED
    assert "B = 128, 512" in judged(results, "scaling-semi-large").reason


@pytest.mark.parametrize(
    ("arm", "names"),  # that rest on it
    [
        (SMALL, ("best-at-4", "best-82", "epochs-512", "similar-512", "similar-time")),
        (LARGE, ("scaling-512", "unscaled-lower-512", "offset-time", "fastest-at-32")),
        (LINEAR, ("scaling-512", "jumps-512", "diverges")),
        (WARM["exponential"], ("warmup-512", "similar-512", "tuned-beats-warmup")),
        (WARM["constant"], ("constant-warmup",)),
        (
            COLD,
            (
                "warmup-512",
                "warmup-sooner",
                "sqrt-1024",
                "tuned-similar",
                "warmup-length",
                "local-linear",
            ),
        ),
        (SQRT, ("sqrt-2048", "tuned-similar")),
        (reference(4), ("reference-4-steady", "reference-4-accuracy", "tuned-similar")),
        (RATES, ("tuned-beats-warmup",)),
        (LENGTHS, ("warmup-length",)),
        (LOCAL, ("local-linear", "local-warmup", "local-steps")),
    ],
)
def test_missing_runs_are_not_testable(stated, arm, names):
    results = without(stated, (stated.runs["arm"] == arm) & (stated.runs["seed"] == 1))
    for name in names:
        assert re.search(rf"^\d+ of \d+ runs of .*{re.escape(arm)}", why_not(results, name))
    assert judged(results, "time-falls").verdict == REPRODUCED


def test_too_few_updates_are_not_testable(stated):
    large = (stated.runs["arm"] == LINEAR) & (stated.runs["batch_size"] == 256)
    updates = stated.runs["updates"].where(~large, 18)
    results = changed(stated, runs=stated.runs.assign(updates=updates))
    reason = f"{LINEAR}, B = 256, learning rate 0.001: 18 updates, 50 needed"
    assert why_not(results, "steady-256") == reason
    few = stated.runs["updates"].where(stated.runs["stopped"] != "diverged", 18)
    results = changed(stated, runs=stated.runs.assign(updates=few))
    assert judged(results, "jumps-512").verdict == REPRODUCED, "to diverge early is a result"


def test_runs_that_learned_nothing_are_no_comparison(stated):
    runs = stated.runs.assign(test_accuracy=0.11)
    results = changed(stated, runs=runs, history=stated.history.assign(test_accuracy=0.11))
    assert why_not(results, "scaling-128") == "accuracy 11 % at best, 20 % needed"
    assert why_not(results, "warmup-length") == "accuracy 11 % at best, 20 % needed"
    assert judged(results, "jumps-512").verdict == REPRODUCED


def flat(results, arm, sizes, accuracy=0.11):
    """The same results with runs that stay at an accuracy from their first epoch to their last."""
    tables = {}
    for name in ("runs", "history"):
        table = getattr(results, name)
        mine = (table["arm"] == arm) & table["batch_size"].isin(sizes)
        tables[name] = table.assign(test_accuracy=table["test_accuracy"].mask(mine, accuracy))
    return changed(results, **tables)


def test_a_run_that_learned_nothing_is_not_the_first_to_reach_its_accuracy(stated):
    results = flat(stated, LARGE, [256, 512])
    assert why_not(results, "epochs-256").endswith("still rose at the end, or never learned")
    assert judged(results, "fastest-at-32").verdict == REPRODUCED
    longer = judged(results, "offset-time")
    assert longer.verdict == REPRODUCED and "a bound in 3 of 3 seeds" in longer.reason
    shown = views.table_1(results).loc["256"]
    assert shown["epochs to final accuracy"] == "none of 3"


def test_a_lower_rate_that_learned_nothing_refutes_no_conjecture(stated):
    for arm, name in ((SQRT, "sqrt-1024"), (reference(32), "reference-32-accuracy")):
        lower = flat(stated, arm, [1024, 2048])
        assert why_not(lower, name) == "accuracy 11 % at best, 20 % needed"
        assert judged(flat(stated, COLD, [1024, 2048]), name).verdict == REPRODUCED


def test_the_number_of_epochs_of_small_batches_can_fail(stated):
    small = stated.history["arm"] == SMALL
    sooner = stated.history["epoch"].where(~small, stated.history["epoch"] / 4)
    results = changed(stated, history=stated.history.assign(epoch=sooner))
    assert judged(results, "epochs-small").verdict == NOT_REPRODUCED


def test_a_warm_up_that_costs_accuracy_has_no_clear_advantage(stated):
    results = flat(stated, WARM["exponential"], published.SEMI_LARGE, accuracy=0.7)
    for size in published.SEMI_LARGE:
        assert judged(results, f"warmup-{size}").ours.mean < -9
        assert judged(results, f"warmup-{size}").verdict == REPRODUCED


def test_as_fast_means_to_an_accuracy_that_counts_as_similar(stated):
    runs = read_off(stated, SMALL, COLD)
    small = stated.of(SMALL).set_index(["batch_size", "seed"])["test_accuracy"]
    expected = runs["seed"].map(small[32] - 0.02)
    assert claims.similar(stated, runs).tolist() == pytest.approx(expected.tolist())
    below = flat(stated, WARM["exponential"], published.LARGE, accuracy=small[32].mean() - 0.03)
    assert judged(below, "similar-time").verdict == NOT_REPRODUCED, "nine tenths are not enough"


def test_too_few_timings_are_not_testable(stated):
    few = stated.timings[stated.timings["repeat"] < 4]
    for name in ("time-falls", "fastest-at-32", "offset-time", "similar-time"):
        assert why_not(changed(stated, timings=few), name) == "4 timings, 5 needed"
        nothing = changed(stated, timings=pd.DataFrame())
        assert why_not(nothing, name) == "0 timings, 5 needed"


def test_an_accuracy_that_no_large_batch_reaches_is_censored_and_not_dropped(stated):
    arm = stated.history["arm"] == WARM["exponential"]
    low = stated.history["test_accuracy"].where(~arm, 0.3)
    runs = stated.runs["arm"] == WARM["exponential"]
    final = stated.runs["test_accuracy"].where(~runs, 0.3)
    results = changed(
        stated,
        history=stated.history.assign(test_accuracy=low),
        runs=stated.runs.assign(test_accuracy=final),
    )
    late = judged(results, "similar-time")
    assert late.verdict == NOT_REPRODUCED, "all its epochs take longer than the small batch needed"
    assert late.reason.endswith("a bound in 3 of 3 seeds: some runs never got there")
    slower = judged(stated, "unscaled-slower")
    assert slower.verdict == REPRODUCED and "a bound" in slower.reason


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ((None, 60), (20, 60), REPRODUCED),  # never in 60 epochs: later than 20
        ((None, 60), (80, 100), NOT_TESTABLE),  # never in 60: perhaps after 80
        ((20, 60), (None, 60), NOT_REPRODUCED),
        ((80, 100), (None, 60), NOT_TESTABLE),
        ((None, 60), (None, 60), NOT_TESTABLE),
    ],
)
def test_a_bound_supports_or_refutes_and_says_nothing_else(stated, a, b, word, monkeypatch):
    """Runs of both sides that got there after some epochs, or never in so many."""
    sides, seeds = {LARGE: a, SMALL: b}, pd.Index(range(3), name="seed")

    def times(results, one, *_):
        there, trained = sides[dict(one.where)["arm"]]
        return pd.DataFrame({1: there or trained}, seeds), pd.DataFrame({1: there is None}, seeds)

    monkeypatch.setattr(claims, "times", times)
    found = judged(stated, "unscaled-slower")
    assert found.verdict == word
    if word == NOT_TESTABLE:
        assert found.reason == "3 of 3 seeds never got there"


def test_a_run_that_diverges_early_counts_all_the_epochs_it_was_to_make(stated):
    """Not the few it made, which would look fast."""
    linear, runs = claims.LINEAR.at((1024,)), stated.runs
    gone = stated.history["arm"].eq(LINEAR) & stated.history["epoch"].gt(2)
    early = changed(
        stated,
        history=stated.history[~gone].assign(test_accuracy=0.12),
        runs=runs.assign(epochs=runs["epochs"].mask(runs["arm"].eq(LINEAR), 2)),
    )
    mine = read_off(early, LINEAR, batch_size=1024)
    times, is_open = claims.times(early, linear, mine, "target_epochs", None)
    assert times[1024].tolist() == [100] * 3 and is_open.all(axis=None)


def test_warm_up_is_compared_on_the_way_to_what_both_reach(stated):
    """Not to an accuracy of others, which none of the two may reach."""
    arms = COLD, WARM["exponential"]
    runs = read_off(stated, *arms, batch_size=1024)
    expected = runs["seed"].map(0.9 * runs.groupby("seed")["peak"].min())
    assert claims.within_reach(stated, runs).tolist() == pytest.approx(expected.tolist())
    runs, history = (
        table.assign(test_accuracy=table["test_accuracy"].mask(table["arm"] == COLD, 0.11))
        for table in (stated.runs, stated.history)
    )
    lost = changed(stated, runs=runs, history=history)
    runs = read_off(lost, *arms, batch_size=1024)
    assert claims.within_reach(lost, runs).tolist() == [0.2] * 6
    assert judged(lost, "warmup-sooner").verdict == REPRODUCED


@pytest.mark.parametrize("profile", ["quick", "laptop"])
def test_every_claim_has_a_verdict_where_nothing_but_one_run_is_there(profile):
    results = stated_in(profile)
    for arm in results.runs["arm"].unique():
        others = results.runs.index != results.of(arm).index[0]
        one = without(results, pd.Series(others, index=results.runs.index))
        found = {n for n, w in words(one).items() if w != NOT_TESTABLE}
        assert found <= {"kaabachi-time-falls", "kaabachi-time-levels"}, arm


def test_one_seed_is_not_testable_even_where_runs_are_counted():
    one = parameters().model_copy(update={"seeds": [0]})
    found = words(world(p=one))
    timed = {"kaabachi-time-falls", "kaabachi-time-levels"}
    assert {name for name, word in found.items() if word != NOT_TESTABLE} == timed


# What is read off a history


def history(accuracy, loss=None):
    table = pd.DataFrame({"epoch": range(1, len(accuracy) + 1), "test_accuracy": accuracy})
    return table if loss is None else table.assign(running_loss=loss)


@pytest.mark.parametrize(
    ("target", "epochs"),
    [
        (0.2, 1.0),
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


def test_the_first_time_counts_though_the_accuracy_falls_again():
    assert epochs_to(history([0.1, 0.5, 0.1, 0.9]), 0.5) == 2.0


def test_a_run_that_was_never_evaluated_never_gets_there():
    assert epochs_to(history([math.nan, math.nan]), 0.0) is None
    assert epochs_to(history([0.5, 0.6]), math.nan) is None


@pytest.mark.parametrize(
    ("loss", "rise", "gone"),
    [
        ([2.0, 1.0, 0.5], 0.0, False),
        ([2.0, 1.0, 1.4, 0.5, 0.7], 0.4, False),
        ([2.0, 0.5, 1.0, 1.5, 0.6], 1.0, False),  # from the lowest before, not from the last
        ([2.0, 0.1, 9.0, 0.5], math.log(10), False),
        ([2.0, 1.0, math.nan], math.log(10), True),
        ([2.0, 1.0, math.inf], math.log(10), True),
        ([2.0, 1.0, 2.302], math.log(10), True),
        ([9.0, 2.303, 2.302], math.log(10), True),  # blown up at once, and never recovered
        ([2.31, 2.303, 2.302], 0.0, False),  # too slow to have anything to lose
    ],
)
def test_jumps_and_divergence_of_a_made_up_history(loss, rise, gone):
    rows = history([0.1] * len(loss), loss)
    assert largest_rise(rows, 10) == pytest.approx(rise)
    assert lost(rows, 10) == gone


def test_what_is_read_off_keeps_what_a_diverged_run_reached(stated):
    runs = read_off(stated, LINEAR).set_index("batch_size")
    gone = runs.loc[1024]
    assert gone["lost"].all() and (gone["stopped"] == "diverged").all()
    assert gone["peak"].tolist() == pytest.approx([0.77] * 3, rel=1e-3)
    assert gone["final"].tolist() == [0.1] * 3
    assert gone["own_epochs"].isna().all()
    assert gone["target_epochs"].notna().all()
    assert not runs.loc[128, "lost"].any()
    small = read_off(stated, SMALL).set_index(["batch_size", "seed"])
    expected = 0.9 * small.loc[32, "final"]
    assert small.loc[4, "target"].tolist() == pytest.approx(expected.tolist())
    assert claims.updates(stated)[4] == math.ceil(EXAMPLES / 4)
    assert not small["rising"].any()
    assert read_off(stated, LARGE).set_index("batch_size").loc[512, "rising"].all()


def test_the_rate_is_chosen_by_validation_over_seeds_and_never_one_that_diverged(stated):
    runs = read_off(stated, varied=protocol.RATE, batch_size=1024)
    rates = ["1.024", "0.032", "0.256", "0.1", "0.5"]  # the root of B / 1 and B / 32 give one rate
    found = runs.assign(rate=runs["lr"].map("{:.4g}".format))["rate"]
    assert list(dict.fromkeys(found)) == rates
    better = runs.assign(validation_accuracy=found.eq("0.5") * 0.1 + 0.5, test_accuracy=0.0)
    assert set(claims.at_best_rate(better)["lr"]) == {0.5}
    assert len(claims.at_best_rate(better)) == 3
    broken = better["lr"].eq(0.5) & better["seed"].eq(1)
    other = better.assign(stopped=better["stopped"].where(~broken, "diverged"))
    assert 0.5 not in set(claims.at_best_rate(other)["lr"])
    lucky = better.assign(validation_accuracy=0.5 + 0.4 * broken + 0.3 * found.eq("0.256"))
    assert set(claims.at_best_rate(lucky)["rate"]) == {"0.256"}


# Tables


def every_view(results):
    """Call all that the notebook calls, and return what it shows."""
    tables = [
        views.scope(results.parameters),
        views.accuracy(results),
        views.equal_footing(results),
        views.table_1(results),
        views.table_1_seconds(results),
        views.divergence(results),
        *(views.warm_ups(results, size) for size in results.parameters.large_batches),
        views.by_rate(results),
        views.rules(results),
        views.by_length(results),
        views.local(results),
        views.local_table(results),
    ]
    return [table.to_html() for table in tables]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_table_works_where_nothing_but_one_run_is_there(profile, timed):
    results = stated_in(profile)
    if not timed:
        results = changed(results, timings=pd.DataFrame())
    assert all(every_view(results))
    assert notes.timing(results) == "Not timed yet." or timed
    _, axes = style.panels(1, 1, height=2)
    plots.plot_against_batch_size(
        {"": results.timings}, axes[0, 0], column="seconds", label="s", legend=False
    )
    shown = [text.get_text() for text in axes[0, 0].texts]
    assert shown == ([] if timed else ["not computed yet"])
    for arm in results.runs["arm"].unique():
        others = pd.Series(results.runs.index != results.of(arm).index[-1], results.runs.index)
        assert all(every_view(without(results, others))), arm


def test_table_1_stands_beside_the_papers_and_keeps_what_was_censored(stated):
    table = views.table_1(stated)
    assert table.index.tolist() == [str(b) for b in (*published.SMALL, *published.LARGE)]
    assert table["paper: epochs to final accuracy"].tolist()[-3:] == ["200", "-", "-"]
    assert table.loc["4", "epochs to final accuracy"].startswith("34.")
    assert table.loc["1024", "epochs to common target"] == "none of 3"
    assert table.loc["4", "final accuracy (%)"] == "82.0"
    assert set(table["target (%)"]) == {"72.5"}, "nine tenths of what B = 32 ends with"
    arm = stated.history["arm"] == SMALL
    late = arm & (stated.history["batch_size"] == 4) & (stated.history["seed"] == 0)
    low = stated.history["test_accuracy"].where(~late, 0.3)
    shown = views.table_1(changed(stated, history=stated.history.assign(test_accuracy=low)))
    assert shown.loc["4", "epochs to common target"].endswith(", never]")
    times = views.table_1_seconds(stated)
    assert times.loc["32", "paper: s to final accuracy"] == "631"
    assert float(times.loc["32", "s per epoch"]) == pytest.approx(18.02, rel=0.01)


def test_divergence_is_counted_with_its_interval(stated):
    table = views.divergence(stated)
    assert table.loc[LINEAR, "B = 1024"] == "3 of 3 (44–100 %)"
    assert table.loc[LINEAR, "B = 128"] == "0 of 3 (0–56 %)"
    assert table.loc[SMALL, "B = 1024"] == ""


def test_at_equal_updates_a_small_batch_has_few_epochs(stated):
    table = views.equal_footing(stated)
    epochs, updates, n = table.columns
    assert n == "n" and set(table[n]) == {3}
    assert epochs == "at 50 epochs (%)"
    assert updates == "at 9,600 updates (%)"  # 400 epochs of 24 updates
    history = stated.history
    small = history[(history["arm"] == SMALL) & (history["batch_size"] == 32)]
    assert table.loc[(SMALL, 4), updates] == "-", "first evaluated after 12,250 updates"
    assert table.loc[(LINEAR, 2048), updates] == "-", "which made 2,400"
    at = small[small["epoch"].isin([6, 7])].groupby("epoch")["test_accuracy"].mean()
    found = float(table.loc[(SMALL, 32), updates])  # 9,600 of 1,532 per epoch are 6.3 epochs
    assert 100 * at[6] < found < 100 * at[7]
    assert table.index.get_level_values(0).unique().tolist() == [SMALL, LARGE, LINEAR]


def test_a_run_that_diverged_counts_as_chance_at_what_it_did_not_reach(stated):
    gone = stated.runs["arm"].eq(LINEAR) & stated.runs["batch_size"].eq(128)
    gone &= stated.runs["seed"].eq(0)
    entry = stated.runs.loc[gone, "entry"].item()
    late = (stated.history["entry"] == entry) & (stated.history["epoch"] > 5)
    results = changed(
        stated,
        history=stated.history[~late],
        runs=stated.runs.assign(stopped=stated.runs["stopped"].mask(gone, "diverged")),
    )
    before, after = (
        float(views.equal_footing(r).loc[(LINEAR, 128), "at 50 epochs (%)"])
        for r in (stated, results)
    )
    assert after == pytest.approx((2 * before + 10) / 3, abs=0.1)


def test_what_others_set_is_a_dash_where_they_are_missing(stated):
    largest = stated.runs["arm"].eq(LARGE) & stated.runs["batch_size"].eq(2048)
    assert views.equal_footing(without(stated, largest)).columns.tolist() == [
        "at 50 epochs (%)",
        "n",
    ]
    small = stated.runs["arm"].eq(SMALL) & stated.runs["batch_size"].eq(32)
    results = without(stated, small)
    shown = views.table_1(results).loc["128"]
    assert (shown["epochs to common target"], shown["target (%)"]) == ("-", "-")
    assert views.table_1_seconds(results).loc["128", "s to common target"] == "-"


def test_warm_ups_rates_lengths_and_workers_are_those_of_the_runs(stated):
    assert views.warm_ups(stated, 1024)["condition"].unique().tolist() == ["none", *WARMUPS]
    rates = views.by_rate(stated)
    at = rates.loc[rates["batch_size"] == 1024, "lr"].unique()
    assert sorted(at) == [0.032, 0.1, 0.256, 0.5, 1.024]
    assert views.rules(stated).loc[SQRT, "B = 2048"] == "79.0"
    assert "(%), n = 3" in views.rules(stated).index.name
    lengths = views.by_length(stated)
    assert lengths["length"].unique().tolist() == pytest.approx([0, 1, 5, 10, 25])
    names = views.local(stated)["condition"].unique().tolist()
    assert names == ["B = 2048", "B = 2048, warm-up"] + [
        f"16 workers, {steps}" for steps in ("1 step", "4 steps", "16 steps")
    ]


def test_the_scope_says_where_the_paper_is_followed():
    table = views.scope(parameters())
    same = {"small batches", "rate that is not scaled", "scaled rate", "epochs, linear rule"}
    assert {table.loc[name, "why"] for name in same} == {"as the paper"}
    reduced = views.scope(parameters("laptop"))
    assert reduced.loc["rate that is not scaled", "why"] == "fewer updates per epoch"
    assert reduced.loc["scaled rate", "why"] == "as the paper"


# Design


@each_profile
def test_the_schedule_of_every_arm_has_its_knots(profile):
    p = parameters(profile)
    for entry in protocol.design(p):
        c = entry.config
        per_epoch = math.ceil((c.train_size or EXAMPLES) / (c.batch_size * c.local_workers))
        rate, total = schedule_of(c, c.batch_size, per_epoch), c.epochs * per_epoch
        peak = {
            SMALL: p.unscaled_lr,
            LARGE: p.unscaled_lr,
            SQRT: p.lr * math.sqrt(c.batch_size),
            **{reference(b): p.lr * c.batch_size / b for b in p.references},
            RATES: c.base_lr,
        }.get(entry.arm, p.lr * c.batch_size)
        assert rate(total - 1) == pytest.approx(peak, rel=1e-12), entry.arm
        warm = c.warmup_epochs * per_epoch
        if not (knot := round(warm)):
            assert rate(0) == rate(total - 1)
            continue
        assert rate(0) == pytest.approx(p.lr, rel=1e-12) and knot < total / 2
        assert rate(knot) == pytest.approx(peak, rel=1e-12)
        half = {
            "constant": p.lr,
            "linear": (p.lr + peak) / 2,
            "exponential": math.sqrt(p.lr * peak),
        }[c.warmup]
        if knot % 2 == 0:
            assert rate(knot // 2) == pytest.approx(half, rel=1e-12)
        assert rate(knot - 1) < peak or knot == 0


def test_the_papers_warm_up_is_three_and_a_half_epochs_in_updates():
    c = config_of("paper", WARM["linear"], batch_size=2048)
    assert c.warmup_epochs == pytest.approx(3.5) and c.epochs == 70
    rate = schedule_of(c, 2048, 25)  # 50,000 / 2048, rounded up
    assert rate.warmup_updates == round(3.5 * 25) == 88
    assert rate(87) < rate(88) == pytest.approx(2.048)


@pytest.mark.parametrize("batch_size", [4, 2048])
@pytest.mark.parametrize("epoch", [0, 7])
def test_an_epoch_of_the_smallest_and_the_largest_batch_uses_every_sample(batch_size, epoch):
    arm = SMALL if batch_size == 4 else LINEAR
    config = config_of("paper", arm, batch_size=batch_size)
    train = Split(torch.zeros(EXAMPLES, 1), torch.zeros(EXAMPLES, dtype=torch.int64))
    batches = batches_of(config, train, epoch)
    assert len(batches) == math.ceil(EXAMPLES / batch_size)
    assert {len(batch) for batch in batches[:-1]} == {batch_size}
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(EXAMPLES))


@each_profile
def test_runs_that_are_compared_differ_in_what_is_compared_alone(profile):
    p = parameters(profile)
    of = {}
    for e in protocol.design(p):
        of.setdefault((e.arm, e.config.batch_size, e.config.seed), []).append(e.config)
    differ = {
        **{WARM[kind]: {"warmup", "warmup_epochs"} for kind in WARMUPS},
        SQRT: {"scaling", "evaluate"},
        RATES: {"scaling", "evaluate", "base_lr"},
        LENGTHS: {"warmup", "warmup_epochs", "evaluate"},
        **{reference(b): {"reference_batch_size", "evaluate"} for b in p.references},
    }
    for (arm, size, seed), configs in of.items():
        if arm in differ:
            (cold,) = of[COLD, size, seed]
            for c in configs:
                found = {k for k, v in c.model_dump().items() if getattr(cold, k) != v}
                assert found == differ[arm], arm
    for size in p.large_batches:
        (linear,), (cold,) = of[LINEAR, size, p.seeds[0]], of[COLD, size, p.seeds[0]]
        assert linear.model_copy(update={"epochs": cold.epochs}) == cold, "its beginning"


@each_profile
def test_local_workers_take_the_largest_batch_together(profile):
    p = parameters(profile)
    local = [e.config for e in protocol.design(p) if e.arm == LOCAL]
    assert {c.batch_size * c.local_workers for c in local} == {max(p.large_batches)}
    assert {c.local_steps for c in local} == set(p.local_steps)
    assert {c.epochs for c in local} == {p.warmup_epochs}
    for c in local:
        rate = schedule_of(c, c.batch_size, 1)(0)
        assert rate == pytest.approx(p.lr * max(p.large_batches) / p.local_workers)


@each_profile
def test_no_arm_holds_a_run_twice_and_parts_are_one_to_four(profile):
    entries = protocol.design(parameters(profile))
    keys = [(e.arm, e.config.canonical()) for e in entries]
    assert len(set(keys)) == len(keys)
    parts = [e.part for e in entries]
    assert parts == sorted(parts) and set(parts) == {1, 2, 3, 4}


def test_the_paper_profile_is_the_papers_set_up():
    p = parameters()
    assert (tuple(p.small_batches), tuple(p.large_batches)) == (published.SMALL, published.LARGE)
    assert (p.lr, p.unscaled_lr) == (0.001, 0.001)
    assert (p.small_epochs, p.large_epochs) == (50, [100, 150, 200, 300, 400])
    assert (p.scaled_epochs, p.warmup_epochs, p.warmup_share) == (100, 70, 0.05)
    linear = [config_of("paper", LINEAR, batch_size=b) for b in published.LARGE]
    rates = [schedule_of(c, c.batch_size, 1)(0) for c in linear]
    assert rates == pytest.approx([0.128, 0.256, 0.512, 1.024, 2.048])


def test_the_laptop_keeps_the_ratios_of_epochs_the_scaled_rates_and_enough_updates():
    paper, p = parameters(), parameters("laptop")
    epochs = dict(zip(paper.large_batches, paper.large_epochs, strict=True))
    ratios = {epochs[b] / e for b, e in zip(p.large_batches, p.large_epochs, strict=True)}
    ratios |= {paper.scaled_epochs / p.scaled_epochs, paper.small_epochs / p.small_epochs}
    assert ratios == {5}
    assert p.lr == paper.lr
    warm = [q.warmup_share * q.warmup_epochs for q in (paper, p)]
    assert warm == pytest.approx([3.5, 3.5]), "epochs of warm-up"
    assert warm[1] * p.train_size / max(p.large_batches) >= claims.MIN_WARMUP_UPDATES
    for e in protocol.design(p):
        c = e.config
        updates = c.epochs * math.ceil(p.train_size / (c.batch_size * c.local_workers))
        assert updates >= claims.MIN_UPDATES, e.arm
    moved = p.unscaled_lr * p.train_size / (paper.unscaled_lr * 50_000)  # per epoch
    assert moved == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"large_epochs": [100]}, "'large_epochs' = .100.*one number for each"),
        ({"small_batches": [4, 128]}, "'small_batches' = .4, 128.*the first have to be smaller"),
        ({"warmup_epochs": 101}, "'warmup_epochs' = 101.*at most 'scaled_epochs' = 100"),
        ({"local_workers": 3}, "'local_workers' = 3: the largest batch, 2048"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        parse(parameters().model_dump() | changes, protocol.KaabachiParameters)


def test_the_published_table_is_whole():
    for row in published.TABLE.values():
        assert row.seconds == pytest.approx(row.epochs * row.seconds_per_epoch, rel=1e-3)
    assert set(published.SMALL) < set(published.TABLE)
    assert set(published.SEMI_LARGE) < set(published.TABLE)


# Divergence is a result


@pytest.fixture(scope="module")
def diverging(tmp_path_factory):
    """Parameters of a study of seconds whose scaled runs diverge."""
    values = parameters("quick").model_dump() | {
        "profile": "tiny",
        "store": str(tmp_path_factory.mktemp("runs")),
        "train_size": 64,
        "network_options": {"width": 0.03},
        "small_batches": [8, 32],
        "large_batches": [33, 64],
        "large_epochs": [3, 3],
        "lr": 1e200,
        "scaled_epochs": 3,
        "warmup_epochs": 2,
        "small_epochs": 3,
        "local_workers": 2,
        "timing_repeats": 0,
        "workers": 0,
    }
    return parse(values, protocol.KaabachiParameters)


@pytest.mark.slow
def test_diverged_runs_are_stored_counted_and_not_trained_again(diverging):
    results = kaabachi.study.run(diverging)
    assert results.computed > 0 and len(results.runs) == results.designed
    gone = results.runs.set_index("arm")["stopped"].eq("diverged")
    assert gone[LINEAR].all() and not gone[SMALL].any()
    again = kaabachi.study.run(diverging)
    assert again.computed == 0
    pd.testing.assert_frame_equal(again.runs, results.runs)
    assert read_off(again, LINEAR)["lost"].all()
    shown = again.summary().loc[LINEAR]
    assert shown["diverged"] == shown["runs"] == 2 * len(diverging.seeds)
