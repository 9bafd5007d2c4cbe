"""Tests of bsglib.schedules."""

import pytest

from bsglib.schedules import Schedule


@pytest.mark.parametrize(
    ("base", "batch", "reference", "scaling", "peak"),
    [
        (0.1, 128, 32, "none", 0.1),
        (0.1, 128, 32, "linear", 0.4),
        (0.1, 128, 32, "sqrt", 0.2),
        (0.001, 256, 1, "linear", 0.256),  # a rate per example
    ],
)
def test_the_peak_is_scaled_with_the_batch(base, batch, reference, scaling, peak):
    for warmup in ("none", "constant", "linear", "exponential"):  # of no updates
        schedule = Schedule(base, batch, reference, scaling, warmup, warmup_updates=0)
        assert schedule.peak_lr == pytest.approx(peak, rel=1e-15)
        assert schedule(0) == schedule(10**6) == schedule.peak_lr


@pytest.mark.parametrize(
    ("warmup", "rates"),
    [
        ("none", [0.8, 0.8, 0.8, 0.8, 0.8]),
        ("constant", [0.1, 0.1, 0.1, 0.1, 0.8]),
        ("linear", [0.1, 0.275, 0.45, 0.625, 0.8]),
        ("exponential", [0.1, 0.1 * 8**0.25, 0.1 * 8**0.5, 0.1 * 8**0.75, 0.8]),
    ],
)
def test_warmup_starts_at_the_base_rate_and_ends_at_the_peak(warmup, rates):
    schedule = Schedule(0.1, 256, 32, "linear", warmup, warmup_updates=4)
    assert [schedule(update) for update in range(5)] == pytest.approx(rates, rel=1e-14)
    assert schedule(5) == schedule(1000) == schedule.peak_lr


def test_an_exponential_warmup_cannot_start_at_zero():
    with pytest.raises(ValueError, match="warmup_from"):
        Schedule(0.1, 32, 32, warmup="exponential", warmup_updates=4, warmup_from=0.0)


def test_the_rate_is_divided_at_each_knot_from_that_update_on():
    schedule = Schedule(0.8, 32, 32, decay_at=(3, 5), decay_by=4)
    rates = [0.8, 0.8, 0.8, 0.2, 0.2, 0.05, 0.05]
    assert [schedule(update) for update in range(7)] == pytest.approx(rates, rel=1e-15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_lr": 0.0}, "positive"),
        ({"reference_batch_size": 0}, "positive"),
        ({"scaling": "cubic"}, "cubic.*none, linear, sqrt"),
        ({"warmup": "slow"}, "slow.*none, constant, linear, exponential, doubling"),
        ({"warmup": "doubling", "warmup_epochs": 0.5}, "warmup_epochs = 0.5.*at least 1"),
    ],
)
def test_values_not_allowed_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**{"base_lr": 0.1, "batch_size": 32, "reference_batch_size": 32} | changes)


def rates_as_coded(peak, warmup, epochs):
    """The rate of each epoch in the code of Kaabachi et al., line by line."""
    rates = []
    for _ in range(epochs):
        if warmup == 1:
            lr = peak
        if warmup > 1:
            lr = peak / 2**warmup
            warmup = warmup - 1
        rates.append(lr)
    return rates


@pytest.mark.parametrize("length", [1.0, 3.5, 5.0])
def test_the_doubling_warmup_is_the_sources_code(length):
    schedule = Schedule(
        0.001, 2048, 1, "linear", "doubling", warmup_epochs=length, updates_per_epoch=3
    )
    per_update = [rate for rate in rates_as_coded(2.048, length, 9) for _ in range(3)]
    assert [schedule(update) for update in range(27)] == pytest.approx(per_update, rel=1e-14)
