"""Noise that outputs need becomes an input; noise that they do not need is left out."""

import keras
import numpy as np
import pytest
from keras import Input, layers, ops

from export import ExportError, ExportOptions, ProofError, export_bundle
from export.inference import trace_inference
from export.noise import WithNoise, require_same_draws
from export.onnx.convert import convert_to_onnx
from serving import Predictor, verify_bundle
from serving.session import open_session

OPTIONS = ExportOptions(int8="never")


class Sampling(layers.Layer):
    """The layer of the guides to variational autoencoders."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        shape = (ops.shape(z_mean)[0], ops.shape(z_mean)[1])
        epsilon = keras.random.normal(shape=shape, seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


class Drawing(layers.Layer):
    """Adds what a function of the input draws."""

    def __init__(self, draw, **kwargs):
        super().__init__(**kwargs)
        self.draw = draw

    def call(self, x):
        return x + self.draw(x)


def encoder():
    image = Input((8, 8, 1), name="image")
    hidden = layers.Flatten()(layers.Conv2D(3, 3, activation="relu")(image))
    z_mean, z_log_var = layers.Dense(2, name="z_mean")(hidden), layers.Dense(2)(hidden)
    return keras.Model(image, {"z_mean": z_mean, "z": Sampling()([z_mean, z_log_var])})


def drawing(draw, shape=(4,), name="noisy"):
    start = Input(shape, name="x")
    return keras.Model(start, Drawing(draw, name=name)(start))


def test_the_noise_of_a_sampling_layer_is_an_input_that_the_bundle_explains(tmp_path):
    images = np.random.default_rng(0).uniform(size=(6, 8, 8, 1)).astype("float32")
    bundle = export_bundle(encoder(), tmp_path, "vae", samples=images, options=OPTIONS)
    assert all(check.passed for check in verify_bundle(bundle.parent))
    predictor = Predictor.load(bundle)
    noise = predictor.manifest.inputs[1]
    assert (noise.name, noise.shape) == ("sampling_noise", ("batch", 2))
    assert any(
        line.startswith("sampling_noise takes standard normal numbers")
        for line in predictor.manifest.warnings
    )
    still = predictor.predict({"image": images, "sampling_noise": np.zeros((6, 2), "float32")})
    np.testing.assert_allclose(still.outputs["z"], still.outputs["z_mean"], rtol=1e-6)
    moved = predictor.predict({"image": images, "sampling_noise": np.ones((6, 2), "float32")})
    assert (moved.outputs["z"] > still.outputs["z"]).all()


def test_each_draw_is_an_input_of_its_kind_with_mean_and_range_in_the_graph():
    def draw(x):
        uniform = keras.random.uniform(ops.shape(x), minval=-2, maxval=3, seed=5)
        return uniform + keras.random.normal(ops.shape(x), mean=2.0, stddev=0.1)

    inference = trace_inference(drawing(draw, (None, 4)), "uint8")
    assert inference.noise == {"noisy_noise": "uniform", "noisy_noise_2": "normal"}
    assert [spec.dtype for spec in inference.inputs] == ["uint8", "float32", "float32"]
    shape = (3, 5, 4)
    inputs = {
        "x": np.ones(shape, "uint8"),
        "noisy_noise": np.full(shape, 0.5, "float32"),
        "noisy_noise_2": np.ones(shape, "float32"),
    }
    require_same_draws(inference.model, inputs)
    session = open_session(convert_to_onnx(inference, {}).SerializeToString())
    np.testing.assert_allclose(session.run(None, inputs)[0], np.full(shape, 3.6), rtol=1e-6)


def test_dropout_that_stays_on_takes_uniform_numbers():
    model = drawing(lambda x: keras.random.dropout(x, 0.25, seed=3))
    inference = trace_inference(model)
    assert set(inference.noise.values()) == {"uniform"}
    inputs = {"x": np.ones((4, 4), "float32"), "noisy_noise": np.zeros((4, 4), "float32")}
    require_same_draws(inference.model, inputs)
    np.testing.assert_array_equal(inference.predict(inputs)["noisy"], inputs["x"])


def test_draws_that_are_given_in_the_wrong_place_are_noticed():
    def draw(x):
        return keras.random.normal(ops.shape(x)) - 2 * keras.random.normal(ops.shape(x))

    model = drawing(draw)
    tensors = [Input((4,), name=name) for name in ("x", "first", "second")]
    inputs = {tensor.name: np.ones((5, 4), "float32") for tensor in tensors}
    require_same_draws(keras.Model(tensors, WithNoise(model, [0, 1])(tensors)), inputs)
    exchanged = keras.Model(tensors, [WithNoise(model, [0])(tensors[:2])])
    with pytest.raises(ProofError, match="answer the same with given noise as with its own"):
        require_same_draws(exchanged, inputs)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda _: keras.random.normal((4,)),
            r"drawn for each sample of a batch\. Received: noisy_noise \(4,\)\.",
        ),
        (
            lambda x: ops.cast(keras.random.categorical(x, 1), "float32"),
            "random numbers at inference. Received: StatelessMultinomial of layer 'noisy'",
        ),
    ],
)
def test_noise_that_cannot_be_an_input_is_refused(draw, message):
    with pytest.raises(ExportError, match=message):
        convert_to_onnx(trace_inference(drawing(draw)), {})


AUGMENTATIONS = [
    layers.AlphaDropout(0.2), layers.AugMix(), layers.CutMix(), layers.Dropout(0.2),
    layers.GaussianDropout(0.2), layers.GaussianNoise(0.2), layers.MixUp(), layers.RandAugment(),
    layers.RandomBrightness(0.2), layers.RandomColorDegeneration(0.2), layers.RandomColorJitter(),
    layers.RandomContrast(0.2), layers.RandomCrop(8, 8), layers.RandomElasticTransform(),
    layers.RandomErasing(), layers.RandomFlip(), layers.RandomGaussianBlur(),
    layers.RandomGrayscale(), layers.RandomHue(0.2), layers.RandomInvert(),
    layers.RandomPerspective(), layers.RandomPosterization(3), layers.RandomRotation(0.2),
    layers.RandomSaturation(0.2), layers.RandomSharpness(0.2), layers.RandomShear(0.1, 0.1),
    layers.RandomTranslation(0.1, 0.1), layers.RandomZoom(0.2), layers.SpatialDropout2D(0.2),
]  # fmt: skip


def test_every_random_layer_does_nothing_at_inference():
    x = start = Input((8, 8, 3), name="x")
    for layer in AUGMENTATIONS:
        x = layer(x)
    inference = trace_inference(keras.Model(start, x))
    assert [spec.name for spec in inference.inputs] == ["x"]
    graph = convert_to_onnx(inference, {})
    assert [node.op_type for node in graph.graph.node] == ["Identity"]


def test_every_random_layer_of_keras_is_among_them():
    known = {type(layer).__name__ for layer in AUGMENTATIONS}
    # Those for other ranks share the code; height and width are gone from Keras 3.
    known |= {"SpatialDropout1D", "SpatialDropout3D"}
    marks = ("Random", "Noise", "Dropout", "Mix", "RandAugment")
    assert {name for name in dir(layers) if any(mark in name for mark in marks)} == known
