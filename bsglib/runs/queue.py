"""The order in which a profile's runs are computed, over all studies."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from bsglib.project import ROOT
from bsglib.runs.params import (
    ParameterError,
    Parameters,
    Positive,
    PositiveFloat,
    RunConfig,
    parse,
    read,
)
from bsglib.runs.sweep import Entry

FILE = ROOT / "params" / "queue.yaml"


class Row(Parameters):
    """One part of a study, or some of its seeds and runs."""

    study: str
    part: Positive
    seeds: list[int] | None = Field(default=None, min_length=1)  # None: all
    only: dict[Literal[tuple(RunConfig.model_fields)], list[Any]] = {}  # values of a run's fields
    minutes: PositiveFloat | None = None  # on a GPU, as counted before it ran

    def holds(self, study: str, entry: Entry) -> bool:
        """Return whether an entry of a study belongs here."""
        config, seeds = entry.config, self.seeds
        return (
            (study, entry.part) == (self.study, self.part)
            and (seeds is None or config.seed in seeds)
            and all(getattr(config, name) in values for name, values in self.only.items())
        )


@dataclass(frozen=True)
class Queue:
    """The rows of one profile, in their order; what no row holds comes last."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, profile: str) -> "Queue":
        """Return a profile's queue, an empty one if it has none."""
        return cls(tuple(parse(row, Row) for row in _rows().get(profile, ())))

    def place(self, study: str, entry: Entry) -> tuple[int, int]:
        """Return where an entry of a study stands: its row, and within it its seed."""
        holds = (i for i, row in enumerate(self.rows) if row.holds(study, entry))
        return next(holds, len(self.rows)), entry.config.seed

    def row(self, number: int) -> Row:
        """Return a row, counted from 1.

        Raises:
            ParameterError: if there is none.
        """
        if not 1 <= number <= len(self.rows):
            raise ParameterError(f"row {number}: allowed are 1 to {len(self.rows)}")
        return self.rows[number - 1]

    @property
    def for_gpu(self) -> bool:
        """Return whether its rows are counted in minutes of a GPU."""
        return any(row.minutes is not None for row in self.rows)


def profiles() -> list[str]:
    """Return the profiles that have a queue."""
    return list(_rows())


def _rows() -> dict[str, list]:
    """The rows by profile; outside a clone there are none."""
    return read(FILE) if FILE.is_file() else {}
