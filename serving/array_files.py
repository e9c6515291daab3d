"""Reads `.npy` and `.npz` files as the arrays that a model takes."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .checking import dtype_of
from .errors import InputError, cannot_read
from .manifest import Manifest, describe_spec

ARRAY, ARCHIVE = ".npy", ".npz"


def open_array(path: str | Path) -> np.ndarray:
    """Return the array of a `.npy` file, whose elements are read as they are needed.

    Raises:
        InputError: the file is not a `.npy` file of plain numbers, or is cut off.
    """
    try:
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy evaluates the header, which may be any text
        raise InputError(cannot_read(path, error, "an .npy file")) from None
    return array


def open_archive(path: str | Path) -> Any:
    """Return an open `.npz` file, from its names to its arrays.

    Raises:
        InputError: the file is not an `.npz` file.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if not hasattr(found, "files"):
            raise ValueError("a file of another kind")
    except Exception as error:  # zip and numpy's header each raise their own
        raise InputError(cannot_read(path, error, "an .npz file of plain arrays")) from None
    return found


def read_archive(path: str | Path, names: Sequence[str]) -> list[np.ndarray]:
    """Return arrays of an `.npz` file.

    Raises:
        InputError: one is missing, damaged, or holds Python objects.
    """
    try:
        with open_archive(path) as archive:
            return [archive[name] for name in names]
    except InputError:
        raise
    except Exception as error:  # see above
        raise InputError(cannot_read(path, error, "an .npz file of plain arrays")) from None


def read_model_arrays(
    path: str | Path, manifest: Manifest, others: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Return the arrays of an `.npz` file that a model takes, by the name of its input.

    A single array belongs to the only input of a model, whatever its name.

    Args:
        path: path of the file.
        manifest: manifest of the model.
        others: names of arrays that are no inputs, such as targets.

    Raises:
        InputError: the file cannot be read, or lacks an array.
    """
    with open_archive(path) as archive:
        found = [name for name in archive.files if name not in others]
    names = [spec.name for spec in manifest.inputs]
    keys = found if len(found) == len(names) == 1 else names
    absent = [key for key in keys if key not in found]
    if absent:
        raise InputError(
            f"{path} must hold an array for each input of {manifest.name}, "
            f"{', '.join(map(describe_spec, manifest.inputs))}. "
            f"Received: {', '.join(found) or 'none'}."
        )
    arrays = read_archive(path, keys)
    return cast_arrays(dict(zip(names, arrays, strict=True)), manifest)


def cast_arrays(arrays: dict[str, np.ndarray], manifest: Manifest) -> dict[str, np.ndarray]:
    """Return arrays in the dtypes of a model's inputs where they hold the same kind of value.

    Floats of any width, integers of any width, numbers for a model of floats, and texts are cast.
    Others are returned as they are, and refused by the model.
    """
    found = {}
    for spec in manifest.inputs:
        array, dtype = arrays[spec.name], np.dtype(dtype_of(spec))
        if spec.dtype == "string" and array.dtype.kind in "US":
            array = array.astype(str).astype(object)
        elif array.dtype.kind in "biuf" and dtype.kind in "iuf" and array.dtype != dtype:
            is_kept = dtype.kind == "f" or np.can_cast(array.dtype, dtype, "same_kind")
            is_kept = is_kept or (array.dtype.kind in "iu" and _fits(array, dtype))
            array = array.astype(dtype) if is_kept else array
        found[spec.name] = array
    return found


def _fits(array: np.ndarray, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return bool(not array.size or (limits.min <= array.min() and array.max() <= limits.max))
