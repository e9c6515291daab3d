"""Augmentation: it acts in training only, and each setting has its effect."""

import keras
import numpy as np
import pytest
from keras import ops

from models import AugmentationConfig
from models.augment import augment, sample_bilinearly

SIDE = 28


@pytest.fixture
def digit():
    """A thick upright stroke with a foot, away from the border."""
    ink = np.zeros((64, SIDE, SIDE), "float32")
    ink[:, 6:22, 12:16] = 1
    ink[:, 19:22, 12:20] = 1
    return ink


def augmented(ink, training=True, **settings):
    inputs = keras.Input((SIDE, SIDE))
    model = keras.Model(inputs, augment(inputs, AugmentationConfig(**settings)))
    return ops.convert_to_numpy(model(ink, training=training))


def centers(ink):
    rows = np.arange(SIDE)
    total = ink.sum(axis=(1, 2))
    return (ink.sum(axis=2) @ rows) / total, (ink.sum(axis=1) @ rows) / total


SETTINGS = {
    "shift": 0.1,
    "rotation": 20,
    "scale": 0.2,
    "stretch": 0.2,
    "squareness": 1.0,
    "shear": 0.2,
    "elastic": 0.02,
    "thickness": 0.5,
    "sharpness": 1.0,
}


@pytest.mark.parametrize(("setting", "value"), SETTINGS.items())
def test_each_setting_changes_each_sample_differently_in_training_only(setting, value, digit):
    digit[:, 6:22, 16] = 0.5  # an edge that can be sharpened
    bent = augmented(digit, **{setting: value})
    assert np.abs(bent - digit).max() > 0.05
    assert np.abs(bent - bent[:1]).max() > 0.05
    assert bent.min() >= -1e-6
    assert bent.max() <= 1 + 1e-5
    np.testing.assert_array_equal(augmented(digit, training=False, **{setting: value}), digit)


def test_without_settings_there_is_no_layer():
    inputs = keras.Input((SIDE, SIDE))
    assert augment(inputs, AugmentationConfig()) is inputs


def test_a_shift_moves_the_ink_as_far_as_set(digit):
    before, after = centers(digit), centers(augmented(digit, shift=0.1))
    moved = np.abs(np.subtract(after, before))
    assert moved.max() <= 0.1 * SIDE + 1e-3
    assert moved.max() > 0.05 * SIDE


def test_a_rotation_keeps_the_middle_and_the_amount_of_ink(digit):
    turned = augmented(digit, rotation=20)
    np.testing.assert_allclose(turned.sum(axis=(1, 2)), digit.sum(axis=(1, 2)), rtol=0.05)


def test_a_scale_changes_the_amount_of_ink_by_its_square(digit):
    ratio = augmented(digit, scale=0.2).sum(axis=(1, 2)) / digit.sum(axis=(1, 2))
    assert 0.8**2 - 0.05 < ratio.min() < 0.8
    assert 1.2 < ratio.max() < 1.2**2 + 0.05


def test_squareness_widens_a_narrow_digit_up_to_a_square_and_keeps_its_height():
    narrow = np.zeros((64, SIDE, SIDE), "float32")
    narrow[:, 6:22, 12:16] = 1
    widened = augmented(narrow, squareness=1.0) > 0.5
    heights, widths = widened.any(axis=2).sum(axis=1), widened.any(axis=1).sum(axis=1)
    assert set(heights) == {16}
    assert 4 <= widths.min() < 6
    assert 13 < widths.max() <= 16


def test_thickness_thins_some_strokes_and_thickens_others(digit):
    ratio = augmented(digit, thickness=0.5).sum(axis=(1, 2)) / digit.sum(axis=(1, 2))
    assert ratio.min() < 0.9
    assert ratio.max() > 1.1


def test_sharpness_moves_gray_towards_ink_or_paper_and_keeps_both():
    ramp = np.tile(np.linspace(0, 1, SIDE, dtype="float32"), (64, SIDE, 1))
    sharp = augmented(ramp, sharpness=1.0)
    np.testing.assert_array_equal(sharp[:, :, [0, -1]], ramp[:, :, [0, -1]])
    assert (sharp[:, :, :7] <= ramp[:, :, :7]).all()
    assert (sharp[:, :, 21:] >= ramp[:, :, 21:]).all()
    middle = SIDE // 2
    assert (sharp[:, 0, middle] < ramp[:, 0, middle]).any()
    assert (sharp[:, 0, middle] > ramp[:, 0, middle]).any()


def test_an_elastic_field_has_the_standard_deviation_that_was_set():
    ramp = np.tile(np.arange(SIDE, dtype="float32"), (64, SIDE, 1))
    moved = (augmented(ramp, elastic=0.02) - ramp)[:, 5:-5, 5:-5]
    assert moved.std() == pytest.approx(0.02 * SIDE, rel=0.25)


def test_sampling_is_linear_between_pixels_and_0_outside_of_the_image():
    image = np.arange(6, dtype="float32").reshape(1, 2, 3)
    rows = np.array([[[0.0, 0.5, 1.0, 0.0, -3.0]]], "float32")
    columns = np.array([[[0.0, 1.0, 1.5, 2.5, 1.0]]], "float32")
    sampled = ops.convert_to_numpy(sample_bilinearly(image, rows, columns))
    np.testing.assert_allclose(sampled, [[[0, 2.5, 4.5, 1.0, 0]]])


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("shift", 1.0, "augmentation.shift must be at least 0 and below 1"),
        ("squareness", 1.5, "augmentation.squareness must be from 0 to 1"),
        ("rotation", 181, "augmentation.rotation must be from 0 to 180"),
        ("thickness", float("nan"), "augmentation.thickness must be from 0 to 1"),
        ("elastic", -0.1, "augmentation.elastic must be at least 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, value, message):
    with pytest.raises(ValueError, match=message):
        AugmentationConfig(**{setting: value})
