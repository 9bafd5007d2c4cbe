"""Tests of bsglib.verdicts."""

import math
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import pytest

from bsglib.stats import Estimate, Interval, Share, Signs, permuted, student
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
    ((0.1, 1.1), (0.2, 0.9), NO_EFFECT, NO_EFFECT, SAME),  # the 90 % interval decides
    ((-0.5, 2), (-0.3, 1.8), UNDECIDED, UNDECIDED, UNDECIDED),
    ((-0.1, 2), (0.1, 1.8), UNDECIDED, UNDECIDED, UNDECIDED),  # the 95 % interval decides
    # on the borders
    ((0, 2), (0.1, 1.9), UNDECIDED, UNDECIDED, UNDECIDED),
    ((-0.2, 1.1), (-0.1, 1), UNDECIDED, UNDECIDED, UNDECIDED),
    ((0.1, 1.1), (0.2, 1), SAME, OPPOSITE, UNDECIDED),
    ((1, 3), (1.2, 2.8), SAME, OPPOSITE, UNDECIDED),
    # of no width, and of no end
    ((0, 0), (0, 0), NO_EFFECT, NO_EFFECT, SAME),
    ((1, 1), (1, 1), SAME, OPPOSITE, UNDECIDED),
    ((-INF, INF), (-INF, INF), UNDECIDED, UNDECIDED, UNDECIDED),
    ((0.5, INF), (0.6, INF), SAME, OPPOSITE, UNDECIDED),
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
            words[rule.claimed].add(word)
            there = direction(given.swapped(ratios), replace(rule, null=other))
            if rule.claimed == "equal":
                assert there.word == word
                assert {there.detail, found.detail} in ({""}, {HIGHER, LOWER})
            else:
                assert there.word == swap.get(word, word)
        assert (direction(given, equal).word == SAME) == (direction(given, above).word == NO_EFFECT)
    assert words["above"] == words["below"] == {SAME, OPPOSITE, NO_EFFECT, UNDECIDED}
    assert words["equal"] == {SAME, OPPOSITE, UNDECIDED}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"claimed": "more"}, "allowed are above, below, equal"),
        ({"margin": 0}, "above 0"),
        ({"margin": 1, "ratios": True}, "above 1"),
        ({"margin": 1.5, "ratios": True, "null": 0}, "positive numbers"),
        ({"stated": -1}, "not above 0"),
        ({"claimed": "below", "stated": 1}, "not below 0"),
        ({"margin": 1.5, "ratios": True, "stated": 0.9}, "not above 1"),
        ({"stated": math.nan}, "finite"),
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
        ((0.5, 10), of(5), AGREES),  # 9.5 wide, twice the claimed effect is 10
        ((0.5, 10.5), of(5), IMPRECISE),  # as wide as twice the claimed effect
        ((0.1, 2.1), of(0.5), IMPRECISE),
        ((-3.5, -3), of(-5, claimed="below"), SMALLER),
        # relative to another null value
        ((53, 53.5), of(55, null=50), SMALLER),
        # the source's own spread, wider and narrower than the margin
        ((2, 2.9), of(5, spread=(3, 7)), SMALLER),
        ((3.9, 4), of(5, spread=(4.9, 5.1)), AGREES),
        # ratios
        ((1.34, 1.83), of(9, margin=1.25, ratios=True), SMALLER),
        ((7.3, 12), of(9, margin=1.25, ratios=True), AGREES),
        ((1.1, 89), of(9, margin=1.25, ratios=True), AGREES),  # a factor below 9^2 = 81
        ((1.1, 90), of(9, margin=1.25, ratios=True), IMPRECISE),
        # equality
        ((-0.5, 0.5), of(0, claimed="equal"), AGREES),
        ((-1.2, 1.2), of(0, claimed="equal"), IMPRECISE),
    ],
)
def test_each_case_has_one_size(ends, rule, word):
    assert size(Interval(1, *ends, 10), rule) == word
    assert word in SIZES


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
        (OPPOSITE, [SAME], OPPOSITE),
        (NO_EFFECT, [SAME], NO_EFFECT),
    ],
)
def test_other_measures_replace_the_same_direction_alone(source, others, word):
    by_measure = {f"measure {i}": Direction(o) for i, o in enumerate(others)}
    found = over_measures(verdict(source, 0.01), by_measure)
    assert found.direction.word == word
    assert replace(found, direction=Direction(source)) == verdict(source, 0.01)


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([SAME], SAME),
        ([SAME, NO_EFFECT, UNDECIDED], NO_EFFECT),
        ([SAME, SAME, OPPOSITE], OPPOSITE),
        ([NOT_RUN, NO_EFFECT, OPPOSITE, NOT_TESTABLE], OPPOSITE),
        ([DEPENDS, SAME, UNDECIDED], DEPENDS),
        ([NOT_RUN, SAME, UNDECIDED], NOT_RUN),
        ([NOT_RUN, NOT_TESTABLE], NOT_TESTABLE),
    ],
)
def test_all_parts_have_to_be_the_same_and_one_opposite_one_decides(parts, word):
    for order in permutations(parts):
        assert composite([verdict(part) for part in order]).direction.word == word


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


@pytest.mark.parametrize("kind", ["mean", "signs", "share", "permuted"])
def test_p_values_are_below_five_hundredths_exactly_where_directions_are_decided(kind):
    generator, found = np.random.default_rng(0), set()
    rules = [Rule(c, 0.3, null=0.5 if kind == "share" else 0) for c in ("above", "below", "equal")]
    for _ in range(60):
        if kind == "mean":
            estimate = student(generator.normal(generator.normal(0, 0.5), 0.2, 5))
        elif kind == "signs":
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


# Scale


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({}, Scale(FULL)),
        ({"examples": 54_000 / 60_000}, Scale(FULL)),
        ({"examples": 0.89999}, Scale(REDUCED, "89.999 % of the images")),
        ({"examples": 0.1}, Scale(REDUCED, "10 % of the images")),
        ({"examples": 0.0999}, Scale(TOY, "9.99 % of the images")),
        ({"examples": 1 / 6, "width": 1 / 4}, Scale(REDUCED, "17 % of the images, width 1/4")),
        ({"width": 0.83}, Scale(REDUCED, "width 83 %")),
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


@pytest.mark.parametrize("share", [0, math.nan])
def test_a_share_of_nothing_is_refused(share):
    with pytest.raises(ValueError, match="above zero"):
        Shares(updates=share)


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
            Verdict(EQUAL, Direction(SAME), Interval(0, -0.5, 0.5, 10), 0.01, Scale(TOY, "digits")),
            "same: 0 [-0.500, 0.500] · toy (digits)",
        ),
        (
            Verdict(RATIO, not_run(3, 10, "`bsg compute a`, about 2 h"), scale=Scale(FULL)),
            "not run: 3 of 10 seeds; `bsg compute a`, about 2 h",
        ),
        (
            Verdict(RATIO, not_testable("training accuracy 41 %, 75 % needed")),
            "not testable: training accuracy 41 %, 75 % needed",
        ),
    ],
)
def test_the_line_of_a_verdict(verdict, line):
    assert verdict.line() == line


# Estimates of all kinds


@pytest.mark.parametrize("n", [1, 2, 4])
def test_too_few_seeds_are_not_run(n):
    found = judge(student([1.5, 1.6, 1.4, 1.7][:n]), ABOVE, PART, remedy="bsg compute a, 2 h")
    assert found.line() == f"not run: {n} of 5 seeds; bsg compute a, 2 h"
    assert found.size is None
