"""The three families: their contracts, their knobs, their errors."""

import numpy as np
import pytest
from keras import ops

import models
from models.blocks import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS


def predict(model, inputs):
    return {name: ops.convert_to_numpy(v) for name, v in model(inputs, training=False).items()}


@pytest.mark.parametrize("variant", ["mlp", "cnn"])
def test_a_digit_net_gives_probabilities_and_features(variant, images):
    config = models.DigitNetConfig(variant=variant, hidden=(24, 12))
    answers = predict(models.digit_net(config), images)
    assert answers["probabilities"].shape == (12, 10)
    assert answers["features"].shape == (12, 12)
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, rtol=1e-5)


def test_a_softmax_classifier_normalises_with_the_statistics_it_learned():
    rows = np.array([[1, 200], [3, 400], [5, 900]], "float32")
    model = models.softmax_classifier(models.SoftmaxClassifierConfig(num_columns=2, num_classes=3))
    model.get_layer("normalize").adapt(rows)
    kernel, bias = model.get_layer("probabilities").get_weights()
    logits = ((rows - rows.mean(axis=0)) / rows.std(axis=0)) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict(model, rows)["probabilities"], expected, atol=1e-5)


def test_a_feature_extractor_takes_rows_or_images(images):
    rows = models.feature_extractor(models.FeatureExtractorConfig(input_shape=(5,), hidden=(8, 3)))
    assert predict(rows, np.ones((2, 5), "float32"))["features"].shape == (2, 3)
    config = models.FeatureExtractorConfig(input_shape=(28, 28), num_classes=10)
    answers = predict(models.feature_extractor(config), images)
    assert answers["probabilities"].shape == (12, 10)


@pytest.mark.parametrize(
    "knob",
    [{"activation": a} for a in ACTIVATIONS]
    + [{"initializer": i} for i in INITIALIZERS]
    + [{"normalization": n} for n in NORMALIZATIONS],
)
def test_every_knob_builds_a_net_of_finite_answers(knob, images):
    config = models.DigitNetConfig(variant="mlp", hidden=(8,), **knob)
    answers = predict(models.digit_net(config), images)
    assert np.isfinite(answers["probabilities"]).all()


def test_a_knob_turns_what_it_says():
    def layers(**knobs):
        net = models.digit_net(models.DigitNetConfig(variant="mlp", hidden=(8,), **knobs))
        return {layer.name: layer for layer in net.layers}

    assert layers(activation="gelu")["features"].activation.__name__ == "gelu"
    assert "features_dense_norm" not in layers(normalization="none")
    assert layers(normalization="none")["features_dense"].use_bias
    assert not layers(initializer="zeros")["features_dense"].get_weights()[0].any()
    assert layers(dropout=0.3)["features_dropout"].rate == pytest.approx(0.3)
    assert "features_dropout" not in layers(dropout=0.0)
    regularizer = layers(l1=0.1, l2=0.2)["features_dense"].kernel_regularizer
    assert (float(regularizer.l1), float(regularizer.l2)) == pytest.approx((0.1, 0.2))


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (models.DigitNetConfig, {"variant": "cn"}, "variant must be one of mlp, cnn.*'cnn'"),
        (models.DigitNetConfig, {"activation": "relo"}, "Did you mean 'relu'"),
        (models.DigitNetConfig, {"hidden": ()}, r"hidden must be one or more .*hidden=\(\)"),
        (models.DigitNetConfig, {"filters": (8,) * 5}, "at most 4 blocks"),
        (models.DigitNetConfig, {"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        (models.DigitNetConfig, {"l2": -1.0}, "l2 must be at least 0"),
        (models.DigitNetConfig, {"l2": float("nan")}, "l2 must be at least 0"),
        (models.SoftmaxClassifierConfig, {"num_classes": 1}, "num_classes must be at least 2"),
        (models.SoftmaxClassifierConfig, {"num_columns": 0}, "num_columns must be at least 1"),
        (models.FeatureExtractorConfig, {"input_shape": (2, 2, 2)}, "columns,.*height, width"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_value(config, values, message):
    with pytest.raises(ValueError, match=message):
        config(**values)
