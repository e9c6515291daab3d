"""Temperatures, calibration errors and thresholds: what they are, and that they reach a bundle."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

import models
from app.bundles.export_run import export_run
from app.commands.cli import main
from app.data.sources import load_dataset
from app.errors import ConfigError
from app.evaluation.calibration import (
    calibration_error,
    chance_calibration_errors,
    choose_threshold,
    confidence_and_truth,
)
from app.evaluation.scaling import fit_scaling
from export import ExportOptions
from models.features import feature_extractor
from models.heads import scale_logits
from serving import Predictor


def drawn_classes(temperature, samples=4000, seed=0):
    """Probabilities whose logits are `temperature` times too large, and true classes."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(samples, 4)) * 2
    targets = np.array([random.choice(4, p=row) for row in softmax(logits, axis=1)])
    return softmax(logits * temperature, axis=1).astype("float32"), targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature):
    probabilities, targets = drawn_classes(temperature)
    assert fit_scaling(probabilities, targets).temperature == pytest.approx(temperature, rel=0.08)


def test_the_temperature_of_a_multilabel_model_is_found():
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 3)) * 2
    targets = (random.random(logits.shape) < expit(logits)).astype("float32")
    probabilities = expit(logits * 2).astype("float32")
    assert fit_scaling(probabilities, targets).temperature == pytest.approx(2, rel=0.08)


def test_few_samples_or_perfect_predictions_keep_the_temperature_near_one():
    probabilities = softmax(np.eye(3)[np.arange(3000) % 3] * 2, axis=1).astype("float32")
    targets = np.arange(3000) % 3
    found = [fit_scaling(probabilities[:n], targets[:n]).temperature for n in (3, 30, 3000)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(1, abs=0.1)
    assert 0.2 < found[2] < 0.5


def test_a_temperature_that_few_samples_do_not_call_for_stays_at_one():
    # 96 samples make a fitted temperature vary by 8%, which would do more harm than good.
    fitted = [fit_scaling(*drawn_classes(1.0, 96, seed)).temperature for seed in range(40)]
    assert sum(temperature != 1 for temperature in fitted) <= 4
    assert all(fit_scaling(*drawn_classes(2.0, 96, seed)).temperature > 1.2 for seed in range(10))


def test_the_calibration_error_of_few_samples_is_compared_with_that_of_a_calibrated_model():
    for samples in (100, 4000):
        probabilities, targets = drawn_classes(1.0, samples)
        by_chance = chance_calibration_errors(probabilities.max(axis=1)).mean()
        assert calibration_error(probabilities, targets) == pytest.approx(by_chance, rel=0.5)
    assert not chance_calibration_errors(np.ones(3)).any()


def test_calibration_lowers_the_error_on_unseen_samples():
    probabilities, targets = drawn_classes(3.0)
    others, their_targets = drawn_classes(3.0, seed=1)
    found = fit_scaling(probabilities, targets).temperature
    tempered = softmax(np.log(others) / found, axis=1)
    assert calibration_error(others, their_targets) > 0.15
    assert calibration_error(tempered, their_targets) < 0.03


def test_the_calibration_error_is_the_mean_difference_of_confidence_and_accuracy():
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 6)
    targets = np.array([0, 0, 0, 1, 0, 0, 0, 1, 1, 1])
    # 4 samples of confidence 0.9 and accuracy 0.75, 6 of 0.6 and 0.5.
    assert calibration_error(probabilities, targets) == pytest.approx(0.4 * 0.15 + 0.6 * 0.1)


@given(st.data())
def test_accepted_predictions_reach_the_accuracy_and_are_as_many_as_possible(data):
    levels = data.draw(st.lists(st.sampled_from([0.6, 0.7, 0.8, 0.9]), min_size=1, max_size=30))
    targets = np.array([data.draw(st.integers(0, 1)) for _ in levels])
    probabilities = np.array([[level, 1 - level] for level in levels])
    asked = data.draw(st.sampled_from([0.5, 0.8, 1.0]))
    confidences, is_right = confidence_and_truth(probabilities, targets)
    reachable = [level for level in set(levels) if is_right[confidences >= level].mean() >= asked]
    if not reachable:
        with pytest.raises(ConfigError, match="must be reachable"):
            choose_threshold(probabilities, targets, asked)
        return
    accepted = confidences >= choose_threshold(probabilities, targets, asked)
    assert is_right[accepted].mean() >= asked
    assert accepted.sum() == (confidences >= min(reachable)).sum()


@pytest.mark.parametrize("accuracy", [0, -1, 1.01, float("nan")])
def test_an_accuracy_out_of_range_is_refused(accuracy):
    with pytest.raises(ConfigError, match="target_accuracy must be above 0 and at most 1"):
        choose_threshold(np.array([[0.9, 0.1]]), np.array([0]), accuracy)


@pytest.mark.parametrize("head", ["classes", "two", "labels"])
def test_logits_are_divided_and_shifted_whatever_the_head(head):
    keras.utils.set_random_seed(0)
    config = {
        "classes": models.FeatureExtractorConfig(num_outputs=3),
        "two": models.FeatureExtractorConfig(num_outputs=2, head="sigmoid"),
        "labels": models.FeatureExtractorConfig(num_outputs=3, head="sigmoid", many_labels=True),
    }[head]
    model = feature_extractor(config)
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    before = model.predict(rows, verbose=0)["probabilities"].astype("float64")
    bias = np.linspace(-1, 1, before.shape[1])
    scale_logits(model, "probabilities", 2.0, bias.tolist())
    after = model.predict(rows, verbose=0)["probabilities"]
    if head != "labels":
        expected = softmax(np.log(before) / 2 + bias, axis=1)
    else:
        expected = expit((np.log(before) - np.log(1 - before)) / 2 + bias)
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_logits_that_the_model_does_not_compute_are_refused():
    start = keras.Input((4,))
    model = keras.Model(start, {"probabilities": keras.layers.Softmax()(start)})
    with pytest.raises(
        ValueError, match="logits of a Dense layer can be .*Received: probabilities"
    ):
        scale_logits(model, "probabilities", 2.0)
    without_bias = keras.layers.Dense(2, "softmax", use_bias=False)
    model = keras.Model(start, {"probabilities": without_bias(start)})
    with pytest.raises(ValueError, match="Only logits with a bias can be shifted"):
        scale_logits(model, "probabilities", 2.0, [0.0, 1.0])


@pytest.fixture(scope="module")
def choosy(softmax_run, tmp_path_factory):
    """A bundle with a reject option, which accepts some predictions."""
    folder = tmp_path_factory.mktemp("dist")
    return export_run(softmax_run.folder, folder, None, ExportOptions(int8="never"), 0.99)


@pytest.fixture(scope="module")
def rows():
    return load_dataset("iris").inputs


def test_a_bundle_states_that_it_needs_no_temperature_and_its_threshold(choosy, softmax_run, rows):
    bundle = choosy
    predictor = Predictor.load(bundle)
    calibration, reject = predictor.manifest.calibration, predictor.manifest.reject_option
    before = softmax_run.load_model().predict(rows, verbose=0)["probabilities"]
    prediction = predictor.predict(rows)
    assert calibration.temperature == 1  # fitted on 12 samples
    np.testing.assert_allclose(prediction.probabilities, before, atol=1e-5)
    is_sure = prediction.probabilities.max(axis=1) >= reject.threshold
    np.testing.assert_array_equal(prediction.accepted, is_sure)
    assert 0 < is_sure.mean() < 1
    assert reject.target_accuracy == 0.99
    assert 0 < reject.coverage <= 1
    card = (bundle / "README.md").read_text()
    assert "Logits are not divided by a temperature" in card
    assert f"accepts {reject.coverage:.2%} of the predictions" in card
    assert (bundle / "figures" / "reliability_diagram.png").stat().st_size > 5000


def test_without_a_threshold_every_prediction_is_accepted(bundle, images):
    predictor = Predictor.load(bundle)
    assert predictor.manifest.reject_option is None
    assert predictor.predict(images).accepted.all()


def test_predict_marks_what_is_not_accepted(choosy, rows, tmp_path, capfd):
    bundle = choosy
    manifest = json.loads((bundle / "manifest.json").read_text())
    table = tmp_path / "mean.csv"
    table.write_text(",".join(manifest["columns"]) + "\n" + ",".join(map(str, rows.mean(axis=0))))
    capfd.readouterr()
    with pytest.raises(SystemExit):
        main(["predict", str(bundle), str(table), "--json"])
    prediction = json.loads(capfd.readouterr().out)
    assert max(prediction["probabilities"].values()) < manifest["reject_option"]["threshold"]
    assert prediction["accepted"] is False
    with pytest.raises(SystemExit):
        main(["predict", str(bundle), str(table)])
    assert "not accepted" in capfd.readouterr().out
