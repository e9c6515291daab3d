"""Finds the files of a job by its pattern and chooses those that its model can read."""

import glob
import importlib.util
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from app.errors import BatchError
from app.system.data_folders import data_folders, find_data, where_looked
from app.system.hidden_files import is_hidden
from serving.array_files import ARCHIVE, ARRAY
from serving.errors import InputError, first_few
from serving.images import IMAGE_SUFFIXES, read_header
from serving.inputs import image_shape, takes_images
from serving.manifest import Manifest
from serving.named_columns import TEXTS, takes_named_columns, takes_texts

PARQUET, CSV = ".parquet", (".csv", ".tsv")
_TABLES = (*CSV, PARQUET)


def find_files(wanted: str | Sequence[str]) -> list[str]:
    """Return the files of a job, each once.

    Relative paths and patterns are looked for in the working folder, then in the folders of
    HORNBILL_DATA.

    Args:
        wanted: a pattern, whose files are sorted; `**` stands for folders of any depth. A folder
            stands for all files in it. Or paths.

    Raises:
        BatchError: the pattern matches no file, or paths are no files.
    """
    return _matching(wanted) if isinstance(wanted, str) else _existing(wanted)


def _existing(paths: Sequence[str]) -> list[str]:
    found = [find_data(name) for name in paths]
    missing = [name for name in found if not Path(name).is_file()]
    if missing:
        raise BatchError(
            f"Each FILE must be a file that exists. Received: {first_few(missing)}."
            f"{where_looked(missing[0])}"
        )
    return list(dict.fromkeys(found))


def files_given_twice(files: Sequence[str]) -> str:
    """Return a sentence that names the files that are given more than once; empty if none is."""
    twice = [name for name, count in Counter(files).items() if count > 1]
    return f"Given more than once, and predicted once: {first_few(twice)}." if twice else ""


def _matching(pattern: str) -> list[str]:
    # Joined with an absolute pattern, a folder changes nothing.
    for place in (pattern, *(os.path.join(glob.escape(str(f)), pattern) for f in data_folders())):
        every = os.path.join(glob.escape(place), "**") if Path(place).is_dir() else place
        # A pattern with two `**` finds the same file several times.
        if files := {name for name in glob.iglob(every, recursive=True) if _is_for_job(name)}:
            return sorted(files)
    raise BatchError(
        f"--input must match at least one file. Received: {pattern!r}, which matches none."
        f"{where_looked(pattern)}"
    )


def _is_for_job(name: str) -> bool:
    """Return whether a name is that of a file, or of a link to none, which is told as an error."""
    path = Path(name)
    is_file = path.is_file() or (path.is_symlink() and not path.exists())
    return is_file and not is_hidden(path.name)


def choose_files(
    wanted: str | Sequence[str], manifest: Manifest, key: str | None
) -> tuple[list[str], list[str]]:
    """Return the files of a job that its model can read, and those of a folder beside them.

    People keep lists and notes beside their images, so that a folder stands for the files that the
    model can read, and for no table beside images, which may name the same ones. A pattern or a
    path names a file, which is refused if the model cannot read it.

    Args:
        wanted: see `find_files`.
        manifest: manifest of the model.
        key: column to copy; None copies none.

    Raises:
        BatchError: there are no such files, the model cannot read one, or a file has no columns for
            `key`.
        InputError: there are images, and the model does not accept images.
    """
    files = find_files(wanted)
    taken = _kinds_taken(manifest)
    takes_files = IMAGE_SUFFIXES[0] in taken
    others = [
        name
        for name in files
        if kind_of(name) not in taken and not (takes_files and _shows_image(name))
    ]
    is_folder = isinstance(wanted, str) and Path(find_data(wanted)).is_dir()
    if is_folder and takes_files and any(is_image(name) for name in set(files) - set(others)):
        others += [name for name in files if kind_of(name) in _TABLES and name not in others]
    if others and not (is_folder and len(others) < len(files)):
        raise BatchError(
            f"Files for {manifest.name} must end in {', '.join(taken)}. "
            f"Received: {first_few(others)}."
        )
    left_out = set(others)
    files = [name for name in files if name not in left_out]
    if any(map(is_image, files)):
        image_shape(manifest)
    without = [name for name in files if kind_of(name) not in _TABLES]
    if key is not None and without:
        raise BatchError(
            f"--key needs files with columns, {', '.join(_TABLES)}. Received: {first_few(without)}."
        )
    return files, others


def check_image_column(column: str | None, files: Sequence[str], manifest: Manifest) -> None:
    """Require tables of images where their column is named.

    Args:
        column: the column; None names none.
        files: files of a job.
        manifest: manifest of the model.

    Raises:
        BatchError: the model takes no images, or no file is a table.
    """
    if column is None:
        return
    if not takes_images(manifest):
        raise BatchError(
            f"--image-column needs a model of images. Received: {manifest.name}, which takes none."
        )
    if not any(kind_of(name) in _TABLES for name in files):
        raise BatchError(
            f"--image-column needs a table, {', '.join(_TABLES)}. Received: {first_few(files)}."
        )


def kind_of(name: str) -> str:
    """Return the suffix of a file's name in lower case, such as `.png`."""
    return Path(name).suffix.lower()


def is_image(name: str) -> bool:
    """Return whether a file of a job is an image, rather than one of rows or arrays."""
    return kind_of(name) not in (*_TABLES, TEXTS, ARRAY, ARCHIVE)


def _shows_image(name: str) -> bool:
    """Return whether a file of another name is an image, as one that ends in .jfif is."""
    if not is_image(name):
        return False
    try:
        read_header(name)
    except InputError:
        return False
    return True


def _kinds_taken(manifest: Manifest) -> tuple[str, ...]:
    has_one_array = len(manifest.inputs) == 1 and manifest.inputs[0].dtype != "string"
    arrays = (ARRAY, ARCHIVE) if has_one_array else (ARCHIVE,)
    if manifest.columns or manifest.string_columns:
        return (*_TABLES, *arrays)
    if takes_named_columns(manifest):
        return (*CSV, *([TEXTS] if takes_texts(manifest) else []), *arrays)
    tables = _TABLES if takes_images(manifest) else ()
    return (*IMAGE_SUFFIXES, *tables, *arrays) if has_one_array else arrays


def require_pyarrow(files: Sequence[str]) -> None:
    """Raise `ModuleNotFoundError` if a file is parquet, and pyarrow is not installed."""
    has_tables = any(kind_of(name) == PARQUET for name in files)
    if has_tables and importlib.util.find_spec("pyarrow") is None:
        raise ModuleNotFoundError("Parquet files need pyarrow.", name="pyarrow")
