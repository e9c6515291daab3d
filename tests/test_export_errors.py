"""Failures of an export are one line each: which layer, why, and what helps."""

import random
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from export import ExportError, export_bundle
from export.reasons import describe_failure


class Own(keras.Model):
    """Calls a function, as if its body were the method `call`."""

    def __init__(self, function):
        super().__init__(name="own")
        self.function, self.out = function, layers.Dense(3, name="out")

    def call(self, x):
        return self.function(self, x)


class Count(layers.Layer):
    def __init__(self):
        super().__init__(name="count")
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x + self.calls


class Branch(layers.Layer):
    """Says which shape it returns, so that Keras does not trace it when a model is built."""

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        return x if ops.sum(x) > 0 else -x


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def own(function):
    return Own(function)


def called(function):
    """A model that Keras cannot trace is called nevertheless, and warns."""
    model = Own(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(floats(2, 4))
    return model


def functional(*built, **of_input):
    x = y = keras.Input(of_input.pop("shape", (4,)), name="x", **of_input)
    for layer in built:
        y = layer(y)
    return keras.Model(x, y)


def _doubled(x):
    return tf.py_function(lambda numbers: 2 * numbers, [x], tf.float32)


def raising(error):
    def call(self, x):
        raise error

    return own(call)


LONG = "the message of a library may be long, " * 8 + "and its end says what to do"
# Each makes a model, with the arguments of the export and its error.
FAILURES = {
    "not_a_model": (lambda: "model.keras", {}, r"must be a keras.Model. Received: str\."),
    "own_error": (
        lambda: own(lambda self, x: self.missing(x)),
        {"inputs": (None, 4)},
        r"must be able to trace the model. Received: AttributeError in layer 'own' "
        r"\(test_export_errors.py, line \d+\): 'Own' object has no attribute 'missing'\.",
    ),
    "own_long_error": (
        lambda: raising(RuntimeError(LONG)),
        {"inputs": (None, 4)},
        rf"Received: RuntimeError in layer 'own' \(.*\): {LONG}\.$",
    ),
    "own_key_error": (
        lambda: own(lambda self, x: self.out({"a": x}["b"])),
        {"inputs": (None, 4)},
        r"Received: KeyError in layer 'own' \(.*\): 'b'\.$",
    ),
    "returns_nothing": (
        lambda: own(lambda *_: None),
        {"inputs": (None, 4)},
        "call must return tensors. Received: None from 'own', of the class Own.",
    ),
    "returns_a_number": (
        lambda: own(lambda *_: 3.0),
        {"inputs": (None, 4)},
        r"layer 'own': All operation outputs must be tensors. .* received: 3.0\.",
    ),
    "numpy": (
        lambda: own(lambda self, x: self.out(x) * np.mean(x)),
        {"inputs": (None, 4)},
        r"Received: layer 'own' .*\. Use keras.ops instead of numpy\.",
    ),
    "if_of_a_tensor": (
        lambda: own(lambda self, x: self.out(x) if ops.sum(x) > 0 else x),
        {"inputs": (None, 4)},
        r"layer 'own' .* Use keras.ops.where or keras.ops.cond instead of if\.",
    ),
    "if_of_a_tensor_in_a_layer": (
        lambda: functional(Branch(name="branch")),
        {},
        r"layer 'branch' \(test_export_errors.py, line \d+\): .* keras.ops.cond instead of if\.",
    ),
    "called_but_not_traceable": (
        lambda: called(lambda self, x: self.out(x) if ops.sum(x) > -99 else x),
        {},
        r"to trace call, .* 'own', of the class Own, whose call it could not trace. .*--input x=",
    ),
    "other_weights": (
        lambda: functional(layers.Dense(3, name="out")),
        {"inputs": (None, 7)},
        r"layer 'out': .* expected axis -1 .* value 4, but received .* shape \(None, 7\)\.$",
    ),
    "image_too_small": (
        lambda: functional(layers.Conv2D(2, 3, name="conv"), shape=(8, 8, 3)),
        {"inputs": (None, 2, 2, 3)},
        r"layer 'conv': Computed output size would be zero or negative",
    ),
    "no_inputs": (
        lambda: functional(layers.Dense(3)),
        {"inputs": {}},
        r"must take at least one input. Received: \{\}\.",
    ),
    "samples_of_another_shape": (
        lambda: functional(layers.Dense(3)),
        {"samples": floats(5, 3)},
        r"Samples must fit .* shape \(batch, 4\). Received: shape=\(5, 3\)",
    ),
    "tokens_beyond_the_embedding": (
        lambda: functional(layers.Embedding(9, 3, name="words"), dtype="int32"),
        {"samples": np.full((3, 4), 9, "int32")},
        r"run the model on the CPU. Received: layer 'words': indices\[0,0\] = 9 is not in \[0, 9\)",
    ),
    "variable_axis": (
        lambda: functional(layers.Reshape((-1, 700), name="rows"), shape=(None, 4)),
        {},
        r"some size .* Received: x float32 \[batch, x_steps, 4\], .* layer 'rows': The total .*"
        r"input_shape=\(1, 4\), target_shape=\(-1, 700\)",
    ),
    "ragged": (
        lambda: own(lambda _, x: tf.RaggedTensor.from_tensor(x)),
        {"inputs": (None, 4)},
        r"Outputs must be dense. Received: own, which is ragged. Return x.to_tensor\(\)\.",
    ),
    "changed_variable": (
        lambda: functional(Count()),
        {},
        "must not change its variables at inference. Received: layer 'count'.",
    ),
    "stateful_layer": (
        lambda: functional(
            layers.LSTM(4, stateful=True, name="rnn"), shape=None, batch_shape=(2, 5, 3)
        ),
        {},
        "must not change its variables at inference. Received: layer 'rnn'.",
    ),
    "chance_of_python": (
        lambda: own(lambda self, x: self.out(x) * random.random()),  # noqa: S311
        {"inputs": (None, 4)},
        "must not depend on chance. Received: own, which Keras predicts differently each time",
    ),
    "no_operator": (
        lambda: own(lambda self, x: tf.ensure_shape(_doubled(self.out(x)), (None, 3))),
        {"inputs": (None, 4)},
        "counterpart in ONNX. Received: EagerPyFunc of layer 'own'",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_in_one_line_which_layer_and_why(name, tmp_path):
    build, arguments, message = FAILURES[name]
    model = build()
    with pytest.raises(ExportError, match=message) as caught:
        export_bundle(model, tmp_path / "dist", "model", **arguments)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert not list(tmp_path.rglob("model*"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "[ShapeInferenceError] Inference error(s): (op_type:Concat, node name: net/join_1/a): "
            "All inputs to Concat must have same rank",
            "Concat of layer 'join': All inputs to Concat must have same rank.",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Concat "
            "node. Name:'join/concat' Status Message: concatbase.h:133 PrepareForComputeImpl Non "
            "concat axis dimensions must match: Axis 1 has mismatched dimensions of 4 and 3",
            "Concat of layer 'join': Non concat axis dimensions must match: Axis 1 has mismatched "
            "dimensions of 4 and 3.",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. "
            "Name:'own/add' Status Message: /core/cpu/element_wise_ops.h:563 void onnxruntime::"
            "BroadcastIterator::Init(ptrdiff_t, ptrdiff_t) axis == 1 || axis == largest was false. "
            "Attempting to broadcast an axis by a dimension other than 1. 3 by 4",
            "Add of 'own/add': Attempting to broadcast an axis by a dimension other than 1. "
            "3 by 4.",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Node (join/mm) Op (MatMul) [ShapeInferenceError] "
            "Incompatible dimensions for matrix multiplication",
            "MatMul of layer 'join': Incompatible dimensions for matrix multiplication.",
        ),
        ("", "ValueError: no reason given."),
    ],
)
def test_errors_of_onnx_name_the_layer(message, expected):
    assert describe_failure(ValueError(message), {"join"}) == expected
