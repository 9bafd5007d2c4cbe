"""The run store: folders, bytes and locks, independent of training.

Each run has a folder; `result.json` is written last. Every file is written to a temporary name,
synced and renamed, and its folder is synced. A kill or a power cut at any moment therefore leaves
either the old file or the new one, and a file reported as written stays. JSON files hold a checksum
of their content; `result.json` holds the checksums of the other files.
"""

import contextlib
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from bsglib.names import digest

log = logging.getLogger(__name__)

MISSHAPEN = IsADirectoryError, NotADirectoryError  # a folder where a file should be, or vice versa


class StoreError(RuntimeError):
    """The run store cannot be read or written, or a stored file is damaged."""


class DamagedError(StoreError):
    """A stored file differs from the written one."""


class Store:
    """Runs below one folder.

    Raises:
        StoreError: if the folder cannot be created.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        with _said(f"run store {self.root} cannot be created"):
            self.root.mkdir(parents=True, exist_ok=True)

    def folder(self, run_id: str) -> Path:
        """Return the folder of a run, which may not exist yet."""
        return self.root / run_id

    @contextlib.contextmanager
    def lock(self, run_id: str) -> Iterator[None]:
        """Lock a run for this process; others wait, and the kernel releases the lock if it dies.

        Raises:
            StoreError: if the store cannot be written.
        """
        path = self.root / ".locks" / run_id
        held = FileLock(path)
        with _said(f"run store {self.root} cannot be written: {path}"):
            path.parent.mkdir(exist_ok=True)
            held.acquire()
        try:
            yield
        finally:
            held.release()

    def write(self, run_id: str, name: str, content: bytes) -> None:
        """Write a file of a run atomically.

        Raises:
            StoreError: if the disk is full or the folder cannot be written.
        """
        path = self.folder(run_id) / name
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            _sync_names(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise StoreError(f"{path} cannot be written: {error.strerror}") from error

    def write_json(self, run_id: str, name: str, content: dict[str, Any]) -> None:
        """Write a dictionary with its checksum."""
        content = content | {"checksum": _checksum(content)}
        self.write(run_id, name, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())

    def read_json(self, run_id: str, name: str) -> dict[str, Any] | None:
        """Return a stored dictionary, None if there is none.

        Raises:
            DamagedError: if the file is damaged, or belongs to another run.
            StoreError: if it cannot be read.
        """  # noqa: DOC501 the ValueError becomes a DamagedError
        path = self.folder(run_id) / name
        try:
            content = json.loads(path.read_bytes())
            if content.pop("checksum") != _checksum(content):
                raise ValueError("its checksum is wrong")
            if content.get("run_id", run_id) != run_id:
                raise ValueError(f"it belongs to the run {content['run_id']}")
        except FileNotFoundError:
            return None
        except (*MISSHAPEN, ValueError, KeyError, AttributeError, TypeError) as error:
            raise DamagedError(f"damaged file {path}: {error}") from error
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        return content

    def finish(self, run_id: str, result: dict[str, Any], files: list[str]) -> None:
        """Declare a run complete: `result.json`, with the checksums of the named files."""
        sums = {name: _file_checksum(self.folder(run_id) / name) for name in files}
        self.write_json(run_id, "result.json", result | {"files": sums})

    def finished(self) -> list[str]:
        """Return the runs with a result."""
        return sorted(path.parent.name for path in self.root.glob("*/result.json"))

    def is_empty(self) -> bool:
        """Return whether the store has no run, finished or not."""
        with os.scandir(self.root) as entries:  # lazy: asked once per run of a study
            return all(entry.name.startswith(".") for entry in entries)

    def result(self, run_id: str, *, set_aside: bool = False) -> dict[str, Any] | None:
        """Return the result of a complete run with undamaged files, or None.

        With `set_aside`, only for the holder of the run's lock, a damaged run is moved away with a
        warning, so that it is computed again.

        Raises:
            StoreError: if a file cannot be read.
        """  # noqa: DOC501 the DamagedError is caught
        try:
            result = self.read_json(run_id, "result.json")
            for name, expected in (result or {}).get("files", {}).items():
                path = self.folder(run_id) / name
                if not path.is_file() or _file_checksum(path) != expected:
                    raise DamagedError(f"damaged file {path}")
            return result
        except DamagedError as error:
            if set_aside:
                self.set_aside(run_id, str(error))
            return None

    def set_aside(self, run_id: str, reason: str) -> None:
        """Move a damaged run to the folder `damaged`, with a warning that gives the reason.

        Raises:
            StoreError: if it cannot be moved.
        """
        target = self.root / "damaged" / f"{run_id}-{uuid.uuid4().hex[:8]}"
        with _said(f"{reason}; {self.folder(run_id)} cannot be moved"):
            target.parent.mkdir(exist_ok=True)
            os.replace(self.folder(run_id), target)
        log.warning("%s; the run is moved to %s and computed again", reason, target)

    def remove(self, run_id: str, name: str) -> None:
        """Remove a file of a run, if it exists.

        Raises:
            StoreError: if it cannot be removed.
        """
        path = self.folder(run_id) / name
        with _said(f"{path} cannot be removed"):
            path.unlink(missing_ok=True)

    def remove_leftovers(self, run_id: str) -> None:
        """Remove partial files of killed writers; only for the holder of the run's lock."""
        for part in self.folder(run_id).rglob(".*.part"):
            self.remove(run_id, str(part.relative_to(self.folder(run_id))))


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    """Turn an OSError into a StoreError that names the failed action and the reason."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}") from error


def _sync_names(folder: Path) -> None:
    """Sync the names in a folder against a power cut; Windows cannot do this."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _checksum(content: dict[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True), length=64)


def _file_checksum(path: Path) -> str:
    with _said(f"{path} cannot be read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
