"""Reads a folder of images that has a subfolder for each class."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from models.digits import IMAGE_SIDE
from serving.errors import InputError, cannot_read, counted
from serving.images import IMAGE_SUFFIXES, read_gray, read_image
from serving.photographs import find_digit

from .arrays import CHUNK, DiskArray
from .datasets import Dataset, check_names

# Number of files that an error names; the others are counted.
_NAMED_IN_ERRORS = 3


def read_image_folder(folder: Path, reading: ReadingConfig, has_digits: bool = False) -> Dataset:
    """Read `<folder>/<class>/<image>` as gray 28x28 images.

    Files and folders whose names begin with a dot are ignored.

    Args:
        folder: folder with a subfolder for each class.
        reading: whether images that cannot be read are refused or skipped.
        has_digits: whether the images show digits, see `load_dataset`.

    Raises:
        DataError: there are fewer than two classes, a class is empty, or an image cannot be read.
    """
    classes = _find_classes(folder)
    images, targets, problems = _read_classes(classes, has_digits)
    if problems and reading.unreadable == "refuse":
        _refuse(folder, problems)
    counts = np.bincount(targets, minlength=len(classes))
    if not counts.all():
        raise DataError(
            "Each class must have images. "
            f"Received: {classes[int(counts.argmin())]}, which has none."
        )
    return Dataset(
        source=str(folder),
        inputs=images,
        targets=targets,
        labels=tuple(path.name for path in classes),
        # Names of files can be any bytes.
        skipped=tuple(str(p).encode("utf-8", "backslashreplace").decode() for p in problems),
    )


def _find_classes(folder: Path) -> list[Path]:
    """Return the subfolders of the classes, sorted by name."""
    inside = _visible(folder)
    classes = sorted(path for path in inside if path.is_dir())
    check_names(path.name for path in classes)
    if len(classes) < 2:
        raise DataError(
            f"{folder} must have a subfolder of images for each of two or more classes. "
            f"Received: {counted(len(classes), 'subfolder')}."
        )
    # Other files, such as a license, may be there.
    files = (path for path in inside if path.is_file())
    stray = [path.name for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if stray:
        raise DataError(
            f"Each image must be in the subfolder of its class. Received: {min(stray)} in "
            f"{folder} itself{f', and {len(stray) - 1:,} more' if len(stray) > 1 else ''}."
        )
    return classes


def _read_classes(
    classes: list[Path], has_digits: bool
) -> tuple[DiskArray, np.ndarray, list[InputError]]:
    """Return all images, their class numbers, and the errors of files that cannot be read."""
    images = DiskArray((IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    targets: list[int] = []
    problems: list[InputError] = []
    batch: list[np.ndarray] = []
    for number, label in enumerate(classes):
        for image in _read_class(label, problems, has_digits):
            targets.append(number)
            batch.append(image)
            if len(batch) == CHUNK:
                images.append(np.stack(batch))
                batch.clear()
    if batch:
        images.append(np.stack(batch))
    return images, np.array(targets, np.int64), problems


def _visible(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(cannot_read(folder, error)) from None


def _read_class(label: Path, problems: list[InputError], has_digits: bool) -> Iterator[np.ndarray]:
    read = _read_digit if has_digits else read_image
    for path in sorted(_visible(label)):
        try:
            if path.is_fifo():
                raise InputError(f"An image must be a file. Received: {path}, a pipe.")
            yield read(path, (IMAGE_SIDE, IMAGE_SIDE))
        except InputError as error:
            problems.append(error)


def _read_digit(path: Path, shape: tuple[int, int]) -> np.ndarray:
    return find_digit(read_gray(path), shape)


def _refuse(folder: Path, problems: list[InputError]) -> None:
    received = [str(problem).rpartition("Received: ")[2].rstrip(".") for problem in problems]
    more = len(received) - _NAMED_IN_ERRORS
    rest = f"; and {more:,} more" if more > 0 else ""
    raise DataError(
        f"Every image of {folder} must be readable. Received: {len(problems):,} unreadable: "
        f"{'; '.join(received[:_NAMED_IN_ERRORS])}{rest}. Skip them with --set unreadable=skip."
    )
