"""Verification: an intact bundle passes, and any change is noticed."""

import hashlib
import json
import os
import shutil

import numpy as np
import onnx
import pytest
from checksums import write_checksums
from onnx import TensorProto, helper, numpy_helper

from serving import ManifestError, Predictor, verify_bundle
from serving.bundle import GOLDEN, read_checksums
from serving.errors import InputError
from serving.parity import largest_difference, run_in_batches
from serving.session import open_session


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the model's folder that a test may change."""
    return shutil.copytree(bundle.parent, tmp_path / "digits")


def results(path):
    return {check.name: check.passed for check in verify_bundle(path)}


def detail(path, name):
    return next(check.detail for check in verify_bundle(path) if check.name == name)


def test_an_intact_bundle_passes(bundle):
    assert (
        results(bundle)
        == results(bundle.parent)
        == dict.fromkeys(("files", "contract", "behavior"), True)
    )


def test_a_bundle_of_rows_passes(row_bundle):
    assert all(results(row_bundle).values())


def test_a_changed_byte_in_any_file_is_noticed(copy):
    version = copy / "1"
    paths = [path for path in copy.rglob("*") if path.is_file()]
    assert len(paths) >= 13
    for path in paths:
        before = path.read_bytes()
        for position in (0, len(before) // 2, len(before) - 1):
            changed = bytearray(before)
            changed[position] ^= 0x10
            path.write_bytes(changed)
            assert not all(results(copy).values()), f"{path.relative_to(copy)} at {position}"
        path.write_bytes(before[:-1])
        assert not all(results(copy).values()), f"{path.relative_to(copy)} cut"
        path.write_bytes(before)
    assert all(results(version).values())


def test_a_changed_bit_at_any_place_is_noticed(row_bundle, tmp_path):
    copy = shutil.copytree(row_bundle.parent, tmp_path / row_bundle.parent.name)
    random = np.random.default_rng(0)
    paths = sorted(path for path in copy.rglob("*") if path.is_file())
    for number in range(200):
        path = paths[number % len(paths)]
        before = path.read_bytes()
        changed = bytearray(before)
        position = int(random.integers(len(before)))
        changed[position] ^= 1 << random.integers(8)
        path.write_bytes(changed)
        # The bits of a version are all under its checksums; the rest is compared with the manifest.
        assert not all(check.passed for check in verify_bundle(copy)), f"{path} at {position}"
        path.write_bytes(before)
    assert all(results(copy).values())


def test_an_extra_or_a_missing_file_is_noticed(copy):
    (copy / "1" / "extra.txt").write_text("")
    assert "Every file must be listed" in detail(copy, "files")
    (copy / "1" / "extra.txt").unlink()
    (copy / "1" / "README.md").unlink()
    assert "README.md does not exist" in detail(copy, "files")


def test_a_listed_path_outside_the_bundle_is_refused(copy):
    sums = copy / "1" / "SHA256SUMS"
    (copy / "secret").write_text("outside")
    digest = hashlib.sha256(b"outside").hexdigest()
    sums.write_text(sums.read_text() + f"{digest}  ../secret\n")
    assert "must list files inside" in detail(copy, "files")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda m: m["columns"].reverse(), "columns"),
        (lambda m: m["nullable_columns"].append(m["columns"][0]), "nullable_columns"),
    ],
)
def test_other_orders_of_columns_and_nullable_columns_are_noticed(
    change, key, row_bundle, tmp_path
):
    copy = shutil.copytree(row_bundle.parent, tmp_path / row_bundle.parent.name)
    manifest = json.loads((copy / "1" / "manifest.json").read_text())
    change(manifest)
    (copy / "1" / "manifest.json").write_text(json.dumps(manifest))
    write_checksums(copy / "1")
    assert f"must have the manifest's {key}" in detail(copy, "contract")


def test_the_metadata_of_the_graph_need_not_be_json(copy):
    model = onnx.load(copy / "1" / "model.onnx")
    next(entry for entry in model.metadata_props if entry.key == "labels").value = "{"
    onnx.save(model, copy / "1" / "model.onnx")
    write_checksums(copy / "1")
    assert "must have the manifest's labels" in detail(copy, "contract")


def test_an_int8_file_that_was_not_kept_is_noticed(copy):
    (copy / "1" / "model.int8.onnx").write_bytes(b"junk")
    write_checksums(copy / "1")
    assert "Received: not kept, but a file" in detail(copy, "contract")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{'0' * 64}  model.onnx\n", "must list each file once. Received: 'model.onnx' twice"),
        (
            f"{'0' * 64}  ./model.onnx\n",
            "must list files inside the bundle. Received: './model.onnx'",
        ),
    ],
)
def test_malformed_checksums_are_refused(line, message, copy):
    sums = copy / "1" / "SHA256SUMS"
    sums.write_text(line + sums.read_text())
    assert message in detail(copy, "files")


def test_the_behavior_check_notices_other_weights_even_with_new_checksums(copy):
    model = onnx.load(copy / "1" / "model.onnx")
    weights = next(t for t in model.graph.initializer if len(t.dims) == 2 and t.dims[1] == 10)
    changed = numpy_helper.to_array(weights) * np.float32(1.05)
    weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
    onnx.save(model, copy / "1" / "model.onnx")
    write_checksums(copy / "1")
    assert results(copy) == {"files": True, "contract": True, "behavior": False}
    assert "probabilities must be within 1.0e-05" in detail(copy, "behavior")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: (m["labels"].pop(), m["baseline"]["fractions"].pop()),
            "probabilities float32 [batch, 10] for 9 labels",
        ),
        (
            lambda m: m["labels"].pop(),
            "one fraction for each label. Received: 10 fractions for 9 labels",
        ),
        (lambda m: m["inputs"][0].update(dtype="float32"), "The inputs of model.onnx must be"),
        (lambda m: m["outputs"].pop(), "The outputs of model.onnx must be"),
        (lambda m: m.update(name="other"), 'must have the manifest\'s name, "other". Received:'),
        (lambda m: m["labels"].reverse(), 'must have the manifest\'s labels, ["9", "8",'),
        (
            lambda m: m["proof"].update(samples=0),
            "A proof must have at least 1 sample. Received: 0.",
        ),
        (
            lambda m: [a.update(artifact="other") for a in m["proof"]["parity"]],
            "no proof of 'probabilities' of saved_model",
        ),
        (
            lambda m: m["proof"]["parity"][0].update(max_absolute_difference=-1.0),
            "Every artifact must have parity",
        ),
        (
            lambda m: m["proof"]["parity"][0].update(top1_match=None),
            "Every artifact must have parity",
        ),
        (
            lambda m: m["proof"]["tolerances"].update(probabilities=1.0),
            "probabilities must be at most 1e-05",
        ),
        (lambda m: m["proof"]["tolerances"].update(float32=-1.0), "float32 must be at most 0.0001"),
        (lambda m: m["proof"].update(parity=[]), "no proof of 'probabilities'"),
        (
            lambda m: m["proof"]["parity"][0].update(max_absolute_difference=9.0),
            "Every artifact must have parity",
        ),
        (
            lambda m: m["proof"]["parity"][0].update(top1_match=0.5),
            "Every artifact must have parity",
        ),
        (lambda m: m.update(version=99), "in the folder of its number, 99"),
        (lambda m: m["inputs"][0].update(dtype="tensor(string)"), "dtype='tensor(string)'"),
        (lambda m: m["outputs"][0].update(shape=[]), "shape must begin with a named axis"),
        (
            lambda m: m["outputs"][0].update(shape=["batch", 0]),
            "shape must begin with a named axis",
        ),
        (lambda m: m["outputs"][0].update(shape=["batch", "wide"]), "The outputs of model.onnx"),
        (lambda m: m.update(columns=["a", "b"]), "must take 2 columns as the input inputs"),
        (
            lambda m: m.update(prediction_output=None),
            "prediction_output must be the name of an output",
        ),
        (lambda m: m["metrics"].update(accuracy=float("nan")), "NaN, which is not a JSON number"),
    ],
)
def test_a_manifest_that_contradicts_the_graph_fails_the_contract(change, message, copy):
    path = copy / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    write_checksums(copy / "1")
    assert message in detail(copy, "contract")


def test_golden_samples_of_another_shape_are_noticed(copy):
    path = copy / "1" / "test_data_set_0" / "output_0.pb"
    tensor = numpy_helper.from_array(np.zeros((3, 10), "float32"), "probabilities")
    path.write_bytes(tensor.SerializeToString())
    write_checksums(copy / "1")
    assert "an output for each of 32 samples. Received: 3" in detail(copy, "behavior")


def test_golden_samples_of_another_input_are_noticed(copy):
    path = copy / "1" / "test_data_set_0" / "input_0.pb"
    tensor = numpy_helper.from_array(np.zeros((3, 4), "float32"), "inputs")
    path.write_bytes(tensor.SerializeToString())
    write_checksums(copy / "1")
    assert "must hold image uint8 [batch, 28, 28]. Received: inputs" in detail(copy, "behavior")


def test_golden_outputs_of_another_class_are_noticed(row_bundle, tmp_path):
    """The probabilities are so close that their difference alone would pass."""
    copy = shutil.copytree(row_bundle.parent, tmp_path / row_bundle.parent.name)
    version = copy / "1"
    model = onnx.load(version / "model.onnx")
    model.graph.CopyFrom(constant_softmax())
    onnx.save(model, version / "model.onnx")
    golden = version / "test_data_set_0" / "output_0.pb"
    count = len(numpy_helper.to_array(onnx.TensorProto.FromString(golden.read_bytes())))
    equal = np.full((count, 3), 1 / 3, np.float32)
    golden.write_bytes(numpy_helper.from_array(equal, "probabilities").SerializeToString())
    write_checksums(version)
    assert all(results(version).values())
    other = equal + np.float32([0, 0, 1e-6])
    golden.write_bytes(numpy_helper.from_array(other, "probabilities").SerializeToString())
    write_checksums(version)
    assert "must predict the golden classes" in detail(version, "behavior")


def constant_softmax():
    """A graph of the iris model's signature whose classes are all equally probable."""
    weights = numpy_helper.from_array(np.zeros((4, 3), np.float32), "weights")
    nodes = [
        helper.make_node("MatMul", ["inputs", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    inputs, outputs = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("inputs", 4), ("probabilities", 3))
    )
    return helper.make_graph(nodes, "softmax", [inputs], [outputs], [weights])


def test_weights_in_another_file_are_refused(copy, tmp_path, monkeypatch):
    """ONNX Runtime would read them from the receiver's working directory, without any checksum."""
    model = onnx.load(copy / "1" / "model.onnx")
    onnx.save(
        model,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    monkeypatch.chdir(tmp_path)
    (copy / "1" / "model.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    write_checksums(copy / "1")
    assert "must be in model.onnx.data beside it" in detail(copy, "contract")
    with pytest.raises(ManifestError, match="must be in model.onnx.data beside it"):
        Predictor.load(copy)
    with pytest.raises(ManifestError, match="whose data is in another file"):
        open_session((copy / "1" / "model.onnx").read_bytes())


@pytest.fixture
def with_weights_beside(copy):
    """The bundle with its weights in `model.onnx.data`, and a function that changes the entries."""
    path = copy / "1" / "model.onnx"
    model = onnx.load(path)
    onnx.save(
        model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=1000
    )
    write_checksums(copy / "1")

    def change(key, value):
        graph = onnx.load(path, load_external_data=False)
        tensor = next(t for t in graph.graph.initializer if t.external_data)
        for entry in [entry for entry in tensor.external_data if entry.key == key]:
            tensor.external_data.remove(entry)
        if value is not None:
            tensor.external_data.add(key=key, value=value)
        path.write_bytes(graph.SerializeToString())
        write_checksums(copy / "1")

    return copy, change


def test_weights_beside_the_graph_are_checked_and_used(with_weights_beside):
    bundle, _ = with_weights_beside
    assert all(results(bundle).values())
    weights = bundle / "1" / "model.onnx.data"
    weights.write_bytes(b"\1" + weights.read_bytes()[1:])
    assert not results(bundle)["files"]
    assert "model.onnx.data must have the SHA-256" in detail(bundle, "files")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("location", "../1/model.onnx.data", "must be in model.onnx.data beside it"),
        ("location", "/etc/passwd", "must be in model.onnx.data beside it"),
        ("location", None, "must be in model.onnx.data beside it"),
        ("offset", "-4", "must state its length, and its offset as a number"),
        ("offset", "99999999", "must lie within"),
        ("offset", "9" * 30, "must state its length, and its offset as a number"),
        ("length", "4", "must lie within"),
        ("length", None, "must state its length"),
    ],
)
def test_weights_in_another_place_are_refused(with_weights_beside, key, value, message):
    bundle, change = with_weights_beside
    change(key, value)
    assert message in detail(bundle, "contract")
    with pytest.raises(ManifestError, match=message):
        Predictor.load(bundle)


def test_weights_behind_a_link_are_refused(with_weights_beside, tmp_path):
    bundle, _ = with_weights_beside
    weights = bundle / "1" / "model.onnx.data"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    assert "must not contain symbolic links" in detail(bundle, "files")
    with pytest.raises(ManifestError, match="must be a regular file"):
        Predictor.load(bundle)


def test_a_graph_that_fails_when_it_runs_is_a_failed_check(copy):
    def tensor(name, dtype, shape):
        return helper.make_tensor_value_info(name, dtype, shape)

    shape = numpy_helper.from_array(np.int64([7, -1]), "shape")
    nodes = [
        helper.make_node("Cast", ["image"], ["gray"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["gray", "shape"], ["sevenths"]),
        helper.make_node("Slice", ["sevenths", "zero", "ten", "one"], ["probabilities"]),
        helper.make_node("Slice", ["sevenths", "zero", "units", "one"], ["features"]),
    ]
    constants = {"zero": [0], "ten": [10], "units": [32], "one": [1]}
    graph = helper.make_graph(
        nodes,
        "broken",
        [tensor("image", TensorProto.UINT8, ["batch", 28, 28])],
        [
            tensor("probabilities", TensorProto.FLOAT, ["batch", 10]),
            tensor("features", TensorProto.FLOAT, ["batch", 32]),
        ],
        [shape, *(numpy_helper.from_array(np.int64(v), k) for k, v in constants.items())],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=8), copy / "1" / "model.onnx"
    )
    write_checksums(copy / "1")
    assert not results(copy)["behavior"]


def test_a_path_with_a_nul_is_a_failed_check(copy):
    sums = copy / "1" / "SHA256SUMS"
    sums.write_text(sums.read_text() + "0" * 64 + "  a\0b\n")
    assert "cannot be read" in detail(copy, "files")


def test_a_missing_file_next_to_the_versions_is_noticed(copy):
    (copy / "config.pbtxt").unlink()
    assert "config.pbtxt does not exist." in detail(copy, "contract")


def test_a_symbolic_link_is_noticed(copy):
    (copy / "1" / "link").symlink_to(copy / "labels.txt")
    assert "must not contain symbolic links" in detail(copy, "files")


def test_a_missing_bundle_is_an_error_not_a_failed_check(tmp_path):
    with pytest.raises(ManifestError, match="does not exist"):
        verify_bundle(tmp_path / "none")


def test_a_version_verifies_without_the_files_next_to_it(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "anywhere")
    assert all(results(tmp_path / "anywhere").values())
    assert len(read_checksums(tmp_path / "anywhere")) == 12


def test_a_golden_output_that_is_not_finite_is_noticed(copy):
    path = copy / "1" / GOLDEN / "output_0.pb"
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    spoiled = numpy_helper.to_array(tensor).copy()
    spoiled.flat[0] = np.inf
    path.write_bytes(numpy_helper.from_array(spoiled, tensor.name).SerializeToString())
    write_checksums(copy / "1")
    assert "must be within" in detail(copy, "behavior")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_in_a_bundle_is_noticed_without_waiting_for_it(copy):
    (copy / "1" / "model.onnx").unlink()
    os.mkfifo(copy / "1" / "model.onnx")
    assert not any(results(copy).values())
    assert "not a regular file" in detail(copy, "files")


def test_outputs_of_another_count_or_shape_are_refused():
    inputs = np.zeros((4, 2))
    for output in (lambda x: x[:1], lambda x: np.zeros((len(x), len(x)))):
        with pytest.raises(InputError, match="one element of the same shape for each sample"):
            run_in_batches(lambda x, output=output: {"y": output(x)}, inputs, 3)
    assert largest_difference(np.zeros((4, 1)), np.zeros((4, 3))) == np.inf


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_an_impossible_path_is_a_manifest_error(name):
    with pytest.raises(ManifestError, match="cannot be read: "):
        verify_bundle(name)
