"""int8: kept only if it meets the acceptance criteria; the manifest records the decision."""

import dataclasses
import json

import keras
import numpy as np
import onnx
import pytest

from app.bundles.export_run import export_run
from app.commands.export import describe_int8
from export import (
    ExportError,
    ExportOptions,
    Int8Data,
    ModelFacts,
    Samples,
    export_bundle,
    quantization,
)
from export.inference import trace_inference
from export.model_card import write_model_card
from export.onnx.convert import convert_to_onnx
from export.output_kind import OutputKind
from export.quantization import evaluate_int8
from export.steps import observed_steps
from serving import ManifestError, Predictor, verify_bundle
from serving.bundle import INT8, read_manifest
from serving.contract import check_contract
from serving.manifest import Int8, Manifest
from serving.proportions import wilson_interval
from serving.runtime import onnxruntime


@pytest.fixture(autouse=True)
def small_nets_are_tried(monkeypatch):
    """The nets of these tests are too small for int8 to be tried otherwise."""
    monkeypatch.setattr(quantization, "_SHORTEST_MS", 0.0)


@pytest.fixture(scope="module")
def bundle(exported_bundle):
    """A fresh export, not the committed one."""
    return exported_bundle


@pytest.fixture(scope="module")
def kept(mlp_run, tmp_path_factory):
    """A bundle exported with int8="always"."""
    options = ExportOptions(int8="always")
    return export_run(mlp_run.folder, tmp_path_factory.mktemp("dist"), options=options)


def test_int8_quantizes_weights_and_activations_behind_the_preprocessing(kept):
    graph = onnx.load(kept / INT8).graph
    quantized = {node.name for node in graph.node if node.op_type == "DequantizeLinear"}
    assert quantized
    names = {tensor.name: tensor for tensor in graph.initializer}
    kinds = {names[n.input[0]].data_type for n in graph.node
             if n.op_type == "DequantizeLinear" and n.input[0] in names}  # fmt: skip
    assert onnx.TensorProto.INT8 in kinds
    by_output = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.name.startswith(("ink_level", "fit_ink", "binarize")):
            assert all(
                by_output[name].op_type != "DequantizeLinear"
                for name in node.input
                if name in by_output
            )


def test_int8_is_not_tried_on_a_net_too_small_to_win(softmax_run, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "_SHORTEST_MS", 1e6)  # whatever this machine takes
    monkeypatch.setattr(quantization, "_quantize", lambda *_: pytest.fail("tried"))
    assert read_manifest(export_run(softmax_run.folder, tmp_path)).int8 is None


def mean_of_words():
    """A classifier of texts whose answer to no words is NaN, in a batch of such texts or in any."""
    layer = keras.layers.StringLookup(vocabulary=["a", "b"], mask_token="")
    text = keras.Input((3,), dtype="string", name="text")
    words = keras.layers.Embedding(4, 8, mask_zero=True)(layer(text))
    return keras.Model(text, keras.layers.GlobalAveragePooling1D()(words))


def share_of_the_sum():
    """A classifier of the shares of numbers, which are NaN where all are 0."""
    x = keras.Input((4,), name="x")
    return keras.Model(x, x / keras.ops.sum(x, axis=1, keepdims=True))


@pytest.mark.parametrize("build", [mean_of_words, share_of_the_sum])
def test_a_model_that_can_answer_nan_stays_float32(build, tmp_path):
    part = build()
    model = keras.Model(part.input, keras.layers.Dense(2, "softmax")(part.output))
    samples = {"text": np.array([["a", "b", ""], ["b", "", ""]], object)}
    if build is share_of_the_sum:
        samples = {"x": np.ones((4, 4), "float32") + np.eye(4, dtype="float32")}
    facts = ModelFacts(labels=("neg", "pos"))
    found = read_manifest(export_bundle(model, tmp_path, "m", facts, samples))
    assert found.int8 is None
    (warning,) = found.warnings
    assert warning.startswith("No int8 model was made: int8 needs ")
    assert warning.endswith(" with NaN or infinity.")
    with pytest.raises(ExportError, match="int8 needs .* with NaN or infinity"):
        export_bundle(model, tmp_path, "n", facts, samples, ExportOptions(int8="always"))


def test_a_kept_int8_model_verifies_and_predicts(kept, images):
    assert (kept / INT8).stat().st_size < (kept / "model.onnx").stat().st_size
    assert all(check.passed for check in verify_bundle(kept.parent))
    predictor = Predictor.load(kept, int8="always")
    check_contract(predictor.manifest, predictor.session)
    found = predictor.manifest.int8
    assert (found.kept, found.policy) == (True, "always")
    assert found.latency_ratio_1 > 0
    assert found.accuracy_int8 > found.accuracy_float32 - 0.1
    assert {a.batch_size for a in found.parity} == {1, 2, 7, 64}
    same = Predictor.load(kept).predict(images).probabilities.argmax(axis=1)
    other = predictor.predict(images).probabilities.argmax(axis=1)
    assert (same == other).mean() > 0.9


def test_verify_notices_another_int8_model(kept, softmax_run, tmp_path):
    import shutil

    from export.publish import write_checksums

    copy = shutil.copytree(kept.parent, tmp_path / kept.parent.name)
    model = onnx.load(copy / "1" / INT8)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.int8 and array.ndim == 2:
            changed = np.ascontiguousarray(array[:, ::-1])
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
    onnx.save(model, copy / "1" / INT8)
    (copy / "1" / "SHA256SUMS").unlink()
    write_checksums(copy / "1")
    failed = [check for check in verify_bundle(copy) if not check.passed]
    assert [check.name for check in failed] == ["behavior"]
    assert INT8 in failed[0].detail


def test_the_policy_never_makes_no_int8_model_and_requiring_it_is_an_error(bundle):
    assert not (bundle / INT8).exists()
    assert Predictor.load(bundle).manifest.int8 is None
    with pytest.raises(ManifestError, match="int8='always' needs a bundle with model.int8.onnx"):
        Predictor.load(bundle, int8="always")


@pytest.mark.parametrize(("ratio", "is_kept"), [(0.5, True), (1.5, False)])
def test_auto_keeps_and_runs_int8_that_is_faster_and_as_accurate(
    ratio, is_kept, softmax_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(quantization, "_latency_ratio", lambda *_: ratio)
    monkeypatch.setattr("serving.int8._latency_ratio", lambda *_: ratio)
    monkeypatch.setattr(quantization, "_MAX_LOST", 100.0)  # iris has few samples
    monkeypatch.setattr(quantization, "_MIN_AGREEMENT", 0.0)
    bundle = export_run(softmax_run.folder, tmp_path)
    assert Predictor.load(bundle).manifest.int8.kept == is_kept == (bundle / INT8).exists()
    assert "## int8" in (bundle / "README.md").read_text()
    rows = np.array([[5.1, 3.5, 1.4, 0.2]], "float32")
    chosen, *others = (
        Predictor.load(bundle, int8=policy).predict(rows).probabilities
        for policy in ("auto", "never", *(["always"] if is_kept else []))
    )
    np.testing.assert_array_equal(chosen, others[-1])
    assert is_kept == (chosen != others[0]).any()


@pytest.mark.parametrize(
    ("task", "accuracy", "line", "cell"),
    [
        ("multiclass", 0.97, "+1.00 percentage points on 500 samples of it", "97.00%"),
        ("regression", 0.97, "R² +0.0100 on 500 samples of it", "0.9700"),
        ("multiclass", None, "accuracy unknown", "unknown"),
    ],
)
def test_the_accuracy_of_int8_names_its_samples(task, accuracy, line, cell, bundle, tmp_path):
    manifest = read_manifest(bundle)
    before = None if accuracy is None else 0.96
    int8 = Int8(True, "auto", 0.5, 0.5, before, accuracy, "others", "500 samples of it", ())
    manifest = dataclasses.replace(manifest, task=task, int8=int8)
    assert describe_int8(manifest).endswith(line)
    write_model_card(manifest, [], tmp_path)
    score = "R²" if task == "regression" else "accuracy"
    row = f"| {score} on 500 samples of it, int8 | {cell} |"
    assert row in (tmp_path / "README.md").read_text().splitlines()


def classifier(seed=0, inputs=4):
    keras.utils.set_random_seed(seed)
    start = keras.Input((inputs,), name="x")
    return keras.Model(start, keras.layers.Dense(2, "softmax", name="probabilities")(start))


def clear_rows(count, seed=0):
    """Rows whose class no rounding can change, apart from each other and from zero."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (count, 1))
    return (signs * np.ones((1, 4))).astype("float32")


@pytest.fixture
def int8_is_faster(monkeypatch):
    monkeypatch.setattr(quantization, "_latency_ratio", lambda *_: 0.5)


@pytest.mark.parametrize(("count", "is_kept"), [(12, False), (188, False), (189, True)])
@pytest.mark.usefixtures("int8_is_faster")
def test_auto_keeps_int8_only_if_enough_samples_show_that_it_answers_as_float32(
    count, is_kept, tmp_path
):
    """Of 12 samples, none loses its class to an int8 that changes 8% of all others."""
    facts = ModelFacts(labels=("a", "b"))
    samples = Samples({"x": clear_rows(count)}, "given", (), 0)
    bundle = export_bundle(classifier(), tmp_path, "own", facts, samples)
    found = read_manifest(bundle).int8
    assert (found.accuracy_float32, found.accuracy_int8, found.agreement) == (1, 1, 1)
    assert found.agreement_low == pytest.approx(wilson_interval(count, count)[0])
    assert found.kept == is_kept == (bundle / INT8).exists()


@pytest.mark.parametrize("are_disjoint", [True, False])
@pytest.mark.usefixtures("int8_is_faster")
def test_samples_that_calibrate_int8_count_if_they_are_others(are_disjoint, tmp_path):
    calibration, rows = {"x": clear_rows(100, seed=1)}, {"x": clear_rows(100)}
    if not are_disjoint:
        calibration = rows
    data = Int8Data(calibration, "some", rows, None, "others", are_disjoint=are_disjoint)
    facts = ModelFacts(labels=("a", "b"), int8_data=data)
    bundle = export_bundle(classifier(), tmp_path, "own", facts, clear_rows(20))
    found = read_manifest(bundle).int8
    count = 200 if are_disjoint else 100
    assert found.agreement_low == pytest.approx(wilson_interval(count, count)[0])
    assert found.kept == are_disjoint


@pytest.mark.usefixtures("int8_is_faster")
def test_int8_that_answers_otherwise_is_dropped_even_if_it_is_as_accurate(tmp_path):
    """Both are wrong about every sample, whose class is the third: accuracy shows nothing."""
    random = np.random.default_rng(0)
    start = keras.Input((64,), name="x")
    model = keras.Model(start, keras.layers.Dense(3, "softmax", name="probabilities")(start))
    weights = random.normal(size=(64, 1))
    model.set_weights([np.hstack([weights, -weights, 0 * weights]), np.array([0.0, 0, -100])])
    rows = random.normal(size=(400, 64)).astype("float32")
    rows[0, 0] = 1e4  # an outlier, which takes all of the range
    data = Int8Data(rows, "some", rows, np.full(400, 2), "some")
    facts = ModelFacts(labels=("a", "b", "c"), int8_data=data)
    found = read_manifest(export_bundle(model, tmp_path, "own", facts, rows[1:])).int8
    assert (found.accuracy_float32, found.accuracy_int8) == (0, 0)
    assert found.agreement < 0.98
    assert not found.kept


@pytest.mark.parametrize(("scale", "is_kept"), [(1.0, True), (0.001, False)])
@pytest.mark.usefixtures("int8_is_faster")
def test_auto_keeps_int8_of_values_only_if_each_follows_float32(
    scale, is_kept, tmp_path, monkeypatch
):
    """A value of a small unit is a constant in int8: its R² is 0, which a mean would hide."""
    monkeypatch.setattr(quantization, "_MAX_LOST", 100.0)
    keras.utils.set_random_seed(0)
    start = keras.Input((4,), name="x")
    model = keras.Model(start, keras.layers.Dense(2, name="values")(start))
    model.set_weights([np.array([[1, 0], [0, 1], [0, 0], [0, 0]]) * [1.0, scale], np.zeros(2)])
    rows = np.random.default_rng(0).uniform(-1, 1, (400, 4)).astype("float32")
    facts = ModelFacts(task="regression", labels=("price", "share"))
    bundle = export_bundle(model, tmp_path, "own", facts, rows)
    found = read_manifest(bundle).int8
    assert (found.agreement >= 0.999) == is_kept == found.kept
    assert found.agreement_low is None


def test_a_bundle_of_an_earlier_version_has_int8_without_agreement(kept):
    value = json.loads((kept / "manifest.json").read_text())
    assert value["int8"].pop("agreement") > 0.9
    del value["int8"]["agreement_low"]
    found = Manifest.from_json(json.dumps(value).encode())
    assert (found.int8.agreement, found.int8.agreement_low) == (None, None)


@pytest.mark.parametrize(
    ("agreement", "low", "end", "row"),
    [
        (
            0.996,
            0.985,
            ", 99.60% of samples decided as by float32 (95% interval from 98.5%)",
            "| samples decided alike, int8 and float32 (95% interval from) | 99.60% (98.5%) |",
        ),
        (
            0.9994,
            None,
            ", R² against float32 at least 0.9994",
            "| lowest R² of a value, int8 against float32 | 0.9994 |",
        ),
    ],
)
def test_the_export_and_the_card_tell_how_far_int8_agrees(
    agreement, low, end, row, bundle, tmp_path
):
    found = Int8(True, "auto", 0.5, 0.5, 0.9, 0.9, "others", "it", (), None, agreement, low)
    manifest = dataclasses.replace(read_manifest(bundle), int8=found)
    assert describe_int8(manifest).endswith(end)
    write_model_card(manifest, [], tmp_path)
    assert row in (tmp_path / "README.md").read_text().splitlines()


def test_auto_says_why_a_graph_has_no_int8_model(tmp_path, monkeypatch):
    def fail(prepared, *_, **__):
        raise RuntimeError(f"no range for x\nin {prepared}.")

    monkeypatch.setattr("onnxruntime.quantization.quantize_static", fail)
    facts = ModelFacts(labels=("a", "b"))
    manifest = read_manifest(
        export_bundle(classifier(), tmp_path, "own", facts, {"x": clear_rows(20)})
    )
    assert manifest.int8 is None
    assert manifest.warnings == (
        "No int8 model was made: int8 needs a graph that can be quantized. "
        "Received: RuntimeError: no range for x in prepared.onnx.",
    )


def test_int8_that_loses_accuracy_is_dropped(tmp_path):
    """The model depends on differences of its features that 8 bits cannot represent."""
    start = keras.Input((64,), name="x")
    dense = keras.layers.Dense(2, activation="softmax", name="probabilities")
    model = keras.Model(start, {"probabilities": dense(start)})
    random = np.random.default_rng(0)
    weights = random.normal(size=(64, 1))
    dense.set_weights([np.hstack([weights, -weights]) * 50, np.zeros(2)])
    rows = random.normal(size=(400, 64)).astype("float32")
    rows[0, 0] = 1e4  # an outlier, which takes all of the range
    inference = trace_inference(model)
    targets = inference.predict(rows)["probabilities"].argmax(axis=1)
    (tmp_path / "model.onnx").write_bytes(convert_to_onnx(inference, {}).SerializeToString())
    data = Int8Data(rows, "drawn", rows, targets, "drawn")
    kind = OutputKind("multiclass", "probabilities", ("a", "b"))
    found, _ = evaluate_int8(inference, tmp_path, data, rows, kind, "auto")
    assert found.accuracy_int8 < found.accuracy_float32 - 0.001
    assert not found.kept
    assert not (tmp_path / INT8).exists()


def test_int8_is_accepted_by_the_decisions_of_the_thresholds(tmp_path):
    keras.utils.set_random_seed(0)
    start = keras.Input((4,), name="x")
    dense = keras.layers.Dense(2, activation="sigmoid", name="probabilities")
    model = keras.Model(start, {"probabilities": dense(start)})
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
    inference = trace_inference(model)
    cuts = np.median(inference.predict(rows)["probabilities"], axis=0) / 2
    targets = (inference.predict(rows)["probabilities"] >= cuts).astype("float32")
    (tmp_path / "model.onnx").write_bytes(convert_to_onnx(inference, {}).SerializeToString())
    data = Int8Data(rows, "drawn", rows, targets, "drawn", thresholds=tuple(cuts.tolist()))
    kind = OutputKind("multilabel", "probabilities", ("a", "b"))
    found, _ = evaluate_int8(inference, tmp_path, data, rows, kind, "always")
    assert found.accuracy_float32 == 1
    assert found.accuracy_int8 > 0.95
    # A sample agrees if all of its labels do: either label may differ where the other agrees.
    assert 2 * found.accuracy_int8 - 1 <= found.agreement <= found.accuracy_int8
    assert found.agreement_low < found.agreement


def test_accuracy_counts_an_output_of_small_numbers_that_int8_makes_constant(tmp_path):
    keras.utils.set_random_seed(0)
    start = keras.Input((4,), name="x")
    values = keras.layers.Dense(2, name="values")(start)
    model = keras.Model(start, {"values": values})
    kernel, bias = model.get_weights()
    model.set_weights([kernel * [2e5, 0.1], bias])
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
    inference = trace_inference(model)
    targets = inference.predict(rows)["values"]
    (tmp_path / "model.onnx").write_bytes(convert_to_onnx(inference, {}).SerializeToString())
    data = Int8Data(rows, "drawn", rows, targets, "drawn")
    kind = OutputKind("regression", "values", ("price", "share"))
    found, _ = evaluate_int8(inference, tmp_path, data, rows, kind, "auto")
    assert found.accuracy_float32 > 0.99
    assert found.accuracy_int8 < 0.6
    assert not found.kept


@keras.saving.register_keras_serializable(package="tests")
class ThreeMaps(keras.layers.Layer):
    """Applies three fully connected layers to the same input, as a stack of matrices."""

    def build(self, input_shape):
        shape = (3, input_shape[-1], 8)
        self.kernels = self.add_weight(shape=shape, name="kernels")

    def call(self, x):
        return keras.ops.transpose(keras.ops.matmul(x, self.kernels), (1, 0, 2))


def test_a_stack_of_matrices_stays_float32(tmp_path):
    """onnxruntime has no int8 product with scales for each column of several matrices."""
    start = keras.Input((16,), name="x")
    x = keras.layers.Flatten()(ThreeMaps(name="maps")(start))
    outputs = keras.layers.Dense(4, activation="softmax", name="probabilities")(x)
    model = keras.Model(start, {"probabilities": outputs})
    facts = ModelFacts(labels=tuple("abcd"), task="multiclass")
    bundle = export_bundle(model, tmp_path, "own", facts, options=ExportOptions(int8="always"))
    assert all(check.passed for check in verify_bundle(bundle))
    stored = {one.name: one for one in onnx.load(bundle / INT8).graph.initializer}
    (stack,) = (one for one in stored.values() if len(one.dims) == 3)
    assert stack.data_type == onnx.TensorProto.FLOAT
    assert any(one.data_type == onnx.TensorProto.INT8 for one in stored.values() if one.dims)


def test_several_values_in_their_own_units_run_in_int8(tmp_path):
    rows = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    hidden = keras.layers.Dense(32, activation="relu")(start := keras.Input((8,), name="x"))
    units = keras.layers.Normalization(mean=[5.0, 7.0], variance=[4.0, 9.0], invert=True)
    model = keras.Model(start, units(keras.layers.Dense(2)(hidden)))
    options = ExportOptions(int8="always")
    predictor = Predictor.load(export_bundle(model, tmp_path, "net", ModelFacts(), rows, options))
    assert predictor.manifest.int8.kept
    answers = predictor.predict(rows).outputs[predictor.manifest.outputs[0].name]
    np.testing.assert_allclose(answers, model(rows), atol=0.5)


def test_convolutions_whose_outputs_several_layers_read_run_in_int8(tmp_path):
    start = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(start)
    inner = keras.layers.Conv2D(8, 3, padding="same")(x)
    inner = keras.layers.ReLU()(keras.layers.MaxPooling2D(3, 1, "same")(inner))
    joined = keras.layers.Conv2D(8, 3, activation="relu")(x + inner)
    means = [keras.layers.GlobalAveragePooling2D()(maps) for maps in (x, joined)]
    features = keras.layers.Concatenate()(means)
    model = keras.Model(start, keras.layers.Dense(3, "softmax")(features))
    images = np.random.default_rng(0).normal(size=(32, 12, 12, 3)).astype("float32")
    options = ExportOptions(int8="always")
    bundle = export_bundle(model, tmp_path, "m", samples={"image": images}, options=options)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(bundle / INT8, settings)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3
    assert not {"Conv", "Gemm", "Relu", "Add"} & {*kinds}


def test_auto_does_not_try_int8_on_drawn_samples_and_says_so(tmp_path, monkeypatch):
    """Rows of real tables lie far outside of what is drawn, where int8 would clip them."""
    monkeypatch.setattr(quantization, "_latency_ratio", lambda *_: 0.5)
    monkeypatch.setattr(quantization, "_MAX_LOST", 100.0)
    monkeypatch.setattr(quantization, "_MIN_AGREEMENT", 0.0)  # there are few samples
    start = keras.Input((4,), name="x")
    model = keras.Model(start, keras.layers.Dense(2, "softmax")(start))
    facts = ModelFacts(labels=("a", "b"))
    drawn = read_manifest(export_bundle(model, tmp_path, "own", facts))
    assert drawn.int8 is None
    (warning,) = drawn.warnings
    assert warning.startswith("No int8 model was tried")
    assert "--samples or --evaluate" in warning
    rows = 100 * np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    given = read_manifest(export_bundle(model, tmp_path, "own", facts, rows))
    assert (given.int8.kept, given.warnings) == (True, ())
    options = ExportOptions(int8="always")
    always = read_manifest(export_bundle(model, tmp_path, "own", facts, options=options))
    assert (always.int8.kept, always.warnings) == (True, ())


def test_a_model_without_weights_has_no_int8(tmp_path):
    start = keras.Input((4,), name="x")
    model = keras.Model(start, keras.layers.Softmax()(start))
    facts = ModelFacts(labels=tuple("abcd"))
    bundle = export_bundle(model, tmp_path, "own", facts, np.ones((9, 4), "float32"))
    found = Predictor.load(bundle).manifest
    assert (found.int8, found.warnings) == (None, ())
    steps = []
    with observed_steps(steps.append):  # without labels, nothing tells whether int8 is as good
        export_bundle(model, tmp_path, "other", ModelFacts())
    assert "writing and verifying the bundle" in steps
    assert "quantizing to int8 and timing it" not in steps
    with pytest.raises(
        ExportError, match="can be quantized. Received: no layer with constant weights"
    ):
        export_bundle(model, tmp_path, "own", facts, options=ExportOptions(int8="always"))
    with pytest.raises(ExportError, match="int8 must be one of always, auto, never"):
        ExportOptions(int8="maybe")
