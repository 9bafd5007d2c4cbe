"""Tests of bsglib.stacked."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from bsglib import models
from bsglib.stacked import Stacked, stacked_gradients, unstacked


@pytest.mark.parametrize("network", ["f1", "f2"])
def test_networks_at_once_have_the_gradients_and_statistics_of_each_alone(network):
    torch.manual_seed(0)
    several = [models.build(network, (1, 4, 4), 3, width=0.03) for _ in range(3)]
    x, y = torch.randn(3, 8, 1, 4, 4, dtype=torch.float64), torch.randint(3, (3, 8))
    losses, gradients, buffers = stacked_gradients(several, x, y)
    for place, model in enumerate(several):
        loss = nn.functional.cross_entropy(model(x[place]), y[place])
        loss.backward()
        torch.testing.assert_close(losses[place], loss.detach())
        for name, w in model.named_parameters():
            torch.testing.assert_close(unstacked(gradients, place)[name], w.grad)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(unstacked(buffers, place)[name], buffer)


def test_each_network_draws_its_own_dropout():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(50, 2)).double()
    x, y = torch.ones(2, 4, 50, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.int64)
    losses, _, _ = stacked_gradients([model, model], x, y)
    assert losses[0] != losses[1]


DROPOUT = {"f1": {}, "c1": {"dropout": 0}}


@pytest.mark.parametrize("network", DROPOUT)
@pytest.mark.parametrize("training", [True, False])
def test_a_stack_gives_outputs_and_statistics_of_each_network(network, training):
    torch.manual_seed(0)
    several = [models.build(network, (1, 8, 8), 3, width=0.03, **DROPOUT[network]) for _ in "123"]
    before = deepcopy(several[0].state_dict())
    x = torch.randn(8, 1, 8, 8, dtype=torch.float64)
    stack = Stacked(several[0].train(training), 3)
    for name, tensor in stack.tensors().items():
        assert tensor.shape == (3, *before[name].shape)
        tensor.copy_(torch.stack([model.state_dict()[name] for model in several]))
    outputs = stack(x)
    for place, model in enumerate(several):
        torch.testing.assert_close(outputs[place], model.train(training)(x))
        for name, tensor in stack.tensors().items():
            torch.testing.assert_close(tensor[place], model.state_dict()[name])
