"""The contents of a bundle, the parity of its artifacts, and failed proofs."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from checksums import write_checksums
from conversion import join_models, require_parity, run_graph
from markdown_it import MarkdownIt
from onnx import numpy_helper

import models
from app.bundles.export_run import export_run
from app.errors import RunError
from export import (
    ExportError,
    ExportOptions,
    ModelFacts,
    ProofError,
    export_bundle,
    with_edge_cases,
)
from export.inference import trace_inference
from export.model_card import write_model_card
from export.onnx.convert import convert_to_onnx
from export.output_kind import OutputKind
from export.parity import compare, prove
from export.samples import choose_golden
from export.saved_model import write_saved_model
from export.steps import observed_steps
from models.config.layers import ACTIVATIONS, NORMALIZATIONS
from models.digits import digit_net
from models.features import feature_extractor
from models.heads import scale_logits
from models.softmax import softmax_classifier
from serving import Manifest, Predictor, verify_bundle
from serving.decisions import decide
from serving.errors import InputError, ServingError
from serving.inputs import read_inputs
from serving.manifest import Thresholds
from serving.parity import TOLERANCES, run_in_batches
from serving.runtime import onnxruntime

BATCH_SIZES = (1, 2, 7, 64)
WITHOUT_INT8 = ExportOptions(int8="never")


@pytest.fixture(scope="module")
def bundle(exported_bundle):
    """A fresh export, not the committed one."""
    return exported_bundle


@pytest.fixture(scope="module")
def raw_bundle(exported_raw_bundle):
    """A fresh export, not the committed one."""
    return exported_raw_bundle


def facts(labels=("a", "b", "c"), columns=("one", "two", "three", "four")):
    return ModelFacts(
        family="own",
        task="multiclass",
        labels=labels,
        columns=columns,
        metrics={"accuracy": 0.5},
        config={"epochs": 1},
        data={"source": "drawn", "sha256": "0" * 64, "samples": {"test": 54}},
    )


def rows():
    """54 rows, which with the ten edge cases are one batch of 64."""
    return np.random.default_rng(1).normal(size=(54, 4)).astype("float32")


@pytest.fixture(
    params=[
        "digits-mlp",
        "digits-cnn",
        "digits-resnet",
        "softmax",
        "features-rows",
        "features-images",
    ],
    scope="module",
)
def family_case(request):
    """A model of each family with random weights, and inputs for it."""
    keras.utils.set_random_seed(3)
    gray = np.random.default_rng(0).integers(0, 256, (54, 28, 28), np.uint8)
    return {
        "digits-mlp": lambda: (digit_net(models.DigitNetConfig(variant="mlp")), gray),
        "digits-cnn": lambda: (digit_net(models.DigitNetConfig(stem=8)), gray),
        "digits-resnet": lambda: (
            digit_net(models.DigitNetConfig(variant="resnet", filters=(8, 16), depth=9)),
            gray,
        ),
        "softmax": lambda: (softmax_classifier(models.SoftmaxClassifierConfig()), rows()),
        "features-rows": lambda: (
            feature_extractor(models.FeatureExtractorConfig(num_outputs=3)),
            rows(),
        ),
        "features-images": lambda: (
            feature_extractor(
                models.FeatureExtractorConfig(image_shape=(28, 28, 1), width=8, num_outputs=10)
            ),
            gray[..., np.newaxis],
        ),
    }[request.param]()


@pytest.fixture(scope="module")
def family_bundle(family_case, tmp_path_factory):
    """A bundle of such a model, its samples, and what Keras predicts for them."""
    model, inputs = family_case
    samples = with_edge_cases(inputs, "drawn")
    expected = {k: keras.ops.convert_to_numpy(v) for k, v in model(samples.inputs).items()}
    labels = tuple(map(str, range(expected["probabilities"].shape[1])))
    columns = facts().columns if inputs.ndim == 2 else ()
    folder = tmp_path_factory.mktemp("dist")
    bundle = export_bundle(model, folder, "own", facts(labels, columns), samples, WITHOUT_INT8)
    return bundle, samples, expected


@pytest.mark.parametrize("artifact", ["saved_model", "onnx"])
def test_every_family_agrees_in_every_format_at_every_batch_size(family_bundle, artifact):
    bundle, samples, expected = family_bundle
    name = "image" if samples.inputs.dtype == np.uint8 else "inputs"
    if artifact == "onnx":
        session = onnxruntime.InferenceSession(bundle / "model.onnx")
        names = [output.name for output in session.get_outputs()]

        def run(batch):
            return dict(zip(names, session.run(names, {name: batch}), strict=True))
    else:
        loaded = tf.saved_model.load(str(bundle))

        def run(batch):
            answers = loaded.signatures["serving_default"](**{name: tf.constant(batch)})
            return {key: value.numpy() for key, value in answers.items()}

    for batch_size in BATCH_SIZES:
        received = run_in_batches(run, samples.inputs, batch_size)
        require_parity(expected, received)


def outputs_of_branches(built, inputs):
    """Convert models as the branches of one; return Keras' outputs and the graph's."""
    model = join_models(built)
    inference = trace_inference(model)
    given = {spec.name: inputs for spec in inference.inputs}
    graph = convert_to_onnx(inference, {})
    return inference.predict(given), run_graph(inference, graph, given)


@pytest.fixture(scope="module")
def outputs_of_settings():
    """Nets for rows, one for each activation and each normalization."""
    settings = {name: {"activation": name} for name in ACTIVATIONS}
    settings |= {name: {"normalization": name} for name in NORMALIZATIONS}
    keras.utils.set_random_seed(3)
    built = {
        name: feature_extractor(
            models.FeatureExtractorConfig(hidden=(16,), groups=2, num_outputs=3, **setting)
        )
        for name, setting in settings.items()
    }
    return outputs_of_branches(built, with_edge_cases(rows(), "drawn").inputs)


@pytest.mark.parametrize("name", [*ACTIVATIONS, *NORMALIZATIONS])
def test_every_activation_and_normalization_converts(name, outputs_of_settings):
    require_parity(*outputs_of_settings, branch=name)


NORMS = ("layer", "instance", "group")


def behind_preparation(config):
    """Return a digit net that takes prepared images: each family proves the preparation."""
    net = digit_net(config)
    return keras.Model(net.get_layer(config.prepared_layer).output, net.output)


@pytest.fixture(scope="module")
def outputs_of_norms(images):
    """Convolutional nets, one for each normalization with statistics of the single sample."""
    keras.utils.set_random_seed(3)
    sizes = {"filters": (8, 16), "hidden": (16,), "groups": 2, "activation": "prelu"}
    configs = {norm: models.DigitNetConfig(normalization=norm, **sizes) for norm in NORMS}
    built = {norm: behind_preparation(config) for norm, config in configs.items()}
    prepared = (images / 255).astype("float32")
    return outputs_of_branches(built, with_edge_cases(prepared, "drawn").inputs)


@pytest.mark.parametrize("normalization", NORMS)
def test_every_normalization_of_convolutions_converts(normalization, outputs_of_norms):
    require_parity(*outputs_of_norms, branch=normalization)


def test_an_exported_model_takes_raw_rows(raw_bundle):
    bundle, table = raw_bundle
    assert all(check.passed for check in verify_bundle(bundle))
    predictor = Predictor.load(bundle)
    assert (predictor.manifest.nullable_columns, predictor.manifest.string_columns) == (
        ("size",),
        ("color",),
    )
    inputs, names = read_inputs([table], predictor.manifest)
    assert np.isnan(inputs["inputs"]).any()
    assert set(inputs["texts"].ravel()) == {"red", "blue", ""}
    prediction = predictor.predict(inputs)
    assert len(prediction.labels) == len(names) == 200
    loaded = tf.saved_model.load(str(bundle)).signatures["serving_default"]
    answers = loaded(**{name: tf.constant(array) for name, array in inputs.items()})
    np.testing.assert_allclose(
        prediction.probabilities, answers["probabilities"].numpy(), atol=1e-5
    )


def test_unknown_strings_and_missing_values_change_the_prediction(raw_bundle):
    predictor = Predictor.load(raw_bundle[0])
    numbers = np.zeros((3, 2), "float32")
    numbers[2, 0] = np.nan
    texts = np.array([["red"], ["never seen"], ["red"]], object)
    answers = predictor.predict({"inputs": numbers, "texts": texts}).probabilities
    assert np.abs(answers[0] - answers[1]).max() > 1e-4
    assert np.abs(answers[0] - answers[2]).max() > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": None}, "Inputs must be inputs, texts. Received: inputs"),
        ({"texts": np.array([["red"]], object)}, r"same number of samples. Received: \[1, 2\]"),
        ({"texts": np.array([["a"], [None]], object)}, "texts must hold strings.*Received: None"),
        ({"texts": np.zeros((2, 1))}, "texts must be a numpy array of string.*np.asarray"),
        (
            {"inputs": np.full((2, 2), np.nan, "float32")},
            r"must be finite. Received: nan at .0, 1.",
        ),
        (
            {"inputs": np.full((2, 2), np.inf, "float32")},
            r"must be finite. Received: inf at .0, 0.",
        ),
        ({"inputs": np.zeros((2, 3), "float32")}, r"inputs must have shape \(batch, 2\)"),
    ],
)
def test_raw_rows_that_do_not_fit_are_refused(change, message, raw_bundle):
    inputs = {"inputs": np.zeros((2, 2), "float32"), "texts": np.array([["red"], ["blue"]])}
    given = {k: v for k, v in {**inputs, **change}.items() if v is not None}
    with pytest.raises(InputError, match=message):
        Predictor.load(raw_bundle[0]).predict(given)


@pytest.mark.parametrize("head", ["sigmoid", "linear"])
def test_multilabel_and_regression_heads_are_exported(head, tmp_path):
    config = models.FeatureExtractorConfig(
        hidden=(8,), head=head, many_labels=head == "sigmoid", num_outputs=3
    )
    task = "multilabel" if head == "sigmoid" else "regression"
    known = replace(facts(), task=task)
    samples = with_edge_cases(rows(), "drawn")
    bundle = export_bundle(feature_extractor(config), tmp_path, "own", known, samples, WITHOUT_INT8)
    assert all(check.passed for check in verify_bundle(bundle))
    prediction = Predictor.load(bundle).predict(rows())
    if head == "linear":
        assert prediction.values.shape == (54, 3)
        with pytest.raises(ServingError, match="Received: task='regression'. Read values instead"):
            prediction.labels  # noqa: B018
    else:
        expected = [
            tuple(name for name, p in zip("abc", row, strict=True) if p >= 0.5)
            for row in prediction.probabilities
        ]
        assert prediction.labels == expected


def test_a_bundle_has_the_documented_files(bundle):
    files = {path.relative_to(bundle.parent).as_posix() for path in bundle.parent.rglob("*.*")}
    files |= {"1/SHA256SUMS"}
    assert files == {
        "config.pbtxt",
        "labels.txt",
        "1/README.md",
        "1/SHA256SUMS",
        "1/figures/confusion_matrix.png",
        "1/figures/features_projection.png",
        "1/figures/learning_curves.png",
        "1/figures/mistakes.png",
        "1/figures/reliability_diagram.png",
        "1/fingerprint.pb",
        "1/manifest.json",
        "1/model.keras",
        "1/model.onnx",
        "1/saved_model.pb",
        "1/test_data_set_0/input_0.pb",
        "1/test_data_set_0/output_0.pb",
        "1/test_data_set_0/output_1.pb",
        "1/variables/variables.data-00000-of-00001",
        "1/variables/variables.index",
        "1/verify.html",
    }
    assert (bundle.parent / "labels.txt").read_text().split() == list("0123456789")


def test_the_onnx_graph_names_its_axes_and_computes_no_shapes(bundle):
    model = onnx.load(bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert "unk__" not in str(model)
    assert {opset.domain: opset.version for opset in model.opset_import}[""] == 18
    assert model.ir_version == 8
    assert not {"Shape", "Size", "Gather"} & {node.op_type for node in model.graph.node}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["probabilities", "features"]
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata["labels"] == list("0123456789")


def test_sha256sum_alone_can_check_a_bundle(bundle):
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    finished = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "")


def test_golden_samples_can_be_read_like_the_test_data_of_onnx(bundle):
    session = onnxruntime.InferenceSession(bundle / "model.onnx")

    def read(name):
        tensor = onnx.TensorProto()
        tensor.ParseFromString((bundle / "test_data_set_0" / name).read_bytes())
        return tensor.name, numpy_helper.to_array(tensor)

    name, images = read("input_0.pb")
    answers = session.run(None, {name: images})
    for number, (output, answer) in enumerate(zip(session.get_outputs(), answers, strict=True)):
        expected_name, expected = read(f"output_{number}.pb")
        assert expected_name == output.name
        np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-5)


def test_the_saved_model_keeps_the_names_of_its_outputs(bundle):
    signature = tf.saved_model.load(str(bundle)).signatures["serving_default"]
    assert signature.structured_input_signature[1].keys() == {"image"}
    assert signature.structured_outputs.keys() == {"probabilities", "features"}


def test_the_manifest_records_the_proof(bundle, mlp_run):
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    cells = {(a.artifact, a.output, a.batch_size) for a in manifest.proof.parity}
    assert cells == {
        (artifact, output, batch_size)
        for artifact in ("saved_model", "onnx")
        for output in ("probabilities", "features")
        for batch_size in BATCH_SIZES
    }
    assert manifest.proof.samples == len(mlp_run.splits.test)
    measured = mlp_run.metrics["test"]
    assert manifest.metrics.keys() == measured.keys()
    assert manifest.metrics["accuracy"] == measured["accuracy"]
    # A temperature changes the confidence of the model, not its classes.
    assert manifest.calibration.temperature != 1
    stated = f"a temperature of {manifest.calibration.temperature:.3f}"
    assert stated in (bundle / "README.md").read_text()
    assert manifest.metrics["cross_entropy"] < measured["cross_entropy"]
    assert manifest.config["variant"] == "mlp"
    assert manifest.preprocessing[0] == "InkLevel()"


def test_config_pbtxt_is_what_triton_reads(bundle):
    assert (bundle.parent / "config.pbtxt").read_text() == (
        'name: "digits"\n'
        'backend: "onnxruntime"\n'
        "max_batch_size: 1024\n"
        'input [ { name: "image" data_type: TYPE_UINT8 dims: [ 28, 28 ] } ]\n'
        'output [ { name: "probabilities" data_type: TYPE_FP32 dims: [ 10 ] '
        'label_filename: "labels.txt" } ]\n'
        'output [ { name: "features" data_type: TYPE_FP32 dims: [ 32 ] } ]\n'
        "dynamic_batching { }\n"
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
    )


def test_the_model_card_has_front_matter_and_an_example_that_runs(bundle):
    card = (bundle / "README.md").read_text()
    assert "| `hidden` | `[" in card
    assert "| `xla` | `false` |" in card
    assert card.startswith("---\nlibrary_name: onnx\n")
    example = card.split("```python\n")[1].split("```")[0]
    namespace = {}
    exec(example.replace('"model.onnx"', repr(str(bundle / "model.onnx"))), namespace)  # noqa: S102
    assert namespace["prediction"].shape == (1, 10)


def test_small_numbers_of_a_card_are_not_rounded_to_0(raw_bundle, tmp_path):
    yaml = pytest.importorskip("yaml")
    manifest = Predictor.load(raw_bundle[0]).manifest
    chosen = Thresholds("f1", (0.00001, 0.99999), None, "some", "others", (1.0,) * 2, (1.0,) * 2)
    metrics = {"mae": 3e-8, "rmse": 1234567.0, "r2": 0.25}
    changed = replace(manifest, metrics=metrics, metric_intervals={}, thresholds=chosen)
    write_model_card(changed, [], tmp_path)
    card = (tmp_path / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    found = front["model-index"][0]["results"][0]["metrics"]
    assert [metric["value"] for metric in found] == pytest.approx([3e-8, 1234570, 0.25])
    assert "| 0.000010 |" in card
    data = {**manifest.data, "linear_samples": 5000}
    write_model_card(replace(manifest, data=data), [], tmp_path)
    told = "The linear model was trained on 5,000 of its samples."
    assert told in (tmp_path / "README.md").read_text()
    assert told not in card
    named = replace(manifest, metrics={"average_precision": 0.5}, positive="_b_")
    write_model_card(replace(named, metric_intervals={}), [], tmp_path)
    assert r": average precision of \_b\_ 0.500." in (tmp_path / "README.md").read_text()
    one = replace(manifest, task="regression", labels=("price",), metrics={})
    write_model_card(one, [], tmp_path)
    assert "parameters for a value: price.\n" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("values", [None, (0.7, 0.3), (0.3, 0.2, 0.5)])
def test_the_example_of_the_card_decides_as_the_bundle_does(values, raw_bundle, tmp_path):
    labels = tuple("abc"[: len(values or "ab")])
    manifest = replace(Predictor.load(raw_bundle[0]).manifest, labels=labels)
    if values is not None:
        scores = (1.0,) * len(values)
        found = Thresholds("f1", values, None, "some", "others", scores, scores)
        manifest = replace(manifest, thresholds=found)
    write_model_card(manifest, [], tmp_path)
    card = (tmp_path / "README.md").read_text()
    (shown,) = re.findall(r"^print\((.*)\)$", card, re.MULTILINE)
    prediction = np.random.default_rng(0).dirichlet([1] * len(labels), 40).astype("float32")
    namespace = {"np": np, "prediction": prediction}
    exec(f"shown = {shown}", namespace)  # noqa: S102
    assert namespace["shown"].tolist() == decide("multiclass", prediction, values).tolist()
    assert f"hornbill predict {manifest.name} rows.csv" in card


def test_the_card_shows_names_as_they_are(raw_bundle, tmp_path):
    labels = ("*a*b*c*", "<i>`x`</i>", "x|y", "_z_ snake_case", "&lt; [a](b) \\|\nnext")
    scores = (1.0,) * len(labels)
    found = Thresholds("f1", (0.2,) * len(labels), None, "some", "others", scores, scores)
    manifest = replace(Predictor.load(raw_bundle[0]).manifest, labels=labels, thresholds=found)
    write_model_card(manifest, [], tmp_path)
    card = (tmp_path / "README.md").read_text().split("---\n", 2)[2]
    page = MarkdownIt().enable("table").render(card)
    shown = [label.replace("\n", "\\n") for label in labels]
    cells = re.findall("<td>(.*)</td>\n<td>0.2000</td>", page)
    assert [html.unescape(cell) for cell in cells] == shown
    assert f"classes: {', '.join(shown)}." in html.unescape(page)


DRAWN = with_edge_cases(rows(), "drawn")


def own():
    return softmax_classifier(models.SoftmaxClassifierConfig())


@pytest.fixture(scope="module")
def first_version(tmp_path_factory):
    """A folder of bundles with the first version of `own`. Copied before it is changed."""
    folder = tmp_path_factory.mktemp("first")
    export_bundle(own(), folder, "own", facts(), DRAWN, WITHOUT_INT8)
    return folder


@pytest.fixture
def published(first_version, tmp_path):
    """A copy of `first_version` that a test may change."""
    return shutil.copytree(first_version, tmp_path / "dist")


def test_a_second_export_is_the_next_version(published):
    before = (published / "own" / "1" / "SHA256SUMS").read_bytes()
    second = export_bundle(own(), published, "own", facts(), DRAWN, WITHOUT_INT8)
    assert second.name == "2"
    assert (published / "own" / "1" / "SHA256SUMS").read_bytes() == before
    assert Predictor.load(published / "own").manifest.version == 2
    assert {path.name for path in published.iterdir()} == {"own"}


def test_a_version_with_other_labels_is_refused_and_the_earlier_one_kept(published):
    with pytest.raises(
        ExportError, match=r"must keep the labels of .*Received: \(a, x, c\) instead of \(a, b, c\)"
    ):
        export_bundle(own(), published, "own", facts(labels=("a", "x", "c")), DRAWN)
    assert [path.name for path in (published / "own").iterdir() if path.is_dir()] == ["1"]
    assert all(check.passed for check in verify_bundle(published / "own"))


def test_a_version_with_other_columns_is_refused(published):
    swapped = facts(columns=("two", "one", "three", "four"))
    with pytest.raises(ExportError, match=r"must keep the columns .*\(two, one, three, four\)"):
        export_bundle(own(), published, "own", swapped, DRAWN)


def test_a_version_that_mixes_the_samples_of_a_batch_is_refused(tmp_path):
    keras.utils.set_random_seed(0)
    start = keras.Input((4,), name="inputs")
    x = keras.layers.Dense(3)(start)
    options = {"samples": rows(), "options": WITHOUT_INT8}
    export_bundle(keras.Model(start, {"y": x}), tmp_path, "own", **options)
    mixing = keras.Model(start, {"y": x - keras.ops.mean(x, axis=0, keepdims=True)})
    with pytest.raises(ExportError, match="must keep the whole_batches of .*Received: True"):
        export_bundle(mixing, tmp_path, "own", **options)
    assert all(check.passed for check in verify_bundle(tmp_path / "own"))


def test_an_unreadable_previous_version_stops_the_next_one(published):
    (published / "own" / "1" / "manifest.json").write_text("{}")
    with pytest.raises(ExportError, match="needs a readable previous version"):
        export_bundle(own(), published, "own", facts(), DRAWN, WITHOUT_INT8)
    assert {path.name for path in published.iterdir()} == {"own"}


def test_an_occupied_place_is_left_unchanged(tmp_path):
    model = softmax_classifier(models.SoftmaxClassifierConfig())
    samples = with_edge_cases(rows(), "drawn")
    export_bundle(model, tmp_path, "own", facts(), samples, WITHOUT_INT8)
    (tmp_path / "own" / "2").write_text("a file in the way")
    with pytest.raises(ExportError, match="A version is never overwritten"):
        export_bundle(model, tmp_path, "own", facts(), samples, WITHOUT_INT8)
    assert (tmp_path / "own" / "2").read_text() == "a file in the way"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("something else")
    steps = []
    taken = pytest.raises(ExportError, match="of its own, .* holds 'todo.txt' and no version")
    with taken, observed_steps(steps.append):
        export_bundle(model, tmp_path, "notes", facts(), samples, WITHOUT_INT8)
    assert not steps  # before the work
    assert {path.name for path in tmp_path.iterdir()} == {"own", "notes"}


@keras.saving.register_keras_serializable(package="tests")
class Chaos(keras.layers.Layer):
    """Amplifies the rounding errors by which runtimes differ."""

    def call(self, x):
        return keras.ops.sin(x * 1e7)


def test_a_failed_proof_publishes_nothing(tmp_path):
    inputs = keras.Input((4,), name="inputs")
    logits = Chaos()(keras.layers.Dense(3)(keras.layers.Dense(1024, "tanh")(inputs)))
    model = keras.Model(inputs, {"probabilities": keras.layers.Softmax()(logits)})
    # Where Keras rounds alike in both of its ways, only the artifacts differ.
    message = "(must not depend on how numbers are rounded|must be within 1.0e-05).*was published"
    with pytest.raises(ProofError, match=message):
        export_bundle(model, tmp_path, "chaos", facts(), with_edge_cases(rows(), "drawn"))
    assert not list(tmp_path.iterdir())


def test_the_proof_reads_the_artifacts_from_disk(bundle, mlp_run, images, tmp_path):
    """Artifacts of one model do not prove another."""
    keras.utils.set_random_seed(1)
    other = digit_net(models.DigitNetConfig(variant="mlp", hidden=(32,)))
    kind = OutputKind("multiclass", "probabilities", tuple("0123456789"))
    samples = with_edge_cases(images, "drawn")

    def prove_by(model):
        inference = trace_inference(model)
        return prove(inference, bundle, samples, inference.predict(samples.inputs), kind)

    with pytest.raises(ProofError, match="Nothing was published"):
        prove_by(other)
    model = mlp_run.load_model()
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    scale_logits(
        model, "probabilities", manifest.calibration.temperature, manifest.calibration.bias
    )
    prove_by(model)


def test_a_bias_that_is_off_by_a_thousandth_is_refused_by_the_proof(tmp_path):
    keras.utils.set_random_seed(0)
    start = keras.Input((4,), name="inputs")
    dense = keras.layers.Dense(3, bias_initializer="ones")
    model = keras.Model(start, {"values": dense(start)})
    samples = with_edge_cases(rows(), "drawn")
    inference = trace_inference(model)
    answers = inference.predict(samples.inputs)
    kind = OutputKind("regression", "values", ("a", "b", "c"))
    graph = convert_to_onnx(inference, {})
    write_saved_model(inference, tmp_path)
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    prove(inference, tmp_path, samples, answers, kind)
    (bias,) = [tensor for tensor in graph.graph.initializer if list(tensor.dims) == [3]]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * 1.001, bias.name))
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ProofError, match="values of every artifact must be within"):
        prove(inference, tmp_path, samples, answers, kind)


def test_nan_and_another_class_break_parity():
    fine = np.array([[0.4, 0.6]], "float32")
    kind = OutputKind("multiclass", "probabilities", ("a", "b"))

    def parity(received):
        ((found, _),) = compare("onnx", "probabilities", 1, fine, received, kind)
        return found

    nothing = parity(fine * np.nan)
    assert nothing.max_absolute_difference == nothing.max_relative_difference == float("inf")
    swapped = parity(fine[:, ::-1])
    assert swapped.top1_match == 0
    assert swapped.max_absolute_difference > TOLERANCES["probabilities"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A model of prices of thousands and of rates below a thousandth, and its bundle."""
    keras.utils.set_random_seed(0)
    start = keras.Input((4,), name="inputs")
    dense = keras.layers.Dense(2)
    model = keras.Model(start, {"values": dense(start)})
    kernel, _ = dense.get_weights()
    dense.set_weights([kernel * [1e3, 1e-4], np.array([1e3, 1e-4])])
    facts = ModelFacts(task="regression", labels=("price", "rate"))
    options = ExportOptions(int8="never", precision="float16")
    folder = tmp_path_factory.mktemp("houses")
    return model, export_bundle(model, folder, "houses", facts, rows(), options)


def test_the_proof_compares_each_value_with_its_own_magnitude(house):
    model, bundle = house
    inference, samples = trace_inference(model), with_edge_cases(rows(), "drawn")
    expected = inference.predict(samples.inputs)["values"]
    kind = OutputKind("regression", "values", ("price", "rate"))
    prove(inference, bundle, samples, {"values": expected}, kind)
    with pytest.raises(ProofError, match="values of every artifact must be within"):
        prove(inference, bundle, samples, {"values": expected * np.float32([1, 1.01])}, kind)
    card = (bundle / "README.md").read_text()
    assert "none in integers; each predicted value by itself." in card


@pytest.mark.parametrize("file", ["model.onnx", "model.float16.onnx"])
def test_verify_compares_each_value_with_its_own_magnitude(file, house, tmp_path):
    bundle = shutil.copytree(house[1], tmp_path / "1")
    assert all(check.passed for check in verify_bundle(bundle))
    graph = onnx.load(bundle / file)
    (bias,) = [tensor for tensor in graph.graph.initializer if list(tensor.dims) == [2]]
    array = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(array * array.dtype.type([1, 2]), bias.name))
    onnx.save(graph, bundle / file)
    write_checksums(bundle)
    (failed,) = [check.detail for check in verify_bundle(bundle) if not check.passed]
    assert re.match(r"values (of model.float16.onnx )?must be within", failed)


def test_an_operation_that_onnx_lacks_is_an_error_that_names_it(tmp_path):
    inputs = keras.Input((4,), name="inputs")
    answers = keras.layers.Lambda(tf.math.special.bessel_i0)(inputs)[:, :3]
    model = keras.Model(inputs, {"probabilities": answers})
    with pytest.raises(ExportError, match="BesselI0"):
        export_bundle(model, tmp_path, "bessel", facts(), with_edge_cases(rows(), "drawn"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-x", "a b"])
def test_a_name_that_cannot_name_a_folder_is_refused(name, tmp_path):
    model = softmax_classifier(models.SoftmaxClassifierConfig())
    with pytest.raises(ExportError, match="A model's name must be at most 100 letters"):
        export_bundle(model, tmp_path, name, facts(), with_edge_cases(rows(), "drawn"))


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    model = softmax_classifier(models.SoftmaxClassifierConfig())
    (tmp_path / "file").write_text("kept")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "own").write_text("kept")
    samples = with_edge_cases(rows(), "drawn")
    with pytest.raises(ExportError, match="cannot be written: "):
        export_bundle(model, tmp_path / "file", "own", facts(), samples, WITHOUT_INT8)
    with pytest.raises(ExportError, match="must be a folder. Received: .*own, a file"):
        export_bundle(model, tmp_path / "dist", "own", facts(), samples, WITHOUT_INT8)
    assert (tmp_path / "dist" / "own").read_text() == "kept"


def test_a_run_whose_data_has_changed_is_refused(mlp_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(mlp_run.folder, folder)
    data = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**data, "sha256": "f" * 64}))
    with pytest.raises(RunError, match="no longer holds the data that .*ffffffffffff"):
        export_run(folder, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_edge_cases_are_zeros_the_maximum_and_random(images):
    samples = with_edge_cases(images, "drawn")
    assert len(samples) == len(images)
    zeros, maximum, *random = samples.inputs[len(samples) :]
    assert not zeros.any()
    assert (maximum == 255).all()
    assert len({image.tobytes() for image in random}) == 8
    golden = choose_golden(samples, count=5)
    assert len(golden) == 15
    assert golden[0] == 0
    assert golden[-1] == len(samples.inputs) - 1
