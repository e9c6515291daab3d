"""Bundles of models that were not trained here: columns, metrics, calibration, rejects."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge

from app.bundles.comparing import compare_with_previous
from app.bundles.measured_facts import describe_scaling
from app.evaluation.scaling import Scaling
from export import ExportError, ExportOptions, ModelFacts, export_bundle
from export.bundle import draft_manifest
from export.inference import trace_inference
from serving import Predictor
from serving.bundle import read_manifest
from serving.manifest import Manifest

COLUMNS = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)"
LABELS = ("setosa", "versicolor", "virginica")


def flower_net(path, sharpness, is_odd=False):
    """Write a logistic regression of Iris whose logits are `sharpness` times too large."""
    iris = load_iris()
    fitted = LogisticRegression(C=0.05).fit(iris.data, iris.target)
    # a name that no manifest of columns has
    inputs = keras.Input((4,), name="measurements")
    head = keras.layers.Dense(3, activation="softmax", name="species")
    outputs = head(inputs)
    if is_odd:
        outputs = keras.layers.Rescaling(0.999, 0.0003, name="smoothed")(outputs)
    model = keras.Model(inputs, outputs)
    head.set_weights([sharpness * fitted.coef_.T, sharpness * fitted.intercept_])
    model.save(path)
    return model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    return tmp_path


def exported(run, *arguments):
    status, output, error = run("export", *arguments, "--int8", "never", "--json")
    assert status == 0, error
    found = json.loads(output)
    return read_manifest_of(found), found


def read_manifest_of(found):
    from pathlib import Path

    return read_manifest(Path(found["bundle"]))


def test_a_model_from_elsewhere_gets_columns_metrics_temperature_and_rejects(folder, run):
    flower_net("flowers.keras", 40)
    options = ("--labels", "labels.txt", "--columns", COLUMNS, "--evaluate", "iris")
    manifest, found = exported(run, "flowers.keras", *options, "--target-accuracy", "0.97")
    assert manifest.columns == tuple(COLUMNS.split(","))
    assert [spec.name for spec in manifest.inputs] == ["inputs"]
    assert manifest.measured_on == "the 75 test samples of iris"
    assert set(manifest.metric_intervals) == set(manifest.metrics)
    assert manifest.metric_intervals["accuracy"].method == "wilson"
    assert manifest.calibration.temperature > 1.5
    assert manifest.calibration.ece_after < manifest.calibration.ece_before
    assert manifest.calibration.measured_on == "the 75 samples of the other half of iris"
    assert manifest.reject_option.chosen_on == "the 75 samples of one half of iris"
    assert sum(manifest.baseline.fractions) == pytest.approx(1)
    assert found["comparison"] is None
    card = (folder / "dist" / "flowers" / "1" / "README.md").read_text()
    assert "Measured on the 75 test samples of iris: accuracy" in card
    assert "95% intervals in parentheses" in card
    (folder / "rows.csv").write_text(f"{COLUMNS}\n5.1,3.5,1.4,0.2\n")
    status, output, _ = run("predict", "dist/flowers", "rows.csv", "--json")
    assert (status, json.loads(output)["label"]) == (0, "setosa")
    assert run("verify", "dist/flowers")[0] == 0
    status, output, _ = run("evaluate", "dist/flowers", "--data", "iris", "--json")
    measured = json.loads(output)
    assert measured["measured_on"] == "the 75 samples of iris that the export was measured on"
    scores = {name: score["value"] for name, score in measured["scores"].items()}
    assert scores == pytest.approx(manifest.metrics, abs=1e-5)
    status, output, _ = run(
        "export", "flowers.keras", *options, "--int8", "never", "--threshold", "0.5"
    )
    assert status == 0
    assert "agreement:   100%" in output
    assert "compared:    with version 1 on the 75 samples of the other half of iris" in output


OWN_DATA = """
from sklearn.datasets import load_iris

def load():
    iris = load_iris()
    return iris.data.astype("float32"), iris.target
"""


def test_data_of_code_is_evaluated_on_the_half_that_the_export_was_measured_on(folder, run):
    flower_net("flowers.keras", 1)
    (folder / "labels.txt").write_text("0\n1\n2")
    (folder / "my_data.py").write_text(OWN_DATA)
    manifest, _ = exported(
        run, "flowers.keras", "--labels", "labels.txt", "--evaluate", "my_data.py:load"
    )
    assert manifest.data["source"] == "my_data.py:load"
    _, output, _ = run("evaluate", "dist/flowers", "--data", "my_data.py:load", "--json")
    measured = json.loads(output)["measured_on"]
    assert measured == "the 75 samples of my_data.py:load that the export was measured on"


def test_versions_whose_golden_samples_have_other_sizes_are_compared(tmp_path):
    keras.utils.set_random_seed(0)
    start = keras.Input((None, 4), name="steps")
    x = keras.layers.GlobalAveragePooling1D()(start)
    model = keras.Model(start, keras.layers.Dense(3, activation="softmax")(x))
    for steps in (5, 7):
        samples = np.random.default_rng(0).normal(size=(20, steps, 4)).astype("float32")
        folder = export_bundle(
            model, tmp_path, "own", ModelFacts(labels=LABELS), samples, ExportOptions(int8="never")
        )
    assert compare_with_previous(folder)["agreement"]["value"] == 1


def test_a_temperature_that_would_change_more_than_logits_is_left_out(folder, run):
    model = flower_net("odd.keras", 200, is_odd=True)
    options = ("--labels", "labels.txt", "--columns", COLUMNS, "--evaluate", "iris")
    manifest, _ = exported(run, "odd.keras", *options)
    assert manifest.calibration is None
    (warning,) = manifest.warnings
    assert "probabilities are not calibrated" in warning
    assert warning in (folder / "dist" / "odd" / "1" / "README.md").read_text()
    flowers = load_iris().data[::10].astype("float32")
    predictor = Predictor.load("dist/odd")
    expected = model(flowers).numpy()
    assert predictor.predict(flowers).probabilities == pytest.approx(expected, abs=1e-5)


def test_an_output_of_logits_stays_as_it_is(folder, run):
    model = flower_net("flowers.keras", 40)
    softmax = keras.layers.Dense(3, name="logits")
    logits = softmax(model.input)
    softmax.set_weights(model.layers[-1].get_weights())
    outputs = {"logits": logits, "probabilities": keras.layers.Softmax()(logits)}
    both = keras.Model(model.input, outputs)
    both.save("both.keras")
    options = ("--labels", "labels.txt", "--columns", COLUMNS, "--evaluate", "iris")
    manifest, _ = exported(run, "both.keras", *options)
    assert manifest.calibration is None
    (warning,) = manifest.warnings
    assert "a temperature of" in warning
    flowers = load_iris().data[::10].astype("float32")
    found = Predictor.load("dist/both").predict(flowers).outputs["logits"]
    np.testing.assert_allclose(found, both(flowers)["logits"], rtol=1e-4)


def test_what_cannot_be_put_into_a_model_is_named():
    scaling = Scaling(1.0, np.array([0.5, -0.5]))
    assert describe_scaling(scaling) == "a bias for each label"
    both = replace(scaling, temperature=1.25)
    assert describe_scaling(both) == "a temperature of 1.250 and a bias for each label"


@keras.saving.register_keras_serializable(package="tests")
class MeanOfWords(keras.layers.Layer):
    """A mean over the columns above 0, which is NaN where there is none."""

    def call(self, x):
        is_word = keras.ops.cast(x > 0, "float32")
        return keras.ops.sum(x * is_word, axis=1) / keras.ops.sum(is_word, axis=1)


def test_samples_that_were_given_are_those_that_the_task_is_found_on(folder, run):
    start = keras.Input((4,), name="measurements")
    x = MeanOfWords()(start)
    outputs = keras.layers.Dense(3, activation="softmax", name="species")(x[:, None])
    model = keras.Model(start, outputs)
    inference = trace_inference(model)
    facts = ModelFacts(labels=LABELS)
    given = load_iris().data[:20].astype("float32")
    assert draft_manifest(inference, facts, "own", given).task == "multiclass"
    with pytest.raises(ExportError, match=r"NaN"):
        draft_manifest(inference, facts, "own", -given)


def test_a_model_of_values_gets_metrics_and_intervals(folder, run):
    data = load_diabetes()
    fitted = Ridge(0.1).fit(data.data, data.target)
    head = keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((10,)), head])
    head.set_weights([fitted.coef_[:, np.newaxis], np.array([fitted.intercept_])])
    model.save("sugar.keras")
    (folder / "columns.txt").write_text("\n".join(data.feature_names))
    options = ("--task", "regression", "--columns", "columns.txt")
    manifest, _ = exported(run, "sugar.keras", *options, "--evaluate", "diabetes")
    assert (manifest.task, manifest.labels) == ("regression", ("value",))
    assert manifest.metrics["r2"] > 0.3
    assert manifest.metric_intervals["mae"].low < manifest.metrics["mae"]
    assert manifest.intervals.measured_coverage[0] == pytest.approx(0.9, abs=0.08)
    _, found = exported(run, "sugar.keras", *options)  # no data: the golden samples of both
    assert "golden samples of both" in found["comparison"]["measured_on"]
    assert found["comparison"]["differences"][0]["largest"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--columns", "a,b"), "There must be a name for each column of inputs float32 [batch, 4]"),
        (("--columns", "a,b,a,c"), "Each column must have a name of its own. Received: 'a' twice."),
        (("--target", "x"), "--target needs --evaluate SOURCE. Received: x."),
        (("--task", "classes"), "--task can only be regression"),
        (("--evaluate", "no.csv"), "The data source does not exist or is not a file."),
        (("--threshold", "0.4"), "--threshold needs the validation split of a run, or --evaluate"),
        (("--columns", COLUMNS, "--evaluate", "wine"), "wine must have the columns sepal length"),
        (("--evaluate", "iris"), "which takes measurements float32 [batch, 4]"),
    ],
)
def test_options_that_do_not_suit_get_one_line_and_write_nothing(options, message, folder, run):
    flower_net("flowers.keras", 1)
    status, output, error = run("export", "flowers.keras", "--labels", "labels.txt", *options)
    assert (status, output) == (2, "")
    assert message in error.splitlines()[-1]
    assert not list(folder.glob("dist/flowers/*"))


def test_a_run_is_measured_on_its_own_split(folder, mlp_run, run):
    status, _, error = run("export", mlp_run.folder, "--evaluate", "iris")
    assert status == 2
    assert "--evaluate can only be used with a .keras file. Received: a run." in error


def test_an_interval_must_contain_its_metric(bundle):
    value = json.loads((bundle / "manifest.json").read_text())
    value["metric_intervals"] = {"accuracy": {"low": 0.1, "high": 0.2, "method": "wilson"}}
    with pytest.raises(ValueError, match="must contain its metric. Received: 'accuracy'"):
        Manifest.from_json(json.dumps(value).encode())
