"""Tests of bsglib.stats."""

import math

import numpy as np
import pytest

from bsglib.stats import interval

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


def test_equal_values_have_an_interval_of_no_width():
    found = interval([3.0, 3.0, 3.0])
    assert (found.low, found.mean, found.high) == (3.0, 3.0, 3.0)


def test_ratios_and_their_reciprocals_count_alike():
    found, inverse = interval([2, 3, 7], ratios=True), interval([1 / 2, 1 / 3, 1 / 7], ratios=True)
    assert found.mean == pytest.approx(42 ** (1 / 3), rel=1e-14)
    mirrored = (1 / inverse.mean, 1 / inverse.high, 1 / inverse.low)
    assert (found.mean, found.low, found.high) == pytest.approx(mirrored, rel=1e-14)


def test_a_higher_level_is_a_wider_interval():
    narrow, wide = (interval([1, 2, 4], level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(5, 2, (4000, 4))
    hits = [found.low <= 5 <= found.high for found in map(interval, draws)]
    assert abs(np.mean(hits) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize(
    ("values", "ratios"),
    [([], False), ([1, math.nan], False), ([1, math.inf], False), ([1, 0], True), ([1, -1], True)],
)
def test_values_that_have_no_mean_are_refused(values, ratios):
    with pytest.raises(ValueError, match="needed one finite"):
        interval(values, ratios=ratios)
