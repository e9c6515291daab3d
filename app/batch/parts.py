"""How the files of a job are divided: what one process predicts, and what is published whole."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serving.images import IMAGE_SUFFIXES

from .files import kind_of

# So many that a part is worth its file, so few that a killed job has little to do again.
IMAGES_TOGETHER = 1000


@dataclass(frozen=True)
class Part:
    """A file of rows, or images that are predicted together.

    Attributes:
        files: paths, as the pattern matched them.
    """

    files: tuple[str, ...]

    @property
    def name(self) -> str:
        """The same for the same files, so that a part done again takes the place of the first."""
        text = "\n".join(self.files).encode("utf-8", "surrogateescape")
        return hashlib.sha256(text).hexdigest()[:16]


@dataclass(frozen=True)
class Finished:
    """A part that was predicted.

    Attributes:
        part: its name.
        files: of the part.
        rows: lines of answers.
        bad: lines of what could not be predicted: rows, or whole files.
        attempt: folder among the unfinished ones that holds these lines; empty once published.
    """

    part: str
    files: tuple[str, ...]
    rows: int
    bad: int
    attempt: str = ""


def plan_parts(files: Iterable[str]) -> list[Part]:
    """Divide files into parts: each file of rows alone, images by the thousand."""
    images: list[str] = []
    parts = []
    for name in files:
        if kind_of(name) in IMAGE_SUFFIXES:
            images.append(name)
        else:
            parts.append(Part((name,)))
    return parts + [Part(group) for group in _grouped(images)]


def _grouped(images: Sequence[str]) -> list[tuple[str, ...]]:
    starts = range(0, len(images), IMAGES_TOGETHER)
    return [tuple(images[start : start + IMAGES_TOGETHER]) for start in starts]
