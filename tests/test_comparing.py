"""Tests of what the claims of all studies share: bsglib.studies.comparing and .claims_file."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bsglib.claims import Measured
from bsglib.runs.outcomes import Outcomes
from bsglib.studies import claims_file
from bsglib.studies.comparing import (
    Comparison,
    Control,
    Of,
    Parts,
    Timed,
    Trained,
    cut_off,
    diverged,
    last_minus_first,
    last_over_first,
    learned,
    points,
    ratio,
    side,
)
from bsglib.studies.study import Results
from bsglib.verdicts import Rule, Shares

SIZES, SEEDS = (32, 64, 128), (0, 1, 2)
PLAIN, SAM = side(sam=False), side(sam=True)


@pytest.fixture
def results():
    """Runs of two arms: sharpness 2 B with SAM and 4 B without, more or less by seed."""
    rows = [
        {"arm": f"sam {sam}", "sam": sam, "batch_size": b, "seed": seed, "value": (4 - 2 * sam) * b}
        for sam in (False, True)
        for b in SIZES
        for seed in SEEDS
    ]
    runs = pd.DataFrame(rows).assign(
        stopped="patience", train_accuracy=0.95, target_loss=np.nan, running_loss=0.1,
        base_lr=0.1, updates=100, classes=10, dataset="mnist",
    )  # fmt: skip
    runs["entry"] = [str(i) for i in range(len(runs))]
    runs = runs.assign(run_id=runs["entry"], epochs=10)
    runs["value"] *= 1 + runs["seed"]
    times = [
        {"repeat": r, "sam": sam, "batch_size": b, "seconds": (1 + sam) * 64 / b}
        for r in range(5)
        for sam in (False, True)
        for b in SIZES
    ]
    none = pd.DataFrame()
    return Results(
        study=SimpleNamespace(shares=lambda results, runs: [Shares()] * len(runs)),
        parameters=SimpleNamespace(batch_sizes=list(SIZES)),
        runs=runs,
        history=none,
        points=none,
        timings=pd.DataFrame(times),
        design=runs,
        computed=0,
    )


def at(results, **where):
    chosen = np.ones(len(results.runs), bool)
    for name, value in where.items():
        chosen &= (results.runs[name] == value).to_numpy()
    return chosen


COMPARED = Comparison(ratio, (PLAIN, SAM), "value")


def test_sides_are_compared_seed_by_seed(results):
    assert COMPARED(results).values == pytest.approx((2, 2, 2))
    rises = Comparison(last_over_first, (SAM.at((32, 128)),), "value")(results)
    assert rises.values == pytest.approx((4, 4, 4))
    lost = Comparison(points, (SAM.at((64,)), SAM.at((32,))), "value")(results)
    assert lost.values == pytest.approx((6400, 12800, 19200))
    largest = SAM.at(lambda p: (max(p.batch_sizes),))
    assert largest.of(results)["batch_size"].unique() == [128]
    assert Comparison(last_minus_first, (SAM,), "value")(results).values == (192, 384, 576)


def test_only_seeds_that_all_batch_sizes_of_all_sides_have_count(results):
    more = results.runs[at(results, sam=False, seed=0)].assign(seed=9, value=1e6)
    more["entry"] += " with another seed"
    runs = pd.concat([results.runs, more])
    assert COMPARED(replace(results, runs=runs, design=runs)).values == pytest.approx((2, 2, 2))


def test_seeds_with_all_runs_are_judged_without_the_others(results):
    everything = results.runs
    runs = everything[~at(results, sam=True, batch_size=64, seed=2)]
    found = COMPARED(replace(results, runs=runs))
    assert (found.values, found.seeds) == (pytest.approx((2, 2)), (0, 1))
    none = replace(results, runs=runs[runs["batch_size"] != 32])
    assert COMPARED(none).not_run == "11 of 18 runs computed: sam False, sam True"
    none = replace(results, runs=everything.iloc[:0])
    assert COMPARED(none).not_run == "0 of 18 runs computed: sam False, sam True"


def test_runs_that_the_profile_does_not_have_are_named(results):
    other = replace(results, design=results.design[~at(results, sam=True)])
    assert COMPARED(other).not_run == "sam: not in this profile"
    wider = Comparison(ratio, (PLAIN.at((32, 512)), PLAIN.at((32, 512))), "value")
    assert wider(results).not_run == "no sam, B = 512: not in this profile"


def test_runs_left_out_without_their_data_name_the_command(results):
    sam = results.design["sam"]
    other = replace(results, left_out=results.design[sam], design=results.design[~sam])
    why = "sam: mnist is not available; `bsg data mnist` fetches it"
    assert COMPARED(other).not_run == why


CUT_OFF = {"stopped": "epochs", "train_accuracy": 0.42}


@pytest.mark.parametrize(
    "changes, check, why",
    [
        ({"stopped": "diverged"}, diverged, "sam True, B = 64, learning rate 0.1: diverged"),
        ({"stopped": "epochs"}, cut_off, "still improving at the last epoch"),
        (CUT_OFF, Trained(), "off after 100 updates: training accuracy 42 %, 90 % needed"),
        (CUT_OFF | {"train_accuracy": np.nan}, Trained(), "accuracy nan %, 90 % needed"),
        ({"stopped": "diverged"}, Trained(), "diverged"),
        ({"train_accuracy": 0.19}, learned, "accuracy 19 %, as by chance"),
        ({"train_accuracy": np.nan}, learned, "accuracy nan %, as by chance"),
        ({"stopped": "diverged"}, learned, "diverged"),
    ],
)
def test_runs_that_are_not_fit_say_why(results, changes, check, why):
    gated = replace(COMPARED, gates=(Of(check),))
    assert gated(results).values
    run = at(results, sam=True, batch_size=64, seed=1)
    results = replace(
        results,
        runs=results.runs.assign(
            **{name: results.runs[name].mask(run, value) for name, value in changes.items()}
        ),
    )
    assert why in gated(results).not_testable
    for fewer in (Of(check, first=1), Of(check, first=0), Of(check, sizes=(32, 128))):
        assert replace(COMPARED, gates=(fewer,))(results).values, "the run is not asked"


@pytest.mark.parametrize(
    "end", [{"stopped": "patience"}, {"stopped": "target_loss"}, {"train_accuracy": 0.9}]
)
def test_a_minimum_is_where_the_sources_rule_or_a_high_accuracy_ended_training(results, end):
    runs = results.runs.assign(**CUT_OFF)
    assert Trained()(runs)
    assert Trained()(runs.assign(**end)) is None


def test_batch_sizes_that_are_not_fit_are_left_out_and_named(results):
    weak = at(results, sam=True, batch_size=64, seed=1)
    accuracy = results.runs["train_accuracy"].mask(weak, 0.5)
    results = replace(results, runs=results.runs.assign(stopped="epochs", train_accuracy=accuracy))
    each = replace(COMPARED, leave_out=Of(Trained()))
    found = each(results)
    assert found.values == pytest.approx((2, 2, 2))
    assert found.note.startswith("only B = 32, 128 (sam True, B = 64")
    results = replace(results, runs=results.runs.assign(train_accuracy=0.5))
    assert "training accuracy 50 %" in each(results).not_testable


def test_times_need_enough_repeats(results):
    both = Timed(lambda a, b: (b / a).mean(axis=1), ({"sam": False}, {"sam": True}))
    assert both(results).values == pytest.approx((2,) * 5)
    plain = Timed(last_over_first, ({"sam": False},))
    assert plain(results).values == pytest.approx((0.25,) * 5)
    assert plain(results).timing and not plain(results).shares
    assert "B = 4: not in this profile" in replace(both, sizes=(4,))(results).not_run
    few = replace(results, timings=results.timings[results.timings["repeat"] < 4])
    assert both(few).not_run == "4 timings, 5 needed"
    assert both(replace(results, timings=pd.DataFrame())).not_run == "0 timings, 5 needed"


def test_other_measures_and_shares_come_with_the_values(results):
    runs = results.runs.assign(other=1 / results.runs["value"], part=np.nan)
    several = replace(
        COMPARED, column=("part", "value"), others=(("o", "other"), ("p", "part"), ("q", "none"))
    )
    found = several(replace(results, runs=runs))
    assert found.values == pytest.approx((2, 2, 2)), "by the first column that all runs have"
    assert set(found.others) == {"o"} and found.others["o"].values == pytest.approx((0.5,) * 3)
    assert len(found.shares) == len(runs)


def test_differences_of_test_accuracy_come_with_those_at_each_example(results):
    runs = results.runs[results.runs["batch_size"] == 32].assign(test_accuracy=0.5)
    right = {False: [True, True, False, True], True: [False, True, False, False]}
    kept = [
        {"entry": run.entry, "arm": run.arm, "seed": run.seed}
        | Outcomes(np.array(right[run.sam]), np.full(4, 0.1)).packed()
        for run in runs.itertuples()
    ]
    results = replace(results, runs=runs, design=runs, outcomes=pd.DataFrame(kept))
    lost = Comparison(points, (PLAIN, SAM), "test_accuracy")
    assert lost(results).examples == (100, 0, 0, 100)
    few = replace(results, outcomes=results.outcomes.iloc[1:])
    assert lost(few).examples == ()
    gone = runs.assign(classes=2, stopped=["diverged", *runs["stopped"][1:]])
    by_chance = lost(replace(few, runs=gone)).examples  # one of three seeds of the first side
    assert by_chance == pytest.approx((250 / 3, -50 / 3, 50 / 3, 250 / 3))
    assert replace(lost, by=ratio)(results).examples == ()
    twice = replace(results, runs=pd.concat([runs, runs.assign(arm="again", again=True)]))
    twice = replace(twice, design=twice.runs)
    same = replace(lost, sides=(side(sam=False, again=True), side(sam=True, again=True)))
    assert same(twice).examples == (100, 0, 0, 100), "another entry of the same state"
    gap = replace(lost, column="accuracy_gap", derive=with_gap)(results)
    assert gap.values == pytest.approx((0, 0, 0)) and gap.examples == (100, 0, 0, 100)


def with_gap(results, runs):
    return runs.assign(accuracy_gap=runs["train_accuracy"] - runs["test_accuracy"])


def test_parts_are_judged_one_by_one(results):
    both = Parts((("one", COMPARED), ("two", replace(COMPARED, gates=(Of(cut_off),)))))
    found = both(replace(results, runs=results.runs.assign(stopped="epochs")))
    assert found.parts["one"].values and "improving" in found.parts["two"].not_testable
    assert both.in_profile(results)

    def in_parts(results):
        return Measured(parts={"one": Measured((1.0,))})

    found = replace(COMPARED, by=in_parts, column=None)(results)
    assert found.parts["one"].shares == found.shares != ()


def test_a_positive_control_that_fails_leaves_claims_of_its_kind_open(results):
    works = Control("SAM halves it", COMPARED, Rule("above", 1.25, ratios=True))
    fails = replace(works, rule=Rule("below", 1.25, ratios=True))
    claimed = replace(COMPARED, sides=(PLAIN,), by=last_over_first)
    scattered = results.runs["value"] * (1 + 0.1 * results.runs["seed"] * results.runs["sam"])
    results = replace(results, runs=results.runs.assign(value=scattered))
    assert replace(claimed, gates=(works,))(results).values
    why = replace(claimed, gates=(fails,))(results).not_testable
    assert why.startswith("positive control, SAM halves it: opposite")
    elsewhere = replace(results, design=results.design[~at(results, sam=True)])
    assert replace(claimed, gates=(fails,))(elsewhere).values, "there is none in the profile"
    missing = replace(results, runs=results.runs[~at(results, sam=True)])
    why = "positive control, SAM halves it: 9 of 18 runs computed"
    assert replace(claimed, gates=(works,))(missing).not_run.startswith(why)


CLAIMS = """
- each: {size: [32, 64]}
  id: at-{size}
  figure: figure-1
  locator: section 1
  statement: "It grows by {grown} at B = {size}."
  quantity: ratio
  primary: [64]
  value: "{grown}"
  rule: {above: 1, margin: {32: sharpness, 64: time}, stated: "{grown}", spread: [2, 9]}
- id: alone
  figure: figure-2
  locator: ours
  statement: It grows.
  quantity: difference
  kind: ours
  primary: true
  rule: {equal: 0, margin: accuracy}
"""
STATISTICS = dict.fromkeys(("at-32", "at-64", "alone"), COMPARED)


def test_claims_are_read_with_their_templates_filled_in(tmp_path):
    file = tmp_path / "claims.yaml"
    file.write_text(CLAIMS)
    first, second, alone = claims_file.read(file, STATISTICS, lambda size=0: {"grown": size / 8})
    assert first.statement == "It grows by 4.0 at B = 32." and second.value == "8.0"
    assert (first.primary, second.primary) == (False, True)
    assert second.rule == Rule("above", 1.1, ratios=True, null=1, stated=8, spread=(2, 9))
    assert (first.margin.name, second.margin.name) == ("sharpness", "time")
    assert alone.kind == "ours" and alone.primary and alone.rule == Rule("equal", 1, null=0)
    for wrong in ({"at-32": COMPARED, "at-64": COMPARED}, STATISTICS | {"more": COMPARED}):
        with pytest.raises(ValueError, match="claims and statistics differ in (alone|more)"):
            claims_file.read(file, wrong, lambda size=0: {"grown": size / 8})


@pytest.mark.parametrize(
    "old, new",
    [
        ("margin: accuracy", "margin: precision"),
        ("equal: 0, ", ""),
        ("equal: 0", "equal: 0, below: 0"),
        ("equal: 0", "above: 0, stated: -1"),
    ],
)
def test_a_rule_that_is_none_is_refused_with_its_claim(tmp_path, old, new):
    file = tmp_path / "claims.yaml"
    file.write_text(CLAIMS.replace(old, new))
    with pytest.raises(ValueError, match="claims.yaml: claim alone: "):
        claims_file.read(file, STATISTICS, lambda size=0: {"grown": size / 8})
