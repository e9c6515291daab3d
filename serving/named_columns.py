"""Reads files for models whose inputs are columns by themselves: one text, or one number each.

Such are the models of Keras' `TextVectorization` and `FeatureSpace`.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from .checking import dtype_of
from .columns import Cells, RowInputs, read_column, read_row_inputs
from .csv_lines import CHUNK
from .errors import InputError, cannot_read
from .manifest import Manifest, TensorSpec
from .row_format import RawColumn, row_format

# Suffix of a file with a text in each line.
TEXTS = ".txt"
_DIGITS = re.compile(r"[+-]?\d{1,19}", re.ASCII)  # int64 has no more
_INEXACT = 2**53  # below it float64 holds every whole number


def takes_named_columns(manifest: Manifest) -> bool:
    """Return whether each input of a model is a single text or number for each sample."""
    is_table = manifest.columns or manifest.string_columns
    return not is_table and all(spec.shape[1:] in ((), (1,)) for spec in manifest.inputs)


def takes_texts(manifest: Manifest) -> bool:
    """Return whether a model takes one text for each sample, and nothing else."""
    return takes_named_columns(manifest) and [s.dtype for s in manifest.inputs] == ["string"]


def needed_columns(manifest: Manifest) -> list[str]:
    """Return the columns that a file must have for a model: those of its table, or its inputs.

    Raises:
        InputError: the model takes no columns.
    """
    if takes_named_columns(manifest):
        return [spec.name for spec in manifest.inputs]
    return [column.name for column in row_format(manifest).columns]


def read_cells(
    manifest: Manifest, cells: Mapping[str, Cells], place: Callable[[int], str]
) -> RowInputs:
    """Read the cells of rows into the inputs of a model.

    Args:
        manifest: manifest of a model of columns.
        cells: the cells of each of its `needed_columns` by name; if they are its inputs, texts as
            in a CSV file.
        place: see `columns.read_row_inputs`.
    """
    if not takes_named_columns(manifest):
        return read_row_inputs(manifest, cells, place)
    inputs: dict[str, np.ndarray] = {}
    problems: dict[int, str] = {}
    for spec in manifest.inputs:
        texts = list(cells[spec.name])
        inputs[spec.name], wrong = _read_input(spec, texts)
        for row in wrong:
            problems.setdefault(
                row,
                f"Each cell of {spec.name} must be of {spec.dtype}. "
                f"Received: {texts[row]!r:.80}{place(row)}.",
            )
    return RowInputs(inputs, problems)


def read_texts(path: Path, manifest: Manifest) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """Yield the numbers of some lines of a file with a text in each line, and the model's input.

    Raises:
        InputError: the file cannot be read or is empty, or the model takes something else.
    """
    if not takes_texts(manifest):
        raise InputError(
            f"A {TEXTS} file holds texts, for a model that takes one. Received: {path} for "
            f"{manifest.name}, which takes {', '.join(spec.name for spec in manifest.inputs)}. "
            "Give a CSV file."
        )
    (spec,) = manifest.inputs
    start = 1
    try:
        with path.open(encoding="utf-8-sig") as file:  # ends lines at \n, \r\n and \r only
            while lines := list(itertools.islice(file, CHUNK)):
                texts = np.array([line.removesuffix("\n") for line in lines], object)
                yield list(range(start, start + len(lines))), {spec.name: _shaped(texts, spec)}
                start += len(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(cannot_read(path, error)) from None
    if start == 1:
        raise InputError(f"{path} must have at least one text. Received: an empty file.")


def _read_input(spec: TensorSpec, cells: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Return an input, and the indices of the cells that do not fit it, which are 0 there."""
    if spec.dtype == "string":
        return _shaped(np.array(cells, object), spec), []
    kind = "boolean" if spec.dtype == "bool" else "number"
    column, _ = read_column(RawColumn(spec.name, kind), cells)
    dtype, numbers = dtype_of(spec), column[:, 0].tolist()  # NaN where a cell is wrong
    if dtype.kind in "iu":
        numbers = list(map(_whole, cells, numbers))
    low, high = _limits(dtype)
    wrong = [row for row, number in enumerate(numbers) if not low <= number <= high]
    for row in wrong:
        numbers[row] = 0
    return _shaped(np.array(numbers, dtype), spec), wrong


def _limits(dtype: np.dtype) -> tuple[float, float]:
    if dtype.kind == "b":
        return 0, 1
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return limits.min, limits.max


def _whole(cell: str, number: float) -> float:
    """Return the exact whole number of a cell; NaN if it is none."""
    if _DIGITS.fullmatch(cell):
        return int(cell)
    return int(number) if abs(number) < _INEXACT and number.is_integer() else math.nan


def _shaped(column: np.ndarray, spec: TensorSpec) -> np.ndarray:
    return column.reshape(-1, *(1,) * (len(spec.shape) - 1))
