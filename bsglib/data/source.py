"""The common form of data sets, the cache of converted ones, and shared helpers."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

log = logging.getLogger(__name__)

DIGITS = tuple(str(digit) for digit in range(10))  # names of ten classes


class DataError(ValueError):
    """A data set is unknown, missing, damaged, or unsuitable for classification."""


@dataclass(frozen=True)
class Source:
    """A data set as read, its training and its test part: x [N, ...] as stored and y int64 [N]."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    checksum: str
    scale: float


def split_off_test(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return x, y, x_test, y_test, with a fixed fifth as the test set."""
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    return x[train], y[train], x[test], y[test]


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over all but dimension 1, float64, to broadcast against x."""
    over = [d for d in range(x.ndim) if d != 1]
    count = x.numel() / x.shape[1]

    def average(function: Callable[[Tensor], Tensor]) -> Tensor:  # in parts: doubles are large
        parts = (function(part.double()).sum(over, keepdim=True) for part in x.split(4096))
        return sum(parts)[0] / count

    mean = average(lambda part: part)
    std = average(lambda part: (part - mean).square_()).sqrt()
    return mean, torch.where(std > 0, std, 1.0)  # a channel that is constant becomes 0


def converted(
    name: str,
    root: Path,
    source: str,
    scale: float,
    convert: Callable[[], tuple[dict[str, np.ndarray], Sequence[str]]],
) -> Source:
    """Return an expensive data set, converted once, stored beside the data and memory-mapped.

    All processes share the mapped pages. The first process converts; a file that is damaged, or
    made from other data, is converted again.

    Raises:
        DataError: as `convert`, or if the file cannot be written.
    """
    path = root / "converted" / f"{name}.safetensors"
    try:
        return _mapped(path, source, scale)
    except FileNotFoundError:
        pass
    except DataError as error:
        log.warning("%s: it is converted again", error)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            with contextlib.suppress(FileNotFoundError, DataError):
                return _mapped(path, source, scale)  # made while we waited
            arrays, classes = convert()
            metadata = {"source": source, "classes": json.dumps(list(classes))}
            metadata["checksum"] = _digest_of(arrays, metadata)
            part = path.with_suffix(".part")  # ours alone, by the lock
            part.write_bytes(save(arrays, metadata))
            os.replace(part, path)
            return _mapped(path, source, scale)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def _mapped(path: Path, source: str, scale: float) -> Source:
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name).numpy() for name in sorted(file.keys())}
        if metadata.pop("checksum") != _digest_of(arrays, metadata):
            raise ValueError("its checksum is wrong")
        if metadata["source"] != source:
            raise ValueError(f"made from {metadata['source']}, expected {source}")
        classes = tuple(json.loads(metadata["classes"]))
        return Source(**arrays, classes=classes, checksum=source, scale=scale)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"damaged file {path}: {error}") from error


def _digest_of(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    total = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        total.update(arrays[name])
    return total.hexdigest()
