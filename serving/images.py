"""Reads image files as the grey images that a model takes."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .errors import InputError

# A little below what Pillow warns at; an image of the size takes 320 MB decoded in colour.
MAX_PIXELS = 80_000_000
# Not all that Pillow knows: its reader of EPS runs another program on the bytes.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")


ImageSource = str | Path | bytes | Image.Image


def read_image(source: ImageSource, shape: tuple[int, int]) -> np.ndarray:
    """Read an image and bring it to a size, its aspect kept, padded with the grey of its border.

    Args:
        source: as of `read_grey`.
        shape: `(height, width)` wanted.

    Returns:
        uint8 `(height, width)`.

    Raises:
        InputError: as of `read_grey`.
    """
    return fit_and_pad(read_grey(source), shape)


def read_grey(source: ImageSource) -> np.ndarray:
    """Read an image: PNG, JPEG, BMP, GIF (its first frame), TIFF or WebP.

    The orientation that a camera notes is applied, transparency becomes white paper, and colour
    becomes grey.

    Args:
        source: path of a file, a file's bytes, or an image of Pillow.

    Returns:
        uint8 `(height, width)`.

    Raises:
        InputError: the file is missing, no image, broken, or of over 80 million pixels.
    """
    name = _name(source)
    try:
        if isinstance(source, Image.Image):
            return _to_grey(name, source)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=_FORMATS) as image:  # the header alone was read
            return _to_grey(name, image)
    # Pillow only warns of what is a little too large, and a program may make errors of warnings.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{_TOO_LARGE} Received: {name}: {error}") from None
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        reason = getattr(error, "strerror", None) or "it cannot be read as an image"
        raise InputError(
            f"An image must be a readable file such as PNG or JPEG. Received: {name}: {reason}."
        ) from None


def fit_and_pad(grey: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bring a grey image to a size, its aspect kept, padded with the grey of its border.

    Args:
        grey: uint8 `(height, width)`.
        shape: `(height, width)` wanted.

    Returns:
        uint8 of that shape.
    """
    # Shrunk first: padding a strip of 1 x 80 million pixels to a square would fill any memory.
    scale = min(shape[0] / grey.shape[0], shape[1] / grey.shape[1])
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    padded = np.full(shape, np.median(border), np.uint8)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    padded[top : top + height, left : left + width] = resize_grey(grey, (height, width))
    return padded


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


def _name(source: ImageSource) -> str:
    if isinstance(source, Image.Image):
        return f"an image of {source.width} x {source.height}"
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)


def _to_grey(name: str, image: Image.Image) -> np.ndarray:
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise InputError(f"{_TOO_LARGE} Received: {name}, {pixels:,} pixels.")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
        return (np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8)
    if upright.has_transparency_data:
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright.convert("RGBA"))
    return np.asarray(upright.convert("L"))
