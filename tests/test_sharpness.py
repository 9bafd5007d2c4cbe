"""Tests of bsglib.sharpness."""

import copy
import itertools

import numpy as np
import pytest
import torch
from conftest import assert_same_state, state_of
from torch import nn
from torch.func import functional_call, hessian

from bsglib.evaluate import evaluate
from bsglib.sharpness import (
    batch_sharpness,
    hessian_trace,
    hvp,
    keskar_sharpness,
    lambda_max,
    lanczos,
    lbfgsb,
    sam_sharpness,
    solvers,
    spaces,
)
from bsglib.weights import flatten

DISTRIBUTIONS = ("gaussian", "gaussian_unit", "uniform_unit")
X, Y = torch.zeros(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)


class Quadratic(nn.Module):
    """f0 + g'z + z'Hz/2 around the weights it starts with, the same for every example."""

    def __init__(self, x, g, h, f0=0.01):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(x, dtype=torch.float64))
        self.x, self.g = self.weights.detach().clone(), torch.as_tensor(g, dtype=torch.float64)
        h = torch.as_tensor(h, dtype=torch.float64)
        self.h, self.f0 = torch.diag(h) if h.ndim == 1 else h, f0

    def forward(self, inputs):
        z = self.weights - self.x
        return (self.f0 + self.g @ z + z @ self.h @ z / 2).expand(len(inputs), 1)


def total(outputs, y):
    return outputs.sum()


def quadratic(size=200, slope=1e-3, seed=0):
    """A quadratic with diagonal curvature d > 0, and its x, g, d."""
    generator = np.random.default_rng(seed)
    x, g = generator.standard_normal(size), slope * generator.standard_normal(size)
    d = generator.uniform(0.1, 1, size)
    return Quadratic(x, g, d), x, g, d


def corner(x, g, d, epsilon, f0=0.01, least=1):
    """The metric's exact value where the curvature is diagonal and positive."""
    b = epsilon * (np.abs(x) + least)
    return 100 * (np.abs(g) * b + d * b**2 / 2).sum() / (1 + f0)


def classifier(dtype=torch.float64, n=33):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    return model, torch.randn(n, 4, dtype=dtype), torch.randint(3, (n,))


def normed(n=33):
    """A classifier with batch norm, dropout, a frozen weight, gradients, and mixed modes."""
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)
    ).double()
    x, y = torch.randn(n, 4, dtype=torch.float64) * 2 + 1, torch.randint(3, (n,))
    nn.functional.cross_entropy(model(x), y).backward()
    model[0].bias.grad = None
    model[4].bias.requires_grad_(False)
    model[3].eval()
    return model, x, y


def dense_hessian(model, x, y):
    names, shapes = zip(*((name, w.shape) for name, w in model.named_parameters()), strict=True)
    theta = flatten(model.parameters()).clone()

    def loss(theta):
        parts = theta.split([shape.numel() for shape in shapes])
        parts = {n: t.view(s) for n, s, t in zip(names, shapes, parts, strict=True)}
        return nn.functional.cross_entropy(functional_call(model, parts, (x,)), y)

    return hessian(loss)(theta)


def matrix(theta, dimension, distribution, seed, rows, monkeypatch):
    """The random subspace, in blocks of some rows, and the same as one dense matrix."""
    monkeypatch.setattr(spaces.Matrix, "ROWS", rows)
    space = spaces.Subspace(theta, dimension, distribution, seed)
    blocks = torch.cat([block for _, block in space.matrix.blocks()])
    return space, (blocks * space.scale).numpy()


# Keskar's metric: closed forms


@pytest.mark.parametrize(("slope", "epsilon"), [(1.0, 1e-3), (1e-7, 1e-3), (0.0, 5e-4)])
@pytest.mark.parametrize("solver", solvers.SOLVERS)
def test_the_metric_of_a_diagonal_quadratic_is_that_of_the_corner(solver, slope, epsilon):
    model, x, g, d = quadratic(slope=slope)
    found = keskar_sharpness(model, X, Y, epsilon=epsilon, loss=total, solver=solver)
    assert found.value == pytest.approx(corner(x, g, d, epsilon), rel=1e-9)
    assert found.iterations <= 10
    assert found.solver == solver
    adaptive = keskar_sharpness(model, X, Y, epsilon=epsilon, loss=total, adaptive=True)
    assert adaptive.value == pytest.approx(corner(x, g, d, epsilon, least=0), rel=1e-9)


@pytest.mark.parametrize("curvature", [-(10.0 ** np.arange(5)), np.zeros(5)])
@pytest.mark.parametrize("max_iter", [1, 10])
def test_a_maximum_and_a_constant_loss_have_sharpness_zero(curvature, max_iter):
    model = Quadratic(np.ones(5), np.zeros(5), curvature)
    # the solver may stop on its way back: z = 0 counts
    found = keskar_sharpness(model, X, Y, loss=total, max_iter=max_iter)
    assert (found.value, found.loss) == (0, 0.01)


@pytest.mark.parametrize("epsilon", [1e-3, 0.05])
def test_the_metric_of_a_convex_loss_is_found_by_trying_all_corners(epsilon):
    torch.manual_seed(7)
    model = nn.Linear(3, 2).double()  # cross-entropy is convex in these eight weights
    x, y = torch.randn(20, 3, dtype=torch.float64), torch.randint(2, (20,))
    theta = flatten(model.parameters()).clone()
    width, start, worst = epsilon * (theta.abs() + 1), evaluate(model, x, y).loss, 0.0
    trial = copy.deepcopy(model)
    for signs in itertools.product((-1, 1), repeat=8):
        moved = theta + torch.tensor(signs) * width
        nn.utils.vector_to_parameters(moved, trial.parameters())
        worst = max(worst, evaluate(trial, x, y).loss)
    seen = []
    model.register_forward_pre_hook(lambda m, _: seen.append(flatten(m.parameters()).clone()))
    found = keskar_sharpness(model, x, y, epsilon=epsilon)
    assert found.value == pytest.approx(100 * (worst - start) / (1 + start), rel=1e-9)
    assert (found.max_loss, found.loss, found.n) == pytest.approx((worst, start, 20), rel=1e-9)
    assert found.iterations < found.evaluations <= len(seen) <= found.evaluations + 1
    assert all(((w - theta).abs() <= width * (1 + 1e-9)).all() for w in seen), "in the box"


def ways_of(solve, function, start, bounds, max_iter):
    """Where a solver evaluates, stacked, and what it returns."""
    way = []

    def seen(z):
        way.append(torch.as_tensor(z).clone())
        return function(z)

    trace = solve(seen, start, bounds, max_iter)
    return torch.stack(way), trace


# Keskar's metric: the solver in torch, and scipy's public one


@pytest.mark.parametrize("max_iter", [1, 4, 10])
@pytest.mark.parametrize("size", [60, 500])
def test_the_solver_in_torch_goes_the_way_of_scipys(max_iter, size, monkeypatch):
    monkeypatch.setattr(lbfgsb, "BREAKPOINTS", 50)
    generator = np.random.default_rng(size)
    bounds, p = map(torch.from_numpy, generator.uniform(0.1, 2, (2, size)))
    factor = torch.from_numpy(generator.standard_normal((size, size))) / size**0.5
    h = factor @ factor.T

    def bumpy(z):
        value = torch.cos(3 * z).sum() + p @ z + z @ h @ z
        return float(value), -3 * torch.sin(3 * z) + p + 2 * h @ z

    (one, traced), (other, trace) = (
        ways_of(solve, bumpy, torch.zeros_like(bounds), bounds, max_iter)
        for solve in solvers.SOLVERS.values()
    )
    assert traced == trace
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_without_the_private_solver_scipys_public_one_finds_the_same(monkeypatch):
    model, x, y = classifier()
    private = keskar_sharpness(model, x, y, epsilon=0.5)

    def moved(*arguments):
        raise AttributeError("setulb")

    monkeypatch.setattr(solvers, "drive_lbfgsb", moved)
    solvers.compiled_fits.cache_clear()
    public = keskar_sharpness(model, x, y, epsilon=0.5)
    solvers.compiled_fits.cache_clear()
    assert public == private


# Keskar's metric: random subspaces


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("rows", [7, 10**6])
@pytest.mark.parametrize("kept_bytes", [0, 700, 10**6])  # none, two of the blocks of 7 rows, all
def test_a_subspace_made_in_blocks_is_the_dense_matrix(distribution, rows, kept_bytes, monkeypatch):
    monkeypatch.setattr(spaces.Matrix, "KEPT_BYTES", kept_bytes)
    theta = torch.randn(40, dtype=torch.float64)
    space, a = matrix(theta, 6, distribution, 3, rows, monkeypatch)
    assert a.shape == (40, 6)
    z, gradient = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 40)))
    np.testing.assert_allclose(space.into(z[:6]), a @ z[:6].numpy(), rtol=1e-12)
    np.testing.assert_allclose(space.back(gradient), a.T @ gradient.numpy(), rtol=1e-11)
    inverse = np.linalg.pinv(a)
    np.testing.assert_allclose(space.coordinates(), inverse @ theta.numpy(), rtol=1e-9)


def test_the_distributions_are_what_their_names_say(monkeypatch):
    theta = torch.zeros(4000, dtype=torch.float64)
    _, gaussian = matrix(theta, 5, "gaussian", 0, 1000, monkeypatch)
    _, unit = matrix(theta, 5, "gaussian_unit", 0, 1000, monkeypatch)
    _, uniform = matrix(theta, 5, "uniform_unit", 0, 1000, monkeypatch)
    assert gaussian.std() == pytest.approx(1, abs=0.03)
    assert abs(gaussian.mean()) < 0.03
    for a in (unit, uniform):
        np.testing.assert_allclose(np.linalg.norm(a, axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(unit, gaussian / np.linalg.norm(gaussian, axis=0), rtol=1e-12)
    assert uniform.min() >= 0
    assert uniform.max() * np.sqrt(4000 / 3) == pytest.approx(1, abs=0.05)
    blocks = gaussian.reshape(4, 1000, 5)
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(blocks, 2))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("dimension", [1, 4, 12])
def test_the_metric_in_a_subspace_has_bounds_by_the_pseudo_inverse(
    distribution, dimension, monkeypatch
):
    generator = np.random.default_rng(5)
    x, g = generator.standard_normal((2, 12))
    linear = Quadratic(x, g, np.zeros(12))  # its maximum is known for any A
    _, a = matrix(linear.weights.detach(), dimension, distribution, 3, 5, monkeypatch)
    b = 1e-3 * (np.abs(np.linalg.pinv(a) @ x) + 1)
    options = {"subspace": dimension, "distribution": distribution, "seed": 3, "loss": total}
    found = keskar_sharpness(linear, X, Y, **options)
    assert found.value == pytest.approx(100 * (np.abs(a.T @ g) * b).sum() / 1.01, rel=1e-9)


def test_a_subspace_that_is_the_identity_gives_the_metric_of_the_full_space(monkeypatch):
    model, x, y = classifier()
    full = keskar_sharpness(model, x, y, epsilon=0.05)
    size = sum(w.numel() for w in model.parameters())
    whole = slice(0, size), torch.eye(size, dtype=torch.float64)
    monkeypatch.setattr(spaces.Matrix, "blocks", lambda self: iter([whole]))
    found = keskar_sharpness(model, x, y, epsilon=0.05, subspace=size)
    assert found.value == pytest.approx(full.value, rel=1e-9)


# Keskar's metric: what is held fixed, and what is refused


def test_each_batch_norm_mode_measures_its_own_function():
    losses = {}
    for mode in ("stored", "reestimate", "batch"):
        model, x, y = normed()
        losses[mode] = keskar_sharpness(model, x, y, batch_norm=mode).loss
    model, x, y = normed()
    assert losses["stored"] == pytest.approx(evaluate(model, x, y).loss, rel=1e-13)
    hidden = model[0](x)
    outputs = {}
    for mode, correction in (("reestimate", 1), ("batch", 0)):
        z = (hidden - hidden.mean(0)) / (hidden.var(0, correction=correction) + 1e-5).sqrt()
        outputs[mode] = model[4](torch.tanh(z * model[1].weight + model[1].bias))
        expected = nn.functional.cross_entropy(outputs[mode], y).item()
        assert losses[mode] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        (keskar_sharpness, {"epsilon": 0.0}, "epsilon = 0.0"),
        (keskar_sharpness, {"max_iter": 0}, "max_iter = 0.*at least 1"),
        (keskar_sharpness, {"y": torch.arange(33)}, "out of bounds"),
        (keskar_sharpness, {"subspace": 3, "distribution": "cauchy"}, "'cauchy'.*gaussian_unit"),
        (keskar_sharpness, {"subspace": 44}, "subspace = 44.*1 to 43"),
        (keskar_sharpness, {"adaptive": True, "subspace": 3}, "subspace = 3: must be None"),
        (lambda_max, {"k": 43}, "k = 43"),
        (hessian_trace, {"probes": 1}, "probes = 1: at least 2"),
        (sam_sharpness, {"rho": 0.0}, "rho = 0.0: must be positive"),
        (batch_sharpness, {"batch_size": 34}, "batch_size = 34"),
    ],
)
def test_options_not_allowed_are_refused_and_leave_the_network_alone(measure, options, message):
    model, x, y = classifier()
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        measure(model, x, **{"y": y} | options)
    assert_same_state(model, before)


# The Hessian


def test_the_hessian_vector_product_equals_that_of_the_dense_hessian():
    model, x, y = classifier()
    h, v = dense_hessian(model, x, y), torch.randn(43, dtype=torch.float64)
    for chunk_size in (1, 7, 512):
        found = hvp(model, x, y, v, chunk_size=chunk_size)
        torch.testing.assert_close(found, h @ v, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("solver", ["scipy", "torch"])
def test_lambda_max_of_a_classifier_is_the_dense_hessians_largest_eigenvalues(solver):
    model, x, y = classifier()
    expected = torch.linalg.eigvalsh(dense_hessian(model, x, y)).flip(0)[:3].tolist()
    found = lambda_max(model, x, y, k=3, tol=1e-10, solver=solver)
    assert found.values == pytest.approx(expected, rel=1e-8)
    assert found.value == found.values[0]
    assert found.residual < 1e-6
    assert found.n == 33


def test_lanczos_restarts_and_finds_a_crowded_top_of_the_spectrum(monkeypatch):
    monkeypatch.setattr(lanczos, "BASIS", 24)
    d = torch.cat([torch.linspace(0, 1, 400, dtype=torch.float64), torch.tensor([1.02, 1.01])])
    start = torch.from_numpy(np.random.default_rng(0).standard_normal(402))
    values, vectors = lanczos.largest(lambda v: d * v, start, 3, 1e-9)
    assert values == pytest.approx([1.02, 1.01, 1.0], rel=1e-7)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(3).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", ["scipy", "torch"])
def test_lambda_max_is_the_largest_algebraically_not_by_magnitude(solver):
    d = np.array([-10.0, 3.0, 1.0, 0.5, -2.0])
    model = Quadratic(np.ones(5), np.zeros(5), d)
    found = lambda_max(model, X, Y, k=2, tol=1e-10, loss=total, solver=solver)
    assert found.values == pytest.approx([3.0, 1.0], rel=1e-9)


# Scale-invariant box, trace, SAM's objective


def rescaled_pair():
    """A ReLU network, and the same function with its first layer halved and its second doubled."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight *= 0.5
        other[0].bias *= 0.5
        other[2].weight *= 2
    return model, other, torch.randn(40, 4, dtype=torch.float64), torch.randint(3, (40,))


@pytest.mark.parametrize("adaptive", [False, True])
def test_only_the_adaptive_measures_do_not_see_a_rescaling_that_keeps_the_function(adaptive):
    model, other, x, y = rescaled_pair()
    assert evaluate(model, x, y) == evaluate(other, x, y)
    for measure, size in ((keskar_sharpness, {"epsilon": 0.05}), (sam_sharpness, {"rho": 0.1})):
        values = [measure(m, x, y, adaptive=adaptive, **size).value for m in (model, other)]
        assert (values[0] == pytest.approx(values[1], rel=1e-12)) == adaptive
        assert min(values) > 0


def test_the_trace_of_a_diagonal_hessian_is_exact():
    model, _, _, d = quadratic()
    found = hessian_trace(model, X, Y, loss=total, probes=3)
    assert found.value == pytest.approx(d.sum(), rel=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-12)
    assert (found.probes, found.n) == (3, 3)


def test_the_trace_of_a_classifier_converges_to_that_of_the_dense_hessian():
    model, x, y = classifier()
    exact = float(torch.trace(dense_hessian(model, x, y)))
    found = hessian_trace(model, x, y, probes=400, seed=1)
    assert abs(found.value - exact) < 4 * found.standard_error
    assert found.standard_error < 0.05 * exact
    assert hessian_trace(model, x, y, probes=400, seed=1) == found
    assert hessian_trace(model, x, y, probes=400, seed=2).value != found.value


def test_sams_sharpness_of_a_quadratic_has_a_closed_form():
    model, x, g, d = quadratic()
    for adaptive, scale in ((False, np.ones_like(x)), (True, np.abs(x))):
        e = 0.1 * scale**2 * g / np.linalg.norm(scale * g)
        found = sam_sharpness(model, X, Y, loss=total, rho=0.1, adaptive=adaptive)
        assert found.value == pytest.approx(g @ e + d @ e**2 / 2, rel=1e-9)
        assert found.max_loss - found.loss == found.value
    flat = Quadratic(np.ones(4), np.zeros(4), np.ones(4))
    assert sam_sharpness(flat, X, Y, loss=total).value == 0, "a gradient of zero gives no rise"


@pytest.mark.parametrize("measure", [sam_sharpness, keskar_sharpness])
def test_a_gradient_that_is_not_finite_is_refused_and_not_called_flat(measure):
    """The root of the squares has no gradient at 0, and rises all the same."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    x, y = torch.ones(3, 1).double(), torch.zeros(3)
    with pytest.raises(ValueError, match="gradient at the weights holds 1 values"):
        measure(model, x, y, loss=lambda o, y: o.square().sum().sqrt())


# The curvature along a batch's own gradient


def test_batch_sharpness_is_the_mean_over_batches_of_dense_curvatures():
    torch.manual_seed(0)
    model = nn.Linear(2, 3, bias=False).double()
    x, y = torch.randn(6, 2, dtype=torch.float64), torch.arange(6) % 3

    def curvature(index):
        def loss(w):
            return nn.functional.cross_entropy(x[index] @ w.view(3, 2).T, y[index])

        w = model.weight.detach().flatten()
        g = torch.func.grad(loss)(w)
        return float(g @ hessian(loss)(w) @ g / (g @ g))

    exact = np.mean([curvature(list(pair)) for pair in itertools.combinations(range(6), 2)])
    found = batch_sharpness(model, x, y, batch_size=2, draws=2000)
    assert abs(found.value - exact) < 4 * found.standard_error < 0.1 * exact
