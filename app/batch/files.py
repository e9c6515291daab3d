"""Finds the files of a job by its pattern and checks that its model can read them."""

import glob
from collections.abc import Sequence
from pathlib import Path

from app.errors import BatchError
from serving.images import IMAGE_SUFFIXES
from serving.inputs import image_shape
from serving.manifest import Manifest, describe_spec

ARRAY, TABLE = ".npy", ".parquet"


def find_files(pattern: str) -> list[str]:
    """Return the files that a pattern matches, sorted; `**` stands for folders of any depth.

    Raises:
        BatchError: the pattern matches no file.
    """
    # A pattern with two `**` finds the same file several times.
    files = sorted({name for name in glob.iglob(pattern, recursive=True) if Path(name).is_file()})
    if not files:
        raise BatchError(
            f"--input must match at least one file. Received: {pattern!r}, which matches none."
        )
    return files


def check_kinds(files: Sequence[str], manifest: Manifest, key: str | None) -> None:
    """Require files that the model can read.

    Raises:
        BatchError: the model cannot read a file, or a file has no columns for `key`.
        InputError: there are images, and the model does not accept images.
    """
    taken = _kinds_taken(manifest)
    wrong = [name for name in files if kind_of(name) not in taken]
    if wrong:
        is_csv = TABLE in taken and kind_of(wrong[0]) == ".csv"
        hint = " Predict CSV files without --input: hornbill predict BUNDLE FILE…" if is_csv else ""
        raise BatchError(
            f"Files for {manifest.name} must end in {', '.join(taken)}. Received: {wrong[0]}.{hint}"
        )
    if any(kind_of(name) in IMAGE_SUFFIXES for name in files):
        image_shape(manifest)
    without = [name for name in files if kind_of(name) != TABLE]
    if key is not None and without:
        raise BatchError(f"--key needs files with columns, {TABLE}. Received: {without[0]}.")


def kind_of(name: str) -> str:
    """Return the suffix of a file's name in lower case, such as `.png`."""
    return Path(name).suffix.lower()


def _kinds_taken(manifest: Manifest) -> tuple[str, ...]:
    has_one_array = len(manifest.inputs) == 1 and manifest.inputs[0].dtype != "string"
    arrays = (ARRAY,) if has_one_array else ()
    if manifest.columns or manifest.string_columns:
        return (TABLE, *arrays)
    if not arrays:
        raise BatchError(
            "A batch job needs a model that takes columns or a single array. Received: "
            f"{manifest.name}, which takes {', '.join(map(describe_spec, manifest.inputs))}."
        )
    return (*IMAGE_SUFFIXES, *arrays)
