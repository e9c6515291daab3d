"""Reads the images that a column of a table names, or holds itself."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import DataError
from app.system.image_paths import find_image, image_of
from serving.errors import InputError, first_few
from serving.images import IMAGE_SUFFIXES
from serving.inputs import image_shape, read_model_image
from serving.manifest import Manifest
from serving.spreading import spread

from .rows import Rows, row_ids

# Rows that tell which column names the images.
HEAD_ROWS = 100


@dataclass(frozen=True)
class StoredImage:
    """An image that a table holds itself, which is read as a file object.

    Attributes:
        name: table and row, such as `photos.parquet:7`.
        content: the bytes of the image.
    """

    name: str
    content: bytes

    def read(self) -> bytes:
        """Return the bytes of the image."""
        return self.content


@dataclass(frozen=True)
class NamedImages:
    """Images that consecutive rows of a table name or hold.

    Attributes:
        rows: the images, zeros for those that cannot be read. The file of each is the image, or
            the table that holds it, and its number that of its row in the table.
        problems: by the index of a row without an image, what is wrong with it.
    """

    rows: Rows
    problems: dict[int, str]


@dataclass(frozen=True)
class ImageColumn:
    """The column of a table that names images, relative to the folder of the table, or holds them.

    Attributes:
        table: path of the table.
        name: name of the column.
        manifest: manifest of a model of images.
        threads: how many threads decode.
    """

    table: str
    name: str
    manifest: Manifest
    threads: int

    def read(self, start: int, cells: Sequence[object], place: Callable[[int], str]) -> NamedImages:
        """Read the images of some rows.

        Args:
            start: number of the first of the rows.
            cells: for each row what `image_of` takes; None or an empty path if it is missing.
            place: see `serving.csv_lines.line_places`.
        """
        ids = row_ids(self.table, range(start, start + len(cells)))
        images = np.zeros((len(cells), *image_shape(self.manifest)), np.uint8)

        def read(index: int) -> str | None:
            cell = cells[index]
            content = image_of(cell)
            try:
                if isinstance(content, bytes):
                    stored = StoredImage(f"{self.table}:{start + index}", content)
                    images[index] = read_model_image(stored, self.manifest)
                    return None
                where = place(index).removeprefix(" in ")
                file = find_image(Path(self.table), where, self.name, str(content or ""))
                (ids[index],) = row_ids(str(file), [start + index])
                images[index] = read_model_image(file, self.manifest)
            except (DataError, InputError) as error:
                return str(error)
            return None

        found = enumerate(spread(read, len(cells), self.threads))
        problems = {index: reason for index, reason in found if reason is not None}
        return NamedImages(Rows(ids, {self.manifest.inputs[0].name: images}), problems)


def trained_column(manifest: Manifest, names: Collection[str]) -> str | None:
    """Return the column of paths that the model was trained on, if a table has it."""
    column = manifest.config.get("image_column")
    return column if isinstance(column, str) and column in names else None


def find_column(path: str, head: Mapping[str, Sequence[object]]) -> str:
    """Return the only column of a table whose first cells are names of image files.

    Args:
        path: path of the table.
        head: the first cells of each column by its name.

    Raises:
        InputError: there is no such column, or several.
    """
    found = [name for name, cells in head.items() if _are_names(cells)]
    what = f"names of image files, such as {IMAGE_SUFFIXES[0]}"
    if not found:
        raise InputError(
            f"{path} must have one column of {what}. "
            f"Received: none among the columns {first_few(list(head))}."
        )
    return only_column(path, found, what)


def only_column(path: str, found: Sequence[str], what: str) -> str:
    """Return the only one of the columns that hold or name images.

    Args:
        path: path of the table.
        found: names of these columns, at least one.
        what: what they hold.

    Raises:
        InputError: there are several.
    """
    if len(found) > 1:
        raise InputError(
            f"{path} must have one column of {what}. Received: several, {first_few(found)}. "
            f"Choose one: --image-column {found[0]}."
        )
    return found[0]


def _are_names(cells: Sequence[object]) -> bool:
    names = [str(cell) for cell in cells if cell]
    return bool(names) and all(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)
