"""Weights beside the graph, half precision, quantized models, and other backends."""

import functools
import importlib
import json
import sys
import warnings

import keras
import numpy as np
import onnx
import pytest
from checksums import write_checksums
from keras import layers

from export import ExportError, ExportOptions, ModelFacts, ProofError, export_bundle
from export.inference import trace_inference
from export.onnx.convert import convert_to_graph
from export.onnx.files import to_message, without_arrays, write_graph
from export.publish import require_room
from serving import ManifestError, Predictor, verify_bundle
from serving.session import float32_runner, open_session

PLAIN = ExportOptions(int8="never")


def small_net():
    keras.utils.set_random_seed(5)
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    image = keras.Input((8, 8, 3), name="image")
    x = layers.LSTM(16)(layers.Embedding(30, 12)(tokens))
    y = layers.Conv2D(16, 3, activation="relu")(layers.BatchNormalization()(image))
    y = layers.GlobalAveragePooling2D()(y)
    joined = layers.Concatenate()([x, y])
    return keras.Model([tokens, image], layers.Dense(3, "softmax", name="probabilities")(joined))


@pytest.fixture(scope="module")
def inference():
    return trace_inference(small_net())


def passes(bundle):
    return {check.name: check.passed or check.detail for check in verify_bundle(bundle)}


ALL_PASS = {"files": True, "contract": True, "behavior": True}


def test_a_graph_that_is_written_tensor_by_tensor_is_the_same_message(inference, tmp_path):
    graph = convert_to_graph(inference, {"name": "net"})
    wanted = to_message(graph)
    onnx.checker.check_model(without_arrays(graph), full_check=True)
    write_graph(graph, tmp_path / "model.onnx")
    found = onnx.load(tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    constants = [
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for model in (wanted, found)
    ]
    assert constants[0].keys() == constants[1].keys()
    for name, array in constants[0].items():
        np.testing.assert_array_equal(constants[1][name], array)
    for model in (wanted, found):
        del model.graph.initializer[:]
    assert found == wanted


def test_weights_that_one_file_cannot_hold_lie_beside_it(tmp_path, monkeypatch):
    small = functools.partial(write_graph, largest=5_000)
    monkeypatch.setattr("export.bundle.write_graph", small)
    bundle = export_bundle(small_net(), tmp_path, "net", options=PLAIN)
    assert (bundle / "model.onnx.data").stat().st_size > (bundle / "model.onnx").stat().st_size / 2
    assert "  model.onnx.data\n" in (bundle / "SHA256SUMS").read_text()
    assert passes(bundle) == ALL_PASS
    Predictor.load(bundle).warm_up()
    (bundle / "model.onnx.data").unlink()
    with pytest.raises(ManifestError, match="model.onnx.data does not exist"):
        Predictor.load(bundle)


def test_too_little_room_is_told_before_the_work(tmp_path):
    require_room(tmp_path, 1000)
    with pytest.raises(ExportError, match="in ONNX: 4611686018.4 GB. Received: "):
        require_room(tmp_path, 2**62)


@pytest.fixture(scope="module")
def half_bundle(tmp_path_factory):
    options = ExportOptions(int8="never", precision="float16")
    facts = ModelFacts(labels=("a", "b", "c"))
    return export_bundle(small_net(), tmp_path_factory.mktemp("half"), "net", facts, None, options)


def test_a_float16_graph_is_proven_beside_the_float32_one(half_bundle):
    assert passes(half_bundle) == ALL_PASS
    graph = onnx.load(half_bundle / "model.float16.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert {v.type.tensor_type.elem_type for v in graph.graph.output} == {onnx.TensorProto.FLOAT}
    large = [tensor for tensor in graph.graph.initializer if len(tensor.raw_data) > 300]
    assert large
    assert {tensor.data_type for tensor in large} == {onnx.TensorProto.FLOAT16}
    proof = json.loads((half_bundle / "manifest.json").read_text())["float16"]
    assert proof["tolerances"] == {"probabilities": 0.02, "float32": 0.02}
    largest = max(item["max_absolute_difference"] for item in proof["parity"])
    assert 0 < largest < 0.02


def test_other_float16_weights_are_noticed(half_bundle, tmp_path):
    import shutil

    copy = shutil.copytree(half_bundle, tmp_path / "1")
    graph = onnx.load(copy / "model.float16.onnx")
    for tensor in graph.graph.initializer:
        if len(tensor.dims) == 2:
            zeros = np.zeros(tuple(tensor.dims), np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    onnx.save(graph, copy / "model.float16.onnx")
    write_checksums(copy)
    assert "of model.float16.onnx must be within" in passes(copy)["behavior"]
    (copy / "model.float16.onnx").unlink()
    write_checksums(copy)
    assert "model.float16.onnx must exist if and only if" in passes(copy)["contract"]


def test_inputs_and_outputs_are_float16_if_asked(tmp_path):
    options = ExportOptions(int8="never", precision="float16", has_float16_io=True)
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, layers.Conv2D(2, 3)(image))
    bundle = export_bundle(model, tmp_path, "net", options=options)
    assert passes(bundle) == ALL_PASS
    session = open_session(bundle / "model.float16.onnx")
    assert {node.type for node in session.get_inputs()} == {"tensor(float16)"}
    (found,) = float32_runner(session)(np.ones((2, 4, 4, 1), np.float32)).values()
    assert found.dtype == np.float32


def test_numbers_that_float16_cannot_hold_are_refused(tmp_path):
    x = keras.Input((4,), name="x")
    wide = layers.ReLU(name="wide")(layers.Rescaling(1e6)(x))
    model = keras.Model(x, layers.Rescaling(1e-6)(wide))
    options = ExportOptions(int8="never", precision="float16")
    with pytest.raises(ProofError, match=r"at most 65504. Received: 6.4e.05 from rescaling\w*/Mul"):
        export_bundle(model, tmp_path, "net", options=options)
    assert not (tmp_path / "net").exists()
    with pytest.raises(ExportError, match="precision must be one of float32, float16"):
        ExportOptions(precision="half")
    with pytest.raises(ExportError, match="need precision=float16"):
        ExportOptions(has_float16_io=True)


def quantized_net(mode):
    keras.utils.set_random_seed(6)
    tokens = keras.Input((6,), dtype="int32")
    x = layers.LayerNormalization()(layers.Embedding(30, 32)(tokens))
    x = layers.EinsumDense("abc,cd->abd", output_shape=(6, 40), bias_axes="d")(x)
    x = layers.Dense(3, activation="softmax", name="probabilities")(layers.Flatten()(x))
    model = keras.Model(tokens, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of layers that it does not quantize
        model.quantize(mode)
    return model


def test_a_model_that_keras_quantized_to_int8_keeps_int8_weights(tmp_path):
    facts = ModelFacts(labels=("a", "b", "c"))
    bundle = export_bundle(quantized_net("int8"), tmp_path, "net", facts)
    assert passes(bundle) == ALL_PASS
    graph = onnx.load(bundle / "model.onnx").graph
    matrices = {t.data_type for t in graph.initializer if len(t.dims) == 2}
    assert onnx.TensorProto.INT8 in matrices
    assert [node.op_type for node in graph.node].count("DequantizeLinear") == 4
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["quantization"] == "int8"
    assert manifest["int8"] is None
    with pytest.raises(ExportError, match="its graph is int8 already"):
        export_bundle(
            quantized_net("int8"), tmp_path, "net", facts, None, ExportOptions(int8="always")
        )


@pytest.mark.parametrize("mode", ["int4", "float8"])
def test_other_quantizations_are_refused_by_name(mode, tmp_path):
    with pytest.raises(ExportError, match=f"in int8. Received: {mode}.*_from_float32 in layer"):
        export_bundle(quantized_net(mode), tmp_path, "net")


def test_a_backend_must_be_known_and_installed():
    with pytest.raises(ExportError, match="trained_on must be one of jax, tensorflow, torch"):
        ExportOptions(trained_on="mxnet")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_proof_compares_with_the_backend_that_trained_the_model(backend, tmp_path):
    pytest.importorskip(backend)
    options = ExportOptions(int8="never", trained_on=backend)
    bundle = export_bundle(small_net(), tmp_path, "net", options=options)
    assert passes(bundle) == ALL_PASS
    environment = json.loads((bundle / "manifest.json").read_text())["environment"]
    assert environment["compared with"].startswith(f"keras on {backend} ")


def of_strings():
    x = keras.Input((1,), dtype="string", name="word")
    return keras.Model(x, layers.StringLookup(vocabulary=["a"])(x))


def of_noise():
    x = keras.Input((2,), name="x")
    sample = keras.layers.Lambda(lambda x: x + keras.random.normal(keras.ops.shape(x)))
    return keras.Model(x, sample(layers.Dense(3)(x)))


@pytest.mark.parametrize(("build", "kind"), [(of_strings, "of strings"), (of_noise, "of noise")])
def test_a_model_that_only_tensorflow_runs_is_not_compared_with_another_backend(
    build, kind, tmp_path
):
    pytest.importorskip("jax")
    with pytest.raises(ExportError, match=f"{kind}, and trained_on=jax. Leave trained_on out"):
        export_bundle(build(), tmp_path, "net", options=ExportOptions(trained_on="jax"))


@pytest.mark.slow
def test_a_user_s_module_may_have_the_name_of_one_of_hornbill(tmp_path, monkeypatch):
    """Found in the current folder alone, as by `--module`; bfloat16 is a dtype no file holds."""
    pytest.importorskip("jax")
    (tmp_path / "preprocessing.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable(package='preprocessing')\n"
        "class Doubling(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        doubling = importlib.import_module("preprocessing").Doubling
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2, dtype="mixed_bfloat16")(doubling()(x)))
    options = ExportOptions(int8="never", trained_on="jax")
    assert passes(export_bundle(model, tmp_path, "net", options=options)) == ALL_PASS
    sys.modules.pop("preprocessing")
