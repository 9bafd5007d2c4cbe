"""Networks of one structure as one: their outputs, or their gradients, in a single pass.

Lines and surfaces use `Stacked`. Training does not use `stacked_gradients`: see there.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial

from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

Tensors = dict[str, Tensor]

_COUNTS = "num_batches_tracked"  # of batch norm


class Stacked(nn.Module):
    """Networks of one structure as one, which gives the outputs of each, [count, n, ...].

    Parameters and buffers have the networks as their first dimension. Batch norm's number of
    batches alone is shared: all networks see the same batches, and a cumulative average needs it
    as a number. Convolutions become grouped ones.

    Args:
        model: what each network is at first; copied, in the modes it is in.
        count: number of networks.
    """

    def __init__(self, model: nn.Module, count: int):
        super().__init__()
        self.network, self.count = deepcopy(model), count
        shared = [t for name, t in self.network.named_buffers() if name.endswith(_COUNTS)]
        for tensor in [*self.network.parameters(), *self.network.buffers()]:
            if not any(tensor is other for other in shared):
                tensor.data = tensor.detach().expand(count, *tensor.shape).clone()

    def tensors(self) -> Tensors:
        """Return the state dict of the networks, [count, ...] each, without what they share."""
        state = self.network.state_dict()
        return {name: tensor for name, tensor in state.items() if not name.endswith(_COUNTS)}

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of each network for the same inputs [n, ...]."""
        tensors = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        dims = {name: None if name.endswith(_COUNTS) else 0 for name in tensors}
        return vmap(partial(functional_call, self.network), (dims, None))(tensors, (x,))


def stacked_gradients(
    models: Sequence[nn.Module], x: Tensor, y: Tensor
) -> tuple[Tensor, Tensors, Tensors]:
    """Return the mean loss of each network on its own batch, its gradients, and its buffers after.

    The weights are stacked and the pass is vectorized over them. Dropout draws its own mask for
    each. Convolutions become grouped ones, which are slow: take a CUDA graph for each instead.

    Training does not stack its runs in flight. Eight F1 take 188 kernels stacked, 37 of which
    stack the weights, against 8 * 53: batch norm falls into its parts. Graphs have the host launch
    none of them, and a step in flight is near its arithmetic (`docs/performance.md`). Against
    the rest speak the contracts of a run: its random numbers, and so its dropout, are its own
    whoever else is under way; runs begin, stop and diverge on their own, at batch sizes of their
    own, and SAM makes two passes around an optimizer that belongs to one network.

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
