"""Reads files for models whose inputs are columns by themselves: one text, or one number each.

Such are the models of Keras' `TextVectorization` and `FeatureSpace`.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .checking import dtype_of
from .columns import RawColumn, read_column
from .csv_lines import line_places, read_columns, read_header
from .errors import InputError, cannot_read
from .manifest import Manifest, TensorSpec

_LINES = ".txt"
_DIGITS = re.compile(r"[+-]?\d{1,19}", re.ASCII)  # int64 has no more
_INEXACT = 2**53  # below it float64 holds every whole number


def takes_named_columns(manifest: Manifest) -> bool:
    """Return whether each input of a model is a single text or number for each sample."""
    return all(spec.shape[1:] in ((), (1,)) for spec in manifest.inputs)


def read_named_columns(
    path: Path, manifest: Manifest, note: Callable[[str], None]
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """Yield the numbers of some lines of a file, and the inputs that they hold.

    Args:
        path: CSV file whose header has the names of the inputs, other columns are ignored; or a
            `.txt` file with a text in each line, if the model takes one text.
        manifest: manifest of a model for which `takes_named_columns`.
        note: is called with the columns that are ignored.

    Raises:
        InputError: the file cannot be read, a column is absent, or a cell does not fit its input.
    """
    if path.suffix.lower() == _LINES:
        texts = _read_lines(path, manifest)
        yield (
            list(range(1, len(texts) + 1)),
            {spec.name: _shaped(np.array(texts, object), spec) for spec in manifest.inputs},
        )
        return
    header, names = read_header(path), [spec.name for spec in manifest.inputs]
    absent = [name for name in names if name not in header]
    if absent:
        raise InputError(
            f"{path} must have the columns {', '.join(names)}. "
            f"Received: no {', '.join(map(repr, absent))}."
        )
    ignored = [name for name in header if name not in names]
    if ignored:
        note(f"{path} has other columns too, which are ignored: {', '.join(ignored)}.")
    for lines, cells in read_columns(path):
        yield (
            lines,
            {
                spec.name: _read_cells(spec, cells[spec.name], path, lines)
                for spec in manifest.inputs
            },
        )


def _read_lines(path: Path, manifest: Manifest) -> list[str]:
    if [spec.dtype for spec in manifest.inputs] != ["string"]:
        raise InputError(
            f"A {_LINES} file holds texts, for a model that takes one. Received: {path} for "
            f"{manifest.name}, which takes {', '.join(spec.name for spec in manifest.inputs)}. "
            "Give a CSV file."
        )
    try:
        with path.open(encoding="utf-8-sig") as file:  # ends lines at \n, \r\n and \r only
            texts = [line.removesuffix("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(cannot_read(path, error)) from None
    if not texts:
        raise InputError(f"{path} must have at least one text. Received: an empty file.")
    return texts


def _read_cells(spec: TensorSpec, cells: list[str], path: Path, lines: list[int]) -> np.ndarray:
    if spec.dtype == "string":
        return _shaped(np.array(cells, object), spec)
    kind = "boolean" if spec.dtype == "bool" else "number"
    column, _ = read_column(RawColumn(spec.name, kind), cells)
    dtype, numbers = dtype_of(spec), column[:, 0].tolist()  # NaN where a cell is wrong
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        numbers = list(map(_whole, cells, numbers))
        is_right = [limits.min <= number <= limits.max for number in numbers]
    else:
        is_right = [not math.isnan(number) for number in numbers]
    if not all(is_right):
        row = is_right.index(False)
        raise InputError(
            f"Each cell of {spec.name} must be of {spec.dtype}. "
            f"Received: {cells[row]!r:.80}{line_places(path, lines)(row)}."
        )
    return _shaped(np.array(numbers, dtype), spec)


def _whole(cell: str, number: float) -> float:
    """Return the exact whole number of a cell; NaN if it is none."""
    if _DIGITS.fullmatch(cell):
        return int(cell)
    return int(number) if abs(number) < _INEXACT and number.is_integer() else math.nan


def _shaped(column: np.ndarray, spec: TensorSpec) -> np.ndarray:
    return column.reshape(-1, *(1,) * (len(spec.shape) - 1))
