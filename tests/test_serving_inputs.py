"""Reading files for a model: images of every format, and rows of CSV files."""

import contextlib
import dataclasses
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from serving.errors import InputError
from serving.images import read_header, read_image, read_pixels, resize
from serving.inputs import read_inputs
from serving.manifest import Manifest, TensorSpec
from serving.predictor import Predictor
from serving.server.tf_serving import read_call

SHAPE = (28, 28)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG whose header claims a size, without any pixels."""
    body = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + body
    crc = struct.pack(">I", zlib.crc32(chunk))
    data = struct.pack(">I", 4) + b"IDAT" + bytes(8)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(body)) + chunk + crc + data


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("size", [(28, 28), (300, 200), (5, 9), (1, 1)])
def test_an_image_of_any_size_and_format_becomes_28x28_gray(kind, size):
    gray = read_image(encoded(Image.new("RGB", size, (90, 90, 90)), kind), SHAPE)
    assert (gray.dtype, gray.shape) == (np.uint8, SHAPE)
    np.testing.assert_allclose(gray, 90, atol=2)


def test_a_28x28_gray_image_is_read_unchanged(images):
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(images[0])), SHAPE), images[0])


def test_padding_with_paper_keeps_the_aspect_ratio():
    image = np.full((10, 40), 250, "uint8")
    image[3:7, 10:30] = 0
    gray = read_image(encoded(Image.fromarray(image)), SHAPE)
    assert (gray[:10] == 250).all()
    rows, columns = np.nonzero(gray < 125)
    assert np.ptp(columns) + 1 == 14
    assert np.ptp(rows) + 1 in (2, 3)


def test_transparency_becomes_white():
    image = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    assert (read_image(encoded(image), SHAPE) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bits_are_scaled_by_the_bits_that_are_used(bits, kind):
    ramp = np.tile(np.arange(28) * (2**bits - 1) // 27, (28, 1)).astype("uint16")
    gray = read_image(encoded(Image.fromarray(ramp), kind), SHAPE)
    assert (np.abs(gray - np.arange(28) * 255 / 27) <= 1).all()


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied(orientation, compression, color):
    upright = np.zeros((40, 20), np.uint8)
    upright[5:35, 4:8] = upright[31:35, 4:16] = 255
    # What a viewer undoes for each value of the tag (TIFF 6.0, section Orientation).
    stored = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    content = encoded(
        image.convert("RGB") if color else image,
        "TIFF",
        tiffinfo={274: orientation},
        compression=compression,
    )
    pixels = read_pixels(content, color)
    np.testing.assert_array_equal(pixels[..., 0] if color else pixels, upright)


def test_color_is_kept_from_every_mode():
    red = Image.new("RGB", (28, 28), (200, 30, 40))
    transparent = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    for image, kind in (
        (red, "PNG"),
        (red.quantize(), "PNG"),
        (red.quantize(), "GIF"),
        (red.convert("CMYK"), "TIFF"),
        (red.convert("RGBA"), "WEBP"),
    ):
        pixels = read_image(encoded(image, kind), (*SHAPE, 3))
        assert np.abs(pixels.astype(int) - (200, 30, 40)).max() <= 6, (image.mode, kind)
    assert (read_image(encoded(transparent), (*SHAPE, 3)) == 255).all()
    gray = read_image(encoded(red.convert("L")), (*SHAPE, 3))
    assert np.ptp(gray) == 0
    assert read_image(encoded(red), (*SHAPE, 1)).shape == (*SHAPE, 1)


def test_a_wide_color_image_is_padded_with_the_color_of_its_border():
    pixels = read_image(encoded(Image.new("RGB", (80, 20), (10, 200, 90))), (32, 32, 3))
    assert (pixels == (10, 200, 90)).all()


def test_a_header_tells_gray_from_color():
    red = Image.new("RGB", (8, 6), (200, 30, 40))
    for image, is_color in (
        (red, True),
        (red.quantize(), True),
        (red.convert("L"), False),
        (red.convert("L").convert("P"), False),
        (red.convert("1"), False),
        (Image.fromarray(np.zeros((6, 8), "uint16")), False),
    ):
        header = read_header(encoded(image))
        assert (header.height, header.width, header.is_color) == (6, 8, is_color), image.mode
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_header(b"no image")


def test_the_exif_orientation_is_applied():
    image = Image.fromarray(np.arange(784, dtype="uint8").reshape(28, 28))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = read_image(encoded(image, exif=exif), SHAPE)
    np.testing.assert_array_equal(turned, np.asarray(image)[::-1, ::-1])


@pytest.mark.parametrize(("width", "height"), [(32000, 32000), (1, 60_000_000), (8944, 8944)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(width, height):
    with pytest.raises(InputError, match="at most 50,000,000 pixels. Received: "):
        read_image(png_header(width, height), SHAPE)


@pytest.mark.parametrize(("width", "height"), [(1, 65_536), (1, 50_000_000), (500_000, 100)])
def test_an_image_of_a_long_side_is_refused_before_it_is_decoded(width, height):
    """Pillow keeps a pointer to each row: 1 x 50 million pixels would take 900 MB and 8 s."""
    message = f"at most 65,535 pixels on each side. Received: .*, {width:,} x {height:,} pixels."
    with pytest.raises(InputError, match=message):
        read_image(png_header(width, height), SHAPE)


def test_small_files_of_large_images_are_read_in_bounded_memory(tmp_path):
    image = Image.new("RGBA", (5000, 5000), (0, 0, 0, 0))
    (tmp_path / "large.png").write_bytes(encoded(image))
    del image
    code = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from serving.images import read_pixels
def peak():  # of this process alone, where getrusage begins with its parent's
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
with ThreadPoolExecutor(3) as pool:
    grays = list(pool.map(read_pixels, [sys.argv[1]] * 3))
assert all((gray == 255).all() for gray in grays)
print(peak() - before)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "large.png")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    # One decoded image takes 100 MB, and glibc keeps as much; three at once would take 300 MB.
    assert int(finished.stdout) < 255_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_large_image_is_reduced_evenly(kind):
    small = np.random.default_rng(0).integers(60, 200, (7, 9)).astype("uint8")
    large = Image.fromarray(small.repeat(301, axis=0).repeat(301, axis=1))
    exif = Image.Exif()
    exif[0x0112] = 6  # held sideways
    options = {} if kind == "PNG" else {"quality": 95}
    gray = read_pixels(encoded(large.convert("RGB"), kind, exif=exif, **options))
    assert gray.size <= 4_000_000
    expected = resize(np.rot90(np.asarray(large), -1).copy(), (45, 35)).astype(int)
    np.testing.assert_allclose(resize(gray, (45, 35)), expected, atol=3)


def test_the_large_image_of_a_caller_is_not_changed():
    with Image.open(io.BytesIO(encoded(Image.new("RGB", (4000, 3000), "white"), "JPEG"))) as image:
        assert (read_pixels(image) == 255).all()
        assert (image.size, image.mode) == ((4000, 3000), "RGB")


def test_only_one_large_image_is_decoded_at_a_time():
    content = encoded(Image.new("L", (3000, 3000), 9))
    with ThreadPoolExecutor(3) as pool:
        assert all((gray == 9).all() for gray in pool.map(read_pixels, [content] * 4))


@pytest.mark.parametrize(
    "ramp",
    [
        np.linspace(0, 1, 784, dtype=np.float32),
        np.linspace(-3e38, 3e38, 784).astype(np.float32),
        np.linspace(0, 2**31 - 1, 784).astype(np.int32),
        np.linspace(-5000, 900_000, 784).astype(np.int32),
    ],
)
def test_numbers_of_32_bits_are_scaled_from_their_minimum_to_their_maximum(ramp):
    image = Image.fromarray(ramp.reshape(28, 28))
    gray = read_image(encoded(image, "TIFF"), SHAPE)
    np.testing.assert_allclose(gray.ravel(), np.linspace(0, 255, 784), atol=1)


def test_equal_floats_become_a_uniform_gray():
    gray = read_pixels(encoded(Image.new("F", (5, 5), 0.3), "TIFF"))
    assert (gray == gray[0, 0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_not_finite_are_refused(value):
    values = np.ones((28, 28), np.float32)
    values[3, 4] = value
    with pytest.raises(InputError, match=r"must be finite. Received: \d+ bytes, which has NaN or"):
        read_image(encoded(Image.fromarray(values), "TIFF"), SHAPE)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(InputError, match="at least one pixel. Received: a Pillow image of 0 x 0"):
        read_image(Image.new("L", (0, 0)), SHAPE)


@pytest.mark.parametrize("source", [None, 3, [b"a"]])
def test_other_types_than_images_are_refused(source):
    received = type(source).__name__
    with pytest.raises(InputError, match=rf"must be a path, .*Received: {received}\.\Z"):
        read_image(source, SHAPE)


def test_a_long_strip_is_read_in_little_memory():
    strip = Image.new("L", (65_535, 1), 200)
    assert read_image(encoded(strip), SHAPE).shape == SHAPE


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", png_header(28, 28)])
def test_a_file_that_is_not_an_image_is_refused(content, tmp_path):
    path = tmp_path / "no.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"no\.png cannot be read as an image, such as PNG"):
        read_image(path, SHAPE)


def test_an_image_with_a_damaged_end_is_refused(tmp_path):
    content = encoded(Image.new("L", (30, 20), 9))
    profile = b"iCCP"  # empty, and after the pixels
    chunk = struct.pack(">I", 0) + profile + struct.pack(">I", zlib.crc32(profile))
    end = content.rindex(b"IEND") - 4
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_image(content[:end] + chunk + content[end:], SHAPE)


def test_a_missing_image_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.png does not exist"):
        read_image(tmp_path / "none.png", SHAPE)
    with pytest.raises(InputError, match="cannot be read: is a directory"):
        read_image(tmp_path, SHAPE)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]))
def test_any_bytes_are_an_image_or_refused(content, start):
    with contextlib.suppress(InputError):
        assert read_image(start + content, SHAPE).shape == SHAPE


@given(st.data())
def test_a_damaged_image_is_read_or_refused(data):
    content = bytearray(encoded(Image.new("RGB", (30, 20), "red"), "JPEG"))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        assert read_image(bytes(content), SHAPE).shape == SHAPE


def test_resizing_keeps_the_mean():
    gray = np.random.default_rng(0).integers(0, 256, (60, 80)).astype("uint8")
    assert resize(gray, SHAPE).mean() == pytest.approx(gray.mean(), abs=3)


def test_all_files_that_cannot_be_read_are_counted_and_the_first_are_named(
    bundle, row_bundle, tmp_path
):
    good = tmp_path / "good.png"
    Image.new("L", (28, 28)).save(good)
    names = [good, *(tmp_path / f"{number}.png" for number in range(5))]
    with pytest.raises(
        InputError, match="5 problems: .*/0.png does not exist; .*; and 2 more."
    ) as e:
        read_inputs(names, Predictor.load(bundle).manifest)
    assert "3.png" not in str(e.value)
    with pytest.raises(InputError, match="^[^:]*/0.png does not exist.$"):
        read_inputs(names[:2], Predictor.load(bundle).manifest)
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="2 problems: .*a.csv must have .*; .*b.csv must have"):
        read_inputs([tmp_path / "a.csv", tmp_path / "b.csv"], Predictor.load(row_bundle).manifest)


def test_all_rows_that_cannot_be_read_are_counted_and_the_first_are_named(row_bundle, tmp_path):
    manifest = Predictor.load(row_bundle).manifest
    path = tmp_path / "flowers.csv"
    path.write_text(f"{','.join(manifest.columns)}\n" + "1,x,3,4\n1,2,3,4\n" * 5)
    message = "There are 5 problems: .*line 2 of.*; .*line 4 of.*; .*line 6 of.*; and 2 more."
    with pytest.raises(InputError, match=message):
        read_inputs([path], manifest)


def test_images_that_are_far_too_small_are_noted(bundle, tmp_path):
    notes, manifest = [], Predictor.load(bundle).manifest
    for width, height in ((1, 1), (7, 7), (200, 2), (6, 6)):
        Image.new("L", (width, height)).save(tmp_path / f"{width}.png")
    read_inputs([tmp_path / "7.png", tmp_path / "200.png"], manifest, notes.append)
    assert not notes
    read_inputs([tmp_path / "6.png", tmp_path / "1.png"], manifest, notes.append)
    read_inputs([tmp_path / "1.png"], manifest, notes.append)
    assert notes == [
        "2 images are enlarged more than 4 times to 28x28, so that predictions may mean little: "
        f"{tmp_path}/6.png (6x6), {tmp_path}/1.png (1x1).",
        "1 image is enlarged more than 4 times to 28x28, so that predictions may mean little: "
        f"{tmp_path}/1.png (1x1).",
    ]


def test_the_columns_of_a_csv_are_found_by_name(row_bundle, tmp_path):
    manifest = Predictor.load(row_bundle).manifest
    path = tmp_path / "flowers.csv"
    header = ",".join(f'"{name}"' for name in reversed(manifest.columns))
    path.write_text(f"id,{header}\na,0.2,1.4,3.5,5.1\nb,1,2,3,4\n")
    rows, names = read_inputs([path], manifest)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[5.1, 3.5, 1.4, 0.2], [4, 3, 2, 1]])
    assert names == [f"{path}:2", f"{path}:3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name each column once. Received: an empty file"),
        ("a,b\n1,2\n", "Received: no 'sepal length (cm)', 'sepal width (cm)', 'petal"),
        ("HEADER\n", "at least one row below its header"),
        ("HEADER\n1,2,3\n", "must have 4 cells like its header. Received: 3 in line 2"),
        ("HEADER\n1,2,3,4\n1,2,3,4,5\n", "Received: 5 in line 3"),
        (
            "HEADER,HEADER\n1,2,3,4,1,2,3,4\n",
            "each column once. Received: 'petal length (cm)' twice",
        ),
        ("a;b\n1;2\n", "Received: no 'sepal length (cm)'"),
        ("HEADER\n1,2,3,4\n\n1,,3,4\n", "sepal width (cm)='' in line 4.*had no missing values"),
        ("HEADER\n1,1e30,3,4\n", "from -1e18 to 1e18. Received: sepal width (cm)='1e30'"),
        ("HEADER\n1,1_0,3,4\n", "sepal width (cm)='1_0'"),
        ('HEADER\n1,"2,3,4\n', "cannot be read as CSV: .*in line 2"),
        ("HEADER\n1,2,x,4\n", "petal length .*'x'"),
        ("HEADER\n1,2,3,-inf\n", "petal width .*'-inf'"),
        ("HEADER\n1,2,3,4\nHEADER\n", "Received: line 3, which repeats it. Remove the line"),
    ],
)
def test_a_csv_without_the_expected_columns_is_refused(text, message, row_bundle, tmp_path):
    manifest = Predictor.load(row_bundle).manifest
    path = tmp_path / "flowers.csv"
    path.write_text(text.replace("HEADER", ",".join(manifest.columns)))
    with pytest.raises(InputError, match=message.replace("(", r"\(").replace(")", r"\)")):
        read_inputs([path], manifest)


def test_a_csv_that_is_not_utf8_is_refused(row_bundle, tmp_path):
    path = tmp_path / "flowers.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        InputError, match="must be in UTF-8. Received: byte 0xff in line 1. Save it as UTF-8."
    ):
        read_inputs([path], Predictor.load(row_bundle).manifest)


def test_an_image_for_a_model_of_rows_is_refused(row_bundle):
    with pytest.raises(InputError, match="takes rows: CSV files. Received: a.PNG, an image."):
        read_inputs(["a.PNG"], Predictor.load(row_bundle).manifest)


def test_a_missing_csv_is_named(row_bundle, tmp_path):
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        read_inputs([tmp_path / "none.csv"], Predictor.load(row_bundle).manifest)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_reads_large_images_too():
    """In a process of its own: others of these tests import JAX, which warns of forks."""
    program = """
import io, os
from PIL import Image
from serving.images import read_pixels
file = io.BytesIO()
Image.new("L", (2100, 2000), 9).save(file, "PNG")
content = file.getvalue()
assert (read_pixels(content) == 9).all()
child = os.fork()
if not child:
    os._exit(0 if (read_pixels(content) == 9).all() else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_tiff_of_the_color_space_lab_is_read_in_gray_and_in_color(mode, tmp_path):
    image = Image.new("RGB", (8, 8), (200, 30, 40))
    image.convert("LAB").save(tmp_path / "lab.tif")
    pixels = read_pixels(tmp_path / "lab.tif", color=mode == "RGB")
    np.testing.assert_allclose(pixels, np.asarray(image.convert(mode)), atol=2)


def model_of(bundle, *inputs):
    """Return the manifest of a model whose inputs are single texts or numbers."""
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    specs = (TensorSpec(name, dtype, ("batch", 1)) for name, dtype in inputs)
    return dataclasses.replace(manifest, inputs=tuple(specs))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9))
@example([2**53 + 1, 123456789012345678, -(2**63), 2**63 - 1])
def test_whole_numbers_are_read_exactly_from_files_and_requests(bundle, numbers):
    manifest = model_of(bundle, ("id", "int64"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ids.csv")
        path.write_text("\n".join(["id", *map(str, numbers)]))
        read, _ = read_inputs([path], manifest)
    assert (read.dtype, read.ravel().tolist()) == (np.int64, numbers)
    body = json.dumps({"inputs": [[number] for number in numbers]}).encode()
    assert read_call(manifest, body).arrays["id"].ravel().tolist() == numbers


@pytest.mark.parametrize(
    "cell", ["9223372036854775808", "1e18", "9007199254740993.0", "1.5", "one", "-", "9" * 5000]
)
def test_what_is_no_exact_whole_number_is_refused(cell, bundle, tmp_path):
    (tmp_path / "ids.csv").write_text(f"id,name\n7.0,a\n$ 5,b\n{cell},c\n")
    manifest = model_of(bundle, ("id", "int64"), ("name", "string"))
    with pytest.raises(InputError, match=r"id must be of int64. Received: .* in line 4 of"):
        read_inputs([tmp_path / "ids.csv"], manifest)


def test_the_lines_of_a_text_file_end_at_line_breaks_only(bundle, tmp_path):
    texts = ["good film", "bad\u2028film", "form\x0cfeed", "\x1c\x85", "", "last"]
    path = tmp_path / "texts.txt"
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(("\ufeff" + end.join(texts) + end).encode())
        read, names = read_inputs([path], model_of(bundle, ("text", "string")))
        assert read.ravel().tolist() == texts
        assert names[-1] == f"{path}:6"
