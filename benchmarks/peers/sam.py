"""Peer: SGD and SAM from pytorch-optimizer, used as its documentation shows, default settings."""

from importlib.metadata import version

import numpy as np
import torch
from pytorch_optimizer import SAM
from torch import nn

from benchmarks.peers.torch_networks import NETWORKS
from benchmarks.serve import options, serve

given = options()
with np.load(given["npz"]) as file:
    x, y = torch.from_numpy(file["x"]).float() / 255, torch.from_numpy(file["y"])
model = NETWORKS[given["network"]]()
criterion = nn.CrossEntropyLoss()
if given["rho"] is None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
else:
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=given["rho"], lr=0.001, momentum=0.9)


def step(images: torch.Tensor, labels: torch.Tensor) -> None:
    def closure():
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        return loss

    if given["rho"] is not None:
        closure()
    optimizer.step(closure)


def steps() -> dict:
    for first in range(0, len(x), given["batch_size"]):
        step(x[first : first + given["batch_size"]], y[first : first + given["batch_size"]])
    return {"units": len(x)}


serve(
    steps, weights=sum(w.numel() for w in model.parameters()), version=version("pytorch-optimizer")
)
