"""Fused batch normalization computes the same as that of Keras, and shares its weights."""

import keras
import numpy as np
import pytest

from app.training.fused_batch_norm import with_fused_normalization
from models import DigitNetConfig
from models.digits import digit_net

IMAGES = np.random.default_rng(0).uniform(size=(7, 28, 28)).astype("float32")
TARGETS = np.eye(10, dtype="float32")[np.arange(7)]


def learning_part(variant):
    keras.utils.set_random_seed(0)
    config = DigitNetConfig(variant=variant, filters=(4, 8), hidden=(6,), depth=5, dropout=0)
    net = digit_net(config)
    begin = "pixels" if variant == "mlp" else "fit_ink"
    return keras.Model(net.get_layer(begin).output, net.get_layer("probabilities").output)


def trained(model, variant, optimizer="sgd"):
    model.compile(optimizer, "categorical_crossentropy")
    inputs = IMAGES[:, :16, :16].reshape(7, -1) if variant == "mlp" else IMAGES
    losses = [float(model.train_on_batch(inputs, TARGETS)) for _ in range(3)]
    return losses, model.get_weights(), model.predict(inputs, verbose=0)


# The residual net has the layers of the convolutional one.
@pytest.mark.parametrize("variant", ["cnn", "mlp", pytest.param("resnet", marks=pytest.mark.slow)])
def test_a_fused_model_learns_and_predicts_as_keras_does(variant):
    plain = learning_part(variant)
    part = learning_part(variant)
    fused = with_fused_normalization(part)
    assert not any(isinstance(x, keras.layers.BatchNormalization) for x in fused.layers)
    for ours, theirs in zip(trained(fused, variant), trained(plain, variant), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    names = [weight.path for weight in part.weights]
    assert [weight.path for weight in fused.weights] == names
    for one, other in zip(part.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# In short: test_a_fused_model_learns_and_predicts_as_keras_does[cnn].
@pytest.mark.slow
def test_a_residual_net_of_few_channels_trains():
    """With a skip connection of strided 1x1 convolutions, oneDNN wrote past its memory."""
    config = DigitNetConfig(variant="resnet", filters=(4, 8), hidden=(6,), depth=5)
    net = digit_net(config)
    part = keras.Model(net.get_layer("fit_ink").output, net.get_layer("probabilities").output)
    part.compile("adam", "categorical_crossentropy")
    images = np.random.default_rng(0).uniform(size=(97, 28, 28)).astype("float32")
    targets = np.eye(10, dtype="float32")[np.arange(97) % 10]
    losses = [float(part.train_on_batch(images, targets)) for _ in range(60)]
    assert losses[-1] < losses[0]


def test_frozen_layers_keep_their_statistics():
    part = learning_part("cnn")
    for layer in part.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    before = [weight.numpy() for weight in part.non_trainable_weights]
    assert len(before) == 12  # gamma, beta and two statistics of each of three
    trained(with_fused_normalization(part), "cnn")
    for one, other in zip(before, part.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("arguments", [{"center": False}, {"scale": False}, {"axis": 1}])
def test_layers_that_the_fused_operation_cannot_compute_are_unchanged(arguments):
    x = keras.Input((4, 4, 4))
    model = keras.Model(x, keras.layers.BatchNormalization(**arguments)(x))
    assert with_fused_normalization(model).layers[1] is model.layers[1]
