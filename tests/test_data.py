"""Tests of bsglib.data."""

import dataclasses
import hashlib
import logging
import pickle
import struct
import wave
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torchvision

from bsglib import data
from bsglib.data import DataError, checksum, data_folder, load

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
    monkeypatch.setattr(data, "SPEAKERS", ("ann",))
    monkeypatch.setattr(data, "RECORDINGS_SHA256", total.hexdigest())
    return folder


def read_again(name, root, **options):
    """Load as another process would."""
    data._read.cache_clear()
    return load(name, root=root, **options)


@pytest.fixture
def no_download(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("name resolution failed")

    for published in data.PUBLISHED.values():
        monkeypatch.setattr(torchvision.datasets, published.torchvision, refuse)


# Splits


@pytest.mark.parametrize("seed", [0, 1])
def test_the_three_parts_are_disjoint_and_hold_every_example(tmp_path, seed):
    dataset = load(save(tmp_path / "a.npz"), validation_fraction=0.25, split_seed=seed)
    parts = [members(s) for s in (dataset.train, dataset.validation, dataset.test)]
    assert [len(p) for p in parts] == [36, 12, 12]
    assert set.union(*parts) == set(range(N))


def test_the_same_seed_gives_the_same_split_and_another_does_not(tmp_path):
    path = save(tmp_path / "a.npz")
    one, same, other = (load(path, split_seed=s) for s in (1, 1, 2))
    assert torch.equal(one.train.x, same.train.x)
    assert members(one.validation) != members(other.validation)
    assert members(one.test) == members(other.test)


def test_labels_go_with_their_examples(tmp_path):
    dataset = load(save(tmp_path / "a.npz"), split_seed=3)
    for split in (dataset.train, dataset.validation, dataset.test):
        assert torch.equal(split.x[:, 0].long() % 3, split.y)
        assert split.y.dtype == torch.int64


def test_a_smaller_training_part_is_the_beginning_of_the_larger(tmp_path):
    path = save(tmp_path / "a.npz")
    whole, part = load(path), load(path, train_size=10)
    assert torch.equal(part.train.x, whole.train.x[:10])
    assert torch.equal(part.validation.x, whole.validation.x)
    assert torch.equal(part.test.x, whole.test.x)


def test_no_validation_part_leaves_all_for_training(tmp_path):
    dataset = load(save(tmp_path / "a.npz"), validation_fraction=0.0)
    assert (len(dataset.train), len(dataset.validation)) == (48, 0)


def test_changing_one_data_set_does_not_change_the_next(tmp_path):
    path = save(tmp_path / "a.npz")
    load(path).train.x.zero_()
    assert load(path).train.x.abs().sum() > 0


# Standardised inputs


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


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_standardising_leaves_what_is_stored(tmp_path, dtype):
    path = save(tmp_path / "a.npz", x=np.arange(2 * N).reshape(N, 2).astype(dtype))
    dataset, plain = load(path, standardise=True), load(path)
    for to in (torch.float32, torch.float64):  # also the dtype it is stored in
        dataset.as_input(dataset.train.x, to)
    assert torch.equal(dataset.train.x, plain.train.x)
    assert dataset.checksum == plain.checksum


def test_only_the_training_examples_decide_the_statistics(tmp_path):
    path = save(
        tmp_path / "a.npz", x_test=np.full((9, 2), 1e6, np.float32), y_test=np.arange(9) % 3
    )
    dataset = load(path, train_size=20, standardise=True)
    mean, std = dataset.train.x[:, 0].double().mean(), dataset.train.x[:, 0].std(correction=0)
    for split in (dataset.train, dataset.validation, dataset.test):
        expected = (split.x[:, 0].double() - mean) / std
        found = dataset.as_input(split.x, torch.float64)[:, 0]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_constant_channel_becomes_zero(tmp_path):
    dataset = load(save(tmp_path / "a.npz"), standardise=True)  # its second feature is 1
    assert (dataset.as_input(dataset.train.x, torch.float32)[:, 1] == 0).all()


def test_many_examples_are_standardised_as_few(tmp_path):
    x = np.random.default_rng(0).normal(5, 3, (10_000, 2))
    path = save(tmp_path / "a.npz", n=10_000, x=x)
    dataset = load(path, validation_fraction=0.0, standardise=True)
    mean, std = dataset.statistics
    torch.testing.assert_close(mean, dataset.train.x.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(std, dataset.train.x.std(0, correction=0), rtol=1e-12, atol=0)


# The data sets


def test_digits_come_with_the_installation():
    dataset = load("digits")
    assert dataset.input_shape == (1, 8, 8)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 1797
    assert (len(dataset.classes), dataset.train.x.dtype) == (10, torch.uint8)
    inputs = dataset.as_input(dataset.train.x, torch.float64)
    assert (inputs.min(), inputs.max(), inputs.dtype) == (0, 1, torch.float64)
    assert dataset.train.x.max() == 16  # the stored values are left alone


def test_a_users_arrays_are_read_with_their_own_test_part(tmp_path):
    x = np.full((5, 2), 7, dtype=np.float32)
    path = save(tmp_path / "a.npz", x_test=x, y_test=np.full(5, 4))
    dataset = load(path, validation_fraction=0.0)
    assert (len(dataset.train), len(dataset.test)) == (N, 5)
    assert (dataset.test.x == 7).all()
    assert dataset.classes == ("0", "1", "2", "3", "4")
    assert (
        dataset.checksum
        == "sha256:" + hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    )


def test_a_users_bytes_are_scaled_to_one_and_floats_are_left(tmp_path):
    pixels = np.full((N, 1, 2, 2), 255, dtype=np.uint8)
    for x, largest in ((pixels, 1.0), (pixels.astype(np.float32), 255.0)):
        dataset = load(save(tmp_path / f"{largest}.npz", x=x))
        assert dataset.as_input(dataset.train.x, torch.float32).max() == largest


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_idx_files_are_read(tmp_path, monkeypatch, no_download, name):
    contents = idx_files()
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
    assert (dataset.train.x.dtype, dataset.classes) == (
        torch.uint8,
        ("class 0", "class 1", "class 2"),
    )
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


def test_the_strongest_band_of_a_tone_is_the_one_of_its_frequency():
    for hertz in (250, 1000, 3000):
        samples = 5000 * np.sin(2 * np.pi * hertz * np.arange(800) / 8000)
        bands = data._log_mel(samples)
        assert bands.shape == (8, 40)  # one frame in 200 samples, another every 80
        mel = 2595 * np.log10(1 + hertz / 700)
        position = mel / (2595 * np.log10(1 + 4000 / 700)) * 41 - 1  # of the triangles' tops
        assert (np.abs(bands.argmax(1) - position) < 1).all()


def test_silence_has_no_energy_and_every_band_hears_something():
    assert (data._log_mel(np.zeros(400)) == 0).all()
    assert (data._mel_filters().sum(1) > 0.5).all()


def test_the_frames_at_the_ends_repeat_themselves_as_neighbours():
    frames = np.arange(12.0).reshape(6, 2)
    found = data._with_context(frames).reshape(6, 2, 9)
    for i in range(6):
        neighbours = [min(max(i + k, 0), 5) for k in range(-4, 5)]
        assert np.array_equal(found[i], frames[neighbours].T)


def test_even_or_odd_are_digits_in_two_classes():
    dataset, digits = load("even_or_odd", split_seed=4), load("digits", split_seed=4)
    assert dataset.classes == ("even", "odd")
    for part in ("train", "validation", "test"):
        found, whole = getattr(dataset, part), getattr(digits, part)
        assert torch.equal(found.x, whole.x) and torch.equal(found.y, whole.y % 2)
    assert dataset.checksum == checksum("even_or_odd") != digits.checksum
    inputs = dataset.as_input(dataset.train.x, torch.float64)
    assert (inputs.min(), inputs.max()) == (0, 1)


# Converted once


def test_what_was_converted_is_used_again(tmp_path, monkeypatch, no_download):
    folder = publish(monkeypatch, tmp_path, "cifar10", cifar_files("cifar10"))
    first = load("cifar10", root=tmp_path)
    for path in folder.iterdir():
        path.unlink()
    again = read_again("cifar10", tmp_path)
    assert torch.equal(first.train.x, again.train.x)
    assert (first.classes, first.checksum) == (again.classes, again.checksum)


def flip(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage", [flip, lambda c: c[:-100], lambda c: b"", lambda c: b"\xff" * 99]
)
def test_a_damaged_conversion_is_noticed_and_made_again(
    tmp_path, monkeypatch, no_download, caplog, damage
):
    publish(monkeypatch, tmp_path, "cifar100", cifar_files("cifar100"))
    first = load("cifar100", root=tmp_path)
    path = tmp_path / "converted" / "cifar100.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        again = read_again("cifar100", tmp_path)
    assert f"damaged file {path}" in caplog.text
    assert torch.equal(first.train.x, again.train.x)
    caplog.clear()
    read_again("cifar100", tmp_path)
    assert caplog.text == ""


def test_a_conversion_of_another_source_is_made_again(tmp_path, monkeypatch, caplog):
    recordings(monkeypatch, tmp_path)
    load("spoken_digits", root=tmp_path)
    monkeypatch.setattr(data, "FRAMES_VERSION", 99)
    dataset = read_again("spoken_digits", tmp_path)
    assert dataset.checksum.endswith("frames 99")
    assert "expected sha256" in caplog.text


def test_processes_that_start_together_convert_once(tmp_path, monkeypatch, no_download):
    publish(monkeypatch, tmp_path, "cifar10", cifar_files("cifar10"))
    opened = []
    verified = data._Published.verified
    monkeypatch.setattr(
        data._Published, "verified", lambda *args: opened.append(1) or verified(*args)
    )
    with ThreadPoolExecutor(4) as pool:
        sources = list(
            pool.map(lambda _: data._read.__wrapped__("cifar10", tmp_path, None), "abcd")
        )
    assert len(opened) == 1
    assert all(np.array_equal(s.x, sources[0].x) for s in sources)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, no_download):
    publish(monkeypatch, tmp_path, "cifar10", cifar_files("cifar10"))
    (tmp_path / "converted").write_text("a file in the way")
    with pytest.raises(DataError, match=r"converted.cifar10.safetensors cannot be made"):
        load("cifar10", root=tmp_path)


def test_the_checksum_changes_with_the_data(tmp_path):
    one = load(save(tmp_path / "a.npz")).checksum
    other = load(save(tmp_path / "b.npz", y=np.arange(N) % 2)).checksum
    assert one != other
    assert checksum("digits") == load("digits").checksum


def test_the_checksum_of_fixed_files_needs_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("BSG_DATA", str(tmp_path / "none"))
    names = set(data.SOURCES) - {"digits", "even_or_odd"}
    assert len({checksum(name) for name in names}) == len(names) == 5
    # part of the identity of stored runs
    assert checksum("fashion_mnist") == "md5:4472cc9bf98ecb6e389ca9544c9d9233"


def test_the_folder_is_that_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("BSG_DATA", str(tmp_path / "here"))
    assert data_folder() == (tmp_path / "here").resolve()
    monkeypatch.delenv("BSG_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder() == (tmp_path / "cache" / "bsglib").resolve()


# What bad input gets


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(DataError, match="'fashion_mnits'.*did you mean 'fashion_mnist'.*digits"):
        load("fashion_mnits")


def test_more_training_examples_than_there_are_is_refused():
    with pytest.raises(DataError, match="train_size = 1295: digits has 1294"):
        load("digits", train_size=1295)
    assert len(load("digits", train_size=1294).train) == 1294


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, r"holds \['y'\]; needed are x"),
        ({"y": None}, r"holds \['x'\]; needed are x"),
        ({"y": np.ones(N, int)}, "all labels are 1"),
        ({"y": np.arange(N) - 1}, "labels int64, lowest -1"),
        ({"y": np.arange(N) / 2}, "labels float64"),
        ({"y": np.zeros((N, 3), int)}, "needed x"),
        ({"x": np.full((N, 2), np.nan)}, "values of x are NaN"),
        ({"x": np.r_[np.ones((N - 1, 2)), [[1, np.inf]]]}, "1 values of x are NaN or inf"),
        ({"x": np.ones((0, 2)), "y": np.zeros(0, int)}, "N > 0"),
        ({"x": np.ones(N)}, "needed x"),
        ({"x_test": np.full((2, 2), np.nan), "y_test": np.zeros(2, int)}, "NaN"),
        ({"x_test": np.ones((2, 2))}, "both or none of x_test and y_test"),
        ({"x": np.array([[{}]] * N)}, "damaged.*pickle"),
    ],
)
def test_arrays_that_are_not_fit_are_refused_naming_the_file(tmp_path, changes, message):
    path = save(tmp_path / "bad.npz", **changes)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"y": np.arange(N // 2) % 3}, id="too few labels: the rest of x is dropped"),
        pytest.param({"y": np.arange(2 * N) % 3}, id="too many labels"),
        pytest.param({"y": np.array(3)}, id="a single number"),
        pytest.param({"x": np.array([["a", "b"]] * N)}, id="text"),
        pytest.param(
            {"x_test": np.ones((2, 5)), "y_test": np.zeros(2, int)}, id="test part of another shape"
        ),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, changes):
    with pytest.raises(DataError, match=r"bad\.npz"):
        load(save(tmp_path / "bad.npz", **changes))


def test_a_file_that_changed_is_read_again(tmp_path):
    before = load(save(tmp_path / "a.npz")).checksum
    assert load(save(tmp_path / "a.npz", y=np.arange(N) % 2)).checksum != before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"missing data file .*none\.npz"):
        load(str(tmp_path / "none.npz"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x04K\x01."])
def test_a_file_that_is_no_npz_is_refused_by_name(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged data file .*bad\.npz"):
        load(str(tmp_path / "bad.npz"))


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_npz_is_refused_by_name(tmp_path, keep):
    content = (path := tmp_path / "bad.npz", save(path), path.read_bytes())[2]
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=r"damaged data file .*bad\.npz"):
        load(str(path))


def test_a_flipped_byte_in_an_npz_is_noticed(tmp_path):
    path = tmp_path / "bad.npz"
    content = bytearray((save(path), path.read_bytes())[1])
    content[len(content) // 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged data file .*bad\.npz"):
        load(str(path))


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "cifar10", "cifar100"])
def test_a_file_with_the_wrong_checksum_is_named(tmp_path, monkeypatch, no_download, name):
    idx = name.endswith("mnist")
    contents = idx_files() if idx else cifar_files(name)
    folder = publish(monkeypatch, tmp_path, name, contents)
    for file, md5 in data.PUBLISHED[name].md5.items():
        (folder / file).write_bytes(contents[file][:-1] + b"\x00\x01")
        with pytest.raises(DataError, match=rf"damaged file .*{file}.*{md5}"):
            load(name, root=tmp_path)
        (folder / file).write_bytes(contents[file])


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_with_the_wrong_checksum_is_not_opened(tmp_path, monkeypatch, no_download):
    folder = publish(monkeypatch, tmp_path, "cifar10", cifar_files("cifar10"))
    (folder / "batches.meta").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(DataError, match=r"damaged file .*batches\.meta"):
        load("cifar10", root=tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar100", "cifar-100-python/train"),
    ],
)
def test_offline_the_missing_file_and_the_remedy_are_named(tmp_path, no_download, name, file):
    with pytest.raises(DataError) as caught:
        load(name, root=tmp_path)
    for part in (str(tmp_path / file), f"bsg data {name}", "BSG_DATA"):
        assert part in str(caught.value)
    assert "name resolution failed" in str(caught.value)


def test_missing_recordings_and_where_they_are_to_be_had_are_named(tmp_path, monkeypatch):
    folder = recordings(monkeypatch, tmp_path)
    for name in ("3_ann_7.wav", "3_ann_8.wav"):
        (folder / name).unlink()
    with pytest.raises(DataError) as caught:
        load("spoken_digits", root=tmp_path)
    for part in (str(folder / "3_ann_7.wav"), "2 of 500", "free-spoken-digit-dataset", "BSG_DATA"):
        assert part in str(caught.value)


def test_damaged_recordings_are_noticed(tmp_path, monkeypatch):
    folder = recordings(monkeypatch, tmp_path)
    path = folder / "0_ann_0.wav"
    path.write_bytes(flip(path.read_bytes()))
    with pytest.raises(DataError, match=f"damaged or other recordings in {folder}.*expected"):
        load("spoken_digits", root=tmp_path)
