"""Read the weights of a TensorFlow checkpoint without TensorFlow.

A checkpoint is a table of its tensors (NAME.index, a LevelDB table of protocol buffers) and their
values (NAME.data-00000-of-00001), both written without compression.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = 0xDB4775248B80FB57  # of a LevelDB table, its last eight bytes
FOOTER = 48  # bytes
FLOAT32 = 1  # TensorFlow's number of the type
DATA = ".data-00000-of-00001"


class CheckpointError(ValueError):
    """A file is no checkpoint of TensorFlow, or not one that this reader knows."""


class Entry(NamedTuple):
    """Where a tensor's values are."""

    kind: int
    shape: tuple[int, ...]
    offset: int
    size: int  # bytes


def read(prefix: Path) -> dict[str, np.ndarray]:
    """Return the float32 tensors of a checkpoint by their names.

    Source: the formats in TensorFlow's tensor_bundle.proto and LevelDB's table_format.md.

    Args:
        prefix: path of the checkpoint without ".index".

    Raises:
        CheckpointError: if a file is missing, cut short, compressed or something else.
    """
    index, data = Path(f"{prefix}.index"), Path(f"{prefix}{DATA}")
    for file in (index, data):
        if not file.is_file():
            raise CheckpointError(f"missing file {file}")
    try:
        found = dict(_entries(index.read_bytes()))
        values = data.read_bytes()
        return {name: _tensor(values, entry) for name, entry in found.items()
                if entry.kind == FLOAT32}  # fmt: skip
    except (IndexError, ValueError) as error:
        raise CheckpointError(
            f"{prefix}: not a checkpoint of TensorFlow, or damaged ({error})"
        ) from error


def _tensor(values: bytes, entry: Entry) -> np.ndarray:
    part = values[entry.offset : entry.offset + entry.size]
    return np.frombuffer(part, "<f4").reshape(entry.shape)


def _entries(table: bytes) -> Iterator[tuple[str, Entry]]:
    """Yield the tensors of an index file: its footer names a block that names the others."""
    if int.from_bytes(table[-8:], "little") != MAGIC:
        raise ValueError("the index has no footer")
    numbers, place = [], len(table) - FOOTER
    for _ in range(4):  # offset and size of two blocks, the second of which lists the others
        number, place = _varint(table, place)
        numbers.append(number)
    for _, handle in _block(table, *numbers[2:]):
        offset, place = _varint(handle, 0)
        size, _ = _varint(handle, place)
        for name, message in _block(table, offset, size):
            if name:  # the first one is about the file
                yield name.decode(), _entry(message)


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a block; each key shares its beginning with the one before."""
    if table[offset + size] != 0:
        raise ValueError("the index is compressed")
    block = table[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end, place, key = len(block) - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = _varint(block, place)
        more, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + more]
        place += more
        yield key, block[place : place + length]
        place += length


def _entry(message: bytes) -> Entry:
    """Return an entry: type is field 1, shape 2, offset 4, size 5."""
    fields = dict(_fields(message))
    shape = tuple(dict(_fields(size)).get(1, 0) for _, size in _fields(fields.get(2, b"")))
    return Entry(fields.get(1, 0), shape, fields.get(4, 0), fields.get(5, 0))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protocol buffer."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire not in (2, 5):
            raise ValueError(f"an entry has a field of wire type {wire}")
        length, place = _varint(message, place) if wire == 2 else (4, place)
        yield number, message[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of seven bits per byte, lowest first, and the place behind it."""
    number = shift = 0
    while True:
        byte = data[place]
        number, shift, place = number | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return number, place
