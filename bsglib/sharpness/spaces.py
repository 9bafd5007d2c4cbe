"""The search spaces of Keskar's metric: x + A z, with A the identity or a random matrix."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bsglib.names import nearest
from bsglib.runtime import cores

DISTRIBUTIONS = ("gaussian", "gaussian_unit", "uniform_unit")


class Identity:
    """A = identity: z is in weight space."""

    def __init__(self, theta: Tensor):
        self.theta = theta

    def coordinates(self) -> Tensor:
        """Return A+ x, with A+ the pseudo-inverse."""
        return self.theta

    def into(self, z: Tensor) -> Tensor:
        """Return A z."""
        return z

    def back(self, gradient: Tensor) -> Tensor:
        """Return A' g: the gradient with respect to z."""
        return gradient


class Scaled(Identity):
    """A = diag(|x|) with coordinates 0, so that z is relative to each weight."""

    def coordinates(self) -> Tensor:
        """Return zeros: the box does not depend on the weights."""
        return torch.zeros_like(self.theta)

    def into(self, z: Tensor) -> Tensor:
        """Return |x| z."""
        return self.theta.abs() * z

    def back(self, gradient: Tensor) -> Tensor:
        """Return |x| g."""
        return self.theta.abs() * gradient


class Matrix:
    """Random [p, d] from a seed, block by block; blocks beyond the memory limit are drawn again.

    An accelerator stores the whole matrix, rounded to float32; products are always in float64.
    """

    ROWS, KEPT_BYTES = 2**16, 2**31

    def __init__(self, size: int, dimension: int, uniform: bool, seed: int, device: torch.device):
        self.size, self.dimension, self.uniform = size, dimension, uniform
        self.seed, self.device = seed, device
        self.dtype = torch.float64 if device.type == "cpu" else torch.float32
        self.limit = self.KEPT_BYTES if device.type == "cpu" else float("inf")
        self.kept: dict[int, Tensor] = {}
        if device.type != "cpu":  # whose host has cores to draw blocks at a time
            starts = range(0, size, self.ROWS)
            with ThreadPoolExecutor(cores()) as pool:
                drawn = pool.map(self._drawn, starts)
                self.kept = {
                    start: self._placed(block) for start, block in zip(starts, drawn, strict=True)
                }
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.gram = sum((block.T @ block for _, block in self.blocks()), zero)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows and their block of the matrix, in float64."""
        for start in range(0, self.size, self.ROWS):
            rows = slice(start, min(start + self.ROWS, self.size))
            block = self.kept.get(start)
            if block is None:
                block = self._placed(self._drawn(start))
                if (len(self.kept) + 1) * block.nbytes <= self.limit:
                    self.kept[start] = block
            yield rows, block.double()

    def _drawn(self, start: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, start])
        draw = generator.random if self.uniform else generator.standard_normal
        return draw((min(self.ROWS, self.size - start), self.dimension))

    def _placed(self, block: np.ndarray) -> Tensor:
        return torch.from_numpy(block).to(self.device, self.dtype)


drawn_once = lru_cache(maxsize=4)(Matrix)  # per size, dimension, kind and seed, on accelerators


class Subspace(Identity):
    """A = random [p, d], with columns of length 1 for the "unit" distributions.

    Raises:
        ValueError: if the distribution is unknown, or there are more columns than weights.
    """

    def __init__(self, theta: Tensor, dimension: int, distribution: str, seed: int):
        if distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"distribution = {distribution!r}{nearest(distribution, DISTRIBUTIONS)}"
            )
        if not 0 < dimension <= len(theta):
            raise ValueError(f"subspace = {dimension}: allowed are 1 to {len(theta)}, the weights")
        super().__init__(theta)
        make = Matrix if theta.device.type == "cpu" else drawn_once
        uniform = distribution.startswith("uniform")
        self.matrix = make(len(theta), dimension, uniform, seed, theta.device)
        self.gram, self.scale = self.matrix.gram, theta.new_ones(dimension)
        if distribution.endswith("unit"):
            self.scale = 1 / self.gram.diagonal().sqrt()
            self.gram = self.gram * torch.outer(self.scale, self.scale)

    def coordinates(self) -> Tensor:
        """Return A+ x by the normal equations."""
        return torch.linalg.solve(self.gram, self.back(self.theta))

    def into(self, z: Tensor) -> Tensor:
        """Return A z."""
        return torch.cat([block @ (self.scale * z) for _, block in self.matrix.blocks()])

    def back(self, gradient: Tensor) -> Tensor:
        """Return A' g."""
        parts = (block.T @ gradient[rows] for rows, block in self.matrix.blocks())
        return self.scale * sum(parts)
