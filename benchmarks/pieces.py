"""Data sets in pieces that are small enough to be sent, and put together again.

    python -m benchmarks.pieces pack --row 5 --out FOLDER
    python -m benchmarks.pieces pack cifar10 mnist --out FOLDER
    python -m benchmarks.pieces join FOLDER

A row is one of params/queue.yaml, of the profile gpu unless --profile says another. A data set is
its files below BSG_DATA, as `bsglib.data` reads them, in one compressed archive that is cut;
NAME.json holds the checksum of each piece. Pieces may be sent one by one: they are joined, into
BSG_DATA, once all of them lie in FOLDER.
"""

import argparse
import hashlib
import io
import json
import lzma
import tarfile
from pathlib import Path

from bsglib import cli
from bsglib.data import data_folder
from bsglib.data.folders import FOLDERS
from bsglib.data.published import PUBLISHED
from bsglib.data.speech import RECORDINGS
from bsglib.runs.params import ParameterError
from bsglib.runs.queue import Queue
from bsglib.studies import profiles

PIECE = 28_000_000  # bytes
# Neighbouring bytes are alike in images stored plane by plane: CIFAR-10 is 7 % smaller so.
FILTERS = [{"id": lzma.FILTER_DELTA, "dist": 1}, {"id": lzma.FILTER_LZMA2, "preset": 6}]


class PieceError(ValueError):
    """A piece is missing or damaged, or a data set has none."""


class Cut(io.RawIOBase):
    """A file to write to that lies in pieces; `digests` are those of the pieces, by name."""

    def __init__(self, folder: Path, name: str, size: int):
        self.folder, self.name, self.size = folder, name, size
        self.digests: dict[str, str] = {}
        self.waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content) -> int:
        self.waiting += content
        while len(self.waiting) >= self.size:
            self._end_piece()
        return len(content)

    def close(self) -> None:
        if self.waiting:
            self._end_piece()
        super().close()

    def _end_piece(self) -> None:
        content, file = self.waiting[: self.size], f"{self.name}.{len(self.digests):02}"
        del self.waiting[: self.size]
        (self.folder / file).write_bytes(content)
        self.digests[file] = hashlib.sha256(content).hexdigest()


def paths(name: str) -> list[str]:
    """Return the files and folders of a data set, below the data folder.

    Raises:
        PieceError: if it is none of those that lie there.
    """
    if name in PUBLISHED:
        return [f"{PUBLISHED[name].folder}/{file}" for file in PUBLISHED[name].md5]
    if name == "spoken_digits":
        return [RECORDINGS]
    if name in FOLDERS:
        return [name]
    known = ", ".join([*PUBLISHED, "spoken_digits", *FOLDERS])
    raise PieceError(f"{name!r} is not one of the data sets below BSG_DATA: {known}")


def pack(name: str, folder: Path, size: int = PIECE) -> list[str]:
    """Write a data set's pieces and their list into a folder, and return their names."""
    folder.mkdir(parents=True, exist_ok=True)

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with Cut(folder, name, size) as cut:
        with (
            lzma.open(cut, "wb", filters=FILTERS) as compressed,
            tarfile.open(fileobj=compressed, mode="w|") as archive,
        ):
            for path in paths(name):
                archive.add(data_folder() / path, arcname=path, filter=anonymous)
    text = json.dumps({"pieces": cut.digests}, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return list(cut.digests)


def join(folder: Path) -> list[str]:
    """Put all data sets of a folder of pieces into the data folder, and return their names.

    Raises:
        PieceError: if there is none, or naming the pieces that are missing or damaged.
    """
    lists, wrong = sorted(folder.glob("*.json")), []
    pieces = {f.stem: json.loads(f.read_text(encoding="utf-8"))["pieces"] for f in lists}
    if not pieces:
        raise PieceError(f"no list of pieces, NAME.json, in {folder}")
    for file, digest in (item for of_one in pieces.values() for item in of_one.items()):
        path = folder / file
        if not path.is_file():
            wrong.append(f"{file} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            wrong.append(f"{file} is damaged")
    if wrong:
        raise PieceError(f"{folder}: {', '.join(wrong)}")
    for files in pieces.values():
        content = io.BytesIO(b"".join((folder / file).read_bytes() for file in files))
        with tarfile.open(fileobj=content, mode="r:xz") as archive:
            archive.extractall(data_folder(), filter="data")
    return list(pieces)


def needed(profile: str, number: int) -> list[str]:
    """Return the data sets of a row of a profile's queue."""
    row = Queue.of(Path(profile).stem).row(number)
    study = cli.STUDIES[row.study]
    entries = study.design(profiles.load(study, profile))
    return sorted({e.config.dataset for e in entries if row.holds(row.study, e)})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="cut data sets")
    packing.add_argument("names", nargs="*", help="of data sets")
    packing.add_argument("--row", type=int, help="of the profile's queue: those it needs")
    packing.add_argument("--profile", default="gpu")
    packing.add_argument("--out", type=Path, required=True)
    packing.add_argument("--bytes", type=int, default=PIECE, help="of a piece, at most")
    joining = commands.add_parser("join", help="put them together below BSG_DATA")
    joining.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "pack" and bool(given.names) == (given.row is not None):
        parser.error("name data sets or a row of the queue, not both")
    try:
        if given.command == "join":
            print(", ".join(join(given.folder)))
            return
        for name in given.names or needed(given.profile, given.row):
            print(", ".join(pack(name, given.out, given.bytes)), flush=True)
    except (PieceError, ParameterError, OSError) as error:
        raise SystemExit(f"pieces: {error}") from None


if __name__ == "__main__":
    main()
