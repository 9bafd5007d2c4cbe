"""The largest eigenvalues of a symmetric matrix, from matrix-vector products, on any device."""

from collections.abc import Callable

import torch
from torch import Tensor

BASIS, KEPT, PRODUCTS = 64, 16, 2000  # vectors at most, kept at a restart; products at most


def largest(
    product: Callable[[Tensor], Tensor], start: Tensor, k: int, tol: float
) -> tuple[list[float], Tensor]:
    """Return the k algebraically largest eigenvalues, descending, and their vectors [k, p].

    Lanczos with full orthogonalisation and thick restarts (Wu and Simon 2000). It stops when
    each residual is below `tol` times the eigenvalue, or after PRODUCTS products.

    Args:
        product: the matrix times a vector, float64 [p].
        start: initial vector, not zero, float64 [p].
        k: number of eigenvalues, below p.
        tol: relative accuracy.
    """
    most, kept = max(BASIS, 2 * k + 2), max(KEPT, k + 1)
    basis, inner = start.new_empty(0, len(start)), torch.zeros(0, 0, dtype=torch.float64)
    new, generator = start / start.norm(), torch.Generator().manual_seed(0)
    for _ in range(PRODUCTS):
        basis = torch.cat([basis, new[None]])
        moved = product(new)
        size = float(moved.norm())
        row, moved = _orthogonal(moved, basis)
        inner = torch.nn.functional.pad(inner, (0, 1, 0, 1))
        inner[-1], inner[:, -1] = row, row
        left = float(moved.norm())
        values, vectors = torch.linalg.eigh(inner)
        values, vectors = values.flip(0), vectors.flip(1)
        errors = left * vectors[-1, :k].abs()
        if len(basis) >= k and bool((errors <= tol * values[:k].abs()).all()):
            break
        if left <= 1e-12 * size:  # an invariant subspace: continue with a random vector
            drawn = torch.randn(len(start), generator=generator, dtype=torch.float64)
            moved = _orthogonal(drawn.to(start), basis)[1]
            left = float(moved.norm())
            if len(basis) == len(start):
                break
        if len(basis) == most:
            basis = vectors[:, :kept].T.to(basis) @ basis
            inner = values[:kept].diag()
        new = moved / left
    return values[:k].tolist(), vectors[:, :k].T.to(basis) @ basis


def _orthogonal(vector: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return a vector's coordinates in a basis, on the host, and its remainder."""
    along = basis @ vector
    rest = vector - along @ basis
    return along.cpu(), rest - (basis @ rest) @ basis  # twice is enough
