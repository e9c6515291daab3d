"""Reads files of every kind as rows: those of a part, or all rows of some files at once."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from serving.array_files import ARCHIVE, ARRAY
from serving.cores import available_cores
from serving.errors import InputError, NoRowsError, describe_all
from serving.images import read_header
from serving.inputs import takes_images
from serving.manifest import Manifest
from serving.named_columns import TEXTS
from serving.parity import Inputs, as_inputs

from .arrays import read_array, read_arrays, read_images
from .csv_tables import read_csv_images, read_csv_table
from .files import CSV, check_image_column, choose_files, is_image, kind_of, require_pyarrow
from .parts import plan_parts
from .rows import Rows
from .text_files import read_text_file


@dataclass(frozen=True)
class FileInputs:
    """All rows of some files.

    Attributes:
        inputs: inputs of the model, as `Predictor.predict` takes them.
        names: name of each row: its file, with the number of the row if a file may have several.
    """

    inputs: Inputs
    names: list[str]


def read_files(
    wanted: str | Sequence[str],
    manifest: Manifest,
    set_aside: Callable[[str, InputError], None] | None = None,
    image_column: str | None = None,
) -> FileInputs:
    """Read all rows of some files into memory.

    Args:
        wanted: see `app.batch.files.find_files`.
        manifest: manifest of the model.
        set_aside: is called with the file of each image that cannot be read, and why; the other
            images are read. The file is the image, or the table that holds it or lacks it. Without
            `set_aside`, or if no row can be read, that is an error, as it always is for a row that
            is no image.
        image_column: column of the images of tables; None finds it, see `find_column`.

    Raises:
        BatchError: there are no such files, or the model cannot read one.
        InputError: a row cannot be read; the message says which.
        NoRowsError: the files have none.
        ModuleNotFoundError: a file is parquet, and pyarrow is not installed.
    """
    if set_aside is not None and not isinstance(wanted, str) and takes_images(manifest):
        wanted = _readable(wanted, set_aside)
    files, _ = choose_files(wanted, manifest, None)
    check_image_column(image_column, files, manifest)
    require_pyarrow(files)
    threads = available_cores()
    parts = [
        rows
        for part in plan_parts(files)
        for rows in read_rows(part.files, manifest, None, threads, image_column)
    ]
    failed = [(_file(row_id), reason) for rows in parts for row_id, reason in rows.failed]
    are_aside = set_aside is not None and any(rows.ids for rows in parts)
    are_images = are_aside and takes_images(manifest)
    # The other rows of a model of images are those of arrays.
    if wrong := [
        reason for file, reason in failed if not are_images or kind_of(file) in (ARRAY, ARCHIVE)
    ]:
        raise InputError(describe_all(wrong))
    if set_aside is not None:
        for file, reason in failed:
            set_aside(file, InputError(reason))
    names = [_name(row_id) for rows in parts for row_id in rows.ids]
    if not names:
        raise NoRowsError(f"The files must have rows. Received: no rows in {files[0]}.")
    filled = [rows.inputs for rows in parts if rows.ids]
    inputs = {
        spec.name: np.concatenate([one[spec.name] for one in filled]) for spec in manifest.inputs
    }
    return FileInputs(as_inputs(inputs), names)


def _readable(files: Sequence[str], set_aside: Callable[[str, InputError], None]) -> list[str]:
    """Return the files that are no images, and the images that are there and have a header.

    A list of files is refused as a whole if one does not exist or has another suffix.
    """
    kept = []
    for file in files:
        try:
            if is_image(file):
                read_header(file)
            kept.append(file)
        except InputError as error:
            set_aside(file, error)
    return kept


def _file(row_id: str) -> str:
    return str(json.loads(f"{{{row_id}}}")["file"])


def _name(row_id: str) -> str:
    found = json.loads(f"{{{row_id}}}")
    name = str(found["file"])
    return name if is_image(name) else f"{name}:{found['row']}"


def read_rows(
    files: Sequence[str],
    manifest: Manifest,
    key: str | None,
    threads: int,
    image_column: str | None = None,
) -> Iterator[Rows]:
    """Yield the rows of a part: of one file of rows, or of images, which `threads` threads decode.

    Those of a table are in `image_column`; None finds it, see `find_column`.

    Raises:
        InputError: the file cannot be read, or does not suit the model.
    """
    kind = kind_of(files[0])
    if is_image(files[0]):
        return read_images(files, manifest, threads)
    if kind == ARRAY:
        return read_array(files[0], manifest)
    if kind == ARCHIVE:
        return read_arrays(files[0], manifest)
    if kind == TEXTS:
        return read_text_file(files[0], manifest)
    return _read_table(files[0], manifest, key, threads, image_column)


def _read_table(
    path: str, manifest: Manifest, key: str | None, threads: int, image_column: str | None
) -> Iterator[Rows]:
    names_images = takes_images(manifest)
    if kind_of(path) in CSV:
        if names_images:
            return read_csv_images(path, manifest, key, threads, image_column)
        return read_csv_table(path, manifest, key)
    from .tables import read_table, read_table_images  # pyarrow is an optional dependency

    if names_images:
        return read_table_images(path, manifest, key, threads, image_column)
    return read_table(path, manifest, key)
