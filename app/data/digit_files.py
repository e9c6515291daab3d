"""Reads handwritten digits from files: archives in the layout of MNIST, and Semeion's text file."""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

import numpy as np

from app.errors import DataError
from serving.errors import cannot_read

from .datasets import Dataset
from .image_lists import SPLITS

SEMEION_SIDE = 16


def read_npz(path: Path) -> Dataset:
    """Read an `.npz` in the layout of `keras.datasets.mnist`, or with validation arrays as well.

    Raises:
        DataError: the file cannot be read, an array is missing or of the wrong form, or there are
            validation arrays of several names.
    """
    try:
        if not is_zipfile(path):
            raise ValueError(_why_no_archive(path))
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (
        OSError,
        ValueError,
        EOFError,
        TypeError,
        AttributeError,
        BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(cannot_read(path, error, "an .npz of plain arrays")) from None
    validation = [name for name in SPLITS["validation"] if f"x_{name}" in arrays]
    if len(validation) > 1:
        raise DataError(
            f"{path} must have one validation split. Received: x_{' and x_'.join(validation)}."
        )
    has_test = "x_test" in arrays or "y_test" in arrays
    splits = ("train", *validation, *(("test",) if has_test else ()))
    expected = [f"{kind}_{split}" for split in splits for kind in ("x", "y")]
    missing = [name for name in expected if name not in arrays]
    if missing:
        found = ", ".join(arrays) or "none"
        raise DataError(
            f"{path} must hold the arrays {', '.join(expected)}. "
            f"Received: {found}; {missing[0]} is missing."
        )
    return joined_arrays(
        str(path), {split: (arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in splits}
    )


def _why_no_archive(path: Path) -> str:
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"  # its end, where zip lists the files, is missing
    return "the file is damaged or cut off" if is_archive else "a file of another kind"


def joined_arrays(source: str, splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Dataset:
    """Return a data set from arrays of images and their labels.

    Args:
        source: name of the source.
        splits: images and labels of each split by its name: training first, then perhaps
            validation, and perhaps `test` at the end.

    Raises:
        DataError: the arrays are not images with their labels.
    """
    splits = {name: (x, _without_axis(y)) for name, (x, y) in splits.items()}
    for name, (images, targets) in splits.items():
        is_shape = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
        if images.dtype != np.uint8 or not is_shape:
            raise DataError(
                f"x_{name} of {source} must be uint8 (samples, height, width), or with 1 or 3 "
                f"channels at the end. Received: {images.dtype} {images.shape}."
            )
        if not len(images):
            raise DataError(f"x_{name} of {source} must hold at least one image. Received: none.")
        if targets.dtype.kind not in "iu" or targets.shape != images.shape[:1]:
            raise DataError(
                f"y_{name} of {source} must be whole numbers of shape {images.shape[:1]}. "
                f"Received: {targets.dtype} {targets.shape}. Labels, values and texts need a table "
                "of image paths, or arrays that Python code passes."
            )
    starts, count, (x_train, _) = {}, 0, splits["train"]
    for name, (images, _) in splits.items():
        if images.shape[1:] != x_train.shape[1:]:
            raise DataError(
                f"x_train and x_{name} of {source} must have images of one size. "
                f"Received: {x_train.shape[1:]} and {images.shape[1:]}."
            )
        starts[name] = count
        count += len(images)
    test_start = starts.pop("test", None)
    validation_start = next((start for name, start in starts.items() if name != "train"), None)
    images, targets = map(np.concatenate, zip(*splits.values(), strict=True))
    dataset = image_arrays(source, images, targets, test_start=test_start)
    return replace(dataset, validation_start=validation_start)


def read_semeion(path: Path) -> Dataset:
    """Read Semeion's text file. Each line has 16x16 pixels, ink 1, and the class as one-hot.

    Raises:
        DataError: the file has another form.
    """
    pixels = SEMEION_SIDE * SEMEION_SIDE
    try:
        lines = path.read_text("utf-8").splitlines()
        if not any(line.strip() for line in lines):
            raise ValueError("an empty file")
        table = np.loadtxt(lines, dtype=np.float32, ndmin=2)
    except (OSError, ValueError) as error:
        message = cannot_read(path, error, "a table of numbers")
        # numpy's message ends with advice for programmers.
        raise DataError(message.partition(";")[0].removesuffix(".") + ".") from None
    if table.shape[1] != pixels + 10:
        raise DataError(
            f"Each line of {path} must have {pixels} pixels and 10 labels, as in Semeion. "
            f"Received: {table.shape[1]} columns."
        )
    is_one_hot = (table[:, pixels:].sum(axis=1) == 1) & np.isin(table, (0, 1)).all(axis=1)
    if not is_one_hot.all():
        line = int(np.argmin(is_one_hot)) + 1
        raise DataError(
            f"Each line of {path} must have pixels 0 or 1 and one label 1. Received: line {line}."
        )
    images = (255 * table[:, :pixels]).astype(np.uint8).reshape(-1, SEMEION_SIDE, SEMEION_SIDE)
    return image_arrays(str(path), images, table[:, pixels:].argmax(axis=1))


def image_arrays(
    source: str, images: np.ndarray, targets: np.ndarray, test_start: int | None = None
) -> Dataset:
    """Return a data set of images, uint8 `(samples, height, width)` or with channels at the end.

    Raises:
        DataError: a label is out of range.
    """
    if targets.min() < 0 or targets.max() > 999:
        raise DataError(
            f"The labels of {source} must be whole numbers from 0 to 999. "
            f"Received: {targets.min()} to {targets.max()}."
        )
    return Dataset(
        source=source,
        inputs=images,
        targets=targets.astype(np.int64),
        labels=tuple(str(digit) for digit in range(max(2, int(targets.max()) + 1))),
        test_start=test_start,
    )


def _without_axis(targets: np.ndarray) -> np.ndarray:
    """Return targets without the second axis that those of `keras.datasets.cifar10` have."""
    return targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
