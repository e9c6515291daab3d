"""Reads image files as gray arrays of the size that a model takes."""

import io
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from .errors import InputError, cannot_read

# Phones make no larger images. One of this size takes 200 MB when it is decoded in color.
MAX_PIXELS = 50_000_000
# A larger image is reduced to this size, still far more than a model needs, and only one such image
# is decoded at a time: a small file can hold a large image, and many can arrive at once.
_LARGE_PIXELS = 4_000_000
_large_image_lock = threading.Lock()
# A large image is converted to gray in bands of this many pixels.
_BAND_PIXELS = 1_000_000
# Not every format that Pillow reads: its EPS reader, for example, runs another program.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
# Suffixes of files of these formats, in lower case.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


ImageSource = str | Path | bytes | Image.Image


def read_image(source: ImageSource, shape: tuple[int, int]) -> np.ndarray:
    """Read an image and resize it. Padding with the gray of its border keeps the aspect ratio.

    Args:
        source: path of a file, bytes of a file, or a Pillow image.
        shape: `(height, width)` of the result.

    Returns:
        uint8 `(height, width)`.

    Raises:
        InputError: the image cannot be read, see `read_gray`.
    """
    return fit_and_pad(read_gray(source), shape)


def read_gray(source: ImageSource) -> np.ndarray:
    """Read a PNG, JPEG, BMP, GIF (its first frame), TIFF or WebP image as gray.

    The EXIF orientation is applied, transparency becomes white, and color becomes gray. 16-bit
    images are reduced to 8 bits; 32-bit floats and integers are scaled so that their minimum
    becomes 0 and their maximum 255. An image of over 4 million pixels is shrunk by an integer
    factor.

    Args:
        source: path of a file, bytes of a file, or a Pillow image.

    Returns:
        uint8 `(height, width)`.

    Raises:
        InputError: the file is missing, broken, empty or not an image, has numbers that are not
            finite, or has over 50 million pixels.
    """
    name = _name(source)
    try:
        if isinstance(source, Image.Image):
            return _read_bounded(name, source)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=_FORMATS) as image:  # reads only the header
            return _read_bounded(name, image, is_own=True)
    # Pillow warns about an image that is slightly too large, and warnings may be errors.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{_TOO_LARGE} Received: {name}: {error}") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's readers raise anything on damaged files
        if getattr(error, "strerror", None):
            raise InputError(cannot_read(name, error)) from None
        raise InputError(f"{name} cannot be read as an image, such as PNG or JPEG.") from None


def fit_and_pad(gray: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a gray image. Padding with the median gray of its border keeps the aspect ratio.

    Args:
        gray: uint8 `(height, width)`.
        shape: `(height, width)` of the result.

    Returns:
        uint8 of that shape.
    """
    # Shrunk first: padding a strip of 1 x 50 million pixels to a square would fill any memory.
    scale = min(shape[0] / gray.shape[0], shape[1] / gray.shape[1])
    height, width = (max(1, round(side * scale)) for side in gray.shape)
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    padded = np.full(shape, np.median(border), np.uint8)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    padded[top : top + height, left : left + width] = resize_gray(gray, (height, width))
    return padded


def resize_gray(gray: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a gray image bilinearly; shrinking averages over the area of each new pixel.

    Args:
        gray: uint8 `(height, width)`.
        shape: `(height, width)` of the result.

    Returns:
        uint8 of that shape.
    """
    height, width = shape
    image = Image.fromarray(gray)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


_TOO_LARGE = f"An image must have at most {MAX_PIXELS:,} pixels."


def _name(source: ImageSource) -> str:
    if isinstance(source, Image.Image):
        return f"a Pillow image of {source.width} x {source.height}"
    if not isinstance(source, str | Path | bytes):
        raise InputError(
            "An image must be a path, the bytes of a file, or a Pillow image. "
            f"Received: {type(source).__name__}."
        )
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)


def _read_bounded(name: str, image: Image.Image, is_own: bool = False) -> np.ndarray:
    """Decode and convert an image. Only one large image is decoded at a time."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise InputError(f"{_TOO_LARGE} Received: {name}, {pixels:,} pixels.")
    if not pixels:
        raise InputError(f"An image must have at least one pixel. Received: {name}.")
    if pixels <= _LARGE_PIXELS:
        return _to_gray(name, image)
    # In a thread that ends: glibc keeps freed memory for the thread that used it. Otherwise each
    # thread of a server would keep the memory of an image.
    with _large_image_lock, ThreadPoolExecutor(1) as pool:
        return pool.submit(_read_large, name, image, is_own).result()


def _read_large(name: str, image: Image.Image, is_own: bool) -> np.ndarray:
    if not is_own:
        return _to_gray(name, image)
    factor = _factor(image)
    # Only for JPEG: decodes only the luminance, at a half, a quarter or an eighth of the size.
    image.draft("L", (image.width // factor, image.height // factor))
    try:
        return _to_gray(name, image)
    finally:
        image.close()  # frees the pixels before the next image is decoded


def _factor(image: Image.Image) -> int:
    return math.ceil(math.sqrt(image.width * image.height / _LARGE_PIXELS))


def _to_gray(name: str, image: Image.Image) -> np.ndarray:
    """Convert in bands, so that memory never holds a second image of the full size."""
    low, high = _extrema(name, image) if image.mode in ("I", "F") else (0.0, 0.0)
    across, down = (min(_factor(image), side) for side in image.size)
    bands = [
        Image.fromarray(_band_to_gray(band, low, high)).reduce((across, down))
        for band in _bands(image, down)
    ]
    gray = Image.fromarray(np.concatenate([np.asarray(band) for band in bands]))
    # Rotated last, when it is small.
    gray.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return np.asarray(ImageOps.exif_transpose(gray))


def _bands(image: Image.Image, multiple: int) -> Iterator[Image.Image]:
    """Yield bands whose heights are multiples of `multiple`, except for the last one."""
    rows = max(1, _BAND_PIXELS // (image.width * multiple)) * multiple
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _extrema(name: str, image: Image.Image) -> tuple[float, float]:
    """Return the lowest and the highest value, since files do not say what black and white are."""
    found = [(array.min(), array.max()) for array in map(np.asarray, _bands(image, 1))]
    low, high = (float(value) for value in (np.min(found), np.max(found)))
    if not math.isfinite(high - low):
        raise InputError(
            f"The pixels of an image must be finite. Received: {name}, from {low} to {high}."
        )
    return low, high


def _band_to_gray(band: Image.Image, low: float, high: float) -> np.ndarray:
    if band.mode in ("I", "F"):
        values = (np.asarray(band, np.float64) - low) * (255 / ((high - low) or 1))
        return np.rint(values).astype(np.uint8)
    if band.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
        return (np.asarray(band) // 257).astype(np.uint8)
    if band.has_transparency_data:
        paper = Image.new("RGBA", band.size, "white")
        band = Image.alpha_composite(paper, band.convert("RGBA"))
    return np.asarray(band.convert("L"))
