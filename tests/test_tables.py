"""Tests of runs that are chosen, of rates that other seeds choose, and of tables of rows."""

import dataclasses
from types import SimpleNamespace

import pandas as pd
import pytest

from bsglib.studies.comparing import Comparison, Of, diverged, ratio, side
from bsglib.studies.study import Results
from bsglib.studies.tables import regression, tuned_by_others


def run(seed, batch, lr=0.1, value=1.0, **other):
    """A run as a row of a study's table."""
    entry = f"{seed} {batch} {lr} {other}"
    row = {"entry": entry, "arm": batch, "batch": batch, "batch_size": {"SB": 8, "LB": 64}[batch]}
    row |= {"seed": seed, "base_lr": lr, "stopped": "epochs", "value": value, "dataset": "digits"}
    return row | {"validation_accuracy": 0.5, "steps": 0} | other


def results(rows, design=None, left_out=()):
    """Results that hold some runs."""
    runs, nothing = pd.DataFrame(rows), pd.DataFrame()
    design = runs if design is None else pd.DataFrame(design)
    tables = (runs, nothing, nothing, nothing, design, 0)
    return Results(
        SimpleNamespace(shares=lambda *_: ()), None, *tables, left_out=pd.DataFrame(list(left_out))
    )


SMALL, LARGE = side(batch="SB"), side(batch="LB")
RATIO = Comparison(ratio, (LARGE, SMALL), "value", gates=(Of(diverged),))
PAIRS = [run(seed, batch, value=v) for batch, v in (("SB", 2.0), ("LB", 6.0)) for seed in range(3)]


def test_a_side_that_chooses_is_compared_and_judged_by_the_chosen_runs_alone():
    chosen = dataclasses.replace(LARGE, choose=lambda runs: runs[runs["base_lr"] == 0.1])
    others = [run(s, "LB", lr=0.2, value=1e9, stopped="diverged") for s in range(3)]
    found = results(PAIRS + others)
    assert "diverged" in RATIO(found).not_testable
    comparison = dataclasses.replace(RATIO, sides=(chosen, SMALL))
    assert comparison(found).values == pytest.approx((3.0, 3.0, 3.0))
    partly = results(PAIRS + others[:2], design=PAIRS + others)
    assert comparison(partly).seeds == (0, 1), "a seed needs what its side chooses from"


# The best rate by the other seeds

LRS = (0.001, 0.003, 0.01)


def tried(accuracy, **columns):
    """Runs at three rates, two batch sizes and three seeds; accuracy(seed, batch, rate)."""
    rows = [
        run(seed, batch, lr, validation_accuracy=accuracy(seed, batch, lr), **columns)
        for batch in ("SB", "LB")
        for lr in LRS
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def rates(runs, *by):
    """The rates that were chosen, by seed or batch."""
    chosen = tuned_by_others(runs, "validation_accuracy")
    assert len(chosen) == 2 * 3
    return chosen.groupby(list(by))["base_lr"].agg(set).to_dict()


def test_a_rate_is_chosen_for_each_batch_size_by_the_column():
    best = {"SB": 0.003, "LB": 0.001}
    found = rates(tried(lambda seed, batch, lr: -abs(lr - best[batch])), "batch")
    assert found == {batch: {lr} for batch, lr in best.items()}


def test_a_rate_is_chosen_by_the_mean_over_the_other_seeds():
    lucky = tried(lambda seed, batch, lr: 0.3 * (lr == 0.001) + 0.4 * (seed == 0 and lr == 0.01))
    assert set.union(*rates(lucky, "seed").values()) == {0.001}
    own = {0: 0.001, 1: 0.003, 2: 0.003}
    found = rates(tried(lambda seed, batch, lr: float(own[seed] == lr)), "seed")
    assert found[0] == {0.003}, "though its own best is another"


def test_a_rate_at_which_a_run_diverged_is_never_the_best():
    runs = tried(lambda seed, batch, lr: lr)
    broken = (runs["base_lr"] == 0.01) & (runs["seed"] == 0)
    runs = runs.assign(stopped=runs["stopped"].where(~broken, "diverged"))
    assert set.union(*rates(runs, "seed").values()) == {0.003}
    gone = runs.assign(stopped="diverged")
    assert len(tuned_by_others(gone, "validation_accuracy")) == len(gone)


def test_exponents_of_the_regression_are_those_that_the_runs_follow():
    some = [(8, 0.1, 1.0), (8, 0.2, 0.5), (16, 0.1, 0.3), (16, 0.4, 0.2), (64, 0.2, 0.1)]
    runs = pd.DataFrame(
        {"seed": s, "batch_size": b, "lr": lr, "train_loss": loss, "stopped": "epochs"}
        | {"keskar_sharpness": 3 * b**0.5 * lr**2 / loss}
        for s in (0, 1)
        for b, lr, loss in some
    )
    head = ("log B", "log rate", "log training loss")
    exact = ["0.500 [0.500, 0.500]", "2.00 [2.00, 2.00]", "-1.00 [-1.00, -1.00]"]
    assert regression(runs).loc["all runs"].tolist() == [*exact, "2 seeds"]
    few = runs.drop(index=[0, 9])  # a seed alone has as many runs as coefficients
    assert regression(few).loc["all runs"].tolist()[1:] == [*exact[1:], "8 runs"]
    one_rate = regression(runs[runs["lr"] == 0.1]).loc["all runs"]
    assert one_rate[list(head)].tolist() == ["-"] * 3, "loss and batch size vary together"
    gone = runs.assign(stopped="diverged")
    assert regression(gone).loc["all runs", "n"] == "0 runs"
