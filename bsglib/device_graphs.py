"""CUDA graphs of pieces of work, and several runs in flight from one process, each on a stream."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from bsglib import runtime

log = logging.getLogger(__name__)

TOLERANCE = 0.1  # of the way that the weights went in the first steps

Piece = Callable[[], None]
Task = Generator[None, None, Any]


def captured(
    pieces: Sequence[Piece],
    changed: Sequence[Tensor],
    weights: Sequence[Tensor],
    found: Tensor,
    *,
    make: Callable[[Sequence[Piece]], list[Piece]] | None = None,
) -> tuple[list[Piece], dict[str, float]]:
    """Return pieces of work as CUDA graphs, and how far these are from the pieces themselves.

    Each piece is done once as it is, which warms libraries up, and once as a graph, from the same
    tensors and random numbers; then all are as they were before. A capture that fails, or a graph
    that does something else, leaves the pieces as they are, with a message.

    Args:
        pieces: work on tensors that stay where they are in memory, without waiting for the device.
        changed: all tensors that the pieces change.
        weights: those among them to compare, by the way they went.
        found: one among them to compare, by its largest relative difference.
        make: makes graphs of pieces; None captures them.

    Returns:
        the graphs' `replay`, or the pieces; and "graphs" (their number, 0 without),
        "graph_difference" of the weights and "graph_loss_difference".
    """
    random = runtime.random_states()
    before, start = _copies(changed), _copies(weights)

    def done(pieces: Sequence[Piece]) -> tuple[list[Tensor], Tensor]:
        """Return what pieces make of weights and found, and put all back."""
        for piece in pieces:
            piece()
        results = _copies(weights), found.clone()
        _put(before, changed)
        runtime.set_random_states(random)
        return results

    eager, losses = done(pieces)
    try:
        replays = (make or _graphs)(pieces)
        replayed, replayed_losses = done(replays)
    except RuntimeError as error:
        log.warning("no CUDA graphs, one step at a time instead: %s", error)
        runtime.renew_random_states()
        _put(before, changed)
        runtime.set_random_states(random)
        return list(pieces), {"graphs": 0}
    report = {
        "graphs": len(replays),
        "graph_difference": _distance(replayed, eager) / (_distance(eager, start) or 1.0),
        "graph_loss_difference": _largest(replayed_losses, losses),
    }
    if report["graph_difference"] <= TOLERANCE:
        return replays, report
    log.warning("no CUDA graphs, one step at a time instead: they differ, %s", report)
    return list(pieces), report | {"graphs": 0}


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]


@torch.no_grad()
def _put(values: Sequence[Tensor], into: Sequence[Tensor]) -> None:
    for tensor, value in zip(into, values, strict=True):
        tensor.copy_(value)


class Repeated:
    """A function of tensors that stay where they are in memory, called again and again.

    On a stream of an accelerator the first call warms up, unless something else has done so, the
    second captures a CUDA graph, and the next ones replay it. What is returned is overwritten by
    the next call. A function that cannot be captured is called each time, with a message; on a CPU
    every one is.

    Args:
        function: takes nothing and returns tensors, without waiting for the device.
        warm: it has been called before.
    """

    enabled = True  # False: call every function each time

    def __init__(self, function: Callable[[], tuple[Tensor, ...]], *, warm: bool = False):
        self.function, self.calls = function, int(warm)
        self.replay: Piece | None = None
        self.results: tuple[Tensor, ...] = ()

    def __call__(self) -> tuple[Tensor, ...]:
        """Return what the function returns."""
        self.calls += 1
        if self.calls == 2 and self.enabled and runtime.has_own_stream():
            try:
                (self.replay,) = _graphs([self._capture])
            except RuntimeError as error:
                log.warning("no CUDA graph of a measure, one call at a time instead: %s", error)
                runtime.renew_random_states()
        if self.replay is None:
            return self.function()
        self.replay()
        return self.results

    def _capture(self) -> None:
        self.results = self.function()


def _graphs(pieces: Sequence[Piece]) -> list[Piece]:
    pool, replays = None, []
    for piece in pieces:
        replay, pool = runtime.graph(piece, pool)
        replays.append(replay)
    return replays


def _distance(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    pairs = zip(tensors, others, strict=True)
    return float(torch.stack([(a.detach() - b).double().norm() for a, b in pairs]).norm())


def _largest(found: Tensor, other: Tensor) -> float:
    return float(((found - other).abs() / (1e-12 + other.abs())).max())


def in_flight(
    tasks: Iterator[Task], count: int, *, until: float = math.inf
) -> Iterator[tuple[int, Any, Exception | None]]:
    """Yield place, result and error of tasks as they end, `count` of them under way at a time.

    A task is a generator that yields when the device has work of it; while that goes on, the
    others have their turns. Each has random numbers of its own, and on an accelerator a stream, so
    that the results do not depend on who else is under way. When this is closed, so are they, and
    when the clock (`time.monotonic`) passes `until`.
    """
    waiting = enumerate(tasks)
    flying = deque((place, task, Turn()) for place, task in islice(waiting, count))
    try:
        while flying and time.monotonic() <= until:
            place, task, turn = flying.popleft()
            result, error = None, None
            try:
                with turn:
                    next(task)
                flying.append((place, task, turn))
                continue
            except StopIteration as end:
                result = end.value
            except Exception as raised:
                error = raised
            flying += ((new, other, Turn()) for new, other in islice(waiting, 1))
            yield place, result, error
    finally:
        for _, task, turn in flying:
            with turn:
                task.close()


class Turn:
    """While in force, torch's generators are in states of its own, and its stream is current."""

    def __init__(self):
        self.random, self.stream = runtime.OwnRandom(), runtime.on_stream(runtime.another_stream())

    def __enter__(self) -> None:
        self.random.__enter__()
        self.stream.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.stream.__exit__(*error)
        self.random.__exit__(*error)
