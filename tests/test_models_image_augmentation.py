"""Augmentation of images: shifts, RandAugment, mixup and CutMix."""

import keras
import numpy as np
import pytest
from keras import ops

from app.training.losses import LabelAccuracy
from models import ImageAugmentationConfig
from models.image_augmentation import augment_images, mix_images
from models.image_mixing import MixingModel, mix_targets

SHAPE = (12, 16, 3)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (64, *SHAPE), np.uint8)


@pytest.fixture
def plain():
    """Images of one color each, which differ by 3 from one to the next."""
    return np.full((64, *SHAPE), 3, np.uint8) * np.arange(64, dtype=np.uint8).reshape(-1, 1, 1, 1)


def augmented(images, **settings):
    inputs = keras.Input(images.shape[1:], dtype="uint8")
    model = keras.Model(inputs, augment_images(inputs, ImageAugmentationConfig(**settings)))
    np.testing.assert_array_equal(model(images), images)
    changed = ops.convert_to_numpy(model(images, training=True))
    assert (changed.dtype, changed.shape) == (images.dtype, images.shape)
    return changed


def mixed(images, training=True, **settings):
    inputs = keras.Input(images.shape[1:], dtype="uint8")
    model = keras.Model(inputs, mix_images(inputs, ImageAugmentationConfig(**settings)))
    changed, share = map(ops.convert_to_numpy, model(images, training=training))
    assert (changed.dtype, changed.shape) == (images.dtype, images.shape)
    assert (share.dtype, share.shape) == (np.float32, (len(images), 1))
    return changed, share[:, 0]


def partners(images):
    return np.roll(images, 1, axis=0)


def test_without_settings_there_is_no_layer():
    inputs = keras.Input(SHAPE, dtype="uint8")
    assert augment_images(inputs, ImageAugmentationConfig()) is inputs
    images, shares = mix_images(inputs, ImageAugmentationConfig(randaugment=0.3))
    assert images is inputs
    assert shares is None


def test_a_shift_moves_whole_pixels_and_mirrors_what_it_uncovers(images):
    shifted = augmented(images, shift=0.2)
    padded = np.pad(images, ((0, 0), (2, 2), (3, 3), (0, 0)), "reflect")
    places = []
    for old, new in zip(padded, shifted, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(old, SHAPE)[..., 0, :, :, :]
        (place,) = np.argwhere((windows == new).all(axis=(2, 3, 4)))
        places.append(tuple(place))
    rows, columns = zip(*places, strict=True)
    assert set(rows) == set(range(5))
    assert set(columns) == set(range(7))


def test_randaugment_moves_and_recolors_images_by_its_magnitude(images):
    changed = augmented(images, randaugment=0.3)
    same = (changed == images).all(axis=(1, 2, 3))
    assert 0 <= same.mean() < 0.2  # two operations of 13 are seldom both the identity
    assert len(np.unique(changed.reshape(len(images), -1), axis=0)) == len(images)
    bright = np.full((64, *SHAPE), 100, np.uint8)
    levels = [set(np.unique(augmented(bright, randaugment=m)).tolist()) for m in (0.01, 0.3)]
    assert max(abs(level - 100) for level in levels[0] - {0}) <= 2
    assert {100 - 27, 100 + 27} <= levels[1]


def test_randaugment_takes_gray_images(images):
    gray = images[..., :1]
    assert (augmented(gray, randaugment=0.3) != gray).any()


def test_mixup_is_the_mean_of_two_images_weighted_by_the_share(images):
    changed, share = mixed(images, mixup=0.5)
    weight = share.reshape(-1, 1, 1, 1)
    expected = (1 - weight) * images + weight * partners(images)
    np.testing.assert_allclose(changed, expected, atol=0.51)
    assert 0 <= share.min() < 0.1
    assert 0.9 < share.max() <= 1


def test_cutmix_pastes_a_box_and_its_share_is_the_fraction_of_pixels_that_were_pasted(plain):
    changed, share = mixed(plain, cutmix=1.0)
    pasted = changed == partners(plain)
    assert (pasted | (changed == plain)).all()
    np.testing.assert_allclose(pasted.mean(axis=(1, 2, 3)), share, atol=1e-6)
    assert share.min() < 0.1
    assert share.max() > 0.6
    for image in pasted[..., 0]:
        rows, columns = image.any(axis=1), image.any(axis=0)
        np.testing.assert_array_equal(image, np.outer(rows, columns))
        assert np.count_nonzero(np.diff(np.concatenate([[0], rows, [0]]))) <= 2


def test_with_both_each_image_gets_one_of_them(plain):
    changed, _ = mixed(plain, mixup=100, cutmix=100)
    # At such a concentration, mixup blends all pixels by half, and CutMix pastes half of the image.
    number_of_colors = [len(np.unique(image)) for image in changed]
    assert set(number_of_colors) == {1, 2}


def test_nothing_is_mixed_outside_of_training(images):
    same, share = mixed(images, training=False, mixup=1, cutmix=1)
    np.testing.assert_array_equal(same, images)
    assert not share.any()


@pytest.mark.parametrize("settings", [{"randaugment": 0.5}, {"mixup": 1, "cutmix": 1}])
def test_a_seed_gives_the_same_changes(settings, images):
    def change():
        keras.utils.set_random_seed(3)
        return (
            augmented(images, **settings)
            if "randaugment" in settings
            else mixed(images, **settings)[0]
        )

    np.testing.assert_array_equal(change(), change())


@pytest.mark.parametrize(
    ("name", "value"), [("randaugment", 1.5), ("mixup", -0.1), ("cutmix", float("inf"))]
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"augmentation.{name} must be from 0 to"):
        ImageAugmentationConfig(**{name: value})


def test_the_loss_is_the_mean_of_the_losses_with_both_targets(images):
    """With sample weights and label smoothing; in evaluation, it is the ordinary loss."""
    inputs = keras.Input(SHAPE, dtype="uint8")
    x, share = mix_images(inputs, ImageAugmentationConfig(cutmix=1.0))
    x = keras.layers.Flatten()(keras.layers.Rescaling(0.01)(x))
    x = keras.layers.Dense(4, activation="softmax")(x)
    model = MixingModel(inputs, keras.layers.Concatenate()([x, share]))
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["categorical_accuracy"])
    random = np.random.default_rng(1)
    targets = np.eye(4, dtype=np.float32)[random.integers(0, 4, len(images))]
    weights = random.uniform(0.5, 2, len(images)).astype(np.float32)

    def losses(probabilities, targets):
        smooth = 0.9 * targets + 0.1 / 4
        return -(smooth * np.log(probabilities)).sum(axis=1)

    state = [variable.numpy() for variable in model.non_trainable_variables]
    outputs = ops.convert_to_numpy(model(images, training=True))
    for variable, value in zip(model.non_trainable_variables, state, strict=True):
        variable.assign(value)
    trained = model.train_on_batch(images, targets, weights)[0]
    own = (1 - outputs[:, 4]) * weights * losses(outputs[:, :4], targets)
    other = outputs[:, 4] * partners(weights) * losses(outputs[:, :4], partners(targets))
    assert trained == pytest.approx((own + other).mean(), rel=1e-4)
    evaluated, accuracy = model.test_on_batch(images, targets)
    outputs = ops.convert_to_numpy(model(images))
    assert evaluated == pytest.approx(losses(outputs[:, :4], targets).mean(), rel=1e-4)
    right = outputs[:, :4].argmax(axis=1) == targets.argmax(axis=1)
    assert accuracy == pytest.approx(right.mean())


def test_values_are_mixed_by_the_share():
    values = np.array([[1.0], [3.0]], np.float32)
    mixture, weights = mix_targets(values, np.array([[0.25], [0.0]], np.float32))
    np.testing.assert_allclose(mixture, [[1.5], [3.0]])
    assert weights is None


def test_a_mixed_label_counts_as_that_of_the_larger_part():
    metric = LabelAccuracy()
    metric.update_state(np.array([[0.3, 0.7]], np.float32), np.array([[0.1, 0.6]], np.float32))
    assert float(metric.result()) == 1.0
