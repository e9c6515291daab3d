"""Finds the file of an image that a table names, in training and in batch jobs."""

import os
from pathlib import Path
from typing import Any

from app.errors import DataError


def image_of(cell: Any) -> Any:
    """Return what a cell of parquet says of its image.

    Args:
        cell: bytes or a path; or a mapping with `bytes` and perhaps `path`, as the library datasets
            writes images.

    Returns:
        The bytes; without them the path, as a text; None or an empty text without either.
    """
    if not isinstance(cell, dict):
        return cell
    content = cell["bytes"]
    return cell.get("path") if content is None else content


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
