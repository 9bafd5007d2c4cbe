"""Data sets: pixels as stored (uint8), split by seed, with checksums."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bsglib.params import nearest, resolve


class DataError(ValueError):
    """A data set is unknown, missing, damaged, or not fit for classification."""


@dataclass(frozen=True)
class Split:
    """Inputs x [N, ...] as stored and labels y int64 [N]."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """Three splits; `as_input` turns stored values into what a network takes."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    checksum: str  # of the source, before splitting
    scale: float  # stored value * scale = network input, unless standardised
    statistics: tuple[Tensor, Tensor] | None = None  # mean, std of a channel's stored values

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one example."""
        return tuple(self.train.x.shape[1:])

    def as_input(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return stored values as network inputs of a floating dtype."""
        if self.statistics is None:
            return x.to(dtype).mul_(self.scale)
        mean, std = (s.to(x.device, dtype) for s in self.statistics)
        return x.to(dtype, copy=True).sub_(mean).div_(std)  # a float x is not to be changed


def load(
    name: str,
    *,
    root: str | Path | None = None,
    train_size: int | None = None,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    standardise: bool = False,
) -> Dataset:
    """Return a data set, its training part split and cut down by seed.

    Args:
        name: one of `SOURCES`, or the path of an `.npz` with x [N, ...] and y int64 [N], and
            optionally x_test, y_test (without them a fixed fifth is the test part).
        root: folder of the data sets; default `$BSG_DATA`, else the user's cache folder.
        train_size: number of training examples kept, None for all.
        validation_fraction: share of the training part set aside for choices, in [0, 1).
        split_seed: decides which examples go where; the official test part is never touched.
        standardise: give network inputs mean 0 and standard deviation 1 per channel (per feature
            where x is [N, features]), by the statistics of the training part alone.

    Raises:
        DataError: if the name is unknown, a file is missing or damaged, there are fewer examples
            than `train_size`, fewer than two classes, or values that are not finite.
    """
    if (train_size is not None and train_size < 1) or not 0 <= validation_fraction < 1:
        raise DataError(
            f"train_size = {train_size}, validation_fraction = {validation_fraction}: needed are a "
            "positive size or None, and a fraction in [0, 1)"
        )
    source = _source(name, Path(root) if root else data_folder())
    generator = np.random.default_rng([split_seed, 1])
    order = generator.permutation(len(source.y))
    held_out = round(validation_fraction * len(order))
    kept = order[held_out:]
    if train_size is not None and train_size > len(kept):
        raise DataError(f"train_size = {train_size}: {name} has {len(kept)} training examples")
    train = _take(source.x, source.y, kept[:train_size])
    return Dataset(
        name=name,
        train=train,
        validation=_take(source.x, source.y, order[:held_out]),
        test=_take(source.x_test, source.y_test, slice(None)),
        classes=source.classes,
        checksum=source.checksum,
        scale=source.scale,
        statistics=_statistics(train.x) if standardise else None,
    )


def data_folder() -> Path:
    """Return where data sets lie: `$BSG_DATA`, else bsglib in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return resolve(os.environ.get("BSG_DATA") or Path(cache) / "bsglib")


def checksum(name: str) -> str:
    """Return the checksum of a data set, without reading it where its files are fixed.

    Raises:
        DataError: as `load`.
    """  # noqa: DOC502
    if name == "fashion_mnist":
        return _md5_of(FASHION_MNIST)
    return _source(name, data_folder()).checksum


@dataclass(frozen=True)
class _Source:
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    checksum: str
    scale: float


def _take(x: np.ndarray, y: np.ndarray, index) -> Split:
    return Split(torch.from_numpy(np.array(x[index])), torch.from_numpy(np.array(y[index])))


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over all but dimension 1, float64, to broadcast against x."""
    over = [d for d in range(x.ndim) if d != 1]
    count = x.numel() / x.shape[1]

    def average(function: Callable[[Tensor], Tensor]) -> Tensor:  # in parts: doubles are large
        parts = (function(part.double()).sum(over, keepdim=True) for part in x.split(4096))
        return sum(parts)[0] / count

    mean = average(lambda part: part)
    std = average(lambda part: (part - mean).square_()).sqrt()
    return mean, torch.where(std > 0, std, 1.0)  # a channel that is constant becomes 0


def _source(name: str, root: Path) -> _Source:
    if name.endswith(".npz"):
        path = resolve(name)
        if not path.is_file():
            raise DataError(f"missing data file {path}")
        state = path.stat()  # a changed file is read again
        return _read(name, path, (state.st_mtime_ns, state.st_size))
    if name not in SOURCES:
        known = [*SOURCES, "or the path of an .npz file"]
        raise DataError(f"unknown data set {name!r}{nearest(name, known)}")
    return _read(name, root, None)


@lru_cache(maxsize=2)
def _read(name: str, path: Path, version: tuple[int, int] | None) -> _Source:
    source = _npz(path) if version else SOURCES[name](path)
    if len(np.unique(source.y)) < 2:
        raise DataError(f"{name}: all labels are {source.y[0]}; at least two classes are needed")
    return source


def _split_off_test(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    return x[train], y[train], x[test], y[test]


def _digits(root: Path) -> _Source:
    """scikit-learn's digits: 1,797 grey images of 8 x 8, values 0 to 16; ship with the package."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = bunch.images.astype(np.uint8)[:, None]  # [N, 1, 8, 8]
    y = bunch.target.astype(np.int64)
    digest = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    names = tuple(str(c) for c in range(10))
    return _Source(*_split_off_test(x, y), names, f"sha256:{digest}", 1 / 16)


FASHION_MNIST = {  # md5 of the unpacked files
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


def _fashion_mnist(root: Path) -> _Source:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 grey images of 28 x 28."""
    folder = root / "FashionMNIST" / "raw"
    missing = [name for name in FASHION_MNIST if not (folder / name).is_file()]
    if missing:
        _download_fashion_mnist(root, folder / missing[0])
    for name, md5 in FASHION_MNIST.items():
        _verify_md5(folder / name, md5)
    arrays = [
        np.memmap(folder / name, np.uint8, "r", offset=offset).reshape(-1, *shape)
        for name, offset, shape in [
            ("train-images-idx3-ubyte", 16, (1, 28, 28)),
            ("train-labels-idx1-ubyte", 8, ()),
            ("t10k-images-idx3-ubyte", 16, (1, 28, 28)),
            ("t10k-labels-idx1-ubyte", 8, ()),
        ]
    ]
    x, y, x_test, y_test = (a if a.ndim > 1 else a.astype(np.int64) for a in arrays)
    names = "T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Boot".split()
    return _Source(x, y, x_test, y_test, tuple(names), _md5_of(FASHION_MNIST), 1 / 255)


def _download_fashion_mnist(root: Path, missing: Path) -> None:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(root), download=True)
    except Exception as error:
        raise DataError(
            f"missing file {missing}, and the download failed ({error}). On a machine that is "
            f"online run `bsg data fashion_mnist`, then copy {root} here or set BSG_DATA to a copy"
        ) from error


def _verify_md5(path: Path, md5: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise DataError(f"damaged file {path}: md5 {found}, expected {md5}; delete it and retry")


def _md5_of(files: dict[str, str]) -> str:
    return "md5:" + hashlib.md5("".join(files.values()).encode()).hexdigest()


def _npz(path: Path) -> _Source:
    """A user's arrays: x, y and optionally x_test, y_test."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:
        raise DataError(f"damaged data file {path}: {error}") from error
    missing = {"x", "y"} - set(arrays) or ({"x_test", "y_test"} & set(arrays)) == {"x_test"}
    if missing:
        raise DataError(
            f"{path} holds {sorted(arrays)}; needed are x [N, ...] and y [N], and either both or "
            "none of x_test and y_test"
        )
    x, y = _checked(path, arrays["x"], arrays["y"])
    if "x_test" in arrays:
        x_test, y_test = _checked(path, arrays["x_test"], arrays["y_test"])
        if x_test.shape[1:] != x.shape[1:] or x_test.dtype != x.dtype:
            raise DataError(
                f"{path}: x_test {x_test.shape} {x_test.dtype} does not fit x {x.shape}"
            )
    else:
        x, y, x_test, y_test = _split_off_test(x, y)
    names = tuple(str(c) for c in range(int(max(y.max(), y_test.max())) + 1))
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    return _Source(x, y, x_test, y_test, names, f"sha256:{digest}", scale)


def _checked(path: Path, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if x.ndim < 2 or y.shape != x.shape[:1] or len(y) == 0:
        raise DataError(f"{path}: x {x.shape} and y {y.shape}; needed x [N, ...] and y [N], N > 0")
    if x.dtype.kind not in "uif":
        raise DataError(f"{path}: x holds {x.dtype}; needed are numbers")
    if y.dtype.kind not in "ui" or y.min() < 0:
        raise DataError(f"{path}: labels {y.dtype}, lowest {y.min()}; needed integers from 0")
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise DataError(f"{path}: {bad} values of x are NaN or infinite; all must be finite")
    return x.astype(x.dtype.newbyteorder("=")), y.astype(np.int64)  # torch takes native order only


SOURCES: dict[str, Callable[[Path], _Source]] = {
    "digits": _digits,
    "fashion_mnist": _fashion_mnist,
}
