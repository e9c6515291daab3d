"""int8 that no processor changes: no sum can be clipped, and answers are those of the maker."""

import dataclasses
import logging
import math
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from app.bundles.export_run import export_run
from export import ExportOptions
from export.publish import write_checksums
from serving import ManifestError, Predictor, verify_bundle
from serving.bundle import INT8, MANIFEST, read_manifest
from serving.int8 import ANSWERS, LARGEST_SUM, count_other_answers, largest_sum
from serving.manifest import Thresholds
from serving.tensor_proto import read_tensor

EMULATOR = shutil.which("qemu-x86_64")
# A product of 64 activations and weights, the largest activation for all.
PROGRAM = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
print(*session.run(None, {"x": numpy.ones((1, 64), "float32")})[0][0].astype(int))
"""


def net_of(codes):
    """Return a quantized product with a matrix of int8 codes, as bytes of an ONNX file."""
    arrays = {
        "weights": codes,
        "step": np.float32(1 / 127),
        "zero": np.int8(0),
        "weight_steps": np.full(codes.shape[1], 0.01, np.float32),
        "weight_zeros": np.zeros(codes.shape[1], np.int8),
        "output_step": np.float32(1),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["a"]),
        helper.make_node(
            "DequantizeLinear", ["weights", "weight_steps", "weight_zeros"], ["w"], axis=1
        ),
        helper.make_node("MatMul", ["a", "w"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "output_step", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "output_step", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", len(codes)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", codes.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()


def saturating(code):
    codes = np.full((64, 2), code, np.int8)
    codes[:, 1] -= 1
    return net_of(codes)


@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 4), st.integers(1, 4))))
def test_the_largest_sum_is_that_of_any_two_weights(codes):
    flat = codes.reshape(-1).astype(int)
    pairs = [sum(max(sign * w, 0) for w in (flat[i], flat[j]))
             for i in range(len(flat)) for j in range(i) for sign in (1, -1)]  # fmt: skip
    assert largest_sum(net_of(codes)) == 255 * max(pairs, default=abs(flat[0]))


def test_codes_of_seven_bits_never_reach_what_is_clipped():
    assert largest_sum(saturating(64)) <= LARGEST_SUM < largest_sum(saturating(66))


@pytest.fixture(scope="module")
def kept(mlp_run, tmp_path_factory):
    """A bundle with an int8 model."""
    options = ExportOptions(int8="always")
    return export_run(mlp_run.folder, tmp_path_factory.mktemp("dist"), options=options)


@pytest.fixture
def copy(kept, tmp_path):
    """A copy of the bundle, to be changed."""
    return shutil.copytree(kept.parent, tmp_path / kept.parent.name) / kept.name


def sealed(folder):
    (folder / "SHA256SUMS").unlink()
    write_checksums(folder)
    return folder


def failure(folder):
    failed = [check for check in verify_bundle(folder.parent) if not check.passed]
    assert [check.name for check in failed] == ["behavior"]
    return failed[0].detail


def test_an_export_states_the_largest_sum_and_what_int8_answered(kept):
    found = read_manifest(kept).int8
    assert found.largest_sum == largest_sum((kept / INT8).read_bytes()) <= LARGEST_SUM
    for path in (kept / ANSWERS).iterdir():
        _, array = read_tensor(path.read_bytes())
        assert len(array) == 32
    assert Predictor.load(kept, int8="always").precision == "int8"


def test_a_model_whose_sums_can_be_clipped_is_refused(copy):
    model = onnx.load(copy / INT8)
    for tensor in model.graph.initializer:
        codes = numpy_helper.to_array(tensor)
        if codes.dtype == np.int8 and codes.ndim == 2:
            doubled = (2 * codes.astype(int)).clip(-128, 127).astype(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(doubled, tensor.name))
    onnx.save(model, copy / INT8)
    assert "No sum of two int8 products may exceed 32,767, or" in failure(sealed(copy))


def test_another_bound_than_that_of_the_weights_is_refused(copy):
    manifest = read_manifest(copy)
    int8 = dataclasses.replace(manifest.int8, largest_sum=255)
    (copy / MANIFEST).write_text(dataclasses.replace(manifest, int8=int8).to_json())
    assert "must be that of the manifest, 255. Received: " in failure(sealed(copy))


def test_where_int8_answers_otherwise_float32_runs_and_says_so(copy, images, caplog):
    wanted = Predictor.load(copy, int8="never").predict(images)
    path = next((copy / ANSWERS).iterdir())
    name, array = read_tensor(path.read_bytes())
    path.write_bytes(numpy_helper.from_array(array[:, ::-1].copy(), name).SerializeToString())
    message = "answers [0-9]+ of 32 golden samples otherwise than where it was made"
    sealed(copy)
    with caplog.at_level(logging.WARNING):
        predictor = Predictor.load(copy)
    assert predictor.precision == "float32"
    (line,) = caplog.messages
    assert line.startswith(f"{copy} runs in float32: int8 is left out, since it answers ")
    np.testing.assert_array_equal(predictor.predict(images).probabilities, wanted.probabilities)
    with pytest.raises(ManifestError, match=f"cannot run on this machine. .*{message}"):
        Predictor.load(copy, int8="always")
    assert "cannot run on this machine" in failure(copy)


def test_ties_are_no_other_answers(kept):
    manifest = read_manifest(kept)
    name = manifest.prediction_output
    expected = {name: np.array([[0.5, 0.495, 0.005], [0.6, 0.39, 0.01], [0, 0, 1.0]])}
    received = {name: np.array([[0.49, 0.5, 0.01], [0.3, 0.69, 0.01], [0, 0.1, 0.9]])}
    assert count_other_answers(manifest, expected, received) == 1
    many = dataclasses.replace(manifest, task="multilabel")
    assert count_other_answers(many, expected, received) == 1
    broken = {name: np.full((3, 3), np.nan)}
    assert count_other_answers(manifest, expected, broken) == 3


def deciding(kept, task, *values):
    """Return the manifest of a bundle with thresholds, and the name of its predictions."""
    manifest = read_manifest(kept)
    ones = (1.0,) * len(values)
    thresholds = Thresholds("f1", values, None, "some", "others", ones, ones)
    changed = dataclasses.replace(manifest, task=task, thresholds=thresholds)
    return changed, manifest.prediction_output


@pytest.mark.parametrize(
    ("task", "thresholds", "wanted", "found", "count"),
    [
        ("multilabel", (0.9, 0.1), [0.8, 0.3], [0.2, 0.7], 0),
        ("multilabel", (0.9, 0.1), [0.8, 0.3], [0.8, 0.05], 1),
        ("multilabel", (0.9, 0.1), [0.8, 0.104], [0.8, 0.05], 0),
        ("multiclass", (0.9, 0.1), [0.7, 0.3], [0.3, 0.7], 0),
        ("multiclass", (0.9, 0.1), [0.7, 0.3], [0.95, 0.05], 1),
        ("multiclass", (0.9, 0.1), [0.897, 0.103], [0.95, 0.05], 0),
        ("multiclass", (0.0, math.nextafter(1, 2)), [0, 1], [1, 0], 0),
        ("multiclass", (0.8, 0.1, 0.1), [0.6, 0.3, 0.1], [0.3, 0.6, 0.1], 0),
        ("multiclass", (0.8, 0.1, 0.1), [0.6, 0.3, 0.1], [0.85, 0.075, 0.075], 1),
        ("multiclass", (0.8, 0.1, 0.1), [0.8, 0.101, 0.099], [0.82, 0.095, 0.085], 0),
    ],
)
def test_other_answers_are_those_that_the_thresholds_give(
    task, thresholds, wanted, found, count, kept
):
    manifest, name = deciding(kept, task, *thresholds)
    expected, received = ({name: np.float32([row])} for row in (wanted, found))
    assert count_other_answers(manifest, expected, received) == count


@pytest.mark.isa
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64 of the Debian package qemu-user")
def test_an_emulated_processor_without_vnni_gives_the_same_classes(kept, tmp_path):
    def emulated(*arguments):
        command = [EMULATOR, "-cpu", "Haswell", sys.executable, *map(str, arguments)]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
        return finished.stdout

    (tmp_path / "bad.onnx").write_bytes(saturating(127))
    (tmp_path / "good.onnx").write_bytes(saturating(64))
    # 64 products of 1 and 1.27 or 1.26: without VNNI, nearly everything is lost.
    assert emulated("-c", PROGRAM, tmp_path / "good.onnx").split() == ["41", "40"]
    assert emulated("-c", PROGRAM, tmp_path / "bad.onnx").split() != ["81", "81"]
    checked = "import sys, serving; print(*serving.verify_bundle(sys.argv[1]), sep='\\n')"
    assert emulated("-c", checked, kept).count("passed=True") == 3
