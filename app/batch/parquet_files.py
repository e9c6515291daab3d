"""Writes features and predictions as parquet. Needs pyarrow."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.system.atomic_files import atomic_path

from .predictions_file import Column

# A row group of features has about this many numbers, 32 MB.
_GROUP_NUMBERS = 8_000_000
# A batch has about this many objects of Python, and a row group of predictions so many batches,
# which take far less memory.
_BATCH_OBJECTS, _GROUP_BATCHES = 50_000, 40
_TYPES = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float32(),
    list: pa.list_(pa.string()),
}

ReadLines = Callable[[], Iterator[dict[str, Any]]]


def write_features_table(
    path: Path, features: np.ndarray, columns: Sequence[str], read_keys: ReadLines
) -> None:
    """Write a parquet file with the columns of keys and the column `features`.

    Args:
        path: path of the file.
        features: float32 `(rows, dimension)`; one row group at a time is in memory.
        columns: names of the columns of keys; `key` holds int64 if all keys do, otherwise texts.
        read_keys: yields the keys of each row by their column.

    Raises:
        OSError: the file cannot be written.
    """
    types = {"file": pa.string(), "row": pa.int64()}
    if "key" in columns:
        types["key"] = _key_type(read_keys)
    rows, dimension = features.shape
    schema = pa.schema([*types.items(), ("features", pa.list_(pa.float32(), dimension))])
    step = max(1, _GROUP_NUMBERS // dimension)
    keys = read_keys()
    with atomic_path(path) as new, pq.ParquetWriter(new, schema, use_dictionary=["file"]) as file:
        for start in range(0, rows, step):
            group = list(itertools.islice(keys, step))
            arrays = [_to_array([row[name] for row in group], types[name]) for name in columns]
            numbers = pa.array(np.ravel(features[start : start + step]))
            arrays.append(pa.FixedSizeListArray.from_arrays(numbers, dimension))
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))


def write_predictions_table(path: Path, columns: Sequence[Column], read_lines: ReadLines) -> None:
    """Write a parquet file of predictions.

    Numbers are float32. The key holds int64 if all keys do, otherwise texts. One row group at a
    time is in memory.

    Args:
        path: path of the file.
        columns: columns of the file.
        read_lines: yields the line of JSON of each row as an object.

    Raises:
        OSError: the file cannot be written.
    """
    types = [
        _key_type(read_lines) if column.member == "key" else _TYPES[column.kind]
        for column in columns
    ]
    schema = pa.schema([(column.name, kind) for column, kind in zip(columns, types, strict=True)])
    batches = _to_batches(read_lines(), columns, schema)
    with pq.ParquetWriter(path, schema) as file:
        while group := list(itertools.islice(batches, _GROUP_BATCHES)):
            file.write_table(pa.Table.from_batches(group, schema))


def _to_batches(
    lines: Iterator[dict[str, Any]], columns: Sequence[Column], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    step = max(1, _BATCH_OBJECTS // len(columns))
    while rows := list(itertools.islice(lines, step)):
        arrays = [
            _to_array([column.value_of(line) for line in rows], kind)
            for column, kind in zip(columns, schema.types, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _key_type(read_lines: ReadLines) -> pa.DataType:
    return pa.int64() if all(_is_int64(line["key"]) for line in read_lines()) else pa.string()


def _is_int64(key: int | str) -> bool:
    return isinstance(key, int) and -(2**63) <= key < 2**63


def _to_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_string(kind):
        return pa.array(values, kind)
    # File names may be any bytes, parquet holds UTF-8.
    return pa.array([str(one).encode("utf-8", "backslashreplace").decode() for one in values], kind)
