"""Samples that are drawn reach what they should prove: each entry of the tables of a model."""

import keras
import pytest
import tensorflow as tf
from keras import layers
from keras.utils import FeatureSpace

from export import ExportOptions, export_bundle
from export.inference import trace_inference
from export.sample_generation import draw_samples


def drawn(model, **given):
    """Return the distinct values that are drawn for each input."""
    samples = draw_samples(trace_inference(model, **given)).inputs
    return {name: set(array.ravel().tolist()) for name, array in samples.items()}


@pytest.mark.parametrize(
    ("settings", "others"),
    [
        ({}, {-31, 206}),
        ({"num_oov_indices": 0}, set()),
        ({"mask_token": 0}, {-31, 0, 206}),
        ({"output_mode": "multi_hot"}, {-31, 206}),
    ],
)
def test_integers_are_drawn_from_the_vocabulary_that_looks_them_up(settings, others):
    x = keras.Input((3,), dtype="int64", name="ids")
    model = keras.Model(x, layers.IntegerLookup(vocabulary=[100, 205, -30], **settings)(x))
    assert drawn(model) == {"ids": {100, 205, -30, *others}}


def test_places_of_an_inverted_vocabulary_are_drawn_below_its_size():
    x = keras.Input((3,), dtype="int32", name="ids")
    model = keras.Model(x, layers.IntegerLookup(vocabulary=[5, 99, 44], invert=True)(x))
    assert drawn(model) == {"ids": {0, 1, 2, 3}}


@pytest.mark.parametrize("dtype", [None, "uint8"])
@pytest.mark.parametrize("bounds", [[18.0, 30.0, 65.0], [4.0]])
def test_numbers_are_drawn_on_both_sides_of_each_boundary(bounds, dtype):
    x = keras.Input((2,), name="ages")
    model = keras.Model(x, layers.Discretization(bin_boundaries=bounds)(x))
    inference = trace_inference(model, dtype)
    samples = draw_samples(inference).inputs
    assert {*bounds} <= {*samples["ages"].ravel().tolist()}
    (bins,) = inference.predict(samples).values()
    assert {*bins.ravel().tolist()} == {*range(len(bounds) + 1)}


def test_both_sides_of_a_boundary_at_0_are_proven(tmp_path):
    """Some runtimes take numbers below the smallest normal one for 0."""
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Discretization([-1.0, 0.0, 1.0])(x))
    assert min(abs(number) for number in drawn(model)["x"] if number) < 1e-37
    export_bundle(model, tmp_path, "net", options=ExportOptions(int8="never"))


class Tables(keras.Model):
    """Looks each of its inputs up in a table of its own."""

    def __init__(self):
        super().__init__()
        self.first = layers.StringLookup(vocabulary=["a", "b"], name="same")
        self.second = layers.StringLookup(vocabulary=["u", "v"], num_oov_indices=0)
        self.ids = layers.IntegerLookup(vocabulary=[77, 99], num_oov_indices=0)
        self.text = layers.TextVectorization(vocabulary=["q"], output_mode="multi_hot")
        self.scale = layers.Normalization(mean=1000.0, variance=4.0)
        self.scale.build((None, 1))
        self.places, self.tokens = layers.Embedding(4, 2), layers.Embedding(30, 2)

    def call(self, inputs):
        words = [
            self.first(inputs["first"]),
            self.second(inputs["second"]),
            self.ids(inputs["ids"]),
        ]
        tokens = self.tokens(keras.ops.where(inputs["tokens"] > 3, inputs["tokens"], 0))
        vectors = tokens + self.places(keras.ops.arange(3))
        scaled = self.scale(inputs["scaled"])
        words += [self.text(inputs["text"]), keras.ops.sum(vectors, axis=1), scaled]
        words += [inputs["plain"]]
        return keras.ops.concatenate([keras.ops.cast(each, "float32") for each in words], axis=1)


def test_each_input_of_a_class_is_drawn_for_the_table_that_reads_it():
    kinds = {"first": "string", "second": "string", "ids": "int64", "text": "string"}
    kinds |= {"scaled": "float32", "plain": "float32"}
    given = {name: tf.TensorSpec((None, 1), kind) for name, kind in kinds.items()}
    found = drawn(Tables(), given={**given, "tokens": tf.TensorSpec((None, 3), "int32")})
    assert {"a", "b"} < found["first"]
    assert not found["first"] & {"u", "v", "q"}
    assert found["second"] == {"u", "v"}
    assert found["ids"] == {77, 99}
    assert {word for text in found["text"] for word in text.split()} >= {"q", "Q", "unseen,"}
    assert max(found["tokens"]) == 29
    assert min(found["scaled"]) > 900
    assert max(found["plain"]) < 9


def test_a_feature_space_inside_a_class_is_exported_with_samples_of_its_own(tmp_path):
    space = FeatureSpace(
        {
            "color": FeatureSpace.string_categorical(),
            "shape": FeatureSpace.string_categorical(num_oov_indices=0),
            "code": FeatureSpace.integer_categorical(),
        },
        output_mode="concat",
    )
    rows = {"color": ["r", "g"] * 4, "shape": ["x", "y"] * 4, "code": [100, 200] * 4}
    space.adapt(tf.data.Dataset.from_tensor_slices(rows))

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.space, self.out = space, layers.Dense(2)

        def call(self, features):
            return self.out(self.space(features))

    given = {"color": "string", "shape": "string", "code": "int32"}
    given = {name: tf.TensorSpec((None, 1), kind) for name, kind in given.items()}
    found = drawn(net := Net(), given=given)
    assert {"r", "g"} < found["color"]
    assert found["shape"] == {"x", "y"}
    assert found["code"] == {99, 100, 200, 201}
    export_bundle(net, tmp_path, "net", options=ExportOptions(int8="never"), inputs=given)


def test_each_word_of_a_vocabulary_is_drawn():
    words = [f"w{number}" for number in range(50)]
    x = keras.Input((1,), dtype="string", name="word")
    found = drawn(keras.Model(x, layers.StringLookup(vocabulary=words)(x)))
    assert {*words} < found["word"]
