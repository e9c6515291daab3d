"""Decodes image files to arrays of one shape, in parallel."""

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from serving.cores import available_cores
from serving.errors import InputError, cannot_read
from serving.images import ImageHeader, read_enough, read_header

from .arrays import ComputedArray, DiskArray, rows_in_chunk
from .datasets import fingerprint
from .reading_progress import tell, tell_progress
from .stored_images import ImageFile, MissingImage, is_pipe

# Sides that `choose_shape` chooses from. Larger images make steps slower than they make nets
# better; set `image_size` for those that need it.
SIDES = (32, 48, 64, 96)
_MIN_SIDE, _MULTIPLE = 16, 4
# Largest difference of red, green and blue in a gray pixel: that of compression.
_TINT = 8
# Files that are looked at together for their colors.
_AT_ONCE = 32
# Least number of files whose headers are read, if there are so many; those of a hundred thousand
# would take a minute.
_SAMPLED = 1000
# Largest fraction of the free space of the temporary folder that decoded images take.
_MAX_FRACTION = 0.9


def choose_shape(paths: Sequence[ImageFile], size: tuple[int, ...] = ()) -> tuple[int, int, int]:
    """Return the shape `(height, width, channels)` to which images are decoded.

    Images are square unless `size` names height and width. By default the side is that of half of
    the images, rounded down to one of `SIDES`, or up to a multiple of 4 if it is smaller. There is
    one channel if all images are gray, and three otherwise. Of 2,000 files or more, 1,000 to 2,000
    that are spread evenly are looked at; all, if these are gray.

    Args:
        paths: the files; those that cannot be read are ignored.
        size: `(side,)` or `(height, width)`; empty chooses the size.
    """
    step = max(1, len(paths) // _SAMPLED)
    headers = [header for header in map(_header, paths[::step]) if header is not None]
    others = [path for number, path in enumerate(paths) if number % step]
    channels = 3 if _show_color([*paths[::step], *others]) else 1
    if not size:
        sides = [max(header.height, header.width) for header in headers]
        size = (_rounded(int(np.median(sides))) if sides else SIDES[0],)
    return size[0], size[-1], channels


def _rounded(side: int) -> int:
    fitting = [choice for choice in SIDES if choice <= side]
    return fitting[-1] if fitting else max(_MIN_SIDE, -(-side // _MULTIPLE) * _MULTIPLE)


def has_color(path: ImageFile) -> bool:
    """Return whether the pixels of a file can have a color; false if it cannot be read."""
    header = _header(path)
    return header is not None and header.is_color


def _show_color(paths: Sequence[ImageFile]) -> bool:
    """Return whether an image shows a color; tell if all are gray, though stored in color."""
    stored = 0
    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            found = list(pool.map(_shows_color, paths[start : start + _AT_ONCE]))
            if any(found):
                return True
            stored += sum(shows is not None for shows in found)
    if stored:
        tell("All images are gray, though some are stored in color: the model takes gray ones.")
    return False


def _shows_color(path: ImageFile) -> bool | None:
    """Return whether an image shows a color; None if its pixels cannot have one."""
    if not has_color(path):
        return None
    try:
        pixels = read_enough(path, (SIDES[-1], SIDES[-1], 3))
    except (InputError, OSError):
        return None
    return bool((pixels.max(axis=2) - pixels.min(axis=2) > _TINT).any())


def _header(path: ImageFile) -> ImageHeader | None:
    try:
        return None if is_pipe(path) else read_header(path)
    except (InputError, OSError):
        return None


def decode_files(
    paths: Sequence[ImageFile], shape: tuple[int, ...], read: Callable[[ImageFile], np.ndarray]
) -> tuple[DiskArray | ComputedArray, np.ndarray, list[InputError]]:
    """Decode image files to disk, a few at a time.

    If the images do not fit into the temporary folder, they are decoded here only to see whether
    all can be read, and again whenever they are needed.

    Args:
        paths: the files.
        shape: shape of a decoded image.
        read: function that decodes a file to uint8 of that shape; it runs in several threads.

    Returns:
        The images that could be read, uint8 `(images, *shape)`; whether each file could be read,
        bool `(files,)`; and the errors of the others.
    """

    def attempt(path: ImageFile) -> tuple[np.ndarray, int] | InputError:
        try:
            _require_file(path)
            image = read(path)
        except InputError as error:
            return error
        except OSError as error:  # of a name that is too long, or a folder that must not be read
            return InputError(cannot_read(str(path), error))
        return image, fingerprint(image.tobytes())

    images = DiskArray(shape, np.uint8)
    has_room = _has_room(len(paths), shape)
    is_read = np.zeros(len(paths), bool)
    hashes: list[int] = []
    problems: list[InputError] = []
    step = rows_in_chunk(images)  # all at once could fill memory faster than the disk
    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(paths), step):
            for number, found in enumerate(pool.map(attempt, paths[start : start + step]), start):
                if isinstance(found, InputError):
                    problems.append(found)
                else:
                    is_read[number] = True
                    hashes.append(found[1])
                    if has_room:
                        images.append(found[0][np.newaxis])
                tell_progress(number + 1, len(paths))
    fingerprints = np.array(hashes, np.uint64)
    if not has_room:
        readable = [path for path, is_good in zip(paths, is_read, strict=True) if is_good]
        return ComputedArray(readable, read, shape, np.uint8, fingerprints), is_read, problems
    images.fingerprints = fingerprints
    return images, is_read, problems


def _require_file(path: ImageFile) -> None:
    if isinstance(path, MissingImage):
        raise InputError(path.reason)
    if is_pipe(path):
        raise InputError(f"An image must be a file. Received: {path}, a pipe.")


def _has_room(count: int, shape: tuple[int, ...]) -> bool:
    """Return whether the temporary folder has room for decoded images; say so if it has not."""
    folder, size = tempfile.gettempdir(), count * math.prod(shape)
    free = shutil.disk_usage(folder).free
    if size <= _MAX_FRACTION * free:
        return True
    tell(
        f"The decoded images take {size / 1e6:,.0f} MB, and {folder} has {free / 1e6:,.0f} MB free:"
        " they are decoded again in each epoch. Set TMPDIR to a folder with more space."
    )
    return False
