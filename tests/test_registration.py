"""Tests of bsglib.studies.registration: no claim changes without a word."""

import json
from dataclasses import replace
from functools import partial

import pytest

from bsglib.studies import amendments, registration
from bsglib.studies.catalogue import STUDIES
from bsglib.studies.comparing import Comparison, Of, diverged, points, ratio, side
from bsglib.studies.keskar import study

LOCK = registration.read()
CLAIMS = [(name, claim) for name, of_study in STUDIES.items() for claim in of_study.claims]


def test_claims_are_registered_as_they_are():
    now = registration.updated(LOCK, STUDIES)
    changed = [claim.id for name, claim in CLAIMS if now[name][claim.id] != LOCK[name][claim.id]]
    assert not changed, "`bsg register`, and a row for each in docs/amendments.md"
    assert {name: list(claims) for name, claims in LOCK.items()} == {
        name: [claim.id for claim in of_study.claims] for name, of_study in STUDIES.items()
    }


@pytest.mark.parametrize("name, claim", CLAIMS, ids=[claim.id for _, claim in CLAIMS])
def test_every_change_of_a_registered_claim_is_explained(name, claim):
    _, *later = LOCK[name][claim.id]["digests"]
    explained = {row.get("digest", "").strip("`") for row in amendments.of_claim(claim.id)}
    assert set(later) <= explained, f"digests without a row in docs/amendments.md: {later}"


def test_about_a_dozen_claims_are_primary_over_all_studies():
    assert 10 <= sum(claim.primary for _, claim in CLAIMS) <= 14


COMPARED = Comparison(points, (side(sam=False), side(sam=True)), "test_accuracy")
CLAIM = next(claim for claim in study.claims if claim.rule.claimed == "above")


@pytest.mark.parametrize(
    "other",
    [
        replace(COMPARED, by=ratio),
        replace(COMPARED, column="test_loss"),
        replace(COMPARED, sides=(side(sam=False), side(sam=True, sizes=(32,)))),
        replace(COMPARED, gates=(Of(diverged),)),
        replace(COMPARED, others=(("adaptive box", "adaptive"),)),
    ],
)
def test_a_digest_tells_statistics_apart(other):
    claim = replace(CLAIM, statistic=COMPARED)
    changed = replace(claim, statistic=other)
    one, two = (registration.digest(registration.registered(c)) for c in (claim, changed))
    assert one != two


def test_a_digest_is_that_of_the_rule_not_of_its_wording():
    claim = replace(CLAIM, statistic=COMPARED)
    worded = replace(claim, statement="Other words.", locator="page 2", value="1.0")
    assert registration.registered(worded) == registration.registered(claim)
    noted = replace(claim, statistic=replace(COMPARED, note=partial(str)))
    assert registration.registered(noted) == registration.registered(claim)
    for change in ({"margin": 2 * claim.rule.margin}, {"claimed": "equal"}):
        changed = replace(claim, rule=replace(claim.rule, **change))
        assert registration.registered(changed) != registration.registered(claim)
    assert registration.registered(replace(claim, primary=not claim.primary)) != (
        registration.registered(claim)
    )


def test_functions_are_described_by_name_and_by_what_they_hold():
    def outer(step):
        def inner(table):
            return table[step]

        return inner

    one, two = (registration.described(outer(step)) for step in (1, 2))
    assert one != two and one["step"] == 1
    assert registration.described(partial(points, b=3)) == {
        "function": "comparing.points",
        "arguments": [],
        "b": 3,
    }
    with pytest.raises(ValueError, match="needs a name"):
        registration.described(lambda table: table)


def test_a_lock_keeps_the_digests_that_a_claim_had(tmp_path):
    file, name, first = tmp_path / "claims.lock", study.name, study.claims[0]
    before = registration.updated({}, {name: replace(study, claims=(first,))})
    registration.write(before, file)
    assert registration.read(file) == json.loads(json.dumps(before))
    changed = replace(study, claims=(replace(first, primary=not first.primary),))
    after = registration.updated(registration.read(file), {name: changed})[name][first.id]
    assert after["digests"][:1] == before[name][first.id]["digests"]
    assert len(after["digests"]) == 2 and after["primary"] != first.primary
