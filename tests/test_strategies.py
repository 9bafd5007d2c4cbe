"""Tests of bsglib.runs.augment, bsglib.proximal, and adversarial training in bsglib.runs.build."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import TINY_RUN, same
from torch import nn

from bsglib.proximal import Proximal
from bsglib.runs import build
from bsglib.runs.augment import DEGREES, SHIFT, augmented, drawn_of, moved
from bsglib.runs.build import build_model, build_optimizer, dataset_of, train_batch
from bsglib.runs.params import ParameterError, RunConfig, parse
from bsglib.runs.sweep import Entry
from bsglib.runs.train import train
from bsglib.studies import estimates

KINDS = ["flip", "rotate", "shift"]
STRATEGIES = {
    "augmented": {"augment": KINDS},
    "augmented sam": {"augment": KINDS, "rho": 0.05},
    "augmented proximal adam": {"augment": ["shift"], "proximal": 0.1, "optimizer": "adam"},
    "proximal": {"proximal": 0.1, "momentum": 0.9},
    "adversarial": {"augment": ["rotate"], "adversarial": 0.1},
    "float32": {"augment": KINDS, "adversarial": 0.1, "dtype": "float32"},
}
NO_DROPOUT = {"width": 0.0625, "dropout": 0.0}


def images(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def drawn(examples, epoch=0):
    return torch.from_numpy(drawn_of(0, epoch, examples))


# Augmentation


def test_no_rotation_and_no_shift_is_the_image_itself():
    x, none = images(3, 2, 7, 10), torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close(moved(x, none, torch.zeros(3, 2).double()), x, rtol=0, atol=1e-13)
    assert torch.equal(augmented(x, drawn(3), []), x)


@pytest.mark.parametrize("side", [7, 8])
def test_a_quarter_turn_is_that_of_torch(side):
    x, quarter = images(2, 3, side, side), double([math.pi / 2, -math.pi / 2])
    expected = torch.stack([x[0].rot90(1, (1, 2)), x[1].rot90(-1, (1, 2))])
    found = moved(x, quarter, torch.zeros(2, 2).double())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_half_turn_of_an_oblong_image_stays_inside_it():
    x, half = images(1, 1, 6, 10), double([math.pi])
    found = moved(x, half, torch.zeros(1, 2).double())
    torch.testing.assert_close(found, x.flip(2, 3), rtol=0, atol=1e-12)


def test_a_shift_by_whole_pixels_repeats_the_border():
    x, none = images(1, 1, 5, 10), torch.zeros(1, dtype=torch.float64)
    found = moved(x, none, double([[0.2, -0.2]]))  # 2 right, 1 up
    across = torch.cat([x[..., :1], x[..., :1], x[..., :-2]], 3)
    expected = torch.cat([across[:, :, 1:], across[:, :, -1:]], 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_ranges_are_those_of_the_paper_and_flips_are_half():
    numbers = drawn(4000)
    assert numbers.shape == (4000, 4) and numbers.abs().max() <= 1
    assert numbers.abs().amax(0).min() > 0.99 and numbers.mean(0).abs().max() < 0.05
    x, most = images(2, 1, 9, 10), double([[1.0, 1, 1, -1], [-1.0, -1, -1, 1]])
    turned = moved(x, torch.deg2rad(double([10.0, -10.0])), double([[0.0, 0.0]] * 2))
    assert (DEGREES, SHIFT) == (10, 0.2)
    torch.testing.assert_close(augmented(x, most, ["rotate"]), turned, rtol=0, atol=1e-12)
    shifts = double([[0.2, -0.2], [-0.2, 0.2]])
    shifted = moved(x, torch.zeros(2).double(), shifts)
    torch.testing.assert_close(augmented(x, most, ["shift"]), shifted, rtol=0, atol=1e-12)
    flipped = augmented(x, most, ["flip"])
    assert torch.equal(flipped[0], x[0]) and torch.equal(flipped[1], x[1].flip(2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_image_depends_on_its_own_numbers_and_not_on_its_batch(dtype):
    x, numbers = images(33, 3, 9, 7).to(dtype), drawn(33).to(dtype)
    whole = augmented(x, numbers, KINDS)
    for place in range(33):
        alone = augmented(x[place : place + 1], numbers[place : place + 1], KINDS)
        assert torch.equal(alone[0], whole[place])


def test_a_run_augments_each_example_anew_in_each_epoch_whatever_its_batch(tiny, batches):
    seen = {}
    for size in (16, 25):
        batches.clear()
        config = tiny(augment=KINDS, batch_size=size)
        train(config)
        dataset = dataset_of(config)
        order = np.concatenate([build.order_of(config, dataset.train, e) for e in range(2)])
        x = torch.cat([batch.x for batch in batches])
        by_example = [x[:50][np.argsort(order[:50])], x[50:][np.argsort(order[50:])]]
        seen[size] = torch.stack(by_example)
    assert torch.equal(seen[16], seen[25])
    assert not torch.isclose(seen[16][0], seen[16][1]).all(3).all(2).all(1).any()
    plain = dataset.as_input(
        augmented(dataset.train.x.double(), drawn(50, epoch=1), KINDS), torch.float64
    )
    assert torch.equal(seen[16][1], plain)


def test_what_is_no_image_is_not_augmented(tiny, tmp_path):
    x, y = np.random.default_rng(0).random((40, 5)), np.arange(40) % 2
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    config = tiny(dataset=str(tmp_path / "rows.npz"), train_size=None, augment=["flip"])
    with pytest.raises(ParameterError, match=r"'augment' = \['flip'\]: needs images, .*\[5\]"):
        dataset_of(config)


# Conservative training


@pytest.mark.parametrize("steps", [1, 3])
def test_proximal_steps_on_a_quadratic_are_those_written_by_hand(steps):
    """L(w) = a w^2 / 2, so that each step is w - lr (a w + lambda (w - w_k))."""
    a, lr, strength = double([1.0, 4.0]), 0.1, 0.5
    weights = nn.Parameter(double([3.0, -2.0]))
    optimizer = Proximal(torch.optim.SGD([weights], lr=lr), strength=strength, steps=steps)

    def closure():
        optimizer.zero_grad()
        loss = (a * weights**2).sum() / 2
        loss.backward()
        return loss

    expected = weights.detach().clone()
    for _ in range(4):
        start, before = expected.clone(), (a * expected**2).sum() / 2
        for _ in range(steps):
            expected = expected - lr * (a * expected + strength * (expected - start))
        torch.testing.assert_close(optimizer.step(closure), before, rtol=1e-14, atol=0)
        torch.testing.assert_close(weights.detach(), expected, rtol=1e-14, atol=1e-15)


def test_many_proximal_steps_find_the_minimizer_of_the_proximal_problem():
    a, strength = double([1.0, 4.0]), 0.5
    weights = nn.Parameter(double([3.0, -2.0]))
    optimizer = Proximal(torch.optim.SGD([weights], lr=0.2), strength=strength, steps=300)
    expected = strength * weights.detach() / (a + strength)

    def closure():
        optimizer.zero_grad()
        loss = (a * weights**2).sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(weights.detach(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"optimizer": "adam", "base_lr": 0.01}])
def test_one_proximal_step_is_the_optimizer_and_three_count_as_one_update(tiny, options):
    plain = train(tiny(**options))
    assert same(train(tiny(proximal=0.1, proximal_steps=1, **options)), plain)
    three = train(tiny(proximal=0.1, **options))
    assert three.result["updates"] == plain.result["updates"] == 8
    assert three.history["running_loss"][0] != plain.history["running_loss"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"strength": -1.0}, "strength = -1"), ({"strength": 1.0, "steps": 0}, "steps = 0")],
)
def test_a_proximal_method_out_of_range_is_refused(options, message):
    base = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match=message):
        Proximal(base, **options)


def test_batch_norm_keeps_the_statistics_of_the_first_proximal_step():
    x, y = images(20, 4), torch.arange(20) % 3
    layers = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
    first = nn.Sequential(*layers).double()
    twin = copy.deepcopy(first)
    twin(x)
    optimizer = Proximal(torch.optim.SGD(first.parameters(), lr=0.5), strength=0.1, model=first)
    train_batch(first, optimizer, x, y, autocast=False)
    for a, b in zip(first.buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b)


# Adversarial training


@pytest.mark.parametrize("network", ["surlemont", "c1"])
@pytest.mark.parametrize("weight", [0.5, 0.2])
def test_adversarial_training_is_that_of_the_definition(tiny, network, weight):
    """Ten steps beside a transcription; c1 has batch norm, which keeps clean statistics only."""
    options = NO_DROPOUT if network == "surlemont" else {"width": 0.1, "dropout": 0.0}
    config = tiny(network=network, network_options=options, adversarial=0.1)
    dataset = dataset_of(config)
    x, y = dataset.as_input(dataset.train.x, torch.float64), dataset.train.y
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(build_model(config, dataset).train())
    model, twin = models
    optimizer = build_optimizer(config, model)
    for _ in range(10):
        chosen = {"adversarial": 0.1, "adversarial_weight": weight}
        loss, correct = train_batch(model, optimizer, x, y, autocast=False, **chosen)

        inputs, weights = x.clone().requires_grad_(), list(twin.parameters())
        outputs = twin(inputs)
        clean = nn.functional.cross_entropy(outputs, y)
        slope, *of_clean = torch.autograd.grad(clean, [inputs, *weights])
        clean_buffers = [b.clone() for b in twin.buffers()]
        other = nn.functional.cross_entropy(twin(x + 0.1 * slope.sign()), y)
        of_other = torch.autograd.grad(other, weights)
        for b, value in zip(twin.buffers(), clean_buffers, strict=True):
            b.copy_(value)
        with torch.no_grad():
            for w, g, h in zip(weights, of_clean, of_other, strict=True):
                w.sub_(0.1 * ((1 - weight) * g + weight * h))

        assert float(loss) == pytest.approx(clean.item(), rel=1e-10)
        assert correct == (outputs.argmax(1) == y).sum()
    for (name, a), b in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=name)


def test_adversarial_examples_in_chunks_are_those_of_the_whole_batch(tiny, monkeypatch):
    config, updated = tiny(network_options=NO_DROPOUT), []
    dataset = dataset_of(config)
    x, y = dataset.as_input(dataset.train.x, torch.float64), dataset.train.y
    for chunk_size in (7, 128):
        monkeypatch.setattr(build, "CHUNK_SIZE", chunk_size)
        torch.manual_seed(0)
        model = build_model(config, dataset)
        train_batch(model, build_optimizer(config, model), x, y, autocast=False, adversarial=0.1)
        updated.append([w.detach() for w in model.parameters()])
    for a, b in zip(*updated, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_the_running_loss_is_that_of_the_examples_themselves(tiny, batches):
    config = tiny(network_options=NO_DROPOUT, adversarial=0.1, epochs=1)
    train(config)
    model = build_model(config, dataset_of(config))
    for batch in batches:
        model.load_state_dict(batch.weights)
        clean = nn.functional.cross_entropy(model(batch.x), batch.y).item()
        assert batch.loss == pytest.approx(clean, rel=1e-12)


# Runs


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_with_a_strategy_is_a_value_and_its_graphs_may_be_of_any_length(
    tiny, monkeypatch, name
):
    config = tiny(**STRATEGIES[name])
    one = train(config)
    torch.manual_seed(5)
    monkeypatch.setattr("bsglib.runs.steps.MANY", 1)
    assert same(train(config), one)
    assert one.id != train(tiny()).id
    assert not same_losses(one, train(tiny(**STRATEGIES[name] | {"seed": 1})))


def test_the_estimated_time_counts_the_passes_of_a_strategy(tiny, monkeypatch):
    monkeypatch.setattr(estimates, "speed_of", lambda config: estimates.Speed(0.0, 1.0, 1, False))
    seconds = [
        estimates.Costs().of(Entry(tiny(**changes)))
        for changes in ({}, {"adversarial": 0.1}, {"proximal": 0.1}, {"augment": KINDS})
    ]
    assert seconds == [100.0, 200.0, 300.0, 100.0]


def same_losses(one, other):
    return one.history["running_loss"].equals(other.history["running_loss"])


def test_the_order_of_kinds_does_not_make_another_run(tiny):
    assert (
        tiny(augment=["shift", "flip"]).canonical() == tiny(augment=["flip", "shift"]).canonical()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": ["mirror"]}, "'augment.0' = 'mirror'"),
        ({"augment": ["flip", "flip"]}, "flip occurs twice"),
        ({"adversarial": 0.0}, "'adversarial' = 0.0"),
        ({"adversarial": 0.1, "adversarial_weight": 1.0}, "'adversarial_weight' = 1.0"),
        ({"adversarial_weight": 0.2}, "'adversarial_weight' = 0.2: needs 'adversarial'"),
        ({"proximal_steps": 4}, "'proximal_steps' = 4: needs 'proximal'"),
        ({"rho": 0.1, "proximal": 0.1}, "'rho' = 0.1 and 'proximal' = 0.1: allowed is one"),
        ({"proximal": 0.1, "adversarial": 0.2}, "'proximal' = 0.1 and 'adversarial' = 0.2"),
        ({"rho": 0.1, "adversarial": 0.2}, "'rho' = 0.1 and 'adversarial' = 0.2"),
        ({"local_workers": 2, "augment": ["flip"]}, "'local_workers' = 2 and 'augment' = "),
        ({"local_workers": 2, "proximal": 0.1}, "'local_workers' = 2 and 'proximal' = 0.1"),
        ({"local_workers": 2, "adversarial": 0.1}, "'local_workers' = 2 and 'adversarial' = 0.1"),
    ],
)
def test_what_is_out_of_range_or_not_supported_is_refused_by_name(changes, message):
    with pytest.raises(ParameterError, match=message):
        parse(TINY_RUN | changes, RunConfig)
