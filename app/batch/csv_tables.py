"""Reads CSV files as rows."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.csv_lines import line_places, read_header, read_rows
from serving.errors import InputError
from serving.manifest import Manifest
from serving.named_columns import needed_columns, read_cells
from serving.row_format import require_names

from .rows import Rows, row_ids, rows_of, set_aside, with_rest

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
    if key is not None and key not in header:
        raise InputError(f"{path} must have one column {key!r}. Received: no such column.")
    start = 0
    for lines in _grouped(path, read_rows(Path(path), len(header)), _lines_at_once(header)):
        yield _to_rows(path, start, header, lines, manifest, key)
        start += len(lines)


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


def _to_rows(
    path: str,
    start: int,
    header: Sequence[str],
    lines: Sequence[Line],
    manifest: Manifest,
    key: str | None,
) -> Rows:
    numbers, rows = zip(*lines, strict=True)
    cells = dict(zip(header, zip(*rows, strict=True), strict=True))
    found = read_cells(manifest, cells, line_places(path, numbers))
    ids = row_ids(path, range(start, start + len(lines)))
    reasons = found.problems
    if key is not None:
        keys = map(json.dumps, cells[key])
        ids = [f'{one}, "key": {text}' for one, text in zip(ids, keys, strict=True)]
        missing = f"A key must not be missing. Received: an empty cell in column {key!r}."
        reasons |= {index: missing for index, text in enumerate(cells[key]) if not text}
    return set_aside(Rows(ids, found.inputs), reasons)
