"""Tests of bsglib.stacked."""

from copy import deepcopy

import pytest
import torch

from bsglib import models
from bsglib.stacked import Stacked

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
