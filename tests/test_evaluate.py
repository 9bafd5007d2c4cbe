"""Tests of bsglib.evaluate."""

import numpy as np
import pytest
import torch
from conftest import assert_same_state, state_of
from torch import nn

from bsglib.evaluate import evaluate, fixed_function, loss_and_gradient, mean_loss, require_fixed


def case(n=23, dtype=torch.float64):
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).to(dtype)
    return model, torch.randn(n, 4, dtype=dtype), torch.randint(3, (n,))


def naive(model, x, y):
    """Mean cross-entropy and accuracy, one example at a time in numpy."""
    first, second = ([t.detach().numpy() for t in m.parameters()] for m in (model[0], model[2]))
    losses, right = [], 0
    for image, label in zip(x.numpy(), y.tolist(), strict=True):
        hidden = np.maximum(first[0] @ image + first[1], 0)
        outputs = second[0] @ hidden + second[1]
        losses.append(np.log(np.exp(outputs).sum()) - outputs[label])
        right += int(outputs.argmax() == label)
    return np.mean(losses), right / len(losses)


@pytest.mark.parametrize("chunk_size", [1, 22, 512])
def test_loss_and_accuracy_equal_those_of_naive_numpy(chunk_size):
    model, x, y = case()
    loss, accuracy = naive(model, x, y)
    found = evaluate(model, x, y, chunk_size=chunk_size)
    assert found.loss == pytest.approx(loss, rel=1e-13)
    assert found.accuracy == accuracy
    assert found.n == 23


def test_dropout_is_off_and_the_mode_of_each_layer_is_left_also_after_an_error():
    model, x, y = case()
    expected = evaluate(model, x, y)
    noisy = nn.Sequential(*model, nn.Dropout(0.5)).train()
    noisy[1].eval()
    modes = [m.training for m in noisy.modules()]
    assert evaluate(noisy, x, y) == expected
    assert [m.training for m in noisy.modules()] == modes
    with pytest.raises(RuntimeError):
        evaluate(noisy, x[:, :3], y)
    assert [m.training for m in noisy.modules()] == modes


def test_batch_norm_uses_and_keeps_its_running_statistics():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
    _, x, y = case()
    before = state_of(model)
    whole, parts = (evaluate(model, x, y, chunk_size=c) for c in (23, 2))
    assert whole.loss == pytest.approx(parts.loss, rel=1e-13)
    assert_same_state(model, before)


@pytest.mark.parametrize("chunk_size", [1, 10, 512])
def test_loss_and_gradient_equal_those_of_autograd_on_the_whole_batch(chunk_size):
    model, x, y = case()
    loss = nn.functional.cross_entropy(model(x), y)
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, model.parameters())])
    value, gradient = loss_and_gradient(model, x, y, chunk_size=chunk_size)
    assert value == pytest.approx(loss.item(), rel=1e-13)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)


def test_the_mean_loss_takes_networks_that_do_not_classify():
    model, x = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double(), torch.randn(9, 4).double()
    y = torch.randn(9, dtype=torch.float64)

    def squares(outputs, y):
        return (outputs - y).square().sum()

    found = mean_loss(model, x, y, loss=squares, chunk_size=4)
    assert found == pytest.approx((model(x) - y).square().mean().item(), rel=1e-13)


@pytest.mark.parametrize("batch_norm", ["stored", "batch", "reestimate"])
def test_a_fixed_function_has_no_dropout_and_batch_norm_as_asked(batch_norm):
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    with fixed_function(model, torch.randn(5, 3), batch_norm) as (network, x):
        assert [m.training for m in network] == [batch_norm == "batch", False]
        network(x)
    assert all(m.training for m in model.modules())
    assert torch.equal(model[0].running_mean, torch.zeros(3))


@pytest.mark.parametrize(
    ("loss", "again", "message"),
    [(np.nan, 1.0, "nan"), (np.inf, np.inf, "inf"), (1.0, 1.1, "random"), (1.0, np.nan, "random")],
)
def test_a_loss_that_is_not_finite_or_moves_is_refused(loss, again, message):
    with pytest.raises(ValueError, match=message):
        require_fixed(loss, again)
    require_fixed(1.0, 1.0 + 1e-9)
