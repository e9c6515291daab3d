"""Export of models whose graph Keras does not know: classes of one's own, and what they take."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conversion import run_graph
from keras import layers, ops

from app.bundles.keras_files import read_model
from app.commands.model_inputs import parse_inputs
from app.errors import ConfigError
from export import ExportError, ModelFacts, export_bundle
from export.inference import trace_inference
from export.onnx.convert import convert_to_onnx
from export.signatures import arguments_of
from serving import Predictor


@keras.saving.register_keras_serializable(package="test_export_signatures")
class Net(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.drop = layers.Dense(8, activation="relu"), layers.Dropout(0.5)
        self.out = layers.Dense(3)

    def call(self, x, training=False):
        return self.out(self.drop(self.hidden(x), training=training))


class Tokens(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = layers.Embedding(20, 4), layers.Dense(3)

    def call(self, tokens, mask=None):
        return self.out(ops.mean(self.embedding(tokens), axis=1))


class MaskedTokens(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(20, 4, mask_zero=True)
        self.mean = layers.GlobalAveragePooling1D()

    def call(self, tokens):
        samples = ops.shape(tokens)[0]
        is_long = ops.any(tokens[:, 3:] > 9, axis=1, keepdims=True)
        return self.mean(self.embedding(tokens)) + ops.ones((samples, 4)) * ops.cast(is_long, float)


class Two(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Dense(3), layers.Dense(3)

    def call(self, left, right, scale=None):
        return self.first(left) + self.second(right)


class Sum(keras.Model):
    def call(self, left, right):
        return left + right


class TokensBeside(keras.Model):
    def __init__(self):
        super().__init__()
        self.out, self.embedding = layers.Dense(3), layers.Embedding(20, 3)

    def call(self, x, tokens):
        return self.out(x) + ops.mean(self.embedding(tokens), axis=1)


class Sides(Two):
    def call(self, up, training, *, below):
        return self.first(up) + self.second(below)


class TwoBuilt(Two):
    def build(self, left_shape, right_shape):
        self.first.build(left_shape)
        self.second.build(right_shape)
        self.built = True


class Nested(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(3), layers.Dense(3)

    def call(self, inputs):
        first = self.first(inputs["image"])
        if inputs.get("other") is not None:
            first = first + 1.0
        return {"sum": first + self.second(inputs["more"]["text"]), "alone": first}


class OneKey(keras.Model):
    """Takes a dict with one key, which is also the name of the argument."""

    def __init__(self):
        super().__init__()
        self.out = layers.Dense(3)

    def call(self, x):
        return self.out(x["x"])


class Listed(keras.Model):
    def __init__(self):
        super().__init__()
        self.out = layers.Dense(3)

    def call(self, inputs):
        return self.out(inputs[0]), self.out(inputs[1])


class Residual(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return inputs + super().call(inputs, training=training, mask=mask)


class OwnPredict(keras.Model):
    def predict(self, x, **kwargs):
        raise TypeError("takes texts only")


class OwnCall(keras.Model):
    def __init__(self):
        x = keras.Input((4,), name="x")
        super().__init__(x, layers.Dense(3)(x))

    def call(self, x, training=False):
        return 2 * super().call(x)


class Product(layers.Layer):
    def call(self, x):
        return x * ops.sum(x, axis=1, keepdims=True)


@keras.saving.register_keras_serializable(package="test_export_signatures")
class UnusedInside(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.unused = layers.Dense(3)

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[1:], name="scale")

    def call(self, x):
        return x * self.scale


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def whole(*shape):
    return np.random.default_rng(0).integers(0, 20, shape).astype("int32")


def called(model, *arguments, **named):
    model(*arguments, **named)
    return model


def fitted():
    model = Net()
    model.compile("sgd", "mse")
    model.fit(floats(6, 5), floats(6, 3), batch_size=2, verbose=0)
    return model


def of_graph(kind):
    x = keras.Input((4,))
    return kind(x, layers.Dense(3)(x))


def sequential():
    return keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(1)])


# Each makes a model, and the inputs that the graph must have with samples for them.
MODELS = {
    "called": (lambda: called(Net(), floats(2, 5)), {"x": floats(3, 5)}),
    "fitted": (fitted, {"x": floats(3, 5)}),
    "tokens": (lambda: called(Tokens(), whole(2, 6)), {"tokens": whole(3, 6)}),
    "tokens_behind_a_mask": (
        lambda: called(MaskedTokens(), whole(2, 6)),
        {"tokens": whole(3, 6)},
    ),
    "several_arguments": (
        lambda: called(TwoBuilt(), floats(2, 5), floats(2, 4)),
        {"left": floats(3, 5), "right": floats(3, 4)},
    ),
    "several_arguments_by_their_weights": (
        lambda: called(Two(), floats(2, 5), floats(2, 4)),
        {"left": floats(3, 5), "right": floats(3, 4)},
    ),
    "arguments_in_the_order_of_call": (
        lambda: called(Sides(), floats(2, 5), training=False, below=floats(2, 4)),
        {"up": floats(3, 5), "below": floats(3, 4)},
    ),
    "layer_of_several_arguments": (
        lambda: called(layers.MultiHeadAttention(2, 2), floats(2, 3, 4), floats(2, 3, 4)),
        {"query": floats(3, 3, 4), "value": -floats(3, 3, 4)},
    ),
    "nested": (
        lambda: called(
            Nested(), {"image": floats(2, 5), "other": None, "more": {"text": floats(2, 4)}}
        ),
        {"image": floats(3, 5), "more_text": floats(3, 4)},
    ),
    "dict_of_one": (lambda: called(OneKey(), {"x": floats(2, 5)}), {"x": floats(3, 5)}),
    "list": (
        lambda: called(Listed(), [floats(2, 5), floats(2, 5)]),
        {"input_0": floats(3, 5), "input_1": -floats(3, 5)},
    ),
    "layer": (lambda: called(Product(), floats(2, 5)), {"x": floats(3, 5)}),
    "own_predict": (lambda: of_graph(OwnPredict), {"inputs": floats(3, 4)}),
    "own_call": (OwnCall, {"x": floats(3, 4)}),
    "sequential_called": (lambda: called(sequential(), floats(2, 5)), {"inputs": floats(3, 5)}),
    "sequential_of_tokens": (
        lambda: called(keras.Sequential([MaskedTokens()]), whole(2, 6)),
        {"inputs": whole(3, 6)},
    ),
    "sequential_of_a_class": (
        lambda: called(keras.Sequential([Net()]), floats(2, 5)),
        {"inputs": floats(3, 5)},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_was_called_is_exported_with_a_batch_of_any_size(name):
    build, inputs = MODELS[name]
    model = build()
    inference = trace_inference(model)
    assert [(spec.name, spec.dtype) for spec in inference.inputs] == [
        (name, str(array.dtype)) for name, array in inputs.items()
    ]
    received = run_graph(inference, convert_to_onnx(inference, {}), inputs)
    expected = inference.predict(inputs)
    assert list(received) == list(expected)
    for output, array in expected.items():
        np.testing.assert_allclose(received[output], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("is_called", [True, False])
def test_a_class_may_take_a_dict_with_one_key(is_called):
    model = called(OneKey(), {"x": floats(2, 5)}) if is_called else OneKey()
    (found,) = trace_inference(model, given={"x": (None, 5)}).predict(floats(3, 5)).values()
    np.testing.assert_allclose(found, model({"x": floats(3, 5)}), rtol=1e-5)
    with pytest.raises(ExportError, match="Keras must be able to trace the model"):
        trace_inference(OneKey(), given={"y": (None, 5)})


@pytest.mark.parametrize("is_begun", [True, False])
def test_the_call_of_a_class_of_sequential_is_what_is_exported(is_begun):
    given = [layers.Dense(5, activation="relu"), layers.Dense(5)]
    model = called(Residual([keras.Input((5,)), *given] if is_begun else given), floats(2, 5))
    x = floats(3, 5)
    (found,) = trace_inference(model).predict(x).values()
    np.testing.assert_allclose(found, model(x), rtol=1e-5)


def test_what_a_class_computes_is_what_is_exported():
    model = called(Two(), floats(2, 5), floats(2, 4))
    left, right = floats(3, 5), floats(3, 4)
    given = {"left": (None, 5), "right": (None, 4)}
    for inputs in (given, list(given.values()), [left, right]):
        found = trace_inference(model, given=inputs).predict({"left": left, "right": right})
        np.testing.assert_allclose(found["two"], model(left, right), rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_class_in_mixed_precision_keeps_the_names_of_its_inputs(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = called(Two(), floats(2, 5), floats(2, 4))
        given = {"left": (None, 5), "right": (None, 4)}
        found = trace_inference(model, given=given)
        (single,) = trace_inference(called(Net(), floats(2, 5))).inputs
    finally:
        keras.config.set_dtype_policy(before)
    assert [spec.name for spec in (*found.inputs, single)] == ["left", "right", "x"]
    inputs = {"left": floats(3, 5), "right": -floats(3, 4)}
    expected = tf.cast(model(*inputs.values()), tf.float32)
    np.testing.assert_allclose(found.predict(inputs)["two"], expected, atol=0.05)


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        ((None, None, 3), "inputs"),
        (floats(2, 7, 3), "inputs"),
        ({"frames": (None, 9, 3)}, "frames"),
        ([keras.InputSpec(shape=(2, 7, 3), dtype="float32", name="frames")], "frames"),
        ((tf.TensorSpec((None, 7, 3), name="frames"),), "frames"),
    ],
)
def test_inputs_that_are_given_count_more_than_those_of_the_first_call(inputs, name):
    model = called(keras.Sequential([layers.GRU(4)]), floats(2, 5, 3))
    (spec,) = trace_inference(model, given=inputs).inputs
    assert spec.shape[0] == "batch"
    assert spec.shape[1:] != (5, 3)
    assert spec.name == name


def test_inputs_of_a_functional_model_may_be_given_by_name():
    second, first = keras.Input((None, 4), name="second"), keras.Input((None, 3), name="first")
    out = layers.Dense(2, name="out")
    model = keras.Model([second, first], out(ops.concatenate([first, second], axis=2)))
    given = {"first": (None, 6, 3), "second": (None, 6, 4)}
    inference = trace_inference(model, given=given)
    assert {spec.name: spec.shape[1:] for spec in inference.inputs} == {
        "first": (6, 3),
        "second": (6, 4),
    }
    with pytest.raises(ExportError, match="Inputs must be given for second, first. Received: x"):
        trace_inference(model, given={"x": (None, 6, 3)})


def test_a_file_of_a_class_is_exported_from_the_command_line(run, tmp_path, monkeypatch):
    module = tmp_path / "own_net.py"
    module.write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable(package='own_net')\n"
        "class Net(keras.Model):\n"
        "    def __init__(self, **kwargs):\n"
        "        super().__init__(**kwargs)\n"
        "        self.out = keras.layers.Dense(3)\n"
        "    def call(self, x):\n"
        "        return self.out(keras.ops.mean(x, axis=1))\n"
        "@keras.saving.register_keras_serializable(package='own_net')\n"
        "class Sides(Net):\n"
        "    def call(self, left, right):\n"
        "        return self.out(left) - self.out(right)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    from own_net import Net as OwnNet
    from own_net import Sides as OwnSides

    called(OwnNet(), floats(2, 6, 4)).save("net.keras")
    arguments = ["export", "net.keras", "--module", "own_net", "--int8", "never"]
    status, _, error = run(*arguments, "--input", "frames=float32[batch,steps,4]")
    assert status == 0, error
    with Predictor.load(tmp_path / "dist" / "net") as predictor:
        assert predictor.manifest.inputs[0].shape == ("batch", "frames_steps", 4)
    status, _, error = run(*arguments, "--input", "frames=float32")
    assert status == 2
    assert "must have the form name=dtype[batch,size,…]" in error
    # Keras notes only the first argument, so that it cannot build the model, and skips its weights.
    left, right = floats(2, 4), -floats(2, 4)
    expected = called(sides := OwnSides(), left, right) and sides(left, right)
    sides.save("sides.keras")
    arguments[1] = "sides.keras"
    status, _, error = run(*arguments)
    assert status == 2
    assert "without right, whose shapes Keras does not note. Give --input 'left=" in error
    status, _, error = run(
        *arguments, "--input", "left=float32[batch,7]", "--input", "right=float32[batch,7]"
    )
    assert status == 2
    assert "layer 'dense' has weights (4, 3) there, and (7, 3) with these inputs. Give" in error
    given = ("left=float32[batch,4]", "right=float32[batch,4]")
    status, _, error = run(*arguments, "--input", given[0], "--input", given[1])
    assert status == 0, error
    with Predictor.load(tmp_path / "dist" / "sides") as predictor:
        (found,) = predictor.predict({"left": left, "right": right}).arrays
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_h5_file_may_have_layers_that_were_never_called(tmp_path):
    model = keras.Sequential([keras.Input((4,)), UnusedInside()])
    model.save(tmp_path / "net.h5")
    read = read_model(tmp_path / "net.h5")
    np.testing.assert_array_equal(read(floats(2, 4)), model(floats(2, 4)))


@pytest.mark.parametrize(
    ("build", "inputs", "message"),
    [
        (
            Net,
            None,
            "must have been called, or .* Received: 'net.*', of the class Net. .*--input x=",
        ),
        (sequential, None, "must be built, or its inputs must be given"),
        (
            lambda: called(Sum(), floats(2, 5), floats(2, 5)),
            None,
            "of the class Sum, without right, whose shapes Keras does not note. Give "
            r"--input 'left=float32\[batch,5\]' --input 'right=float32\[batch,5\]', or inputs=",
        ),
        (
            lambda: called(TokensBeside(), floats(2, 5), whole(2, 7)),
            None,
            r"without tokens, .*--input 'tokens=int32\[batch,7\]'",
        ),
        (Net, "x", "must be keras.InputSpec, arrays or shapes, .* Received: 'x'"),
        (Net, (None, 5, 0), "size above 0"),
    ],
)
def test_a_model_whose_inputs_are_not_known_is_refused(build, inputs, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export_bundle(build(), tmp_path, "net", inputs=inputs)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["x=float32"], "must have the form .* Received: 'x=float32'"),
        (["x=float[batch,3]"], "must have the form"),
        (["x=float32[batch,3,]"], "must have the form"),
        (["x=float32[batch,0]"], "size above 0"),
        (["float32[b,3]", "y=float32[b,3]"], "must have a name of its own"),
        (["y=float32[b,4]", "y=float32[b,3]"], "must have a name of its own"),
    ],
)
def test_texts_that_describe_no_inputs_are_refused(texts, message):
    with pytest.raises(ConfigError, match=message):
        parse_inputs(texts)


def test_texts_describe_inputs():
    assert parse_inputs(["uint8[8, 28, 28]"]).shape == ("batch", 28, 28)
    found = parse_inputs(["a = int32[batch,steps]", "b=float32[?,-1,3]"])
    assert {name: (spec.shape, spec.dtype) for name, spec in found.items()} == {
        "a": (("batch", "steps"), "int32"),
        "b": (("batch", "-1", 3), "float32"),
    }


def test_a_shape_may_have_no_known_size():
    (spec,) = arguments_of(keras.layers.Rescaling(2.0), {"inputs": (None, None)}).leaves
    assert tuple(spec.shape) == (None, None)


def test_an_input_without_numbers_is_left_out(tmp_path):
    x, more = keras.Input((4,), name="x"), keras.Input((0, 4), name="more")
    hidden = layers.Dense(4, name="hidden")(x + ops.sum(more, axis=1))
    model = keras.Model([more, x], [hidden, layers.Softmax(name="probabilities")(hidden)])
    samples = {"x": np.ones((8, 4), "float32"), "more": np.ones((8, 0, 4), "float32")}
    facts = ModelFacts(labels=tuple("abcd"))
    with Predictor.load(export_bundle(model, tmp_path, "m", facts, samples)) as predictor:
        assert [spec.name for spec in predictor.manifest.inputs] == ["x"]
        assert [spec.name for spec in predictor.manifest.outputs] == ["hidden", "probabilities"]
        received = predictor.predict(samples["x"]).outputs["hidden"]
        expected = model.predict([samples["more"], samples["x"]], verbose=0)[0]
        np.testing.assert_allclose(received, expected, rtol=1e-5)
