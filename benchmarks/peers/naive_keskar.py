"""Peer: Keskar's metric as one writes it first: a DataLoader pass per evaluation, scipy on a list.

Loss and gradient go through torchvision's data set and back to numpy; the box is a list of bounds.
"""

import numpy as np
import scipy
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, Subset
from torchvision import datasets
from torchvision.transforms import ToTensor

from benchmarks.peers.torch_networks import NETWORKS
from benchmarks.serve import options, serve

given = options()
dataset = getattr(datasets, given["dataset"])(given["folder"], train=True, transform=ToTensor())
loader = DataLoader(Subset(dataset, range(given["samples"])), batch_size=given["batch_size"])
model = NETWORKS[given["network"]]().eval()
criterion = nn.CrossEntropyLoss(reduction="sum")
with np.load(given["weights"]) as file:
    for w, name in zip(model.parameters(), file.files, strict=True):
        w.data = torch.from_numpy(file[name])
theta = parameters_to_vector(model.parameters()).detach().numpy().astype(np.float64)
evaluations = 0


def loss_and_gradient(z: np.ndarray) -> tuple[float, np.ndarray]:
    global evaluations
    evaluations += 1
    vector_to_parameters(torch.from_numpy(theta + z).float(), model.parameters())
    model.zero_grad()
    total = 0.0
    for images, labels in loader:
        loss = criterion(model(images), labels) / len(loader.dataset)
        loss.backward()
        total += loss.item()
    gradient = torch.cat([w.grad.flatten() for w in model.parameters()])
    return total, gradient.numpy().astype(np.float64)


def metric() -> dict:
    global evaluations
    evaluations = 0
    x0 = np.zeros_like(theta)
    start, gradient = loss_and_gradient(x0)
    scale = 1 / abs(gradient).max()  # ours has the same objective
    bounds = [(-1e-3 * (abs(t) + 1), 1e-3 * (abs(t) + 1)) for t in theta]

    def negative(z: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = loss_and_gradient(z)
        return -scale * loss, -scale * gradient

    limits = {"maxiter": given["max_iter"], "ftol": 0, "gtol": 0}
    found = minimize(negative, x0, jac=True, method="L-BFGS-B", bounds=bounds, options=limits)
    value = 100 * (-found.fun / scale - start) / (1 + start)
    return {"units": 1, "value": value, "evaluations": evaluations}


serve(metric, warm_up=False, weights=len(theta), scipy=scipy.__version__)
