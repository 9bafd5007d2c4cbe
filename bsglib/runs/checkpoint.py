"""Checkpoints: an interrupted run goes on with the same bits."""

import hashlib
import json
import logging
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bsglib import runtime
from bsglib.runs.finished import Run, state_file
from bsglib.runs.params import RunConfig
from bsglib.runs.state import State, below
from bsglib.runs.store import Store

log = logging.getLogger(__name__)


PLAIN = (
    "history",
    "updates",
    "best",
    "stale_epochs",
    "diverged_at",
    "wall_time_s",
    "processor_s",
    "kept_epoch",
)


def content_of(state: State, identity: str) -> bytes:
    """Return what a checkpoint of a run holds, as safetensors."""
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    tensors |= {f"rng.{name}": t for name, t in runtime.random_states().items()}
    tensors |= {f"kept.{name}": t for name, t in state.kept.items()}
    tensors |= {f"norms.{epoch}": t for epoch, t in enumerate(state.norms)}
    tensors |= {f"path.{epoch}": t for epoch, t in state.path.items()}
    scalars = {}
    for index, slots in state.optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            kept = tensors if isinstance(value, Tensor) else scalars
            kept[f"optimizer.{index}.{name}"] = value
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    plain = json.dumps({name: getattr(state, name) for name in PLAIN} | {"optimizer": scalars})
    checksum = _checksum(tensors, plain)
    return save(tensors, {"run_id": identity, "state": plain, "checksum": checksum})


def _checksum(tensors: dict[str, Tensor], plain: str) -> str:
    total = hashlib.sha256(plain.encode())
    for name in sorted(tensors):
        total.update(name.encode() + tensors[name].numpy().tobytes())
    return total.hexdigest()


def restored(state: State, path: Path, identity: str) -> bool:
    """Bring a fresh state to where a checkpoint was written; False if there is no sound one."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["checksum"] != _checksum(tensors, metadata["state"]):
            raise ValueError("its checksum is wrong")
        if metadata.get("run_id", identity) != identity:
            raise ValueError(f"it belongs to the run {metadata['run_id']}")
        plain = json.loads(metadata["state"])
        slots: dict[int, dict] = {}
        for name, value in (
            below("optimizer.", tensors) | below("optimizer.", plain["optimizer"])
        ).items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = value
        for index, w in enumerate(state.model.parameters()):
            for slot, value in slots.get(index, {}).items():
                if isinstance(value, Tensor) and value.shape == w.shape:  # a fused step does not
                    slots[index][slot] = torch.empty_like(w).copy_(value)  # look at its layout
        groups = state.optimizer.state_dict()["param_groups"]
        state.model.load_state_dict(below("model.", tensors))
        state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        runtime.set_random_states(below("rng.", tensors))
        state.kept, state.path = below("kept.", tensors), below("path.", tensors)
        norms = below("norms.", tensors)
        state.norms = [norms[str(epoch)] for epoch in range(len(norms))]
        for name in PLAIN:
            setattr(state, name, plain[name])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        log.warning("checkpoint %s is damaged (%s): training starts anew", path, error)
        return False
    return True


def record_state(state: State, identity: str, store: Store | None) -> None:
    """Keep what the network is after this epoch, for measures and for runs that go on from it."""
    epoch = len(state.history)
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    tensors |= {f"rng.{name}": t for name, t in runtime.random_states().items()}
    content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    if store is None:
        state.states[epoch] = content
    else:
        store.write(identity, state_file(epoch), content)


def require_prefix(prefix: RunConfig, config: RunConfig) -> None:
    """Refuse a run whose first epochs differ from the `first_epochs` of another.

    Raises:
        ValueError: naming the fields that differ.
    """
    same = {"batch_size": config.first_batch_size, "first_batch_size": None, "first_epochs": 0}
    free = {"epochs", "patience", "patience_on", "target_loss", "record_epochs"}
    expected = config.model_copy(update=same).model_dump(exclude=free)
    differ = [
        name for name, value in prefix.model_dump(exclude=free).items() if value != expected[name]
    ]
    if differ or config.keep != "last" or config.record_path:
        raise ValueError(f"prefix: its first epochs are not those of the run, by {differ}")


def continue_from(run: Run, state: State, epochs: int) -> None:
    """Bring a fresh state to where a run was after some epochs, if it kept that.

    The optimizer starts anew at the switch, so its state is not needed.
    """
    if epochs not in run.states:
        return
    tensors = run.states[epochs]()
    state.model.load_state_dict(below("model.", tensors))
    runtime.set_random_states(below("rng.", tensors))
    rows = run.history.iloc[:epochs].to_dict("records")
    state.history = [{k: v for k, v in row.items() if not pd.isna(v)} for row in rows]
    state.updates = int(state.history[-1]["updates"])
