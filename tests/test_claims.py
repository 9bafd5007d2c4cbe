"""Tests of bsglib.claims: from a statistic to a verdict; and of the claims of all studies."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bsglib import cli
from bsglib.claims import Claim, Margin, Measured, Terms, corrected, verdict
from bsglib.stats import Permuted, holm, with_test_set
from bsglib.studies import claims_file
from bsglib.studies.verdict_table import verdict_table
from bsglib.verdicts import (
    DEPENDS,
    NO_EFFECT,
    NOT_RUN,
    NOT_TESTABLE,
    OPPOSITE,
    SAME,
    UNDECIDED_AFTER,
    Rule,
    Shares,
)

POINTS = Margin("points", 1, "chosen for the test")
RATIO = Margin("ratio", 1.25, "chosen for the test", ratios=True)
RANK = Margin("rank", 0.2, "chosen for the test", estimate="signs")
SHARE = Margin("share", 0.1, "chosen for the test", estimate="share")
HIGH = Measured((5.0, 5.1, 5.2, 4.9, 5.05))


def claim(margin=POINTS, name="a-claim", primary=False, **rule):
    rule = Rule(**{"claimed": "above", "margin": margin.size, "ratios": margin.ratios} | rule)
    return Claim(
        id=name,
        figure="figure-1",
        locator="section 1",
        statement="It grows.",
        quantity="a quantity",
        primary=primary,
        rule=rule,
        margin=margin,
        statistic=lambda: None,
    )


def word(*args, **kwargs):
    return verdict(*args, **kwargs).word


def test_the_direction_is_that_of_the_mean_over_seeds():
    assert word(claim(), HIGH) == SAME
    assert word(claim(claimed="below"), HIGH) == OPPOSITE
    assert word(claim(claimed="equal"), HIGH) == OPPOSITE
    assert word(claim(), Measured((0.1, -0.1, 0.2, -0.2, 0.0))) == NO_EFFECT
    assert word(claim(RATIO), Measured((2.0, 2.1, 1.9, 2.2, 2.0))) == SAME
    assert word(claim(RATIO, claimed="below"), Measured((0.0, *HIGH.values))) == NOT_TESTABLE


@pytest.mark.parametrize(
    "measured, expected, detail",
    [
        (Measured(), NOT_RUN, "0 of 5 seeds; `bsg`"),
        (Measured((5.0, 5.1)), NOT_RUN, "2 of 5 seeds; `bsg`"),
        (Measured(not_run="3 of 9 runs"), NOT_RUN, "3 of 9 runs; `bsg`"),
        (Measured(not_testable="training accuracy 20 %"), NOT_TESTABLE, "training accuracy 20 %"),
        (Measured(not_testable="untrained", seeds=(10, 11)), NOT_RUN, "2 of 5 seeds; `bsg`"),
        (Measured(not_testable="untrained", seeds=range(10, 15)), NOT_TESTABLE, "untrained"),
        (Measured((5.0, math.nan, math.inf)), NOT_TESTABLE, "2 values are not finite"),
    ],
)
def test_a_reason_why_there_is_no_direction_is_told(measured, expected, detail):
    found = verdict(claim(), measured, Terms(remedy="`bsg`"))
    assert (found.word, found.verdict.direction.detail) == (expected, detail)
    assert found.row()["reason"] == detail and found.row()["n"] == 0


def test_a_primary_claim_needs_as_many_seeds_as_its_terms_say():
    terms = Terms(seeds=3, primary=10)
    assert word(claim(), Measured(HIGH.values[:3]), terms) == SAME
    assert word(claim(primary=True), HIGH, terms) == NOT_RUN
    assert word(claim(primary=True), Measured(2 * HIGH.values), terms) == SAME


def test_what_is_no_mean_has_an_estimate_of_its_own():
    assert word(claim(RANK), Measured((1.0,) * 5)) == NOT_RUN, "five signs decide nothing"
    assert word(claim(RANK), Measured((1.0,) * 6)) == SAME
    assert word(claim(SHARE), Measured((1.0,) + (0.0,) * 4)) == SAME, "it has happened"
    assert word(claim(SHARE, null=0.5), Measured((1.0,) * 6)) == SAME
    assert word(claim(SHARE, null=0.5), Measured((0.0,) * 6)) == OPPOSITE
    far = Permuted(0.8, np.linspace(0, 0.5, 100), 6)
    assert word(claim(RANK), Measured(estimate=far)) == SAME


def test_the_variance_of_the_test_set_widens_an_interval():
    examples = tuple(np.tile([100.0, -90.0], 50))
    plain, with_examples = HIGH, replace(HIGH, examples=examples)
    found = [verdict(claim(), measured).verdict.ours for measured in (plain, with_examples)]
    assert found[1] == with_test_set(HIGH.values, examples).interval()
    assert found[1].high - found[1].low > 2 * (found[0].high - found[0].low)


def test_another_measure_that_does_not_agree_makes_it_depend_on_the_measure():
    low = Measured((-5.0, -5.1, -5.2))
    few = verdict(claim(), replace(HIGH, others={"other": low}), Terms(seeds=3))
    assert few.word == DEPENDS and "other: opposite" in few.verdict.words
    assert word(claim(), replace(HIGH, others={"other": Measured(not_run="none")})) == SAME


def test_every_part_of_a_claim_has_to_hold():
    parts = {"B = 32": HIGH, "B = 64": Measured((-5.0, -5.1, -5.2, -4.9, -5.0))}
    found = verdict(claim(), Measured(parts=parts))
    assert found.word == OPPOSITE and found.verdict.part == "B = 64"
    assert word(claim(), Measured(parts={"B = 32": HIGH})) == SAME
    noted = {name: replace(one, note=f"at {name}") for name, one in parts.items()}
    assert verdict(claim(), Measured(parts=noted, note="of all")).note == "of all; at B = 64"
    missing = verdict(claim(), Measured(parts={"B = 32": HIGH, "B = 64": Measured()}))
    assert missing.word == NOT_RUN and "B = 64" in missing.row()["line"]


def test_the_scale_is_that_of_the_smallest_share():
    found = verdict(claim(), replace(HIGH, shares=(Shares(), Shares(examples=0.17))))
    assert found.row()["line"].endswith("· reduced (17 % of the images)")
    assert verdict(claim(), HIGH).row()["scale"] == ""
    timed = replace(HIGH, values=HIGH.values[:3], timing=True)
    assert verdict(claim(), timed).row()["scale"] == "other hardware"
    assert word(claim(), replace(timed, seeds=(0, 1, 2))) == NOT_RUN, "times of too few seeds"


def test_primary_claims_are_corrected_and_the_others_have_a_false_discovery_rate():
    weak = Measured((5.0, 4.0, 6.0, 2.0, 1.5))
    judged = [verdict(claim(name=n, primary=n == "first"), weak) for n in ("first", "second")]
    adjusted = dict(zip(["first"], holm([judged[0].verdict.p, 0.5, 0.5, 0.9]), strict=False))
    first, second = corrected(judged, adjusted)
    assert judged[0].word == SAME and first.word == UNDECIDED_AFTER and second.word == SAME
    assert first.verdict.ours == judged[0].verdict.ours, "intervals stay"
    assert first.adjusted_p == pytest.approx(4 * judged[0].verdict.p) and first.q is None
    assert second.q == pytest.approx(judged[1].verdict.p) and second.adjusted_p is None


def test_a_table_holds_a_row_per_verdict_and_escapes_what_it_shows():
    first = verdict(claim(name="b<&>"), HIGH)
    second = verdict(claim(), Measured(not_testable='<script>"'))
    table = verdict_table([first, second])
    assert table.rows["verdict"].tolist() == [SAME, NOT_TESTABLE]
    assert table.rows["n"].tolist() == [5, 0]
    assert table.html.count("<tr id=") == 2
    assert "<script>" not in table.html
    assert 'id="claim-a-claim"' in table.html
    assert "same direction" in table.html and "same direction" in repr(table)


# The claims of all studies

CLAIMS = {claim.id: claim for study in cli.STUDIES.values() for claim in study.claims}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))
def test_every_claim_says_where_it_stands_and_what_shows_it(claim):
    texts = (claim.figure, claim.locator, claim.statement, claim.quantity, claim.value)
    assert all(text.strip() for text in texts)
    assert claim.statement.endswith(".")
    assert claim.kind == "stated" or claim.value != claim.kind
    assert (claim.rule.margin, claim.rule.ratios) == (claim.margin.size, claim.margin.ratios)


def test_every_margin_has_a_reason_and_a_claim():
    used = {claim.margin.name for claim in CLAIMS.values()}
    assert set(claims_file.margins()) == used
    assert all(len(margin.because.split()) > 5 for margin in claims_file.margins().values())


def test_claim_ids_are_unique_and_found_by_name():
    assert len(CLAIMS) == sum(len(study.claims) for study in cli.STUDIES.values())
    for name, study in cli.STUDIES.items():
        first = study.claims[0]
        assert first.id.startswith(f"{name.partition('_')[0]}-") and study.claim(first.id) is first
        with pytest.raises(KeyError, match=f"did you mean '{first.id}'"):
            study.claim(first.id + "x")
