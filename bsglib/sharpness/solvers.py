"""Bounded minimization for the metric: scipy's L-BFGS-B on the host, our own on a device."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor

from bsglib.names import nearest
from bsglib.sharpness import lbfgsb


def on_host(
    objective: lbfgsb.Objective, start: Tensor, bounds: Tensor, max_iter: int
) -> tuple[int, str]:
    """Minimize like `lbfgsb.minimize`, by scipy, which needs its vectors in host memory."""

    def of_arrays(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(torch.from_numpy(z).to(start.device))
        return value, gradient.cpu().numpy()

    solve = drive_lbfgsb if compiled_fits() else public_lbfgsb
    return solve(of_arrays, start.cpu().numpy(), bounds.cpu().numpy(), max_iter)


SOLVERS = {"scipy": on_host, "torch": lbfgsb.minimize}


def solver_for(name: str | None, x: Tensor) -> str:
    """Return the named solver, or the default of the device."""
    name = name or ("scipy" if x.device.type == "cpu" else "torch")
    if name not in SOLVERS:
        raise ValueError(f"solver = {name!r}{nearest(name, SOLVERS)}")
    return name


Arrays = Callable[[np.ndarray], tuple[float, np.ndarray]]


def drive_lbfgsb(
    objective: Arrays, start: np.ndarray, bounds: np.ndarray, max_iter: int
) -> tuple[int, str]:
    """Minimize in the box |z_i| <= bounds_i.

    Call the compiled solver of `scipy.optimize.minimize(method="L-BFGS-B")`, with its defaults and
    no tolerances, because `minimize` copies a million bounds through Python objects, one by
    one. A test checks that the two agree to the last bit.

    Returns:
        the number of iterations made and the solver's reason to stop.
    """
    from scipy.optimize import _lbfgsb_py as compiled

    n, corrections, line_searches = len(start), 10, 20
    box = -bounds, bounds, np.full(n, 2, np.int32)  # 2: bounded on both sides
    real = np.zeros(2 * corrections * n + 5 * n + 11 * corrections**2 + 8 * corrections)
    integer, task, line_task = (np.zeros(size, np.int32) for size in (3 * n, 2, 2))
    saved = np.zeros(4, np.int32), np.zeros(44, np.int32), np.zeros(29)
    work = real, integer, task, *saved, line_searches, line_task
    z, value, gradient, iterations = start.copy(), 0.0, np.zeros(n), 0
    seen: np.ndarray | None = None
    while True:
        compiled._lbfgsb.setulb(corrections, z, *box, value, gradient, 0.0, 0.0, *work)
        if task[0] == 3:  # wants value and gradient at z, sometimes a second time
            if seen is None or not np.array_equal(z, seen):
                seen = z.copy()
                value, gradient = objective(seen)
        elif task[0] == 1:  # has made an iteration
            iterations += 1
            if iterations >= max_iter:
                task[:] = 5, 504
        else:
            break
    kind, reason = compiled.status_messages[task[0]], compiled.task_messages[task[1]]
    return iterations, f"{kind}: {reason}"


def public_lbfgsb(
    objective: Arrays, start: np.ndarray, bounds: np.ndarray, max_iter: int
) -> tuple[int, str]:
    """Minimize like `drive_lbfgsb`, by scipy's public function, which starts more slowly."""
    options = {"maxiter": max_iter, "maxfun": np.iinfo(np.int32).max, "ftol": 0, "gtol": 0}
    box = Bounds(-bounds, bounds)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=box, options=options)
    return found.nit, found.message


@cache
def compiled_fits() -> bool:
    """Return whether scipy's compiled solver works with `drive_lbfgsb`.

    It is private, so another version of scipy may move or change it.
    """
    point = np.zeros(1)
    try:
        return drive_lbfgsb(lambda z: (float(z @ z - z[0]), 2 * z - 1), point, point + 1, 2)[0] > 0
    except Exception:
        return False
