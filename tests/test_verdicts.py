"""Tests of bsglib.verdicts."""

import math
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
import pytest

from bsglib.stats import Estimate, Interval, Permuted, Share, Signs, holm, permuted, student
from bsglib.verdicts import (
    AGREES,
    ALPHA,
    DECIDED,
    DEPENDS,
    DIRECTIONS,
    FULL,
    HIGHER,
    IMPRECISE,
    LARGER,
    LOWER,
    NEGLIGIBLE,
    NO_EFFECT,
    NOT_RUN,
    NOT_TESTABLE,
    OPPOSITE,
    OTHER_HARDWARE,
    PRECEDENCE,
    PRIMARY_SEEDS,
    RANK_SEEDS,
    REDUCED,
    SAME,
    SCALES,
    SIZES,
    SMALLER,
    TOY,
    UNDECIDED,
    UNDECIDED_AFTER,
    Direction,
    Rule,
    Scale,
    Shares,
    Verdict,
    after_correction,
    composite,
    direction,
    judge,
    not_run,
    not_testable,
    number_text,
    over_measures,
    p_value,
    scale,
    size,
)

INF = math.inf


@dataclass(frozen=True)
class Given(Estimate):
    """An estimate whose two intervals are as given."""

    wide: tuple[float, float]
    narrow: tuple[float, float]
    n: int = 10

    def interval(self, level=0.95):
        low, high = {0.95: self.wide, 0.9: self.narrow}[round(level, 6)]
        middle = sum(self.narrow) / 2 if math.isfinite(sum(self.narrow)) else 1.0
        return Interval(middle, low, high, self.n)

    def swapped(self, ratios=False):
        """The same with its sides swapped: the difference or ratio the other way round."""

        def other(ends):
            return tuple(1 / e if ratios else -e for e in reversed(ends))

        return Given(other(self.wide), other(self.narrow), self.n)


ABOVE, BELOW, EQUAL = (Rule(claimed, 1.0) for claimed in ("above", "below", "equal"))
UP, DOWN, ALIKE = (Rule(claimed, 1.25, ratios=True) for claimed in ("above", "below", "equal"))

# of a difference with a margin of 1: 95 %, 90 %, then what claims of above, below, equal become
CASES = [
    ((2, 4), (2.2, 3.8), SAME, OPPOSITE, OPPOSITE),
    ((-4, -2), (-3.8, -2.2), OPPOSITE, SAME, OPPOSITE),
    ((0.1, 1.5), (0.2, 1.4), SAME, OPPOSITE, UNDECIDED),  # excludes zero and holds the margin
    ((-0.5, 0.5), (-0.4, 0.4), NO_EFFECT, NO_EFFECT, SAME),
    ((0.1, 0.5), (0.2, 0.4), NO_EFFECT, NO_EFFECT, SAME),  # excludes zero and does not matter
    ((0.1, 1.1), (0.2, 0.9), NO_EFFECT, NO_EFFECT, SAME),  # the 90 % interval decides
    ((-1.1, 1.1), (-0.9, 0.9), NO_EFFECT, NO_EFFECT, SAME),
    ((-0.5, 2), (-0.3, 1.8), UNDECIDED, UNDECIDED, UNDECIDED),
    ((-0.1, 2), (0.1, 1.8), UNDECIDED, UNDECIDED, UNDECIDED),  # the 95 % interval decides
    ((-9, 9), (-8, 8), UNDECIDED, UNDECIDED, UNDECIDED),
    # on the borders
    ((0, 2), (0.1, 1.9), UNDECIDED, UNDECIDED, UNDECIDED),
    ((-2, 0), (-1.9, -0.1), UNDECIDED, UNDECIDED, UNDECIDED),
    ((-0.2, 1.1), (-0.1, 1), UNDECIDED, UNDECIDED, UNDECIDED),
    ((-1.1, 0.2), (-1, 0.1), UNDECIDED, UNDECIDED, UNDECIDED),
    ((0.1, 1.1), (0.2, 1), SAME, OPPOSITE, UNDECIDED),
    ((1, 3), (1.2, 2.8), SAME, OPPOSITE, UNDECIDED),
    ((-3, -1), (-2.8, -1.2), OPPOSITE, SAME, UNDECIDED),
    ((0, 0.5), (0.1, 0.4), NO_EFFECT, NO_EFFECT, SAME),
    # of no width, and of no end
    ((0, 0), (0, 0), NO_EFFECT, NO_EFFECT, SAME),
    ((1, 1), (1, 1), SAME, OPPOSITE, UNDECIDED),
    ((2, 2), (2, 2), SAME, OPPOSITE, OPPOSITE),
    ((-INF, INF), (-INF, INF), UNDECIDED, UNDECIDED, UNDECIDED),
    ((0.5, INF), (0.6, INF), SAME, OPPOSITE, UNDECIDED),
    ((-INF, -2), (-INF, -3), OPPOSITE, SAME, OPPOSITE),
]


@pytest.mark.parametrize(("wide", "narrow", "above", "below", "equal"), CASES)
def test_each_case_has_one_direction(wide, narrow, above, below, equal):
    given = Given(wide, narrow)
    found = [direction(given, rule).word for rule in (ABOVE, BELOW, EQUAL)]
    assert found == [above, below, equal]


@pytest.mark.parametrize(("wide", "narrow", "above", "below", "equal"), CASES)
def test_a_ratio_is_judged_as_its_logarithm(wide, narrow, above, below, equal):
    wide, narrow = (tuple(math.exp(e * math.log(1.25)) for e in ends) for ends in (wide, narrow))
    borders = {1.0: 1.0, 1.25: 1.25, 0.8: 0.8}  # an end on a border is on it in spite of rounding
    wide, narrow = (
        tuple(next((b for b in borders if math.isclose(b, e)), e) for e in ends)
        for ends in (wide, narrow)
    )
    found = [direction(Given(wide, narrow), rule).word for rule in (UP, DOWN, ALIKE)]
    assert found == [above, below, equal]


def test_the_null_value_may_be_another_one():
    given, rule = Given((2, 4), (2.2, 3.8)), Rule("above", 1, null=5)
    assert direction(given, rule).word == OPPOSITE
    assert direction(given, replace(rule, null=1.5)).word == SAME
    ratio = Rule("above", 1.25, ratios=True, null=3)
    assert direction(Given((4, 5), (4.1, 4.9)), ratio).word == SAME
    assert direction(Given((2.5, 3.6), (2.6, 3.5)), ratio).word == NO_EFFECT
    assert direction(Given((2.5, 3.9), (2.6, 3.8)), ratio).word == UNDECIDED


def test_a_negligible_effect_is_one_inside_the_margin_that_is_not_zero():
    assert direction(Given((0.1, 0.5), (0.2, 0.4)), ABOVE) == Direction(NO_EFFECT, NEGLIGIBLE)
    assert direction(Given((-0.5, -0.1), (-0.4, -0.2)), ABOVE) == Direction(NO_EFFECT, NEGLIGIBLE)
    assert direction(Given((0, 0.5), (0.1, 0.4)), ABOVE) == Direction(NO_EFFECT)


def test_what_is_said_to_be_of_no_use_is_refuted_by_a_gain_and_by_a_harm():
    assert direction(Given((2, 4), (2.2, 3.8)), EQUAL) == Direction(OPPOSITE, HIGHER)
    assert direction(Given((-4, -2), (-3.8, -2.2)), EQUAL) == Direction(OPPOSITE, LOWER)


@pytest.mark.parametrize("ratios", [False, True])
def test_any_intervals_have_one_word_and_swapped_sides_swap_same_and_opposite(ratios):
    generator = np.random.default_rng(0)
    swap = {SAME: OPPOSITE, OPPOSITE: SAME}
    words = {claimed: set() for claimed in ("above", "below", "equal")}
    for _ in range(3000):
        low, inner, upper, high = np.sort(generator.normal(generator.normal(0, 2), 1, 4))
        ends = np.exp([low, inner, upper, high]) if ratios else [low, inner, upper, high]
        given = Given((ends[0], ends[3]), (ends[1], ends[2]))
        margin = abs(generator.normal(0, 2)) + 1e-3 + ratios
        null = float(np.exp(generator.normal(0, 1))) if ratios else generator.normal(0, 1)
        above, below, equal = (Rule(c, margin, ratios, null) for c in words)
        other = 1 / null if ratios else -null
        for rule in (above, below, equal):
            found, word = direction(given, rule), direction(given, rule).word
            held = (
                word == SAME,
                word == OPPOSITE,
                word == NO_EFFECT and rule.claimed != "equal",
                word == UNDECIDED,
            )
            assert sum(held) == 1
            words[rule.claimed].add(word)
            there = direction(given.swapped(ratios), replace(rule, null=other))
            if rule.claimed == "equal":
                assert there.word == word
                assert {there.detail, found.detail} in ({""}, {HIGHER, LOWER})
            else:
                assert there.word == swap.get(word, word)
        assert direction(given, below).word == swap.get(direction(given, above).word) or {
            direction(given, rule).word for rule in (above, below)
        } in ({NO_EFFECT}, {UNDECIDED})
        assert (direction(given, equal).word == SAME) == (direction(given, above).word == NO_EFFECT)
    assert words["above"] == words["below"] == {SAME, OPPOSITE, NO_EFFECT, UNDECIDED}
    assert words["equal"] == {SAME, OPPOSITE, UNDECIDED}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"claimed": "more"}, "allowed are above, below, equal"),
        ({"margin": 0}, "above 0"),
        ({"margin": math.nan}, "above 0"),
        ({"margin": INF}, "above 0"),
        ({"margin": 1, "ratios": True}, "above 1"),
        ({"margin": 1.5, "ratios": True, "null": 0}, "positive numbers"),
        ({"stated": -1}, "not above 0"),
        ({"stated": 0}, "not above 0"),
        ({"claimed": "below", "stated": 1}, "not below 0"),
        ({"margin": 1.5, "ratios": True, "stated": 0.9}, "not above 1"),
        ({"margin": 1.5, "ratios": True, "stated": -2}, "positive numbers"),
        ({"stated": math.nan}, "finite"),
        ({"spread": (1, 2)}, "has to hold"),
        ({"stated": 3, "spread": (1, 2)}, "has to hold"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Rule(**({"claimed": "above", "margin": 1} | options))


# Size


def of(stated, **options):
    return Rule(**({"claimed": "above", "margin": 1.0} | options), stated=stated)


@pytest.mark.parametrize(
    ("ends", "rule", "word"),
    [
        ((4, 6), of(5), AGREES),
        ((3, 3.5), of(5), SMALLER),
        ((6.5, 7), of(5), LARGER),
        ((3, 4), of(5), AGREES),  # touches 5 - 1
        ((6, 7), of(5), AGREES),
        ((0.5, 10), of(5), AGREES),  # 9.5 wide, twice the claimed effect is 10
        ((0.5, 10.5), of(5), IMPRECISE),  # as wide as twice the claimed effect
        ((0.5, 20), of(5), IMPRECISE),
        ((7, 99), of(5), LARGER),  # the width counts only where the number is met
        ((0.1, 2), of(0.5), AGREES),  # 1.9 wide, twice the margin is 2
        ((0.1, 2.1), of(0.5), IMPRECISE),
        ((0.5, INF), of(5), IMPRECISE),
        ((-3.5, -3), of(-5, claimed="below"), SMALLER),
        ((-7, -6.5), of(-5, claimed="below"), LARGER),
        ((-6, -4), of(-5, claimed="below"), AGREES),
        # relative to another null value
        ((53, 53.5), of(55, null=50), SMALLER),
        ((50.5, 60), of(55, null=50), AGREES),
        ((50.5, 60.5), of(55, null=50), IMPRECISE),
        ((46.5, 47), of(45, null=50, claimed="below"), SMALLER),
        # the source's own spread, wider and narrower than the margin
        ((2, 3), of(5, spread=(3, 7)), AGREES),
        ((2, 2.9), of(5, spread=(3, 7)), SMALLER),
        ((7.1, 8), of(5, spread=(3, 7)), LARGER),
        ((3.9, 4), of(5, spread=(4.9, 5.1)), AGREES),
        # ratios
        ((1.34, 1.83), of(9, margin=1.25, ratios=True), SMALLER),
        ((7.3, 12), of(9, margin=1.25, ratios=True), AGREES),
        ((7, 7.2), of(9, margin=1.25, ratios=True), AGREES),
        ((12, 15), of(9, margin=1.25, ratios=True), LARGER),
        ((1.1, 89), of(9, margin=1.25, ratios=True), AGREES),  # a factor below 9^2 = 81
        ((1.1, 90), of(9, margin=1.25, ratios=True), IMPRECISE),
        ((0, 90), of(9, margin=1.25, ratios=True), IMPRECISE),
        ((0.5, 0.6), of(1 / 9, margin=1.25, ratios=True, claimed="below"), SMALLER),
        ((0.01, 0.02), of(1 / 9, margin=1.25, ratios=True, claimed="below"), LARGER),
        # equality
        ((-0.5, 0.5), of(0, claimed="equal"), AGREES),
        ((-1.2, 1.2), of(0, claimed="equal"), IMPRECISE),
        ((-0.9, -0.5), of(0.8, claimed="equal"), SMALLER),
        ((0.9, 1.1), of(1, claimed="equal", margin=1.25, ratios=True), AGREES),
    ],
)
def test_each_case_has_one_size(ends, rule, word):
    assert size(Interval(1, *ends, 10), rule) == word
    assert word in SIZES


def test_no_number_of_the_source_has_no_size():
    assert size(Interval(1, 0, 2, 10), ABOVE) is None


def test_only_the_same_direction_has_a_size():
    rule = of(5)
    for word in DIRECTIONS:
        found = Verdict(rule, Direction(word), Interval(3, 2.9, 3.1, 5)).size
        assert found == (SMALLER if word == SAME else None)


# Measures, parts, corrections


def verdict(word, p=1.0, part=""):
    return Verdict(ABOVE, Direction(word), Interval(2, 1, 3, 10), p, Scale(FULL), part)


@pytest.mark.parametrize(
    ("source", "others", "word"),
    [
        (SAME, [], SAME),
        (SAME, [SAME, UNDECIDED, NOT_RUN, NOT_TESTABLE], SAME),
        (SAME, [UNDECIDED, OPPOSITE], DEPENDS),
        (SAME, [NO_EFFECT, SAME], DEPENDS),
        (OPPOSITE, [SAME], OPPOSITE),
        (NO_EFFECT, [SAME], NO_EFFECT),
        (UNDECIDED, [SAME, OPPOSITE], UNDECIDED),
        (NOT_RUN, [SAME], NOT_RUN),
    ],
)
def test_other_measures_replace_the_same_direction_alone(source, others, word):
    by_measure = {f"measure {i}": Direction(o) for i, o in enumerate(others)}
    found = over_measures(verdict(source, 0.01), by_measure)
    assert found.direction.word == word
    assert replace(found, direction=Direction(source)) == verdict(source, 0.01)


def test_a_verdict_names_the_measures_that_differ():
    others = {"lambda_max": Direction(OPPOSITE), "adaptive": Direction(UNDECIDED)}
    found = over_measures(verdict(SAME), others | {"frozen": Direction(NO_EFFECT)})
    assert found.direction.detail == "lambda_max: opposite, frozen: no effect"
    assert found.line().startswith("depends on the measure (lambda_max: opposite, ")


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([SAME], SAME),
        ([SAME, SAME, SAME], SAME),
        ([SAME, UNDECIDED], UNDECIDED),
        ([SAME, NO_EFFECT, UNDECIDED], NO_EFFECT),
        ([SAME, SAME, OPPOSITE], OPPOSITE),
        ([NOT_RUN, NO_EFFECT, OPPOSITE, NOT_TESTABLE], OPPOSITE),
        ([NOT_RUN, NO_EFFECT], NO_EFFECT),
        ([DEPENDS, SAME, UNDECIDED], DEPENDS),
        ([NOT_RUN, SAME, UNDECIDED], NOT_RUN),
        ([NOT_RUN, NOT_TESTABLE], NOT_TESTABLE),
    ],
)
def test_all_parts_have_to_be_the_same_and_one_opposite_one_decides(parts, word):
    for order in permutations(parts):
        assert composite([verdict(part) for part in order]).direction.word == word


def test_a_composite_claim_is_the_same_only_where_every_part_is():
    for parts in product(DIRECTIONS, repeat=2):
        found = composite([verdict(part) for part in parts]).direction.word
        assert found in parts
        assert (found == SAME) == (set(parts) == {SAME})
        assert (found == OPPOSITE) == (OPPOSITE in parts)
    assert sorted(PRECEDENCE) == sorted(DIRECTIONS)


def test_a_claim_of_no_parts_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        composite([])


def test_a_composite_claim_is_as_sure_as_its_least_sure_part():
    parts = [verdict(SAME, 0.01, "B = 32"), verdict(SAME, 0.03, "B = 64")]
    assert composite(parts) == parts[1]
    assert composite(parts).line() == "same direction (B = 64): 2.00 [1.00, 3.00] · full"


def test_the_part_that_decides_against_a_claim_was_one_of_several_that_could():
    parts = [verdict(SAME, 0.001), verdict(OPPOSITE, 0.02, "a"), verdict(OPPOSITE, 0.01, "b")]
    found = composite(parts)
    assert (found.part, found.p) == ("b", pytest.approx(0.03))
    assert composite([verdict(SAME, 0.001), verdict(UNDECIDED, 0.6)]).p == 1
    missing = Verdict(ABOVE, not_run(3, 5), part="B = 32")
    assert composite([verdict(SAME), missing]).line() == "not run: B = 32: 3 of 5 seeds"


@pytest.mark.parametrize("word", DIRECTIONS)
def test_only_what_is_decided_can_be_undone_by_a_correction(word):
    found = verdict(word)
    assert after_correction(found, 0.0499) == found
    expected = verdict(UNDECIDED_AFTER) if word in DECIDED else found
    assert after_correction(found, ALPHA) == after_correction(found, 1.0) == expected


VALUES = {
    "an effect": [1.2, 1.5, 1.1, 2.0, 1.7],
    "a small effect": [0.21, 0.25, 0.22, 0.24, 0.23],
    "none": [0.02, -0.1, 0.05, -0.04, 0.03],
    "noise": [3.0, -2.0, 1.0, -4.0, 2.0],
    "a harm": [-2.2, -2.5, -2.1, -3.0, -2.7],
}


@pytest.mark.parametrize("rule", [ABOVE, BELOW, EQUAL])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_p_value_of_a_decided_direction_is_small_and_of_no_other(values, rule):
    estimate = student(values)
    word = direction(estimate, rule).word
    assert (p_value(estimate, rule) < ALPHA) == (word in DECIDED)


def test_p_values_are_below_five_hundredths_exactly_where_directions_are_decided():
    generator = np.random.default_rng(1)
    decided = []
    for _ in range(1000):
        estimate = student(generator.normal(generator.normal(0, 1.5), 0.7, 5))
        for rule in (ABOVE, BELOW, EQUAL):
            word = direction(estimate, rule).word
            assert (p_value(estimate, rule) < ALPHA) == (word in DECIDED)
            decided.append(word)
    assert {SAME, OPPOSITE, NO_EFFECT, UNDECIDED} == set(decided)


@pytest.mark.parametrize("kind", ["signs", "share", "permuted"])
def test_p_values_and_directions_agree_for_exact_tests_too(kind):
    generator, found = np.random.default_rng(0), set()
    rules = [Rule(c, 0.3, null=0.5 if kind == "share" else 0) for c in ("above", "below", "equal")]
    for _ in range(60):
        if kind == "signs":
            values = np.tanh(generator.normal(generator.normal(0, 0.5), 0.2, 8))
            estimate = Signs(tuple(values))
        elif kind == "share":
            estimate = Share(int(generator.integers(31)), 30)
        else:
            a = np.arange(5)
            estimate = permuted(a, generator.normal(0, 2) * a + generator.normal(0, 1, 5))
        for rule in rules:
            word = direction(estimate, rule).word
            assert (p_value(estimate, rule) < ALPHA - 1e-9) == (word in DECIDED)
            found.add(word)
    assert found >= {SAME, OPPOSITE, UNDECIDED}


def test_a_correction_over_claims_undoes_the_weaker_ones():
    values = [[1.0, 1.1, 1.2, 0.9, 1.05], [1.0, 3.0, 0.5, 2.4, 1.0]]
    found = [judge(student(v), ABOVE) for v in values]
    found += [Verdict(ABOVE, not_run(0, 5))] * 3
    assert [f.direction.word for f in found] == [SAME, SAME] + [NOT_RUN] * 3
    adjusted = holm([f.p for f in found])
    corrected = [after_correction(f, p) for f, p in zip(found, adjusted, strict=True)]
    words = [c.direction.word for c in corrected]
    assert words == [SAME, UNDECIDED_AFTER] + [NOT_RUN] * 3
    assert corrected[1].ours == found[1].ours  # printed intervals stay as they are


# Scale


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({}, Scale(FULL)),
        ({"updates": 0.9, "examples": 0.9, "width": 0.9}, Scale(FULL)),
        ({"examples": 54_000 / 60_000}, Scale(FULL)),
        ({"width": 2.0}, Scale(FULL)),
        ({"examples": 0.896}, Scale(REDUCED, "89.6 % of the images")),
        ({"examples": 0.89999}, Scale(REDUCED, "89.999 % of the images")),
        ({"examples": 0.1}, Scale(REDUCED, "10 % of the images")),
        ({"examples": 0.0999}, Scale(TOY, "9.99 % of the images")),
        ({"updates": 0.05}, Scale(TOY, "5 % of the updates")),
        ({"examples": 1 / 6, "width": 1 / 4}, Scale(REDUCED, "17 % of the images, width 1/4")),
        ({"width": 1 / 16}, Scale(TOY, "width 1/16")),
        ({"width": 0.83}, Scale(REDUCED, "width 83 %")),
        ({"data": "digits"}, Scale(TOY, "digits")),
        ({"data": "MNIST", "width": 0.5}, Scale(TOY, "MNIST, width 1/2")),
    ],
)
def test_each_case_has_one_scale(shares, expected):
    assert scale(Shares(**shares)) == expected
    assert expected.word in SCALES


def test_of_the_arms_that_are_compared_the_smallest_share_counts():
    whole, cut_off = Shares(), Shares(updates=0.5)
    assert scale(whole, cut_off) == scale(cut_off, whole) == Scale(REDUCED, "50 % of the updates")
    both = scale(cut_off, Shares(examples=0.05), examples="frames")
    assert both == Scale(TOY, "50 % of the updates, 5 % of the frames")


def test_times_are_those_of_other_hardware():
    assert scale(Shares(), timing=True) == Scale(OTHER_HARDWARE)
    assert scale(Shares(width=0.25), timing=True) == Scale(OTHER_HARDWARE, "width 1/4")


@pytest.mark.parametrize("share", [0, -1, math.nan])
@pytest.mark.parametrize("name", ["updates", "examples", "width"])
def test_a_share_of_nothing_is_refused(name, share):
    with pytest.raises(ValueError, match="above zero"):
        Shares(**{name: share})


# What a reader sees


RATIO = Rule("above", 1.25, ratios=True, stated=9)
PART = Scale(REDUCED, "17 % of the images, width 1/4")


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (
            Verdict(RATIO, Direction(SAME), Interval(1.57, 1.34, 1.83, 10), 0.01, PART),
            "same direction, smaller: 1.57 [1.34, 1.83] against 9"
            " · reduced (17 % of the images, width 1/4)",
        ),
        (
            Verdict(
                RATIO, Direction(OPPOSITE), Interval(0.494, 0.317, 0.771, 10), 0.01, Scale(FULL)
            ),
            "opposite direction: 0.494 [0.317, 0.771] against 9 · full",
        ),
        (
            Verdict(RATIO, Direction(UNDECIDED), Interval(1.67, 0.00203, 1370, 5)),
            "undecided: 1.67 [0.00203, 1,370] against 9",
        ),
        (
            Verdict(ABOVE, Direction(SAME), Interval(1.2, 0.4, 2, 10), 0.01, Scale(OTHER_HARDWARE)),
            "same direction: 1.20 [0.400, 2.00] · other hardware",
        ),
        (
            Verdict(ABOVE, Direction(NO_EFFECT, NEGLIGIBLE), Interval(0.2, 0.1, 0.3, 10)),
            "no effect (negligible): 0.200 [0.100, 0.300]",
        ),
        (
            Verdict(EQUAL, Direction(OPPOSITE, LOWER), Interval(-2, -2.5, -1.5, 10)),
            "opposite (lower): -2.00 [-2.50, -1.50]",
        ),
        (
            Verdict(EQUAL, Direction(SAME), Interval(0, -0.5, 0.5, 10), 0.01, Scale(TOY, "digits")),
            "same: 0 [-0.500, 0.500] · toy (digits)",
        ),
        (
            Verdict(RATIO, Direction(DEPENDS), Interval(9, 8, 10, 10), 0.01, Scale(FULL)),
            "depends on the measure: 9.00 [8.00, 10.0] against 9 · full",
        ),
        (
            Verdict(ABOVE, Direction(UNDECIDED_AFTER), Interval(2, 1, 3, 10)),
            "undecided after correction: 2.00 [1.00, 3.00]",
        ),
        (
            Verdict(RATIO, not_run(3, 10, "`bsg compute a`, about 2 h"), scale=Scale(FULL)),
            "not run: 3 of 10 seeds; `bsg compute a`, about 2 h",
        ),
        (Verdict(RATIO, not_run(0, 5, of="repeats")), "not run: 0 of 5 repeats"),
        (
            Verdict(RATIO, not_testable("training accuracy 41 %, 75 % needed")),
            "not testable: training accuracy 41 %, 75 % needed",
        ),
    ],
)
def test_the_line_of_a_verdict(verdict, line):
    assert verdict.line() == line


def test_the_source_s_number_is_shown_as_printed():
    verdict = Verdict(RATIO, Direction(SAME), Interval(9, 8, 10, 10))
    assert "against about nine" in verdict.line("about nine")
    large = Verdict(replace(RATIO, stated=1234.5), Direction(SAME), Interval(9, 8, 10, 10))
    assert large.line().endswith("against 1,234")


@pytest.mark.parametrize(
    ("value", "borders", "text"),
    [
        (1.57, (), "1.57"),
        (1.0, (), "1.00"),
        (99.96, (), "100"),
        (9.996, (), "10.0"),
        (1370.4, (), "1,370"),
        (1234567.0, (), "1,234,567"),
        (0.00203, (), "0.00203"),
        (1.2e-6, (), "0.00000120"),
        (0.0, (), "0"),
        (-0.0, (), "0"),
        (-1e-17, (), "0"),
        (-2.5, (), "-2.50"),
        (INF, (), "∞"),
        (-INF, (1.0,), "-∞"),
        (0.9996, (1.0,), "0.9996"),
        (1.0004, (1.0,), "1.0004"),
        (1.00000001, (1.0,), "1.00000"),  # six digits at most
        (1.0, (1.0,), "1.00"),
        (0.9996, (2.0,), "1.00"),
    ],
)
def test_the_text_of_a_number(value, borders, text):
    assert number_text(value, *borders) == text


# Estimates of all kinds


def test_an_estimate_becomes_a_verdict():
    found = judge(student([1.5, 1.6, 1.4, 1.7, 1.65], ratios=True), RATIO, PART)
    assert (found.direction.word, found.size, found.scale) == (SAME, SMALLER, PART)
    assert found.line().startswith("same direction, smaller: 1.57 [")


@pytest.mark.parametrize("n", [1, 2, 4])
def test_too_few_seeds_are_not_run(n):
    found = judge(student([1.5, 1.6, 1.4, 1.7][:n]), ABOVE, PART, remedy="bsg compute a, 2 h")
    assert found.line() == f"not run: {n} of 5 seeds; bsg compute a, 2 h"
    assert found.size is None


def test_one_value_decides_nothing():
    one = student([5.0])
    assert {direction(one, rule).word for rule in (ABOVE, BELOW, EQUAL)} == {UNDECIDED}
    ratio = student([5.0], ratios=True)
    assert {direction(ratio, rule).word for rule in (UP, DOWN, ALIKE)} == {UNDECIDED}
    assert p_value(one, ABOVE) == 1


def test_a_primary_claim_needs_ten_seeds():
    nine = student([1.0, 1.1, 1.2] * 3)
    assert judge(nine, ABOVE, needed=PRIMARY_SEEDS).direction.detail == "9 of 10 seeds"
    assert judge(nine, ABOVE).direction.word == SAME


def test_signs_decide_from_six_seeds():
    rule = Rule("above", 0.05)
    assert direction(Signs((0.6, 0.4, 0.8, 0.5, 0.9)), rule).word == UNDECIDED
    six = judge(Signs((0.6, 0.4, 0.8, 0.5, 0.9, 0.2)), rule, needed=RANK_SEEDS)
    assert six.direction.word == SAME
    assert direction(Signs((0.6, 0.4, 0.8, 0.5, 0.9, -0.2)), rule).word == UNDECIDED


def test_shares_decide_from_six_seeds_too():
    rule = Rule("above", 0.1, null=0.5)
    assert [direction(Share(n, n), rule).word for n in (5, 6)] == [UNDECIDED, SAME]
    assert direction(Share(0, 6), rule).word == OPPOSITE


def test_an_order_of_configurations_decides_where_few_permutations_are_like_it():
    rule = Rule("above", 0.05)
    distances = np.linspace(0, 1, 100)
    assert direction(Permuted(0.99, distances, 6), rule).word == SAME
    assert direction(Permuted(-0.99, distances, 6), rule).word == OPPOSITE
    assert direction(Permuted(0.5, distances, 6), rule).word == UNDECIDED
