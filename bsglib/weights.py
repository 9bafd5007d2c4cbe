"""Weights as one vector: install them, and restore the model exactly."""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """Return tensors, such as `model.parameters()`, as one vector [p]."""
    return torch.cat([t.detach().reshape(-1) for t in tensors])


@torch.no_grad()
def install(model: nn.Module, theta: Tensor) -> None:
    """Copy a vector [p] into the model's parameters, cast to their dtype and device.

    Raises:
        ValueError: if the length is not the number of weights.
    """
    weights: list[Tensor] = list(model.parameters())
    sizes = [w.numel() for w in weights]
    if theta.shape != (sum(sizes),):
        raise ValueError(f"theta has shape {tuple(theta.shape)}, the model {sum(sizes)} weights")
    theta = theta.to(weights[0])
    torch._foreach_copy_(
        weights, [t.view_as(w) for t, w in zip(theta.split(sizes), weights, strict=True)]
    )


@contextlib.contextmanager
def modes_kept(model: nn.Module) -> Iterator[nn.Module]:
    """Restore every module's training or evaluation mode on exit, also after errors."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[nn.Module]:
    """Restore weights, buffers, modes, `requires_grad` and `.grad` on exit, also after errors."""
    flags = [(w, w.requires_grad, w.grad) for w in model.parameters()]
    gradients = [grad for _, _, grad in flags if grad is not None]
    tensors = [*model.parameters(), *model.buffers(), *gradients]
    values = [t.detach().clone() for t in tensors]
    try:
        with modes_kept(model):
            yield model
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
            for w, requires_grad, grad in flags:
                w.requires_grad_(requires_grad)
                w.grad = grad


@contextlib.contextmanager
def at_weights(model: nn.Module, theta: Tensor) -> Iterator[nn.Module]:
    """Install a vector [p] of weights during a `with` block, then restore the model."""
    with unchanged(model):
        install(model, theta)
        yield model


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether the model has a batch norm layer."""
    return any(isinstance(layer, _BatchNorm) for layer in model.modules())


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace batch norm's running statistics by averages over batches, in place.

    All batches have equal weight, so use batches of equal size (`equal_parts`). Dropout is off.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    try:
        with modes_kept(model):
            model.eval()
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # cumulative average
                layer.train()
            for x in batches:
                model(x)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def equal_parts(x: Tensor, size: int = 512) -> tuple[Tensor, ...]:
    """Return x [n, ...] in parts of at least `size` examples, equal up to one example."""
    return x.tensor_split(max(1, len(x) // size))
