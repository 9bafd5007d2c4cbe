"""A user's arrays in an .npz file."""

import hashlib
from pathlib import Path

import numpy as np

from bsglib.data.source import DataError, Source, split_off_test


def npz(path: Path) -> Source:
    """Return a user's arrays: x, y and optionally x_test, y_test."""
    try:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:  # of a path it leaks a damaged file
                arrays = {key: stored[key] for key in stored.files}
    except Exception as error:
        raise DataError(f"damaged data file {path}: {error}") from error
    missing = {"x", "y"} - set(arrays) or ({"x_test", "y_test"} & set(arrays)) == {"x_test"}
    if missing:
        raise DataError(
            f"{path} holds {sorted(arrays)}; needed are x [N, ...] and y [N], and either both or "
            "none of x_test and y_test"
        )
    x, y = _checked(path, arrays)
    if "x_test" in arrays:
        x_test, y_test = _checked(path, arrays, "_test")
        if x_test.shape[1:] != x.shape[1:] or x_test.dtype != x.dtype:
            raise DataError(
                f"{path}: x_test {x_test.shape} {x_test.dtype} does not fit x {x.shape} {x.dtype}"
            )
    else:
        x, y, x_test, y_test = split_off_test(x, y)
    labels = np.union1d(y, y_test)
    if labels[-1] >= len(labels):
        absent = int(np.flatnonzero(labels != np.arange(len(labels)))[0])
        raise DataError(
            f"{path}: labels reach {labels[-1]}, but class {absent} has no example; needed are "
            "0, 1, 2, ..., as np.unique(y, return_inverse=True)[1] returns"
        )
    names = tuple(map(str, labels))
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    return Source(x, y, x_test, y_test, names, f"sha256:{content}", scale)


def _checked(path: Path, arrays: dict[str, np.ndarray], part: str = "") -> tuple:
    x, y = arrays["x" + part], arrays["y" + part]
    if x.ndim < 2 or y.shape != x.shape[:1] or len(y) == 0:
        raise DataError(
            f"{path}: x{part} {x.shape} and y{part} {y.shape}; needed x [N, ...] and y [N], N > 0"
        )
    if x.dtype.kind not in "uif":
        raise DataError(f"{path}: x{part} holds {x.dtype}; needed are numbers")
    if y.dtype.kind not in "ui":
        raise DataError(f"{path}: y{part} holds {y.dtype}; needed are integers from 0")
    if y.min() < 0:
        raise DataError(f"{path}: lowest of y{part} is {y.min()}; needed are integers from 0")
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise DataError(
            f"{path}: {bad} values of x{part} are NaN or infinite; needed are finite values"
        )
    return x.astype(x.dtype.newbyteorder("=")), y.astype(np.int64)  # torch takes native order only
