"""Tests of bsglib.claims, and of the claims themselves."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from bsglib import cli
from bsglib.claims import (
    DIRECTION_ONLY,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    REPRODUCED,
    UNDECIDED,
    VERDICTS,
    Claim,
    Measured,
    about,
    above,
    below,
    between,
    css_class,
    interval_text,
    verdict,
    verdict_table,
)
from bsglib.papers import surlemont
from bsglib.stats import Interval, interval


def claim(rule, name="a-claim"):
    return Claim(
        id=name,
        figure="figure-1",
        locator="section 1",
        statement="It grows.",
        quantity="ratio",
        value="2",
        rule=rule,
        statistic=lambda: None,
    )


def values(low, high, *, ratios=False):
    """Three values whose 95 per cent interval is [low, high]."""
    low, high = (math.log(low), math.log(high)) if ratios else (low, high)
    middle, half = (low + high) / 2, (high - low) / 2
    spread = half * math.sqrt(3) / t.ppf(0.975, 2)  # standard deviation of (-s, 0, s) is s
    points = [middle - spread, middle, middle + spread]
    return Measured(tuple(map(math.exp, points)) if ratios else tuple(points))


def judge(rule, low, high):
    return verdict(claim(rule), values(low, high, ratios=rule.ratios)).verdict


def test_there_are_five_words():
    assert VERDICTS == (
        "reproduced",
        "direction only",
        "not reproduced",
        "undecided",
        "not testable at this scale",
    )


def test_the_helper_makes_the_interval_it_says():
    for ratios in (False, True):
        found = interval(values(0.5, 3, ratios=ratios).values, ratios=ratios)
        assert (found.low, found.high) == pytest.approx((0.5, 3), rel=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (1.35, 2.95, REPRODUCED),  # within a factor of 1.5 of 2
        (1.32, 2.95, UNDECIDED),
        (1.35, 3.05, UNDECIDED),
        (1.05, 1.2, DIRECTION_ONLY),
        (30, 50, DIRECTION_ONLY),
        (0.95, 1.2, UNDECIDED),
        (0.95, 40, UNDECIDED),
        (0.5, 0.95, NOT_REPRODUCED),
    ],
)
def test_a_ratio_above_one_is_judged_by_its_size_and_its_side(low, high, word):
    assert judge(about(2, factor=1.5), low, high) == word


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.35, 0.7, REPRODUCED),
        (0.2, 0.3, DIRECTION_ONLY),
        (0.8, 1.1, UNDECIDED),
        (1.05, 2, NOT_REPRODUCED),
    ],
)
def test_a_ratio_below_one_is_judged_by_its_size_and_its_side(low, high, word):
    assert judge(about(0.5, factor=1.5), low, high) == word


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.7, 1.4, REPRODUCED),
        (0.5, 0.9, UNDECIDED),
        (0.1, 0.6, NOT_REPRODUCED),
        (2, 3, NOT_REPRODUCED),
    ],
)
def test_a_ratio_of_one_has_no_direction(low, high, word):
    assert judge(about(1, factor=1.5), low, high) == word


@pytest.mark.parametrize("ratios", [False, True])
@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(2.1, 3, REPRODUCED), (1.9, 3, UNDECIDED), (1, 2.1, UNDECIDED), (1, 1.9, NOT_REPRODUCED)],
)
def test_above_and_its_mirror_below(low, high, word, ratios):
    assert judge(above(2, ratios=ratios), low, high) == word
    mirrored = {REPRODUCED: NOT_REPRODUCED, NOT_REPRODUCED: REPRODUCED}.get(word, word)
    assert judge(below(2, ratios=ratios), low, high) == mirrored


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.9, 0.9, REPRODUCED),
        (-1.1, 0.9, UNDECIDED),
        (0.9, 1.1, UNDECIDED),
        (-2, 2, UNDECIDED),
        (1.1, 2, NOT_REPRODUCED),
        (-2, -1.1, NOT_REPRODUCED),
    ],
)
def test_between(low, high, word):
    assert judge(between(-1, 1), low, high) == word


def test_the_ends_of_a_range_belong_to_it():
    assert verdict(claim(between(-1, 1)), Measured((1.0,) * 3)).verdict == REPRODUCED
    assert verdict(claim(between(-1, 1)), Measured((-1.0,) * 3)).verdict == REPRODUCED


@pytest.mark.parametrize("rule", [above(0), below(0)])
def test_a_value_is_not_above_or_below_itself(rule):
    assert verdict(claim(rule), Measured((0.0,) * 3)).verdict != REPRODUCED


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_seeds_are_not_testable_but_shown(n):
    found = verdict(claim(above(1)), Measured((5.0,) * n))
    assert found.verdict == NOT_TESTABLE
    assert found.ours.n == n
    assert f"{n} seed" in found.reason
    assert "3 needed" in found.reason
    assert verdict(claim(above(1)), Measured((5.0,) * 3)).verdict == REPRODUCED


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_diverged_runs_are_not_testable(bad):
    found = verdict(claim(above(1)), Measured((5.0, 5.0, 5.0, bad)))
    assert (found.verdict, found.ours) == (NOT_TESTABLE, None)
    assert "1 values are not finite" in found.reason


@pytest.mark.parametrize(
    ("rule", "low", "high", "word"),
    [
        (about(2, factor=1.5), 1.4, 2.9, REPRODUCED),
        (about(2, factor=1.5), 1.1, 1.2, DIRECTION_ONLY),
        (about(2, factor=1.5), 0.5, 0.9, NOT_REPRODUCED),
        (about(2, factor=1.5), 0.9, 1.2, UNDECIDED),
        (above(0), 0.1, 0.9, REPRODUCED),
        (above(0), -0.9, 0.0, NOT_REPRODUCED),
        (above(0), 0.0, 0.9, UNDECIDED),
        (below(0), -0.9, -0.1, REPRODUCED),
    ],
)
def test_a_statistic_with_an_interval_of_its_own_is_judged_by_it(rule, low, high, word):
    own = Interval((low + high) / 2, low, high, 3)
    found = verdict(claim(rule), Measured(interval=own, note="bootstrap"))
    assert found.verdict == word
    assert found.ours is own
    assert found.reason.endswith("; bootstrap")
    few = verdict(claim(rule), Measured(interval=Interval(own.mean, low, high, 2)))
    assert (few.verdict, few.reason) == (NOT_TESTABLE, "2 seeds, 3 needed")
    assert few.ours.n == 2, "shown all the same"
    why = verdict(claim(rule), Measured(interval=own, not_testable="diverged"))
    assert (why.verdict, why.ours) == (NOT_TESTABLE, None)


def test_a_reason_why_there_is_no_statistic_is_told():
    found = verdict(claim(above(1)), Measured(not_testable="training accuracy 20 %"))
    assert (found.verdict, found.reason) == (NOT_TESTABLE, "training accuracy 20 %")
    assert verdict(claim(above(1)), Measured()).verdict == NOT_TESTABLE


def test_a_ratio_of_zero_is_judged():
    found = verdict(claim(below(1, ratios=True)), Measured((0.0, 0.5, 0.5)))
    assert found.verdict in VERDICTS


def test_intervals_are_shown_with_their_ends_and_single_values_alone():
    assert interval_text(interval([2.0])) == "2"
    text = interval_text(interval([1.0, 2.0, 3.0]))
    assert text.startswith("2 [-0.484, 4.48]")


def test_a_table_holds_a_row_per_verdict_and_escapes_what_it_shows():
    rule, first = above(1), verdict(claim(above(1), "b<&>"), Measured((5.0,) * 3))
    second = verdict(claim(rule), Measured(not_testable='<script>"'))
    table = verdict_table([first, second])
    assert table.rows["verdict"].tolist() == [REPRODUCED, NOT_TESTABLE]
    assert table.rows["n"].tolist() == [3, 0]
    assert table.html.count("<tr") == 3
    assert "<script>" not in table.html
    assert 'id="claim-a-claim"' in table.html
    assert "not-testable" in table.html
    assert "reproduced" in repr(table)
    assert first._repr_html_().count("<tr") == 2


def test_every_word_has_a_class_of_its_own():
    classes = [css_class(word) for word in VERDICTS]
    assert len(set(classes)) == 5
    assert not any(" " in name for name in classes)


# The claims of Surlemont et al.

CLAIMS = surlemont.study.claims
IDS = [c.id for c in CLAIMS]


@pytest.mark.parametrize("claim", CLAIMS, ids=IDS)
def test_every_claim_says_where_it_stands_and_what_shows_it(claim):
    texts = (claim.figure, claim.locator, claim.statement, claim.quantity, claim.value)
    assert all(text.strip() for text in texts)
    assert claim.id.startswith("surlemont-")
    assert claim.statement.endswith(".")
    assert claim.rule.target[0] < claim.rule.target[1]
    assert claim.rule.direction[0] <= claim.rule.target[0]
    assert claim.rule.target[1] <= claim.rule.direction[1]


def test_claim_ids_are_unique_and_found_by_name():
    assert len(set(IDS)) == len(IDS)
    assert surlemont.study.claim(IDS[0]) is CLAIMS[0]
    with pytest.raises(KeyError, match=f"did you mean '{IDS[0]}'"):
        surlemont.study.claim(IDS[0] + "x")


SIZES, SEEDS = (32, 64, 128, 256, 512, 1024), range(4)
ARMS = [
    surlemont.Arm(optimizer, scaling, sam)
    for optimizer in ("sgd", "adam")
    for scaling in ("linear", "none")
    for sam in (False, True)
] + [surlemont.NO_DROPOUT, surlemont.NO_DROPOUT_SAM]


def world(**rules):
    """Results in which each run is what `rules` say, with a little noise from its seed.

    Each rule maps (arm, batch size) to a number; accuracies in [0, 1].
    """
    defaults = {
        "phi": lambda arm, b: 1.0,
        "validation": lambda arm, b: 0.9,
        "train": lambda arm, b: 0.95,
        "test": lambda arm, b: 0.9,
    }
    rules, rows, generator = defaults | rules, [], np.random.default_rng(0)
    for arm in ARMS:
        for b in SIZES:
            for seed in SEEDS:
                noise = 1 + 1e-4 * generator.standard_normal()
                rows.append(
                    {
                        "arm": arm.label,
                        "batch_size": b,
                        "seed": seed,
                        "updates": 100,
                        "stopped": "epochs",
                        "rho": 0.05 if arm.sam else np.nan,
                        "keskar_sharpness": rules["phi"](arm, b) * noise,
                        **{
                            f"{part}_accuracy": rules[part](arm, b) * noise
                            for part in ("train", "validation", "test")
                        },
                    }
                )
    for rho in (0.01, 0.5):
        for seed in SEEDS:
            row = {"arm": surlemont.RHO_SWEEP, "batch_size": 1024, "seed": seed, "rho": rho}
            row |= {"stopped": "epochs", "updates": 100, "train_accuracy": 0.95}
            rows.append(row | {"keskar_sharpness": 1 / (1 + 2 * rho) ** 2})
    timings = [
        {"repeat": r, "sam": sam, "batch_size": b, "seconds": (1 + sam) * (3 - np.log2(b) / 5)}
        for r in range(5)
        for sam in (False, True)
        for b in SIZES
    ]
    return SimpleNamespace(
        runs=pd.DataFrame(rows),
        timings=pd.DataFrame(timings),
        parameters=SimpleNamespace(batch_sizes=list(SIZES), seeds=list(SEEDS), rho=0.05),
    )


def word(results, name):
    found = surlemont.study.claim(f"surlemont-{name}")
    return verdict(found, found.statistic(results)).verdict


def as_stated(arm, b):
    """Sharpness as section V of the source states it."""
    if not arm.sam and arm.optimizer == "sgd":
        return 9.0 if arm != surlemont.NO_DROPOUT else 4.0
    if arm == surlemont.NO_DROPOUT_SAM:
        return 1.0
    if arm.optimizer == "adam":
        return 12.0
    return {32: 1.0, 64: 4.5, 128: 9.0, 256: 12.0, 512: 12.0, 1024: 0.8}[b]


def test_a_world_like_the_source_reproduces_its_claims():
    results = world(
        phi=as_stated,
        validation=lambda arm, b: (
            0.9
            - 0.03 * (arm.optimizer == "adam")
            - 0.05 * (arm.sam and b >= 256)
            - 0.05 * (arm.sam and b == 1024)
            - 0.04 * (arm.scaling == "none" and b == 1024)
        ),
        train=lambda arm, b: 0.95 - 0.02 * arm.sam,
        test=lambda arm, b: 0.9 - 0.04 * (arm == surlemont.SGD_FIXED and b == 1024),
    )
    words = {name: word(results, name.removeprefix("surlemont-")) for name in IDS}
    contradicted = {  # the source says both, and its own figure 2 decides; or asked, not claimed
        "surlemont-scaled-sharper",
        "surlemont-sam-lr-relation",
        "surlemont-larger-rho",
        "surlemont-sam-without-dropout",  # a rival of "dropout-explains"
    }
    wrong = {name: w for name, w in words.items() if w != REPRODUCED and name not in contradicted}
    assert wrong == {}
    assert words["surlemont-scaled-sharper"] != REPRODUCED


def test_a_world_where_sam_changes_nothing_reproduces_no_effect_of_it():
    results = world()
    for name in ("sam-sharpness-32", "sam-sharpness-64", "sam-narrows-gap", "sam-error-ratio"):
        assert word(results, name) not in (REPRODUCED, DIRECTION_ONLY), name
    assert word(results, "sam-keeps-accuracy") == REPRODUCED
    assert word(results, "scaled-equal-sharpness") == REPRODUCED


def test_untrained_runs_and_missing_sizes_are_not_testable():
    assert word(world(train=lambda arm, b: 0.5), "sam-sharpness-32") == NOT_TESTABLE
    results = world()
    results.runs = results.runs[results.runs["batch_size"] != 32]
    assert word(results, "sam-sharpness-32") == NOT_TESTABLE
    assert word(results, "sam-sharpness-64") != NOT_TESTABLE


def test_a_lost_accuracy_refutes_that_it_is_kept():
    collapse = {
        part: lambda arm, b: 0.5 if arm.sam and b <= 64 else 0.9 for part in ("train", "validation")
    }
    for name in ("sam-keeps-accuracy", "fixed-sam-accuracy"):
        assert word(world(**collapse), name) == NOT_REPRODUCED
    collapse = {part: lambda arm, b: 0.5 if b == 1024 else 0.9 for part in ("train", "validation")}
    assert word(world(**collapse), "scaling-compensates") == NOT_REPRODUCED


def test_claims_on_the_ends_ask_nothing_of_the_sizes_between():
    results = world()
    results.runs = results.runs[results.runs["batch_size"] != 128]
    for name in ("scaling-compensates", "scaled-equal-sharpness", "fixed-gap", "sam-lr-relation"):
        assert word(results, name) != NOT_TESTABLE, name


def test_optimizers_that_were_cut_off_unequally_far_are_not_compared():
    results = world(train=lambda arm, b: 0.84 + 0.04 * (arm.optimizer == "adam"))
    for name in ("adam-worse-scaled", "adam-worse-fixed", "adam-sharper-scaled"):
        found = surlemont.study.claim(f"surlemont-{name}")
        judged = verdict(found, found.statistic(results))
        assert judged.verdict == NOT_TESTABLE, name
        assert judged.reason.startswith("cut off at training accuracies of 84.0 % (SGD"), name
    results.runs["stopped"] = "patience"
    assert word(results, "adam-worse-scaled") != NOT_TESTABLE, "to end so is a result"


def test_too_few_timings_are_not_testable():
    results = world()
    assert word(results, "sam-doubles-time") == REPRODUCED
    assert word(results, "large-batch-faster") == REPRODUCED
    for timings in (results.timings[results.timings["repeat"] < 4], pd.DataFrame()):
        results.timings = timings
        assert word(results, "sam-doubles-time") == NOT_TESTABLE


def diverged(results, name, size, seed=0):
    """Mark one run as diverged: no sharpness, and an accuracy by chance."""
    mine = (results.runs["arm"] == name) & (results.runs["batch_size"] == size)
    mine &= results.runs["seed"] == seed
    results.runs.loc[mine, "keskar_sharpness"] = np.nan
    results.runs.loc[mine, "stopped"] = "diverged"
    results.runs.loc[mine, ["train_accuracy", "validation_accuracy", "test_accuracy"]] = 0.1
    return results


def test_a_diverged_run_is_not_testable_where_minimizers_are_compared():
    results = diverged(world(), surlemont.SGD_SAM.label, 32)
    assert word(results, "sam-sharpness-32") == NOT_TESTABLE


def test_a_batch_size_left_out_of_a_mean_is_named():
    results = diverged(world(), surlemont.ADAM_SAM.label, 1024)
    found = surlemont.study.claim("surlemont-adam-sharpness-scaled")
    judged = verdict(found, found.statistic(results))
    assert judged.ours.n == len(SEEDS)
    assert "at B = 32, 64, 128, 256, 512, where all are trained" in judged.reason


def test_a_seed_that_lacks_a_batch_size_does_not_count():
    results = world()
    there = (results.runs["batch_size"] != 64) | (results.runs["seed"] != 3)
    results.runs = results.runs[there]
    found = surlemont.study.claim("surlemont-sam-keeps-accuracy")
    assert verdict(found, found.statistic(results)).ours.n == len(SEEDS) - 1


def test_more_seeds_have_sgd_with_dropout_alone_and_others_are_compared_over_common_ones():
    p = cli._parameters(surlemont.study, "laptop")
    more = [e for e in surlemont.study.design(p) if e.config.seed in p.more_seeds]
    assert p.more_seeds and len(more) == len(p.more_seeds) * 4 * len(SIZES)
    assert {e.config.optimizer for e in more} == {"sgd"}
    assert {e.config.network_options["dropout"] for e in more} == {p.dropout}
    results = world()
    fewer = results.runs["arm"].str.contains("Adam|no dropout|other rho")
    results.runs = results.runs[~fewer | (results.runs["seed"] < 3)]
    results.parameters.seeds = [0, 1, 2]
    seeds = {
        "sam-keeps-accuracy": 4,
        "adam-worse-scaled": 3,
        "dropout-explains": 3,
        "larger-rho": 3,
    }
    for name, n in seeds.items():
        found = surlemont.study.claim(f"surlemont-{name}")
        assert verdict(found, found.statistic(results)).ours.n == n, name


def test_radii_at_which_nothing_trains_do_not_count_as_flat():
    results = world()
    results.runs.loc[results.runs["arm"] == surlemont.RHO_SWEEP, "train_accuracy"] = 0.1
    assert word(results, "larger-rho") == NOT_TESTABLE


def test_a_radius_that_lacks_a_seed_hides_no_complete_one():
    results = world()
    extra = results.runs[results.runs["rho"] == 0.5].assign(rho=0.9).iloc[:1]
    results.runs = pd.concat([results.runs, extra])
    found = surlemont.study.claim("surlemont-larger-rho")
    judged = verdict(found, found.statistic(results))
    assert judged.ours.n == len(SEEDS) and "over rho = 0.5" in judged.reason


def test_a_study_without_runs_is_not_testable():
    results = world()
    results.runs = pd.DataFrame()
    assert word(results, "sam-sharpness-32") == NOT_TESTABLE
