"""Writes features as parquet. Needs pyarrow."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.system.atomic_files import atomic_path

# A row group has about this many numbers, 32 MB.
_GROUP_NUMBERS = 8_000_000


def write_table(
    path: Path,
    features: np.ndarray,
    columns: Sequence[str],
    read_keys: Callable[[], Iterator[dict[str, Any]]],
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
    types = {"file": pa.string(), "row": pa.int64(), "key": pa.string()}
    if "key" in columns and all(_is_int64(row["key"]) for row in read_keys()):
        types["key"] = pa.int64()
    rows, dimension = features.shape
    fields = [(name, types[name]) for name in columns]
    schema = pa.schema([*fields, ("features", pa.list_(pa.float32(), dimension))])
    step = max(1, _GROUP_NUMBERS // dimension)
    keys = read_keys()
    with atomic_path(path) as new, pq.ParquetWriter(new, schema, use_dictionary=["file"]) as file:
        for start in range(0, rows, step):
            group = list(itertools.islice(keys, step))
            arrays = [_to_column([row[name] for row in group], types[name]) for name in columns]
            numbers = pa.array(np.ravel(features[start : start + step]))
            arrays.append(pa.FixedSizeListArray.from_arrays(numbers, dimension))
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _is_int64(key: int | str) -> bool:
    return isinstance(key, int) and -(2**63) <= key < 2**63


def _to_column(values: Sequence[int | str], kind: pa.DataType) -> pa.Array:
    if pa.types.is_integer(kind):
        return pa.array(values, kind)
    # File names may be any bytes, parquet holds UTF-8.
    return pa.array([str(one).encode("utf-8", "backslashreplace").decode() for one in values], kind)
