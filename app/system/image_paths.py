"""Finds the file of an image that a table names, in training and in batch jobs."""

import os
from pathlib import Path

from app.errors import DataError


def find_image(table: Path, place: str, column: str, cell: str) -> Path:
    """Return the path of the image that a cell names, relative to the folder of its table.

    Args:
        table: path of the table.
        place: where the cell is, such as `line 7 of photos.csv`.
        column: name of the cell's column.
        cell: the path in the table.

    Raises:
        DataError: the cell is empty or no path, or its separators are those of Windows.
    """
    if not cell:
        raise DataError(f"Each line must name an image. Received: an empty {column!r} in {place}.")
    if "\0" in cell:  # which no system call takes
        raise DataError(f"A path must be text. Received: {cell!r} in {place}.")
    path = table.parent / cell
    other = table.parent / cell.replace("\\", "/")
    # `pathlib` raises where a name is too long for a file.
    if path != other and not os.path.exists(path) and os.path.exists(other):  # noqa: PTH110
        raise DataError(f"Paths must be separated by /. Received: {cell} in {place}.")
    return path
