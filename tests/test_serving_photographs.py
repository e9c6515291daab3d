"""Finding the digit of a photograph or a scan."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from serving.photographs import find_digit, read_photograph, shows_ink

SHAPE = (28, 28)
HEIGHT, WIDTH = 400, 300


def ink_of(digit, side):
    """Return a digit as ink from 0 to 1, `(side, side)`."""
    return np.asarray(Image.fromarray(digit).resize((side, side)), np.float32) / 255


def written(digit, place=(150, 80), side=112, paper=220.0, ink=30.0):
    """Return a digit on a page, float32 `(400, 300)`."""
    layer = np.zeros((HEIGHT, WIDTH), np.float32)
    layer[place[0] : place[0] + side, place[1] : place[1] + side] = ink_of(digit, side)
    return paper + (ink - paper) * layer


def found(page):
    return find_digit(np.rint(page.clip(0, 255)).astype(np.uint8), SHAPE)


def likeness(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


@pytest.fixture(scope="module")
def digit(images):
    return images[3]


@pytest.fixture(scope="module")
def expected(digit):
    """The digit as it is found on an even page."""
    return found(written(digit))


def test_the_digit_is_bright_on_black_in_the_middle_and_of_the_usual_size(digit, expected):
    rows, columns = np.nonzero(expected > 100)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
    assert abs(rows.min() + rows.max() - 27) <= 1
    assert abs(columns.min() + columns.max() - 27) <= 1
    top, left = (np.flatnonzero((digit > 60).any(axis=axis))[0] for axis in (1, 0))
    cut = Image.fromarray(digit[top:, left:]).getbbox()
    whole = (
        Image.fromarray(digit[top:, left:])
        .crop(cut)
        .resize((np.ptp(columns) + 1, np.ptp(rows) + 1))
    )
    inner = expected[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert likeness(inner, np.asarray(whole)) > 0.9


@pytest.mark.parametrize("place", [(10, 10), (280, 180), (10, 180), (140, 90)])
@pytest.mark.parametrize(("paper", "ink"), [(250, 0), (220, 150), (60, 200), (0, 255)])
def test_neither_the_place_nor_the_colors_matter(paper, ink, place, digit, expected):
    assert likeness(found(written(digit, place, paper=paper, ink=ink)), expected) > 0.93


@pytest.mark.parametrize("size", [(200, 150), (401, 301), (2000, 1500)])
def test_the_size_of_the_image_does_not_matter(size, digit, expected):
    page = Image.fromarray(np.rint(written(digit)).astype(np.uint8)).resize(size[::-1])
    assert likeness(find_digit(np.asarray(page), SHAPE), expected) > 0.95


def shadow(page):
    return page * np.linspace(1, 0.4, WIDTH)


def ruled(page):
    lined = page.copy()
    lined[::40] -= 40
    return lined


def table(page):
    placed = page.copy()
    placed[:, :14] = placed[:16] = 60
    return placed


def grain(page):
    return page + np.random.default_rng(0).normal(0, 8, page.shape)


@pytest.mark.parametrize("change", [shadow, ruled, table, grain])
def test_what_else_is_on_the_page_is_left_out(change, digit, expected):
    assert likeness(found(change(written(digit))), expected) > 0.93


def test_a_stroke_that_winds_through_the_image_is_one_component():
    """Its runs are joined only far away from most of them."""
    page = np.full((200, 200), 230.0)
    for n in range(0, 80, 10):
        page[40 + n // 2 : 44 + n // 2, 40 + n // 2 : 160 - n // 2] = 20
        page[40 + n // 2 : 160 - n // 2, 156 - n // 2 : 160 - n // 2] = 20
    comb = page.copy()
    comb[44:160, 40:44] = 20
    for image in (page, comb):
        rows, columns = np.nonzero(found(image) > 60)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 20)


def test_a_scan_that_the_digit_fills_is_not_taken_for_paper():
    scan = Image.new("L", (300, 400), 235)
    two = [(5, 60), (150, 5), (290, 100), (10, 390), (295, 390)]
    ImageDraw.Draw(scan).line(two, fill=20, width=50, joint="curve")
    cut = Image.fromarray(find_digit(np.asarray(scan), SHAPE))
    cut = cut.crop(cut.getbbox())
    wanted = Image.fromarray(255 - np.asarray(scan)).resize(cut.size)
    assert likeness(np.asarray(cut), np.asarray(wanted)) > 0.95


def test_a_jpeg_that_is_decoded_smaller_shows_the_same_digit(digit, expected):
    page = Image.fromarray(np.rint(written(digit)).astype(np.uint8)).resize((1500, 2000))
    file = io.BytesIO()
    page.save(file, "JPEG")
    pixels = read_photograph(file.getvalue())
    assert pixels.shape == (500, 375)
    assert likeness(find_digit(pixels, SHAPE), expected) > 0.97


@given(
    st.tuples(st.integers(1, 140), st.integers(1, 140)).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 90, 200, 255]))
    )
)
def test_any_pixels_give_an_image_of_the_wanted_shape(gray):
    digit = find_digit(gray, SHAPE)
    assert (digit.shape, digit.dtype) == (SHAPE, np.uint8)
    assert isinstance(shows_ink(gray), bool)


@pytest.mark.parametrize("shape", [(1, 65_535), (65_535, 1), (2, 5_000), (65, 65), (384, 384)])
@pytest.mark.parametrize("fill", ["empty", "noise"])
def test_images_without_a_digit_are_resized(fill, shape):
    gray = np.full(shape, 200, np.uint8)
    if fill == "noise":
        gray = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert find_digit(gray, SHAPE).shape == SHAPE
    if fill == "empty":
        assert (find_digit(gray, SHAPE) == 200).all()
