"""Folders with one folder of images per class."""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from bsglib.data.source import DataError, Source, converted, split_off_test
from bsglib.names import digest
from bsglib.project import resolve

FOLDERS = {  # in the data folder, copied by the user; instructions, {0} is the folder
    "cats_vs_dogs": "There is no automatic download: get Microsoft's Kaggle Cats and Dogs "
    "Dataset (https://www.microsoft.com/en-us/download/details.aspx?id=54765) and copy its images, "
    "of any size, to {0}/cat and {0}/dog; or set BSG_DATA to a folder that has cats_vs_dogs",
}
IMAGES_VERSION = 1  # raise it when images are converted differently
ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LOOK_EVERY_S = 5.0  # at the times of a folder's files


@dataclass(frozen=True)
class Folder:
    """A folder of images per class; equal if names, sizes and times are equal."""

    path: Path
    version: str  # digest of them
    key: str = field(compare=False)  # its name among the converted files
    classes: tuple[str, ...] = field(compare=False)
    files: tuple[tuple[str, ...], ...] = field(compare=False)  # of each class, sorted


def folder_of(name: str, root: Path) -> Folder:
    """Return the images of a data set that `bsglib.data.is_folder`.

    Reading the times of 25,000 files takes a tenth of a second. So an added or removed file is
    noticed at once, by the time of its folder, and a file changed in place within seconds.

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
def _looked_up(path: Path, key: str, classes: tuple[str, ...], times, now: int) -> Folder:
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
                f"{path / name} holds the folder {deeper[0]!r}; images have to be directly in "
                "the folder of their class"
            )
        if not images:
            raise DataError(f"{path / name} holds no images; allowed are {', '.join(ENDINGS)}")
        stats = [image.stat() for image in images]
        files.append(tuple(image.name for image in images))
        states.append(
            [(f, s.st_size, s.st_mtime_ns) for f, s in zip(files[-1], stats, strict=True)]
        )
    return Folder(path, digest(repr((classes, states))), key, classes, tuple(files))


@lru_cache(maxsize=4)
def images_checksum(folder: Folder) -> str:
    """Return the checksum of the names and contents of all images."""
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
def images(folder: Folder, root: Path, size: int | None) -> Source:
    """Return the images as RGB, uint8 [N, 3, height, width], a fixed fifth as the test set."""

    def convert() -> tuple[dict[str, np.ndarray], Sequence[str]]:
        named = zip(folder.classes, folder.files, strict=True)
        paths = [folder.path / name / file for name, files in named for file in files]
        labels = np.repeat(np.arange(len(folder.classes)), [len(files) for files in folder.files])
        train, y, test, y_test = split_off_test(np.arange(len(paths)), labels.astype(np.int64))
        x = _pixels([paths[i] for i in (*train, *test)], size)
        return {"x": x[: len(y)], "y": y, "x_test": x[len(y) :], "y_test": y_test}, folder.classes

    key = f"{folder.key}-{size or 'unchanged'}"
    return converted(key, root, images_checksum(folder), 1 / 255, convert)


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
                "set image_size, the side in pixels to which all are resized"
            )
        pixels[i] = image.transpose(2, 0, 1)
    if unreadable:
        raise DataError(
            f"unreadable images, {len(unreadable)} of {len(paths)}: {'; '.join(unreadable[:5])}; "
            "allowed are images that Pillow opens, with 8 bits per channel: repair or delete them"
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
