"""Rows of the input: those that can be predicted, and those that cannot, with the reason."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from serving.checking import check_finite, is_not_finite
from serving.errors import InputError
from serving.manifest import Manifest

# How much input may be in memory at a time.
_MAX_BYTES, _MAX_ROWS = 16_000_000, 4096


@dataclass(frozen=True)
class Rows:
    """Some rows of the input, read together.

    Attributes:
        ids: JSON members that identify each row, such as `"file": "a.npy", "row": 7`.
        inputs: inputs of the model by name, with one row for each of `ids`.
        failed: ids and reasons of the rows, or of the file, that cannot be predicted.
    """

    ids: Sequence[str]
    inputs: dict[str, np.ndarray]
    failed: Sequence[tuple[str, str]] = ()


def file_id(path: str) -> str:
    """Return the JSON member that identifies a file."""
    return f'"file": {json.dumps(path)}'


def row_ids(path: str, numbers: Iterable[int]) -> list[str]:
    """Return the JSON members that identify rows of a file, counted from 0."""
    start = f'{file_id(path)}, "row": '
    return [f"{start}{number}" for number in numbers]


def with_rest(error: InputError, path: str, rows: int) -> InputError:
    """Return the error of a file, with the number of its first rows that were read before it."""
    more = f" The rows of {path} from row {rows} on were not predicted." if rows else ""
    return InputError(f"{error}{more}")


def rows_at_once(manifest: Manifest) -> int:
    """Return how many rows to read at a time for a model with inputs of fixed size."""
    sizes = [
        math.prod(size for size in spec.shape[1:] if isinstance(size, int))
        for spec in manifest.inputs
    ]
    return rows_of(sum(sizes))


def rows_of(values: int) -> int:
    """Return how many rows to read at a time if each has this number of values."""
    return max(1, min(_MAX_ROWS, _MAX_BYTES // max(1, 8 * values)))


def find_not_finite(
    inputs: dict[str, np.ndarray], manifest: Manifest, start: int
) -> dict[int, str]:
    """Return a reason for each row with infinity, or with NaN where no value may be missing.

    Args:
        inputs: inputs of the model by name, for consecutive rows of a file.
        manifest: manifest of the model.
        start: number of the first of these rows, for the reasons.
    """
    nullable_columns = [manifest.columns.index(name) for name in manifest.nullable_columns]
    reasons: dict[int, str] = {}
    for name, array in inputs.items():
        if array.dtype.kind == "f":
            is_wrong = is_not_finite(array, nullable_columns).reshape(len(array), -1).any(axis=1)
            for index in np.flatnonzero(is_wrong).tolist():
                row = array[index : index + 1]
                reasons.setdefault(
                    index, _why_not_finite(name, row, nullable_columns, start + index)
                )
    return reasons


def set_aside(rows: Rows, reasons: dict[int, str]) -> Rows:
    """Return `rows` with some of them moved to `failed`, given the reason for each index."""
    if not reasons:
        return rows
    kept = [index for index in range(len(rows.ids)) if index not in reasons]
    return Rows(
        [rows.ids[index] for index in kept],
        {name: array[kept] for name, array in rows.inputs.items()},
        [*rows.failed, *((rows.ids[index], reason) for index, reason in sorted(reasons.items()))],
    )


def _why_not_finite(
    name: str, row: np.ndarray, nullable_columns: Sequence[int], number: int
) -> str:
    try:
        check_finite(name, row, nullable_columns, number)
    except InputError as error:
        return str(error)
    return ""
