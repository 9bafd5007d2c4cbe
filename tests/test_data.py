"""Tests of bsglib.data."""

import dataclasses
import hashlib
import logging
import os
import pickle
import struct
import wave

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from bsglib import data
from bsglib.data import DataError, checksum, load

N = 60


def save(path, n=N, **changes):
    """An .npz whose examples can be told apart by their first value."""
    x = np.stack([np.arange(n), np.ones(n)], axis=1).astype(np.float32)
    arrays = {"x": x, "y": np.arange(n) % 3} | changes
    np.savez(path, **{name: a for name, a in arrays.items() if a is not None})
    return str(path)


def members(split):
    return set(split.x[:, 0].int().tolist())


def publish(monkeypatch, root, name, contents):
    """Write the files of a data set and let their md5 be the right ones."""
    published = data.PUBLISHED[name]
    folder = root / published.folder
    folder.mkdir(parents=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    sums = {file: hashlib.md5(contents[file]).hexdigest() for file in published.md5}
    monkeypatch.setitem(data.PUBLISHED, name, dataclasses.replace(published, md5=sums))
    return folder


def idx_files():
    """The four files of MNIST and Fashion-MNIST, tiny."""
    generator, contents = np.random.default_rng(0), {}
    for part, n in (("train", 40), ("t10k", 8)):
        images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        contents |= {
            f"{part}-images-idx3-ubyte": struct.pack(">4i", 2051, n, 28, 28) + images.tobytes(),
            f"{part}-labels-idx1-ubyte": struct.pack(">2i", 2049, n) + labels.tobytes(),
        }
    return contents


def cifar_files(name):
    """The pickles of CIFAR-10 or -100, four images in each; an image is its number, repeated."""
    *batches, meta = data.PUBLISHED[name].md5
    prefix = "" if name == "cifar10" else "fine_"
    names = [f"class {i}" for i in range(3)]
    contents = {meta: pickle.dumps({f"{prefix}label_names": names}, 2)}
    for i, batch in enumerate(batches):
        images = np.repeat(np.arange(4 * i, 4 * i + 4, dtype=np.uint8), 3072).reshape(4, 3072)
        images[0, :1024] = 100  # the red of the first
        labels = [(4 * i + k) % 3 for k in range(4)]
        contents[batch] = pickle.dumps({"data": images, f"{prefix}labels": labels}, 2)
    return contents


def tone(digit, index):
    return (1000 + 100 * index) * np.sin(2 * np.pi * (200 + 300 * digit) * np.arange(600) / 8000)


def recordings(monkeypatch, root):
    """Five hundred recordings of one speaker: tones of 600 samples, so six frames each."""
    (folder := root / "fsdd").mkdir()
    total = hashlib.sha256()
    for name in sorted(f"{d}_ann_{i}.wav" for d in range(10) for i in range(50)):
        digit, _, index = name[:-4].split("_")
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(tone(int(digit), int(index)).astype("<i2").tobytes())
        total.update(name.encode() + b"\0" + (folder / name).read_bytes())
    monkeypatch.setattr(data.speech, "SPEAKERS", ("ann",))
    monkeypatch.setattr(data.speech, "RECORDINGS_SHA256", total.hexdigest())
    return folder


KINDS = [("RGB", "png"), ("L", "jpg"), ("P", "png"), ("RGBA", "webp"), ("LA", "png"), ("1", "PNG")]


def grey(i):
    """The level of image number i, by which it is told from others; those of 1 bit are white."""
    return 255 if KINDS[i % 6][0] == "1" else 10 + 2 * i


def picture(i, width, height):
    """Image number i, of a kind, and of one level throughout."""
    mode, level = KINDS[i % 6][0], (grey(i),) * 3
    if mode == "P":
        image = Image.new("P", (width, height), 1)
        image.putpalette([255, 255, 255, *level])
        image.info["transparency"] = bytes([99, 99])
        return image
    image = Image.new("RGB", (width, height), level).convert(mode)
    if "A" in mode:
        image.putalpha(99)
    return image


def images(root, n=30, *, size=lambda i: (5 + i % 7, 4 + i % 5)):
    """A folder of images of several sizes and kinds, the even ones cats, the odd ones dogs."""
    for i in range(n):
        (folder := root / ("cat", "dog")[i % 2]).mkdir(parents=True, exist_ok=True)
        options = {"lossless": True} if KINDS[i % 6][1] == "webp" else {}
        picture(i, *size(i)).save(folder / f"{i:02}.{KINDS[i % 6][1]}", **options)
    return str(root)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder of images, below nothing in particular."""
    monkeypatch.setenv("BSG_DATA", str(tmp_path / "data"))
    return tmp_path / "my.pictures"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(data.folders, "LOOK_EVERY_S", 1e-9)


def forget():
    """Know as little as another process."""
    of_folders = (getattr(data.folders, n) for n in ("images", "images_checksum", "_looked_up"))
    for kept in (data._read, *of_folders):
        kept.cache_clear()


def read_again(name, root, **options):
    """Load as another process would."""
    forget()
    return load(name, root=root, **options)


@pytest.fixture
def cifar10(tmp_path, monkeypatch, no_download):
    """The folder of the files of CIFAR-10."""
    return publish(monkeypatch, tmp_path, "cifar10", cifar_files("cifar10"))


@pytest.fixture
def no_download(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("name resolution failed")

    for published in data.PUBLISHED.values():
        monkeypatch.setattr(torchvision.datasets, published.torchvision, refuse)


# Splits


@pytest.mark.parametrize(("fraction", "sizes"), [(0.25, [36, 12, 12]), (0.0, [48, 0, 12])])
def test_the_three_parts_are_disjoint_and_hold_every_example_with_its_label(
    tmp_path, fraction, sizes
):
    dataset = load(save(tmp_path / "a.npz"), validation_fraction=fraction, split_seed=3)
    splits = dataset.train, dataset.validation, dataset.test
    assert [len(split) for split in splits] == [len(members(split)) for split in splits] == sizes
    assert set.union(*map(members, splits)) == set(range(N))
    for split in splits:
        assert torch.equal(split.x[:, 0].long() % 3, split.y)
        assert split.y.dtype == torch.int64


def test_the_same_seed_gives_the_same_split_and_another_does_not(tmp_path):
    path = save(tmp_path / "a.npz")
    one, same, other = (load(path, split_seed=s) for s in (1, 1, 2))
    assert torch.equal(one.train.x, same.train.x)
    assert members(one.validation) != members(other.validation)
    assert members(one.test) == members(other.test)
    few = load(path, split_seed=1, train_size=10)
    assert torch.equal(few.train.x, one.train.x[:10]), "the beginning of the larger"
    assert torch.equal(few.validation.x, one.validation.x)
    few.train.x.zero_()
    assert load(path, split_seed=1).train.x.abs().sum() > 0, "the next one is a copy"


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_standardised_inputs_have_mean_0_and_deviation_1_in_each_channel(tmp_path, dtype):
    x = np.random.default_rng(0).integers(0, 256, (N, 3, 4, 5)) // np.array([[[[1]], [[2]], [[9]]]])
    path = save(tmp_path / "a.npz", x=x.astype(dtype))
    dataset = load(path, standardise=True)
    inputs = dataset.as_input(dataset.train.x, torch.float64)
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-13)
    std = inputs.std((0, 2, 3), correction=0)
    torch.testing.assert_close(std, torch.ones(3).double(), rtol=1e-13, atol=0)
    single = dataset.as_input(dataset.train.x, torch.float32)
    torch.testing.assert_close(single, inputs.float(), rtol=1e-5, atol=1e-6)


# The data sets


def test_digits_come_with_the_installation():
    dataset = load("digits")
    assert dataset.input_shape == (1, 8, 8)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 1797
    assert (len(dataset.classes), dataset.train.x.dtype) == (10, torch.uint8)
    inputs = dataset.as_input(dataset.train.x, torch.float64)
    assert (inputs.min(), inputs.max(), inputs.dtype) == (0, 1, torch.float64)
    assert dataset.train.x.max() == 16  # the stored values are left alone
    assert len(load("digits", train_size=1294).train) == 1294, "all there are"


def test_idx_files_are_read(tmp_path, monkeypatch, no_download):
    contents, name = idx_files(), "mnist"
    publish(monkeypatch, tmp_path, name, contents)
    dataset = load(name, root=tmp_path, validation_fraction=0.25)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (30, 10, 8)
    raw = contents["t10k-images-idx3-ubyte"][16:]
    expected = np.frombuffer(raw, np.uint8).reshape(8, 1, 28, 28)
    assert np.array_equal(dataset.test.x.numpy(), expected)
    assert dataset.test.y.tolist() == list(range(8))
    assert dataset.as_input(dataset.test.x, torch.float64).max() == expected.max() / 255
    assert (dataset.checksum, len(dataset.classes)) == (checksum(name), 10)


@pytest.mark.parametrize(("name", "batches"), [("cifar10", 5), ("cifar100", 1)])
def test_cifar_is_read_from_its_pickles(tmp_path, monkeypatch, no_download, name, batches):
    publish(monkeypatch, tmp_path, name, cifar_files(name))
    dataset = load(name, root=tmp_path, validation_fraction=0.0)
    assert (len(dataset.train), len(dataset.test)) == (4 * batches, 4)
    assert dataset.input_shape == (3, 32, 32)
    assert dataset.train.x.dtype == torch.uint8
    assert dataset.classes == ("class 0", "class 1", "class 2")
    for split, first in ((dataset.train, 0), (dataset.test, 4 * batches)):
        number = split.x[:, 2, 31, 31].long()
        assert sorted(number.tolist()) == list(range(first, first + len(split)))
        assert torch.equal(split.y, number % 3)
        red = torch.where(number % 4 == 0, 100, number)
        assert torch.equal(split.x[:, 0].long(), red[:, None, None].expand(-1, 32, 32))
        assert torch.equal(split.x[:, 1], split.x[:, 2])
    assert dataset.as_input(dataset.train.x, torch.float64).max() == 100 / 255
    assert dataset.checksum == checksum(name)


def test_spoken_digits_are_split_by_the_index_of_the_recording(tmp_path, monkeypatch):
    recordings(monkeypatch, tmp_path)
    dataset = load("spoken_digits", root=tmp_path, validation_fraction=0.0)
    assert dataset.input_shape == (360,)
    assert dataset.train.x.dtype == torch.float32
    assert dataset.train.y.bincount().tolist() == [45 * 6] * 10
    assert dataset.test.y.bincount().tolist() == [5 * 6] * 10
    torch.testing.assert_close(dataset.train.x.mean(0), torch.zeros(360), rtol=0, atol=1e-5)
    torch.testing.assert_close(dataset.train.x.std(0), torch.ones(360), rtol=1e-3, atol=0)
    assert dataset.test.x.mean() < -0.1  # its tones are the softest
    assert dataset.checksum == checksum("spoken_digits")


# Folders of images


def greys(split):
    return split.x[:, 0, 0, 0].tolist()


def test_images_of_any_size_and_kind_become_squares_of_rgb(folder, recwarn):
    dataset = load(images(folder), image_size=6, validation_fraction=0.25)
    parts = dataset.train, dataset.validation, dataset.test
    assert [len(p) for p in parts] == [18, 6, 6]
    assert dataset.classes == ("cat", "dog")
    assert dataset.input_shape == (3, 6, 6)
    assert not recwarn.list
    found = {}
    for part in parts:
        assert part.x.dtype == torch.uint8 and part.y.dtype == torch.int64
        assert torch.equal(part.x.amax((1, 2, 3)), part.x.amin((1, 2, 3)))
        found |= dict(zip(greys(part), part.y.tolist(), strict=True))
    assert found == {grey(i): i % 2 for i in range(30)}
    assert dataset.as_input(dataset.train.x, torch.float64).max() <= 1


def test_a_folder_is_converted_once_for_each_size(folder, monkeypatch):
    decoded, rgb = [], data.folders._rgb
    monkeypatch.setattr(data.folders, "_rgb", lambda *args: decoded.append(args) or rgb(*args))
    first = load(images(folder), image_size=4)
    for size in (4, 5, 4, 5):
        again = read_again(str(folder), None, image_size=size)
        assert again.input_shape == (3, size, size)
        assert again.checksum == first.checksum == checksum(str(folder))
    assert torch.equal(read_again(str(folder), None, image_size=4).train.x, first.train.x)
    assert len(decoded) == 60


@pytest.mark.parametrize(
    "change",
    [
        lambda f: picture(36, 5, 5).save(f / "cat" / "00.png"),
        lambda f: (f / "cat" / "00.png").rename(f / "cat" / "99.png"),
        lambda f: (f / "cat").rename(f / "lion"),
    ],
)
def test_a_change_of_a_folder_is_noticed(folder, impatient, change):
    before = load(images(folder), image_size=4)
    change(folder)
    after = load(str(folder), image_size=4)
    assert after.checksum != before.checksum
    assert after.checksum == checksum(str(folder))
    total = len(after.train) + len(after.validation) + len(after.test)
    assert total == sum(len(files) for _, _, files in os.walk(folder))


def flip(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [flip, lambda c: b""])
def test_a_damaged_conversion_is_noticed_and_made_again(tmp_path, cifar10, caplog, damage):
    first = load("cifar10", root=tmp_path)
    path = tmp_path / "converted" / "cifar10.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        again = read_again("cifar10", tmp_path)
    assert f"damaged file {path}" in caplog.text
    assert torch.equal(first.train.x, again.train.x)
    caplog.clear()
    read_again("cifar10", tmp_path)
    assert caplog.text == ""


def test_the_checksum_of_fixed_files_needs_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("BSG_DATA", str(tmp_path / "none"))
    names = set(data.SOURCES) - {"digits", "even_or_odd"}
    assert len({checksum(name) for name in names}) == len(names) == 5
    # part of the identity of stored runs
    assert checksum("fashion_mnist") == "md5:4472cc9bf98ecb6e389ca9544c9d9233"


# What bad input gets


def test_names_and_sizes_of_folders_that_are_none_are_refused(folder):
    with pytest.raises(DataError, match="image_size = 8: 'digits' is not a folder of images"):
        load("digits", image_size=8)
    with pytest.raises(DataError, match="image_size = 0"):
        load(images(folder), image_size=0)
    with pytest.raises(DataError, match="unknown data set 'cats_vs_dog'.*cats_vs_dogs"):
        load("cats_vs_dog")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: [(f / c).rename(f / f".{c}") for c in ("cat", "dog")], "holds no folders"),
        (lambda f: (f / "dog" / "x.png").symlink_to(f / "none"), r"cannot be read.*x\.png"),
        (
            lambda f: Image.new("I;16", (5, 5)).save(f / "cat" / "00.png"),
            r"1 of 30.*cat.00\.png \(values of mode I;16.*8 bits",
        ),
    ],
)
def test_a_folder_that_is_not_fit_is_refused_by_name(folder, change, message):
    images(folder)
    change(folder)
    with pytest.raises(DataError, match=message):
        load(str(folder), image_size=4)
    assert not list(folder.parent.rglob("*.safetensors")), "nothing was kept"


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_a_file_with_the_wrong_checksum_is_named_and_not_opened(
    tmp_path, monkeypatch, no_download, name
):
    contents = idx_files() if name.endswith("mnist") else cifar_files(name)
    folder = publish(monkeypatch, tmp_path, name, contents)
    for file, md5 in data.PUBLISHED[name].md5.items():
        (folder / file).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
        with pytest.raises(DataError, match=rf"damaged file .*{file}.*{md5}.*delete it and retry"):
            load(name, root=tmp_path)
        (folder / file).write_bytes(contents[file])
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
    ],
)
def test_offline_the_missing_file_and_the_remedy_are_named(tmp_path, no_download, name, file):
    with pytest.raises(DataError) as caught:
        load(name, root=tmp_path)
    for part in (str(tmp_path / file), f"bsg data {name}", "BSG_DATA"):
        assert part in str(caught.value)
    assert "name resolution failed" in str(caught.value)
