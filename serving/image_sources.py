"""What people hand over as images: paths, bytes, file objects, arrays and Pillow images."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from .checking import TO_BYTES, refuse_masked
from .errors import InputError, one_line
from .frames import is_table


class FileObject(Protocol):
    """What is read as a file: an open file, or anything else that gives the bytes of one."""

    def read(self) -> bytes:
        """Return the bytes."""


BytesLike = bytes | bytearray | memoryview
# An array is uint8 or bool, `(height, width)` or `(height, width, 1 | 3 | 4)`, or gray uint16.
ImageSource = str | os.PathLike[str] | BytesLike | FileObject | np.ndarray | Image.Image

# Not every format that Pillow reads: its EPS reader, for example, runs another program.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Source:
    """An image that Pillow can open, or has opened.

    Attributes:
        name: what it is called in an error.
        content: path or bytes of a file, or an image, which is not ours to draft or to close.
    """

    name: str
    content: str | os.PathLike[str] | bytes | Image.Image

    @contextmanager
    def opened(self) -> Iterator[Image.Image]:
        """Open the image, of which only the header is read; close it at the end if it is a file."""
        content = self.content
        if isinstance(content, Image.Image):
            yield content
            return
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        with Image.open(file, formats=FORMATS) as image:
            yield image

    def start(self, size: int) -> bytes:
        """Return the first bytes of a file, all that can be read."""
        if isinstance(self.content, bytes):
            return self.content[:size]
        with suppress(OSError, TypeError), Path(self.content).open("rb") as file:  # type: ignore[arg-type]
            return file.read(size)
        return b"x"


def as_source(source: ImageSource) -> Source:
    """Return an image that Pillow can open.

    Args:
        source: path or bytes of a file; a file object, which is read from its start if it can be
            rewound; an array, or an object that numpy turns into one; or a Pillow image.

    Raises:
        InputError: it is something else, an array of another type or shape, or a file object that
            cannot be read.
    """
    if isinstance(source, Image.Image):
        return Source(f"a Pillow image of {source.width} x {source.height}", source)
    if isinstance(source, str | os.PathLike):
        return Source(os.fsdecode(source), source)
    if isinstance(source, BytesLike):
        return Source(f"{memoryview(source).nbytes} bytes", bytes(source))
    if hasattr(source, "read"):
        return _from_file(source)
    if isinstance(source, np.ndarray) or hasattr(source, "__array__"):
        refuse_masked("An image", source)
        return _from_array(np.asarray(source))
    raise InputError(
        "An image must be a path, the bytes of a file, a file object, an array, or a Pillow "
        f"image. Received: {type(source).__name__}."
    )


def each_image(images: Any) -> Iterator[ImageSource]:
    """Return an iterator over images that were handed over together.

    Args:
        images: a list, an array with a batch axis, a generator, or anything else to iterate over.

    Raises:
        InputError: it is a single image or has no order.
    """
    is_single = isinstance(images, str | os.PathLike | BytesLike | Image.Image) or hasattr(
        images, "read"
    )
    if isinstance(images, np.ndarray):
        # Three axes are a batch of gray images, unless the last one holds colors.
        is_single = images.ndim < 3 or (images.ndim == 3 and images.shape[2] in _CHANNELS)
    no_order = isinstance(images, Mapping | Set) or is_table(images)
    if is_single or no_order or not isinstance(images, Iterable):
        raise InputError(
            f"Images must be in a list. Received: {type(images).__name__}. "
            "Put a single image in brackets."
        )
    return iter(images)


def _from_file(file: Any) -> Source:
    name = str(getattr(file, "name", "a file object"))
    try:
        with suppress(OSError, AttributeError):  # as Pillow does: it may just have been written
            file.seek(0)
        content = file.read()
    except Exception as error:  # of any library
        why = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{name} cannot be read: {why:.200}.") from None
    if not isinstance(content, BytesLike):
        raise InputError(
            f"A file object must give bytes. Received: {name}, which gives "
            f"{type(content).__name__}. Open it in binary mode."
        )
    return Source(name, bytes(content))


def _from_array(array: np.ndarray) -> Source:
    name = f"an array of {array.dtype} {array.shape}"
    is_gray = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    is_color = array.ndim == 3 and array.shape[2] in _CHANNELS
    has_dtype = array.dtype in (np.uint8, bool) or (array.dtype == np.uint16 and is_gray)
    if not (has_dtype and (is_gray or is_color)):
        is_number = array.dtype.kind in "iuf" and not has_dtype
        raise InputError(
            "An image as an array must be uint8, of shape (height, width), (height, width, 3) or "
            f"(height, width, 4). Received: {name}.{f' {TO_BYTES}' if is_number else ''}"
        )
    if array.dtype == bool:
        array = array * np.uint8(255)
    pixels = array.reshape(array.shape[:2]) if is_gray else array
    return Source(name, Image.fromarray(np.ascontiguousarray(pixels)))
