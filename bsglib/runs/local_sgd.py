"""Local SGD: workers that train apart for some steps and then average their weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Update = Callable[[int, Tensor], tuple[Tensor, Tensor]]


def train_apart(
    model: nn.Module, batches: Sequence[tuple[int, Tensor]], workers: int, update: Update
) -> list[tuple[Tensor, Tensor]]:
    """Train workers from the same weights, leave the model with their average, return the losses.

    Source: Lin et al. 2020, "Don't use large mini-batches, use local SGD", algorithm 1. Each batch
    is split evenly among the workers. Workers are averaged in proportion to the examples they used:
    with one step this is, without batch norm and dropout, SGD on the whole batch. Statistics of
    batch norm are averaged like weights. The workers are simulated one after the other.

    Args:
        model: the network that every worker starts from.
        batches: for each step its number, and places of examples in the training set, int64 [n].
        workers: how many, above 0.
        update: makes one update of the model, given a step's number and the places of a worker's
            examples; returns their mean loss and number of right answers.

    Returns:
        mean loss and right answers of each step over the workers, scalars.
    """
    tensors = [t for t in model.state_dict().values() if t.is_floating_point()]
    start = [t.clone() for t in tensors]
    average = [torch.zeros_like(t) for t in tensors]
    found = [(0.0, 0)] * len(batches)  # loss and right answers of each step so far
    examples = sum(len(batch) for _, batch in batches)
    for worker in range(workers):
        torch._foreach_copy_(tensors, start)
        used = 0
        for place, (step, batch) in enumerate(batches):
            part = batch.tensor_split(workers)[worker]
            if len(part):  # a last batch may have fewer examples than there are workers
                loss, correct = update(step, part)
                loss = found[place][0] + loss * (len(part) / len(batch))
                found[place] = loss, found[place][1] + correct
                used += len(part)
        torch._foreach_add_(average, tensors, alpha=used / examples)
    torch._foreach_copy_(tensors, average)
    return found
