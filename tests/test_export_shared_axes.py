"""Variable axes of several inputs that must have one size get one name."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from export import ExportError, ExportOptions, export_bundle
from export.shared_axes import axis_names, tied_axes

OPTIONS = ExportOptions(int8="never")


def tracing(*ties, limit=1000):
    """Return a trace that fails, as TensorFlow does, where tied axes differ or one is too long."""

    def trace(shapes):
        for (first, a), (second, b) in ties:
            if shapes[first][a] != shapes[second][b]:
                sizes = f"{shapes[first][a]} and {shapes[second][b]}"
                raise ValueError(f"Dimensions must be equal, but are {sizes} for 'Add'")
        if max(size for shape in shapes for size in shape if size) > limit:
            raise ValueError("Expected size[0] in [0, 5]")

    return trace


TEXT = (None, None)


def test_axes_that_must_be_equal_are_found_in_any_number_of_sets():
    trace = tracing([(0, 1), (1, 1)], [(2, 1), (3, 1)], [(3, 1), (4, 1)])
    assert tied_axes(trace, [TEXT] * 6) == [{(0, 1), (1, 1)}, {(2, 1), (3, 1), (4, 1)}]


def test_a_model_of_few_positions_is_tried_with_short_axes():
    assert tied_axes(tracing([(0, 1), (1, 1)], limit=5), [TEXT] * 3) == [{(0, 1), (1, 1)}]


def test_keras_own_message_of_a_mask_is_read():
    def trace(shapes):
        if shapes[0] != shapes[1]:
            a, b = shapes[0][1], shapes[1][1]
            raise ValueError(f"inputs.shape=(None, 2, {a}, {a}), mask.shape=(None, 1, {b}, {b})")

    assert tied_axes(trace, [TEXT, TEXT]) == [{(0, 1), (1, 1)}]


def test_a_single_input_and_a_model_that_always_fails_have_no_tied_axes():
    def trace(_shapes):
        raise ValueError("it fails")

    assert tied_axes(trace, [(None, None, None, 3)]) == []
    assert tied_axes(trace, [TEXT, TEXT]) == []


def test_names_tell_what_an_axis_is():
    names = ["encoder_ids", "encoder_mask", "decoder_ids", "decoder_mask"]
    sets = [{(0, 1), (1, 1)}, {(2, 1), (3, 1)}]
    assert set(axis_names(sets, names, [2] * 4).values()) == {
        "encoder_sequence",
        "decoder_sequence",
    }
    assert axis_names(sets[:1], names, [2] * 4)[0, 1] == "sequence"
    assert axis_names([{(0, 1), (1, 1)}], ["left", "right"], [4, 4])[1, 1] == "height"


class Positions(layers.Layer):
    """Room for 5 tokens."""

    def build(self, shape):
        self.table = self.add_weight(shape=(5, shape[-1]), name="table")

    def call(self, x):
        return x + self.table[: ops.shape(x)[1]]


def test_texts_of_few_tokens_with_a_mask_and_places_are_exported_without_samples(tmp_path):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    mask = keras.Input((None,), dtype="int32", name="mask")
    places = keras.Input((None,), dtype="int32", name="places")
    x = Positions()(layers.Embedding(20, 4)(tokens))
    x = x * ops.expand_dims(ops.cast(mask, "float32"), -1)
    y = ops.take_along_axis(x, ops.expand_dims(places, -1), axis=1)
    model = keras.Model([tokens, mask, places], layers.Dense(3)(y))
    bundle = export_bundle(model, tmp_path, "texts", options=OPTIONS)
    inputs = json.loads((bundle / "manifest.json").read_text())["inputs"]
    assert [spec["shape"] for spec in inputs] == [
        ["batch", "sequence"],
        ["batch", "sequence"],
        ["batch", "places_1"],
    ]


class Stretched(layers.Layer):
    """Needs sizes that are computed."""

    def call(self, x):
        _, height, width, _ = ops.shape(x)
        x = ops.image.resize(x, (height + 1, 2 * width))
        return x * ops.reshape(ops.linspace(0.0, 1.0, height + 1), (1, -1, 1, 1))

    def compute_output_shape(self, shape):
        return (shape[0], None, None, shape[3])


def test_sizes_that_are_computed_are_exported(tmp_path):
    x = keras.Input((None, None, 3), name="image")
    y = layers.UpSampling2D(2, interpolation="bilinear")(x)
    model = keras.Model(x, Stretched()(y))
    bundle = export_bundle(model, tmp_path, "images", options=OPTIONS)
    assert (bundle / "model.onnx").exists()


class LoopOverSteps(layers.Layer):
    """Needs the number of steps in Python."""

    def call(self, x):
        total = x[:, 0]
        for step in range(x.shape[1] or ops.shape(x)[1]):
            total = total + x[:, step]
        return total

    def compute_output_shape(self, shape):
        return (shape[0], shape[2])


def test_a_loop_over_a_variable_axis_is_told_and_can_be_given_a_size(tmp_path):
    x = keras.Input((None, 3), name="x")
    model = keras.Model(x, LoopOverSteps()(x))
    with pytest.raises(
        ExportError, match=r"'loop_over_steps'.* Give the sizes, such as --input x=.*16"
    ):
        export_bundle(model, tmp_path, "loop", options=OPTIONS)
    given = np.zeros((1, 4, 3), "float32")
    assert export_bundle(model, tmp_path, "loop", options=OPTIONS, inputs=given).exists()
