"""Reads CSV files as rows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from serving.csv_lines import line_places, read_header, read_rows
from serving.errors import InputError
from serving.manifest import Manifest
from serving.named_columns import needed_columns, read_cells
from serving.row_format import require_names

from .image_tables import HEAD_ROWS, ImageColumn, find_column, trained_column
from .rows import Rows, row_ids, rows_at_once, rows_of, set_aside, with_rest

# A cell of text takes as much memory as this many numbers.
_NUMBERS_IN_A_CELL = 8

Line = tuple[int, list[str]]


def read_csv_table(path: str, manifest: Manifest, key: str | None) -> Iterator[Rows]:
    """Yield the rows of a CSV file, whose columns may be in any order and among others.

    Args:
        path: path of the file; up to 4,096 lines at a time are in memory.
        manifest: manifest of the model, which names the columns.
        key: column to copy into each line, as text; None copies none.

    Raises:
        InputError: the file cannot be read, columns are missing, or a line has more or fewer cells
            than the header; the rows before that line have been yielded.
    """
    header = read_header(Path(path))
    require_names(needed_columns(manifest), header, path)
    for start, numbers, cells in _pieces(path, header, key, _lines_at_once(header)):
        found = read_cells(manifest, cells, line_places(path, numbers))
        ids = row_ids(path, range(start, start + len(numbers)))
        yield _with_keys(Rows(ids, found.inputs), found.problems, cells, key)


def read_csv_images(
    path: str, manifest: Manifest, key: str | None, threads: int, image_column: str | None = None
) -> Iterator[Rows]:
    """Yield the images that a column of a CSV file names, see `read_csv_table`.

    Args:
        path: path of the file.
        manifest: manifest of the model.
        key: column to copy into each line; None copies none.
        threads: how many threads decode.
        image_column: the column; None takes that of the training, or the only one of names.

    Raises:
        InputError: as there, or no single column names images.
    """
    header = read_header(Path(path))
    _require_column(path, header, image_column)
    name = image_column or trained_column(manifest, header)
    name = name or find_column(path, _read_head(path, header))
    column = ImageColumn(path, name, manifest, threads)
    for start, numbers, cells in _pieces(path, header, key, rows_at_once(manifest)):
        found = column.read(start, cells[name], line_places(path, numbers))
        yield _with_keys(found.rows, found.problems, cells, key)


def _read_head(path: str, header: Sequence[str]) -> dict[str, Sequence[str]]:
    lines = next(_grouped(path, read_rows(Path(path), len(header)), HEAD_ROWS), [])
    return _by_column(header, lines)[1]


def _pieces(
    path: str, header: Sequence[str], key: str | None, size: int
) -> Iterator[tuple[int, Sequence[int], dict[str, Sequence[str]]]]:
    """Yield the number of the first of some rows, those of their lines, and cells by column."""
    _require_column(path, header, key)
    start = 0
    for lines in _grouped(path, read_rows(Path(path), len(header)), size):
        yield start, *_by_column(header, lines)
        start += len(lines)


def _require_column(path: str, header: Sequence[str], name: str | None) -> None:
    if name is not None and name not in header:
        raise InputError(f"{path} must have one column {name!r}. Received: no such column.")


def _by_column(
    header: Sequence[str], lines: Sequence[Line]
) -> tuple[Sequence[int], dict[str, Sequence[str]]]:
    columns = zip(*(cells for _, cells in lines), strict=True) if lines else [()] * len(header)
    return [number for number, _ in lines], dict(zip(header, columns, strict=True))


def _lines_at_once(header: Sequence[str]) -> int:
    return rows_of(_NUMBERS_IN_A_CELL * len(header))


def _grouped(path: str, lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    """Yield lists of `size` lines; before an error, those that could be read."""
    group: list[Line] = []
    rows = 0
    try:
        for line in lines:
            group.append(line)
            rows += 1
            if len(group) == size:
                yield group
                group = []
    except InputError as error:
        if group:
            yield group
        raise with_rest(error, path, rows) from None
    if group:
        yield group


def _with_keys(
    rows: Rows, problems: dict[int, str], cells: Mapping[str, Sequence[str]], key: str | None
) -> Rows:
    """Return rows with their keys, those with problems or without a key set aside."""
    if key is None:
        return set_aside(rows, problems)
    keys = map(json.dumps, cells[key])
    ids = [f'{one}, "key": {text}' for one, text in zip(rows.ids, keys, strict=True)]
    missing = f"A key must not be missing. Received: an empty cell in column {key!r}."
    without = {index: missing for index, text in enumerate(cells[key]) if not text}
    return set_aside(Rows(ids, rows.inputs), problems | without)
