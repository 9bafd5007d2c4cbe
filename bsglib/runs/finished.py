"""A finished run, and where the store keeps it."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load, load_file
from torch import Tensor, nn

from bsglib import __version__, models, runtime
from bsglib.names import digest
from bsglib.runs.build import DTYPES, dataset_on_device
from bsglib.runs.curves import reestimate
from bsglib.runs.params import RunConfig
from bsglib.runs.state import below
from bsglib.runs.store import Store
from bsglib.weights import has_batch_norm

TRAINING_VERSION = "2"  # raise it when the numbers of the same config change


CHECKPOINT, PATH = "checkpoint.safetensors", "path.safetensors"


@dataclass(frozen=True)
class Run:
    """A finished run: its config, how it ended, a row per epoch, and the weights kept.

    With `record_path`, `path` holds "norms" of the updates [updates], and the weights [p] after
    some epochs as "weights.0" (the initial ones), "weights.1", ... `states` loads what the network
    was after each of the config's `record_epochs`: weights, buffers and random state.
    """

    id: str
    config: RunConfig
    result: dict
    history: pd.DataFrame
    weights: dict[str, Tensor]
    path: dict[str, Tensor] = field(default_factory=dict)
    states: dict[int, Callable[[], dict[str, Tensor]]] = field(default_factory=dict)

    @property
    def kept(self) -> pd.Series:
        """Return the row of the epoch whose weights were kept."""
        return self.history.iloc[self.result.get("kept_epoch", len(self.history)) - 1]

    @property
    def diverged(self) -> bool:
        """Return whether the loss became infinite or NaN."""
        return self.result["stopped"] == "diverged"

    def model(self, epoch: int | None = None) -> nn.Module:
        """Return the network with the weights kept, in evaluation mode, on the CPU.

        Args:
            epoch: one of the config's `record_epochs`: the network as it was after it, batch norm
                re-estimated on the training set, as at the end of a run. None: the weights kept.
        """
        shape, classes = self.result["input_shape"], self.result["classes"]
        with torch.random.fork_rng():
            model = models.build(self.config.network, shape, classes, **self.config.network_options)
        model.to(DTYPES[self.config.dtype])
        if epoch is None:
            model.load_state_dict(self.weights)
        else:
            model.load_state_dict(below("model.", self.states[epoch]()))
            if has_batch_norm(model):
                model.to(runtime.device())
                reestimate(model, dataset_on_device(self.config))
                model.cpu()
        return model.eval()


def run_id(config: RunConfig, data_checksum: str) -> str:
    """Return the identity of a run: config, data, kind of device, training version."""
    return digest(config.canonical(), data_checksum, runtime.device().type, TRAINING_VERSION)


def stored_run(config: RunConfig, data_checksum: str, store: Store) -> Run | None:
    """Return a complete run from the store, None if it is not there."""
    identity = run_id(config, data_checksum)
    if (result := store.result(identity)) is None:
        return None
    folder = store.folder(identity)
    history = pd.read_csv(folder / "history.csv")
    weights = load((folder / "final.safetensors").read_bytes())
    path = load((folder / PATH).read_bytes()) if PATH in result["files"] else {}
    kept = [e for e in config.record_epochs if state_file(e) in result["files"]]
    states = {epoch: partial(load_file, folder / state_file(epoch)) for epoch in kept}
    return Run(identity, config, result, history, weights, path, states)


def state_file(epoch: int) -> str:
    """Return the name of the file with what a run was after an epoch."""
    return f"state-{epoch}.safetensors"


def environment() -> dict[str, str | int]:
    """Return versions, processor and threads, for the record."""
    return {
        "python_version": platform.python_version(),
        "bsglib_version": __version__,
        "torch_version": torch.__version__,
        "numpy_version": np.__version__,
        "device": runtime.device().type,
        "processor": runtime.processor(),
        "threads": torch.get_num_threads(),
    }
