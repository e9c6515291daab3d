"""Lists the images of a folder that has a subfolder for each class, and decodes listed images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from models.digits import IMAGE_SIDE
from serving.errors import InputError, cannot_read, counted
from serving.images import IMAGE_SUFFIXES, read_image, read_pixels
from serving.photographs import find_digit

from .datasets import Dataset, check_names
from .image_files import choose_shape, decode_files

# Names of the subfolders that hold the splits of a source.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
# Number of files that an error names; the others are counted.
_NAMED_IN_ERRORS = 3


@dataclass(frozen=True)
class ImageList:
    """Image files with their targets, in the order training, validation, test.

    Attributes:
        source: name of the source.
        paths: the files.
        targets: as in `Dataset`.
        labels: name of each class, label or value.
        task: `multiclass`, `multilabel` or `regression`.
        sizes: number of files in training, validation and test; 0 if the source has no such split.
    """

    source: str
    paths: Sequence[Path]
    targets: np.ndarray
    labels: tuple[str, ...]
    task: str
    sizes: tuple[int, int, int]


def read_images(found: ImageList, reading: ReadingConfig, has_digits: bool) -> Dataset:
    """Decode image files to a data set.

    Args:
        found: the files.
        reading: size of the images, and whether those that cannot be read are refused or skipped.
        has_digits: whether the images show digits, see `load_dataset`.

    Raises:
        DataError: an image cannot be read, or a class has none that can.
    """
    if has_digits:
        shape: tuple[int, ...] = (IMAGE_SIDE, IMAGE_SIDE)
        read = _read_digit
    else:
        shape = choose_shape(found.paths, reading.image_size)
        read = partial(read_image, shape=shape)
    images, is_read, problems = decode_files(found.paths, shape, read)
    if problems and (reading.unreadable == "refuse" or not is_read.any()):
        raise _unreadable(found.source, problems)
    targets = found.targets[is_read]
    if found.task == "multiclass":
        _require_every_class(found, targets)
    train, validation, test = (
        int(part.sum()) for part in np.split(is_read, np.cumsum(found.sizes)[:-1])
    )
    return Dataset(
        source=found.source,
        inputs=images,
        targets=targets,
        labels=found.labels,
        task=found.task,
        validation_start=train if validation else None,
        test_start=train + validation if test else None,
        # Names of files can be any bytes.
        skipped=tuple(str(p).encode("utf-8", "backslashreplace").decode() for p in problems),
    )


def list_image_folder(folder: Path) -> ImageList:
    """List `<folder>/<class>/<image>`, or `<folder>/<split>/<class>/<image>`.

    The splits are `train`, and `test` or `validation` or both. Files and folders whose names begin
    with a dot are ignored.

    Raises:
        DataError: there are fewer than two classes, or the splits have different classes.
    """
    splits = _find_splits(folder)
    classes = {name: _find_classes(path) for name, path in splits.items()}
    labels = [path.name for path in classes["train"]]
    paths: list[Path] = []
    targets: list[int] = []
    sizes = []
    for name in _SPLITS:
        before = len(paths)
        for path in classes.get(name, ()):
            if path.name not in labels:
                raise DataError(
                    "Each class must have training images. "
                    f"Received: {path}, but no {splits['train'] / path.name}."
                )
            files = sorted(_visible(path))
            paths += files
            targets += [labels.index(path.name)] * len(files)
        sizes.append(len(paths) - before)
    return ImageList(
        source=str(folder),
        paths=paths,
        targets=np.array(targets, np.int64),
        labels=tuple(labels),
        task="multiclass",
        sizes=(sizes[0], sizes[1], sizes[2]),
    )


def _find_splits(folder: Path) -> dict[str, Path]:
    """Return the folder of each split; `train` is `folder` itself if it has no splits."""
    inside = {path.name.lower(): path for path in _visible(folder) if path.is_dir()}
    splits = {
        split: inside.pop(name)
        for split, names in _SPLITS.items()
        for name in names
        if name in inside
    }
    # Otherwise `train` and `test` are two classes, such as vehicles and exams.
    has_classes = any(path.is_dir() for split in splits.values() for path in _visible(split))
    if "train" not in splits or len(splits) < 2 or not has_classes:
        return {"train": folder}
    if inside:
        raise DataError(
            f"A folder with train and test must have no other subfolders. Received: "
            f"{min(inside.values())}."
        )
    return splits


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


def _visible(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(cannot_read(folder, error)) from None


def _read_digit(path: Path) -> np.ndarray:
    return find_digit(read_pixels(path), (IMAGE_SIDE, IMAGE_SIDE))


def _require_every_class(found: ImageList, targets: np.ndarray) -> None:
    counts = np.bincount(targets, minlength=len(found.labels))
    if not counts.all():
        raise DataError(
            "Each class must have images. "
            f"Received: {found.labels[int(counts.argmin())]!r} of {found.source}, which has none."
        )


def _unreadable(source: str, problems: Sequence[InputError]) -> DataError:
    received = [str(problem).rpartition("Received: ")[2].rstrip(".") for problem in problems]
    more = len(received) - _NAMED_IN_ERRORS
    rest = f"; and {more:,} more" if more > 0 else ""
    return DataError(
        f"Every image of {source} must be readable. Received: {len(problems):,} unreadable: "
        f"{'; '.join(received[:_NAMED_IN_ERRORS])}{rest}. Skip them with --set unreadable=skip."
    )
