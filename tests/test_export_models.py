"""Export of third-party Keras models: which are supported, which are refused."""

import functools
import importlib
import json
import re
import sys
import unittest
import warnings
import zipfile

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from conversion import join_models, require_parity, run_graph
from keras import Input, layers, ops
from onnx.backend.test import runner as onnx_tests
from onnx.backend.test.case.test_case import TestCase

from app.commands.cli import main
from app.system.user_packages import import_users_module
from benchmarks.zoo import ZOO, build_zoo_model, randomize
from export import ExportError, ExportOptions, ModelFacts, export_bundle
from export.inference import trace_inference
from export.onnx.convert import convert_to_onnx
from export.onnx.opsets import OPSETS
from serving import Predictor, verify_bundle
from serving.bundle import read_manifest
from serving.errors import ServingError
from serving.parity import take_samples
from serving.runtime import onnxruntime

WITHOUT_INT8 = ExportOptions(int8="never")
# One model of each kind; `python -m benchmarks.conversion` converts the whole zoo.
KINDS = [
    "activation_gelu", "activation_celu", "conv1d_causal", "conv2d_groups", "conv2d_transpose",
    "conv3d", "batch_norm", "group_norm", "resizing", "zero_padding_max_pool", "gru",
    "bidirectional_lstm", "embedding_masked", "transformer", "discretization", "augmentation",
    "own_layer", "nested", "shared_output", "mixed_float16", "lstm_dropout", "masked_sequences",
    "resizing_bicubic", "resizing_antialias", "integer_lookup_multi_hot", "same_names_in_and_out",
    "argmax", "one_hot_out_of_range", "floor_division", "equal_clips",
]  # fmt: skip


def draw(inference, samples, size):
    random = np.random.default_rng(samples)
    inputs = {}
    for spec in inference.inputs:
        shape = [samples, *(n if isinstance(n, int) else size for n in spec.shape[1:])]
        whole = "int" in spec.dtype
        # Mostly below 0, so that a padding of zeros makes a difference.
        values = random.integers(0, 5, shape) if whole else random.normal(-1, size=shape)
        inputs[spec.name] = values.astype(spec.dtype)
    return inputs


# Not branches of a joined model: they would rebuild the whole model, or are about names.
ALONE = ("mixed_float16", "nested", "same_names_in_and_out", "shared_output")
JOINED = [name for name in KINDS if name not in ALONE]
GROUPS = {name: tuple(JOINED[n % 3 :: 3]) for n, name in enumerate(JOINED)}
GROUPS |= {name: (name,) for name in ALONE}


def convert_and_run(model):
    """Return Keras' outputs for four samples, and those of the graph for one and for three."""
    inference = trace_inference(model)
    graph = convert_to_onnx(inference, {})
    drawn = draw(inference, 4, 13)
    parts = [run_graph(inference, graph, take_samples(drawn, part)) for part in ([0], [1, 2, 3])]
    received = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return inference.predict(drawn), received


@functools.cache
def outputs_of_kinds(names):
    """Convert models of the zoo as the branches of one."""
    built = {name: build_zoo_model(name) for name in names}
    return convert_and_run(join_models(built) if len(names) > 1 else built[names[0]])


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_layer_converts(name):
    require_parity(*outputs_of_kinds(GROUPS[name]), branch="" if name in ALONE else name)


def test_a_graph_converts_to_the_newest_opset_that_onnxruntime_runs():
    names = ("transformer", "group_norm", "lstm", "conv2d", "average_pool2d", "resizing")
    model = join_models({name: build_zoo_model(name) for name in names})
    inference = trace_inference(model)
    graph = convert_to_onnx(inference, {}, OPSETS[-1])
    assert {o.domain: o.version for o in graph.opset_import}[""] == OPSETS[-1] > 18
    assert graph.ir_version > 8
    inputs = draw(inference, 3, 13)
    require_parity(inference.predict(inputs), run_graph(inference, graph, inputs))


@pytest.mark.slow
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", ZOO)
def test_the_whole_zoo_converts_to_every_opset(name, opset):
    inference = trace_inference(build_zoo_model(name))
    graph = convert_to_onnx(inference, {}, opset)
    assert {o.domain: o.version for o in graph.opset_import}[""] == opset
    inputs = draw(inference, 3, 13)
    require_parity(inference.predict(inputs), run_graph(inference, graph, inputs))


def test_variable_axes_are_named_and_every_size_converts():
    names = ("variable_image", "variable_tokens", "variable_recurrent")
    inference = trace_inference(join_models({name: build_zoo_model(name) for name in names}))
    graph = convert_to_onnx(inference, {})
    for spec, value in zip(inference.inputs, graph.graph.input, strict=True):
        dims = value.type.tensor_type.shape.dim
        assert [d.dim_param or d.dim_value for d in dims] == list(spec.shape)
        assert isinstance(spec.shape[1], str)
    for size in (6, 11, 30):
        inputs = draw(inference, 2, size)
        require_parity(inference.predict(inputs), run_graph(inference, graph, inputs))


def _between_loops():
    start = Input((6, 7, 8, 4), name="x")
    x = layers.ConvLSTM2D(3, 3, return_sequences=True, padding="same")(start)
    return keras.Model(start, layers.ConvLSTM2D(2, 3)(layers.BatchNormalization()(x)))


def _before_a_loop():
    start = Input((10, 6), name="x")
    return keras.Model(start, layers.SimpleRNN(4)(layers.Conv1D(5, 3, activation="relu")(start)))


def _variable_output():
    start = Input((None, 6), name="x")
    return keras.Model(start, layers.LSTM(5, return_sequences=True)(start))


def _scaled_output():
    start = Input((4, 4), name="x")
    return keras.Model(start, layers.Dense(3, use_bias=False)(layers.Flatten()(start)) * 10.0)


def _joined_and_normalized():
    age, income = Input((1,), name="age"), Input((1,), name="income")
    normalize = layers.Normalization(mean=[40, 3e4], variance=[9, 4])
    return keras.Model(
        [age, income], layers.Dense(1)(normalize(layers.Concatenate()([age, income])))
    )


def _names_that_collide():
    start, other = Input((4,), name="a"), Input((4,), name="b")
    head = layers.Dense(3, name="head")
    answers = [head(start), layers.Dense(2, name="head_2")(start), head(other)]
    return keras.Model([start, other], answers)


BRANCHES = {
    "between_loops": _between_loops,
    "before_a_loop": _before_a_loop,
    "scaled_output": _scaled_output,
}


def test_unusual_branches_are_exported_and_verify(tmp_path):
    model = join_models({name: build() for name, build in BRANCHES.items()})
    random = np.random.default_rng(0)
    samples = {x.name: random.normal(size=(6, *x.shape[1:])) for x in model.inputs}
    bundle = export_bundle(randomize(model), tmp_path, "own", samples=samples, options=WITHOUT_INT8)
    assert all(check.passed for check in verify_bundle(bundle))
    # An error of the proof names an output, and so the branch.
    outputs = Predictor.load(bundle).manifest.outputs
    assert [spec.name.partition("__")[0] for spec in outputs] == list(BRANCHES)


def _variable_of_an_operation():
    inputs = Input((4,))
    scale = keras.Variable(np.arange(4, dtype=np.float32), name="scale")  # no layer holds it
    return keras.Model(inputs, layers.Dense(2)(inputs * scale))


class Branching(layers.Layer):
    """Convolves images that are not dark."""

    def __init__(self):
        super().__init__()
        self.convolution = layers.Conv2D(2, 3, strides=2, padding="same")

    def build(self, shape):
        self.convolution.build(shape)

    def call(self, images):
        return ops.cond(
            ops.mean(images) > 0,
            lambda: self.convolution(images),
            lambda: self.convolution(images * 0),
        )


def _convolution_in_a_branch():
    inputs = Input((8, 8, 1))
    return keras.Model(inputs, Branching()(inputs))


@pytest.mark.parametrize(
    "build",
    [
        _convolution_in_a_branch,
        _variable_of_an_operation,
        _variable_output,
        _joined_and_normalized,
        _names_that_collide,
    ],
)
def test_unusual_models_are_exported_and_verify(build, tmp_path):
    bundle = export_bundle(randomize(build()), tmp_path, "own", options=WITHOUT_INT8)
    assert all(check.passed for check in verify_bundle(bundle))


def test_expm1_and_log1p_are_accurate_near_zero(tmp_path):
    start = Input((4,), name="x")
    model = keras.Model(start, {op: getattr(keras.ops, op)(start) for op in ("expm1", "log1p")})
    samples = np.array(
        [[1e-5, -3e-6, 1e-8, 0], [0.5, 2, 30, -0.9], [1e-4, 1, -1e-7, 80]], "float32"
    )
    bundle = export_bundle(model, tmp_path, "own", samples=samples, options=WITHOUT_INT8)
    for operation, received in Predictor.load(bundle).predict(samples).outputs.items():
        expected = getattr(np, operation)(samples.astype(np.float64))
        np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_strings_are_compared_with_several_constants(tmp_path):
    start = Input((1,), dtype="string", name="text")

    def compare(x):
        return tf.cast(tf.equal(x, ["red", "green", "red"]), "float32")

    model = keras.Model(start, layers.Lambda(compare, output_shape=(3,))(start))
    samples = np.array([["red"], ["green"], ["blue"]])
    bundle = export_bundle(model, tmp_path, "own", samples=samples, options=WITHOUT_INT8)
    received = Predictor.load(bundle).predict(samples.astype(object)).arrays[0]
    np.testing.assert_array_equal(received, [[1, 0, 1], [0, 1, 0], [0, 0, 0]])


def test_nodes_are_named_after_their_own_layer_if_layer_names_differ_only_by_a_number():
    start = Input((4,), name="x")
    model = keras.Model(
        start, layers.Dense(3, name="dense_1")(layers.Dense(8, name="dense")(start))
    )
    graph = convert_to_onnx(trace_inference(model), {}).graph
    names = [node.name.split("/")[0] for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    assert names == ["dense", "dense_1"]


def test_batch_norms_and_transposes_are_gone_and_tensors_are_named_after_layers():
    x = start = Input((12, 12, 3), name="image")
    for number in range(3):
        x = layers.Conv2D(4, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"norm{number}")(x)
        x = layers.Activation("relu", name=f"act{number}")(x)
    x = layers.Dense(5, name="last")(layers.Flatten(name="flat")(x))
    model = randomize(keras.Model(start, layers.BatchNormalization(name="answer")(x)))
    graph = convert_to_onnx(trace_inference(model), {})
    assert [node.op_type for node in graph.graph.node] == [
        "Transpose", *["Conv", "Relu"] * 3, "Reshape", "MatMul", "Add",
    ]  # fmt: skip
    assert [node.name.split("/")[0] for node in graph.graph.node] == [
        "image", "conv0", "act0", "conv1", "act1", "conv2", "act2", "flat", "last", "answer",
    ]  # fmt: skip
    known = {node.name for node in graph.graph.node} | {"image", "answer"}
    for node in graph.graph.node:
        assert set(node.output) <= known
    for constant in graph.graph.initializer:
        assert constant.name.rpartition(".")[0] in known


@pytest.mark.parametrize("sign", [1, -1])
def test_batch_norms_behind_a_max_pool_are_part_of_the_convolution_unless_they_turn_it_over(sign):
    start = Input((12, 12, 3), name="image")
    x = layers.MaxPooling2D(name="pool")(layers.Conv2D(4, 3, use_bias=False, name="conv")(start))
    norm = layers.BatchNormalization(name="norm")
    model = randomize(keras.Model(start, layers.ReLU(name="act")(norm(x))))
    gamma, *others = norm.get_weights()
    norm.set_weights([sign * np.abs(gamma), *others])
    graph = convert_to_onnx(trace_inference(model), {})
    kinds = [node.op_type for node in graph.graph.node]
    assert ("Mul" in kinds, "Add" in kinds) == (sign < 0, sign < 0)
    image = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype("float32")
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (found,) = session.run(None, {"image": image})
    np.testing.assert_allclose(found, model(image), rtol=1e-4, atol=1e-5)


def classifier(units=3, last="softmax"):
    keras.utils.set_random_seed(0)
    return keras.Sequential([Input((4,)), layers.Dense(8, "relu"), layers.Dense(units, last)])


def test_a_sequential_model_with_labels_becomes_a_bundle(tmp_path):
    model = classifier()
    facts = ModelFacts(labels=("a", "b", "c"))
    bundle = export_bundle(model, tmp_path, "own", facts, options=WITHOUT_INT8)
    assert all(check.passed for check in verify_bundle(bundle.parent))
    predictor = Predictor.load(bundle)
    assert (predictor.manifest.task, predictor.manifest.prediction_output) == (
        "multiclass",
        "dense",
    )
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    expected = model.predict(rows, verbose=0)
    prediction = predictor.predict(rows)
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)
    assert prediction.labels == ["abc"[n] for n in expected.argmax(axis=1)]
    card = (bundle / "README.md").read_text()
    assert "for 3 classes: a, b, c" in card
    assert "model-index" not in card  # nothing was measured


def test_labels_of_sigmoid_outputs_are_multilabel(tmp_path):
    facts = ModelFacts(labels=("a", "b", "c"))
    bundle = export_bundle(classifier(last="sigmoid"), tmp_path, "own", facts, options=WITHOUT_INT8)
    assert Predictor.load(bundle).manifest.task == "multilabel"


def test_verify_suggests_no_predictions_of_a_model_that_has_none(zoo_bundles, run):
    status, output, _ = run("verify", zoo_bundles["dict_in_and_out"])
    assert status == 0
    assert "next:" not in output


def test_without_labels_the_bundle_claims_nothing_about_its_outputs(zoo_bundles):
    bundle = zoo_bundles["dict_in_and_out"]
    assert all(check.passed for check in verify_bundle(bundle.parent))
    predictor = Predictor.load(bundle)
    assert [spec.name for spec in predictor.manifest.inputs] == ["sort", "years"]
    inputs = {"years": np.ones((2, 1), "float32"), "sort": np.ones((2, 1), "int64")}
    assert predictor.predict(inputs).outputs["class"].shape == (2, 4)
    with pytest.raises(ServingError, match="Received: task='unknown'. Read outputs instead"):
        _ = predictor.predict(inputs).probabilities


@pytest.fixture(scope="module")
def zoo_bundles(tmp_path_factory):
    """Bundles of models of the zoo, by name. Tests must not change them."""
    folder = tmp_path_factory.mktemp("zoo")
    return {
        name: export_bundle(build_zoo_model(name), folder, name, options=WITHOUT_INT8)
        for name in ("dict_in_and_out", "variable_image", "lstm")
    }


def test_the_backend_tests_of_onnx_run_the_golden_samples(zoo_bundles, monkeypatch):
    monkeypatch.setattr(onnx_tests, "load_model_tests", lambda **_: [])  # those of onnx itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        backend = importlib.import_module("onnxruntime.backend.backend").OnnxRuntimeBackend
    runner = onnx_tests.Runner(backend)
    for name, folder in zoo_bundles.items():
        case = TestCase(
            f"test_{name}", name, None, str(folder), None, None, "real", rtol=1e-4, atol=1e-5
        )
        runner._add_model_test(case, "Own")
    ours = runner.test_cases["OnnxBackendOwnModelTest"]
    result = unittest.TestResult()
    for name in zoo_bundles:
        ours(f"test_{name}_cpu").run(result)
    assert (result.testsRun, result.skipped, result.errors, result.failures) == (3, [], [], [])


def test_a_bundle_of_variable_axes_verifies_and_predicts_any_size(zoo_bundles):
    bundle = zoo_bundles["variable_image"]
    assert all(check.passed for check in verify_bundle(bundle.parent))
    predictor = Predictor.load(bundle)
    for size in (9, 40):
        assert predictor.predict(np.ones((1, size, 12, 3), "float32")).arrays[0].shape == (1, 4)
    assert "dims: [ -1, -1, 3 ]" in (bundle.parent / "config.pbtxt").read_text()


def test_input_dtype_moves_the_cast_into_the_graph(tmp_path):
    start = Input((6, 6, 1), name="image")
    x = layers.Flatten()(layers.Rescaling(1 / 255)(start))
    model = keras.Model(start, layers.Dense(3, activation="softmax")(x))
    options = ExportOptions(input_dtype="uint8", opset=17, int8="never")
    bundle = export_bundle(model, tmp_path, "own", options=options)
    manifest = Predictor.load(bundle).manifest
    assert manifest.inputs[0].dtype == "uint8"
    assert (manifest.opset, manifest.lowest_onnxruntime) == (17, "1.12")
    image = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 1), np.uint8)
    received = Predictor.load(bundle).predict(image).arrays[0]
    np.testing.assert_allclose(received, model.predict(image, verbose=0), atol=1e-5)


def test_the_proof_uses_the_samples_that_are_given(tmp_path):
    samples = np.random.default_rng(0).normal(size=(9, 4))  # numpy's own float64 is taken
    bundle = export_bundle(classifier(), tmp_path, "own", samples=samples, options=WITHOUT_INT8)
    proof = Predictor.load(bundle).manifest.proof
    assert (proof.source, proof.samples) == ("the samples given", 9)


def test_preprocessing_in_mixed_precision_keeps_its_statistics(tmp_path):
    start = Input((2,), name="x")
    normalization = layers.Normalization(dtype="mixed_float16")
    normalization.adapt(np.array([[90, 2], [110, 6]], "float32"))
    model = keras.Model(start, layers.Dense(2, dtype="mixed_float16")(normalization(start)))
    bundle = export_bundle(model, tmp_path, "own", options=WITHOUT_INT8)
    rows = np.array([[100, 4], [120, 2]], "float32")
    received = Predictor.load(bundle).predict(rows).arrays[0]
    np.testing.assert_allclose(received, model.predict(rows, verbose=0), atol=0.02)


@pytest.mark.parametrize("settings", [{}, {"max_tokens": 9, "pad_to_max_tokens": True}])
def test_texts_in_mixed_precision_keep_the_weights_of_their_words(settings):
    text = Input((), dtype="string", name="text")
    layer = layers.TextVectorization(output_mode="tf_idf", dtype="mixed_bfloat16", **settings)
    layer.adapt(["a b c", "b c", "c d e f"])
    model = keras.Model(text, layers.Dense(2, dtype="mixed_bfloat16")(layer(text)))
    texts = np.array(["a b unseen", "c c"], object)
    (found,) = trace_inference(model).predict({"text": texts}).values()
    np.testing.assert_allclose(found, np.asarray(model(tf.constant(texts)), "float32"), atol=0.02)


class WithoutConfig(keras.Model):
    """Takes an object that no file can hold."""

    def __init__(self, _thing, dtype="float32"):
        super().__init__(dtype=dtype)
        self.features, self.out = layers.Dense(3), layers.Dense(2, "softmax")

    def call(self, x):
        features = self.features(x)
        return {"features": features, "probabilities": self.out(features)}


def test_a_class_without_a_config_is_refused_in_mixed_precision_with_one_line():
    model = WithoutConfig(object(), dtype="mixed_bfloat16")
    model(np.ones((2, 4), "float32"))
    with pytest.raises(ExportError, match="mixed precision .* must override `get_config") as caught:
        trace_inference(model)
    assert "Example" not in str(caught.value)


def of_noise():
    x = Input((4,), name="x")
    return keras.Model(
        x, {"features": Sample(always=True)(layers.Dense(3)(x)), "other": layers.Dense(2)(x)}
    )


def without_config():
    model = WithoutConfig(object())
    model(np.ones((2, 4), "float32"))
    return model


@pytest.mark.parametrize(("build", "reason"), [(without_config, "get_config"), (of_noise, "noise")])
def test_features_of_a_model_that_keras_cannot_save_are_exported_without_it(
    build, reason, tmp_path
):
    bundle = export_bundle(build(), tmp_path, "net", options=WITHOUT_INT8)
    assert not (bundle / "model.keras").exists()
    assert "model.keras" not in (bundle / "README.md").read_text().partition("## Files")[2]
    warning = read_manifest(bundle).warnings[-1]
    assert re.fullmatch(rf"There is no model\.keras .*{reason}.*", warning)


def test_edge_cases_without_finite_outputs_are_left_out(tmp_path):
    start = Input((2,), name="x")
    model = keras.Model(start, keras.ops.log(start))
    samples = np.array([[1, 2], [3, 4]], "float32")
    bundle = export_bundle(model, tmp_path, "own", samples=samples, options=WITHOUT_INT8)
    assert Predictor.load(bundle).manifest.proof.samples == 2
    with pytest.raises(
        ExportError, match="outputs must be finite. Received: log of sample 0 of the"
    ):
        export_bundle(model, tmp_path, "own", samples=-samples + 2)


def test_an_output_may_be_undefined_for_zero_tokens(tmp_path):
    tokens = Input((None,), dtype="int32", name="tokens")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4, mask_zero=True)(tokens))
    model = keras.Model(tokens, layers.Dense(2, activation="softmax")(x))
    facts = ModelFacts(labels=("a", "b"))
    bundle = export_bundle(model, tmp_path, "own", facts, options=WITHOUT_INT8)
    assert all(check.passed for check in verify_bundle(bundle))


def test_a_lookup_inside_a_nested_model_is_exported(tmp_path):
    inner = Input((1,), dtype="string")
    lookup = layers.StringLookup(vocabulary=["a", "b"], mask_token="")
    nested = keras.Model(inner, lookup(inner))
    start = Input((1,), dtype="string", name="text")
    model = keras.Model(start, layers.Embedding(5, 2)(nested(start)))
    samples = np.array([["a"], ["q"], [""]], object)
    bundle = export_bundle(model, tmp_path, "own", samples=samples, options=WITHOUT_INT8)
    received = Predictor.load(bundle).predict(samples).arrays[0]
    expected = model.predict(keras.ops.convert_to_tensor(samples), verbose=0)
    np.testing.assert_allclose(received, expected, atol=1e-6)


def test_drawn_tokens_stay_inside_the_vocabulary(tmp_path):
    tokens = Input((5,), dtype="int32", name="tokens")
    x = layers.Flatten()(layers.Embedding(7, 2)(tokens))
    model = keras.Model(tokens, layers.Dense(2)(x))
    bundle = export_bundle(model, tmp_path, "own", options=WITHOUT_INT8)
    golden = onnx.load_tensor(bundle / "test_data_set_0" / "input_0.pb")
    values = onnx.numpy_helper.to_array(golden)
    assert (values.min(), values.max()) == (0, 6)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def _with_dtype(dtype):
    start = Input((4,), dtype=dtype, name="x")
    return keras.Model(start, layers.Identity()(start))


def _unmapped():
    start = Input((4,), name="x")
    return keras.Model(
        start, layers.Lambda(lambda x: tf.math.digamma(x * x + 1), name="gamma")(start)
    )


class Sample(layers.Layer):
    """Draws around what it is given; at inference it returns that, unless `always` is set."""

    def __init__(self, always=False, **kwargs):
        super().__init__(**kwargs)
        self.always, self.seed = always, keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        drawn = x + keras.random.normal(keras.ops.shape(x), seed=self.seed)
        return drawn if training or self.always else x


class Positions(layers.Layer):
    """Has room for five tokens."""

    def build(self, shape):
        self.weight = self.add_weight(shape=(5, shape[-1]), name="weight")

    def call(self, x):
        return x + self.weight[: keras.ops.shape(x)[1]]


def test_layers_that_draw_do_nothing_at_inference():
    start = x = Input((8, 8, 3), name="image")
    for layer in (
        layers.RandomFlip(), layers.RandomHue(0.3), layers.RandomSaturation(0.3),
        layers.RandomSharpness(0.3), layers.RandomPosterization(3), layers.RandomGrayscale(),
        layers.MixUp(), Sample(),
    ):  # fmt: skip
        x = layer(x)
    expected, received = convert_and_run(keras.Model(start, x))
    require_parity(expected, received)


def test_sequences_shorter_than_eight_are_tried(tmp_path):
    tokens = Input((None,), dtype="int32", name="tokens")
    x = Positions()(layers.Embedding(20, 4)(tokens))
    model = keras.Model(tokens, layers.GlobalAveragePooling1D()(x))
    assert export_bundle(model, tmp_path, "short", options=WITHOUT_INT8).name == "1"


def test_a_slice_whose_bounds_come_from_a_transposed_tensor_is_converted():
    start = Input((None, 4), name="x")
    x = layers.Conv1D(8, 3, padding="same", dilation_rate=4)(start)
    x = layers.Cropping1D(3)(layers.Add()([x, layers.Conv1D(8, 1)(start)]))
    require_parity(*convert_and_run(keras.Model(start, layers.Conv1D(3, 1)(x))))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: keras.Sequential([layers.Dense(3)]), "which was never built. Begin"),
        (Subclassed, "of the class Subclassed. Give the shapes"),
        (lambda: len, "must be a keras.Model. Received: builtin"),
        (lambda: _with_dtype("float64"), "Received: x of float64. Build the model with"),
        (lambda: _with_dtype("complex64"), "Received: x of complex64"),
        (lambda: _with_dtype("string"), "x, of strings. Give samples with --samples"),
        (_unmapped, "Received: Digamma of layer 'gamma'"),
    ],
)
def test_a_model_that_cannot_be_exported_is_refused_with_one_line(build, message, tmp_path):
    with pytest.raises(ExportError) as error:
        export_bundle(build(), tmp_path, "own")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((5, 3), "float32"), "inputs must have shape (batch, 4). Received: shape=(5, 3)"),
        (np.zeros((0, 4), "float32"), "at least one sample"),
        (np.full((2, 4), np.nan, "float32"), "inputs must be finite"),
        (np.full((2, 4), "text"), "inputs must be a numpy array of float32"),
        ({"other": np.zeros((5, 4), "float32")}, "Inputs must be inputs. Received: other"),
    ],
)
def test_samples_that_do_not_fit_are_refused(samples, message, tmp_path):
    with pytest.raises(ExportError, match="Samples must fit the model's inputs") as error:
        export_bundle(classifier(), tmp_path, "own", samples=samples)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "last", "message"),
    [
        (("a", "b"), "softmax", "2 labels must name the elements of one output"),
        (("a", "b", "a"), "softmax", "'a' twice"),
        (("a", "", "c"), "softmax", "an empty one"),
        (("a", "b", "c"), "linear", "End the model with softmax or sigmoid"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, last, message, tmp_path):
    with pytest.raises(ExportError) as error:
        export_bundle(classifier(last=last), tmp_path, "own", ModelFacts(labels=labels))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"task": "regression", "labels": ("a", "b", "c"), "family": "net"},
            "the output 'values', with one element",
        ),
        (
            {"columns": ("a", "b")},
            "must be a name for each column of inputs float32 [batch, 4]. Received: 2.",
        ),
    ],
)
def test_facts_that_do_not_fit_are_refused(facts, message, tmp_path):
    with pytest.raises(ExportError) as error:
        export_bundle(classifier(), tmp_path, "own", ModelFacts(**facts), options=WITHOUT_INT8)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_metrics_without_data_are_refused():
    with pytest.raises(ExportError, match="metrics and config need data"):
        ModelFacts(metrics={"accuracy": 0.5})


@pytest.mark.parametrize("name", ["2024", "x" * 101])
def test_a_name_must_be_valid_for_a_folder_and_not_be_a_number(name, tmp_path):
    with pytest.raises(ExportError, match="at most 100 letters, .* and not be a number"):
        export_bundle(classifier(), tmp_path, name)


def test_a_version_can_be_chosen_and_is_never_overwritten(tmp_path):
    model = classifier()

    def export(version=None):
        options = ExportOptions(version=version, int8="never")
        return export_bundle(model, tmp_path, "own", options=options).name

    assert export(4) == "4"
    assert export() == "5"
    assert export(2) == "2"
    with pytest.raises(ExportError, match="version=4, which exists. The next free one is 6"):
        export(4)
    with pytest.raises(ExportError, match="version must be from 1 to 2"):
        ExportOptions(version=0)
    with pytest.raises(ExportError, match="opset must be from 15 to 2[0-9], the newest"):
        ExportOptions(opset=12)
    assert all(verify.passed for verify in verify_bundle(tmp_path / "own" / "5"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own"]


@pytest.fixture
def hornbill(capfd):
    """Run a command in this process: status, standard output, standard error."""

    def call(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        output, error = capfd.readouterr()
        return caught.value.code or 0, output, error

    return call


def test_a_keras_file_is_exported_by_the_command_line(hornbill, tmp_path):
    classifier().save(tmp_path / "flowers.keras")
    (tmp_path / "labels.txt").write_text("rose\ntulip\nlily\n")
    np.savez(tmp_path / "rows.npz", inputs=np.ones((3, 4), "float32"))
    status, output, error = hornbill(
        "export", tmp_path / "flowers.keras", "--labels", tmp_path / "labels.txt",
        "--samples", tmp_path / "rows.npz", "--output", tmp_path / "dist", "--json",
    )  # fmt: skip
    assert status == 0, error
    answer = json.loads(output)
    assert answer["samples"] == 3
    assert answer["bundle"] == str(tmp_path / "dist" / "flowers" / "1")
    assert (tmp_path / "dist" / "flowers" / "labels.txt").read_text() == "rose\ntulip\nlily\n"


def test_an_h5_file_is_exported_if_it_holds_a_whole_model(hornbill, tmp_path):
    model = classifier()
    model.save(tmp_path / "flowers.h5")
    model.save_weights(tmp_path / "flowers.weights.h5")
    (tmp_path / "broken.h5").write_text("no")
    options = ["--output", tmp_path / "dist", "--int8", "never", "--quiet"]
    status, _, error = hornbill("export", tmp_path / "flowers.h5", *options)
    assert status == 0, error
    for name, message in (("flowers.weights.h5", "which holds only weights"),
                          ("broken.h5", "cannot load the model")):  # fmt: skip
        status, _, error = hornbill("export", tmp_path / name, "--name", "other", *options)
        assert (status, message in error) == (2, True)
    assert [folder.name for folder in (tmp_path / "dist").iterdir()] == ["flowers"]


def test_code_in_a_keras_file_runs_only_if_allowed(hornbill, tmp_path):
    start = Input((4,), name="x")
    model = keras.Model(start, layers.Lambda(lambda x: x * 2, output_shape=(4,))(start))
    model.save(tmp_path / "lambda.keras")
    arguments = ["export", tmp_path / "lambda.keras", "--output", tmp_path / "dist"]
    arguments += ["--int8", "never"]
    status, _, error = hornbill(*arguments)
    assert status == 2
    assert "Allow it with --unsafe" in error
    status, _, error = hornbill(*arguments, "--unsafe")
    assert status == 0, error


def test_a_module_in_the_current_folder_is_found(hornbill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "layers_of_mine.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable(package='mine')\n"
        "class Doubling(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )
    start = Input((4,), name="x")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        doubling = importlib.import_module("layers_of_mine").Doubling()
    keras.Model(start, doubling(start)).save("own.keras")
    del sys.modules["layers_of_mine"]  # as in a process that has not imported it
    keras.saving.get_custom_objects().pop("mine>Doubling")
    before = list(sys.path)
    status, _, error = hornbill(
        *["export", "own.keras", "--module", "layers_of_mine", "--int8", "never"]
    )
    assert status == 0, error
    assert sys.path == before


def test_a_package_may_have_the_name_of_one_of_hornbill(hornbill, tmp_path, monkeypatch):
    """`models` is a common name of a package, and `heads` one of a module in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "heads.py").write_text("FACTOR = 2\n")
    (tmp_path / "models" / "doubling.py").write_text(
        "import keras\n"
        "from models.heads import FACTOR\n"
        "@keras.saving.register_keras_serializable(package='doubling')\n"
        "class Doubling(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return FACTOR * x\n"
    )
    before = dict(sys.modules)
    start = Input((4,), name="x")
    keras.Model(start, import_users_module("models.doubling").Doubling()(start)).save("own.keras")
    del sys.modules["models.doubling"]
    keras.saving.get_custom_objects().pop("doubling>Doubling")
    status, _, error = hornbill(
        *["export", "own.keras", "--module", "models.doubling", "--int8", "never"]
    )
    assert status == 0, error
    assert sys.modules.pop("models.doubling").FACTOR == 2
    assert {name: sys.modules[name] for name in before} == before


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory):
    """A folder of a `.keras` file, one with a layer that is not registered, and a text."""
    folder = tmp_path_factory.mktemp("keras")
    classifier().save(folder / "fine.keras")
    (folder / "text.keras").write_text("not a model")
    start = Input((4, 4, 2), name="x")

    @keras.saving.register_keras_serializable(package="passing")
    class Passing(layers.Layer):
        def call(self, x):
            return x

    for name in ("own.keras", "own.h5"):
        keras.Model(start, Passing()(start)).save(folder / name)
    _write_changed(folder, "keras_2.keras", '"class_name": "Dense"', '"class_name": "TFOpLambda"')
    _write_changed(folder, "argument.keras", '"units": 3', '"units": 3, "reg_lambda": 0.1')
    keras.saving.get_custom_objects().pop("passing>Passing")
    return folder


def _write_changed(folder, name, before, after):
    """Write the file of a model with a text of its config changed."""
    with zipfile.ZipFile(folder / "fine.keras") as source:
        parts = {part: source.read(part) for part in source.namelist()}
    config = parts["config.json"].decode()
    assert before in config
    parts["config.json"] = config.replace(before, after).encode()
    with zipfile.ZipFile(folder / name, "w") as file:
        for part, content in parts.items():
            file.writestr(part, content)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.keras"], "The model file does not exist. Received: gone.keras"),
        (["text.keras"], "written by keras.Model.save. Received: text.keras"),
        (["own.keras"], "Could not locate class 'Passing'. Name the module that registers them"),
        (["own.h5"], "Unknown layer: 'passing>Passing'. Name the module that registers them"),
        (["keras_2.keras"], "of Keras 3. Received: keras_2.keras: Could not deserialize"),
        (
            ["argument.keras"],
            "argument.keras: Unrecognized keyword arguments passed to Dense: {'reg",
        ),
        (["own.keras", "--module", "no_such"], "such as package.layers. Received: 'no_such'"),
        (["fine.keras", "--labels", "gone.txt"], "gone.txt does not exist."),
        (
            ["fine.keras", "--samples", "text.keras"],
            "text.keras cannot be read as an .npz file, written by",
        ),
        (["fine.keras", "--input-dtype", "uint9"], "input_dtype must be one of"),
        (["fine.keras", "--name", "a b"], "A model's name must be at most 100 letters"),
    ],
)
def test_a_wrong_command_is_an_error_of_one_line(
    arguments, message, hornbill, keras_files, tmp_path, monkeypatch
):
    monkeypatch.chdir(keras_files)
    status, _, error = hornbill("export", *arguments, "--output", tmp_path / "dist")
    assert status == 2
    assert message in error
    *announced, line = error.splitlines()
    assert line.startswith("hornbill: ")
    assert announced[:1] in ([], [f"exporting {arguments[0]}: loading TensorFlow …"])
    assert announced[1:] in ([], ["reading the model …"])
    assert not (tmp_path / "dist").exists()


def test_a_wrong_name_is_told_before_tensorflow_is_loaded(hornbill, keras_files):
    status, _, error = hornbill("export", keras_files / "fine.keras", "--name", "My Pictures")
    assert status == 2
    assert error.startswith("hornbill: A model's name must be at most 100 letters")
