"""Many points of a landscape: several points per forward pass, and several threads."""

import logging
import queue
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.modules.conv import _ConvNd

from bsglib import runtime
from bsglib.evaluate import SumLoss, chunks
from bsglib.runtime import limit_threads
from bsglib.stacked import Stacked

log = logging.getLogger(__name__)
CHUNK_SIZE = 64  # examples of a forward pass on a CPU; on every device, that share batch statistics


def as_column(values: Sequence[float], device: torch.device) -> Tensor:
    """Return values [k] as a float64 vector on a device."""
    return torch.tensor(np.asarray(values), dtype=torch.float64).to(device)


def along(values: Tensor, like: Tensor) -> Tensor:
    """Return values [k] as [k, 1, ...], in the dtype of a tensor, to broadcast with it."""
    return values.to(like.dtype).view(-1, *[1] * like.ndim)


def stacked_sums(
    stack: Stacked, x: Tensor, y: Tensor, each: SumLoss, chunk_size: int
) -> tuple[Tensor]:
    """Return the sums of `each` over all examples for every network, float64 [k, ...]."""
    of_all, zero = vmap(each, in_dims=(0, None)), y.new_zeros((), dtype=torch.float64)
    sums = (of_all(stack(part), of_y).double() for part, of_y in chunks(x, y, chunk_size))
    return (sum(sums, zero),)


def points_per_pass_for(given: int | None, model: nn.Module, x: Tensor, chunk_size: int) -> int:
    """Return the given number of points, or the default of the device."""
    if given is not None:
        if given < 1:
            raise ValueError(f"points_per_pass = {given}: must be at least 1")
        return given
    if any(isinstance(layer, _ConvNd) for layer in model.modules()):
        return 1  # convolutions of their own weights become grouped ones
    size = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    return runtime.points_per_pass(x.device, min(chunk_size, len(x)), size)


def stacks_of(model: nn.Module, threads: int, count: int) -> list[Stacked]:
    """Return a stack of `count` networks per thread, or none if count is 1."""
    return [Stacked(model, count) for _ in range(threads)] if count > 1 else []


def in_passes(
    one: Callable[[nn.Module, Any], Any],
    several: Callable[[Stacked, Sequence], list],
    networks: Sequence[nn.Module],
    stacks: Sequence[Stacked],
    items: Iterable,
    on_result: Callable[[Any, Any], object],
) -> None:
    """Call on_result(item, result) for all items, with a stack's number of items per pass.

    Without stacks, and if such a pass fails, the results are those of one(network, item).
    """
    items = list(items)
    refused: list[Exception] = []
    count = stacks[0].count if stacks else 1
    groups = [items[first : first + count] for first in range(0, len(items), count)]

    def results(pair: tuple[nn.Module, Stacked | None], group: list) -> list:
        network, stack = pair
        if stack is not None and not refused:
            filled = group + group[-1:] * (count - len(group))
            try:
                return several(stack, filled)[: len(group)]
            except Exception as error:  # of any kind, from the user's network or loss
                refused.append(error)
                log.warning("not %d points in a pass, one instead: %s", count, error)
        return [one(network, item) for item in group]

    def tell(group: list, found: list) -> None:
        for item, result in zip(group, found, strict=True):
            on_result(item, result)

    beside: Sequence[Stacked | None] = stacks or [None] * len(networks)
    _in_threads(results, list(zip(networks, beside, strict=True)), groups, tell)


def _in_threads(
    function: Callable[[Any, Any], Any],
    networks: Sequence,
    items: Iterable,
    on_result: Callable[[Any, Any], object],
) -> None:
    """Call function(networks[i], item) for all items, with one thread per network.

    torch releases the interpreter lock inside its operators, so these threads run in parallel; each
    has its own network and one core. on_result(item, result) is called in this thread.
    """
    free: queue.SimpleQueue = queue.SimpleQueue()
    for network in networks:
        free.put(network)

    stream = runtime.own_stream()

    @torch.no_grad()  # holds for a thread
    def call(item):
        network = free.get()
        try:
            with runtime.on_stream(stream):  # holds for a thread, too
                return function(network, item)
        finally:
            free.put(network)

    with ThreadPoolExecutor(len(networks), initializer=limit_threads) as pool:
        try:
            futures = {pool.submit(call, item): item for item in items}
            for future in as_completed(futures):
                on_result(futures[future], future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def require_finite(name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is not finite, by its name.

    Raises:
        ValueError: if it holds NaN or infinity.
    """
    if bad := int((~torch.isfinite(tensor)).sum()):
        raise ValueError(f"{name} holds {bad} values that are not finite")


def require_shape(name: str, tensor: Tensor, like: Tensor) -> None:
    """Refuse a tensor of another shape than the model's, by its name.

    Raises:
        ValueError: if the shapes differ.
    """
    if tensor.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the model's {tuple(like.shape)}")


def chunk_size_for(given: int | None, x: Tensor, batch_norm: str) -> int:
    """Return the given examples per forward pass, or the default of the device."""
    cached = x.device.type == "cpu" or batch_norm == "batch"
    return given if given is not None else CHUNK_SIZE if cached else runtime.chunk_size(x.device)


def require_threads(threads: int) -> None:
    """Refuse fewer than one thread.

    Raises:
        ValueError: if threads is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads = {threads}: must be at least 1")
