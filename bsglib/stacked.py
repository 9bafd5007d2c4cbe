"""Networks of one structure as one: their outputs in a single pass, for lines and surfaces.

Training does not stack its runs in flight. Eight F1 take 188 kernels stacked, 37 of which stack the
weights, against 8 * 53: batch norm falls into its parts. Graphs have the host launch none of them,
and a step in flight is near its arithmetic (`docs/performance.md`). Against the rest speak the
contracts of a run: its random numbers, and so its dropout, are its own whoever else is under way;
runs begin, stop and diverge on their own, at batch sizes of their own, and SAM makes two passes
around an optimizer that belongs to one network.
"""

from copy import deepcopy
from functools import partial

from torch import Tensor, nn
from torch.func import functional_call, vmap

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
