"""Reads parquet files as rows. Only this module needs pyarrow."""

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.system.arrow_types import holds_cells
from serving.columns import Cells, read_row_inputs
from serving.errors import InputError, reason_of
from serving.frames import arrow_values
from serving.manifest import Manifest
from serving.row_format import check_names, row_format

from .rows import Rows, row_ids, rows_at_once, set_aside


def read_table(path: str, manifest: Manifest, key: str | None) -> Iterator[Rows]:
    """Yield the rows of a parquet file, whose columns may be in any order and among others.

    Args:
        path: path of the file; one row group at a time is in memory.
        manifest: manifest of the model, which names the columns.
        key: column of whole numbers or texts to copy into each line; None copies none.

    Raises:
        InputError: the file is not a parquet file or is damaged, columns are missing, or one holds
            no cells, such as lists.
    """
    start = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_schema(path, file.schema_arrow, manifest, key)
            names = list(dict.fromkeys((*_needed(manifest), *([key] if key else []))))
            for batch in file.iter_batches(rows_at_once(manifest), columns=names):
                yield _to_rows(path, start, batch, manifest, key)
                start += len(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise InputError(
            f"{path} cannot be read as parquet from row {start} on: {reason_of(error)}."
        ) from None


def _check_schema(path: str, schema: pa.Schema, manifest: Manifest, key: str | None) -> None:
    check_names(manifest, schema.names, path)
    for name in (*_needed(manifest), *([key] if key else [])):
        if schema.names.count(name) != 1:
            received = "no such column" if name not in schema.names else "several of that name"
            raise InputError(f"{path} must have one column {name!r}. Received: {received}.")
        found = schema.field(name).type
        if not holds_cells(found):
            raise InputError(f"Column {name!r} of {path} must contain cells. Received: {found}.")
    if key is not None and not _holds_keys(schema.field(key).type):
        raise InputError(
            f"Column {key!r} of {path} must contain whole numbers or texts. "
            f"Received: {schema.field(key).type}."
        )


def _needed(manifest: Manifest) -> list[str]:
    return [column.name for column in row_format(manifest).columns]


def _holds_keys(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        return _holds_keys(found.value_type)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(found) for is_kind in (*kinds, pa.types.is_integer, pa.types.is_null))


def _to_rows(
    path: str, start: int, batch: pa.RecordBatch, manifest: Manifest, key: str | None
) -> Rows:
    ids = row_ids(path, range(start, start + len(batch)))
    texts = {column.name for column in row_format(manifest).columns if column.kind == "text"}
    cells = {name: _cells(batch.column(name), name in texts) for name in _needed(manifest)}
    rows = read_row_inputs(manifest, cells, lambda row: f" in row {start + row} of {path}")
    reasons = rows.problems
    if key is not None:
        keys = batch.column(key).to_pylist()
        ids = [f'{one}, "key": {json.dumps(name)}' for one, name in zip(ids, keys, strict=True)]
        missing = f"A key must not be missing. Received: null in column {key!r}."
        reasons |= {index: missing for index, name in enumerate(keys) if name is None}
    return set_aside(Rows(ids, rows.inputs), reasons)


def _cells(array: pa.Array, are_texts: bool) -> Cells:
    """Return the values of a column: numbers with NaN for null, or a list with None for null."""
    is_float = pa.types.is_floating(array.type)
    # Large whole numbers beside null are rounded as float64, which would change a text.
    is_exact = not are_texts or not array.null_count
    if is_float or (pa.types.is_integer(array.type) and is_exact):
        numbers: np.ndarray = array.to_numpy(zero_copy_only=False)
        return numbers
    return arrow_values(array)
