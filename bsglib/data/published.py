"""Published data sets: fixed files in torchvision's layout, and scikit-learn's digits."""

import dataclasses
import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bsglib.data.source import DIGITS, DataError, Source, converted, split_off_test

CLOTHES = "T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Boot".split()


@dataclass(frozen=True)
class Published:
    """A data set of fixed files, in torchvision's layout."""

    torchvision: str  # its class there
    folder: str
    md5: dict[str, str]  # of the unpacked files

    @property
    def checksum(self) -> str:
        """Return one checksum of all files."""
        return "md5:" + hashlib.md5("".join(self.md5.values()).encode()).hexdigest()

    def verified(self, name: str, root: Path) -> list[Path]:
        """Return the files after a check of their md5; download them if one is missing."""
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
        """Return the missing files."""
        paths = [root / self.folder / file for file in self.md5]
        return [path for path in paths if not path.is_file()]

    def _download(self, name: str, root: Path, missing: Path) -> None:
        import torchvision

        try:
            getattr(torchvision.datasets, self.torchvision)(str(root), download=True)
        except Exception as error:
            raise DataError(
                f"missing file {missing}, and the download failed ({error}). On a machine with "
                f"internet access run `bsg data {name}`; copy {root} here or set BSG_DATA to a copy"
            ) from error


PUBLISHED = {
    "fashion_mnist": Published(
        "FashionMNIST",
        "FashionMNIST/raw",
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
    "mnist": Published(
        "MNIST",
        "MNIST/raw",
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "cifar10": Published(
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
    "cifar100": Published(
        "CIFAR100",
        "cifar-100-python",
        {
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    ),
}


def idx(name: str, classes: Sequence[str], root: Path) -> Source:
    """MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): grey images of 28 x 28."""
    published = PUBLISHED[name]
    x, y, x_test, y_test = (
        np.memmap(path, np.uint8, "r", offset=offset).reshape(-1, *shape)
        for path, (offset, shape) in zip(
            published.verified(name, root), 2 * [(16, (1, 28, 28)), (8, ())], strict=True
        )
    )
    labels = y.astype(np.int64), y_test.astype(np.int64)
    return Source(x, labels[0], x_test, labels[1], tuple(classes), published.checksum, 1 / 255)


def cifar(name: str, label: str, root: Path) -> Source:
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

    return converted(name, root, published.checksum, 1 / 255, convert)


def digits(root: Path) -> Source:
    """scikit-learn's digits: 1,797 grey images of 8 x 8, values 0 to 16; ship with the package."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = bunch.images.astype(np.uint8)[:, None]  # [N, 1, 8, 8]
    y = bunch.target.astype(np.int64)
    content = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    return Source(*split_off_test(x, y), DIGITS, f"sha256:{content}", 1 / 16)


def even_or_odd(root: Path) -> Source:
    """Digits with two classes, even and odd, for a first look."""
    source = digits(root)
    return dataclasses.replace(
        source,
        y=source.y % 2,
        y_test=source.y_test % 2,
        classes=("even", "odd"),
        checksum=f"{source.checksum}, even or odd",
    )
