"""Tests of bsglib.models."""

import math

import pytest
import torch
from torch import nn

from bsglib.models import Dropout, ModelError, build

DRAWS = 2**18


def mlp(input_shape, classes, *, hidden: int = 4):
    """A user's network, found by the name of this module."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(input_shape), hidden), nn.Linear(hidden, classes)
    )


# The networks of Keskar et al. and Kaabachi et al.


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        ("f1", (1, 28, 28), 10, 1_462_794),
        ("f2", (360,), 1973, 2_780_085),
        ("c1", (3, 32, 32), 10, 1_757_834),
        ("c2", (3, 32, 32), 10, 14_991_946),
        ("kaabachi", (3, 32, 32), 10, 5_852_170),
        ("chang", (3, 128, 128), 2, 353_161),
        ("chang", (3, 64, 64), 2, 156_553),
    ],
)
def test_a_network_has_as_many_weights_as_worked_out_by_hand(name, shape, classes, count):
    model = build(name, shape, classes)
    assert sum(w.numel() for w in model.parameters()) == count
    assert model(torch.rand(3, *shape, dtype=torch.float64)).shape == (3, classes)


PAPERS = ("surlemont", "f1", "f2", "c1", "c2", "kaabachi")


def layers(model, *kinds):
    return [m for m in model.modules() if isinstance(m, kinds)]


@pytest.mark.parametrize("name", PAPERS)
def test_width_multiplies_the_layers_and_none_is_narrower_than_one_unit(name):
    model = build(name, (1, 8, 8), 10, width=1e-9)
    sizes = [len(m.weight) for m in layers(model, nn.Conv2d, nn.Linear)]
    assert sizes == [1] * (len(sizes) - 1) + [10]
    half, whole = (
        [len(m.weight) for m in layers(build(name, (1, 8, 8), 10, width=w), nn.Conv2d, nn.Linear)]
        for w in (0.5, 1.0)
    )
    assert [2 * n for n in half[:-1]] == whole[:-1]


@pytest.mark.parametrize(("name", "pool"), [("c1", 3), ("c2", 2)])
@pytest.mark.parametrize("activation", ["relu", "elu", "tanh"])
def test_a_layer_is_weights_batch_norm_activation_pooling(name, pool, activation):
    model = build(name, (3, 32, 32), 10, width=0.1, activation=activation, dropout=0.0)
    for norm in layers(model, nn.BatchNorm2d, nn.BatchNorm1d):
        nn.init.normal_(norm.weight)  # negative gains too
    function = {"relu": torch.relu, "elu": nn.functional.elu, "tanh": torch.tanh}[activation]
    x = torch.randn(6, 3, 32, 32, dtype=torch.float64)
    expected, parts = x, iter([m for m in model if not isinstance(m, Dropout)])
    for part in parts:  # in the source's order
        if isinstance(part, nn.Flatten):
            expected = expected.flatten(1)
            continue
        expected = part(expected)
        if part is not model[-1]:
            expected = next(parts)(expected)  # batch norm
            kind = next(parts)
            expected = function(expected)
            if isinstance(kind, nn.MaxPool2d):
                next(parts)
                expected = nn.functional.max_pool2d(expected, pool, 2, padding=pool // 3)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["surlemont", "f1", "f2", "c1", "c2", "chang"])
def test_these_networks_begin_as_in_keras(name):
    model = build(name, (1, 32, 32), 10)
    for layer in layers(model, nn.Conv2d, nn.Linear):
        fans = sum(layer.weight.shape[:2]) * layer.weight[0, 0].numel()
        bound = math.sqrt(6 / fans)  # Glorot's, of a uniform distribution
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        if layer.weight.numel() > 10_000:
            assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.05)
        assert (layer.bias == 0).all()
    for norm in layers(model, nn.BatchNorm1d, nn.BatchNorm2d):
        assert (norm.eps, norm.momentum) == (1e-3, 0.01)


# The network of Chang & Pathak


@pytest.mark.parametrize("scale", [1.0, 1e3])  # large scores too, where a sigmoid is 0 or 1
def test_cross_entropy_of_changs_scores_is_the_binary_one_of_its_unit(scale):
    model = build("chang", (3, 16, 16), 2, blocks=4)
    x = scale * torch.randn(9, 3, 16, 16, dtype=torch.float64)
    y = torch.arange(9) % 2
    scores, unit = model(x), model[:-1](x)
    assert torch.equal(scores, torch.cat([torch.zeros_like(unit), unit], 1))
    assert torch.equal(scores.argmax(1), (unit[:, 0] > 0).long())
    torch.testing.assert_close(scores.softmax(1)[:, 1:], unit.sigmoid(), rtol=1e-13, atol=1e-300)
    losses = (
        nn.functional.cross_entropy(scores, y),
        nn.functional.binary_cross_entropy_with_logits(unit[:, 0], y.double()),
    )
    torch.testing.assert_close(*losses, rtol=1e-13, atol=0)
    weights = list(model.parameters())
    slopes = [torch.autograd.grad(loss, weights, retain_graph=True) for loss in losses]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-13 * scale)


def test_changs_layers_are_the_sources_though_pooling_stands_before_relu():
    model = build("chang", (3, 40, 33), 5)
    relu, expected = nn.ReLU(), (x := torch.randn(4, 3, 40, 33, dtype=torch.float64))
    for convolution in layers(model, nn.Conv2d):
        expected = nn.functional.max_pool2d(relu(convolution(expected)), 2)
    first, second, last = layers(model, nn.Linear)
    expected = last(relu(second(relu(first(expected.flatten(1))))))
    assert torch.equal(model(x), expected)
    assert [m.out_channels for m in layers(model, nn.Conv2d)] == [4, 8, 16, 32, 64]


def test_the_seed_alone_decides_the_weights_drawn_in_float64_and_the_default_dtype_is_left():
    models = []
    for seed, dropout in ((3, 0.5), (3, 0.5), (3, 0.0), (4, 0.5)):
        torch.manual_seed(seed)
        models.append(build("surlemont", (1, 8, 8), 10, width=0.25, dropout=dropout).state_dict())
    first, *same, other = models
    assert all(torch.equal(first[name], model[name]) for model in same for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert {w.dtype for w in first.values()} == {torch.float64}
    weights = first["0.weight"]
    assert not torch.equal(weights, weights.float().double())  # not cast from float32
    with pytest.raises(ModelError):
        build("surlemont", (64,), 10)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_drops_a_share_of_p(p):
    x = Dropout(p)(torch.ones(DRAWS, dtype=torch.float64))
    deviation = math.sqrt(p * (1 - p) / DRAWS)
    assert abs((x == 0).double().mean().item() - p) < 4 * deviation + 2**-17
    assert x.mean().item() == pytest.approx(1, abs=(4 * deviation + 2**-17) / (1 - p))
    variance = p / (1 - p)
    assert x.var().item() == pytest.approx(variance, rel=0.03)
    assert x[x != 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-4)


def test_the_same_torch_seed_gives_the_same_mask_in_memory_in_every_layout_and_dtype():
    masks = []
    for layout in (torch.contiguous_format, torch.channels_last):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            torch.manual_seed(5)
            x = torch.ones(2, 3, 5, 7, dtype=dtype).to(memory_format=layout)
            dropped = Dropout(0.5)(x)
            assert dropped.is_contiguous(memory_format=layout)
            masks.append(dropped.as_strided((x.numel(),), (1,)) == 0)  # in the order of memory
    assert all(torch.equal(masks[0], mask) for mask in masks)
    torch.manual_seed(6)
    assert not torch.equal(masks[0], (Dropout(0.5)(torch.ones(2, 3, 5, 7)) == 0).flatten())


@pytest.mark.parametrize("p", [-0.1, 1.0, math.nan])
def test_a_share_that_cannot_be_dropped_is_refused(p):
    with pytest.raises(ValueError, match="allowed"):
        Dropout(p)


def test_a_users_network_is_found_by_module_and_function():
    model = build(f"{__name__}:mlp", (1, 4, 4), 3, hidden=6)
    assert [m.out_features for m in model.modules() if isinstance(m, nn.Linear)] == [6, 3]


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("surlemont", (1, 2, 2), {}, r"shape \(1, 2, 2\)"),
        ("surlemont", (1, 8, 8), {"dropout": 1.0}, "dropout p = 1.0"),
        ("f1", (1, 8, 8), {"dropout": 0.5}, "no option 'dropout'.*width, batch_norm, activation"),
        ("c1", (1, 8, 8), {"droput": 0.5}, "no option 'droput'.*did you mean 'dropout'"),
        ("c2", (1, 8, 8), {"activation": "rleu"}, "did you mean 'relu'.*elu, tanh"),
        ("f1", (1, 8, 8), {"batch_norm": "both"}, "batch_norm = 'both'.*true and false"),
        ("kaabachi", (1, 8, 8), {"batch_norm": True}, "batch_norm = True; allowed: first, both"),
        ("chang", (3, 64, 31), {}, r"blocks = 5 halve.*at least 32 x 32 pixels, or fewer blocks"),
        ("chang", (1, 8, 8), {"blocks": 0}, "blocks = 0: allowed are 1 to 5"),
        (f"{__name__}:mlp", (1, 8, 8), {"hiden": 4}, "hiden.*options: hidden"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, shape, options, message):
    with pytest.raises(ModelError, match=message):
        build(name, shape, 10, **options)
