"""Tests of bsglib.stats."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from bsglib.stats import (
    Interval,
    Median,
    bootstrap,
    censored_median,
    granulated_kendall,
    interval,
    kendall,
    share,
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


# Shares and censored times


@pytest.mark.parametrize(("hits", "n"), [(0, 6), (1, 3), (3, 6), (6, 6), (81, 263)])
def test_the_interval_of_a_share_solves_wilsons_equation(hits, n):
    """Its ends are the p whose distance from hits / n is z of p's own standard errors."""
    found, z = share(hits, n), 1.959963985
    assert (found.mean, found.n) == (hits / n, n)
    for p in (found.low, found.high):
        assert abs(hits / n - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n), abs=1e-8)
    assert 0 <= found.low <= found.mean <= found.high <= 1


def test_hits_and_misses_count_alike():
    hits, misses = share(2, 7), share(5, 7)
    assert (hits.low, hits.high) == pytest.approx((1 - misses.high, 1 - misses.low), rel=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_shares_of_nothing_are_refused(hits, n):
    with pytest.raises(ValueError, match=f"hits = {hits}, n = {n}"):
        share(hits, n)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([3, 1, 2], Median(2, 1, 3, 3, 3)),
        ([3, None, 2], Median(3, 2, math.inf, 3, 2)),
        ([None, 1, None], Median(math.inf, 1, math.inf, 3, 1)),
        ([None], Median(math.inf, math.inf, math.inf, 1, 0)),
        ([4, 1, 2, 3], Median(3, 1, 4, 4, 4)),
        ([1, None], Median(math.inf, 1, math.inf, 2, 1)),
    ],
)
def test_a_time_that_was_not_reached_counts_as_the_longest(times, expected):
    assert censored_median(times) == expected


def test_leaving_out_censored_times_would_give_a_shorter_median():
    times = [2.0, 9.0, 4.0, None, None]
    assert censored_median(times).median == 9 > censored_median([2.0, 9.0, 4.0]).median


def test_a_median_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        censored_median([])


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


def test_kendall_takes_leading_dimensions_one_row_each():
    a, b = np.random.default_rng(1).standard_normal((2, 4, 3, 6))
    found = kendall(a, b)
    assert found.shape == (4, 3)
    assert [kendall(*rows) for rows in zip(a[2], b[2], strict=True)] == found[2].tolist()


def test_kendall_changes_sign_with_the_order_and_not_with_an_increasing_function():
    a, b = np.random.default_rng(2).standard_normal((2, 9))
    assert kendall(a, b) == kendall(np.exp(a), b**3) == -kendall(a, -b) == kendall(b, a)
    assert kendall(a, a) == 1


GRID = {"batch_size": [1, 1, 1, 2, 2, 2], "lr": [1, 2, 3, 1, 2, 3]}


def test_a_hyperparameter_that_drives_both_fools_the_plain_correlation_only():
    a = np.array([1, 2, 3, 11, 12, 13])  # grows with both
    b = np.array([3, 2, 1, 13, 12, 11])  # grows with the batch size, falls with the rate
    assert kendall(a, b) == pytest.approx((9 - 6) / 15)  # across batch sizes all nine pairs agree
    # along the batch size three pairs agree (+1), along the rate two groups are reversed (-1)
    assert granulated_kendall(a, b, GRID) == 0
    assert granulated_kendall(a, -b, GRID) == 0
    assert granulated_kendall(a, b, GRID, along=["batch_size"]) == 1
    assert granulated_kendall(a, b, GRID, along=["lr"]) == -1
    assert granulated_kendall(a, b, GRID, along=["lr", "batch_size"]) == 0
    assert granulated_kendall(a[:3], b[:3], {"lr": [1, 2, 3]}) == -1


def test_groups_are_averaged_within_a_hyperparameter_before_hyperparameters_are():
    a = np.arange(6)
    b = np.array([0, 1, 2, 3, 5, 4])
    # batch size: three groups of two, all +1; rate: one group +1, one (2 - 1) / 3
    assert granulated_kendall(a, b, GRID) == pytest.approx((1 + (1 + 1 / 3) / 2) / 2)


def test_groups_of_one_configuration_are_skipped():
    axes = {"batch_size": [1, 1, 1, 2, 3], "lr": [1, 2, 3, 2, 2]}  # a cross, not a grid
    a, b = np.arange(5), np.array([1, 2, 3, 1, 0])
    # rate: the three of batch size 1, +1; batch size: those of rate 2, with b = 2, 1, 0, -1
    assert granulated_kendall(a, b, axes) == 0
    assert granulated_kendall(a[:3], b[:3], {n: v[:3] for n, v in axes.items()}) == 1


def test_the_granulated_correlation_takes_leading_dimensions_and_any_order_of_configurations():
    a, b = np.random.default_rng(3).standard_normal((2, 5, 6))
    found = granulated_kendall(a, b, GRID)
    assert found.tolist() == [granulated_kendall(*rows, GRID) for rows in zip(a, b, strict=True)]
    order = [4, 0, 3, 5, 1, 2]
    shuffled = {name: [values[i] for i in order] for name, values in GRID.items()}
    np.testing.assert_allclose(granulated_kendall(a[:, order], b[:, order], shuffled), found)


def test_a_hyperparameter_that_the_grid_has_not_is_refused():
    with pytest.raises(ValueError, match="along = 'rate': allowed are batch_size, lr"):
        granulated_kendall(np.arange(6), np.arange(6), GRID, along=["rate"])


def test_a_grid_in_which_nothing_varies_alone_is_refused():
    with pytest.raises(ValueError, match="batch_size, lr: no two configurations"):
        granulated_kendall(np.arange(3), np.arange(3), {"batch_size": [1, 2, 3], "lr": [1, 2, 3]})


# Bootstrap


def average(means):
    return means.mean(axis=-1)


def test_equal_seeds_have_a_bootstrap_interval_of_no_width():
    found = bootstrap(average, np.array([[2.0] * 4, [5.0] * 4]))
    assert found == Interval(3.5, 3.5, 3.5, 4)


def test_the_bootstrap_is_centred_on_the_statistic_of_the_means():
    samples = np.random.default_rng(0).standard_normal((2, 6, 5))
    found = bootstrap(lambda a, b: granulated_kendall(a, b, GRID), *samples)
    exact = granulated_kendall(*samples.mean(axis=2), GRID)
    assert found.mean == exact
    assert found.low <= found.mean <= found.high
    assert (found.low, found.high) != (-1, 1)
    assert found.n == 5


def test_the_bootstrap_is_the_same_again_and_another_with_another_seed():
    sample = np.random.default_rng(0).standard_normal((3, 5))
    one, same, other = (bootstrap(average, sample, seed=s) for s in (1, 1, 2))
    assert one == same
    assert one.mean == other.mean
    assert (one.low, one.high) != (other.low, other.high)


def test_all_samples_get_the_same_draws():
    sample = np.random.default_rng(0).standard_normal((3, 5))
    found = bootstrap(lambda a, b: np.abs(b - 2 * a).max(axis=-1), sample, 2 * sample)
    assert (found.low, found.high) == (0, 0)


def test_configurations_are_drawn_independently_of_each_other():
    sample = np.random.default_rng(0).standard_normal((1, 5)).repeat(2, axis=0)
    found = bootstrap(lambda means: means[..., 0] - means[..., 1], sample)
    assert found.low < 0 < found.high


def test_the_bootstrap_spreads_as_the_mean_of_draws_does():
    sample = np.random.default_rng(0).standard_normal((1, 40))
    found = bootstrap(average, sample, level=0.9, replicates=20_000)
    half = 1.6449 * sample.std() / math.sqrt(40)  # of the mean of 40 draws from 40 values
    assert (found.low, found.high) == pytest.approx(
        (found.mean - half, found.mean + half), abs=0.02
    )


@pytest.mark.parametrize("seeds", [40, 3])
def test_the_bootstrap_covers_the_true_mean_about_as_often_as_it_says(seeds):
    draws, repeats, covered = np.random.default_rng(0), 400, 0.95
    hits = 0
    for _ in range(repeats):
        found = bootstrap(average, draws.normal(5, 2, (8, seeds)), replicates=400)
        hits += found.low <= 5 <= found.high
    assert abs(hits / repeats - covered) < 0.015 + 3 * math.sqrt(covered * (1 - covered) / repeats)
