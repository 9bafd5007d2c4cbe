"""Tests of bsglib.models."""

import math

import pytest
import torch
from torch import nn

from bsglib.models import Dropout, Flatten, ModelError, build, glorot_uniform

DRAWS = 2**18


def mlp(input_shape, classes, *, hidden: int = 4):
    """A user's network, found by the name of this module."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(input_shape), hidden), nn.Linear(hidden, classes)
    )


def test_the_network_has_the_sources_layers():
    model = build("surlemont", (1, 28, 28), 10)
    shapes = [tuple(w.shape) for w in model.parameters()]
    assert shapes == [(32, 1, 3, 3), (32,), (64, 32, 3, 3), (64,), (10, 64 * 7 * 7), (10,)]
    assert [m.p for m in model.modules() if isinstance(m, Dropout)] == [0.5, 0.5]


def test_pooling_and_flattening_before_relu_equal_relu_before_them():
    model = build("surlemont", (1, 12, 12), 10, width=0.25, dropout=0.0)
    conv1, pool, relu, _, conv2, _, flatten, _, _, dense = model
    as_written = nn.Sequential(conv1, relu, pool, conv2, relu, pool, flatten, dense)
    x = torch.randn(6, 1, 12, 12, dtype=torch.float64)
    assert torch.equal(model(x), as_written(x))


# The networks of Keskar et al. and Kaabachi et al.


def dense(inputs, outputs):
    return (inputs + 1) * outputs


def conv(size, inputs, outputs):
    return (size**2 * inputs + 1) * outputs


F1 = dense(784, 512) + 4 * dense(512, 512) + 5 * 2 * 512  # and the scores
F2 = dense(360, 512) + 6 * dense(512, 512) + 7 * 2 * 512
C1 = conv(5, 3, 64) + conv(5, 64, 64) + dense(4096, 384) + dense(384, 192) + 2 * (128 + 384 + 192)
C2 = sum(
    conv(3, a, b) + 2 * b
    for a, b in [
        *[(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)],
        *[(256, 512), (512, 512), (512, 512), (512, 512), (512, 512), (512, 512)],
    ]
)
C2 += dense(512, 512) + 2 * 512
KAABACHI = conv(3, 3, 32) + conv(3, 32, 64) + conv(3, 64, 128) + conv(3, 128, 128)
CHANG = sum(conv(3, a, b) for a, b in [(3, 4), (4, 8), (8, 16), (16, 32), (32, 64)])
CHANG += dense(256, 256)
KAABACHI += conv(3, 128, 256) + conv(3, 256, 256) + dense(4096, 1024) + dense(1024, 512)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "count"),
    [
        ("f1", (1, 28, 28), 10, {}, F1 + dense(512, 10)),
        ("f1", (1, 28, 28), 10, {"batch_norm": False}, F1 - 5 * 2 * 512 + dense(512, 10)),
        ("f2", (360,), 1973, {}, F2 + dense(512, 1973)),
        ("c1", (3, 32, 32), 10, {}, C1 + dense(192, 10)),
        ("c1", (3, 32, 32), 10, {"batch_norm": False}, C1 - 2 * (128 + 576) + dense(192, 10)),
        ("c2", (3, 32, 32), 10, {}, C2 + dense(512, 10)),
        ("c2", (1, 8, 8), 10, {}, C2 - 9 * 2 * 64 + dense(512, 10)),  # one pixel is left here too
        ("kaabachi", (3, 32, 32), 10, {}, KAABACHI + 2 * (32 + 128 + 256) + dense(512, 10)),
        (
            *("kaabachi", (3, 32, 32), 10, {"batch_norm": "both"}),
            KAABACHI + 2 * (32 + 64 + 128 + 128 + 256 + 256) + dense(512, 10),
        ),
        ("chang", (3, 128, 128), 2, {}, CHANG + dense(4 * 4 * 64, 256) + dense(256, 1)),
        ("chang", (3, 64, 64), 2, {}, CHANG + dense(2 * 2 * 64, 256) + dense(256, 1)),
        (
            *("chang", (1, 8, 8), 2, {"blocks": 3}),
            conv(3, 1, 4) + conv(3, 4, 8) + conv(3, 8, 16) + dense(16, 256) + dense(256, 256) + 257,
        ),
    ],
)
def test_a_network_has_as_many_weights_as_its_layers(name, shape, classes, options, count):
    model = build(name, shape, classes, **options)
    assert sum(w.numel() for w in model.parameters()) == count


def test_the_counts_are_the_ones_worked_out_by_hand():
    counts = [F1 + 5130, F2 + 5130, C1 + 1930, C2 + 5130, KAABACHI + 832 + 5130]
    assert counts == [1_462_794, 1_773_066, 1_757_834, 14_991_946, 5_852_170]
    counts = [CHANG + dense(side**2 * 64, 256) + dense(256, 1) for side in (4, 2)]
    assert counts == [353_161, 156_553]


PAPERS = ("surlemont", "f1", "f2", "c1", "c2", "kaabachi")


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.parametrize("shape", [(360,), (1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 11, 17)])
def test_the_papers_networks_take_images_of_any_size_and_dense_ones_vectors(name, shape):
    if len(shape) == 3 or name in ("f1", "f2"):
        model = build(name, shape, 7, width=0.1)
        assert model(torch.rand(5, *shape, dtype=torch.float64)).shape == (5, 7)
        assert model.training


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


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("c1", [0.5, 0.5]),
        ("c2", [0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.5, 0.5]),
        ("kaabachi", [0.05, 0.1, 0.1]),
    ],
)
def test_dropout_rates_are_the_sources_and_change_together(name, rates):
    for factor in (1.0, 0.5, 0.0):
        model = build(name, (3, 32, 32), 10, width=0.1, dropout=rates[-1] * factor)
        found = [m.p for m in layers(model, Dropout, nn.Dropout2d)]
        assert found == pytest.approx([factor * p for p in rates], rel=1e-14)
    defaults = layers(build(name, (3, 32, 32), 10, width=0.1), Dropout, nn.Dropout2d)
    assert [m.p for m in defaults] == pytest.approx(rates, rel=1e-14)


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


def test_pooling_keeps_a_single_pixel_and_rounds_up():
    pools = layers(build("c2", (1, 8, 8), 10, width=0.1), nn.MaxPool2d)
    for size, sizes in ((8, [4, 2, 1, 1, 1]), (28, [14, 7, 4, 2, 1]), (32, [16, 8, 4, 2, 1])):
        x, found = torch.rand(1, 1, size, size), []
        for pool in pools:
            x = pool(x)
            found.append(x.shape[-1])
        assert found == sizes


def test_the_layers_of_kaabachis_network_stand_where_its_description_says():
    names = {"first": "CNRCPR CNRCPRd CNRCPR FDLRLRDL", "both": "CNRCNPR CNRCNPRd CNRCNPR FDLRLRDL"}
    letters = {nn.Conv2d: "C", nn.BatchNorm2d: "N", nn.ReLU: "R", nn.MaxPool2d: "P"}
    letters |= {nn.Dropout2d: "d", Dropout: "D", Flatten: "F", nn.Linear: "L"}
    for batch_norm, expected in names.items():
        model = build("kaabachi", (3, 32, 32), 10, width=0.1, batch_norm=batch_norm)
        assert "".join(letters[type(m)] for m in model) == expected.replace(" ", "")


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


def test_kaabachis_network_begins_as_in_pytorch():
    torch.manual_seed(3)
    model = build("kaabachi", (1, 8, 8), 10, width=0.1)
    torch.manual_seed(3)
    for layer in layers(model, nn.Conv2d, nn.Linear):
        weights = [w.clone() for w in (layer.weight, layer.bias)]
        layer.reset_parameters()
        assert all(map(torch.equal, weights, (layer.weight, layer.bias)))
    assert {(m.eps, m.momentum) for m in layers(model, nn.BatchNorm2d)} == {(1e-5, 0.1)}


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
    half = build("chang", (3, 40, 33), 5, width=0.5, blocks=3.0)  # as read back from a config
    assert [len(m.weight) for m in layers(half, nn.Conv2d, nn.Linear)] == [2, 4, 8, 128, 128, 5]


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


def test_glorot_uniform_initialises_every_layer_in_place():
    model = nn.Sequential(nn.Linear(100, 100), nn.Sequential(nn.Conv2d(3, 5, 3)))
    with torch.no_grad():
        for w in model.parameters():
            w.fill_(9.0)
    assert glorot_uniform(model) is model
    assert max(w.abs().max().item() for w in model.parameters()) < 1


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.8])
def test_dropout_keeps_the_mean_and_drops_a_share_of_p(p):
    x = Dropout(p)(torch.ones(DRAWS, dtype=torch.float64))
    deviation = math.sqrt(p * (1 - p) / DRAWS)
    assert abs((x == 0).double().mean().item() - p) < 4 * deviation + 2**-17
    assert x.mean().item() == pytest.approx(1, abs=(4 * deviation + 2**-17) / (1 - p))
    variance = p / (1 - p)
    assert x.var().item() == pytest.approx(variance, rel=0.03)
    assert x[x != 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-4)


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return abs(((a * b).mean() / (a.std() * b.std())).item())


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_dropped_values_are_independent_of_their_neighbours_and_of_other_calls(p):
    dropout, ones = Dropout(p), torch.ones(DRAWS, dtype=torch.float64)
    x = dropout(ones)
    for lag in (1, 2, 3, 4, 8, 64):  # four 16-bit numbers share one 64-bit draw
        assert correlation(x[:-lag], x[lag:]) < 4.5 / math.sqrt(DRAWS)
    assert correlation(x, dropout(ones)) < 4.5 / math.sqrt(DRAWS)
    for size in (1, 2, 3, 5, 8, 1001):
        assert dropout(ones[:size]).shape == (size,)


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


def test_every_value_of_a_view_has_a_mask_of_its_own():
    x = torch.ones(DRAWS).expand(2, DRAWS)[:, ::2]
    first, second = Dropout(0.5)(x).double()
    assert correlation(first, second) < 4.5 / math.sqrt(len(first))


def test_flatten_is_torchs_and_hands_gradients_back_in_the_order_of_the_images():
    images = torch.randn(4, 6, 5, 3, dtype=torch.float64).permute(0, 3, 1, 2)  # channels last
    slopes, weights = [], torch.randn(90, 2, dtype=torch.float64)
    for flatten in (Flatten(), nn.Flatten()):
        leaf = images.detach().requires_grad_()
        image = leaf * 1.0
        image.register_hook(slopes.append)
        ((flatten(image * 1.0) @ weights) ** 2).sum().backward()
    assert torch.equal(*slopes)
    assert slopes[0].is_contiguous(memory_format=torch.channels_last)
    for other in (torch.randn(4, 7), torch.randn(4, 3, 6, 5)):
        assert torch.equal(Flatten()(other), other.flatten(1))


def test_gradients_pass_where_values_do():
    x = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    out = Dropout(0.25)(x)
    out.sum().backward()
    torch.testing.assert_close(out.detach(), x.detach() * x.grad, rtol=1e-14, atol=0)
    assert 0 < (x.grad == 0).sum() < 1000


def test_dropout_of_zero_and_dropout_in_evaluation_return_their_input():
    x = torch.randn(10)
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval()(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, math.nan])
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
        ("surlemont", (1, 8, 8), {"width": "wide"}, "wide"),
        ("surlemont", (1, 8, 8), {"dropout": 1.0}, "dropout p = 1.0"),
        ("f1", (1, 8, 8), {"dropout": 0.5}, "no option 'dropout'.*width, batch_norm, activation"),
        ("c1", (1, 8, 8), {"droput": 0.5}, "no option 'droput'.*did you mean 'dropout'"),
        ("c1", (1, 8, 8), {"dropout": True}, "dropout p = True"),
        ("c1", (1, 8, 8), {"width": 0.0}, "width = 0.0"),
        ("c1", (64,), {}, r"shape \(64,\)"),
        ("c2", (1, 8, 8), {"activation": "rleu"}, "did you mean 'relu'.*elu, tanh"),
        ("f1", (1, 8, 8), {"batch_norm": "both"}, "batch_norm = 'both'.*true and false"),
        ("kaabachi", (1, 8, 8), {"batch_norm": "frist"}, "did you mean 'first'.*both"),
        ("kaabachi", (1, 8, 8), {"batch_norm": True}, "batch_norm = True; allowed: first, both"),
        ("kaabachi", (3, 7, 7), {}, r"shape \(3, 7, 7\)"),
        ("chang", (3, 64, 31), {}, r"blocks = 5 halve.*at least 32 x 32 pixels, or fewer blocks"),
        ("chang", (1, 8, 8), {"blocks": 4}, "at least 16 x 16"),
        ("chang", (1, 8, 8), {"blocks": 0}, "blocks = 0: allowed are 1 to 5"),
        ("chang", (1, 8, 8), {"blocks": 2.5}, "blocks = 2.5: allowed are 1 to 5"),
        ("chang", (1, 8, 8), {"blocks": "all"}, "blocks = 'all': allowed are 1 to 5"),
        ("chang", (1, 8, 8), {"dropout": 0.5}, "no option 'dropout'.*width, blocks"),
        ("chang", (360,), {}, r"shape \(360,\)"),
        (f"{__name__}:mlp", (1, 8, 8), {"hiden": 4}, "hiden.*options: hidden"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, shape, options, message):
    with pytest.raises(ModelError, match=message):
        build(name, shape, 10, **options)
