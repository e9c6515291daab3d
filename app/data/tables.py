"""Tables that are read a few thousand rows at a time: CSV and parquet files."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.errors import DataError
from serving.csv_lines import find_separator, read_columns, read_header
from serving.errors import InputError

CSV, PARQUET = ".csv", ".parquet"
SUFFIXES = (CSV, PARQUET)


class Batch(NamedTuple):
    """Some rows of a table.

    Attributes:
        numbers: the number of each row.
        cells: their cells, as a CSV file has them, by the name of the column.
    """

    numbers: list[int]
    cells: dict[str, list[str]]


@dataclass(frozen=True)
class Table:
    """A table in a file.

    Attributes:
        source: path of the file.
        names: names of its columns.
        read: reads it from the beginning, some rows at a time.
        unit: what the numbers of rows count: `line` or `row`.
        separator: what separates the cells; empty for parquet.
    """

    source: str
    names: tuple[str, ...]
    read: Callable[[], Iterator[Batch]]
    unit: str = "line"
    separator: str = ""

    def place(self, number: int) -> str:
        """Return where a row is, such as `line 7 of flowers.csv`."""
        return f"{self.unit} {number} of {self.source}"


def open_table(path: Path) -> Table:
    """Return the table in a .csv or .parquet file. Its rows are read later.

    Raises:
        DataError: the file cannot be read, or does not name each column once.
        ModuleNotFoundError: the file is parquet, and pyarrow is not installed.
    """
    if path.suffix.lower() == PARQUET:
        if importlib.util.find_spec("pyarrow") is None:
            raise ModuleNotFoundError("Parquet files need pyarrow.", name="pyarrow")
        from .parquet_files import open_parquet

        return open_parquet(path)
    try:
        names = tuple(read_header(path))
    except InputError as error:
        raise DataError(str(error)) from None
    return Table(str(path), names, lambda: _read_csv(path), separator=find_separator(path))


def _read_csv(path: Path) -> Iterator[Batch]:
    try:
        for numbers, cells in read_columns(path):
            yield Batch(numbers, cells)
    except InputError as error:
        raise DataError(str(error)) from None
