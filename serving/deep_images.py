"""Images in color with 16 bits a channel, of which Pillow keeps the higher byte alone.

Files often use fewer bits than they have room for: 8 bits in 16 would be read as black. The lower
bytes are decoded too if they are needed, by telling Pillow that the bytes are the other way round.
"""

import sys

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from .errors import InputError

# The numbers of bits that 16-bit images are known to use.
BITS = (8, 10, 12, 14, 16)
# What Pillow calls the order of the two bytes of a number: big, little, or that of this machine.
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_CHANNELS = ("RGB", "RGBA", "RGBX", "CMYK")
# Pillow decodes such images wrongly.
_IN_PLANES = "a plane for each color"


def raw_mode(image: Image.Image) -> str:
    """Return how the numbers of an image in color are stored if they have 16 bits: `RGB;16B`.

    It is empty for other images, and once an image is decoded, when nobody knows any more.
    """
    if image.mode[0] in "IF" or not getattr(image, "tile", ()):
        return ""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        is_deep = 16 in tags.get(ExifTags.Base.BitsPerSample, ())
        if is_deep and tags.get(ExifTags.Base.PlanarConfiguration) == 2:
            return _IN_PLANES
    arguments = image.tile[0].args  # type: ignore[attr-defined]
    raw = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    return raw if ";16" in raw else ""


def used_bits(name: str, image: Image.Image, raw: str) -> tuple[int, ...]:
    """Return the bits that each channel of a decoded image uses; empty if Pillow kept enough.

    Args:
        name: what the image is called in an error.
        image: the image, which holds the higher byte of each number.
        raw: its raw mode, see `raw_mode`.

    Raises:
        InputError: the lower bytes are needed, but cannot be decoded.
    """
    if not raw:
        return ()
    most = [int(high) for _, high in image.getextrema()]  # type: ignore[misc]
    has_alpha = image.mode.endswith("A")
    colors = _bits_of(max(most[:-1] if has_alpha else most))
    if raw == _IN_PLANES or (colors < BITS[-1] and raw.partition(";")[0] not in _CHANNELS):
        raise InputError(
            "An image of 16 bits a channel must be RGB, RGBA or CMYK, pixel by pixel. "
            f"Received: {name}, stored as {raw}. Save it with 8 bits a channel."
        )
    if colors == BITS[-1]:
        return ()
    others = [_bits_of(most[-1])] if has_alpha else []
    return (*[colors] * (len(most) - len(others)), *others)


def swap_bytes(image: Image.Image, raw: str) -> None:
    """Make an image that is not decoded yet hold the lower byte of each number."""
    swapped = raw[:-1] + _OTHER_ORDER[raw[-1]]
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
        for tile in image.tile  # type: ignore[attr-defined]
    ]


def join_bytes(high: Image.Image, low: Image.Image, bits: tuple[int, ...]) -> Image.Image:
    """Return an image of 8 bits from the higher and the lower bytes of its numbers."""
    numbers = np.asarray(high, np.float32) * 256 + np.asarray(low)
    scales = np.array([255 / (2**used - 1) for used in bits], np.float32)
    return Image.fromarray(np.rint(numbers * scales).astype(np.uint8), high.mode)


def _bits_of(high_byte: int) -> int:
    return next(bits for bits in BITS if high_byte < 2 ** (bits - 8))
