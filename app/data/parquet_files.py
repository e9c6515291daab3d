"""Reads parquet files. Only this module of `app.data` needs pyarrow."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import DataError
from app.system.arrow_types import holds_cells, holds_images
from serving.columns import cell_text
from serving.csv_lines import CHUNK
from serving.errors import cannot_read, reason_of
from serving.frames import arrow_values

from .tables import Batch, Table

# Images that are taken out of a row group together.
_IMAGES_AT_ONCE = 64


def open_parquet(path: Path) -> Table:
    """Return the table in a parquet file, whose cells are those of a CSV file with the same rows.

    Rows are counted from 0. One row group at a time is in memory. Columns without cells, such as
    those of lists, are not read, but for images.

    Raises:
        DataError: the file cannot be read, or a column is named twice.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(cannot_read(path, error, "parquet")) from None
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise DataError(f"{path} must name each column once. Received: {name!r} twice.")
    others = {field.name: str(field.type) for field in schema if not holds_cells(field.type)}
    readable = [name for name in schema.names if name not in others]
    read = partial(_read, path, readable)
    images = {
        field.name: partial(_read_images, path, field)
        for field in schema
        if holds_images(field.type)
    }
    return Table(
        str(path),
        tuple(schema.names),
        read,
        unit="row",
        without_cells=others,
        images=images,
        class_names=_class_names(schema),
    )


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of classes 0, 1 and so on by column, as the library datasets writes them."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        found = {name: each.get("names") for name, each in features.items() if name in schema.names}
    except (TypeError, KeyError, ValueError, AttributeError):  # written by something else
        return {}
    return {name: list(map(str, names)) for name, names in found.items() if names}


def _read(path: Path, names: list[str]) -> Iterator[Batch]:
    start = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            for batch in file.iter_batches(CHUNK, columns=names):
                numbers = list(range(start, start + len(batch)))
                yield Batch(numbers, {name: _cells(path, batch, name) for name in names})
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise DataError(cannot_read(path, error, "parquet")) from None


def _read_images(path: Path, field: pa.Field) -> Iterator[bytes | None]:
    """Yield the images of a column, None for a missing one."""
    is_struct = pa.types.is_struct(field.type)
    columns = [f"{field.name}.bytes" if is_struct else field.name]
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            for batch in file.iter_batches(_IMAGES_AT_ONCE, columns=columns):
                for found in batch.column(field.name).to_pylist():
                    yield found["bytes"] if is_struct and found is not None else found
    except (pa.ArrowException, OSError) as error:
        raise DataError(cannot_read(path, error, "parquet")) from None


def _cells(path: Path, batch: pa.RecordBatch, name: str) -> list[str]:
    try:
        return [cell_text(value) or "" for value in arrow_values(batch.column(name))]
    except (UnicodeDecodeError, OverflowError) as error:
        raise DataError(
            f"Column {name!r} of {path} must hold texts in UTF-8 or dates up to the year 9999. "
            f"Received: {reason_of(error)}."
        ) from None
