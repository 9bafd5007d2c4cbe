"""Tests of bsglib.landscape."""

import logging
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import assert_same_state, state_of
from torch import nn

from bsglib import models
from bsglib.evaluate import evaluate, mean_loss
from bsglib.landscape import (
    filter_normalized_direction,
    interpolate,
    loss_surface,
    trajectory_plane,
)
from bsglib.weights import equal_parts, reestimate_batch_norm

BATCH_NORM = ("stored", "batch", "reestimate")


class Linear(nn.Module):
    """A loss that is 1 + weights @ slope for every example."""

    def __init__(self, weights, slope):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
        self.slope = torch.tensor(slope, dtype=torch.float64)

    def forward(self, x):
        return (1 + self.weights @ self.slope).expand(len(x), 1)


def total(outputs, y):
    return outputs.sum()


def images(dtype=torch.float64, n=21):
    """A convolutional classifier with batch norm and dropout, and data."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    ).to(dtype)
    x, y = torch.randn(n, 2, 6, 6, dtype=dtype) * 2 + 1, torch.randint(3, (n,))
    nn.functional.cross_entropy(model(x), y).backward()  # moves the running statistics
    model[6].bias.requires_grad_(False)
    model[6].bias.grad = None
    model[2].eval()
    return model, x, y


def two_directions(model):
    return [filter_normalized_direction(model, seed=seed) for seed in (0, 1)]


def loss_of(model, x, y, batch_norm, chunk_size=64):
    """The loss of a model, by other means than those under test."""
    model = deepcopy(model).eval()
    if batch_norm == "reestimate":
        reestimate_batch_norm(model, equal_parts(x))
    model[1].train(batch_norm == "batch")
    return mean_loss(model, x, y, chunk_size=chunk_size)


# Filter-normalised directions


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_filters_have_the_norms_of_the_models_and_all_else_is_zero(dtype, groups):
    model = images(dtype)[0]
    model[0] = nn.Conv2d(2, 4, 3, groups=groups, dtype=dtype)
    with torch.no_grad():
        model[6].weight[1] = 0  # a filter without a norm gets zero, not NaN
    direction = filter_normalized_direction(model, seed=0)
    assert list(direction) == [name for name, _ in model.named_parameters()]
    for name, w in model.named_parameters():
        d = direction[name]
        assert (d.shape, d.dtype, d.requires_grad) == (w.shape, dtype, False)
        if name in ("0.weight", "6.weight"):
            norms = w.detach().flatten(1).norm(dim=1)
            torch.testing.assert_close(d.flatten(1).norm(dim=1), norms)
            assert torch.equal((d != 0).flatten(1).all(1), norms != 0)
        else:
            assert (d == 0).all()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layer", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
def test_a_filter_of_a_transposed_convolution_is_an_output_channel(layer, groups):
    model = layer(4, 6, 2, groups=groups)
    d = filter_normalized_direction(model, seed=0)["weight"]
    w, outputs = model.weight.detach(), 6 // groups
    for group in range(groups):
        inputs = slice(group * 4 // groups, (group + 1) * 4 // groups)
        for unit in range(outputs):
            torch.testing.assert_close(d[inputs, unit].norm(), w[inputs, unit].norm())
    single = [d[i, o].norm() / w[i, o].norm() for i in range(4) for o in range(outputs)]
    assert max(single) > 1.05 * min(single)  # not each input's part by itself


def test_a_direction_is_decided_by_its_seed_alone():
    model, _, _ = images(torch.float64)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (filter_normalized_direction(model, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    single = filter_normalized_direction(model.float(), seed=1)
    for name, d in single.items():
        torch.testing.assert_close(d, one[name].float(), rtol=1e-6, atol=0)


# Loss surfaces: closed forms


def closed_form(model, *directions, **options):
    """The surface of a `Linear` model, along directions given as lists."""
    directions = [{"weights": torch.tensor(d)} for d in directions]
    data = torch.zeros(4, 1), torch.zeros(4)
    return loss_surface(model, *data, directions=directions, loss=total, **options)


def test_a_plane_of_a_linear_loss_is_a_plane_on_a_grid_that_is_not_square():
    model = Linear([1.0, 2.0, 3.0], [0.5, -1.0, 2.0])
    surface = closed_form(model, [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], extent=(1.0, 3.0), points=(3, 7))
    np.testing.assert_array_equal(surface.a, [-1, 0, 1])
    np.testing.assert_array_equal(surface.b, [-3, -2, -1, 0, 1, 2, 3])
    expected = 5.5 + 0.5 * surface.a[:, None] - 0.5 * surface.b[None, :]
    np.testing.assert_allclose(surface.loss, expected, rtol=1e-14)
    assert surface.cosine == pytest.approx(1 / np.sqrt(2), rel=1e-14)
    assert surface.n == 4


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_every_point_is_the_loss_of_a_model_moved_there(batch_norm):
    model, x, y = images()
    u, v = two_directions(model)
    surface = loss_surface(
        model, x, y, directions=[u, v], points=(3, 5), batch_norm=batch_norm, chunk_size=7
    )
    for i, a in enumerate(surface.a):
        for j, b in enumerate(surface.b):
            moved = deepcopy(model)
            with torch.no_grad():
                for name, w in moved.named_parameters():
                    w.add_(a * u[name] + b * v[name])
            expected = loss_of(moved, x, y, batch_norm, chunk_size=7)
            assert surface.loss[i, j] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("threads", "points_per_pass", "after"), [(1, 1, 1), (2, 1, 4), (1, 4, 14)]
)
def test_an_interrupted_surface_goes_on(threads, points_per_pass, after):
    model, x, y = images()
    before = state_of(model)
    options = {"directions": two_directions(model), "points": (3, 5)}
    options |= {"threads": threads, "points_per_pass": points_per_pass}
    surface, first, second = loss_surface(model, x, y, **options), {}, {}

    def until_killed(index, value):
        first[index] = value
        if len(first) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loss_surface(model, x, y, on_point=until_killed, **options)
    assert_same_state(model, before)
    assert len(first) == after
    resumed = loss_surface(model, x, y, done=first, on_point=second.__setitem__, **options)
    rounding = 0 if points_per_pass == 1 else 1e-13
    np.testing.assert_allclose(resumed.loss, surface.loss, rtol=rounding)
    assert not first.keys() & second.keys()
    assert first | second == {index: resumed.loss[index] for index in np.ndindex(3, 5)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 4}, "points = 4: must be odd"),
        ({"extent": 0.0}, "extent = 0.0: must be positive"),
        ({"points_per_pass": 0}, "points_per_pass = 0: must be at least 1"),
        ({"directions": {"0.weight": torch.zeros(4, 2, 3, 3)}}, "directions.*one or two"),
        ({"directions": [{"0.wight": torch.zeros(1)}]}, r"\[0\].*'0.wight'.*mean '0.weight'"),
        ({"directions": [{}, {"0.bias": torch.zeros(3)}]}, r"\[1\]\['0.bias'\].*\(3,\).*\(4,\)"),
        ({"directions": [{"0.bias": torch.full((4,), torch.nan)}]}, "4 values.*not finite"),
        ({"directions": [{"0.bias": torch.zeros(4)}]}, r"directions\[0\] is zero"),
        ({"points": 3, "done": {(1, 1): 0.25}}, r"in the middle, \(1, 1\).*other weights"),
        ({"points": 3, "done": {(3, 0): 0.25}}, r"\(3, 0\): not on a grid of \(3, 3\)"),
    ],
)
def test_options_not_allowed_are_refused_and_leave_the_network_alone(options, message):
    model, x, y = images()
    before, computed = state_of(model), []
    options = {
        "directions": two_directions(model),
        "on_point": lambda *p: computed.append(p),
    } | options
    with pytest.raises(ValueError, match=message):
        loss_surface(model, x, y, **options)
    assert len(computed) <= 1, "the middle"
    assert_same_state(model, before)


# Interpolation


def networks():
    """A model, the weights of two others with statistics of their own, and two sets."""
    model, x, y = images()
    ends = []
    for seed in (8, 9):
        torch.manual_seed(seed)
        other = deepcopy(model)
        with torch.no_grad():
            for w in other.parameters():
                w.normal_()
        for _ in range(seed):
            other.train()(x * seed)
        ends.append(deepcopy(other.state_dict()))
    return model, *ends, {"train": (x[:15], y[:15]), "test": (x[15:], y[15:])}


def with_weights(model, weights):
    model = deepcopy(model)
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("path", ["linear", "curvilinear"])
@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_the_ends_are_the_two_networks(path, batch_norm):
    model, a, b, sets = networks()
    kept = deepcopy((a, b))
    rows = interpolate(model, a, b, sets, alphas=[0, 0.5, 1], path=path, batch_norm=batch_norm)
    for end, before in zip((a, b), kept, strict=True):
        assert all(torch.equal(end[name], t) for name, t in before.items()), "left as given"
    assert list(rows.columns) == ["alpha", "set", "loss", "accuracy"]
    assert rows["alpha"].tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert rows["set"].tolist() == ["train", "test"] * 3
    for alpha, weights in ((0, a), (1, b)):
        end = with_weights(model, weights).eval()
        if batch_norm == "reestimate":
            reestimate_batch_norm(end, [sets["train"][0]])
        end[1].train(batch_norm == "batch")
        for name, (x, y) in sets.items():
            row = rows[(rows["alpha"] == alpha) & (rows["set"] == name)].iloc[0]
            outputs = end(x)
            expected = nn.functional.cross_entropy(outputs, y).item()
            assert row["loss"] == pytest.approx(expected, rel=1e-12)
            assert row["accuracy"] == (outputs.argmax(1) == y).double().mean()


def test_stored_statistics_are_interpolated_linearly_and_no_variance_is_negative():
    model, a, b, sets = networks()
    b = b | {"1.running_var": 4 * a["1.running_var"]}  # at -3 it would be -8
    rows = interpolate(model, a, b, sets, alphas=[-3, 0, 0.5, 1], batch_norm="stored")
    assert np.isfinite(rows["loss"]).all()
    middle = with_weights(model, {k: (a[k] + b[k]) / 2 if a[k].ndim else a[k] for k in a})
    expected = [evaluate(middle, *sets[name]).loss for name in ("train", "test")]
    assert rows["loss"].tolist()[4:6] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("path", ["linear", "curvilinear"])
def test_the_loss_between_two_linear_models_has_its_closed_form(path):
    a, b = (nn.Linear(3, 1, bias=False).double() for _ in range(2))
    x, y = torch.randn(11, 3, dtype=torch.float64), torch.randn(11, 1, dtype=torch.float64)
    alphas = np.linspace(-1, 2, 25)
    options = {"path": path, "loss": lambda outputs, y: (outputs - y).square().sum()}
    ends, sets = (a.state_dict(), b.state_dict()), {"train": (x, y)}
    rows = interpolate(a, *ends, sets, alphas=alphas, chunk_size=4, **options)
    angle = alphas * np.pi / 2
    of_a, of_b = (1 - alphas, alphas) if path == "linear" else (np.cos(angle), np.sin(angle))
    outputs = [p * a(x) + q * b(x) for p, q in zip(of_a, of_b, strict=True)]  # linear in weights
    expected = [(output - y).square().mean().item() for output in outputs]
    np.testing.assert_allclose(rows["loss"], expected, rtol=1e-12)


INFINITE = {"0.bias": torch.full((4,), torch.inf)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": [0, 0.5, 0.999999]}, "alphas = .*exactly 0 and 1"),
        ({"path": "curved"}, "path = 'curved'.*linear, curvilinear"),
        ({"sets": ["test"]}, "sets = test.*'train'"),
        ({"without": "0.bias"}, "weights_b lacks '0.bias'"),
        ({"b": {"7.bias": torch.zeros(1)}}, "weights_b has an unknown '7.bias'"),
        ({"b": {"0.bias": torch.zeros(3)}}, r"weights_b\['0.bias'\] has shape \(3,\)"),
        ({"b": INFINITE}, r"weights_b\['0.bias'\] holds 4 values"),
    ],
)
def test_what_interpolation_does_not_allow_is_refused(options, message):
    model, a, b, sets = networks()
    before, options = state_of(model), {"alphas": [0, 1]} | options
    sets = {name: sets[name] for name in options.pop("sets", sets)}
    b = b | options.pop("b", {})
    b.pop(options.pop("without", None), None)
    with pytest.raises(ValueError, match=message):
        interpolate(model, a, b, sets, **options)
    assert_same_state(model, before)


# Several points in a pass


def classifier(name):
    """A network by name, its inputs and labels: `images`, or one of the papers'."""
    if name == "images":
        return images()
    torch.manual_seed(4)
    model = models.build(name, (1, 8, 8), 3, width=0.05)  # c1 has dropout
    x, y = torch.randn(21, 1, 8, 8, dtype=torch.float64), torch.randint(3, (21,))
    model.train()(x)  # moves the running statistics
    return model, x, y


class Branching(nn.Sequential):
    """A network that looks at its weights, which no pass over several networks can."""

    def forward(self, x):
        return super().forward(-x if self[0].weight.sum() > 0 else x)


def moved(model, seed):
    """Weights and statistics away from the model's."""
    other, generator = deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in other.parameters():
            w.add_(torch.randn(w.shape, generator=generator, dtype=w.dtype), alpha=0.3)
        for b in other.buffers():
            if b.is_floating_point():
                b.add_(torch.rand(b.shape, generator=generator, dtype=b.dtype))
            else:
                b.add_(seed)
    return other.state_dict()


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
@pytest.mark.parametrize("network", ["f1", "c1", "images"])
def test_a_surface_does_not_depend_on_threads_nor_on_how_many_points_share_a_pass(
    network, batch_norm
):
    model, x, y = classifier(network)
    before = state_of(model)
    options = {"directions": two_directions(model), "points": (3, 5), "chunk_size": 8}
    options |= {"batch_norm": batch_norm}
    alone = loss_surface(model, x, y, **options).loss
    assert len(np.unique(alone)) == 15
    for count, threads in ((1, 2), (4, 1), (4, 2), (100, 1)):
        told, rounding = {}, 0 if count == 1 else 1e-12
        options |= {"points_per_pass": count, "threads": threads, "on_point": told.__setitem__}
        surface = loss_surface(model, x, y, **options)
        np.testing.assert_allclose(surface.loss, alone, rtol=rounding)
        assert told == {index: surface.loss[index] for index in np.ndindex(3, 5)}
    assert_same_state(model, before)


@pytest.mark.parametrize("path", ["linear", "curvilinear"])
@pytest.mark.parametrize("batch_norm", BATCH_NORM)
@pytest.mark.parametrize("network", ["f1", "c1", "images"])
def test_a_line_does_not_depend_on_threads_nor_on_how_many_points_share_a_pass(
    network, batch_norm, path
):
    model, x, y = classifier(network)
    a, b, sets = moved(model, 1), moved(model, 2), {"train": (x[:15], y[:15]), "test": (x, y)}
    options = {"alphas": np.linspace(-1, 2, 7), "path": path, "batch_norm": batch_norm}
    options |= {"chunk_size": 8}
    alone = interpolate(model, a, b, sets, **options)
    assert alone["loss"].nunique() == 14
    for count, threads in ((1, 2), (3, 1), (3, 2), (100, 1)):
        rows = interpolate(model, a, b, sets, points_per_pass=count, threads=threads, **options)
        pd.testing.assert_frame_equal(rows, alone, check_exact=count == 1, rtol=1e-11)


def data_dependent(outputs, y):
    return outputs.sum() if outputs.sum().item() > 0 else -outputs.sum()


@pytest.mark.parametrize("network, loss", [(Branching, "cross_entropy"), (None, data_dependent)])
def test_what_cannot_share_a_pass_takes_one_point_at_a_time_and_says_so(network, loss, caplog):
    model, x, y = images()
    model = network(*model) if network else model
    a, b, sets = moved(model, 1), moved(model, 2), {"train": (x, y)}
    plane = {"directions": two_directions(model), "points": 3, "loss": loss}
    line = {"alphas": np.linspace(-1, 2, 7), "loss": loss}
    surface = loss_surface(model, x, y, **plane).loss
    rows = interpolate(model, a, b, sets, **line)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        same = loss_surface(model, x, y, points_per_pass=4, **plane).loss
        np.testing.assert_array_equal(same, surface)
        same = interpolate(model, a, b, sets, points_per_pass=4, **line)
        pd.testing.assert_frame_equal(same, rows, check_exact=True)
    assert caplog.text.count("not 4 points in a pass, one instead:") == 2


@pytest.mark.parametrize("k", [3, 7])
def test_the_plane_of_a_path_is_that_of_a_singular_value_decomposition(k):
    weights = torch.from_numpy(np.random.default_rng(k).standard_normal((k, 20)).cumsum(axis=0))
    plane = trajectory_plane(weights)
    u, s, vt = np.linalg.svd((weights - weights[-1]).numpy(), full_matrices=False)
    np.testing.assert_allclose(np.abs(plane.coordinates), np.abs(u * s)[:, :2], atol=1e-12)
    np.testing.assert_allclose(plane.directions.abs().numpy(), np.abs(vt[:2]), atol=1e-12)
    np.testing.assert_allclose(plane.explained, (s**2 / (s**2).sum())[:2], rtol=1e-12)
