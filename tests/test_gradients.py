"""Tests of bsglib.gradients."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import assert_same_state, state_of
from test_sharpness import normed
from torch import nn

from bsglib import models
from bsglib.gradients import expected_norm, gradient_agreement

N = 7


def squared(outputs, y):
    return ((outputs[:, 0] - y) ** 2).sum() / 2


def linear(n=N):
    """A linear model, data, and the gradients [n, p] of its squared loss: residual times input."""
    torch.manual_seed(5)
    model = nn.Linear(3, 1).double()
    x, y = torch.randn(n, 3, dtype=torch.float64), torch.randn(n, dtype=torch.float64)
    with torch.no_grad():
        residuals = model(x)[:, 0] - y
    inputs = torch.cat([x, torch.ones(n, 1, dtype=torch.float64)], dim=1)
    return model, x, y, (residuals[:, None] * inputs).numpy()


def one_by_one(model, x, y):
    """Gradients [n, p] of cross-entropy, example by example, in evaluation mode."""
    model.eval().requires_grad_(True)
    rows = []
    for i in range(len(y)):
        model.zero_grad()
        nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        rows.append(torch.cat([w.grad.reshape(-1) for w in model.parameters()]))
    return torch.stack(rows).numpy()


def cosines(gradients):
    units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    return [u @ v for u, v in itertools.combinations(units, 2)]


def brute_force(gradients, size):
    """Norms of the mean gradients of all batches of a size."""
    batches = itertools.combinations(range(len(gradients)), size)
    return np.array([np.linalg.norm(gradients[list(b)].mean(axis=0)) for b in batches])


def assert_agrees(found, gradients):
    mean = gradients.mean(axis=0)
    assert found.full_norm == pytest.approx(np.linalg.norm(mean), rel=1e-12)
    covariance = np.cov(gradients.T, bias=True)
    assert found.trace == pytest.approx(np.trace(covariance), rel=1e-12)
    assert found.cosine == pytest.approx(np.mean(cosines(gradients)), rel=1e-11)


def test_of_a_linear_model_all_is_known_in_closed_form():
    model, x, y, gradients = linear()
    found = gradient_agreement(model, x, y, batch_sizes=[1, N], loss=squared)
    assert_agrees(found, gradients)
    np.testing.assert_allclose(found.norms[N], found.full_norm, rtol=1e-12)
    single = np.linalg.norm(gradients, axis=1)
    assert np.isclose(found.norms[1][:, None], single, rtol=1e-12).any(axis=1).all()


def convolutional():
    model = models.build("chang", (1, 8, 8), 2, width=0.25, blocks=2)
    return model, torch.rand(5, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])


@pytest.mark.parametrize("network", [lambda: normed(N), convolutional])
def test_of_a_classifier_it_is_what_a_loop_over_examples_finds(network):
    model, x, y = network()
    found = gradient_agreement(model, x, y, batch_sizes=[2])
    assert_agrees(found, one_by_one(model, x, y))


@pytest.mark.parametrize("size", [1, 3, N])
def test_the_prediction_is_the_mean_square_over_all_batches(size):
    model, x, y, gradients = linear()
    found = gradient_agreement(model, x, y, batch_sizes=[size], draws=400, loss=squared)
    every = brute_force(gradients, size)
    (row,) = found.rows().to_dict("records")
    assert row["predicted"] ** 2 == pytest.approx((every**2).mean(), rel=1e-12)
    assert every.min() * (1 - 1e-9) <= found.norms[size].min()
    assert found.norms[size].max() <= every.max() * (1 + 1e-9)
    norms = np.sort(found.norms[size])
    assert (row["norm"], row["norm_rms"]) == pytest.approx(
        (norms.mean(), np.sqrt((norms**2).mean()))
    )
    error = 4 * every.std() / math.sqrt(400) + 1e-12
    assert abs(row["norm"] - every.mean()) <= error, "drawn evenly among all batches"


def test_equal_gradients_agree_and_opposite_ones_cancel():
    model = nn.Linear(2, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64).expand(4, 2).contiguous()
    same = torch.ones(4, dtype=torch.float64)
    found = gradient_agreement(model, x, same, batch_sizes=[1, 2, 4], loss=squared)
    assert found.cosine == pytest.approx(1) and found.trace == pytest.approx(0, abs=1e-12)
    assert np.allclose([*found.norms.values()], math.sqrt(5))
    both = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    found = gradient_agreement(model, x, both, batch_sizes=[4], loss=squared)
    assert found.cosine == pytest.approx(-1 / 3)  # two pairs of six point the same way
    assert np.allclose(found.norms[4], 0)
    assert expected_norm(found.full_norm, found.trace, 4, 1) == pytest.approx(math.sqrt(5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": [2, 8]}, r"batch_sizes = \[2, 8\]: allowed are 1 to 7"),
        ({"batch_sizes": []}, r"batch_sizes = \[\]"),
        ({"draws": 1}, "draws = 1: at least 2"),
        ({"batch_norm": "batch"}, "batch_norm = 'batch': allowed are stored, reestimate"),
    ],
)
def test_options_not_allowed_are_refused(options, message):
    model, x, y = normed(N)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        gradient_agreement(model, x, y, **{"batch_sizes": [2]} | options)
    assert_same_state(model, before)
