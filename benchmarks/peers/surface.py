"""Peer: a filter-normalized plane from the package loss-landscapes, default settings."""

from importlib.metadata import version

import loss_landscapes
import numpy as np
import torch
from loss_landscapes.metrics import Loss
from torch import nn

from benchmarks.peers.torch_networks import NETWORKS
from benchmarks.serve import options, serve

given = options()
with np.load(given["npz"]) as file:
    x, y = torch.from_numpy(file["x"]).float() / 255, torch.from_numpy(file["y"])
model = NETWORKS[given["network"]]().eval()
metric = Loss(nn.CrossEntropyLoss(), x, y)


def surface() -> dict:
    losses = loss_landscapes.random_plane(
        model,
        metric,
        distance=1,
        steps=given["points"],
        normalization="filter",
        deepcopy_model=True,
    )
    return {"units": losses.size}


weights = sum(w.numel() for w in model.parameters())
serve(surface, weights=weights, version=version("loss-landscapes"))
