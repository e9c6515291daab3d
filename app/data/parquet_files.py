"""Reads parquet files. Only this module of `app.data` needs pyarrow."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import DataError
from serving.columns import cell_text
from serving.csv_lines import CHUNK
from serving.errors import cannot_read

from .tables import Batch, Table


def open_parquet(path: Path) -> Table:
    """Return the table in a parquet file, whose cells are those of a CSV file with the same rows.

    Rows are counted from 0. One row group at a time is in memory.

    Raises:
        DataError: the file cannot be read, or a column is named twice or holds lists.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(cannot_read(path, error, "parquet")) from None
    for field in schema:
        if schema.names.count(field.name) > 1:
            raise DataError(f"{path} must name each column once. Received: {field.name!r} twice.")
        if pa.types.is_nested(field.type):
            raise DataError(
                f"Each column of {path} must hold numbers, texts, truth values or dates. "
                f"Received: {field.name!r}, which holds {field.type}."
            )
    return Table(str(path), tuple(schema.names), partial(_read, path), unit="row")


def _read(path: Path) -> Iterator[Batch]:
    start = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(CHUNK):
                numbers = list(range(start, start + len(batch)))
                columns = zip(batch.schema.names, batch.columns, strict=True)
                yield Batch(numbers, {name: _cells(column) for name, column in columns})
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise DataError(cannot_read(path, error, "parquet")) from None


def _cells(column: pa.Array) -> list[str]:
    return [cell_text(value) or "" for value in column.to_pylist()]
