"""Directions of loss surfaces: filter-normalized ones, and principal ones of a path."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvTransposeNd

from bsglib.landscape.passes import require_finite

Direction = Mapping[str, Tensor]  # a tensor for each parameter name; one that is missing is zero


_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def filter_normalized_direction(model: nn.Module, *, seed: int) -> dict[str, Tensor]:
    """Return a random direction whose filters have the norms of the model's filters.

    Source: Li et al. 2018, section 4: d_i <- d_i / ||d_i|| * ||theta_i|| for each filter i of a
    Gaussian d. A filter holds the weights of one output unit: a row of a dense layer, an output
    channel of a convolution (transposed ones too). Biases and parameters of norm layers are zero,
    as in the paper's plots, and so are filters that are zero in the model.

    Args:
        model: any network; parameters with fewer than two dimensions count as biases.
        seed: of the direction, the same for every dtype and device.

    Raises:
        ValueError: if a weight is not finite.
    """
    generator, direction = np.random.default_rng(seed), {}
    owners = {w: m for m in model.modules() for w in m.parameters(recurse=False)}
    for name, w in model.named_parameters():
        if w.ndim < 2 or isinstance(owners[w], _NORMS):
            direction[name] = torch.zeros_like(w)
            continue
        require_finite(f"the model's {name}", w)
        d = torch.from_numpy(generator.standard_normal(w.shape))
        scale = _filter_norms(w.detach().double().cpu(), owners[w]) / _filter_norms(d, owners[w])
        direction[name] = (d.unflatten(0, (len(scale), -1)) * scale).flatten(0, 1).to(w)
    return direction


def _filter_norms(w: Tensor, layer: nn.Module) -> Tensor:
    """Return the norms of a weight's filters, to broadcast with [groups, -1, ...]."""
    transposed = isinstance(layer, _ConvTransposeNd)  # its weight: [in, out / groups, ...]
    w = w.unflatten(0, (layer.groups if transposed else 1, -1))
    unit = 2 if transposed else 1
    others = [dim for dim in range(1, w.ndim) if dim != unit]
    return torch.linalg.vector_norm(w, dim=others, keepdim=True)


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane of a path's two leading principal directions, through its last point."""

    directions: Tensor  # [2, p], of length one
    coordinates: np.ndarray  # [k, 2], of the path's points; the last one is (0, 0)
    explained: tuple[float, float]  # share of the path's squared distances from its last point


def trajectory_plane(weights: Tensor) -> Plane:
    """Return the plane of largest variance of a path of weights.

    Source: Li et al. 2018, section 7: principal directions of the differences to the last weights,
    not centred, so that the minimizer is the origin. Two principal directions also explain most of
    a path without preferred directions, such as a random walk in many dimensions.

    Args:
        weights: of the path [k, p], k >= 3.

    Raises:
        ValueError: if there are fewer than three weights, or one is not finite.
    """
    if weights.ndim != 2 or len(weights) < 3:
        raise ValueError(f"weights {tuple(weights.shape)}: needed are [k, p] with k of at least 3")
    require_finite("weights", weights)
    differences = (weights - weights[-1]).double()
    values, vectors = torch.linalg.eigh(differences @ differences.T)  # ascending
    order = [-1, -2]
    lengths = values[order].clamp(min=0).sqrt()
    directions = (vectors[:, order] / lengths.clamp(min=1e-300)).T @ differences
    coordinates = (vectors[:, order] * lengths).cpu().numpy()
    total = float(values.clamp(min=0).sum())
    first, second = (float(length**2 / total) if total else 0.0 for length in lengths)
    return Plane(directions, coordinates, (first, second))
