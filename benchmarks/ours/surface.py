"""Ours: a filter-normalized plane of `points` x `points` losses, on all cores."""

import numpy as np
import torch

from benchmarks.serve import options, serve
from bsglib import landscape, models, runtime

runtime.single_thread()
given = options()
with np.load(given["npz"]) as file:
    x, y = torch.from_numpy(file["x"]).float() / 255, torch.from_numpy(file["y"])
torch.manual_seed(0)
model = models.build(given["network"], tuple(x.shape[1:]), 10).float()
directions = [landscape.filter_normalized_direction(model, seed=seed) for seed in (1, 2)]


def surface() -> dict:
    settings = {"points": given["points"], "threads": runtime.cores()}
    landscape.loss_surface(model, x, y, directions=directions, extent=1.0, **settings)
    return {"units": given["points"] ** 2}


serve(surface, weights=sum(w.numel() for w in model.parameters()))
