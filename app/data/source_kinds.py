"""Tells what a data source is from its name or path, and checks it without reading its samples.

Nothing here imports Keras, scikit-learn or SciPy, so that a misspelt column is told at once.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.config.families import Family
from app.config.reading_config import ReadingConfig
from app.errors import DataError
from app.system.data_folders import find_data, where_looked
from app.system.user_code import is_reference
from models.checks import suggest
from serving.errors import either
from serving.frames import is_table

from .file_names import check_names
from .tables import (
    SUFFIXES,
    check_columns,
    holds_table,
    list_shards,
    open_table,
    suggest_shards,
)

# File of a folder of arrays that says what they are.
ARRAY_FACTS = "arrays.json"
# Name of the folder into which arrays of Python code are written.
OWN_ARRAYS = "arrays"
# Joins sources that are used as one, such as mnist.npz+digits8x8.
JOIN = "+"
# Settings that apply to tables only.
_OF_TABLES = ("target", "categorical", "drop", "keep", "image_column")
# Suffixes of files that are no tables.
_ARRAYS = (".npz", ".data")


@dataclass(frozen=True)
class NamedSource:
    """A data source that is known by its name.

    Attributes:
        kind: `rows` or `images`.
        task: `multiclass` or `regression`.
    """

    kind: str
    task: str = "multiclass"


NAMED = {
    "digits8x8": NamedSource("images"),
    "iris": NamedSource("rows"),
    "wine": NamedSource("rows"),
    "breast_cancer": NamedSource("rows"),
    "diabetes": NamedSource("rows", "regression"),
    "linnerud": NamedSource("rows", "regression"),
    "mnist": NamedSource("images"),
}


def parts_of(source: str) -> list[str]:
    """Return the sources that a source consists of: names, and the paths of those that are found.

    Raises:
        DataError: a source has no name, or is a DataFrame.
    """
    if is_table(source):
        raise DataError(
            "A DataFrame can only be given to app.runs.train. "
            f"Received: {type(source).__name__}. Write it to a .csv or .parquet file."
        )
    found = source if source in NAMED else find_data(source)
    if found and os.path.exists(found):  # noqa: PTH110 - a path may have the sign that joins sources
        parts = [found]
    else:
        parts = [part if part in NAMED else find_data(part) for part in source.split(JOIN)]
    if not all(parts):
        raise DataError(f"A data source must have a name. Received: {source!r}.")
    check_names(parts)
    return parts


def is_array_folder(source: str) -> bool:
    """Return whether a path is a folder of arrays, see `app.data.array_folders`."""
    return os.path.isfile(os.path.join(source, ARRAY_FACTS))  # noqa: PTH113, PTH118


def is_code(source: Any) -> bool:
    """Return whether a source is a reference to a function that returns data."""
    return is_reference(source) and not os.path.exists(source)  # noqa: PTH110


def kind_of_source(source: str, reading: ReadingConfig) -> str:
    """Return what a source is: `named`, `code`, `folder`, `arrays`, `table`, or a file's suffix.

    Args:
        source: a single source, see `app.data.sources.load_dataset`.
        reading: settings for what the source itself does not specify.

    Raises:
        DataError: the source is unknown or does not exist, or a setting of tables is given for
            another source.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    may_be_table = is_code(source) or holds_table(source)  # a function may return a table
    for name in () if may_be_table else _OF_TABLES:
        if value := getattr(reading, name):
            given = value if isinstance(value, str) else ",".join(value)
            raise DataError(
                f"{name} applies to tables only, {either(SUFFIXES)}. "
                f"Received: {name}={given} for {source}.{suggest_shards(path)}"
            )
    if source in NAMED:
        return "named"
    if is_code(source):
        return "code"
    if os.path.isdir(source):  # noqa: PTH112 - pathlib raises where a name is too long for a file
        return _kind_of_folder(source, reading)
    is_unknown = suffix not in (*SUFFIXES, *_ARRAYS)
    if is_unknown and len(path.parts) > 1 and not os.path.exists(source):  # noqa: PTH110
        raise DataError(f"The data source does not exist. Received: {path}.{where_looked(source)}")
    if is_unknown:
        raise DataError(
            f"A data source must be one of {', '.join(NAMED)}, a folder of images, or a file that "
            f"ends in {', '.join(SUFFIXES)}, {' or '.join(_ARRAYS)}. "
            f"Received: {source!r}.{suggest(source, NAMED)}{where_looked(source)}"
        )
    if not os.path.isfile(source):  # noqa: PTH113
        raise DataError(
            "The data source does not exist or is not a file. "
            f"Received: {path}.{where_looked(source)}"
        )
    return "table" if suffix in SUFFIXES else suffix


def _kind_of_folder(source: str, reading: ReadingConfig) -> str:
    if is_array_folder(source):
        return "arrays"
    if not list_shards(Path(source)):
        return "folder"
    if not reading.image_column:
        raise DataError(
            "A folder of parquet files must hold images: --image-column COLUMN. "
            f"Received: {source}, and no column. To learn from rows, give a file."
        )
    return "table"


def check_source(source: str, reading: ReadingConfig, family: Family) -> None:
    """Check a source before its samples are read: its name, its folders, the header of a table.

    Raises:
        DataError: the source is unknown, does not exist, or does not suit the family; a column that
            is named is not there; or a folder has no classes.
    """
    for part in parts_of(source):
        kind = kind_of_source(part, reading)
        if kind in ("arrays", "code"):
            continue
        holds_rows = kind == "table" and not reading.image_column
        if kind == "named":
            holds_rows = NAMED[part].kind == "rows"
        family.check_kind("rows" if holds_rows else "images", part)
        if kind == "folder":
            from .image_lists import check_image_folder  # which needs numpy and Pillow

            check_image_folder(Path(part))
        elif kind == "table":
            table = open_table(Path(part))
            check_columns(table, reading)
            if reading.image_column:
                from .image_tables import check_first_paths

                check_first_paths(table, reading)
