"""Class weights: honest probabilities in a bundle, decisions that keep them, and warnings."""

import json
import re

import keras
import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from app.bundles.export_run import export_run
from app.config import make_config
from app.config.run_facts import read_evaluation
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.evaluation.calibration import (
    calibration_error,
    classwise_calibration_error,
)
from app.evaluation.metrics import class_scores
from app.evaluation.scaling import Scaling, expected_bias, fit_scaling
from app.evaluation.thresholds import weighted_thresholds
from app.reports.class_lines import describe_classes
from app.runs import train
from app.runs.train import load_run_data
from export import ExportOptions
from serving import Predictor
from serving.decisions import WEIGHTED, decide, describe_thresholds
from serving.errors import ManifestError
from serving.manifest import Manifest, Thresholds

ROWS = 3000


def write_table(path):
    """Write a table on which one of eight is positive, as a logistic model has it."""
    random = np.random.default_rng(0)
    x, z = random.normal(size=(2, ROWS))
    is_positive = random.random(ROWS) < expit(1.2 * x - 0.8 * z - 2.5)
    lines = [
        f"{a:.4f},{b:.4f},{'yes' if c else 'no'}" for a, b, c in zip(x, z, is_positive, strict=True)
    ]
    path.write_text("\n".join(["x,z,kind", *lines]) + "\n")


def _train(folder):
    write_table(folder / "rare.csv")
    settings = {"class_weight": "balanced", "target": "kind", "epochs": 2, "figures": False}
    settings |= {"batch_size": 64, "repeat": 8}
    return train(make_config("softmax", settings, data=folder / "rare.csv"), folder / "runs")


@pytest.fixture(scope="module")
def weighted(once):
    """A run with balanced class weights, where one of ten is positive."""
    return once("weighted", _train)


def _export(folder, run, **options):
    return export_run(run.folder, folder, "rare", ExportOptions(int8="never"), **options)


@pytest.fixture(scope="module")
def bundle(once, weighted):
    return once("weighted-bundle", _export, weighted)


@pytest.fixture(scope="module")
def tested(weighted):
    """Inputs and classes of the test split, and what the run's own model predicts for it."""
    dataset = load_run_data(weighted.config)
    rows = dataset.inputs[weighted.splits.test]
    raw = weighted.load_model().predict(rows, verbose=0)["probabilities"]
    return rows, dataset.targets[weighted.splits.test], raw


def test_exported_probabilities_are_those_of_the_data(bundle, tested):
    rows, targets, raw = tested
    probabilities = Predictor.load(bundle).predict(rows).probabilities
    assert raw[:, 1].mean() > 2 * targets.mean()
    assert probabilities[:, 1].mean() == pytest.approx(targets.mean(), abs=0.02)
    found = Manifest.from_json((bundle / "manifest.json").read_bytes()).calibration
    assert found.classwise_ece_before == pytest.approx(classwise_calibration_error(raw, targets))
    assert found.classwise_ece_after < found.classwise_ece_before / 4
    assert found.ece_after == pytest.approx(calibration_error(probabilities, targets), abs=1e-5)
    assert found.bias[0] > 0 > found.bias[1]
    card = (bundle / "README.md").read_text()
    assert re.search(r"adds a bias \(no \+\d\.\d+, yes -\d\.\d+\), fitted on", card)
    before, after = found.classwise_ece_before, found.classwise_ece_after
    assert f"averaged over all labels, from {before:.4f} to {after:.4f}" in card


def test_decisions_keep_the_weights_by_a_threshold(bundle, tested, weighted):
    rows, _, raw = tested
    prediction = Predictor.load(bundle).predict(rows)
    assert np.mean([label == "yes" for label in prediction.labels] == (raw[:, 1] > 0.5)) > 0.97
    thresholds = prediction.manifest.thresholds
    assert thresholds.rule == WEIGHTED
    share = weighted.data["counts"]["train"]["yes"] / weighted.data["samples"]["train"]
    assert thresholds.values == pytest.approx((1 - share, share))
    assert thresholds.recall[1] > 0.6
    assert prediction.manifest.metrics["accuracy"] == pytest.approx(
        weighted.metrics["test"]["accuracy"], abs=0.03
    )


def ten_to_one(targets, outputs):
    """Cross entropy in which a sample of the second class counts ten times."""
    return keras.losses.categorical_crossentropy(targets, outputs) * (1 + 9 * targets[:, 1])


@pytest.mark.parametrize(("loss", "is_told"), [(ten_to_one, True), ("auto", False)])
def test_decisions_that_calibration_changes_are_told(loss, is_told, tmp_path, caplog):
    write_table(tmp_path / "rare.csv")
    settings = {"loss": loss, "target": "kind", "epochs": 2, "repeat": 8, "figures": False}
    run = train(make_config("softmax", settings, data=tmp_path / "rare.csv"), tmp_path / "runs")
    manifest = Manifest.from_json((_export(tmp_path, run) / "manifest.json").read_bytes())
    told = [line for line in manifest.warnings if re.search(r"changes \d+\.\d% of the pred", line)]
    assert len(told) == is_told
    # Python code is told by the log, once; the command prints the warnings of the manifest.
    logged = [record.message for record in caplog.records]
    assert [logged.count(f"{line}.") for line in manifest.warnings] == [1] * len(manifest.warnings)


def test_a_threshold_that_is_asked_for_is_that_of_honest_probabilities(weighted, tested, tmp_path):
    rows, _, _ = tested
    predictor = Predictor.load(_export(tmp_path, weighted, threshold=0.5))
    prediction = predictor.predict(rows)
    assert prediction.manifest.thresholds is None
    is_positive = prediction.probabilities[:, 1] > 0.5
    assert [label == "yes" for label in prediction.labels] == is_positive.tolist()
    assert prediction.manifest.metrics["accuracy"] > weighted.metrics["test"]["accuracy"] + 0.05


def test_a_run_says_what_weights_do_to_its_probabilities(weighted, tested):
    _, targets, raw = tested
    found = read_evaluation(weighted.folder)
    assert found["calibration"]["classwise_ece"] == pytest.approx(
        classwise_calibration_error(raw, targets), abs=1e-6
    )
    (hint,) = (line for line in found["hints"] if "shifts" in line)
    assert hint.startswith(
        f'class_weight=balanced shifts probabilities: that of "yes" is {raw[:, 1].mean():.3f} on '
        f"average, where {targets.mean():.3f} of the test samples have it."
    )
    assert any('below always answering "no", 0.8' in line for line in found["warnings"])
    assert {"precision", "recall", "f1"} <= found["classes"][0].keys()


def test_the_report_shows_both_errors(weighted):
    page = (weighted.folder / "report.html").read_text()
    found = read_evaluation(weighted.folder)["calibration"]
    assert f"{found['classwise_ece']:.4f}" in page


def test_a_manifest_without_bias_and_class_wise_errors_is_read(bundle):
    content = json.loads((bundle / "manifest.json").read_bytes())
    for key in ("bias", "classwise_ece_before", "classwise_ece_after"):
        del content["calibration"][key]
    found = Manifest.from_json(json.dumps(content).encode()).calibration
    assert (found.bias, found.classwise_ece_after) == ((), None)
    content["calibration"]["bias"] = [0.1]
    with pytest.raises(ManifestError, match="an element for each label. Received: 1 for 2 labels"):
        Manifest.from_json(json.dumps(content).encode())


def drawn(samples, seed, shift):
    """Probabilities of four classes whose logits have a shift, and true classes."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(samples, 4)) + np.log([1, 2, 3, 4])
    targets = np.array([random.choice(4, p=row) for row in softmax(logits, axis=1)])
    return softmax(logits + shift, axis=1).astype("float32"), targets


def test_a_known_shift_is_taken_out_whether_it_is_expected_or_not():
    shift = np.array([1.5, 0.5, -0.5, -1.5])
    probabilities, targets = drawn(3000, 0, shift)
    for expected in (None, -shift):
        found = fit_scaling(probabilities, targets, expected)
        assert found.bias == pytest.approx(-shift, abs=0.25)
        assert found.temperature == pytest.approx(1, abs=0.1)
    corrected = softmax(np.log(probabilities) + found.bias, axis=1)
    assert classwise_calibration_error(corrected, targets) < 0.02
    assert classwise_calibration_error(probabilities, targets) > 0.1


def test_few_samples_keep_the_bias_that_is_expected():
    shift = np.array([1.5, 0.5, -0.5, -1.5])
    found = [fit_scaling(*drawn(20, seed, shift), -shift) for seed in range(20)]
    assert sum(np.array_equal(each.bias, -shift) for each in found) >= 18


def test_a_bias_that_is_not_called_for_is_rare():
    found = [fit_scaling(*drawn(200, seed, np.zeros(4))) for seed in range(40)]
    assert sum(bool(each.bias.any()) for each in found) <= 2


def test_the_shift_of_labels_is_found():
    random = np.random.default_rng(0)
    truth = 2 * random.normal(size=(4000, 3))
    targets = (random.random(truth.shape) < expit(truth)).astype("float32")
    shift = np.array([1.0, 0.0, -1.0])
    found = fit_scaling(expit(truth + shift).astype("float32"), targets)
    assert found.bias == pytest.approx(-shift, abs=0.2)


def test_two_scalings_in_a_row_are_one():
    logits = logit(np.array([[0.2, 0.7]]))
    first, second = Scaling(2.0, np.array([0.3, -0.1])), Scaling(0.5, np.array([-0.2, 0.4]))
    both = first.then(second)
    one_by_one = (logits / 2 + first.bias) / 0.5 + second.bias
    np.testing.assert_allclose(logits / both.temperature + both.bias, one_by_one)
    assert not both.is_needless


def test_the_expected_bias_undoes_weights():
    weights = np.array([0.5, 4.0, 0.0])
    bias = expected_bias(weights)
    assert bias[0] - bias[1] == pytest.approx(np.log(8))
    assert np.isfinite(bias).all()
    assert expected_bias(None) is None


def test_the_class_wise_error_sees_what_the_usual_one_does_not():
    # Everything is predicted as 0, rightly in 70% of the cases; the others are told apart wrongly.
    probabilities = np.tile([0.7, 0.3, 0.0], (100, 1))
    targets = np.array([0] * 70 + [2] * 30)
    assert calibration_error(probabilities, targets) == pytest.approx(0, abs=1e-9)
    assert classwise_calibration_error(probabilities, targets) == pytest.approx(0.6 / 3)


@keras.saving.register_keras_serializable(package="tests")
class Undivided(keras.layers.Layer):
    """Ends a model in a way that only its author knows."""

    def call(self, x):
        return 1.0 * x


@pytest.mark.parametrize(
    "ends",
    [
        "without a bias",
        "in one unit",
        # In short: that in one unit.
        pytest.param("in a layer of its own", marks=pytest.mark.slow),
    ],
)
def test_probabilities_of_any_last_layer_are_those_of_the_data(ends, weighted, tmp_path):
    inputs = keras.Input((2,))
    x = keras.layers.Normalization()(inputs)
    if ends == "without a bias":
        x = keras.layers.Dense(8, activation="relu")(x)
        x = keras.layers.Dense(2, use_bias=False)(x)
    elif ends == "in one unit":
        x = Undivided()(keras.layers.Dense(1)(x))
    else:
        x = Undivided()(keras.layers.Dense(2)(x))
    settings = {"class_weight": "balanced", "target": "kind", "epochs": 2, "repeat": 8}
    settings |= {"batch_size": 64, "optimizer.learning_rate": 0.02}
    own = keras.Model(inputs, x)
    data = weighted.config.data
    run = train(settings, tmp_path / "runs", figures=False, model=own, data=data)
    predictor = Predictor.load(_export(tmp_path, run))
    dataset = load_run_data(run.config)
    rows, classes = dataset.inputs[run.splits.test], dataset.targets[run.splits.test]
    predicted = predictor.predict(rows)
    assert predicted.probabilities[:, 1].mean() == pytest.approx(classes.mean(), abs=0.03)
    assert classwise_calibration_error(predicted.probabilities, classes) < 0.05
    found = np.mean([label == "yes" for label in predicted.labels])
    assert 1.5 * classes.mean() < found < 0.6  # balanced weights find more than there are


def test_of_many_classes_the_largest_relative_to_its_threshold_is_predicted():
    thresholds = (0.7, 0.2, 0.1)
    probabilities = np.array([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.7, 0.1, 0.2]], "float32")
    assert decide("multiclass", probabilities, thresholds).tolist() == [1, 0, 2]
    targets = np.repeat([0, 1, 3], [70, 20, 10])
    rows = np.zeros((100, 1), "float32")
    dataset = Dataset(source="here", inputs=rows, targets=targets, labels=tuple("abcd"))
    splits = Splits(np.arange(100), *2 * [np.array([], int)])
    found = weighted_thresholds(dataset, splits.train)
    assert sum(found) == pytest.approx(1)
    assert min(found) > 0  # "c" has no sample
    precision, recall = (0.5, 1.0, 0.5, 1.0), (0.25, 0.5, 0.25, 1.0)
    chosen = Thresholds(WEIGHTED, found, None, "train", "test", precision, recall)
    told = describe_thresholds(chosen, dataset.labels)
    assert told == [
        "the class is predicted whose probability is largest relative to its fraction of the "
        "training split (class_weight=balanced): precision 75.0%, recall 50.0%, averaged over 4 "
        "classes on the test split"
    ]


def test_a_class_without_test_samples_has_no_scores():
    rows = class_scores(np.array([0, 0]), np.eye(2)[[0, 0]], ("cat", "dog"))
    (told,) = describe_classes(rows)
    assert told == '"cat" precision 100%, recall 100%, F1 1.000; "dog" has no sample'


def test_of_many_classes_each_is_told_if_the_model_is_warned_about():
    scores = {"samples": 8, "precision": 0.5, "recall": 0.25, "f1": 0.3333}
    rows = [{"name": str(n), **scores} for n in range(20)]
    assert describe_classes(rows) == []
    told = describe_classes(rows, is_behind=True)
    assert told[0] == '"0" precision 50.0%, recall 25.0%, F1 0.333'
    assert told[-1] == "8 more are in the report"
    assert len(told) == 13
    assert len(describe_classes(rows[:2])) == 1
