"""Tests of what all measures of a network share: one fixed function, and no trace of measuring it.

Of bsglib.sharpness, bsglib.landscape and bsglib.gradients.
"""

from functools import partial

import pytest
import torch
from conftest import assert_same_state, state_of
from test_landscape import images
from torch import nn

from bsglib.gradients import gradient_agreement
from bsglib.landscape import filter_normalized_direction, interpolate, loss_surface
from bsglib.sharpness import (
    batch_sharpness,
    hessian_trace,
    keskar_sharpness,
    lambda_max,
    sam_sharpness,
)

N = 33  # examples


def value(measure, model, x, y, **options):
    return [measure(model, x, y, **options).value]


def surface(model, x, y, **options):
    directions = [filter_normalized_direction(model, seed=seed) for seed in (0, 1)]
    options = {"directions": directions, "points": 3} | options
    return loss_surface(model, x, y, **options).loss.ravel().tolist()


def line(model, x, y, **options):
    ends = model.state_dict(), {name: 2 * t for name, t in model.state_dict().items()}
    rows = interpolate(model, *ends, {"train": (x, y)}, alphas=[0, 0.5, 1], **options)
    return rows["loss"].tolist()


def agreement(model, x, y, **options):
    found = gradient_agreement(model, x, y, batch_sizes=[4], draws=3, **options)
    return [found.full_norm, found.trace, found.cosine, *found.norms[4]]


MEASURES = {
    "keskar": partial(value, keskar_sharpness),
    "lambda_max": partial(value, lambda_max, tol=1e-8),
    "trace": partial(value, hessian_trace, probes=2),
    "sam": partial(value, sam_sharpness),
    "batch": partial(value, batch_sharpness, batch_size=N, draws=2),
    "surface": surface,
    "surface on two threads": partial(surface, threads=2),
    "line": line,
    "line on two threads": partial(line, threads=2),
    "agreement": agreement,
}
BATCH_NORM = ("stored", "reestimate", "batch")
CASES = [(m, b) for m in MEASURES for b in BATCH_NORM if (m, b) != ("agreement", "batch")]


def failing_after(calls):
    """A loss that raises at a call, in whichever thread."""
    left = iter(range(calls))

    def loss(outputs, y):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, y, reduction="sum")

    return loss


each_measure = pytest.mark.parametrize("name", MEASURES)
each_case = pytest.mark.parametrize(("name", "batch_norm"), CASES)


@each_case
def test_the_network_is_left_as_it_was_also_after_an_exception(name, batch_norm):
    model, x, y = images(n=N)
    before, data = state_of(model), (x.clone(), y.clone())
    MEASURES[name](model, x, y, batch_norm=batch_norm)
    assert_same_state(model, before)
    for calls in (0, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            MEASURES[name](model, x, y, batch_norm=batch_norm, loss=failing_after(calls))
        assert_same_state(model, before)
    assert torch.equal(x, data[0]) and torch.equal(y, data[1])


@each_case
def test_neither_the_mode_before_nor_the_chunks_matter(name, batch_norm):
    model, x, y = images(n=N)  # with dropout, which is off
    whole = MEASURES[name](model, x, y, batch_norm=batch_norm, chunk_size=N)
    for prepare in (nn.Module.train, nn.Module.eval):
        assert MEASURES[name](prepare(model), x, y, batch_norm=batch_norm, chunk_size=N) == whole
    for chunk_size in () if batch_norm == "batch" else (20, 32):  # 32 leaves a single example
        parts = MEASURES[name](model, x, y, batch_norm=batch_norm, chunk_size=chunk_size)
        assert parts == pytest.approx(whole, rel=1e-7 if name == "lambda_max" else 1e-9)


@each_measure
def test_a_float32_network_is_measured_like_its_float64_twin(name):
    model, x, y = images(torch.float32, n=N)
    single = MEASURES[name](model, x, y)
    double = MEASURES[name](model.double(), x.double(), y)
    assert single == pytest.approx(double, rel=1e-5 if name[:4] in ("surf", "line") else 1e-3)


class Noisy(nn.Sequential):
    """A network whose randomness no mode switches off."""

    def forward(self, x):
        return super().forward(x) + 0.1 * torch.randn(len(x), 3, dtype=x.dtype)


@pytest.mark.parametrize("name", ["keskar", "lambda_max", "trace", "sam", "surface", "agreement"])
def test_a_random_network_is_refused(name):
    model, x, y = images(n=N)
    with pytest.raises(ValueError, match="two evaluations.*random"):
        MEASURES[name](Noisy(*model), x, y)


@each_measure
def test_unknown_names_data_that_do_not_fit_and_weights_that_are_not_finite_are_refused(name):
    model, x, y = images(n=N)
    for option, given, message in (
        ("batch_norm", "frozen", "batch_norm = 'frozen'.*stored, .*reestimate"),
        ("loss", "cross_entrop", "unknown loss 'cross_entrop'.*did you mean 'cross_entropy'"),
        ("chunk_size", 0, "chunk_size = 0.*at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            MEASURES[name](model, x, y, **{option: given})
    for inputs, labels, message in ((x, y[:7], "33 inputs and 7 labels"), (x[:0], y[:0], " 0 ")):
        with pytest.raises(ValueError, match=message):
            MEASURES[name](model, inputs, labels)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="is nan|not finite"):
        MEASURES[name](model, x, y)
