"""Tests of bsglib.stats."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from scipy.stats import kendalltau

from bsglib.stats import (
    Interval,
    Median,
    Share,
    Signs,
    censored_median,
    false_discovery,
    grouped_kendall,
    holm,
    interval,
    kendall,
    one_varies,
    permuted,
    power_law,
    student,
    with_test_set,
)

T_975 = {1: 12.706204736, 2: 4.302652730, 4: 2.776445105}  # printed tables of Student's t


@pytest.mark.parametrize("values", [(1.0, 3.0), (1.0, 2.0, 6.0), (1.0, 2.0, 3.0, 4.0, 10.0)])
def test_the_interval_is_the_mean_plus_minus_t_standard_errors(values):
    n, mean = len(values), sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    half = T_975[n - 1] * deviation / math.sqrt(n)
    found = interval(values)
    assert found.n == n
    assert found.mean == pytest.approx(mean, rel=1e-14)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-8)


def test_one_value_has_an_infinite_interval():
    assert interval([2.0]) == interval((2.0,))
    assert (interval([2.0]).low, interval([2.0]).high) == (-math.inf, math.inf)
    ratio = interval([2.0], ratios=True)
    assert (ratio.mean, ratio.low, ratio.high) == (pytest.approx(2.0), 0.0, math.inf)


def test_ratios_and_their_reciprocals_count_alike():
    found, inverse = interval([2, 3, 7], ratios=True), interval([1 / 2, 1 / 3, 1 / 7], ratios=True)
    assert found.mean == pytest.approx(42 ** (1 / 3), rel=1e-14)
    mirrored = (1 / inverse.mean, 1 / inverse.high, 1 / inverse.low)
    assert (found.mean, found.low, found.high) == pytest.approx(mirrored, rel=1e-14)


@pytest.mark.parametrize(
    ("values", "ratios"),
    [([], False), ([1, math.nan], False), ([1, math.inf], False), ([1, 0], True), ([1, -1], True)],
)
def test_values_that_have_no_mean_are_refused(values, ratios):
    with pytest.raises(ValueError, match="needed one finite"):
        interval(values, ratios=ratios)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([3, 1, 2], Median(2, 1, 3, 3, 3)),
        ([3, None, 2], Median(3, 2, math.inf, 3, 2)),
        ([None, 1, None], Median(math.inf, 1, math.inf, 3, 1)),
        ([4, 1, 2, 3], Median(3, 1, 4, 4, 4)),
    ],
)
def test_a_time_that_was_not_reached_counts_as_the_longest(times, expected):
    assert censored_median(times) == expected


# Rank correlation


def test_kendall_is_that_of_scipy_where_nothing_is_tied():
    generator = np.random.default_rng(0)
    for n in (2, 3, 10, 50):
        a, b = generator.standard_normal((2, n))
        assert kendall(a, b) == pytest.approx(kendalltau(a, b).statistic, abs=1e-14)


def test_a_tie_counts_as_zero():
    assert kendall([1, 2, 3], [5, 5, 5]) == 0
    assert kendall([1, 2, 3], [1, 2, 2]) == pytest.approx(2 / 3)  # one of three pairs is tied
    assert kendall([1, 1, 2, 2], [1, 2, 3, 4]) == pytest.approx(4 / 6)
    assert kendall([1, 1, 2, 2], [1, 1, 2, 2]) == pytest.approx(4 / 6)  # not even with itself


GRID = {"batch_size": [1, 1, 1, 2, 2, 2], "lr": [1, 2, 3, 1, 2, 3]}


# Estimates


@pytest.mark.parametrize("null", [-1.0, 0.0, 0.4, 2.0])
def test_the_two_sided_p_value_is_scipy_s(null):
    values = np.random.default_rng(0).normal(0.5, 1, 7)
    expected = scipy.stats.ttest_1samp(values, null).pvalue
    assert student(values).p_differs(null) == pytest.approx(expected, rel=1e-10)
    ratios = student(np.exp(values), ratios=True)
    assert ratios.p_differs(math.exp(null)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("low", "high"), [(-1, 1.5), (2, 3), (-3, -2)])
def test_the_p_value_of_two_one_sided_tests_is_the_larger_of_scipy_s(low, high):
    values = np.random.default_rng(0).normal(0.5, 1, 7)
    sides = zip((low, high), ("greater", "less"), strict=True)
    tests = (scipy.stats.ttest_1samp(values, end, alternative=side) for end, side in sides)
    expected = max(test.pvalue for test in tests)
    assert student(values).p_within(low, high) == pytest.approx(expected, rel=1e-10)
    ratios = student(np.exp(values), ratios=True)
    assert ratios.p_within(math.exp(low), math.exp(high)) == pytest.approx(expected, rel=1e-10)


def test_equal_values_leave_no_doubt_and_one_value_all_of_it():
    sure, one = student([2.0, 2.0]), student([2.0])
    assert (sure.p_differs(0), sure.p_differs(2), sure.p_within(1, 3)) == (0, 1, 0)
    assert (sure.p_within(0, 1), sure.p_within(0, 2)) == (1, 0.5)
    assert one.interval() == interval([2.0])
    assert (one.p_differs(0), one.p_within(1, 3)) == (1, 0.5)
    assert student([2.0], ratios=True).interval(0.9).low == 0


# A mean over seeds and test examples


def test_its_square_is_clark_s_min_f():
    """Clark 1973: F1 F2 / (F1 + F2), with (F1 + F2)^2 / (F1^2 / n2 + F2^2 / n1) degrees."""
    each = np.random.default_rng(0).normal(0.3, 1, (6, 1)) + np.random.default_rng(1).normal(
        0, 2, (6, 40)
    )
    values, examples = each.mean(axis=1), each.mean(axis=0)
    f1, f2 = (scipy.stats.ttest_1samp(x, 0).statistic ** 2 for x in (values, examples))
    found = with_test_set(values, examples)
    assert (found.centre / found.error) ** 2 == pytest.approx(f1 * f2 / (f1 + f2), rel=1e-10)
    assert found.freedom == pytest.approx((f1 + f2) ** 2 / (f1**2 / 39 + f2**2 / 5), rel=1e-10)


@pytest.mark.parametrize("examples", [[], [1.0], [1.0, math.nan]])
def test_a_test_set_without_a_variance_is_refused(examples):
    with pytest.raises(ValueError):
        with_test_set([1.0, 2.0], examples)


# Shares of seeds


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 5), (5, 5), (6, 6), (7, 10)])
def test_a_share_is_judged_by_its_exact_interval(hits, n):
    found = Share(hits, n)
    for level in (0.9, 0.95):
        ends, test = found.interval(level), scipy.stats.binomtest(hits, n)
        expected = test.proportion_ci(level, method="exact")
        assert (ends.low, ends.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert (ends.mean, ends.n) == (hits / n, n)


@pytest.mark.parametrize("null", [0.3, 0.5])
@pytest.mark.parametrize("hits", range(7))
def test_the_p_value_of_a_share_is_twice_the_smaller_tail(hits, null):
    tails = [
        scipy.stats.binomtest(hits, 6, null, alternative=a).pvalue for a in ("less", "greater")
    ]
    assert Share(hits, 6).p_differs(null) == pytest.approx(min(1, 2 * min(tails)), abs=1e-9)


# Rank correlations over seeds


@pytest.mark.parametrize("n", [1, 5, 6, 9])
def test_signs_are_judged_by_the_sign_test(n):
    values = np.random.default_rng(n).permutation(np.linspace(-0.15, 0.9, n))
    positive = int((values > 0).sum())
    expected = scipy.stats.binomtest(positive, n, 0.5).pvalue
    assert Signs(tuple(values)).p_differs(0) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [6, 7, 11, 24])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_of_signs_is_scipy_s_of_the_median(n, level):
    values = np.random.default_rng(n).uniform(-1, 1, n)
    expected = scipy.stats.quantile_test(values, q=0, p=0.5).confidence_interval(level)
    found = Signs(tuple(values)).interval(level)
    assert (found.low, found.high) == tuple(expected)


def test_fewer_than_six_signs_exclude_nothing_at_95_per_cent():
    assert Signs((0.6,) * 5).interval() == Interval(0.6, -1, 1, 5)
    assert Signs((0.6, 0.7, 0.8, 0.9, 1.0)).interval(0.9) == Interval(0.8, 0.6, 1, 5)
    assert Signs((2.0, 3.0), bounds=(0, math.inf)).interval() == Interval(2.5, 0, math.inf, 2)
    assert Signs((0.1, 0.2, 0.3, 0.4, 0.5, 0.6)).interval().low == 0.1


@pytest.mark.parametrize("values", [(), (1.1, 0.5), (math.nan,)])
def test_values_that_are_no_rank_correlations_are_refused(values):
    with pytest.raises(ValueError, match="from -1 to 1"):
        Signs(values)


# Rank correlations over configurations


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_the_permutation_test_is_kendall_s_exact_test(n):
    a, b = np.random.default_rng(n).standard_normal((2, n))
    found, expected = permuted(a, b), kendalltau(a, b, method="exact")
    assert found.correlation == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_differs(0) == pytest.approx(expected.pvalue, abs=1e-12)
    assert found.interval().n == n


def test_groups_count_by_their_size_and_are_permuted_within():
    a = np.array([1, 2, 3, 4, 5, 6.0])
    b = np.array([1, 2, 3, 4, 9, 8.0])
    groups = [[0, 1, 2, 3], [4, 5]]
    assert grouped_kendall(a, b, groups) == pytest.approx((4 * 1 + 2 * -1) / 6)
    distances = [
        abs(4 * kendall(a[:4], b[list(first)]) + 2 * kendall(a[4:], b[list(second)])) / 6
        for first in itertools.permutations(range(4))
        for second in itertools.permutations((4, 5))
    ]
    found = permuted(a, b, groups)
    assert found.correlation == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.distances, np.sort(distances), atol=1e-12)
    assert found.p_differs(0) == pytest.approx(np.mean(np.array(distances) > 1 / 3 - 1e-9))


def test_configurations_change_places_with_all_that_groups_join():
    a, b = np.random.default_rng(0).standard_normal((2, 6))
    both = [group for axis in GRID for group in one_varies(GRID, axis)]
    assert both == [[0, 3], [1, 4], [2, 5], [0, 1, 2], [3, 4, 5]]
    found = permuted(a, b, both)
    assert len(found.distances) == math.factorial(6)
    orders = np.array(list(itertools.permutations(range(6))))
    expected = np.abs(grouped_kendall(np.tile(a, (720, 1)), b[orders], both))
    np.testing.assert_allclose(found.distances, np.sort(expected), atol=1e-12)
    alone = permuted(a, b, both[3:])
    assert len(alone.distances) == math.factorial(3) ** 2
    left_out = permuted(a, b, [[0, 1, 2], [4]])  # one configuration has no order
    assert (len(left_out.distances), left_out.n) == (6, 3)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_of_a_permuted_correlation_is_possible_and_agrees_with_the_test(level):
    generator, excluded = np.random.default_rng(0), []
    for _ in range(200):
        a = generator.standard_normal(6)
        found = permuted(a, 2 * a + generator.normal(0, 2, 6))
        ends = found.interval(level)
        assert -1 <= ends.low < ends.high <= 1
        assert ends.low <= ends.mean <= ends.high
        excluded.append(ends.low > 0 or ends.high < 0)
        assert excluded[-1] == (found.p_differs(0) < 1 - level - 1e-9)
    assert 0 < sum(excluded) < 200


def test_too_few_configurations_exclude_nothing():
    assert permuted([1, 2, 3], [1, 2, 3]).interval() == Interval(1, -1, 1, 3)
    assert permuted(range(5), range(5)).interval().low > 0


def test_values_that_are_not_compared_are_refused():
    with pytest.raises(ValueError, match="same number"):
        permuted([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="no two of them"):
        permuted([1], [1])


# Many claims


def test_holm_s_adjusted_p_values():
    # 4 x .01, 3 x .02, then 2 x .03 and 1 x .05 do not fall below those before
    assert holm([0.03, 0.01, 0.05, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.2, 0.9, 0.4]) == pytest.approx([0.6, 0.9, 0.8])
    assert holm([0.5, 0.6]) == pytest.approx([1, 1])
    assert holm([0.03]) == [0.03] and holm([]).shape == (0,)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_a_p_value_that_is_none_is_refused(p):
    for adjusted in (holm, false_discovery):
        with pytest.raises(ValueError):
            adjusted([0.1, p])


def test_the_false_discovery_q_is_benjamini_and_hochberg_s():
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.5])
    # sorted .005 .01 .03 .04 .5 times 5 / rank: .025 .025 .05 .05 .5
    assert false_discovery(p) == pytest.approx([0.025, 0.05, 0.05, 0.025, 0.5])


# Regression


def test_a_power_law_without_noise_has_its_exponents():
    generator = np.random.default_rng(0)
    x = {name: generator.uniform(1, 9, 12) for name in ("batch size", "rate", "loss")}
    y = 7 * x["batch size"] ** 0.5 * x["rate"] ** -2 * x["loss"] ** 0.25
    found = power_law(y, x)
    assert [found[name].centre for name in x] == pytest.approx([0.5, -2, 0.25], abs=1e-10)
    assert {e.freedom for e in found.values()} == {12 - 4} and found["rate"].n == 12


def test_one_exponent_is_linregress():
    generator = np.random.default_rng(0)
    x = generator.uniform(1, 9, 12)
    y = x**0.5 * np.exp(generator.normal(0, 0.3, 12))
    expected = scipy.stats.linregress(np.log(x), np.log(y))
    found = power_law(y, {"x": x})["x"]
    assert (found.centre, found.error) == pytest.approx((expected.slope, expected.stderr))
    assert found.p_differs(0) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("y", "x", "message"),
    [
        ([1, 2, 3, 4], {"a": [1, 2, 3, 4], "b": [1, 4, 9, 16]}, "a, b apart"),
        ([1, 2, 3, 4], {"a": [2, 2, 2, 2]}, "a apart"),
        ([1, 2, 0], {"a": [1, 2, 3]}, "positive"),
    ],
)
def test_a_power_law_that_runs_cannot_give_is_refused(y, x, message):
    with pytest.raises(ValueError, match=message):
        power_law(y, x)
