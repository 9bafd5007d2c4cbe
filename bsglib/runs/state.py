"""What a run is while it trains."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bsglib.data import Dataset
from bsglib.runs.build import build_model, build_optimizer
from bsglib.runs.params import RunConfig
from bsglib.runs.steps import Steps
from bsglib.weights import flatten


@dataclass
class State:
    """What a checkpoint holds, besides the random state."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    initial: Tensor  # weights [p], drawn anew from the seed
    history: list[dict] = field(default_factory=list)
    updates: int = 0
    best: float | None = None  # of what patience looks at: an accuracy, or minus a loss
    stale_epochs: int = 0
    diverged_at: int | None = None
    wall_time_s: float = 0.0
    processor_s: float = 0.0  # evaluation included
    kept_epoch: int | None = None  # of the best weights; None: the last ones are kept
    kept: dict[str, Tensor] = field(default_factory=dict)  # those weights, and buffers
    norms: list[Tensor] = field(default_factory=list)  # of the updates, epoch by epoch
    path: dict[str, Tensor] = field(default_factory=dict)  # weights [p] by the number of epochs
    states: dict[int, bytes] = field(default_factory=dict)  # after `record_epochs`, without a store
    steps: Steps | None = None  # made when they begin, and when the optimizer is another one
    begun_at: float | None = None  # of the epoch that the device works on
    begin: Tensor | None = None  # weights [p] then, where the path is recorded


def fresh(config: RunConfig, dataset: Dataset) -> State:
    """Return a run before its first update."""
    torch.manual_seed(config.seed)
    model = build_model(config, dataset)
    return State(model, build_optimizer(config, model), flatten(model.parameters()).clone())


def below(prefix: str, values: dict) -> dict:
    """Return the values whose names have a prefix, without it."""
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
