"""The layers that normalize the polarity, contrast, size and position of a digit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops

from models.ink import Binarize, Denoise, FitInk, InkLevel


def fitted(image):
    return ops.convert_to_numpy(FitInk(size=28, ink_size=20)(InkLevel()(image)))


def test_polarity_and_contrast_do_not_change_the_ink(images):
    ink = ops.convert_to_numpy(InkLevel()(images))
    np.testing.assert_array_equal(ops.convert_to_numpy(InkLevel()(255 - images)), ink)
    faint = (images // 4 + 100).astype("uint8")
    assert np.abs(ops.convert_to_numpy(InkLevel()(faint)) - ink).max() < 0.05


def test_ink_that_runs_up_to_the_border_is_still_ink():
    image = np.zeros((1, 28, 28), "uint8")
    image[0, :5] = image[0, :, :4] = 255  # two of four sides: more than half the border
    ink = ops.convert_to_numpy(InkLevel()(image))
    np.testing.assert_array_equal(ink, image / 255)
    np.testing.assert_array_equal(ops.convert_to_numpy(InkLevel()(255 - image)), ink)


def test_denoising_removes_specks_and_keeps_strokes():
    ink = np.zeros((1, 28, 28), "float32")
    ink[0, 5:20, 12:14] = 1
    specked = ink.copy()
    specked[0, 2, 3] = specked[0, 25, 25] = 0.9
    np.testing.assert_array_equal(ops.convert_to_numpy(Denoise()(specked)), ink)


@pytest.mark.parametrize("side", [3, 7])
def test_denoising_is_the_minimum_with_the_darkest_neighbor(side):
    ink = np.random.default_rng(0).uniform(size=(2, side, side)).astype("float32")
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    for row, column in np.ndindex(side, side):
        around = padded[:, row : row + 3, column : column + 3].copy()
        around[:, 1, 1] = 0
        expected = np.minimum(ink[:, row, column], around.max(axis=(1, 2)))
        received = ops.convert_to_numpy(Denoise()(ink))[:, row, column]
        np.testing.assert_array_equal(received, expected)


def test_a_shifted_digit_is_fitted_to_the_same_place():
    image = np.zeros((1, 28, 28), "uint8")
    image[0, 2:14, 3:9] = 200
    shifted = np.roll(image, (11, 9), axis=(1, 2))
    np.testing.assert_allclose(fitted(shifted), fitted(image), atol=1e-5)


def test_fitted_ink_fills_its_box_around_the_center_of_mass():
    image = np.zeros((1, 28, 28), "uint8")
    image[0, 1:11, 2:6] = 255  # 10 rows high: twice that after fitting
    ink = fitted(image)[0]
    rows = np.flatnonzero(ink.max(axis=1) > 0.5)
    assert 19 <= np.ptp(rows) + 1 <= 21
    center = (ink.sum(axis=1) * (np.arange(28) + 0.5)).sum() / ink.sum()
    assert center == pytest.approx(14, abs=0.05)


@pytest.mark.parametrize(("size", "ink_size", "center"), [(28, 20, "mass"), (16, 16, "box")])
@pytest.mark.parametrize("side", [10, 17, 20, 24, 28])
def test_uniform_ink_stays_uniform_at_any_scale(side, size, ink_size, center):
    ink = np.zeros((1, 28, 28), "float32")
    ink[0, :side, :side] = 1
    layer = FitInk(size=size, ink_size=ink_size, center=center)
    fitted_ink = ops.convert_to_numpy(layer(ink))[0]
    middle = fitted_ink[size // 2 - 4 : size // 2 + 4, size // 2 - 4 : size // 2 + 4]
    np.testing.assert_allclose(middle, 1, atol=1e-4)
    assert fitted_ink.max() <= 1 + 1e-4


def test_binarizing_leaves_little_between_ink_and_paper():
    ink = np.array([[0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0]], "float32")
    expected = [[0, 0, 0, 0.5, 1, 1, 1]]
    answers = ops.convert_to_numpy(Binarize()(ink))
    np.testing.assert_allclose(answers, expected, atol=0.31)
    assert answers[0, 1] == 0
    assert answers[0, 5] == 1


@given(arrays(np.uint8, (2, 28, 28)))
def test_any_image_becomes_finite_ink_between_0_and_1(image):
    ink = fitted(image)
    assert np.isfinite(ink).all()
    assert ink.min() >= 0
    assert ink.max() <= 1 + 1e-5


@given(st.sampled_from([0, 7, 255]))
def test_a_uniform_image_has_no_ink(gray):
    image = np.full((1, 28, 28), gray, "uint8")
    assert not fitted(image).any()


def test_an_unknown_center_is_refused():
    with pytest.raises(ValueError, match="center must be one of mass, box"):
        FitInk(size=28, ink_size=20, center="middle")
