"""Tests of what the claims of all studies share: bsglib.studies.comparing and .stated."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bsglib.claims import Measured
from bsglib.studies import stated
from bsglib.studies.comparing import (
    Comparison,
    Of,
    Timed,
    Trained,
    cut_off,
    diverged,
    last_minus_first,
    last_over_first,
    points,
    ratio,
    side,
)

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
        base_lr=0.1, updates=100, dataset="mnist",
    )  # fmt: skip
    runs["entry"] = [str(i) for i in range(len(runs))]
    runs["value"] *= 1 + runs["seed"]
    times = [
        {"repeat": r, "sam": sam, "batch_size": b, "seconds": (1 + sam) * 64 / b}
        for r in range(5)
        for sam in (False, True)
        for b in SIZES
    ]
    p = SimpleNamespace(batch_sizes=list(SIZES))
    tables = {"timings": pd.DataFrame(times), "left_out": pd.DataFrame()}
    return SimpleNamespace(runs=runs, design=runs, parameters=p, **tables)


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
    results.runs = results.design = pd.concat([results.runs, more])
    assert COMPARED(results).values == pytest.approx((2, 2, 2))


def test_missing_runs_are_counted_and_named(results):
    everything = results.runs
    results.runs = everything[~at(results, sam=True, batch_size=64, seed=2)]
    assert COMPARED(results).not_testable == "17 of 18 runs computed: sam False, sam True"
    results.runs = everything.iloc[:0]
    assert COMPARED(results).not_testable == "0 of 18 runs computed: sam False, sam True"
    results.design = everything[~at(SimpleNamespace(runs=everything), sam=True)]
    assert COMPARED(results).not_testable == "sam: not in this profile"
    wider = Comparison(ratio, (PLAIN.at((32, 512)), PLAIN.at((32, 512))), "value")
    assert wider(results).not_testable == "no sam, B = 512: not in this profile"


def test_runs_left_out_without_their_data_name_the_command(results):
    sam = results.design["sam"]
    results.left_out, results.design = results.design[sam], results.design[~sam]
    why = "sam: mnist is not available; `bsg data mnist` fetches it"
    assert COMPARED(results).not_testable == why


@pytest.mark.parametrize(
    "changes, check, why",
    [
        ({"stopped": "diverged"}, diverged, "sam True, B = 64, learning rate 0.1: diverged"),
        ({"stopped": "epochs"}, cut_off, "still improving at the last epoch"),
        (
            {"train_accuracy": 0.42},
            Trained(0.9),
            "100 updates: training accuracy 42 %, 90 % n",
        ),
        ({"train_accuracy": np.nan}, Trained(0.9), "training accuracy nan %, 90 % needed"),
        ({"stopped": "diverged"}, Trained(0.9), "diverged"),
        ({"target_loss": 0.05}, Trained(0.9), "training loss 0.1, target 0.05"),
    ],
)
def test_runs_that_are_not_fit_say_why(results, changes, check, why):
    gated = replace(COMPARED, gates=(Of(check),))
    assert gated(results).values
    run = at(results, sam=True, batch_size=64, seed=1)
    results.runs = results.runs.assign(
        **{name: results.runs[name].mask(run, value) for name, value in changes.items()}
    )
    assert why in gated(results).not_testable
    for fewer in (Of(check, first=1), Of(check, first=0), Of(check, sizes=(32, 128))):
        assert replace(COMPARED, gates=(fewer,))(results).values, "the run is not asked"


def test_batch_sizes_that_are_not_fit_are_left_out_and_named(results):
    weak = at(results, sam=True, batch_size=64, seed=1)
    results.runs = results.runs.assign(
        train_accuracy=results.runs["train_accuracy"].mask(weak, 0.5)
    )
    each = replace(COMPARED, leave_out=Of(Trained(0.9)))
    found = each(results)
    assert found.values == pytest.approx((2, 2, 2))
    assert found.note.startswith("only B = 32, 128 (sam True, B = 64")
    results.runs = results.runs.assign(train_accuracy=0.5)
    assert "training accuracy 50 %" in each(results).not_testable


def test_a_statistic_of_its_own_reads_the_results_after_the_gates(results):
    own = Comparison(lambda r: Measured((len(r.runs),)), (PLAIN, SAM), gates=(Of(diverged),))
    assert own(results).values == (18,)
    results.runs = results.runs.assign(stopped="diverged")
    assert own(results).not_testable


def test_times_need_enough_repeats(results):
    both = Timed(lambda a, b: (b / a).mean(axis=1), ({"sam": False}, {"sam": True}))
    assert both(results).values == pytest.approx((2,) * 5)
    plain = Timed(last_over_first, ({"sam": False},))
    assert plain(results).values == pytest.approx((0.25,) * 5)
    assert "B = 4: not in this profile" in replace(both, sizes=(4,))(results).not_testable
    results.timings = results.timings[results.timings["repeat"] < 4]
    assert both(results).not_testable == "4 timings, 5 needed"
    results.timings = pd.DataFrame()
    assert both(results).not_testable == "0 timings, 5 needed"


CLAIMS = """
- each: {size: [32, 64]}
  id: at-{size}
  figure: figure-1
  locator: section 1
  statement: "It grows by {grown} at B = {size}."
  quantity: ratio
  primary: [64]
  value: "{grown}"
  rule: {about: "{grown}", factor: 1.5}
- id: alone
  figure: figure-2
  locator: ours
  statement: It grows.
  quantity: difference
  kind: ours
  primary: true
  rule: {between: [-1, 1], ratios: true}
"""


def test_claims_are_read_with_their_templates_filled_in(tmp_path):
    file = tmp_path / "claims.yaml"
    file.write_text(CLAIMS)
    statistics = dict.fromkeys(("at-32", "at-64", "alone"), COMPARED)
    first, second, alone = stated.read(file, statistics, lambda size=0: {"grown": size / 8})
    assert first.statement == "It grows by 4.0 at B = 32." and second.value == "8.0"
    assert (first.primary, second.primary) == (False, True)
    assert second.rule.target == pytest.approx((8 / 1.5, 12)) and second.rule.ratios
    assert alone.kind == "ours" and alone.primary and alone.rule.target == (-1, 1)
    for wrong in ({"at-32": COMPARED, "at-64": COMPARED}, statistics | {"more": COMPARED}):
        with pytest.raises(ValueError, match="claims and statistics differ in (alone|more)"):
            stated.read(file, wrong, lambda size=0: {"grown": size / 8})
