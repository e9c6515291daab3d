"""Divides the files of a job into parts; each is predicted by one process and published whole."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from .files import is_image

# Enough images to be worth a file, few enough that a killed job repeats little work.
IMAGES_TOGETHER = 1000


@dataclass(frozen=True)
class Part:
    """A file of rows, or several image files that are predicted together.

    Attributes:
        files: paths as the pattern matched them.
    """

    files: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the part: a hash of its files, so that a repeated part replaces the first."""
        text = "\n".join(self.files).encode("utf-8", "surrogateescape")
        return hashlib.sha256(text).hexdigest()[:16]


@dataclass(frozen=True)
class Finished:
    """A predicted part.

    Attributes:
        part: name of the part.
        files: files of the part.
        rows: number of predicted rows.
        failed: number of rows, or of whole files, that could not be predicted.
        attempt: subfolder of `_unfinished` with the lines; empty once they are published.
    """

    part: str
    files: tuple[str, ...]
    rows: int
    failed: int
    attempt: str = ""


def plan_parts(files: Iterable[str]) -> list[Part]:
    """Divide files into parts, in their order.

    A file of rows is a part of its own; up to a thousand images that follow one another are one.
    """
    parts = []
    for are_images, group in groupby(files, is_image):
        names, size = tuple(group), IMAGES_TOGETHER if are_images else 1
        parts += [Part(names[start : start + size]) for start in range(0, len(names), size)]
    return parts
