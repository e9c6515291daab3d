"""Verification: a sound bundle passes, and whatever is changed in one is noticed."""

import hashlib
import json
import os
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serving import ManifestError, Predictor, verify_bundle
from serving.bundle import GOLDEN, read_checksums
from serving.errors import InputError
from serving.parity import largest_difference, run_in_batches


@pytest.fixture
def copy(bundle, tmp_path):
    """The model's folder, to be broken."""
    return shutil.copytree(bundle.parent, tmp_path / "digits")


def results(path):
    return {check.name: check.passed for check in verify_bundle(path)}


def detail(path, name):
    return next(check.detail for check in verify_bundle(path) if check.name == name)


def sign(version):
    """Make the checksums right again, as whoever tampers would."""
    names = [p for p in version.rglob("*") if p.is_file() and p.name != "SHA256SUMS"]
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(version).as_posix()}\n"
        for p in names
    ]
    (version / "SHA256SUMS").write_text("".join(lines))


def test_a_sound_bundle_passes(bundle):
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
    assert len(paths) >= 15
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


def test_a_file_too_many_or_too_few_is_noticed(copy):
    (copy / "1" / "extra.txt").write_text("")
    assert "Every file must be listed" in detail(copy, "files")
    (copy / "1" / "extra.txt").unlink()
    (copy / "1" / "README.md").unlink()
    assert "README.md must be readable" in detail(copy, "files")


def test_a_listed_path_outside_the_bundle_is_refused(copy):
    sums = copy / "1" / "SHA256SUMS"
    (copy / "secret").write_text("outside")
    digest = hashlib.sha256(b"outside").hexdigest()
    sums.write_text(sums.read_text() + f"{digest}  ../secret\n")
    assert "must lie inside" in detail(copy, "files")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda m: m["columns"].reverse(), "columns"),
        (lambda m: m["nullable_columns"].append(m["columns"][0]), "nullable_columns"),
    ],
)
def test_columns_in_another_order_and_gaps_are_noticed(change, key, row_bundle, tmp_path):
    copy = shutil.copytree(row_bundle.parent, tmp_path / row_bundle.parent.name)
    manifest = json.loads((copy / "1" / "manifest.json").read_text())
    change(manifest)
    (copy / "1" / "manifest.json").write_text(json.dumps(manifest))
    sign(copy / "1")
    assert f"must be of the manifest's {key}" in detail(copy, "contract")


def test_what_the_graph_says_of_itself_need_not_be_json(copy):
    model = onnx.load(copy / "1" / "model.onnx")
    next(entry for entry in model.metadata_props if entry.key == "labels").value = "{"
    onnx.save(model, copy / "1" / "model.onnx")
    sign(copy / "1")
    assert "must be of the manifest's labels" in detail(copy, "contract")


def test_an_int8_file_that_was_not_kept_is_noticed(copy):
    (copy / "1" / "model.int8.onnx").write_bytes(b"junk")
    sign(copy / "1")
    assert "Received: not kept, but a file" in detail(copy, "contract")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{'0' * 64}  model.onnx\n", "must list each file once. Received: 'model.onnx' twice"),
        (f"{'0' * 64}  ./model.onnx\n", "must lie inside the bundle. Received: './model.onnx'"),
    ],
)
def test_checksums_that_contradict_themselves_are_refused(line, message, copy):
    sums = copy / "1" / "SHA256SUMS"
    sums.write_text(line + sums.read_text())
    assert message in detail(copy, "files")


def test_other_weights_are_noticed_by_behavior_even_with_new_checksums(copy):
    model = onnx.load(copy / "1" / "model.onnx")
    weights = next(t for t in model.graph.initializer if len(t.dims) == 2 and t.dims[1] == 10)
    changed = numpy_helper.to_array(weights) * np.float32(1.05)
    weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
    onnx.save(model, copy / "1" / "model.onnx")
    sign(copy / "1")
    assert results(copy) == {"files": True, "contract": True, "behavior": False}
    assert "probabilities must be within 1.0e-05" in detail(copy, "behavior")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: (m["labels"].pop(), m["baseline"]["shares"].pop()),
            "probabilities float32 [batch, 10] for 9 labels",
        ),
        (lambda m: m["labels"].pop(), "a share of each label. Received: 10 shares of 9 labels"),
        (lambda m: m["inputs"][0].update(dtype="float32"), "The inputs of model.onnx must be"),
        (lambda m: m["outputs"].pop(), "The outputs of model.onnx must be"),
        (lambda m: m.update(name="other"), 'must be of the manifest\'s name, "other". Received:'),
        (lambda m: m["labels"].reverse(), 'must be of the manifest\'s labels, ["9", "8",'),
        (lambda m: m["proof"].update(samples=0), "A proof must have samples. Received: 0."),
        (
            lambda m: [a.update(artifact="other") for a in m["proof"]["parity"]],
            "no proof of 'probabilities' of saved_model",
        ),
        (
            lambda m: m["proof"]["parity"][0].update(max_absolute_difference=-1.0),
            "Every artifact must agree",
        ),
        (
            lambda m: m["proof"]["parity"][0].update(top1_match=None),
            "Every artifact must agree",
        ),
        (
            lambda m: m["proof"]["tolerances"].update(probabilities=1.0),
            "probabilities must be at most 1e-05",
        ),
        (lambda m: m["proof"]["tolerances"].update(float32=-1.0), "float32 must be at most 0.0001"),
        (lambda m: m["proof"].update(parity=[]), "no proof of 'probabilities'"),
        (
            lambda m: m["proof"]["parity"][0].update(max_absolute_difference=9.0),
            "Every artifact must agree",
        ),
        (
            lambda m: m["proof"]["parity"][0].update(top1_match=0.5),
            "Every artifact must agree",
        ),
        (lambda m: m.update(version=99), "in the folder of its number, 99"),
        (lambda m: m["inputs"][0].update(dtype="tensor(string)"), "dtype='tensor(string)'"),
        (lambda m: m["outputs"][0].update(shape=[]), "a named first axis and named ones"),
        (lambda m: m["outputs"][0].update(shape=["batch", 0]), "a named first axis"),
        (lambda m: m["outputs"][0].update(shape=["batch", "wide"]), "The outputs of model.onnx"),
        (lambda m: m.update(columns=["a", "b"]), "must take its 2 columns as the input inputs"),
        (
            lambda m: m.update(prediction_output=None),
            "prediction_output must be the name of an output",
        ),
        (lambda m: m["metrics"].update(accuracy=float("nan")), "NaN, which is no JSON number"),
    ],
)
def test_a_manifest_that_tells_otherwise_is_noticed_by_contract(change, message, copy):
    path = copy / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    sign(copy / "1")
    assert message in detail(copy, "contract")


def test_golden_samples_of_another_shape_are_noticed(copy):
    path = copy / "1" / "test_data_set_0" / "output_0.pb"
    tensor = numpy_helper.from_array(np.zeros((3, 10), "float32"), "probabilities")
    path.write_bytes(tensor.SerializeToString())
    sign(copy / "1")
    assert "an answer for each of 32 samples. Received: 3" in detail(copy, "behavior")


def test_golden_samples_of_another_kind_are_noticed(copy):
    path = copy / "1" / "test_data_set_0" / "input_0.pb"
    tensor = numpy_helper.from_array(np.zeros((3, 4), "float32"), "inputs")
    path.write_bytes(tensor.SerializeToString())
    sign(copy / "1")
    assert "must hold image uint8 [batch, 28, 28]. Received: inputs" in detail(copy, "behavior")


def test_golden_answers_of_another_class_are_noticed(tmp_path):
    """Probabilities so nearly equal that their difference alone would pass."""
    import keras

    from export import ModelFacts, export_bundle, with_edge_cases

    inputs = keras.Input((4,), name="inputs")
    dense = keras.layers.Dense(3, "softmax", kernel_initializer="zeros")
    model = keras.Model(inputs, {"probabilities": dense(inputs)})
    facts = ModelFacts(task="multiclass", labels=("a", "b", "c"), columns=tuple("wxyz"))
    samples = with_edge_cases(np.ones((30, 4), "float32"), "drawn")
    bundle = export_bundle(model, tmp_path, "own", facts, samples)
    assert all(results(bundle).values())
    golden = bundle / "test_data_set_0" / "output_0.pb"
    tensor = onnx.TensorProto.FromString(golden.read_bytes())
    other = numpy_helper.to_array(tensor) + np.float32([0, 0, 1e-6])
    golden.write_bytes(numpy_helper.from_array(other, "probabilities").SerializeToString())
    sign(bundle)
    assert "must name the golden classes" in detail(bundle, "behavior")


def test_weights_in_another_file_are_refused(copy, tmp_path, monkeypatch):
    """ONNX Runtime would read them from the receiver's own folder, past every checksum."""
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
    sign(copy / "1")
    assert "whose data lie in another file" in detail(copy, "contract")
    with pytest.raises(ManifestError, match="whose data lie in another file"):
        Predictor.load(copy)


def test_a_graph_that_fails_when_it_runs_is_a_failed_check(copy):
    from onnx import TensorProto, helper

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
    sign(copy / "1")
    assert not results(copy)["behavior"]


def test_a_path_with_a_nul_is_a_failed_check(copy):
    sums = copy / "1" / "SHA256SUMS"
    sums.write_text(sums.read_text() + "0" * 64 + "  a\0b\n")
    assert "must be readable" in detail(copy, "files")


def test_a_missing_file_beside_the_versions_is_noticed(copy):
    (copy / "config.pbtxt").unlink()
    assert "config.pbtxt must be readable" in detail(copy, "contract")


def test_a_link_is_no_part_of_a_bundle(copy):
    (copy / "1" / "link").symlink_to(copy / "labels.txt")
    assert "must hold no links" in detail(copy, "files")


def test_a_missing_bundle_is_an_error_not_a_failed_check(tmp_path):
    with pytest.raises(ManifestError, match="not there"):
        verify_bundle(tmp_path / "none")


def test_a_version_is_complete_without_what_lies_beside_it(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "anywhere")
    assert all(results(tmp_path / "anywhere").values())
    assert len(read_checksums(tmp_path / "anywhere")) == 15


def test_a_golden_answer_that_is_not_finite_is_noticed(copy):
    path = copy / "1" / GOLDEN / "output_0.pb"
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    spoiled = numpy_helper.to_array(tensor).copy()
    spoiled.flat[0] = np.inf
    path.write_bytes(numpy_helper.from_array(spoiled, tensor.name).SerializeToString())
    sign(copy / "1")
    assert "must be within" in detail(copy, "behavior")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_no_part_of_a_bundle_and_is_not_waited_for(copy):
    (copy / "1" / "model.onnx").unlink()
    os.mkfifo(copy / "1" / "model.onnx")
    assert not any(results(copy).values())
    assert "not a regular file" in detail(copy, "contract")


def test_answers_of_another_count_or_shape_are_refused():
    inputs = np.zeros((4, 2))
    for answer in (lambda x: x[:1], lambda x: np.zeros((len(x), len(x)))):
        with pytest.raises(InputError, match="an answer of one shape for each sample"):
            run_in_batches(lambda x, answer=answer: {"y": answer(x)}, inputs, 3)
    assert largest_difference(np.zeros((4, 1)), np.zeros((4, 3))) == np.inf


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_what_can_be_no_path_is_an_error_of_ours(name):
    with pytest.raises(ManifestError, match="A bundle must be a folder that can be read"):
        verify_bundle(name)
