"""Reads files into the array that a model takes: images, or rows of a CSV."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .errors import InputError
from .images import read_image
from .manifest import Manifest


def read_inputs(paths: Sequence[str | Path], manifest: Manifest) -> tuple[np.ndarray, list[str]]:
    """Read files for a model.

    Args:
        paths: image files for a model of images; for a model of rows CSV files whose header has
            the model's columns, in any order and among others.
        manifest: of the model.

    Returns:
        The samples, of the model's dtype and shape, and a name for each: the file, and for rows
        the number of the row from 1.

    Raises:
        InputError: a file is missing, unreadable, or does not hold what the model takes.
    """
    (spec,) = manifest.inputs
    if manifest.columns:
        rows = [row for path in paths for row in _read_rows(Path(path), manifest.columns)]
        return np.array([values for _, values in rows], spec.dtype), [name for name, _ in rows]
    height, width = (int(size) for size in spec.shape[1:])
    images = [read_image(path, (height, width)) for path in paths]
    return np.stack(images), [str(path) for path in paths]


def _read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[float]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path} must be a CSV with the columns {', '.join(columns)}. "
                    f"Received: no column {missing[0]!r}."
                )
            rows = [
                (f"{path}:{n}", _numbers(path, n, row, columns)) for n, row in enumerate(reader, 1)
            ]
    except OSError as error:
        raise InputError(f"{path} must be readable. Received: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} must be a CSV file. Received: {error}.") from None
    if not rows:
        raise InputError(f"{path} must have at least one row below its header. Received: none.")
    yield from rows


def _numbers(
    path: Path, number: int, row: dict[str, str | None], columns: Sequence[str]
) -> list[float]:
    values = []
    for name in columns:
        text = row[name]
        value = _number(text or "")
        if value is None or not math.isfinite(value):
            raise InputError(
                f"Row {number} of {path} must have finite numbers. Received: {name}={text!r}."
            )
        values.append(value)
    return values


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
