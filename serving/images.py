"""Reads image files as the grey images that a model takes."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .errors import InputError

# A little below what Pillow warns at; an image of the size takes 320 MB decoded in colour.
MAX_PIXELS = 80_000_000
# Not all that Pillow knows: its reader of EPS runs another program on the bytes.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")


def read_image(source: str | Path | bytes, shape: tuple[int, int]) -> np.ndarray:
    """Read an image file: PNG, JPEG, BMP, GIF (its first frame), TIFF or WebP.

    The orientation that a camera notes is applied, transparency becomes white paper, colour
    becomes grey, and the image, its aspect kept, is padded with the grey of its border.

    Args:
        source: path of a file, or a file's bytes.
        shape: `(height, width)` wanted.

    Returns:
        uint8 `(height, width)`.

    Raises:
        InputError: the file is missing, no image, broken, or of over 80 million pixels.
    """
    name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    try:
        grey = _read_grey(name, io.BytesIO(source) if isinstance(source, bytes) else source)
    except Image.DecompressionBombError as error:
        raise InputError(f"{_TOO_LARGE} Received: {name}: {error}") from None
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        reason = getattr(error, "strerror", None) or "it cannot be read as an image"
        raise InputError(
            f"An image must be a readable file such as PNG or JPEG. Received: {name}: {reason}."
        ) from None
    return _fit_and_pad(grey, shape)


def resize_grey(grey: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample a grey image bilinearly, averaging over what each pixel covers when it shrinks.

    Args:
        grey: uint8 `(height, width)`.
        shape: `(height, width)` wanted.

    Returns:
        uint8 of that shape.
    """
    height, width = shape
    image = Image.fromarray(grey)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


_TOO_LARGE = f"An image must have at most {MAX_PIXELS:,} pixels."


def _read_grey(name: str, source: str | Path | io.BytesIO) -> np.ndarray:
    with warnings.catch_warnings():
        # Our own limit is lower than the one that Pillow only warns at.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        opened = Image.open(source, formats=_FORMATS)
    with opened as image:  # the header alone was read
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise InputError(f"{_TOO_LARGE} Received: {name}, {pixels:,} pixels.")
        return _to_grey(image)


def _to_grey(image: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
        return (np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8)
    if upright.has_transparency_data:
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright.convert("RGBA"))
    return np.asarray(upright.convert("L"))


def _fit_and_pad(grey: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    # Shrunk first: padding a strip of 1 x 80 million pixels to a square would fill any memory.
    scale = min(shape[0] / grey.shape[0], shape[1] / grey.shape[1])
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    padded = np.full(shape, np.median(border), np.uint8)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    padded[top : top + height, left : left + width] = resize_grey(grey, (height, width))
    return padded
