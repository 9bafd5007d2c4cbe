"""Data sets: values as stored (pixels in uint8), split by seed, with checksums."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bsglib.data.arrays import npz
from bsglib.data.folders import FOLDERS, folder_of, images, images_checksum
from bsglib.data.published import CLOTHES, PUBLISHED, cifar, digits, even_or_odd, idx
from bsglib.data.source import DIGITS, DataError, Source, channel_statistics
from bsglib.data.speech import RECORDINGS, frames_checksum, spoken_digits
from bsglib.names import nearest
from bsglib.project import resolve

SOURCES: dict[str, Callable[[Path], Source]] = {
    "digits": digits,
    "even_or_odd": even_or_odd,
    "fashion_mnist": partial(idx, "fashion_mnist", CLOTHES),
    "mnist": partial(idx, "mnist", DIGITS),
    "cifar10": partial(cifar, "cifar10", "label"),
    "cifar100": partial(cifar, "cifar100", "fine_label"),
    "spoken_digits": spoken_digits,
}
NAMES = (*SOURCES, *FOLDERS)


@dataclass(frozen=True)
class Split:
    """Inputs x [N, ...] as stored and labels y int64 [N]."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """Three splits; `as_input` turns stored values into network inputs."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    checksum: str  # of the data before splitting
    scale: float  # stored value * scale = network input, unless standardised
    statistics: tuple[Tensor, Tensor] | None = None  # mean, std of a channel's stored values

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one example."""
        return tuple(self.train.x.shape[1:])

    def to(self, device: torch.device) -> "Dataset":
        """Return the data set with its tensors on a device, as stored: one byte per pixel."""
        splits = {
            name: Split(split.x.to(device), split.y.to(device))
            for name in ("train", "validation", "test")
            for split in [getattr(self, name)]
        }
        statistics = self.statistics and tuple(s.to(device) for s in self.statistics)
        return dataclasses.replace(self, statistics=statistics, **splits)

    def as_input(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return stored values as network inputs of a floating dtype."""
        inputs = x.to(dtype, copy=True)  # a float x is not to be changed
        if self.statistics is None:
            return inputs.mul_(self.scale)
        mean, std = (s.to(dtype) for s in self.statistics)
        return inputs.sub_(mean).div_(std)


def load(
    name: str,
    *,
    root: str | Path | None = None,
    train_size: int | None = None,
    validation_fraction: float = 0.1,
    image_size: int | None = None,
    split_seed: int = 0,
    standardise: bool = False,
) -> Dataset:
    """Return a data set, with its training part split and reduced by seed.

    Args:
        name: one of `NAMES`, or the path of an `.npz` with x [N, ...] and y int64 [N], and
            optionally x_test, y_test (by default a fixed fifth is the test set), or the path of a
            folder with a folder of images per class (a fixed fifth is the test set).
        root: folder of the data sets; default `$BSG_DATA`, else the user's cache folder.
        train_size: number of training examples, None for all.
        validation_fraction: fraction of the training part held out for selection, in [0, 1).
        image_size: side in pixels to which the images of a folder are resized; None keeps their
            size, which must be equal. Other data sets are not resized.
        split_seed: seed of the split; the official test set is never split.
        standardise: give network inputs mean 0 and standard deviation 1 per channel (per feature
            where x is [N, features]), by the statistics of the training set only.

    Raises:
        DataError: if the name is unknown, a file is missing or damaged, there are fewer examples
            than `train_size`, fewer than two classes, or values that are not finite; or if
            `image_size` is given for a data set without folders, or is missing for one.
    """
    if (train_size is not None and train_size < 1) or not 0 <= validation_fraction < 1:
        raise DataError(
            f"train_size = {train_size}, validation_fraction = {validation_fraction}: needed are a "
            "positive size or None, and a fraction in [0, 1)"
        )
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size = {image_size}: needed is a number of pixels, or None")
    source = _source(name, Path(root) if root else data_folder(), image_size)
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
        statistics=channel_statistics(train.x) if standardise else None,
    )


def data_folder() -> Path:
    """Return the folder of data sets: `$BSG_DATA`, else bsglib in the user's cache folder.

    Raises:
        DataError: if neither is known.
    """
    if folder := os.environ.get("BSG_DATA"):
        return resolve(folder)
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no HOME, and a user whom the system does not know, as in a container
        raise DataError("no home folder for data sets; set BSG_DATA") from None
    return resolve(Path(cache) / "bsglib")


def checksum(name: str) -> str:
    """Return the checksum of a data set; fixed files are not read.

    For a folder of images it depends on their names and contents, not on `image_size`.

    Raises:
        DataError: as `load`.
    """  # noqa: DOC502
    if name in PUBLISHED:
        return PUBLISHED[name].checksum
    if name == "spoken_digits":
        return frames_checksum()
    if is_folder(name):
        return images_checksum(folder_of(name, data_folder()))
    return _source(name, data_folder()).checksum


def at_hand(name: str) -> bool:
    """Return whether a data set is available without a download or a copy."""
    if name in PUBLISHED:
        return not PUBLISHED[name].missing(data_folder())
    if name in FOLDERS:
        return (data_folder() / name).is_dir()
    if name == "spoken_digits":
        return (data_folder() / RECORDINGS).is_dir()
    return name in SOURCES or resolve(name).exists()


def is_folder(name: str) -> bool:
    """Return whether a data set is a folder of images, which are resized to `image_size`."""
    if name in SOURCES or name.endswith(".npz"):
        return False
    return name in FOLDERS or (bool(name) and resolve(name).is_dir())


def _take(x: np.ndarray, y: np.ndarray, index) -> Split:
    return Split(torch.from_numpy(np.array(x[index])), torch.from_numpy(np.array(y[index])))


def _source(name: str, root: Path, image_size: int | None = None) -> Source:
    if is_folder(name):
        return images(folder_of(name, root), root, image_size)
    if image_size is not None:
        raise DataError(
            f"image_size = {image_size}: {name!r} is not a folder of images; only such folders "
            "are resized; omit image_size"
        )
    if name.endswith(".npz"):
        path = resolve(name)
        if not path.is_file():
            raise DataError(f"missing data file {path}")
        state = path.stat()  # a changed file is read again
        return _read(name, path, (state.st_mtime_ns, state.st_size))
    if name not in SOURCES:
        known = [*NAMES, "or the path of an .npz file or of a folder with a folder per class"]
        if Path(name).name != name:
            raise DataError(f"missing folder {resolve(name)}{nearest(name, known)}")
        raise DataError(f"unknown data set {name!r}{nearest(name, known)}")
    return _read(name, root, None)


@lru_cache(maxsize=2)
def _read(name: str, path: Path, version: tuple[int, int] | None) -> Source:
    source = npz(path) if version else SOURCES[name](path)
    if len(np.unique(source.y)) < 2:
        raise DataError(f"{name}: all labels are {source.y[0]}; at least two classes are needed")
    return source
