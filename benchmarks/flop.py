"""Floating-point operations of a network's training step."""

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def per_example(model: nn.Module, x: Tensor) -> float:
    """Return those of forward and backward, 2 per multiply-add, without the gradient for x.

    Args:
        model: its gradients are lost.
        x: some inputs [n, ...].
    """
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    model.zero_grad()
    return counter.get_total_flops() / len(x)
