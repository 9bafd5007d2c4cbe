"""Where the project lies: relative paths in parameters start there."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def resolve(path: str | Path) -> Path:
    """Return a path from a parameter as an absolute one; relative ones start at the project."""
    return (ROOT / Path(path).expanduser()).resolve()
