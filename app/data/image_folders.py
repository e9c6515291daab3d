"""Decodes listed images to a data set."""

from collections.abc import Callable, Container, Sequence
from functools import partial

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from models.config.digits import IMAGE_SIDE
from serving.errors import InputError, first_few
from serving.images import read_image
from serving.photographs import find_digit, read_photograph, shows_ink

from .datasets import Dataset
from .file_names import as_text
from .image_files import choose_shape, decode_files, has_color
from .image_lists import ImageList
from .scenes import LOOKED_AT, note_colors, note_scenes
from .split_names import SPLITS
from .splits import some
from .stored_images import ImageFile


def read_images(found: ImageList, reading: ReadingConfig, has_digits: bool) -> Dataset:
    """Decode image files to a data set.

    Args:
        found: the files.
        reading: size of the images, and whether those that cannot be read are refused or skipped.
        has_digits: whether the images show digits, see `load_dataset`.

    Raises:
        DataError: an image cannot be read, or a class has none that can.
    """
    show_ink: list[bool] = []
    sample: set[ImageFile] = set()
    if has_digits:
        shape: tuple[int, ...] = (IMAGE_SIDE, IMAGE_SIDE)
        sample = {found.paths[index] for index in some(len(found.paths), LOOKED_AT)}
        read: Callable[[ImageFile], np.ndarray] = partial(
            _read_digit, sample=sample, show_ink=show_ink
        )
    else:
        shape = choose_shape(found.paths, reading.image_size)
        read = partial(read_image, shape=shape)
    images, is_read, problems = decode_files(found.paths, shape, read)
    if problems and (reading.unreadable == "refuse" or not is_read.any()):
        raise unreadable_images(found.source, problems, len(found.paths))
    targets = found.targets[is_read]
    sizes = [int(part.sum()) for part in np.split(is_read, np.cumsum(found.sizes)[:-1])]
    for name, files, size in zip(SPLITS, found.sizes, sizes, strict=True):
        if files and not size:
            raise DataError(
                f"Each split must have images. Received: the {name} split of {found.source}, of "
                "which none can be read."
            )
    if found.task == "multiclass":
        _require_every_class(found, targets)
    train, validation, test = sizes
    return Dataset(
        source=found.source,
        inputs=images,
        targets=targets,
        labels=found.labels,
        task=found.task,
        target_units=found.target_units,
        validation_start=train if validation else None,
        test_start=train + validation if test else None,
        notes=note_scenes(found.source, show_ink)
        or note_colors(found.source, list(map(has_color, sample))),
        skipped=tuple(map(as_text, problems)),
        files=found.names(is_read),
    )


def _read_digit(path: ImageFile, sample: Container[ImageFile], show_ink: list[bool]) -> np.ndarray:
    pixels = read_photograph(path)
    if path in sample:
        show_ink.append(shows_ink(pixels))
    return find_digit(pixels, (IMAGE_SIDE, IMAGE_SIDE))


def _require_every_class(found: ImageList, targets: np.ndarray) -> None:
    counts = np.bincount(targets, minlength=len(found.labels))
    if not counts.all():
        raise DataError(
            "Each class must have images. "
            f"Received: {found.labels[int(counts.argmin())]!r} of {found.source}, which has none."
        )


def unreadable_images(source: str, problems: Sequence[InputError], files: int) -> DataError:
    """Return the error of images that cannot be read, among `files` images."""
    told = [str(problem).rpartition("Received: ") for problem in problems]
    received = [text.rstrip(".") for _, _, text in told]
    # What an image must be is only told with the first.
    rule, _, _ = told[0]
    received[0] += f" ({rule.strip(' .')})" if rule else ""
    fix = " Skip them with --set unreadable=skip." if len(problems) < files else ""
    return DataError(
        f"Every image of {source} must be readable. Received: {len(problems):,} unreadable: "
        f"{first_few(received, '; ')}.{fix}"
    )
