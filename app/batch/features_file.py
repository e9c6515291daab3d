"""Writes the features of a job to one file, with the key of each row, in the order of the input."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import BatchError
from app.system.atomic_files import atomic_path

from .output_files import check_new, concatenate, parts_path, read_lines, write_errors
from .parts import Finished

TABLE, ARRAY = ".parquet", ".npy"
# Suffix of the features of a part, float32 without a header.
FLOATS = ".f32"
DTYPE = np.dtype("<f4")


def check_target(path: Path) -> None:
    """Require a path that features can be written to.

    Raises:
        BatchError: its suffix is unknown, it exists, or its folder does not exist.
    """
    if path.suffix not in (TABLE, ARRAY):
        raise BatchError(
            f"With --features, --output must be a file that ends in {TABLE} or {ARRAY}. "
            f"Received: {path}."
        )
    check_new(path, [keys_path(path)] if path.suffix == ARRAY else [])


def keys_path(path: Path) -> Path:
    """Return the path of the keys beside a .npy file of features."""
    return path.with_suffix(".keys.csv")


def write_features(path: Path, dimension: int, parts: Sequence[Finished], has_key: bool) -> None:
    """Write the features and keys of parts, one after another, and their errors if there are any.

    A .parquet file has the columns `file`, `row`, `key` if there is one, and `features`, a list of
    float32 of fixed size. A .npy file is float32 `(rows, dimension)`; its keys are in a CSV file.

    Args:
        path: path of a file that does not exist.
        dimension: how many numbers the features of a row are.
        parts: parts that are finished, in order.
        has_key: whether the rows have a key besides file and row.

    Raises:
        OSError: a file cannot be written; `path` does not exist then.
    """
    folder = parts_path(path)
    array = folder / "features"  # without a suffix, so that no pattern of the input matches it
    head = _array_header((sum(part.rows for part in parts), dimension))
    with atomic_path(array) as new:
        concatenate(new, [folder / f"part-{part.part}{FLOATS}" for part in parts], head)
    columns = ("file", "row", *(["key"] if has_key else []))
    write_errors(path, parts)
    if path.suffix == TABLE:
        from .parquet_files import write_features_table  # pyarrow is an optional dependency

        features = np.load(array, mmap_mode="r")
        write_features_table(path, features, columns, lambda: read_lines(path, parts))
    else:
        _write_keys(keys_path(path), columns, read_lines(path, parts))
        array.replace(path)


def _array_header(shape: tuple[int, int]) -> bytes:
    head = io.BytesIO()
    header = {"descr": DTYPE.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, header)
    return head.getvalue()


def _write_keys(path: Path, columns: Sequence[str], keys: Iterator[dict[str, Any]]) -> None:
    with (
        atomic_path(path) as new,
        # File names may be any bytes.
        new.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        lines = csv.DictWriter(file, columns, lineterminator="\n")
        lines.writeheader()
        lines.writerows(keys)
