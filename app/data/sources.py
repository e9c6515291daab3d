"""Reads a data source, given by name or path, into a `Dataset`."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import sklearn.datasets

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from app.system.data_folders import VARIABLE, find_data, where_looked
from models.checks import suggest
from models.digits import IMAGE_SIDE
from serving.errors import reason_of
from serving.frames import is_table
from serving.images import resize
from serving.photographs import shows_ink

from .concatenation import join_datasets
from .datasets import Dataset, check_names
from .digit_files import image_arrays, joined_arrays, read_npz, read_semeion
from .image_folders import read_images
from .image_lists import list_image_folder
from .image_tables import list_image_table
from .scenes import LOOKED_AT, note_scenes
from .splits import some
from .table_reading import read_table
from .tables import SUFFIXES, open_table

# Joins sources that are used as one, such as mnist.npz+digits8x8.
JOIN = "+"


def load_dataset(
    source: str,
    reading: ReadingConfig | None = None,
    task: str = "multiclass",
    has_digits: bool = True,
    default_size: tuple[int, ...] = (),
) -> Dataset:
    """Read a data source.

    Args:
        source: a name in `NAMED`, or a path: an `.npz` in the layout of `keras.datasets.mnist`, a
            Semeion text file (`.data`), a `.csv` with a header, or a folder of images, see
            `app.data.image_lists.list_image_folder`. Relative paths are looked for in the working
            folder, then in the folders of HORNBILL_DATA. Several sources joined by `+` are used as
            one.
        reading: settings for what the source itself does not specify.
        task: task of the model: `multiclass`, `multilabel` or `regression`.
        has_digits: whether images show digits. They become gray 28x28 images; large files are
            read as photographs and cut to the digit, as `serving.inputs.read_model_image` does.
            Other images keep their color and get a channel axis.
        default_size: height and width of images if `reading` sets none; empty chooses the size.

    Raises:
        DataError: the source is unknown, cannot be read, or lacks required content.
    """
    reading = reading or ReadingConfig()
    if is_table(source):
        raise DataError(
            "A DataFrame can only be given to app.runs.train. "
            f"Received: {type(source).__name__}. Write it to a .csv or .parquet file."
        )
    parts = _parts(source)
    if not all(parts):
        raise DataError(f"A data source must have a name. Received: {source!r}.")
    check_names([source])
    if len(parts) > 1:
        return join_datasets(
            source, [load_dataset(part, reading, task, has_digits, default_size) for part in parts]
        )
    sized = reading if reading.image_size else replace(reading, image_size=default_size)
    dataset = _read(parts[0], sized, task, has_digits)
    if dataset.kind == "rows" and reading.image_size:
        raise DataError(f"image_size applies to images only. Received: {source}, which holds rows.")
    return _in_shape(dataset, sized, has_digits)


def _read(source: str, reading: ReadingConfig, task: str, has_digits: bool) -> Dataset:
    path = Path(source)
    is_table = path.suffix.lower() in SUFFIXES
    for name in () if is_table else ("target", "categorical", "drop", "keep", "image_column"):
        if value := getattr(reading, name):
            given = value if isinstance(value, str) else ",".join(value)
            raise DataError(
                f"{name} applies to tables only, {' or '.join(SUFFIXES)}. "
                f"Received: {name}={given} for {source}."
            )
    if source in NAMED:
        return NAMED[source](source)
    if os.path.isdir(source):  # noqa: PTH112 - pathlib raises where a name is too long for a file
        return read_images(list_image_folder(path), reading, has_digits)
    reader = _READERS.get(path.suffix.lower())
    if reader is None and not is_table:
        raise DataError(
            f"A data source must be one of {', '.join(NAMED)}, a folder of images, or a file that "
            f"ends in {', '.join(SUFFIXES)}, {' or '.join(_READERS)}. "
            f"Received: {source!r}.{suggest(source, NAMED)}{where_looked(source)}"
        )
    if not os.path.isfile(source):  # noqa: PTH113
        raise DataError(
            "The data source does not exist or is not a file. "
            f"Received: {path}.{where_looked(source)}"
        )
    if reader:
        return reader(path)
    if reading.image_column:
        return read_images(list_image_table(open_table(path), reading, task), reading, has_digits)
    return read_table(open_table(path), reading, task)


def _in_shape(dataset: Dataset, reading: ReadingConfig, has_digits: bool) -> Dataset:
    """Return the data set with images in the shape that the family takes."""
    images = dataset.inputs
    if dataset.kind == "rows" or not isinstance(images, np.ndarray):  # decoded in that shape
        return dataset
    if has_digits and images.ndim > 3:
        raise DataError(
            "The family 'digits' takes gray images. "
            f"Received: {dataset.source}, with {images.shape[3]} channels. Use the family "
            "'features'."
        )
    notes = dataset.notes
    if has_digits:
        notes += note_scenes(dataset.source, _show_ink(images))
    size = (IMAGE_SIDE, IMAGE_SIDE) if has_digits else reading.image_size or images.shape[1:3]
    size = size[0], size[-1]
    if images.shape[1:3] != size:
        images = np.stack([resize(image, size) for image in images])
    if not has_digits and images.ndim == 3:
        images = images[..., np.newaxis]
    return replace(dataset, inputs=images, notes=notes)


def _show_ink(images: np.ndarray) -> list[bool]:
    return [shows_ink(images[index]) for index in some(len(images), LOOKED_AT)]


def absolute_source(source: str) -> str:
    """Return `source` with absolute paths, so that it is found from any folder.

    Symbolic links are kept, because their targets may lack the suffix that tells the format.
    """
    parts = [part if part in NAMED else str(Path(part).absolute()) for part in _parts(source)]
    if len(parts) > 1 and any(JOIN in part for part in parts):
        raise DataError(
            f"Joined sources must be in folders without {JOIN!r} in their names. Received: {parts}."
        )
    return JOIN.join(parts)


def bare_source(source: str) -> str:
    """Return `source` without its folders, which are private to this machine."""
    return JOIN.join(Path(part).name for part in _parts(source))


def _parts(source: str) -> list[str]:
    """Return the names of joined sources, and the paths of those that are found."""
    if source in NAMED:
        return [source]
    found = find_data(source)
    if os.path.exists(found):  # noqa: PTH110 - a path may have the sign that joins sources
        return [found]
    return [part if part in NAMED else find_data(part) for part in source.split(JOIN)]


def _rows(load: Callable[[], Any], task: str = "multiclass") -> Callable[[str], Dataset]:
    def read(source: str) -> Dataset:
        bunch = load()
        is_classes = task == "multiclass"
        targets = bunch.target if is_classes else bunch.target.reshape(len(bunch.data), -1)
        names = getattr(bunch, "target_names", (source,))
        return Dataset(
            source=source,
            inputs=bunch.data.astype(np.float32),
            targets=targets.astype(np.int64 if is_classes else np.float32),
            task=task,
            labels=tuple(str(name) for name in names),
            columns=tuple(bunch.feature_names),
        )

    return read


@functools.cache  # scikit-learn parses a compressed text file
def _digits8x8(source: str) -> Dataset:
    bunch = sklearn.datasets.load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 17 levels of ink
    dataset = image_arrays(source, images, bunch.target)
    for array in (dataset.inputs, dataset.targets):
        np.asarray(array).setflags(write=False)  # all callers share them
    return dataset


def _mnist(source: str) -> Dataset:
    if (found := Path(find_data("mnist.npz"))).is_file():
        return replace(read_npz(found), source=source)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras reports the download there
            (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as error:  # the download raises plain Exception
        raise DataError(
            f"mnist cannot be downloaded: {reason_of(error)}. Put mnist.npz into a folder that "
            f"{VARIABLE} names.{where_looked('mnist.npz')}"
        ) from None
    return joined_arrays(source, x_train, y_train, x_test, y_test)


NAMED: dict[str, Callable[[str], Dataset]] = {
    "digits8x8": _digits8x8,
    "iris": _rows(sklearn.datasets.load_iris),
    "wine": _rows(sklearn.datasets.load_wine),
    "breast_cancer": _rows(sklearn.datasets.load_breast_cancer),
    "diabetes": _rows(sklearn.datasets.load_diabetes, "regression"),
    "linnerud": _rows(sklearn.datasets.load_linnerud, "regression"),
    "mnist": _mnist,
}
_READERS: dict[str, Callable[[Path], Dataset]] = {".npz": read_npz, ".data": read_semeion}
