"""Tables that are read a few thousand rows at a time: CSV and parquet files."""

import importlib.util
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from app.system.hidden_files import is_hidden
from models.checks import suggest
from serving.csv_lines import find_separator, read_columns, read_header
from serving.errors import InputError

from .split_names import split_of

PARQUET = ".parquet"
SUFFIXES = (".csv", ".tsv", PARQUET)


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
        without_cells: the types of columns that cannot be read, such as lists, by name.
        images: reads the images that a column holds itself, by name: the bytes of each row, or the
            path in their place; None for a missing image.
        class_names: names of the classes 0, 1 and so on, by the column of their numbers.
        sizes: number of rows in training, validation and test; empty if the source has no splits.
        starts: number of the first row and path of each file of a folder, in their order; empty
            for a file.
    """

    source: str
    names: tuple[str, ...]
    read: Callable[[], Iterator[Batch]]
    unit: str = "line"
    separator: str = ""
    without_cells: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, Callable[[], Iterator[bytes | str | None]]] = field(default_factory=dict)
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sizes: tuple[int, int, int] | tuple[()] = ()
    starts: Sequence[tuple[int, str]] = ()

    def file_of(self, number: int) -> tuple[str, int]:
        """Return the path of the file that a row is in, and its number there."""
        if not self.starts:
            return self.source, number
        start, path = self.starts[bisect_right(self.starts, number, key=itemgetter(0)) - 1]
        return path, number - start

    def place(self, number: int) -> str:
        """Return where a row is, such as `line 7 of flowers.csv`."""
        path, own = self.file_of(number)
        return f"{self.unit} {own} of {path}"

    def require_cells(self, names: Iterable[str], or_else: str = "") -> None:
        """Raise `DataError` unless these columns can be read; `or_else` adds a way out."""
        for name in names:
            if name in self.without_cells:
                raise DataError(
                    f"Each column of {self.source} must hold numbers, texts, truth values or "
                    f"dates. Received: {name!r}, which holds {self.without_cells[name]}. "
                    f"Convert the column{or_else}."
                )


def holds_table(source: str) -> bool:
    """Return whether a source is a file of rows by its suffix, or a folder of parquet files."""
    return Path(source).suffix.lower() in SUFFIXES or bool(list_shards(Path(source)))


def list_shards(folder: Path) -> list[Path]:
    """Return the parquet files of a folder, sorted by path; none of a folder of other kind.

    It has no subfolders, or nothing but subfolders for the splits, which hold the files.
    """
    inside = _visible(folder)
    if found := [path for path in inside if _is_parquet(path)]:
        return [] if any(path.is_dir() for path in inside) else found
    if not all(split_of(path.name) and path.is_dir() for path in inside):
        return []
    files = [path for subfolder in inside for path in _visible(subfolder)]
    return files if all(_is_parquet(path) and path.is_file() for path in files) else []


def suggest_shards(folder: Path) -> str:
    """Return `" Did you mean x/data?"` if a subfolder holds parquet files; else an empty string."""
    found = [path for path in _visible(folder) if path.is_dir() and list_shards(path)]
    return f" Did you mean {found[0]}?" if found else ""


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == PARQUET


def _visible(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted by name; nothing for one that cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError:
        return []


def open_table(path: Path) -> Table:
    """Return the table in a .csv or .parquet file, or in a folder of the latter; rows come later.

    Raises:
        DataError: the file cannot be read, or does not name each column once.
        ModuleNotFoundError: the file is parquet, and pyarrow is not installed.
    """
    shards = list_shards(path)
    if shards or path.suffix.lower() == PARQUET:
        if importlib.util.find_spec("pyarrow") is None:
            raise ModuleNotFoundError("Parquet files need pyarrow.", name="pyarrow")
        from .parquet_files import open_parquet, open_shards

        return open_shards(path, shards) if shards else open_parquet(path)
    try:
        names = tuple(read_header(path))
    except InputError as error:
        raise DataError(str(error)) from None
    return Table(str(path), names, lambda: _read_csv(path), separator=find_separator(path))


def check_columns(table: Table, reading: ReadingConfig) -> None:
    """Require that the columns that `reading` names are there, and one to predict.

    Raises:
        DataError: a column is missing, or named for two purposes.
    """
    names, source = table.names, table.source
    if not reading.target:
        raise DataError(
            "A table needs a column to predict: --target COLUMN. "
            f"{source} has the columns {', '.join(names)}."
        )
    named = (*reading.target, *reading.categorical, *reading.drop, *reading.keep)
    for name in (*named, *filter(None, [reading.image_column])):
        if name not in names:
            raise DataError(
                f"{source} must have the column {name!r}. "
                f"Received: {', '.join(map(repr, names))}.{suggest(name, names)}"
            )
    if reading.image_column in reading.target:
        raise DataError(
            f"A target cannot be the image column. Received: {reading.image_column!r} in both."
        )
    of_paths = [] if reading.image_column in table.images else [reading.image_column]
    table.require_cells([*reading.target, *filter(None, of_paths)])
    if set(names) <= {*reading.target, *reading.drop}:
        raise DataError(f"{source} must have columns besides the target. Received: none.")


def _read_csv(path: Path) -> Iterator[Batch]:
    try:
        for numbers, cells in read_columns(path):
            yield Batch(numbers, cells)
    except InputError as error:
        raise DataError(str(error)) from None
