"""Decodes image files to arrays of one shape, in parallel."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from serving.errors import InputError
from serving.images import ImageHeader, read_header

from .arrays import DiskArray, rows_in_chunk

# Sides that `choose_shape` chooses from. Larger images make steps slower than they make nets
# better; set `image_size` for those that need it.
SIDES = (32, 48, 64, 96)
_MIN_SIDE, _MULTIPLE = 16, 4
# Number of files whose headers are read; those of a hundred thousand would take a minute.
_SAMPLED = 1000


def choose_shape(paths: Sequence[Path], size: tuple[int, ...] = ()) -> tuple[int, int, int]:
    """Return the shape `(height, width, channels)` to which images are decoded.

    Images are square unless `size` names height and width. By default the side is that of half of
    the images, rounded down to one of `SIDES`, or up to a multiple of 4 if it is smaller. There is
    one channel if all images are gray, and three otherwise. Up to 1,000 files are looked at.

    Args:
        paths: the files; those that cannot be read are ignored.
        size: `(side,)` or `(height, width)`; empty chooses the size.
    """
    step = max(1, len(paths) // _SAMPLED)
    headers = [header for header in map(_header, paths[::step]) if header is not None]
    channels = 3 if any(header.is_color for header in headers) else 1
    if not size:
        sides = [max(header.height, header.width) for header in headers]
        size = (_rounded(int(np.median(sides))) if sides else SIDES[0],)
    return size[0], size[-1], channels


def _rounded(side: int) -> int:
    fitting = [choice for choice in SIDES if choice <= side]
    return fitting[-1] if fitting else max(_MIN_SIDE, -(-side // _MULTIPLE) * _MULTIPLE)


def _header(path: Path) -> ImageHeader | None:
    try:
        return read_header(path)
    except InputError:
        return None


def decode_files(
    paths: Sequence[Path], shape: tuple[int, ...], read: Callable[[Path], np.ndarray]
) -> tuple[DiskArray, np.ndarray, list[InputError]]:
    """Decode image files to disk, a few at a time.

    Args:
        paths: the files.
        shape: shape of a decoded image.
        read: function that decodes a file to uint8 of that shape; it runs in several threads.

    Returns:
        The images that could be read, uint8 `(images, *shape)`; whether each file could be read,
        bool `(files,)`; and the errors of the others.
    """

    def attempt(path: Path) -> np.ndarray | InputError:
        try:
            if path.is_fifo():
                raise InputError(f"An image must be a file. Received: {path}, a pipe.")
            return read(path)
        except InputError as error:
            return error

    images = DiskArray(shape, np.uint8)
    is_read = np.zeros(len(paths), bool)
    problems: list[InputError] = []
    step = rows_in_chunk(images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), step):
            found = list(pool.map(attempt, paths[start : start + step]))
            decoded = [image for image in found if isinstance(image, np.ndarray)]
            is_read[start : start + step] = [isinstance(image, np.ndarray) for image in found]
            problems += [error for error in found if isinstance(error, InputError)]
            if decoded:
                images.append(np.stack(decoded))
    return images, is_read, problems
