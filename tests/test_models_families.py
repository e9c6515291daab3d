"""The three families: their contracts, their settings, their errors."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import models
from models.activations import RandomizedReLU, activate
from models.blocks import normalize
from models.config.digits import VARIANTS
from models.config.features import APPLICATIONS
from models.config.layers import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS
from models.digits import digit_net
from models.features import feature_extractor
from models.softmax import softmax_classifier


def predict(model, inputs):
    return {name: ops.convert_to_numpy(v) for name, v in model(inputs, training=False).items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_digit_net_gives_probabilities_and_features(variant, images):
    config = models.DigitNetConfig(variant=variant, hidden=(24, 12))
    answers = predict(digit_net(config), images)
    assert answers["probabilities"].shape == (12, 10)
    assert answers["features"].shape == (12, 12)
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, rtol=1e-5)


def test_a_softmax_classifier_normalizes_with_the_statistics_of_the_training_data():
    rows = np.array([[1, 200], [3, 400], [5, 900]], "float32")
    config = models.SoftmaxClassifierConfig(rows=models.RowsConfig(num_columns=2), num_classes=3)
    model = softmax_classifier(config)
    model.get_layer("normalize").adapt(rows)
    kernel, bias = model.get_layer("probabilities").get_weights()
    logits = ((rows - rows.mean(axis=0)) / rows.std(axis=0)) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict(model, rows)["probabilities"], expected, atol=1e-5)


def test_a_feature_extractor_takes_rows_or_images(images):
    config = models.FeatureExtractorConfig(rows=models.RowsConfig(num_columns=5), hidden=(8, 3))
    rows = feature_extractor(config)
    assert predict(rows, np.ones((2, 5), "float32"))["features"].shape == (2, 3)
    config = models.FeatureExtractorConfig(
        image_shape=(28, 28, 1), backbone="mlp", hidden=(9,), num_outputs=10
    )
    answers = predict(feature_extractor(config), images[..., np.newaxis])
    assert answers["probabilities"].shape == (12, 10)
    assert answers["features"].shape == (12, 9)


@pytest.mark.parametrize(
    ("shape", "features"),
    [
        ((8, 8, 1), 32),
        ((28, 28, 1), 64),
        ((32, 32, 3), 72),
        ((96, 64, 3), 72),
        ((224, 224, 3), 64),
    ],
)
def test_a_residual_backbone_adapts_to_the_size_of_its_images(shape, features):
    config = models.FeatureExtractorConfig(image_shape=shape, width=8, hidden=(), num_outputs=3)
    model = feature_extractor(config)
    stages = [layer.output.shape for layer in model.layers if layer.name.startswith("stage")]
    maps = [shape[1:3] for shape in stages if len(shape) == 4]
    assert max(maps[0]) <= 48
    assert 3 <= min(maps[-1]) <= 12
    answers = predict(model, np.zeros((2, *shape), "uint8"))
    assert answers["probabilities"].shape == (2, 3)
    assert answers["features"].shape == (2, features)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 64, 3), (2, 1000, 1)])
def test_a_residual_backbone_takes_images_of_a_single_line(shape):
    config = models.FeatureExtractorConfig(image_shape=shape, width=8, hidden=(), num_outputs=3)
    answers = predict(feature_extractor(config), np.zeros((2, *shape), "uint8"))
    assert np.isfinite(answers["probabilities"]).all()


@pytest.mark.parametrize(
    "setting",
    [{"activation": a} for a in ACTIVATIONS]
    + [{"initializer": i} for i in INITIALIZERS]
    + [{"normalization": n} for n in NORMALIZATIONS],
)
def test_every_setting_builds_a_model_with_finite_outputs(setting, images):
    config = models.DigitNetConfig(variant="mlp", hidden=(8,), **setting)
    answers = predict(digit_net(config), images)
    assert np.isfinite(answers["probabilities"]).all()


def test_each_setting_has_its_effect():
    def layers(**settings):
        net = digit_net(models.DigitNetConfig(variant="mlp", hidden=(8,), **settings))
        return {layer.name: layer for layer in net.layers}

    assert layers(activation="gelu")["features"].activation.__name__ == "gelu"
    assert "features_norm" in layers()
    assert "features_norm" not in layers(normalization="none")
    assert layers(normalization="none")["features_dense"].use_bias
    assert not layers(initializer="zeros")["features_dense"].get_weights()[0].any()
    assert layers(dropout=0.3)["features_dropout"].rate == pytest.approx(0.3)
    assert "features_dropout" not in layers(dropout=0.0)
    regularizer = layers(l1=0.1, l2=0.2)["features_dense"].kernel_regularizer
    assert (float(regularizer.l1), float(regularizer.l2)) == pytest.approx((0.1, 0.2))
    kernel = layers(initializer="normal", initializer_stddev=3.0)["features_dense"].get_weights()[0]
    assert kernel.std() == pytest.approx(3, rel=0.1)


def test_each_normalization_standardizes_its_own_groups():
    x = np.random.default_rng(0).normal(5, 3, (4, 6, 6, 8)).astype("float32")
    axes = {"layer": (3,), "instance": (1, 2)}
    for name, reduced in axes.items():
        config = models.DigitNetConfig(normalization=name)
        normalized = ops.convert_to_numpy(normalize(x, config, "norm"))
        np.testing.assert_allclose(normalized.mean(axis=reduced), 0, atol=1e-4)
        np.testing.assert_allclose(normalized.std(axis=reduced), 1, atol=1e-2)
    config = models.DigitNetConfig(normalization="group", groups=2)
    halves = ops.convert_to_numpy(normalize(x, config, "norm")).reshape(4, 6, 6, 2, 4)
    np.testing.assert_allclose(halves.mean(axis=(1, 2, 4)), 0, atol=1e-4)
    assert normalize(x, models.DigitNetConfig(normalization="none"), "norm") is x


def test_activations_follow_their_papers():
    x = np.array([[-2.0, -0.5, 0.0, 0.5]], "float32")

    def values(name):
        return ops.convert_to_numpy(activate(x, name, name)).ravel().tolist()

    assert values("step") == [0, 0, 0, 1]
    assert values("prelu") == pytest.approx([-0.5, -0.125, 0, 0.5])
    mean_slope = (1 / 8 + 1 / 3) / 2
    assert values("rrelu") == pytest.approx([-2 * mean_slope, -0.5 * mean_slope, 0, 0.5])


def test_rrelu_draws_its_slopes_in_training_only():
    x = -np.ones((100, 100), "float32")
    drawn = ops.convert_to_numpy(RandomizedReLU()(x, training=True))
    assert -1 / 3 <= drawn.min() < -0.33
    assert -0.13 < drawn.max() <= -1 / 8
    assert np.ptp(ops.convert_to_numpy(RandomizedReLU()(x))) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_preprocessing_and_outputs_are_float32_in_mixed_precision(variant, images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        net = digit_net(models.DigitNetConfig(variant=variant))
    finally:
        keras.config.set_dtype_policy("float32")
    assert net.get_layer("fit_ink").output.dtype == "float32"
    assert net.output["probabilities"].dtype == "float32"
    assert net.output["features"].dtype == "bfloat16"


@pytest.mark.parametrize("depth", [7, 13, 101])
def test_a_resnet_has_the_configured_number_of_layers(depth):
    net = digit_net(models.DigitNetConfig(variant="resnet", depth=depth))
    names = [layer.name for layer in net.layers]
    longest = [n for n in names if n == "stem" or n.endswith(("_conv1", "_conv2"))]
    assert len(longest) == depth


def test_a_stage_has_the_configured_number_of_convolutions():
    config = models.DigitNetConfig(filters=(4, 4), convolutions=(1, 3))
    names = [layer.name for layer in digit_net(config).layers]
    assert [n for n in names if n.endswith("_conv")] == [
        "block1_conv",
        "block2_1_conv",
        "block2_2_conv",
        "block2_3_conv",
    ]


def test_heads_suit_their_targets():
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")

    def outputs(**settings):
        config = models.FeatureExtractorConfig(hidden=(8,), **settings)
        return predict(feature_extractor(config), rows)

    two = outputs(head="sigmoid")["probabilities"]
    np.testing.assert_allclose(two.sum(axis=1), 1, rtol=1e-6)
    many = outputs(head="sigmoid", many_labels=True, num_outputs=3)["probabilities"]
    assert many.shape == (20, 3)
    assert np.abs(many.sum(axis=1) - 1).max() > 0.1
    assert outputs(head="linear", num_outputs=1)["values"].shape == (20, 1)


def test_a_linear_head_predicts_in_the_units_of_its_targets():
    config = models.FeatureExtractorConfig(hidden=(8,), head="linear", num_outputs=1)
    model = feature_extractor(config)
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    standard = predict(model, rows)["values"]
    model.get_layer("values").adapt(np.array([[90.0], [110.0]], "float32"))
    np.testing.assert_allclose(predict(model, rows)["values"], 100 + 10 * standard, rtol=1e-5)


@pytest.mark.parametrize(
    ("used", "unused"),
    [
        ({"normalization": "group", "groups": 32, "hidden": (64,)}, {"filters": (9,)}),
        ({}, {"depth": 4, "stem": -1, "convolutions": (1, 2)}),
        ({"variant": "resnet", "filters": (8,) * 4}, {"stem": 8, "convolutions": (1, 2)}),
        ({"variant": "cnn"}, {"depth": 4}),
    ],
)
def test_settings_that_a_variant_does_not_use_have_no_effect(used, unused):
    of_mlp = {"variant": "mlp", **used}
    nets = [digit_net(models.DigitNetConfig(**of_mlp, **more)) for more in ({}, unused)]
    first, second = ([(layer.name, layer.output.shape) for layer in net.layers] for net in nets)
    assert first == second


def test_groups_divide_the_width_of_a_backbone_of_images_only():
    settings = {"normalization": "group", "groups": 5, "hidden": (50,)}
    assert models.FeatureExtractorConfig(**settings).width % 5
    with pytest.raises(ValueError, match="width must be multiples of groups=5"):
        models.FeatureExtractorConfig(**settings, image_shape=(32, 32, 3))


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (models.DigitNetConfig, {"variant": "cn"}, "variant must be one of mlp, cnn, .*'cnn'"),
        (models.DigitNetConfig, {"variant": "resnet", "depth": 4}, "depth must be at least 7"),
        (
            models.DigitNetConfig,
            {"variant": "resnet", "depth": 20},
            "depth must be odd.*Use 19 or 21",
        ),
        (models.DigitNetConfig, {"convolutions": (1, 2)}, "one for each of the 3 stages"),
        (models.DigitNetConfig, {"initializer_stddev": 0.0}, "initializer_stddev must be above 0"),
        (
            models.DigitNetConfig,
            {"normalization": "group", "groups": 3},
            r"filters must be multiples of groups=3.*\(16, 32, 64\)",
        ),
        (models.DigitNetConfig, {"normalization": "layer", "filters": (1, 8)}, "at least 2"),
        (models.DigitNetConfig, {"normalization": "layer", "stem": 1}, "stem must be at least 2"),
        (
            models.FeatureExtractorConfig,
            {"normalization": "group", "groups": 8, "hidden": (8,)},
            r"normalization=group, hidden must be at least 16.*\(8,\)",
        ),
        (models.FeatureExtractorConfig, {"normalization": "layer", "hidden": (1,)}, "at least 2"),
        (models.FeatureExtractorConfig, {"head": "linea"}, "head must be one of .*'linear'"),
        (models.FeatureExtractorConfig, {"backbone": "dist"}, "a run, a bundle, or a .keras file"),
        (
            models.FeatureExtractorConfig,
            {"head": "sigmoid", "num_outputs": 3},
            "head=sigmoid must have two classes.*3 classes. Use head=softmax",
        ),
        (models.FeatureExtractorConfig, {"many_labels": True}, "Several labels .* head=sigmoid"),
        (
            models.RowsConfig,
            {"nullable_columns": (4,)},
            "nullable_columns must be below num_columns=4",
        ),
        (models.RowsConfig, {"indicators": (1,)}, "indicators must be among nullable_columns"),
        (models.RowsConfig, {"vocabularies": ((),)}, "Each vocabulary must hold a text"),
        (models.DigitNetConfig, {"l1": float("inf")}, "l1 must be finite"),
        (models.DigitNetConfig, {"activation": "relo"}, "Did you mean 'relu'"),
        (models.DigitNetConfig, {"hidden": ()}, r"hidden must be one or more .*hidden=\(\)"),
        (models.DigitNetConfig, {"filters": (8,) * 5}, "at most 4 stages"),
        (models.DigitNetConfig, {"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        (models.DigitNetConfig, {"l2": -1.0}, "l2 must be at least 0"),
        (models.DigitNetConfig, {"l2": float("nan")}, "l2 must be at least 0"),
        (models.SoftmaxClassifierConfig, {"num_classes": 1}, "num_classes must be at least 2"),
        (models.RowsConfig, {"num_columns": 0}, "num_columns must be at least 1"),
        (
            models.FeatureExtractorConfig,
            {"image_shape": (2, 2, 2)},
            "must be .height, width, channels.",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_value(config, values, message):
    with pytest.raises(ValueError, match=message):
        config(**values)


def test_every_model_of_keras_applications_can_be_a_backbone():
    names = {name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction)}
    assert set(APPLICATIONS) == names
