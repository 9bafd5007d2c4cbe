"""Data sets: values as stored (pixels in uint8), split by seed, with checksums."""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import pickle
import time
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from bsglib.params import digest, nearest, resolve

log = logging.getLogger(__name__)


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

    def to(self, device: torch.device) -> "Dataset":
        """Return the data set with its tensors on a device, as stored: a byte a pixel."""
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
    """Return a data set, its training part split and cut down by seed.

    Args:
        name: one of `NAMES`, or the path of an `.npz` with x [N, ...] and y int64 [N], and
            optionally x_test, y_test (without them a fixed fifth is the test part), or the path of
            a folder with a folder of images per class (a fixed fifth is the test part).
        root: folder of the data sets; default `$BSG_DATA`, else the user's cache folder.
        train_size: number of training examples kept, None for all.
        validation_fraction: share of the training part set aside for choices, in [0, 1).
        image_size: side in pixels to which the images of a folder are resized; None leaves them as
            they are, if their sizes are equal. Other data sets are not resized.
        split_seed: decides which examples go where; the official test part is never touched.
        standardise: give network inputs mean 0 and standard deviation 1 per channel (per feature
            where x is [N, features]), by the statistics of the training part alone.

    Raises:
        DataError: if the name is unknown, a file is missing or damaged, there are fewer examples
            than `train_size`, fewer than two classes, or values that are not finite; or if
            `image_size` is given to another data set than a folder, or is needed and not given.
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
        statistics=_statistics(train.x) if standardise else None,
    )


def data_folder() -> Path:
    """Return where data sets lie: `$BSG_DATA`, else bsglib in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return resolve(os.environ.get("BSG_DATA") or Path(cache) / "bsglib")


def checksum(name: str) -> str:
    """Return the checksum of a data set, without reading it where its files are fixed.

    That of a folder of images is one of their names and contents, whatever size they are given.

    Raises:
        DataError: as `load`.
    """  # noqa: DOC502
    if name in PUBLISHED:
        return PUBLISHED[name].checksum
    if name == "spoken_digits":
        return _frames_checksum()
    if is_folder(name):
        return _images_checksum(_listed(name, data_folder()))
    return _source(name, data_folder()).checksum


def at_hand(name: str) -> bool:
    """Return whether a data set is there, so that it need not be downloaded or brought."""
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


def _source(name: str, root: Path, image_size: int | None = None) -> _Source:
    if is_folder(name):
        return _images(_listed(name, root), root, image_size)
    if image_size is not None:
        raise DataError(
            f"image_size = {image_size}: {name!r} is no folder of images, and only those are "
            "resized; leave image_size out"
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
    content = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    return _Source(*_split_off_test(x, y), DIGITS, f"sha256:{content}", 1 / 16)


def _even_or_odd(root: Path) -> _Source:
    """Digits, told apart as even or odd: two classes for a first look."""
    source = _digits(root)
    return dataclasses.replace(
        source,
        y=source.y % 2,
        y_test=source.y_test % 2,
        classes=("even", "odd"),
        checksum=f"{source.checksum}, even or odd",
    )


@dataclass(frozen=True)
class _Published:
    """A data set of fixed files, in torchvision's layout."""

    torchvision: str  # its class there
    folder: str
    md5: dict[str, str]  # of the unpacked files

    @property
    def checksum(self) -> str:
        return "md5:" + hashlib.md5("".join(self.md5.values()).encode()).hexdigest()

    def verified(self, name: str, root: Path) -> list[Path]:
        """Return the files, downloaded if one is missing, once their md5 is right."""
        paths = [root / self.folder / file for file in self.md5]
        if missing := self.missing(root):
            self._download(name, root, missing[0])
        for path, md5 in zip(paths, self.md5.values(), strict=True):
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "md5").hexdigest()
            if found != md5:
                raise DataError(
                    f"damaged file {path}: md5 {found}, expected {md5}; delete it and retry"
                )
        return paths

    def missing(self, root: Path) -> list[Path]:
        """Return the files that are not there."""
        paths = [root / self.folder / file for file in self.md5]
        return [path for path in paths if not path.is_file()]

    def _download(self, name: str, root: Path, missing: Path) -> None:
        import torchvision

        try:
            getattr(torchvision.datasets, self.torchvision)(str(root), download=True)
        except Exception as error:
            raise DataError(
                f"missing file {missing}, and the download failed ({error}). On a machine that is "
                f"online run `bsg data {name}`, then copy {root} here or set BSG_DATA to a copy"
            ) from error


PUBLISHED = {
    "fashion_mnist": _Published(
        "FashionMNIST",
        "FashionMNIST/raw",
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
    "mnist": _Published(
        "MNIST",
        "MNIST/raw",
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "cifar10": _Published(
        "CIFAR10",
        "cifar-10-batches-py",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
    ),
    "cifar100": _Published(
        "CIFAR100",
        "cifar-100-python",
        {
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    ),
}


def _idx(name: str, classes: Sequence[str], root: Path) -> _Source:
    """MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): grey images of 28 x 28."""
    published = PUBLISHED[name]
    x, y, x_test, y_test = (
        np.memmap(path, np.uint8, "r", offset=offset).reshape(-1, *shape)
        for path, (offset, shape) in zip(
            published.verified(name, root), 2 * [(16, (1, 28, 28)), (8, ())], strict=True
        )
    )
    labels = y.astype(np.int64), y_test.astype(np.int64)
    return _Source(x, labels[0], x_test, labels[1], tuple(classes), published.checksum, 1 / 255)


def _cifar(name: str, label: str, root: Path) -> _Source:
    """CIFAR-10, CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32 x 32."""
    published = PUBLISHED[name]

    def convert() -> tuple[dict[str, np.ndarray], list[str]]:
        *train, test, meta = [
            pickle.loads(path.read_bytes(), encoding="latin1")  # after its md5
            for path in published.verified(name, root)
        ]
        arrays = {}
        for suffix, parts in (("", train), ("_test", [test])):
            arrays["x" + suffix] = np.concatenate([p["data"] for p in parts]).reshape(-1, 3, 32, 32)
            arrays["y" + suffix] = np.concatenate([p[f"{label}s"] for p in parts]).astype(np.int64)
        return arrays, meta[f"{label}_names"]

    return _converted(name, root, published.checksum, 1 / 255, convert)


SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
RECORDINGS = "fsdd"  # the folder's name
RECORDINGS_SHA256 = "6b1a8e30f4df78a933fe25cf1ca0140c8c6f169c0a83649a15b70a5ae7407014"
FRAMES_VERSION = 1  # raise it when frames are made differently
RATE, WINDOW, HOP, FFT, BANDS, CONTEXT = 8000, 200, 80, 512, 40, 4


def _frames_checksum() -> str:
    return f"sha256:{RECORDINGS_SHA256}, frames {FRAMES_VERSION}"


def _spoken_digits(root: Path) -> _Source:
    """Return frames of the Free Spoken Digit Dataset: 3,000 recordings, six speakers, 8 kHz.

    Each frame, 25 ms every 10 ms, is labelled with the digit of its recording. Its 360 features
    are 40 log-mel bands of nine frames, the four on either side included (the first and last
    repeated at the ends), standardised by the official training part, which is the recordings with
    index 5 and above. A validation part cut from it by frames shares recordings with it.
    """
    folder = root / RECORDINGS

    def convert() -> tuple[dict[str, np.ndarray], list[str]]:
        parts = {key: [] for key in ("x", "y", "x_test", "y_test")}
        for name, content in _recordings(folder).items():
            digit, _, index = name.removesuffix(".wav").split("_")
            frames = _with_context(_log_mel(_samples(content)).astype(np.float32))
            suffix = "_test" if int(index) < 5 else ""
            parts["x" + suffix].append(frames)
            parts["y" + suffix].append(np.full(len(frames), int(digit), np.int64))
        arrays = {key: np.concatenate(part) for key, part in parts.items()}
        mean, std = (s.numpy() for s in _statistics(torch.from_numpy(arrays["x"])))
        for key in ("x", "x_test"):
            arrays[key] -= mean
            arrays[key] /= std
        return arrays, DIGITS

    return _converted("spoken_digits", root, _frames_checksum(), 1.0, convert)


def _recordings(folder: Path) -> dict[str, bytes]:
    names = sorted(f"{d}_{s}_{i}.wav" for d in range(10) for s in SPEAKERS for i in range(50))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"missing file {folder / missing[0]} ({len(missing)} of {len(names)} recordings). "
            "Clone https://github.com/Jakobovski/free-spoken-digit-dataset, check out 26eb9aa, and "
            f"copy its recordings to {folder}, or set BSG_DATA to a folder that has them in fsdd"
        )
    contents = {name: (folder / name).read_bytes() for name in names}
    total = hashlib.sha256()
    for name, content in contents.items():
        total.update(name.encode() + b"\0" + content)
    if total.hexdigest() != RECORDINGS_SHA256:
        raise DataError(
            f"damaged or other recordings in {folder}: sha256 {total.hexdigest()}, expected "
            f"{RECORDINGS_SHA256}; take those of commit 26eb9aa"
        )
    return contents


def _samples(content: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(content)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def _log_mel(samples: np.ndarray) -> np.ndarray:
    """Logarithms of the energies in mel bands [frames, bands]; 1 is below the rounding noise."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hamming(WINDOW)
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2  # [frames, FFT / 2 + 1]
    return np.log1p(power @ _mel_filters().T)


@lru_cache(maxsize=1)
def _mel_filters() -> np.ndarray:
    """Triangles of equal width in mel = 2595 log10(1 + Hz / 700), [bands, FFT / 2 + 1]."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    low, middle, high = (edges[i : i + BANDS, None] for i in range(3))
    hz = np.fft.rfftfreq(FFT, 1 / RATE)
    return np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)).clip(0)


def _with_context(frames: np.ndarray) -> np.ndarray:
    """Each frame with its neighbours, [frames, bands * (2 * CONTEXT + 1)]."""
    padded = np.pad(frames, ((CONTEXT, CONTEXT), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * CONTEXT + 1, axis=0)
    return windows.reshape(len(frames), -1)


IMAGES_VERSION = 1  # raise it when images are converted differently
ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LOOK_EVERY_S = 5.0  # at the times of a folder's files


@dataclass(frozen=True)
class _Folder:
    """A folder of images per class; equal to another where names, sizes and times are."""

    path: Path
    version: str  # digest of them
    key: str = field(compare=False)  # its name among the converted files
    classes: tuple[str, ...] = field(compare=False)
    files: tuple[tuple[str, ...], ...] = field(compare=False)  # of each class, sorted


def _listed(name: str, root: Path) -> _Folder:
    """Return the images of a data set that `is_folder`.

    To ask every file for its time takes a tenth of a second for 25,000: a file added or removed is
    noticed at once, by the time of its folder, one that is changed in place within seconds.

    Raises:
        DataError: if there are not at least two classes, each with images.
    """
    path = root / name if name in FOLDERS else resolve(name)
    key = name if name in FOLDERS else f"{path.name}-{digest(str(path), length=8)}"
    if not path.is_dir():
        raise DataError(f"missing folder {path}. " + FOLDERS.get(name, "").format(path))
    try:
        with os.scandir(path) as entries:
            folders = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        times = tuple((path / folder).stat().st_mtime_ns for folder in folders)
        return _looked_up(path, key, tuple(folders), times, int(time.monotonic() / LOOK_EVERY_S))
    except OSError as error:
        raise DataError(f"folder {path} cannot be read: {error}") from error


@lru_cache(maxsize=4)
def _looked_up(path: Path, key: str, classes: tuple[str, ...], times, now: int) -> _Folder:
    if len(classes) < 2:
        found = f"one folder, {classes[0]!r}" if classes else "no folders"
        raise DataError(
            f"{path} holds {found}; needed is a folder of images for each of two or more classes"
        )
    states, files = [], []
    for name in classes:
        with os.scandir(path / name) as entries:
            visible = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
        images = [e for e in visible if e.name.lower().endswith(ENDINGS) and not e.is_dir()]
        if deeper := [e.name for e in visible if e.is_dir()]:
            raise DataError(
                f"{path / name} holds the folder {deeper[0]!r}; images lie directly in the folder "
                "of their class"
            )
        if not images:
            raise DataError(f"{path / name} holds no images; allowed are {', '.join(ENDINGS)}")
        stats = [image.stat() for image in images]
        files.append(tuple(image.name for image in images))
        states.append(
            [(f, s.st_size, s.st_mtime_ns) for f, s in zip(files[-1], stats, strict=True)]
        )
    return _Folder(path, digest(repr((classes, states))), key, classes, tuple(files))


@lru_cache(maxsize=4)
def _images_checksum(folder: _Folder) -> str:
    total = hashlib.sha256()
    for name, files in zip(folder.classes, folder.files, strict=True):
        for file in files:
            path = folder.path / name / file
            try:
                content = path.read_bytes()
            except OSError as error:
                raise DataError(f"image {path} cannot be read: {error}") from error
            total.update(os.fsencode(f"{name}/{file}\0{len(content)}\0"))
            total.update(content)
    return f"sha256:{total.hexdigest()}, images {IMAGES_VERSION}"


@lru_cache(maxsize=2)
def _images(folder: _Folder, root: Path, size: int | None) -> _Source:
    """Return the images as RGB, uint8 [N, 3, height, width], a fixed fifth as the test part."""

    def convert() -> tuple[dict[str, np.ndarray], Sequence[str]]:
        named = zip(folder.classes, folder.files, strict=True)
        paths = [folder.path / name / file for name, files in named for file in files]
        labels = np.repeat(np.arange(len(folder.classes)), [len(files) for files in folder.files])
        train, y, test, y_test = _split_off_test(np.arange(len(paths)), labels.astype(np.int64))
        x = _pixels([paths[i] for i in (*train, *test)], size)
        return {"x": x[: len(y)], "y": y, "x_test": x[len(y) :], "y_test": y_test}, folder.classes

    key = f"{folder.key}-{size or 'unchanged'}"
    return _converted(key, root, _images_checksum(folder), 1 / 255, convert)


def _pixels(paths: Sequence[Path], size: int | None) -> np.ndarray:
    pixels, unreadable = None, []
    for i, path in enumerate(paths):
        try:
            image = _rgb(path, size)  # [height, width, 3]
        except Exception as error:  # Pillow raises whatever a damaged file leads to
            unreadable.append(f"{path} ({error})")
            continue
        if pixels is None:
            pixels = np.empty((len(paths), 3, *image.shape[:2]), np.uint8)
        if image.shape[:2] != pixels.shape[2:]:
            (height, width), (first_height, first_width) = image.shape[:2], pixels.shape[2:]
            raise DataError(
                f"{path} has {width} x {height} pixels, others {first_width} x {first_height}: "
                "give image_size, the side in pixels to which all are resized"
            )
        pixels[i] = image.transpose(2, 0, 1)
    if unreadable:
        raise DataError(
            f"unreadable images, {len(unreadable)} of {len(paths)}: {'; '.join(unreadable[:5])}; "
            "allowed are images that Pillow opens, of 8 bits a channel: repair or delete them"
        )
    return pixels


def _rgb(path: Path, size: int | None) -> np.ndarray:
    """Return an image without its transparency, resized (bilinear, antialiased) to a square."""
    with Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"values of mode {image.mode}, which have no fixed range")
        if size is not None:
            image.draft(None, (2 * size, 2 * size))  # large JPEGs are not decoded at full size
        # a palette with transparent colours makes Pillow warn, were it converted at once
        rgb = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
        if size is not None and rgb.size != (size, size):
            rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(rgb)


def _converted(
    name: str,
    root: Path,
    source: str,
    scale: float,
    convert: Callable[[], tuple[dict[str, np.ndarray], Sequence[str]]],
) -> _Source:
    """Return a source that is expensive to make, made once, kept beside the data and mapped.

    All processes share the mapped pages. Whoever comes first converts; a file that is damaged, or
    made from another source, is made again.

    Raises:
        DataError: as `convert`, or if the file cannot be written.
    """
    path = root / "converted" / f"{name}.safetensors"
    try:
        return _mapped(path, source, scale)
    except FileNotFoundError:
        pass
    except DataError as error:
        log.warning("%s: it is made again", error)
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
        raise DataError(f"{path} cannot be made: {error}") from error


def _mapped(path: Path, source: str, scale: float) -> _Source:
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
        return _Source(**arrays, classes=classes, checksum=source, scale=scale)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"damaged file {path}: {error}") from error


def _digest_of(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    total = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        total.update(arrays[name])
    return total.hexdigest()


def _npz(path: Path) -> _Source:
    """A user's arrays: x, y and optionally x_test, y_test."""
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
        x, y, x_test, y_test = _split_off_test(x, y)
    labels = np.union1d(y, y_test)
    if labels[-1] >= len(labels):
        absent = int(np.flatnonzero(labels != np.arange(len(labels)))[0])
        raise DataError(
            f"{path}: labels go to {labels[-1]}, with no example of class {absent}; needed are "
            "0, 1, 2, ..., as np.unique(y, return_inverse=True)[1] gives them"
        )
    names = tuple(map(str, labels))
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    return _Source(x, y, x_test, y_test, names, f"sha256:{content}", scale)


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
        raise DataError(f"{path}: {bad} values of x{part} are NaN or infinite, none may be")
    return x.astype(x.dtype.newbyteorder("=")), y.astype(np.int64)  # torch takes native order only


DIGITS = tuple(str(digit) for digit in range(10))
CLOTHES = "T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Boot".split()
SOURCES: dict[str, Callable[[Path], _Source]] = {
    "digits": _digits,
    "even_or_odd": _even_or_odd,
    "fashion_mnist": partial(_idx, "fashion_mnist", CLOTHES),
    "mnist": partial(_idx, "mnist", DIGITS),
    "cifar10": partial(_cifar, "cifar10", "label"),
    "cifar100": partial(_cifar, "cifar100", "fine_label"),
    "spoken_digits": _spoken_digits,
}
FOLDERS = {  # below the data folder, to be brought; how, {} being the folder
    "cats_vs_dogs": "It is not downloaded: take Microsoft's Kaggle Cats and Dogs "
    "Dataset (https://www.microsoft.com/en-us/download/details.aspx?id=54765) and copy its images, "
    "of any size, to {0}/cat and {0}/dog; or set BSG_DATA to a folder that has cats_vs_dogs",
}
NAMES = (*SOURCES, *FOLDERS)
