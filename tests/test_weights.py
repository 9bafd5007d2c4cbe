"""Tests of bsglib.weights."""

from contextlib import nullcontext

import pytest
import torch
from conftest import assert_same_state, state_of
from torch import nn

from bsglib.weights import at_weights, flatten, install, reestimate_batch_norm, unchanged


def network():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    )


def used_network():
    """A network with a past: gradients, moved buffers, mixed modes, a frozen weight."""
    model = network()
    model(torch.randn(5, 1, 4, 4)).sum().backward()
    model[0].bias.grad = None
    model[4].weight.requires_grad_(False)
    model[1].eval()
    return model


def disturb(model):
    model.train().requires_grad_(True)
    for _ in range(2):
        model(torch.randn(5, 1, 4, 4)).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    model[4].weight.requires_grad_(False)
    model.eval()
    model.zero_grad()


def test_flatten_copies_the_parameters_in_order_and_install_puts_them_back():
    model = network()
    weights = list(model.parameters())
    theta, expected = flatten(weights), torch.nn.utils.parameters_to_vector(weights).detach()
    assert torch.equal(theta, expected) and not theta.requires_grad
    theta.zero_()
    assert torch.equal(flatten(weights), expected), "no memory is shared"
    install(model, theta := torch.randn(len(theta), dtype=torch.float64))
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))
    assert torch.equal(flatten(model.parameters()), theta.float())


def accumulate(model):
    model(torch.randn(5, 1, 4, 4)).sum().backward()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("change", [disturb, accumulate])
def test_unchanged_restores_everything_also_after_an_error(change, fails):
    model = used_network()
    before, weights = state_of(model), list(model.parameters())
    with pytest.raises(KeyboardInterrupt) if fails else nullcontext(), unchanged(model):
        change(model)
        with pytest.raises(AssertionError):
            assert_same_state(model, before)
        if fails:
            raise KeyboardInterrupt
    assert_same_state(model, before)
    assert all(map(lambda a, b: a is b, weights, model.parameters())), "optimizers still act"


@pytest.mark.parametrize("fails", [False, True])
def test_at_weights_installs_and_restores_also_after_an_error(fails):
    model = used_network()
    before = state_of(model)
    with pytest.raises(ValueError, match="weights"), at_weights(model, torch.zeros(3)):
        pass
    assert_same_state(model, before)
    theta = torch.randn(sum(w.numel() for w in model.parameters()))
    with (
        pytest.raises(KeyboardInterrupt) if fails else nullcontext(),
        at_weights(model, theta) as inside,
    ):
        assert inside is model and torch.equal(flatten(model.parameters()), theta)
        disturb(model)
        if fails:
            raise KeyboardInterrupt
    assert_same_state(model, before)


def test_reestimated_statistics_are_the_averages_over_the_batches():
    model = nn.Sequential(nn.BatchNorm2d(3)).double()
    batches = list(torch.randn(4, 6, 3, 2, 2, dtype=torch.float64) * 3 + 1)
    model(batches[0])  # statistics of the past must not linger
    reestimate_batch_norm(model, batches)
    means = torch.stack([b.mean(dim=(0, 2, 3)) for b in batches]).mean(0)
    variances = torch.stack([b.var(dim=(0, 2, 3)) for b in batches]).mean(0)
    torch.testing.assert_close(model[0].running_mean, means, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model[0].running_var, variances, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2])  # two do not fit
def test_reestimation_changes_statistics_only_also_after_an_error(channels):
    model = used_network()
    before = state_of(model)
    with pytest.raises(RuntimeError) if channels == 2 else nullcontext():
        reestimate_batch_norm(model, [torch.randn(5, channels, 4, 4)])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        before["tensors"][f"1.{name}"] = model.state_dict()[f"1.{name}"]
    assert_same_state(model, before)
    assert model[1].momentum == 0.1
