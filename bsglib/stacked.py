"""Networks of one structure as one: their gradients in a single pass."""

from collections.abc import Sequence
from copy import deepcopy

from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

Tensors = dict[str, Tensor]


def stacked_gradients(
    models: Sequence[nn.Module], x: Tensor, y: Tensor
) -> tuple[Tensor, Tensors, Tensors]:
    """Return the mean loss of each network on its own batch, its gradients, and its buffers after.

    The weights are stacked and the pass is vectorized over them, so that small dense networks,
    bound by launches, cost as much together as one alone. Dropout draws its own mask for each.
    Convolutions become grouped ones, which are slow: take a CUDA graph for each instead.

    Args:
        models: networks of one structure, in one mode.
        x, y: inputs [k, n, ...] and labels int64 [k, n], a batch for each.

    Returns:
        losses [k], and by name gradients [k, ...] and the buffers [k, ...] that the pass leaves.
    """
    weights, buffers = stack_module_state(list(models))
    skeleton = deepcopy(models[0]).to("meta")

    def loss(weights: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> tuple[Tensor, Tensors]:
        outputs = functional_call(skeleton, (weights, buffers), (x,))
        return nn.functional.cross_entropy(outputs, y), buffers

    vectorized = vmap(grad_and_value(loss, has_aux=True), randomness="different")
    gradients, (losses, buffers) = vectorized(weights, buffers, x, y)
    return losses.detach(), gradients, {name: b.detach() for name, b in buffers.items()}


def unstacked(tensors: Tensors, place: int) -> Tensors:
    """Return what belongs to one of the networks."""
    return {name: tensor[place] for name, tensor in tensors.items()}
