"""Writes the features of a job to one file, with the key of each row, in the order of the input."""

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import BatchError
from app.system.atomic_files import atomic_path

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
    beside = [errors_path(path), *([keys_path(path)] if path.suffix == ARRAY else [])]
    # A job that was interrupted at its end may have written them.
    is_resumed = parts_path(path).exists()
    for new in [path, *([] if is_resumed else beside)]:
        if new.exists():
            raise BatchError(f"Features are written to new files. Received: {new}, which exists.")
    if not path.parent.is_dir():
        raise BatchError(
            f"--output must be in a folder that exists. Received: {path}, in {path.parent}."
        )


def keys_path(path: Path) -> Path:
    """Return the path of the keys beside a .npy file of features."""
    return path.with_suffix(".keys.csv")


def errors_path(path: Path) -> Path:
    """Return the path of the errors beside a file of features."""
    return path.with_suffix(".errors.jsonl")


def parts_path(path: Path) -> Path:
    """Return the folder in which a job keeps its parts until the file of features is written."""
    return path.with_name(f"{path.name}.parts")


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
    shape = (sum(part.rows for part in parts), dimension)
    _concatenate(array, [folder / f"part-{part.part}{FLOATS}" for part in parts], shape)
    columns = ("file", "row", *(["key"] if has_key else []))
    errors = [folder / f"errors-{part.part}.jsonl" for part in parts if part.failed]
    if errors:
        _concatenate(errors_path(path), errors)
    if path.suffix == TABLE:
        from .features_table import write_table  # pyarrow is an optional dependency

        features = np.load(array, mmap_mode="r")
        write_table(path, features, columns, lambda: _keys(folder, parts))
    else:
        _write_keys(keys_path(path), columns, _keys(folder, parts))
        array.replace(path)


def _concatenate(path: Path, sources: Sequence[Path], shape: tuple[int, int] | None = None) -> None:
    """Write the bytes of files one after another; those of a .npy file if a shape is given."""
    with atomic_path(path) as new, new.open("wb") as target:
        if shape is not None:
            header = {"descr": DTYPE.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(target, header)
        for source in sources:
            with source.open("rb") as file:
                shutil.copyfileobj(file, target)


def _keys(folder: Path, parts: Sequence[Finished]) -> Iterator[dict[str, Any]]:
    for part in parts:
        with (folder / f"part-{part.part}.jsonl").open("rb") as lines:
            yield from map(json.loads, lines)


def _write_keys(path: Path, columns: Sequence[str], keys: Iterator[dict[str, Any]]) -> None:
    with (
        atomic_path(path) as new,
        # File names may be any bytes.
        new.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        lines = csv.DictWriter(file, columns, lineterminator="\n")
        lines.writeheader()
        lines.writerows(keys)
