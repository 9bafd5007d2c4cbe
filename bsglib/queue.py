"""The order in which a profile's runs are computed, over all studies."""

from dataclasses import dataclass

from pydantic import Field

from bsglib.params import ROOT, Parameters, Positive, parse, read
from bsglib.sweep import Entry

FILE = ROOT / "params" / "queue.yaml"


class Row(Parameters):
    """One part of a study, or some seeds of it."""

    study: str
    part: Positive
    seeds: list[int] | None = Field(default=None, min_length=1)  # None: all

    def holds(self, study: str, entry: Entry) -> bool:
        """Return whether an entry of a study belongs here."""
        seeds = self.seeds
        return (study, entry.part) == (self.study, self.part) and (
            seeds is None or entry.config.seed in seeds
        )


@dataclass(frozen=True)
class Queue:
    """The rows of one profile, in their order; what no row holds comes last."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, profile: str) -> "Queue":
        """Return a profile's queue, an empty one if it has none."""
        return cls(tuple(parse(row, Row) for row in read(FILE).get(profile, ())))

    def place(self, study: str, entry: Entry) -> tuple[int, int]:
        """Return where an entry of a study stands: its row, and within it its seed."""
        holds = (i for i, row in enumerate(self.rows) if row.holds(study, entry))
        return next(holds, len(self.rows)), entry.config.seed


def profiles() -> list[str]:
    """Return the profiles that have a queue."""
    return list(read(FILE))
