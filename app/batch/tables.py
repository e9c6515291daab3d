"""Reads parquet files as rows. Only this module needs pyarrow."""

import json
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serving.checking import dtype_of
from serving.columns import check_names
from serving.csv_lines import MISSING
from serving.errors import InputError, reason_of
from serving.manifest import Manifest

from .rows import Rows, find_not_finite, row_ids, rows_at_once, set_aside


def read_table(path: str, manifest: Manifest, key: str | None) -> Iterator[Rows]:
    """Yield the rows of a parquet file, whose columns may be in any order and among others.

    Args:
        path: path of the file; one row group at a time is in memory.
        manifest: manifest of the model, which names the columns.
        key: column of whole numbers or texts to copy into each line; None copies none.

    Raises:
        InputError: the file is not a parquet file or is damaged, or a column is missing or of the
            wrong type.
    """
    start = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_schema(path, file.schema_arrow, manifest, key)
            names = list(dict.fromkeys((*_columns(manifest), *([key] if key else []))))
            for batch in file.iter_batches(rows_at_once(manifest), columns=names):
                yield _to_rows(path, start, batch, manifest, key)
                start += len(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as parquet from row {start} on: {reason_of(error)}."
        ) from None


def _columns(manifest: Manifest) -> tuple[str, ...]:
    return (*manifest.columns, *manifest.string_columns)


def _check_schema(path: str, schema: pa.Schema, manifest: Manifest, key: str | None) -> None:
    check_names(manifest, schema.names, path)
    for name in _columns(manifest):
        is_text = name in manifest.string_columns
        _check_column(path, schema, name, "texts" if is_text else "numbers")
    if key is not None:
        _check_column(path, schema, key, "whole numbers or texts")


def _check_column(path: str, schema: pa.Schema, name: str, wanted: str) -> None:
    if schema.names.count(name) != 1:
        received = "no such column" if name not in schema.names else "several of that name"
        raise InputError(f"{path} must have one column {name!r}. Received: {received}.")
    found = schema.field(name).type
    if not _HOLDS[wanted](found):
        raise InputError(f"Column {name!r} of {path} must contain {wanted}. Received: {found}.")


def _holds_numbers(found: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return pa.types.is_null(found) or any(is_kind(found) for is_kind in kinds)


def _holds_texts(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        return _holds_texts(found.value_type)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return pa.types.is_null(found) or any(is_kind(found) for is_kind in kinds)


def _holds_keys(found: pa.DataType) -> bool:
    return pa.types.is_integer(found) or _holds_texts(found)


_HOLDS: dict[str, Callable[[pa.DataType], bool]] = {
    "numbers": _holds_numbers,
    "texts": _holds_texts,
    "whole numbers or texts": _holds_keys,
}


def _to_rows(
    path: str, start: int, batch: pa.RecordBatch, manifest: Manifest, key: str | None
) -> Rows:
    ids = row_ids(path, range(start, start + len(batch)))
    arrays = {
        "inputs": _numbers(batch, manifest),
        "texts": _texts(batch, manifest),
    }
    inputs = {
        spec.name: arrays[spec.name].astype(dtype_of(spec), copy=False) for spec in manifest.inputs
    }
    reasons = find_not_finite(inputs, manifest, start)
    if key is not None:
        keys = batch.column(key).to_pylist()
        ids = [f'{one}, "key": {json.dumps(name)}' for one, name in zip(ids, keys, strict=True)]
        missing = f"A key must not be missing. Received: null in column {key!r}."
        reasons |= {index: missing for index, name in enumerate(keys) if name is None}
    return set_aside(Rows(ids, inputs), reasons)


def _numbers(batch: pa.RecordBatch, manifest: Manifest) -> np.ndarray:
    """Return float32 `(rows, columns)`: NaN for missing values, infinity for too large ones."""
    columns = [
        batch.column(name).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        for name in manifest.columns
    ]
    with np.errstate(over="ignore"):
        return np.array(columns, np.float64).T.astype(np.float32)


def _texts(batch: pa.RecordBatch, manifest: Manifest) -> np.ndarray:
    """Return object `(rows, columns)` of strings, empty for missing values."""
    texts = [
        ["" if text is None or text.strip().lower() in MISSING else text.strip() for text in column]
        for column in (batch.column(name).to_pylist() for name in manifest.string_columns)
    ]
    return np.array(texts, object).T
