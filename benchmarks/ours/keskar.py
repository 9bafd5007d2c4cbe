"""Ours: Keskar's metric, one thread, with the seconds spent in loss and gradient apart."""

import time

import numpy as np
import torch

from benchmarks.serve import options, serve
from bsglib import models, runtime, sharpness

runtime.single_thread()
given = options()
with np.load(given["npz"]) as file:
    x, y = (torch.from_numpy(file[name][: given.get("first")]) for name in ("x", "y"))
x = x.float() / 255
torch.manual_seed(0)  # the peer gets these weights
network_options = given.get("network_options", {})
model = models.build(given["network"], tuple(x.shape[1:]), 10, **network_options).float()
evaluating = 0.0


def timed(function):
    def call(*arguments, **keywords):
        global evaluating
        start = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            evaluating += time.perf_counter() - start

    return call


for name in ("loss_and_gradient", "mean_loss"):
    setattr(sharpness, name, timed(getattr(sharpness, name)))


def metric() -> dict:
    global evaluating
    evaluating, start = 0.0, time.perf_counter()
    found = sharpness.keskar_sharpness(model, x, y, max_iter=given["max_iter"])
    seconds = time.perf_counter() - start
    return {
        "units": 1,
        "value": found.value,
        "evaluations": found.evaluations,
        "gradient_s": evaluating,
        "solver_s": seconds - evaluating,
    }


serve(metric, weights=sum(w.numel() for w in model.parameters()))
