"""Tests of bsglib.claims, and of the claims themselves."""

import math

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
    interval_text,
    verdict,
)
from bsglib.stats import Interval, interval
from bsglib.studies.verdict_table import css_class, verdict_table


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


def test_every_word_has_a_class_of_its_own():
    classes = [css_class(word) for word in VERDICTS]
    assert len(set(classes)) == 5
    assert not any(" " in name for name in classes)


# The claims of all studies

CLAIMS = {claim.id: claim for study in cli.STUDIES.values() for claim in study.claims}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))
def test_every_claim_says_where_it_stands_and_what_shows_it(claim):
    texts = (claim.figure, claim.locator, claim.statement, claim.quantity, claim.value)
    assert all(text.strip() for text in texts)
    assert claim.statement.endswith(".")
    assert claim.rule.target[0] < claim.rule.target[1]
    assert claim.rule.direction[0] <= claim.rule.target[0]
    assert claim.rule.target[1] <= claim.rule.direction[1]
    assert claim.kind == "stated" or claim.value != claim.kind


def test_claim_ids_are_unique_and_found_by_name():
    assert len(CLAIMS) == sum(len(study.claims) for study in cli.STUDIES.values())
    for name, study in cli.STUDIES.items():
        first = study.claims[0]
        assert first.id.startswith(f"{name.partition('_')[0]}-") and study.claim(first.id) is first
        with pytest.raises(KeyError, match=f"did you mean '{first.id}'"):
            study.claim(first.id + "x")
