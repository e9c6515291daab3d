"""Images with 16 bits a channel, which Pillow cannot write in color: they are written here."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serving.errors import InputError
from serving.images import read_image, read_pixels
from serving.inputs import read_inputs

BITS = [8, 10, 12, 14, 16]
# By the number of channels, how PNG and TIFF call the colors.
PNG_COLORS = {2: 4, 3: 2, 4: 6}
TIFF_COLORS = {1: 1, 3: 2, 4: 2}
# Tags of TIFF that may be larger than 65,535: sizes and places.
LONG = (256, 257, 273, 278, 279)
# Values of tags.
PLANES, INKS, FROM_WHITE, PREMULTIPLIED = {284: [2]}, {262: [5]}, {262: [0]}, {338: [1]}


def chunk(name, body):
    crc = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + crc


def png(pixels):
    """Return a PNG of uint16 `(height, width, channels)`."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLORS[channels], 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(pixels, order="<", compression=1, others=None):
    """Return a TIFF of uint16 `(height, width, channels)`; of 12 bits, of the packed bytes."""
    others = others or {}
    height, width, channels = pixels.shape
    bits = others.get(258, [16])[0]
    planes = np.moveaxis(pixels, 2, 0) if others.get(284) == [2] else [pixels]
    kind = f"{order}u2" if bits == 16 else "u1"
    strips = [np.ascontiguousarray(plane).astype(kind).tobytes() for plane in planes]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    starts = 8 + np.cumsum([0, *map(len, strips)])
    tags = {
        256: [width if bits == 16 else width * 8 // bits],
        257: [height],
        258: [bits] * channels,
        259: [compression],
        262: [TIFF_COLORS[channels]],
        273: starts[:-1].tolist(),
        277: [channels],
        278: [height],
        279: list(map(len, strips)),
        **({338: [2]} if channels == 4 and 262 not in others else {}),  # the fourth is alpha
        **others,
    }
    entries, values = b"", b""
    place = int(starts[-1]) + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        code, letter = (4, "I") if tag in LONG else (3, "H")
        content = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        is_short = len(content) <= 4
        value = content.ljust(4, b"\0")
        if not is_short:
            value = struct.pack(f"{order}I", place + len(values))
            values += content
        entries += struct.pack(f"{order}HHI", tag, code, len(numbers)) + value
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, int(starts[-1]))
    count = struct.pack(f"{order}H", len(tags))
    return head + b"".join(strips) + count + entries + bytes(4) + values


def ramps(bits, channels=3):
    """Return a different ramp over all values in each channel, uint16, and the same in 8 bits."""
    ramp = np.tile(np.arange(64), (5, 1))
    parts = [np.roll(ramp, 7 * number, axis=1) for number in range(channels)]
    levels = np.stack(parts, axis=2) / 63
    return np.rint(levels * (2**bits - 1)).astype(np.uint16), 255 * levels


WRITERS = {
    "PNG": png,
    "TIFF": tiff,
    "TIFF, big-endian": lambda pixels: tiff(pixels, ">"),
    "TIFF, compressed": lambda pixels: tiff(pixels, compression=8),
    "TIFF, big-endian, compressed": lambda pixels: tiff(pixels, ">", 8),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("bits", BITS)
def test_color_is_scaled_by_the_bits_that_it_uses(bits, write, tmp_path):
    pixels, expected = ramps(bits)
    assert np.abs(read_pixels(write(pixels), color=True) - expected).max() <= 1
    (tmp_path / "file").write_bytes(write(pixels))
    assert np.abs(read_pixels(tmp_path / "file", color=True) - expected).max() <= 1
    resized = read_image(write(pixels), (5, 64, 3))
    np.testing.assert_array_equal(resized, read_pixels(write(pixels), color=True))


@pytest.mark.parametrize("bits", BITS)
def test_transparency_has_bits_of_its_own(bits):
    pixels, expected = ramps(bits)
    for opaque in (2**bits - 1, 65535):
        alpha = np.full((5, 64, 1), opaque, np.uint16)
        for content in (png(np.concatenate([pixels, alpha], 2)),):
            assert np.abs(read_pixels(content, color=True) - expected).max() <= 1
    clear = np.concatenate([pixels, np.zeros_like(alpha)], 2)
    assert (read_pixels(png(clear), color=True) == 255).all()
    assert (read_pixels(tiff(clear), color=True) == 255).all()


@pytest.mark.parametrize("bits", BITS)
def test_inks_are_scaled_too(bits):
    pixels, expected = ramps(bits, 4)
    inks = Image.fromarray(np.rint(expected).astype(np.uint8), "CMYK").convert("RGB")
    found = read_pixels(tiff(pixels, others=INKS), color=True)
    assert np.abs(found.astype(int) - np.asarray(inks)).max() <= 2


@given(st.integers(0, 65535), st.integers(1, 3), st.integers(1, 3))
def test_one_value_in_all_pixels_is_read_as_its_share_of_the_bits(value, height, width):
    pixels = np.full((height, width, 3), value, np.uint16)
    white = next(2**bits - 1 for bits in BITS if value < 2**bits)
    for content in (png(pixels), tiff(pixels), tiff(pixels, ">", 8)):
        found = read_pixels(content, color=True)
        assert found.shape == (height, width, 3)
        assert np.abs(found - 255 * value / white).max() <= 1


def test_a_large_image_is_scaled_as_it_is_shrunk():
    pixels, expected = ramps(12)
    large = np.kron(pixels, np.ones((200, 100, 1), np.uint16))
    found = read_pixels(png(large), color=True)
    assert found.shape[0] < large.shape[0]
    assert np.abs(found[:, 1::50][:, :64] - np.rint(expected[0])).max() <= 2


def test_gray_that_counts_from_white_is_inverted():
    pixels, expected = ramps(12, 1)
    for compression in (1, 8):
        content = tiff(pixels, compression=compression, others=FROM_WHITE)
        assert np.abs(255 - read_pixels(content) - expected[..., 0].astype(float)).max() <= 1


def test_gray_that_says_that_it_has_12_bits_is_not_made_brighter():
    dark = np.full((4, 4), 100, np.uint16)
    packed = np.stack([dark[:, ::2] >> 4, (dark[:, ::2] & 15) << 4, dark[:, 1::2]], 2)
    content = tiff(packed.astype(np.uint16).reshape(4, 6, 1), others={258: [12]})
    np.testing.assert_array_equal(read_pixels(content), np.rint(100 * 255 / 4095))


REFUSED = {
    "planes": (tiff(ramps(12)[0], others=PLANES), "bytes, stored as a plane for each color. Save"),
    "planes of 16 bits": (
        tiff(ramps(16)[0], others=PLANES),
        "bytes, stored as a plane for each color. Save",
    ),
    "gray with alpha": (png(ramps(12, 2)[0]), "stored as LA;16B. Save it with 8 bits"),
    "premultiplied": (tiff(ramps(8, 4)[0], others=PREMULTIPLIED), "stored as RGBa;16L"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_scaled_is_refused_with_the_reason(content, message):
    with pytest.raises(
        InputError, match=f"must be RGB, RGBA or CMYK, pixel by pixel. Received: .*{message}"
    ):
        read_pixels(content)


def test_a_pillow_image_whose_lower_bytes_are_lost_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(ramps(12)[0]))
    with (
        Image.open(tmp_path / "a.png") as image,
        pytest.raises(InputError, match="of 64 x 5, as RGB;16B. Pass the path or the bytes of"),
    ):
        read_pixels(image, color=True)
    (tmp_path / "a.png").write_bytes(png(ramps(16)[0]))
    with Image.open(tmp_path / "a.png") as image:
        assert read_pixels(image, color=True).max() == 255


def test_a_model_gets_the_same_pixels_from_8_and_from_16_bits(bundle, tmp_path, images):
    from serving.bundle import read_manifest

    manifest = read_manifest(bundle)
    color = np.repeat(images[0][..., np.newaxis], 3, axis=2)
    (tmp_path / "deep.png").write_bytes(png(color.astype(np.uint16)))
    Image.fromarray(color).save(tmp_path / "plain.png")
    deep, plain = (
        read_inputs([tmp_path / f"{name}.png"], manifest)[0] for name in ("deep", "plain")
    )
    np.testing.assert_array_equal(deep, plain)
