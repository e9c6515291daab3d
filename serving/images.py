"""Reads image files as gray or color arrays of the size that a model takes."""

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from .deep_images import BITS, join_bytes, raw_mode, swap_bytes, used_bits
from .errors import InputError, cannot_read
from .image_sources import ImageSource, Source, as_source

# Phones make no larger images. One of this size takes 200 MB when it is decoded in color.
MAX_PIXELS = 50_000_000
# The most that JPEG can have. Pillow keeps a pointer to each row: one pixel by 50 million takes
# 900 MB and 8 s.
MAX_SIDE = 65_535
# A larger image is reduced to this size, still far more than a model needs, and only one such image
# is decoded at a time: a small file can hold a large image, and many can arrive at once. All of
# them are decoded in the same thread, since glibc keeps freed memory for each thread that used it.
_LARGE_PIXELS = 4_000_000
_large_images = ThreadPoolExecutor(1, "hornbill-large-image")
# A large image is converted to gray in bands of this many pixels.
_BAND_PIXELS = 1_000_000
# How files of formats that phones use begin, after their first four bytes.
_HEIF_STARTS = tuple(b"ftyp" + kind for kind in (b"heic", b"heix", b"mif1", b"msf1", b"avif"))
# Suffixes of files of these formats, in lower case.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file says.

    Attributes:
        height, width: size in pixels, before its orientation is applied.
        is_color: whether its pixels can have a color.
    """

    height: int
    width: int
    is_color: bool

    @property
    def is_large(self) -> bool:
        """Whether it is shrunk as it is read, and only one such image is decoded at a time."""
        return self.height * self.width > _LARGE_PIXELS


def read_image(source: ImageSource, shape: tuple[int, ...]) -> np.ndarray:
    """Read an image and resize it. Padding with the color of its border keeps the aspect ratio.

    A JPEG file is decoded at a half, a quarter or an eighth of its size if that leaves at least
    twice the size of the result.

    Args:
        source: see `serving.image_sources.as_source`.
        shape: `(height, width)` or `(height, width, 1)` for a gray result, `(height, width, 3)`
            for RGB.

    Returns:
        uint8 of that shape.

    Raises:
        InputError: the image cannot be read, see `read_pixels`.
    """
    return fit_and_pad(read_enough(source, shape), (shape[0], shape[1])).reshape(shape)


def read_enough(source: ImageSource, shape: tuple[int, ...]) -> np.ndarray:
    """Read an image for `fit_and_pad`: a JPEG file may be decoded smaller, see `read_image`.

    Args:
        source: see `serving.image_sources.as_source`.
        shape: shape of the result of `read_image`.

    Returns:
        uint8 `(height, width)` or `(height, width, 3)`, at least twice as large as `shape` or as
        large as the file.

    Raises:
        InputError: the image cannot be read, see `read_pixels`.
    """
    height, width, *channels = shape
    return _read(source, color=channels == [3], size=(height, width))


def read_pixels(source: ImageSource, color: bool = False) -> np.ndarray:
    """Read a PNG, JPEG, BMP, GIF (its first frame), TIFF or WebP image.

    The EXIF orientation is applied, transparency becomes white, and CMYK and palettes become RGB.
    16-bit images, gray and in color, are reduced to 8 bits; their largest value tells whether 8,
    10, 12, 14 or 16 of the bits are used. 32-bit floats and integers are scaled so that their
    minimum becomes 0 and their maximum 255. An image of over 4 million pixels is shrunk by an
    integer factor.

    Args:
        source: see `serving.image_sources.as_source`.
        color: whether the result is RGB; otherwise it is gray.

    Returns:
        uint8 `(height, width, 3)`, or `(height, width)` if it is gray.

    Raises:
        InputError: the file is missing, broken, empty or not an image, has numbers that are not
            finite, has over 50 million pixels or a side of over 65,535, or stores fewer bits than
            16 in a way that cannot be scaled.
    """
    return _read(source, color)


def _read(image: ImageSource, color: bool, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read the pixels of an image. A JPEG file may be decoded smaller, see `_draft`."""
    source, mode = as_source(image), "RGB" if color else "L"
    with _one_line_errors(source), source.opened() as opened:
        return _read_bounded(source, opened, mode, size)


def read_header(image: ImageSource) -> ImageHeader:
    """Read the header of an image file, without its pixels.

    Raises:
        InputError: the file is missing, broken, empty or not an image.
    """
    source = as_source(image)
    with _one_line_errors(source), source.opened() as opened:
        return ImageHeader(opened.height, opened.width, _is_color(opened))


def _is_color(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB"), int).reshape(-1, 3)
        return bool(np.ptp(palette, axis=1).any())
    return Image.getmodebase(image.mode) != "L"


@contextlib.contextmanager
def _one_line_errors(source: Source) -> Iterator[None]:
    """Turn any error of Pillow into an `InputError` about an image."""
    name = source.name
    try:
        yield
    # Pillow warns about an image that is slightly too large, and warnings may be errors.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        size = f"{int(pixels[0]):,} pixels" if pixels else "more"
        raise InputError(f"{_TOO_LARGE} Received: {name}, {size}.") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's readers raise anything on damaged files
        if getattr(error, "strerror", None):
            raise InputError(cannot_read(name, error)) from None
        raise InputError(f"{name} {_reason(source, error)}.") from None


def _reason(source: Source, error: Exception) -> str:
    """Return why an image cannot be read, as the end of a sentence about it."""
    start = source.start(12)
    if start[4:] in _HEIF_STARTS:
        return "cannot be read, since HEIC and AVIF are not supported: convert it to JPEG"
    reason = "cannot be read as an image, such as PNG or JPEG"
    if not start:
        return f"{reason}: it is empty"
    if "MAX_TEXT" in str(error):
        return f"{reason}: it has a text of over 1 MB beside the pixels"
    return f"{reason}: its end is missing" if "truncated" in str(error) else reason


def fit_and_pad(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image. Padding with the median color of its border keeps the aspect ratio.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.
        size: `(height, width)` of the result.

    Returns:
        uint8 `(*size)` or `(*size, 3)`.
    """
    # Shrunk first: padding a strip of 1 x 50 million pixels to a square would fill any memory.
    scale = min(size[0] / pixels.shape[0], size[1] / pixels.shape[1])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    resized = resize(pixels, (height, width))
    if (height, width) == size:
        return resized
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    padded = np.empty((*size, *pixels.shape[2:]), np.uint8)
    padded[:] = np.median(border, axis=0)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    padded[top : top + height, left : left + width] = resized
    return padded


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image bilinearly; shrinking averages over the area of each new pixel.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.
        size: `(height, width)` of the result.

    Returns:
        uint8 `(*size)` or `(*size, 3)`.
    """
    height, width = size
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


_TOO_LARGE = f"An image must have at most {MAX_PIXELS:,} pixels."


def _check_size(name: str, image: Image.Image) -> int:
    """Return the number of pixels; raise `InputError` if there are too many, or none."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"{_TOO_LARGE} Received: {name}, {width * height:,} pixels.")
    if max(width, height) > MAX_SIDE:
        raise InputError(
            f"An image must have at most {MAX_SIDE:,} pixels on each side. "
            f"Received: {name}, {width:,} x {height:,} pixels."
        )
    if not width * height:
        raise InputError(f"An image must have at least one pixel. Received: {name}.")
    return width * height


def _read_bounded(
    source: Source, image: Image.Image, mode: str, size: tuple[int, int] | None
) -> np.ndarray:
    """Decode and convert an image. Only one large image is decoded at a time."""
    pixels = _check_size(source.name, image)
    if size is not None and image is not source.content:
        _draft(image, size)
    if pixels <= _LARGE_PIXELS:
        return _convert(source, image, mode)
    return _large_images.submit(_read_large, source, image, mode).result()


def _begin_anew() -> None:
    """Forget the thread for large images, which a forked process does not have."""
    global _large_images  # noqa: PLW0603 - the thread is one for each process
    _large_images = ThreadPoolExecutor(1, "hornbill-large-image")


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_anew)


def _draft(image: Image.Image, size: tuple[int, int]) -> None:
    """Decode a JPEG file at no more than a few times the size that it is resized to.

    That takes a fraction of the time. Twice the size is left, so that the resizing still averages.
    """
    # Sorted, since its orientation may turn it.
    scale = min(new / old for new, old in zip(sorted(size), sorted(image.size), strict=True))
    image.draft(None, tuple(math.ceil(2 * scale * side) for side in image.size))  # type: ignore[arg-type]


def _read_large(source: Source, image: Image.Image, mode: str) -> np.ndarray:
    if image is source.content:  # it is not ours to draft or to close
        return _convert(source, image, mode)
    factor = _factor(image)
    # Only for JPEG: decodes it at a half, a quarter or an eighth of the size; in gray, only the
    # luminance.
    image.draft(mode, (image.width // factor, image.height // factor))
    try:
        return _convert(source, image, mode)
    finally:
        image.close()  # frees the pixels before the next image is decoded


def _factor(image: Image.Image) -> int:
    return math.ceil(math.sqrt(image.width * image.height / _LARGE_PIXELS))


def _convert(source: Source, image: Image.Image, mode: str) -> np.ndarray:
    """Convert in bands, so that memory never holds a converted image of the full size."""
    raw = raw_mode(image)
    orientation = _load(image)
    bits = used_bits(source.name, image, raw)
    is_upright = (image.mode, orientation) == (mode, 1)
    if is_upright and _factor(image) == 1 and not (image.has_transparency_data or bits):
        return np.asarray(image)  # as it is
    black, white = _extrema(source, image) if image.mode[0] in "IF" else (0.0, 0.0)
    across, down = (min(_factor(image), side) for side in image.size)
    whole = _bands(image, down)
    if bits:
        lower = _bands(_load_lower_bytes(source, raw), down)
        whole = (join_bytes(*pair, bits) for pair in zip(whole, lower, strict=True))
    bands = [
        _to_eight_bits(band, black, white).convert(mode).reduce((across, down)) for band in whole
    ]
    pixels = Image.fromarray(np.concatenate([np.asarray(band) for band in bands]))
    # Rotated last, when it is small.
    pixels.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(pixels))


def _load(image: Image.Image) -> int:
    """Decode an image, and return the EXIF orientation that is still to be applied."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.tile:  # not decoded yet
            # Pillow exchanges width and height before it decodes, which scrambles an image that is
            # stored on its side without compression. It turns the pixels when it has decoded them.
            tags = image.tag_v2
            image._size = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
        image.load()
        return 1
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _load_lower_bytes(source: Source, raw: str) -> Image.Image:
    if isinstance(source.content, Image.Image):
        raise InputError(
            "A Pillow image in color must have 8 bits a channel, or use all of its 16. "
            f"Received: {source.name}, as {raw}. Pass the path or the bytes of the file."
        )
    with source.opened() as image:
        swap_bytes(image, raw)
        _load(image)
        return image


def _bands(image: Image.Image, multiple: int) -> Iterator[Image.Image]:
    """Yield bands whose heights are multiples of `multiple`, except for the last one."""
    rows = max(1, _BAND_PIXELS // (image.width * multiple)) * multiple
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _extrema(source: Source, image: Image.Image) -> tuple[float, float]:
    """Return the values that become 0 and 255."""
    found = [(array.min(), array.max()) for array in map(np.asarray, _bands(image, 1))]
    low, high = (float(value) for value in (np.min(found), np.max(found)))
    if not math.isfinite(high - low):
        raise InputError(
            "The pixels of an image must be finite. "
            f"Received: {source.name}, which has NaN or infinity."
        )
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if image.mode not in ("I", "F"):  # for those, files do not say what black and white are
        # Microscopes and detectors store 8 to 14 bits in files of 16, which do not say how many.
        is_packed = tags.get(ExifTags.Base.BitsPerSample) == (12,)
        used = 12 if is_packed else next(bits for bits in BITS if high < 2**bits)
        low, high = 0.0, float(2**used - 1)
    # Pillow inverts only images of 8 bits.
    is_inverted = tags.get(ExifTags.Base.PhotometricInterpretation, 1) == 0
    return (high, low) if is_inverted else (low, high)


def _to_eight_bits(band: Image.Image, black: float, white: float) -> Image.Image:
    if band.mode[0] in "IF":
        values = (np.asarray(band, np.float64) - black) * (255 / ((white - black) or 1))
        return Image.fromarray(np.rint(values).astype(np.uint8))
    if band.has_transparency_data:
        paper = Image.new("RGBA", band.size, "white")
        return Image.alpha_composite(paper, band.convert("RGBA"))
    # Pillow converts this mode to RGB only.
    return band.convert("RGB") if band.mode == "LAB" else band
