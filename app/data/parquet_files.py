"""Reads parquet files. Only this module of `app.data` needs pyarrow."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import DataError
from app.system.arrow_types import IMAGES_AT_ONCE, holds_cells, holds_images, open_row_groups
from app.system.image_paths import image_of
from serving.columns import cell_text
from serving.csv_lines import CHUNK
from serving.errors import cannot_read, first_few, reason_of
from serving.frames import arrow_values

from .split_names import SPLITS, split_of
from .tables import Batch, Table


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


def open_shards(folder: Path, files: Sequence[Path]) -> Table:
    """Return the parquet files of a folder as one table, as data sets of Hugging Face are stored.

    Args:
        folder: the folder.
        files: its files, or those of its subfolders for the splits. If the names of the files begin
            with those of splits, such as `train-00000-of-00002.parquet`, or the subfolders have
            them, they are read in the order training, validation, test.
            Classes that they name in different orders have the numbers of the first one.

    Raises:
        DataError: a file cannot be read, has other columns or classes than the first, or is of no
            split though others are; or there is no training split.
    """
    splits = [split_of(path.stem if path.parent == folder else path.parent.name) for path in files]
    if any(splits) and not ("train" in splits and all(splits)):
        wrong = files[splits.index("")] if "" in splits else files[0]
        raise DataError(
            "The names of parquet files must begin with train, validation or test, and one with "
            f"train, or none with any of these. Received: {wrong} in a folder of {len(files)}."
        )
    names = list(SPLITS)
    places = sorted(range(len(files)), key=lambda n: names.index(splits[n]) if splits[n] else 0)
    tables = [open_parquet(files[place]) for place in places]
    first = tables[0]
    for table in tables:
        if difference := _difference(first, table):
            raise DataError(
                "The parquet files of a folder must have the same columns and classes. Received: "
                f"{difference}. Write them alike."
            )
    counts = [pq.read_metadata(table.source).num_rows for table in tables]
    starts = [0, *accumulate(counts)][:-1]

    def read() -> Iterator[Batch]:
        for start, table in zip(starts, tables, strict=True):
            for numbers, cells in table.read():
                renumbered = _renumbered(cells, table.class_names, first.class_names)
                yield Batch([start + number for number in numbers], renumbered)

    def read_images(name: str) -> Iterator[bytes | str | None]:
        for table in tables:
            yield from table.images[name]()

    sizes = [
        sum(counts[n] for n, place in enumerate(places) if splits[place] == name) for name in names
    ]
    return replace(
        first,
        source=str(folder),
        read=read,
        images={
            name: partial(read_images, name)
            for name in first.images
            if all(name in table.images for table in tables)
        },
        sizes=(sizes[0], sizes[1], sizes[2]) if any(splits) else (),
        starts=[
            (start, table.source)
            for start, table, count in zip(starts, tables, counts, strict=True)
            if count
        ],
    )


def _difference(first: Table, other: Table) -> str:
    """Return how the columns and classes of two files differ, as a text; empty if they do not."""
    for one, two in ((first, other), (other, first)):
        if lacking := [name for name in one.names if name not in two.names]:
            return f"{', '.join(map(repr, lacking))} in {one.source}, but not in {two.source}"
    if first.names != other.names:
        return f"{', '.join(first.names)} in {first.source}, in another order in {other.source}"
    for column in {**first.class_names, **other.class_names}:
        names, others = (table.class_names.get(column, ()) for table in (first, other))
        if names != others and not _are_reordered(names, others):
            # Of many classes, those that differ are told.
            told = [
                f"{_named_classes(those, rest)} in {table.source}"
                for those, rest, table in ((names, others, first), (others, names, other))
            ]
            return f"{column!r} {' and '.join(told)}"
    return ""


def _are_reordered(names: Sequence[str], others: Sequence[str]) -> bool:
    return sorted(names) == sorted(others) and len({*names}) == len(names)


def _named_classes(names: Sequence[str], others: Sequence[str]) -> str:
    if not names:
        return "without names of classes"
    own = [name for name in names if name not in others]
    return f"of {len(names):,} classes" + (f" with {first_few(own)}" if own and others else "")


def _renumbered(
    cells: dict[str, list[str]],
    own: Mapping[str, Sequence[str]],
    wanted: Mapping[str, Sequence[str]],
) -> dict[str, list[str]]:
    """Return cells whose numbers of classes are those of another order of their names."""
    found = dict(cells)
    for column, names in own.items():
        if names != wanted[column] and column in cells:
            numbers = {str(n): str(wanted[column].index(name)) for n, name in enumerate(names)}
            found[column] = [numbers.get(cell, cell) for cell in cells[column]]
    return found


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
        with open_row_groups(path) as file:
            for batch in file.iter_batches(CHUNK, columns=names):
                numbers = list(range(start, start + len(batch)))
                yield Batch(numbers, {name: _cells(path, batch, name) for name in names})
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise DataError(cannot_read(path, error, "parquet")) from None


def _read_images(path: Path, field: pa.Field) -> Iterator[bytes | str | None]:
    """Yield the images of a column, the path of one that is not in the file, None without either.

    The library datasets writes such paths if it is told not to embed the files.
    """
    is_struct = pa.types.is_struct(field.type)
    inside = [each.name for each in field.type] if is_struct else []
    columns = [f"{field.name}.{name}" for name in ("bytes", "path") if name in inside]
    columns = columns or [field.name]
    try:
        with open_row_groups(path) as file:
            for batch in file.iter_batches(IMAGES_AT_ONCE, columns=columns):
                for found in batch.column(field.name).to_pylist():
                    yield image_of(found)
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
