"""Reads handwritten digits from files: archives in the layout of MNIST, and Semeion's text file."""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

import numpy as np

from app.errors import DataError
from serving.errors import cannot_read

from .datasets import MAX_CLASSES, Dataset
from .split_names import SPLITS

SEMEION_SIDE = 16
_CLASS_NAMES = "class_names"


def read_npz(path: Path) -> Dataset:
    """Read an `.npz` in the layout of `keras.datasets.mnist`, or with validation arrays as well.

    Labels may be texts. The array `class_names` gives classes their order, or numbers a name.

    Raises:
        DataError: the file cannot be read, an array is missing or of the wrong form, there are
            validation arrays of several names, or a class has no name among `class_names`.
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
    names = _class_names(str(path), arrays[_CLASS_NAMES]) if _CLASS_NAMES in arrays else ()
    return joined_arrays(
        str(path), {split: (arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in splits}, names
    )


def _why_no_archive(path: Path) -> str:
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"  # its end, where zip lists the files, is missing
    return "the file is damaged or cut off" if is_archive else "a file of another kind"


def joined_arrays(
    source: str,
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    names: tuple[str, ...] = (),
) -> Dataset:
    """Return a data set from arrays of images and their labels.

    Args:
        source: name of the source.
        splits: images and labels, whole numbers or texts, of each split by its name: training
            first, then perhaps validation, and perhaps `test` at the end.
        names: name of each class; empty if it is its number or text.

    Raises:
        DataError: the arrays are not images with their labels, or a class has no name.
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
        if targets.dtype.kind not in "iuSU" or targets.shape != images.shape[:1]:
            raise DataError(
                f"y_{name} of {source} must be whole numbers or texts of shape {images.shape[:1]}. "
                f"Received: {targets.dtype} {targets.shape}. Labels and values need a table of "
                "image paths, or arrays that Python code passes."
            )
    starts, count, (x_train, y_train) = {}, 0, splits["train"]
    for name, (images, targets) in splits.items():
        if _are_texts(targets) != _are_texts(y_train):
            raise DataError(
                f"y_train and y_{name} of {source} must both be whole numbers, or both texts. "
                f"Received: {y_train.dtype} and {targets.dtype}."
            )
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
    if _are_texts(targets):
        targets, names = _numbered(source, targets, names)
    dataset = image_arrays(source, images, targets, test_start, names)
    return replace(dataset, validation_start=validation_start)


def _class_names(source: str, array: np.ndarray) -> tuple[str, ...]:
    """Return the names of classes, which must be different texts."""
    if array.ndim != 1 or not _are_texts(array):
        raise DataError(
            f"{_CLASS_NAMES} of {source} must be texts (classes,). "
            f"Received: {array.dtype} {array.shape}."
        )
    names = tuple(_decoded(source, array).tolist())
    twice = [name for name in names if names.count(name) > 1]
    if twice or "" in names:
        received = f"{twice[0]!r} twice" if twice else "an empty one"
        raise DataError(
            f"{_CLASS_NAMES} of {source} must be different names. Received: {received}."
        )
    return names


def _numbered(
    source: str, texts: np.ndarray, names: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return texts as numbers of classes, int64 `(samples,)`, and the names of these.

    Args:
        source: name of the source.
        texts: texts or UTF-8 `(samples,)`.
        names: the order of the classes; empty takes that of the alphabet.
    """
    found, numbers = np.unique(_decoded(source, texts), return_inverse=True)
    classes = tuple(found.tolist())
    if "" in classes or not 2 <= len(classes) <= MAX_CLASSES:
        received = "an empty text" if "" in classes else f"{len(classes):,} different texts"
        raise DataError(
            f"The labels of {source} must be texts of 2 to {MAX_CLASSES:,} classes. "
            f"Received: {received}."
        )
    if not names:
        return numbers, classes
    places = {name: place for place, name in enumerate(names)}
    unknown = [name for name in classes if name not in places]
    if unknown:
        raise DataError(
            f"{_CLASS_NAMES} of {source} must have all its labels. "
            f"Received: {', '.join(names):.100}, without {unknown[0]!r}."
        )
    return np.array([places[name] for name in classes], np.int64)[numbers], names


def _are_texts(array: np.ndarray) -> bool:
    return array.dtype.kind in "SU"


def _decoded(source: str, texts: np.ndarray) -> np.ndarray:
    """Return texts that may be bytes of UTF-8."""
    try:
        decoded: np.ndarray = texts if texts.dtype.kind == "U" else np.strings.decode(texts, "utf8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"The texts of {source} must be UTF-8. Received: {error.object!a:.80}."
        ) from None
    return decoded


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
    source: str,
    images: np.ndarray,
    targets: np.ndarray,
    test_start: int | None = None,
    names: tuple[str, ...] = (),
) -> Dataset:
    """Return a data set of images, uint8 `(samples, height, width)` or with channels at the end.

    Args:
        source: name of the source.
        images: the images.
        targets: whole numbers `(samples,)`.
        test_start: see `Dataset`.
        names: name of each class; empty if that is its number.

    Raises:
        DataError: a label is out of range, or has no name.
    """
    if targets.min() < 0 or targets.max() >= MAX_CLASSES:
        raise DataError(
            f"The labels of {source} must be whole numbers from 0 to {MAX_CLASSES - 1}. "
            f"Received: {targets.min()} to {targets.max()}."
        )
    if names and targets.max() >= len(names):
        raise DataError(
            f"{_CLASS_NAMES} of {source} must have a name for each class, from 0 on. "
            f"Received: {len(names)} of them, and the label {targets.max()}."
        )
    return Dataset(
        source=source,
        inputs=images,
        targets=targets.astype(np.int64),
        labels=names or tuple(str(digit) for digit in range(max(2, int(targets.max()) + 1))),
        test_start=test_start,
    )


def _without_axis(targets: np.ndarray) -> np.ndarray:
    """Return targets without the second axis that those of `keras.datasets.cifar10` have."""
    return targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
