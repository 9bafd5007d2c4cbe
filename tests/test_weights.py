"""Tests of bsglib.weights."""

import copy

import pytest
import torch
from torch import nn

from bsglib.weights import (
    at_weights,
    equal_parts,
    flatten,
    install,
    reestimate_batch_norm,
    unchanged,
)


def network():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    )


def state_of(model):
    """Everything that must survive: tensors, modes, flags and gradients."""
    return {
        "tensors": copy.deepcopy(model.state_dict()),
        "modes": [m.training for m in model.modules()],
        "flags": [w.requires_grad for w in model.parameters()],
        "gradients": [None if w.grad is None else w.grad.clone() for w in model.parameters()],
    }


def assert_same_state(model, before):
    now = state_of(model)
    for name, tensor in before["tensors"].items():
        assert torch.equal(now["tensors"][name], tensor), name
    assert now["modes"] == before["modes"]
    assert now["flags"] == before["flags"]
    for a, b in zip(now["gradients"], before["gradients"], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def used_network():
    """A network with a past: gradients, moved buffers, mixed modes, a frozen weight."""
    model = network()
    model(torch.randn(5, 1, 4, 4)).sum().backward()
    model[0].bias.grad = None
    model[4].weight.requires_grad_(False)
    model.train()
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


def test_flatten_is_the_parameters_in_order():
    model = network()
    expected = torch.nn.utils.parameters_to_vector(model.parameters())
    theta = flatten(model.parameters())
    assert torch.equal(theta, expected)
    assert not theta.requires_grad


def test_flatten_does_not_share_memory_with_the_weights():
    model = nn.Linear(3, 2, bias=False)
    before = model.weight.detach().clone()
    flatten(model.parameters()).zero_()
    assert torch.equal(model.weight, before)


def test_install_is_the_inverse_of_flatten():
    model, other = network(), network()
    install(other, flatten(model.parameters()))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_install_casts_to_the_models_dtype_and_keeps_the_parameters_themselves():
    model = network()
    weights = list(model.parameters())
    theta = torch.randn(sum(w.numel() for w in weights), dtype=torch.float64)
    install(model, theta)
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))
    assert torch.equal(flatten(model.parameters()), theta.float())


@pytest.mark.parametrize("change", [-1, 1])
def test_install_refuses_a_vector_of_another_length(change):
    model = network()
    before = state_of(model)
    size = sum(w.numel() for w in model.parameters())
    with pytest.raises(ValueError, match=rf"{size + change}.*{size} weights"):
        install(model, torch.zeros(size + change))
    assert_same_state(model, before)


def test_unchanged_restores_everything():
    model = used_network()
    before = state_of(model)
    with unchanged(model):
        disturb(model)
        assert not torch.equal(model[0].weight, before["tensors"]["0.weight"])
        assert not torch.equal(model[1].running_mean, before["tensors"]["1.running_mean"])
    assert_same_state(model, before)


def test_unchanged_restores_everything_after_an_error():
    model = used_network()
    before = state_of(model)
    with pytest.raises(KeyboardInterrupt), unchanged(model):
        disturb(model)
        raise KeyboardInterrupt
    assert_same_state(model, before)


def test_unchanged_restores_gradients_accumulated_in_place():
    model = used_network()
    before = state_of(model)
    with unchanged(model):
        model(torch.randn(5, 1, 4, 4)).sum().backward()
    assert_same_state(model, before)


def test_unchanged_keeps_the_very_tensors_so_that_optimizers_still_act():
    model = network()
    weights = list(model.parameters())
    with unchanged(model):
        disturb(model)
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))


def test_at_weights_installs_and_restores():
    model = used_network()
    before = state_of(model)
    theta = torch.randn(sum(w.numel() for w in model.parameters()))
    with at_weights(model, theta) as inside:
        assert inside is model
        assert torch.equal(flatten(model.parameters()), theta)
        disturb(model)
    assert_same_state(model, before)


def test_at_weights_restores_where_the_vector_does_not_fit_or_the_block_raises():
    model = used_network()
    before = state_of(model)
    with pytest.raises(ValueError, match="weights"), at_weights(model, torch.zeros(3)):
        pass
    assert_same_state(model, before)
    theta = torch.zeros(sum(w.numel() for w in model.parameters()))
    with pytest.raises(ZeroDivisionError), at_weights(model, theta):
        disturb(model)
        _ = 1 / 0
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


def test_reestimation_of_later_layers_sees_normalised_batches_and_no_dropout():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9), nn.BatchNorm1d(3)).double()
    x = torch.randn(50, 3, dtype=torch.float64) * 7 + 5
    reestimate_batch_norm(model, [x])
    torch.testing.assert_close(
        model[2].running_mean, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert (model[2].running_var > 0.9).all()


def test_reestimation_changes_statistics_only():
    model = network().eval()
    weights, momentum = flatten(model.parameters()), model[1].momentum
    reestimate_batch_norm(model, [torch.randn(5, 1, 4, 4)])
    assert torch.equal(flatten(model.parameters()), weights)
    assert model[1].momentum == momentum
    assert not any(m.training for m in model.modules())


def test_reestimation_restores_momentum_after_an_error():
    model = network()
    with pytest.raises(RuntimeError):
        reestimate_batch_norm(model, [torch.randn(5, 2, 4, 4)])
    assert model[1].momentum == 0.1
    assert model.training


def test_reestimation_keeps_the_mode_of_each_module():
    model = used_network()
    modes = [m.training for m in model.modules()]
    reestimate_batch_norm(model, [torch.randn(5, 1, 4, 4)])
    assert [m.training for m in model.modules()] == modes


@pytest.mark.parametrize("n", [1, 4, 5, 9, 10, 14, 23])
def test_equal_parts_are_the_whole_and_differ_by_one_at_most(n):
    x = torch.randn(n, 2)
    parts = equal_parts(x, 5)
    sizes = {len(part) for part in parts}
    assert torch.equal(torch.cat(parts), x)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(n, 5)
