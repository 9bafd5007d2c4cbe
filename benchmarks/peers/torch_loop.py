"""Peer: the idiomatic training loop of PyTorch and torchvision, default settings."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets
from torchvision.transforms import ToTensor

from benchmarks.peers.torch_networks import NETWORKS
from benchmarks.serve import options, serve

given = options()
dataset = getattr(datasets, given["dataset"])(given["folder"], train=True, transform=ToTensor())
dataset = Subset(dataset, range(given["samples"]))
loader = DataLoader(dataset, batch_size=given["batch_size"], shuffle=True)
model = NETWORKS[given["network"]]()
criterion = nn.CrossEntropyLoss()
optimizer = getattr(torch.optim, given["optimizer"])(model.parameters(), **given["settings"])


def epoch() -> dict:
    model.train()
    running_loss = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=given["dtype"] == "bfloat16"):
            loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    return {"units": len(dataset), "loss": running_loss / len(loader)}


weights = sum(w.numel() for w in model.parameters())
serve(epoch, weights=weights, version=torch.__version__, threads=torch.get_num_threads())
