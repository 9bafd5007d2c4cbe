"""Tests of bsglib.landscape."""

import logging
import threading
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import assert_same_state, state_of
from torch import nn

from bsglib import models, runtime
from bsglib.evaluate import evaluate, mean_loss
from bsglib.landscape import (
    filter_normalized_direction,
    interpolate,
    lines,
    loss_surface,
    passes,
    trajectory_plane,
)
from bsglib.weights import equal_parts, reestimate_batch_norm

BATCH_NORM = ("stored", "batch", "reestimate")


class Linear(nn.Module):
    """A loss that is 1 + weights @ slope for every example, or its square."""

    def __init__(self, weights, slope, power=1):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
        self.slope, self.power = torch.tensor(slope, dtype=torch.float64), power

    def forward(self, x):
        return ((1 + self.weights @ self.slope) ** self.power).expand(len(x), 1)


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


def failing_after(calls):
    """A loss that raises at a call, in whichever thread."""
    left = iter(range(calls))

    def loss(outputs, y):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, y, reduction="sum")

    return loss


def loss_of(model, x, y, batch_norm, chunk_size=64):
    """The loss of a model, by other means than those under test."""
    model = deepcopy(model).eval()
    if batch_norm == "reestimate":
        reestimate_batch_norm(model, equal_parts(x))
    model[1].train(batch_norm == "batch")
    return mean_loss(model, x, y, chunk_size=chunk_size)


# Filter-normalised directions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_filters_have_the_norms_of_the_models_and_all_else_is_zero(dtype):
    model, _, _ = images(dtype)
    direction = filter_normalized_direction(model, seed=0)
    assert list(direction) == [name for name, _ in model.named_parameters()]
    for name, w in model.named_parameters():
        d = direction[name]
        assert (d.shape, d.dtype, d.requires_grad) == (w.shape, dtype, False)
        if name in ("0.weight", "6.weight"):
            norms = w.detach().flatten(1).norm(dim=1)
            torch.testing.assert_close(d.flatten(1).norm(dim=1), norms)
            assert (d != 0).all()
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


def test_a_grouped_convolution_has_one_filter_for_each_output_channel():
    model = nn.Conv2d(4, 6, 3, groups=2)
    d = filter_normalized_direction(model, seed=0)["weight"]
    torch.testing.assert_close(
        d.flatten(1).norm(dim=1), model.weight.detach().flatten(1).norm(dim=1)
    )


def test_norm_layers_get_zero_whatever_their_shape():
    model = nn.Sequential(
        nn.LayerNorm([3, 4, 4]), nn.GroupNorm(1, 3), nn.InstanceNorm2d(3, affine=True)
    )
    direction = filter_normalized_direction(model, seed=0)
    assert len(direction) == 6
    assert all((d == 0).all() for d in direction.values())


def test_a_filter_that_is_zero_gets_zero_and_not_nan():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[1] = 0
    d = filter_normalized_direction(model, seed=0)["weight"]
    assert (d[0] != 0).all()
    assert (d[1] == 0).all()


def test_a_direction_is_gaussian():
    model = nn.Linear(10_000, 4)
    d = filter_normalized_direction(model, seed=0)["weight"].double()
    d = d / d.square().mean(1, keepdim=True).sqrt()
    assert d.mean().abs() < 0.02
    assert d.pow(4).mean() == pytest.approx(3, abs=0.15)  # 1.8 if uniform


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


def test_weights_that_are_not_finite_have_no_direction():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weight holds 1 values that are not finite"):
        filter_normalized_direction(model, seed=0)


# Loss surfaces: closed forms


def test_a_plane_of_a_linear_loss_is_a_plane_on_a_grid_that_is_not_square():
    model = Linear([1.0, 2.0, 3.0], [0.5, -1.0, 2.0])
    u, v = {"weights": torch.tensor([1.0, 0.0, 0.0])}, {"weights": torch.tensor([1.0, 1.0, 0.0])}
    surface = loss_surface(
        model,
        torch.zeros(4, 1),
        torch.zeros(4),
        directions=[u, v],
        extent=(1.0, 3.0),
        points=(3, 7),
        loss=total,
    )
    np.testing.assert_array_equal(surface.a, [-1, 0, 1])
    np.testing.assert_array_equal(surface.b, [-3, -2, -1, 0, 1, 2, 3])
    assert surface.loss.shape == (3, 7)
    expected = 5.5 + 0.5 * surface.a[:, None] - 0.5 * surface.b[None, :]
    np.testing.assert_allclose(surface.loss, expected, rtol=1e-14)
    assert surface.cosine == pytest.approx(1 / np.sqrt(2), rel=1e-14)
    assert surface.n == 4


def test_a_curve_of_a_quadratic_loss_is_a_parabola():
    model = Linear([1.0, 2.0], [3.0, -1.0], power=2)
    surface = loss_surface(
        model,
        torch.zeros(4, 1),
        torch.zeros(4),
        directions=[{"weights": torch.tensor([1.0, 1.0])}],
        extent=0.5,
        points=11,
        loss=total,
    )
    assert (surface.b, surface.cosine) == (None, None)
    np.testing.assert_allclose(surface.loss, (2 + 2 * surface.a) ** 2, rtol=1e-13)


@pytest.mark.parametrize("extent", [1.0, 1.1, 0.3, 1e-3])
@pytest.mark.parametrize("points", [3, 25, 51])
def test_a_grid_is_symmetric_and_has_its_ends_and_middle_exactly(extent, points):
    model = Linear([1.0], [1.0])
    surface = loss_surface(
        model,
        torch.zeros(1, 1),
        torch.zeros(1),
        directions=[{"weights": torch.ones(1)}],
        extent=extent,
        points=points,
        loss=total,
    )
    assert surface.a[points // 2] == 0
    assert (surface.a[0], surface.a[-1], len(surface.a)) == (-extent, extent, points)
    np.testing.assert_array_equal(surface.a, -surface.a[::-1])


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_middle_of_a_surface_is_the_models_loss(batch_norm, dtype):
    model, x, y = images(dtype)
    surface = loss_surface(
        model, x, y, directions=two_directions(model), points=3, batch_norm=batch_norm
    )
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    expected = loss_of(model, x, y, batch_norm)
    assert surface.loss[1, 1] == pytest.approx(expected, rel=tolerance)


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


def test_parameters_that_a_direction_does_not_name_stay():
    model, x, y = images()
    u = filter_normalized_direction(model, seed=0)
    whole = loss_surface(model, x, y, directions=[u], points=5)
    named = {name: d for name, d in u.items() if name in ("0.weight", "6.weight")}
    part = loss_surface(model, x, y, directions=[named], points=5)
    np.testing.assert_array_equal(part.loss, whole.loss)


def test_the_cosine_is_that_of_the_whole_directions():
    model, x, y = images()
    u, v = two_directions(model)
    surface = loss_surface(model, x, y, directions=[u, v], points=3)
    one, other = (torch.cat([d.flatten() for d in w.values()]) for w in (u, v))
    expected = nn.functional.cosine_similarity(one, other, dim=0).item()
    assert surface.cosine == pytest.approx(expected, rel=1e-12)
    twice = loss_surface(model, x, y, directions=[u, u], points=3)
    assert twice.cosine == pytest.approx(1, rel=1e-14)


def test_losses_that_are_not_finite_stay_so():
    class Walled(Linear):
        def forward(self, x):
            outputs, w = super().forward(x), self.weights[0]
            return outputs * (torch.nan if w > 1.4 else torch.inf if w < 0.6 else 1)

    surface = loss_surface(
        Walled([1.0], [1.0]),
        torch.zeros(2, 1),
        torch.zeros(2),
        directions=[{"weights": torch.ones(1)}],
        extent=0.5,
        points=5,
        loss=total,
        done={(1,): np.nan},
    )
    np.testing.assert_array_equal(surface.loss, [np.inf, np.nan, 2, 2.25, np.nan])


# Loss surfaces: resumed, on threads, in chunks


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("after", [1, 4, 14])
def test_an_interrupted_surface_goes_on(threads, after):
    model, x, y = images()
    before = state_of(model)
    options = {"directions": two_directions(model), "points": (3, 5), "threads": threads}
    whole, first, second = {}, {}, {}
    surface = loss_surface(model, x, y, on_point=whole.__setitem__, **options)

    def until_killed(index, value):
        first[index] = value
        if len(first) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loss_surface(model, x, y, on_point=until_killed, **options)
    assert_same_state(model, before)
    assert len(first) == after
    resumed = loss_surface(model, x, y, done=first, on_point=second.__setitem__, **options)
    np.testing.assert_array_equal(resumed.loss, surface.loss)
    assert not first.keys() & second.keys()
    assert first | second == whole
    assert {index: surface.loss[index] for index in np.ndindex(3, 5)} == whole


def test_points_are_told_in_the_callers_thread():
    model, x, y = images()
    found = []
    loss_surface(
        model,
        x,
        y,
        directions=two_directions(model)[:1],
        points=5,
        threads=2,
        on_point=lambda *_: found.append(threading.current_thread()),
    )
    assert found == [threading.current_thread()] * 5


def test_losses_done_for_other_weights_are_refused():
    model, x, y = images()
    options = {"directions": two_directions(model), "points": 3}
    with pytest.raises(ValueError, match=r"in the middle, \(1, 1\).*other weights"):
        loss_surface(model, x, y, done={(1, 1): 0.25}, **options)
    with pytest.raises(ValueError, match=r"point \(3, 0\): not on a grid of \(3, 3\)"):
        loss_surface(model, x, y, done={(3, 0): 0.25}, **options)


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_surface_does_not_depend_on_the_number_of_threads(batch_norm, dtype):
    model, x, y = images(dtype)
    one, two, three = (
        loss_surface(
            model,
            x,
            y,
            directions=two_directions(model),
            points=(3, 5),
            threads=threads,
            batch_norm=batch_norm,
            chunk_size=7,
        ).loss
        for threads in (1, 2, 3)
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, three)


def test_points_are_computed_at_once_on_one_thread_of_torch_each():
    model, x, y = images()
    here, meeting, counts = threading.current_thread(), threading.Barrier(2, timeout=30), set()

    def meet(outputs, labels):
        counts.add(torch.get_num_threads())
        if threading.current_thread() is not here:
            meeting.wait()  # breaks, and fails, unless two points are under way
        return nn.functional.cross_entropy(outputs, labels, reduction="sum")

    torch.set_num_threads(2)
    try:
        loss_surface(
            model, x, y, directions=two_directions(model)[:1], points=9, threads=2, loss=meet
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert counts == {1}


@pytest.mark.parametrize("batch_norm", ["stored", "reestimate"])
@pytest.mark.parametrize("chunk_size", [1, 7, 20])
def test_a_surface_does_not_depend_on_the_chunk_size(batch_norm, chunk_size):
    model, x, y = images()
    options = {"directions": two_directions(model), "points": 3, "batch_norm": batch_norm}
    whole = loss_surface(model, x, y, **options).loss
    parts = loss_surface(model, x, y, chunk_size=chunk_size, **options).loss
    np.testing.assert_allclose(parts, whole, rtol=1e-13)


def test_a_float32_network_has_the_surface_of_its_float64_twin():
    model, x, y = images(torch.float32)
    directions = two_directions(model)
    single = loss_surface(model, x, y, directions=directions, points=5).loss
    double = loss_surface(model.double(), x.double(), y, directions=directions, points=5).loss
    np.testing.assert_allclose(single, double, rtol=1e-5)


def test_a_network_that_needs_its_images_in_their_order_is_measured_too():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.dense = nn.Conv2d(2, 4, 3), nn.Linear(64, 3)

        def forward(self, x):
            h = self.conv(x)
            return self.dense(h.view(len(h), -1))  # refused where channels come last

    model, (_, x, y) = Viewing(), images(torch.float32)
    surface = loss_surface(model, x, y, directions=two_directions(model), points=3)
    assert surface.loss[1, 1] == pytest.approx(evaluate(model, x, y).loss, rel=1e-5)


def test_networks_without_images_or_classes_are_measured_too():
    model, x = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double(), torch.randn(9, 4).double()
    y = torch.randn(9, dtype=torch.float64)
    surface = loss_surface(
        model,
        x,
        y,
        directions=two_directions(model)[:1],
        points=3,
        loss=lambda outputs, y: (outputs - y).square().sum(),
    )
    assert surface.loss[1] == pytest.approx((model(x) - y).square().mean().item(), rel=1e-13)


# Loss surfaces: what is left alone, and what is refused


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_network_is_left_as_it_was_also_after_an_exception(batch_norm, threads):
    model, x, y = images()
    before, data = state_of(model), (x.clone(), y.clone())
    options = {"directions": two_directions(model), "points": 3, "threads": threads}
    loss_surface(model, x, y, batch_norm=batch_norm, **options)
    assert_same_state(model, before)
    for calls in (0, 1, 2, 5):
        with pytest.raises(KeyboardInterrupt):
            loss_surface(model, x, y, batch_norm=batch_norm, loss=failing_after(calls), **options)
        assert_same_state(model, before)
    assert torch.equal(x, data[0])
    assert torch.equal(y, data[1])


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_a_surface_does_not_depend_on_the_mode_before_the_call(batch_norm):
    found = []
    for prepare in (nn.Module.train, nn.Module.eval, lambda model: None):
        model, x, y = images()
        directions = two_directions(model)
        prepare(model)
        options = {"points": 3, "batch_norm": batch_norm}
        found.append(loss_surface(model, x, y, directions=directions, **options).loss)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_a_network_that_is_not_deterministic_is_refused():
    class Noisy(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + 0.1 * torch.randn(len(x), 3)

    model, x, y = images()
    with pytest.raises(ValueError, match="two evaluations.*random"):
        loss_surface(Noisy(*model), x, y, directions=two_directions(model))


@pytest.mark.parametrize("nothing", [{}, {"weight": torch.zeros(1, 2)}])
def test_a_direction_of_zero_is_refused_before_anything_is_computed(nothing):
    model, seen = nn.Linear(2, 1, bias=False), []
    x, y = torch.ones(3, 2), torch.zeros(3)
    with pytest.raises(ValueError, match=r"directions\[1\] is zero for every parameter"):
        loss_surface(
            model,
            x,
            y,
            directions=[{"weight": torch.ones(1, 2)}, nothing],
            points=3,
            loss=lambda o, y: o.sum(),
            on_point=lambda *point: seen.append(point),
        )
    assert not seen


def test_weights_that_are_not_finite_are_refused():
    model, x, y = images()
    directions = two_directions(model)
    with torch.no_grad():
        model[0].weight[:] = torch.nan
    with pytest.raises(ValueError, match="loss at the weights is nan"):
        loss_surface(model, x, y, directions=directions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 4}, "points = 4: must be odd"),
        ({"points": 1}, "points = 1: must be odd and at least 3"),
        ({"points": (3, 4)}, r"points = \(3, 4\): must be odd"),
        ({"points": 3.0}, "points = 3.0"),
        ({"points": (3, 3, 3)}, r"points = \(3, 3, 3\): needed is one number, or 2"),
        ({"extent": 0.0}, "extent = 0.0: must be positive"),
        ({"extent": (1.0, -1.0)}, "extent = .*must be positive"),
        ({"extent": float("nan")}, "extent = nan"),
        ({"threads": 0}, "threads = 0: must be at least 1"),
        ({"points_per_pass": 0}, "points_per_pass = 0: must be at least 1"),
        ({"batch_norm": "frozen"}, "batch_norm = 'frozen'; allowed: stored"),
        ({"loss": "cross_entrop"}, "did you mean 'cross_entropy'"),
        ({"directions": []}, "directions.*one or two"),
        ({"directions": {"0.weight": torch.zeros(4, 2, 3, 3)}}, "directions.*one or two"),
        ({"directions": [{"0.wight": torch.zeros(1)}]}, r"\[0\].*'0.wight'.*mean '0.weight'"),
        ({"directions": [{}, {"0.bias": torch.zeros(3)}]}, r"\[1\]\['0.bias'\].*\(3,\).*\(4,\)"),
        ({"directions": [{"0.bias": torch.full((4,), torch.nan)}]}, "4 values.*not finite"),
    ],
)
def test_options_not_allowed_are_refused_and_leave_the_network_alone(options, message):
    model, x, y = images()
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        loss_surface(model, x, y, **{"directions": two_directions(model)} | options)
    assert_same_state(model, before)


def test_inputs_without_their_labels_are_refused():
    model, x, y = images()
    with pytest.raises(ValueError, match="21 inputs and 20 labels"):
        loss_surface(model, x, y[:-1], directions=two_directions(model))
    with pytest.raises(ValueError, match="set 'test': 0 inputs and 0 labels"):
        interpolate(model, {}, {}, {"test": (x[:0], y[:0])}, alphas=[0, 1])


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
    rows = interpolate(model, a, b, sets, alphas=[0, 0.5, 1], path=path, batch_norm=batch_norm)
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


class Recorder(nn.Module):
    """A network whose output tells its weights and buffers."""

    def __init__(self, w, buffer, count):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))
        self.register_buffer("running_mean", torch.tensor(buffer, dtype=torch.float64))
        self.register_buffer("running_var", torch.tensor(buffer, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(count))
        self.register_buffer("mask", torch.tensor(-torch.inf, dtype=torch.float64))
        self.seen = []

    def forward(self, x):
        seen = (self.w, self.running_mean, self.running_var, self.count, self.mask)
        SEEN.append([t.item() for t in seen])
        return self.w * x


SEEN = []


def recorded(alphas, **options):
    SEEN.clear()
    a, b = Recorder(0.1, 1.0, 3), Recorder(0.7, 2.0, 5)
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    ends = a.state_dict(), b.state_dict()
    interpolate(a, *ends, {"train": (x, y)}, alphas=alphas, batch_norm="stored", **options)
    return SEEN


@pytest.mark.parametrize("path", ["linear", "curvilinear"])
def test_the_ends_are_exact_in_weights_and_buffers(path):
    first, last = recorded([0, 1], path=path)
    assert first == [0.1, 1.0, 1.0, 3, -torch.inf]
    assert last == [0.7, 2.0, 2.0, 5, -torch.inf]


def test_the_paths_are_those_of_the_paper():
    alphas = np.linspace(-1, 2, 25)
    for alpha, (w, *_) in zip(alphas, recorded(alphas), strict=True):
        assert w == pytest.approx((1 - alpha) * 0.1 + alpha * 0.7, rel=1e-14, abs=1e-15)
    for alpha, (w, *_) in zip(alphas, recorded(alphas, path="curvilinear"), strict=True):
        expected = np.sin(alpha * np.pi / 2) * 0.7 + np.cos(alpha * np.pi / 2) * 0.1
        assert w == pytest.approx(expected, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("path", ["linear", "curvilinear"])
def test_stored_statistics_are_interpolated_linearly_and_variances_are_never_negative(path):
    seen = recorded([-3, 0, 0.25, 0.75, 1, 2], path=path)
    assert [row[1] for row in seen] == [-2, 1, 1.25, 1.75, 2, 3]
    assert [row[2] for row in seen] == [0, 1, 1.25, 1.75, 2, 3]
    assert [row[3] for row in seen] == [3, 3, 3, 5, 5, 5]
    assert {row[4] for row in seen} == {-torch.inf}


@pytest.mark.parametrize("path", ["linear", "curvilinear"])
def test_the_loss_between_two_linear_models_has_its_closed_form(path):
    torch.manual_seed(0)
    a, b = (nn.Linear(3, 1, bias=False).double() for _ in range(2))
    x, y = torch.randn(11, 3, dtype=torch.float64), torch.randn(11, 1, dtype=torch.float64)
    alphas = np.linspace(-1, 2, 25)
    rows = interpolate(
        a,
        a.state_dict(),
        b.state_dict(),
        {"train": (x, y)},
        alphas=alphas,
        path=path,
        loss=lambda outputs, y: (outputs - y).square().sum(),
        chunk_size=4,
    )
    angle = alphas * np.pi / 2
    of_a, of_b = (1 - alphas, alphas) if path == "linear" else (np.cos(angle), np.sin(angle))
    outputs = [p * a(x) + q * b(x) for p, q in zip(of_a, of_b, strict=True)]  # linear in weights
    expected = [(output - y).square().mean().item() for output in outputs]
    np.testing.assert_allclose(rows["loss"], expected, rtol=1e-12)


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_interpolation_does_not_depend_on_threads(batch_norm):
    model, a, b, sets = networks()
    one, two = (
        interpolate(
            model, a, b, sets, alphas=np.linspace(-1, 2, 7), batch_norm=batch_norm, threads=threads
        )
        for threads in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert one["loss"].nunique() == 14


def test_batch_norm_is_reestimated_over_the_training_set_at_every_alpha():
    model, a, b, sets = networks()
    rows = interpolate(model, a, b, sets, alphas=[0, 0.5, 1])
    middle = with_weights(model, {k: (a[k] + b[k]) / 2 if a[k].ndim else a[k] for k in a})
    reestimate_batch_norm(middle, [sets["train"][0]])
    expected = [evaluate(middle, *sets[name]).loss for name in ("train", "test")]
    assert rows["loss"].tolist()[2:4] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_interpolation_leaves_network_and_weights_as_they_were(dtype, batch_norm):
    model, a, b, sets = networks()
    model = model.to(dtype)
    sets = {name: (x.to(dtype), y) for name, (x, y) in sets.items()}
    before, ends = state_of(model), deepcopy((a, b))
    interpolate(model, a, b, sets, alphas=[0, 0.5, 1], batch_norm=batch_norm)
    assert_same_state(model, before)
    with pytest.raises(KeyboardInterrupt):
        interpolate(model, a, b, sets, alphas=[0, 0.5, 1], threads=2, loss=failing_after(3))
    assert_same_state(model, before)
    for end, kept in zip((a, b), ends, strict=True):
        assert all(torch.equal(end[name], kept[name]) for name in kept)


def test_surlemonts_network_is_interpolated_on_images():
    ends = [models.build("surlemont", (1, 8, 8), 10, width=0.25).float() for _ in range(2)]
    x, y = torch.rand(70, 1, 8, 8), torch.randint(10, (70,))
    a, b = (end.state_dict() for end in ends)
    rows = interpolate(ends[0], a, b, {"test": (x, y)}, alphas=[0, 1], threads=2)
    expected = [evaluate(end, x, y).loss for end in ends]
    assert rows["loss"].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": [0, 0.5, 0.999999]}, "alphas = .*exactly 0 and 1"),
        ({"alphas": [0.0, 1.0, float("nan")]}, "alphas = .*finite"),
        ({"path": "curved"}, "path = 'curved'.*linear, curvilinear"),
        ({"batch_norm": "frozen"}, "batch_norm = 'frozen'"),
        ({"threads": 0}, "threads = 0"),
        ({"points_per_pass": 0}, "points_per_pass = 0"),
        ({"sets": {}}, "sets is empty"),
        ({"loss": "cross_entrop"}, "did you mean 'cross_entropy'"),
    ],
)
def test_what_interpolation_does_not_allow_is_refused(options, message):
    model, a, b, sets = networks()
    before = state_of(model)
    options = {"sets": sets, "alphas": [0, 1]} | options
    with pytest.raises(ValueError, match=message):
        interpolate(model, a, b, options.pop("sets"), **options)
    assert_same_state(model, before)


def test_weights_that_do_not_fit_are_refused():
    model, a, b, sets = networks()

    def refused(weights, message):
        with pytest.raises(ValueError, match=message):
            interpolate(model, a, weights, sets, alphas=[0, 1])

    refused({k: t for k, t in b.items() if k != "0.bias"}, "weights_b lacks '0.bias'")
    refused(b | {"7.bias": torch.zeros(1)}, "weights_b has an unknown '7.bias'")
    refused(b | {"0.bias": torch.zeros(3)}, r"weights_b\['0.bias'\] has shape \(3,\)")
    refused(b | {"0.bias": torch.full((4,), torch.inf)}, r"weights_b\['0.bias'\] holds 4 values")


def test_without_a_training_set_batch_norm_cannot_be_reestimated():
    model, a, b, sets = networks()
    del sets["train"]
    with pytest.raises(ValueError, match="sets = test.*'train'"):
        interpolate(model, a, b, sets, alphas=[0, 1])
    assert len(interpolate(model, a, b, sets, alphas=[0, 1], batch_norm="stored")) == 2


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


def tied():
    """A network that uses a weight twice."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3)).double()
    model[2].weight = model[0].weight
    return model, torch.randn(9, 4, dtype=torch.float64), torch.randint(3, (9,))


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
def test_a_surface_does_not_depend_on_how_many_points_share_a_pass(network, batch_norm):
    model, x, y = classifier(network)
    before = state_of(model)
    options = {"directions": two_directions(model), "points": (3, 5), "chunk_size": 8}
    options |= {"batch_norm": batch_norm}
    alone = loss_surface(model, x, y, **options).loss
    assert len(np.unique(alone)) == 15
    for count, threads in ((1, 1), (4, 1), (4, 2), (100, 1)):
        told = {}
        surface = loss_surface(
            model,
            x,
            y,
            points_per_pass=count,
            threads=threads,
            on_point=told.__setitem__,
            **options,
        )
        np.testing.assert_allclose(surface.loss, alone, rtol=1e-12)
        assert told == {index: surface.loss[index] for index in np.ndindex(3, 5)}
    assert_same_state(model, before)


@pytest.mark.parametrize("path", ["linear", "curvilinear"])
@pytest.mark.parametrize("batch_norm", BATCH_NORM)
@pytest.mark.parametrize("network", ["f1", "c1", "images"])
def test_a_line_does_not_depend_on_how_many_points_share_a_pass(network, batch_norm, path):
    model, x, y = classifier(network)
    a, b, sets = moved(model, 1), moved(model, 2), {"train": (x[:15], y[:15]), "test": (x, y)}
    options = {"alphas": np.linspace(-1, 2, 7), "path": path, "batch_norm": batch_norm}
    options |= {"chunk_size": 8}
    alone = interpolate(model, a, b, sets, **options)
    assert alone["loss"].nunique() == 14
    for count, threads in ((1, 1), (3, 1), (3, 2), (100, 1)):
        rows = interpolate(model, a, b, sets, points_per_pass=count, threads=threads, **options)
        pd.testing.assert_frame_equal(rows, alone, check_exact=False, rtol=1e-11)


def test_the_ends_are_exact_with_several_points_in_a_pass():
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)  # float32
    column = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    for path in ("linear", "curvilinear"):
        several = lines._weights(a.weight, b.weight, column, path)
        assert torch.equal(several[0], a.weight)
        assert torch.equal(several[2], b.weight)
    counts = lines._buffers("count", torch.tensor(3), torch.tensor(5), column)
    assert counts.tolist() == [3, 3, 5]


@pytest.mark.parametrize("count", [2, 100])
def test_a_weight_used_twice_is_moved_once(count):
    model, x, y = tied()
    directions = two_directions(model)
    alone, several = (
        loss_surface(model, x, y, directions=directions, points=3, points_per_pass=points).loss
        for points in (1, count)
    )
    np.testing.assert_allclose(several, alone, rtol=1e-13)


@pytest.mark.parametrize("after", [1, 4, 14])
def test_an_interrupted_surface_goes_on_with_several_points_in_a_pass(after):
    model, x, y = images()
    options = {"directions": two_directions(model), "points": (3, 5), "points_per_pass": 4}
    surface, first, second = loss_surface(model, x, y, **options), {}, {}

    def until_killed(index, value):
        first[index] = value
        if len(first) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loss_surface(model, x, y, on_point=until_killed, **options)
    assert len(first) == after
    resumed = loss_surface(model, x, y, done=first, on_point=second.__setitem__, **options)
    assert not first.keys() & second.keys()
    assert (first | second).keys() == set(np.ndindex(3, 5))
    np.testing.assert_allclose(resumed.loss, surface.loss, rtol=1e-13)


def test_a_network_that_cannot_share_a_pass_takes_one_point_at_a_time_and_says_so(caplog):
    model, x, y = images()
    model = Branching(*model)
    a, b, sets = moved(model, 1), moved(model, 2), {"train": (x, y)}
    plane = {"directions": two_directions(model), "points": 3}
    line = {"alphas": np.linspace(-1, 2, 7)}
    surface = loss_surface(model, x, y, **plane).loss
    rows = interpolate(model, a, b, sets, **line)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        same = loss_surface(model, x, y, points_per_pass=4, **plane).loss
        np.testing.assert_array_equal(same, surface)
        same = interpolate(model, a, b, sets, points_per_pass=4, **line)
        pd.testing.assert_frame_equal(same, rows, check_exact=True)
    assert [record.getMessage()[:36] for record in caplog.records] == [
        "not 4 points in a pass, one instead:"
    ] * 2
    assert "data-dependent" in caplog.text


def test_a_loss_that_cannot_share_a_pass_is_asked_about_one_point_at_a_time(caplog):
    model, x, y = images()

    def hard(outputs, y):
        return outputs.sum() if outputs.sum().item() > 0 else -outputs.sum()

    options = {"directions": two_directions(model), "points": 3, "loss": hard}
    alone = loss_surface(model, x, y, **options).loss
    with caplog.at_level(logging.WARNING):
        several = loss_surface(model, x, y, points_per_pass=4, **options).loss
    np.testing.assert_array_equal(several, alone)
    assert "not 4 points in a pass" in caplog.text


def test_outputs_without_classes_share_a_pass(caplog):
    model, x = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double(), torch.randn(9, 4).double()
    options = {
        "directions": two_directions(model)[:1],
        "points": 5,
        "loss": lambda outputs, y: (outputs - y).square().sum(),
    }
    y = torch.randn(9, dtype=torch.float64)
    alone, several = (
        loss_surface(model, x, y, points_per_pass=count, **options).loss for count in (1, 3)
    )
    np.testing.assert_allclose(several, alone, rtol=1e-13)
    assert not caplog.records


def test_a_cpu_takes_one_point_a_pass_unless_asked(monkeypatch):
    def refused(*arguments):
        raise AssertionError("stacked")

    monkeypatch.setattr("bsglib.stacked.Stacked.__init__", refused)
    model, x, y = tied()
    a, b, sets = moved(model, 1), moved(model, 2), {"train": (x, y)}
    loss_surface(model, x, y, directions=two_directions(model), points=3)
    interpolate(model, a, b, sets, alphas=[0, 1])
    with pytest.raises(AssertionError, match="stacked"):
        interpolate(model, a, b, sets, alphas=[0, 1], points_per_pass=2)


def test_an_accelerator_takes_as_many_points_as_fill_it_and_fit_its_memory(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (8000, 80000))
    device = torch.device("cuda")
    assert runtime.points_per_pass(device, 1000, 10) == 4  # of 4096 examples
    assert runtime.points_per_pass(device, 1000, 400) == 2  # of an eighth of 8000 bytes
    assert runtime.points_per_pass(device, 5000, 1) == 1
    assert runtime.points_per_pass(device, 1, 10**6) == 1
    assert runtime.points_per_pass(torch.device("cpu"), 1, 1) == 1


def test_chunks_suit_the_device_unless_statistics_depend_on_them():
    there, here = torch.empty(5000, 3, device="meta"), torch.empty(5000, 3)
    assert passes.chunk_size_for(None, there, "stored") == 4096
    assert passes.chunk_size_for(None, there, "batch") == 64
    assert passes.chunk_size_for(None, here, "stored") == 64
    assert passes.chunk_size_for(7, there, "stored") == 7


def test_convolutions_share_a_pass_only_where_asked(monkeypatch):
    monkeypatch.setattr("bsglib.runtime.points_per_pass", lambda of, examples, size: examples)
    convolutional, x, _ = images()
    dense, flat, _ = tied()
    assert passes.points_per_pass_for(None, convolutional, x, 64) == 1
    assert passes.points_per_pass_for(5, convolutional, x, 64) == 5
    assert passes.points_per_pass_for(None, dense, flat, 64) == len(flat)
    assert passes.points_per_pass_for(None, dense, flat, 4) == 4


# The path of a training


@pytest.mark.parametrize("k", [3, 7])
def test_the_plane_of_a_path_is_that_of_a_singular_value_decomposition(k):
    weights = torch.from_numpy(np.random.default_rng(k).standard_normal((k, 20)).cumsum(axis=0))
    plane = trajectory_plane(weights)
    u, s, vt = np.linalg.svd((weights - weights[-1]).numpy(), full_matrices=False)
    np.testing.assert_allclose(np.abs(plane.coordinates), np.abs(u * s)[:, :2], atol=1e-12)
    np.testing.assert_allclose(plane.directions.abs().numpy(), np.abs(vt[:2]), atol=1e-12)
    np.testing.assert_allclose(plane.explained, (s**2 / (s**2).sum())[:2], rtol=1e-12)
    back = plane.coordinates @ plane.directions.numpy()
    rest = np.linalg.norm((weights - weights[-1]).numpy() - back) ** 2
    assert rest == pytest.approx((s[2:] ** 2).sum(), abs=1e-12)


def test_a_straight_path_is_explained_by_one_direction():
    weights = torch.linspace(0, 1, 5).double()[:, None] * torch.arange(4.0).double()
    plane = trajectory_plane(weights)
    assert plane.explained == pytest.approx((1, 0), abs=1e-12)
    assert np.isfinite(plane.coordinates).all() and torch.isfinite(plane.directions).all()


def test_a_path_of_two_points_has_no_plane():
    with pytest.raises(ValueError, match="at least 3"):
        trajectory_plane(torch.zeros(2, 5))
