"""Reads files into the array that a model takes: images, or rows of a CSV."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .agreement import Inputs
from .errors import InputError
from .images import read_image
from .manifest import Manifest

# Cells, in any case, that stand for a value that is missing.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})


def read_inputs(paths: Sequence[str | Path], manifest: Manifest) -> tuple[Inputs, list[str]]:
    """Read files for a model.

    Args:
        paths: image files for a model of images; for a model of rows CSV files whose header has
            the model's columns, in any order and among others. Empty cells, NA, NaN, null, none
            and ? are missing values.
        manifest: of the model.

    Returns:
        What `Predictor.predict` takes, and a name for each sample: the file, and for rows
        the number of the row from 1.

    Raises:
        InputError: a file is missing, unreadable, or does not hold what the model takes.
    """
    if manifest.columns or manifest.text_columns:
        rows = [row for path in paths for row in _read_rows(Path(path), manifest)]
        return _to_arrays([cells for _, cells in rows], manifest), [name for name, _ in rows]
    (spec,) = manifest.inputs
    height, width = (int(size) for size in spec.shape[1:])
    images = [read_image(path, (height, width)) for path in paths]
    return np.stack(images), [str(path) for path in paths]


def _to_arrays(rows: Sequence[tuple[list[float], list[str]]], manifest: Manifest) -> Inputs:
    arrays = {
        "inputs": np.array([numbers for numbers, _ in rows], np.float32),
        "texts": np.array([texts for _, texts in rows], object),
    }
    named: dict[str, np.ndarray] = {spec.name: arrays[spec.name] for spec in manifest.inputs}
    return named if len(named) > 1 else next(iter(named.values()))


def _read_rows(
    path: Path, manifest: Manifest
) -> Iterator[tuple[str, tuple[list[float], list[str]]]]:
    columns = (*manifest.columns, *manifest.text_columns)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            missing = [name for name in columns if name not in reader.fieldnames]
            if missing:
                raise InputError(
                    f"{path} must be a CSV with the columns {', '.join(columns)}. "
                    f"Received: no column {missing[0]!r}."
                )
            rows = [
                (f"{path}:{n}", (_numbers(path, n, row, manifest), _texts(row, manifest)))
                for n, row in enumerate(reader, 1)
            ]
    except OSError as error:
        raise InputError(f"{path} must be readable. Received: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} must be a CSV file. Received: {error}.") from None
    if not rows:
        raise InputError(f"{path} must have at least one row below its header. Received: none.")
    yield from rows


def _numbers(
    path: Path, number: int, row: dict[str, str | None], manifest: Manifest
) -> list[float]:
    values = []
    for name in manifest.columns:
        text = (row[name] or "").strip()
        if name in manifest.gaps and text.lower() in MISSING:
            values.append(math.nan)
            continue
        value = parse_number(text)
        if value is None or not math.isfinite(value):
            raise InputError(
                f"Row {number} of {path} must have finite numbers. Received: {name}={row[name]!r}."
            )
        values.append(value)
    return values


def _texts(row: dict[str, str | None], manifest: Manifest) -> list[str]:
    texts = [(row[name] or "").strip() for name in manifest.text_columns]
    return ["" if text.lower() in MISSING else text for text in texts]


def parse_number(text: str) -> float | None:
    """Return the number that a cell holds in ASCII digits, None if it holds none."""
    if "_" in text or not text.isascii():  # which Python takes and a table does not mean
        return None
    try:
        return float(text)
    except ValueError:
        return None
