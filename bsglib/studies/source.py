"""The sources' own numbers: tables from the public repositories behind them, and what they print.

Each study's folder `source/` holds them. A table's first lines say where its numbers come from,
which figures they are behind, how they were read and with what error.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bsglib.names import nearest

FOLDER = Path(__file__).parent


def read(study: str, table: str, **equal: Any) -> pd.DataFrame:
    """Return a table of a source's numbers; its `attrs` are what its first lines say.

    Args:
        study: "surlemont", "kaabachi", "chang" or "keskar".
        table: the name of a file in that study's folder `source/`, without its ending.
        **equal: values, or lists of values, that columns of the returned rows have.

    Raises:
        ValueError: if there is no such table or column.
    """
    file = FOLDER / study / "source" / f"{table}.csv"
    if not file.is_file():
        known = (f"{f.parts[-3]}/{f.stem}" for f in sorted(FOLDER.glob("*/source/*.csv")))
        raise ValueError(f"source table {f'{study}/{table}'!r}{nearest(f'{study}/{table}', known)}")
    rows = pd.read_csv(file, comment="#")
    for column, value in equal.items():
        if column not in rows:
            raise ValueError(f"source table {file.name}, column {column!r}{nearest(column, rows)}")
        rows = rows[rows[column].isin(value if isinstance(value, list) else [value])]
    head = [line[2:] for line in file.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    rows.attrs = dict(line.split(": ", 1) for line in head)
    return rows


def printed(
    column: str, stated: Mapping[int, float | tuple[float, float]], where: str
) -> pd.DataFrame:
    """Return numbers that a source prints, by batch size, as rows like those of `read`.

    Args:
        column: what they are called.
        stated: the numbers; the two ends of a range become two runs.
        where: the figure or table of the source.
    """
    rows = [
        {"batch_size": size, "run": run, column: value}
        for size, values in stated.items()
        for run, value in enumerate(values if isinstance(values, tuple) else (values,), start=1)
    ]
    table = pd.DataFrame(rows, columns=["batch_size", "run", column])
    table.attrs = {"read": "as printed", "source": where}
    return table
