"""Lists the images of a folder that has a subfolder for each class. It imports nothing heavy."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from mimetypes import MimeTypes
from pathlib import Path

import numpy as np

from app.errors import DataError
from app.system.hidden_files import is_hidden
from serving.errors import cannot_read, counted, first_few
from serving.images import IMAGE_SUFFIXES

from .file_names import as_text, check_names
from .reading_progress import tell
from .split_names import SPLITS
from .stored_images import ImageFile
from .tables import suggest_shards

# Kinds of files by their names, the same on every machine.
_KINDS = MimeTypes()


@dataclass(frozen=True)
class ImageList:
    """Image files with their targets, in the order training, validation, test.

    Attributes:
        source: name of the source.
        paths: the files, or the images that a table holds itself.
        targets: as in `Dataset`.
        labels: name of each class, label or value.
        task: `multiclass`, `multilabel` or `regression`.
        sizes: number of files in training, validation and test; 0 if the source has no such split.
        target_units: as in `Dataset`.
    """

    source: str
    paths: Sequence[ImageFile]
    targets: np.ndarray
    labels: tuple[str, ...]
    task: str
    sizes: tuple[int, int, int]
    target_units: dict[str, str] = field(default_factory=dict)

    def names(self, is_read: np.ndarray) -> list[str]:
        """Return the names of files for people, without the folder of the source.

        Args:
            is_read: which of the files, bool `(files,)`.
        """
        source = Path(self.source)
        folder = str(source if source.is_dir() else source.parent)
        inside = f"{folder}{os.sep}"

        def name_of(path: str) -> str:
            # A path inside need not be resolved, which is slow for a million files.
            is_inside = path.startswith(inside)
            return as_text(path[len(inside) :] if is_inside else os.path.relpath(path, folder))

        return [name_of(str(path)) for path in itertools.compress(self.paths, is_read)]


def list_image_folder(folder: Path) -> ImageList:
    """List `<folder>/<class>/<image>`, or `<folder>/<split>/<class>/<image>`.

    The splits are `train`, and `test` or `validation` or both. Files and folders whose names begin
    with a dot, and those of the system, are ignored; see `is_hidden`. So are files that are no
    images by their names, such as `notes.txt`; `reading_progress.tell` names them.

    Raises:
        DataError: there are fewer than two classes, the splits have different classes, or the
            images are too deep in folders.
    """
    classes = check_image_folder(folder)
    others: list[Path] = []
    labels = [path.name for path in classes["train"]]
    paths: list[ImageFile] = []
    targets: list[int] = []
    sizes = []
    for name in SPLITS:
        before = len(paths)
        for path in classes.get(name, ()):
            files = sorted(_visible(path), key=lambda file: file.name)
            images = [file for file in files if not _is_other(file.name)]
            others += [file for file in files if _is_other(file.name)]
            paths += images
            targets += [labels.index(path.name)] * len(images)
        sizes.append(len(paths) - before)
    if all(any(label.lower() in names for names in SPLITS.values()) for label in labels):
        tell(
            f"{' and '.join(labels)} of {folder} are taken for classes, since they hold images "
            "themselves. Each split has a subfolder for each class."
        )
    if others:
        tell(
            f"{counted(len(others), 'file')} passed over in {folder}, whose names are not those of "
            f"images: {first_few([file.relative_to(folder) for file in others])}."
        )
    return ImageList(
        source=str(folder),
        paths=paths,
        targets=np.array(targets, np.int64),
        labels=tuple(labels),
        task="multiclass",
        sizes=(sizes[0], sizes[1], sizes[2]),
    )


def check_image_folder(folder: Path) -> dict[str, list[Path]]:
    """Return the folders of the classes of each split, by its name.

    Raises:
        DataError: see `list_image_folder`.
    """
    splits = _find_splits(folder)
    classes = {name: _find_classes(path) for name, path in splits.items()}
    labels = {path.name for path in classes["train"]}
    for name, paths in classes.items():
        for path in paths:
            if path.name not in labels:
                raise DataError(
                    "Each class must have training images. "
                    f"Received: {path}, but no {splits['train'] / path.name}."
                )
        empty = [path for path in paths if not _has_files(path)]
        if empty and name == "train":
            raise DataError(
                f"Each class must have images. Received: {empty[0]}, which has none. Remove it."
            )
        if len(empty) == len(paths):
            fix = "Remove it, and images are split off at random."
            if len(splits) == 2:
                fix = f"To split off images at random: --data {splits['train']}."
            raise DataError(
                f"Each split must have images. Received: {splits[name]}, which has none. {fix}"
            )
    return classes


def _find_splits(folder: Path) -> dict[str, Path]:
    """Return the folder of each split; `train` is `folder` itself if it has no splits."""
    folders = _folders(folder)
    known = {name: split for split, names in SPLITS.items() for name in names}
    named = {
        split: [path for path in folders if known.get(path.name.lower()) == split]
        for split in SPLITS
    }
    others = [path for path in folders if path.name.lower() not in known]
    splits = {split: paths[0] for split, paths in named.items() if paths}
    # Otherwise `train` and `test` are two classes, such as vehicles and exams.
    has_classes = any(path.is_dir() for split in splits.values() for path in _visible(split))
    if has_classes and not others and ("train" not in splits or len(splits) < 2):
        (split, path), *_ = splits.items()
        missing = "a folder test or validation" if split == "train" else "a folder train"
        raise DataError(
            f"A folder with {path.name} must also have {missing}. Received: {folder}. To split the "
            f"images of {path.name} at random: --data {path}."
        )
    if "train" not in splits or len(splits) < 2 or not has_classes:
        return {"train": folder}
    if twice := next((paths for paths in named.values() if len(paths) > 1), None):
        raise DataError(
            "Each split must have one folder. "
            f"Received: {' and '.join(path.name for path in twice)} in {folder}."
        )
    if others:
        raise DataError(
            f"A folder with train and test must have no other subfolders. Received: {others[0]}."
        )
    return splits


def _find_classes(folder: Path) -> list[Path]:
    """Return the subfolders of the classes, sorted by name."""
    classes = _folders(folder)
    check_names(path.name for path in classes)
    if len(classes) < 2:
        raise DataError(
            f"{folder} must have a subfolder of images for each of two or more classes. "
            f"Received: {counted(len(classes), 'subfolder')}.{suggest_shards(folder)}"
        )
    # Other files, such as a license, may be there.
    files = (path for path in _visible(folder) if path.is_file())
    stray = [path.name for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if stray:
        raise DataError(
            f"Each image must be in the subfolder of its class. Received: {min(stray)} in "
            f"{folder} itself{f', and {len(stray) - 1:,} more' if len(stray) > 1 else ''}."
        )
    return classes


def _folders(folder: Path) -> list[Path]:
    """Return the subfolders of a folder, sorted by name.

    Raises:
        DataError: a link in it leads nowhere, so that a class or a split may be missing.
    """
    inside = sorted(_visible(folder))
    for path in inside:
        if path.is_symlink() and not path.exists():
            raise DataError(
                "A link among the folders of images must lead to something. "
                f"Received: {path}, which leads to {path.readlink()}. Mend or remove it."
            )
    return [path for path in inside if path.is_dir()]


def _has_files(folder: Path) -> bool:
    """Return whether a class has an image by its name.

    Raises:
        DataError: it has a folder.
    """
    folders, has_image = [], False
    for entry in _entries(folder):
        if _is_folder(entry):
            folders.append(entry.name)
        else:
            has_image = has_image or not _is_other(entry.name)
    if folders:
        fix = f"A subfolder with classes in it can be given itself: --data {folder}."
        if has_image:
            fix = "Move its images beside the others, or the folder to another place."
        raise DataError(
            "The subfolder of a class must hold images, not folders. "
            f"Received: {folder / min(folders)}. {fix}"
        )
    return has_image


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()  # which the listing of a folder tells without looking at the file
    except OSError:  # a link to itself
        return False


def _is_other(name: str) -> bool:
    """Return whether a file is no image by its name; one of an unknown kind may be."""
    kind, compression = _KINDS.guess_type(name)
    return compression is not None or (kind is not None and not kind.startswith("image/"))


def _visible(folder: Path) -> Iterator[Path]:
    return (folder / entry.name for entry in _entries(folder))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not is_hidden(entry.name))
    except OSError as error:
        raise DataError(cannot_read(folder, error)) from None
