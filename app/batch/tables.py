"""Reads parquet files as rows. Only this module needs pyarrow."""

import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.system.arrow_types import IMAGES_AT_ONCE, holds_cells, holds_images, open_row_groups
from serving.columns import Cells, read_row_inputs
from serving.errors import InputError, reason_of
from serving.frames import arrow_values
from serving.manifest import Manifest
from serving.row_format import check_names, row_format

from .image_tables import HEAD_ROWS, ImageColumn, find_column, only_column, trained_column
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
    needed = _needed(manifest)

    def choose(file: pq.ParquetFile) -> list[str]:
        check_names(manifest, file.schema_arrow.names, path)
        return needed

    def to_rows(start: int, batch: pa.RecordBatch) -> Rows:
        return _to_rows(path, start, batch, manifest, key)

    yield from _read(path, key, rows_at_once(manifest), choose, to_rows)


def read_table_images(
    path: str, manifest: Manifest, key: str | None, threads: int, image_column: str | None = None
) -> Iterator[Rows]:
    """Yield the images that a column of a parquet file names or holds itself, see `read_table`.

    Args:
        path: path of the file.
        manifest: manifest of the model.
        key: column to copy into each line; None copies none.
        threads: how many threads decode.
        image_column: the column; None takes that of the training, or else the only one of images,
            or without these the only one of names.

    Raises:
        InputError: as there, or no single column names or holds images.
    """
    columns: list[str] = []

    def choose(file: pq.ParquetFile) -> list[str]:
        schema = file.schema_arrow
        found = image_column or trained_column(manifest, schema.names)
        stored = [field.name for field in schema if holds_images(field.type)]
        found = found or (only_column(path, stored, "images") if stored else None)
        columns.append(found or find_column(path, _read_head(file)))
        return columns

    def to_rows(start: int, batch: pa.RecordBatch) -> Rows:
        column = ImageColumn(path, columns[0], manifest, threads)
        found = column.read(start, arrow_values(batch.column(columns[0])), _places(path, start))
        return _with_keys(found.rows, found.problems, batch, key)

    size = min(IMAGES_AT_ONCE, rows_at_once(manifest))
    yield from _read(path, key, size, choose, to_rows, have_images=True)


def _read(
    path: str,
    key: str | None,
    size: int,
    choose: Callable[[pq.ParquetFile], list[str]],
    to_rows: Callable[[int, pa.RecordBatch], Rows],
    have_images: bool = False,
) -> Iterator[Rows]:
    """Yield rows of up to `size`, which `to_rows` makes of the columns that `choose` returns."""
    start = 0
    try:
        with open_row_groups(path) as file:
            needed = choose(file)
            _check_schema(path, file.schema_arrow, needed, key, have_images)
            names = list(dict.fromkeys((*needed, *([key] if key else []))))
            for batch in file.iter_batches(size, columns=names):
                yield to_rows(start, batch)
                start += len(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise InputError(
            f"{path} cannot be read as parquet from row {start} on: {reason_of(error)}."
        ) from None


def _read_head(file: pq.ParquetFile) -> dict[str, Sequence[object]]:
    """Return the first cells of each column of texts, and none of the others."""
    schema = file.schema_arrow
    texts = [field.name for field in schema if _holds_texts(field.type)]
    batch = next(file.iter_batches(HEAD_ROWS, columns=texts), None)
    head = {} if batch is None else dict(zip(batch.schema.names, batch.columns, strict=True))
    return {name: arrow_values(head[name]) if name in head else [] for name in schema.names}


def _check_schema(
    path: str, schema: pa.Schema, needed: Sequence[str], key: str | None, have_images: bool
) -> None:
    for name in (*needed, *([key] if key else [])):
        if schema.names.count(name) != 1:
            received = "no such column" if name not in schema.names else "several of that name"
            raise InputError(f"{path} must have one column {name!r}. Received: {received}.")
        found = schema.field(name).type
        if not (holds_cells(found) or (have_images and holds_images(found))):
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
    return _holds_texts(found) or pa.types.is_integer(found) or pa.types.is_null(found)


def _holds_texts(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        return _holds_texts(found.value_type)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(found) for is_kind in kinds)


def _places(path: str, start: int) -> Callable[[int], str]:
    return lambda row: f" in row {start + row} of {path}"


def _to_rows(
    path: str, start: int, batch: pa.RecordBatch, manifest: Manifest, key: str | None
) -> Rows:
    texts = {column.name for column in row_format(manifest).columns if column.kind == "text"}
    cells = {name: _cells(batch.column(name), name in texts) for name in _needed(manifest)}
    found = read_row_inputs(manifest, cells, _places(path, start))
    ids = row_ids(path, range(start, start + len(batch)))
    return _with_keys(Rows(ids, found.inputs), found.problems, batch, key)


def _with_keys(
    rows: Rows, problems: dict[int, str], batch: pa.RecordBatch, key: str | None
) -> Rows:
    """Return rows with their keys, those with problems or without a key set aside."""
    if key is None:
        return set_aside(rows, problems)
    keys = batch.column(key).to_pylist()
    ids = [f'{one}, "key": {json.dumps(name)}' for one, name in zip(rows.ids, keys, strict=True)]
    missing = f"A key must not be missing. Received: null in column {key!r}."
    without = {index: missing for index, name in enumerate(keys) if name is None}
    return set_aside(Rows(ids, rows.inputs), problems | without)


def _cells(array: pa.Array, are_texts: bool) -> Cells:
    """Return the values of a column: numbers with NaN for null, or a list with None for null."""
    is_float = pa.types.is_floating(array.type)
    # Large whole numbers beside null are rounded as float64, which would change a text.
    is_exact = not are_texts or not array.null_count
    if is_float or (pa.types.is_integer(array.type) and is_exact):
        numbers: np.ndarray = array.to_numpy(zero_copy_only=False)
        return numbers
    return arrow_values(array)
