"""Reads a data source, given by name or path, into a `Dataset`."""

import contextlib
import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from app.system.data_folders import VARIABLE, find_data, where_looked
from models.config.digits import IMAGE_SIDE
from serving.errors import reason_of
from serving.images import fit_and_pad
from serving.photographs import shows_ink

from .array_folders import read_array_folder
from .concatenation import join_datasets
from .datasets import Dataset
from .digit_files import image_arrays, joined_arrays, read_npz, read_semeion
from .image_folders import read_images
from .image_lists import list_image_folder
from .image_tables import list_image_table
from .scenes import LOOKED_AT, note_scenes
from .source_kinds import JOIN, NAMED, kind_of_source, parts_of
from .splits import some
from .table_reading import read_table
from .tables import open_table


def load_dataset(
    source: str,
    reading: ReadingConfig | None = None,
    task: str = "multiclass",
    has_digits: bool = True,
    default_size: tuple[int, ...] = (),
) -> Dataset:
    """Read a data source.

    Args:
        source: a name in `app.data.source_kinds.NAMED`, or a path: an `.npz` in the layout of
            `keras.datasets.mnist`, a Semeion text file (`.data`), a `.csv` with a header, or a
            folder of images, see `app.data.image_lists.list_image_folder`, or of arrays, see
            `app.data.array_folders`. Relative paths are looked for in the working folder, then in
            the folders of HORNBILL_DATA. Several sources joined by `+` are used as one.
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
    parts = parts_of(source)
    if len(parts) > 1:
        return join_datasets(
            source,
            [load_dataset(part, reading, task, has_digits, default_size) for part in parts],
            are_names=bool({*reading.target} & {*reading.categorical}),
        )
    sized = reading if reading.image_size else replace(reading, image_size=default_size)
    dataset = _read(parts[0], sized, task, has_digits)
    if dataset.kind != "images" and reading.image_size:
        raise DataError(
            f"image_size applies to images only. Received: {source}, which holds {dataset.kind}."
        )
    return _in_shape(dataset, sized, has_digits)


def _read(source: str, reading: ReadingConfig, task: str, has_digits: bool) -> Dataset:
    kind, path = kind_of_source(source, reading), Path(source)
    if kind == "named":
        return _read_named(source)
    if kind == "arrays":
        return read_array_folder(source, task)
    if kind == "folder":
        return read_images(list_image_folder(path), reading, has_digits)
    if kind != "table":
        return _READERS[kind](path)
    if reading.image_column:
        return read_images(list_image_table(open_table(path), reading, task), reading, has_digits)
    return read_table(open_table(path), reading, task)


def _in_shape(dataset: Dataset, reading: ReadingConfig, has_digits: bool) -> Dataset:
    """Return the data set with images in the shape that the family takes."""
    images = dataset.inputs
    if dataset.kind != "images" or not isinstance(images, np.ndarray):  # decoded in that shape
        return dataset
    if images.shape[3:] == (1,):
        images = images[..., 0]
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
        images = np.stack([fit_and_pad(image, size) for image in images])
    if not has_digits and images.ndim == 3:
        images = images[..., np.newaxis]
    return replace(dataset, inputs=images, notes=notes)


def _show_ink(images: np.ndarray) -> list[bool]:
    return [shows_ink(images[index]) for index in some(len(images), LOOKED_AT)]


def absolute_source(source: str) -> str:
    """Return `source` with absolute paths, so that it is found from any folder.

    Symbolic links are kept, because their targets may lack the suffix that tells the format.
    """
    parts = [part if part in NAMED else str(Path(part).absolute()) for part in parts_of(source)]
    if len(parts) > 1 and any(JOIN in part for part in parts):
        raise DataError(
            f"Joined sources must be in folders without {JOIN!r} in their names. Received: {parts}."
        )
    return JOIN.join(parts)


def bare_source(source: str) -> str:
    """Return `source` without its folders, which are private to this machine."""
    return JOIN.join(Path(part).name for part in parts_of(source))


def _read_named(source: str) -> Dataset:
    if source == "mnist":
        return _mnist(source)
    return _digits8x8(source) if source == "digits8x8" else _rows(source)


def _rows(source: str) -> Dataset:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{source}")()
    is_classes = NAMED[source].task == "multiclass"
    targets = bunch.target if is_classes else bunch.target.reshape(len(bunch.data), -1)
    names = getattr(bunch, "target_names", (source,))
    return Dataset(
        source=source,
        inputs=bunch.data.astype(np.float32),
        targets=targets.astype(np.int64 if is_classes else np.float32),
        task=NAMED[source].task,
        labels=tuple(str(name) for name in names),
        columns=tuple(bunch.feature_names),
    )


@functools.cache  # scikit-learn parses a compressed text file
def _digits8x8(source: str) -> Dataset:
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 17 levels of ink
    dataset = image_arrays(source, images, bunch.target)
    for array in (dataset.inputs, dataset.targets):
        np.asarray(array).setflags(write=False)  # all callers share them
    return dataset


def _mnist(source: str) -> Dataset:
    if (found := Path(find_data("mnist.npz"))).is_file():
        return replace(read_npz(found), source=source)
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras reports the download there
            train, test = keras.datasets.mnist.load_data()
    except Exception as error:  # the download raises plain Exception
        raise DataError(
            f"mnist cannot be downloaded: {reason_of(error)}. Put mnist.npz into a folder that "
            f"{VARIABLE} names.{where_looked('mnist.npz')}"
        ) from None
    return joined_arrays(source, {"train": train, "test": test})


_READERS: dict[str, Callable[[Path], Dataset]] = {".npz": read_npz, ".data": read_semeion}
