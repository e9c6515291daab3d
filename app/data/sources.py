"""Reads a data source, named or by path, into a `Dataset`."""

import contextlib
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np
import sklearn.datasets

from app.errors import DataError
from models.checks import suggest
from models.digits import IMAGE_SIDE
from serving.images import resize_grey

from .datasets import Dataset

SEMEION_SIDE = 16


def load_dataset(source: str) -> Dataset:
    """Read a data source.

    Args:
        source: a name out of `NAMED`, the path of an `.npz` in the layout of
            `keras.datasets.mnist`, or the path of a Semeion text file (`.data`). Images of
            another size than 28x28 are brought to it by `serving.images.resize_grey`.

    Raises:
        DataError: the source is unknown, unreadable, or lacks what it must hold.
    """
    if source in NAMED:
        return NAMED[source](source)
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"A data source must be one of {', '.join(NAMED)}, or a file that ends in "
            f"{' or '.join(_READERS)}. Received: {source!r}.{suggest(source, NAMED)}"
        )
    if not path.is_file():
        raise DataError(f"A data source given by path must be a file. Received: {path}, no file.")
    return reader(path)


def _rows(load: Callable[[], Any]) -> Callable[[str], Dataset]:
    def read(source: str) -> Dataset:
        bunch = load()
        return Dataset(
            source=source,
            inputs=bunch.data.astype(np.float32),
            targets=bunch.target.astype(np.int64),
            labels=tuple(str(name) for name in bunch.target_names),
            columns=tuple(bunch.feature_names),
        )

    return read


def _digits8x8(source: str) -> Dataset:
    bunch = sklearn.datasets.load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 17 levels of ink
    return _digit_images(source, images, bunch.target)


def _mnist(source: str) -> Dataset:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras reports the download there
            (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as error:  # the download raises plain Exception
        raise DataError(
            f"mnist must be downloadable, or pass the path of mnist.npz. Received: {error}."
        ) from None
    return _joined(source, x_train, y_train, x_test, y_test)


def _read_mnist_npz(path: Path) -> Dataset:
    try:
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
        raise DataError(f"{path} must be an .npz of plain arrays. Received: {error}.") from None
    expected = ("x_train", "y_train", "x_test", "y_test")
    missing = [name for name in expected if name not in arrays]
    if missing:
        found = ", ".join(arrays) or "none"
        raise DataError(
            f"{path} must hold the arrays {', '.join(expected)}. "
            f"Received: {found}; {missing[0]} is missing."
        )
    return _joined(str(path), *(arrays[name] for name in expected))


def _joined(
    source: str, x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> Dataset:
    for name, images, targets in (("train", x_train, y_train), ("test", x_test, y_test)):
        if images.dtype != np.uint8 or images.ndim != 3:
            raise DataError(
                f"x_{name} of {source} must be uint8 (samples, height, width). "
                f"Received: {images.dtype} {images.shape}."
            )
        if not len(images):
            raise DataError(f"x_{name} of {source} must hold at least one image. Received: none.")
        if targets.dtype.kind not in "iu" or targets.shape != images.shape[:1]:
            raise DataError(
                f"y_{name} of {source} must be whole numbers of shape {images.shape[:1]}. "
                f"Received: {targets.dtype} {targets.shape}."
            )
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"x_train and x_test of {source} must have images of one size. "
            f"Received: {x_train.shape[1:]} and {x_test.shape[1:]}."
        )
    images, targets = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    return _digit_images(source, images, targets, test_start=len(x_train))


def _read_semeion(path: Path) -> Dataset:
    pixels = SEMEION_SIDE * SEMEION_SIDE
    try:
        lines = path.read_text("utf-8").splitlines() or ["empty"]
        table = np.loadtxt(lines, dtype=np.float32, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be a table of numbers. Received: {error}.") from None
    if table.shape[1] != pixels + 10:
        raise DataError(
            f"{path} must have {pixels} pixels and 10 labels a line, as Semeion has. "
            f"Received: {table.shape[1]} columns."
        )
    is_one_hot = (table[:, pixels:].sum(axis=1) == 1) & np.isin(table, (0, 1)).all(axis=1)
    if not is_one_hot.all():
        line = int(np.argmin(is_one_hot)) + 1
        raise DataError(f"{path} must have pixels 0 or 1 and one label 1. Received: line {line}.")
    images = (255 * table[:, :pixels]).astype(np.uint8).reshape(-1, SEMEION_SIDE, SEMEION_SIDE)
    return _digit_images(str(path), images, table[:, pixels:].argmax(axis=1))


def _digit_images(
    source: str, images: np.ndarray, targets: np.ndarray, test_start: int | None = None
) -> Dataset:
    if targets.min() < 0 or targets.max() > 999:
        raise DataError(
            f"The labels of {source} must be whole numbers from 0 to 999. "
            f"Received: {targets.min()} to {targets.max()}."
        )
    if images.shape[1:] != (IMAGE_SIDE, IMAGE_SIDE):
        images = np.stack([resize_grey(image, (IMAGE_SIDE, IMAGE_SIDE)) for image in images])
    return Dataset(
        source=source,
        inputs=images,
        targets=targets.astype(np.int64),
        labels=tuple(str(digit) for digit in range(max(2, int(targets.max()) + 1))),
        test_start=test_start,
    )


NAMED: dict[str, Callable[[str], Dataset]] = {
    "digits8x8": _digits8x8,
    "iris": _rows(sklearn.datasets.load_iris),
    "wine": _rows(sklearn.datasets.load_wine),
    "breast_cancer": _rows(sklearn.datasets.load_breast_cancer),
    "mnist": _mnist,
}
_READERS: dict[str, Callable[[Path], Dataset]] = {".npz": _read_mnist_npz, ".data": _read_semeion}
