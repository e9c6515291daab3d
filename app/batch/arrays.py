"""Reads .npy, .npz and image files as rows."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from serving.array_files import open_array, read_model_arrays
from serving.checking import check_inputs
from serving.errors import InputError
from serving.inputs import read_model_image
from serving.manifest import Manifest
from serving.spreading import spread

from .rows import Rows, find_not_finite, row_ids, rows_at_once, rows_of, set_aside


def read_array(path: str, manifest: Manifest) -> Iterator[Rows]:
    """Yield the rows of a .npy file in pieces; its first axis is the batch.

    Raises:
        InputError: the file is not a .npy file, is cut off, or does not have the model's dtype and
            shape.
    """
    array = open_array(path)
    (spec,) = manifest.inputs
    if array.ndim == 0 or len(array):  # an array without rows needs no check
        check_inputs({spec.name: array}, manifest.inputs)
    step = rows_of(math.prod(array.shape[1:]))  # the model's axes may be variable
    for start in range(0, len(array), step):
        inputs = {spec.name: np.array(array[start : start + step])}
        ids = row_ids(path, range(start, min(start + step, len(array))))
        yield set_aside(Rows(ids, inputs), find_not_finite(inputs, manifest, start))


def read_arrays(path: str, manifest: Manifest) -> Iterator[Rows]:
    """Yield the rows of an `.npz` file, which has an array for each input of the model, in pieces.

    Raises:
        InputError: the file cannot be read, lacks an array, or its arrays do not suit the model.
    """
    arrays = read_model_arrays(path, manifest)
    check_inputs(arrays, manifest.inputs)
    count = len(next(iter(arrays.values())))
    step = rows_of(sum(math.prod(array.shape[1:]) for array in arrays.values()))
    for start in range(0, count, step):
        inputs = {name: array[start : start + step] for name, array in arrays.items()}
        ids = row_ids(path, range(start, min(start + step, count)))
        yield set_aside(Rows(ids, inputs), find_not_finite(inputs, manifest, start))


def read_images(paths: Sequence[str], manifest: Manifest, threads: int = 1) -> Iterator[Rows]:
    """Yield images, which `threads` threads decode; each is row 0 of its file."""
    step = rows_at_once(manifest)
    for start in range(0, len(paths), step):
        yield _read_together(paths[start : start + step], manifest, threads)


def _read_together(paths: Sequence[str], manifest: Manifest, threads: int) -> Rows:
    def read(index: int) -> np.ndarray | str:
        try:
            return read_model_image(paths[index], manifest)
        except InputError as error:
            return str(error)

    ids, images, failed = [], [], []
    for path, found in zip(paths, spread(read, len(paths), threads), strict=True):
        (row_id,) = row_ids(path, [0])
        if isinstance(found, str):
            failed.append((row_id, found))
        else:
            images.append(found)
            ids.append(row_id)
    inputs = {manifest.inputs[0].name: np.stack(images)} if images else {}
    return Rows(ids, inputs, failed)
