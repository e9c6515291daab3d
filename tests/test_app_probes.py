"""Probes of features: linear classifiers and nearest neighbors, for each task."""

import numpy as np
import pytest

from app.config.run_facts import read_evaluation
from app.evaluation.metrics import class_scores
from app.evaluation.probes import probe_features, probed_samples
from app.reports.class_lines import UNDEFINED, write_class_scores
from app.reports.run_report import describe_probes
from serving.written_numbers import write_percent

TRAIN, TEST = slice(200), slice(200, 300)


def probe(task, features, targets):
    features = features.astype("float32")
    return probe_features(task, (features[TRAIN], targets[TRAIN]), (features[TEST], targets[TEST]))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_separate_classes_are_found_by_every_probe():
    targets = np.arange(300) % 3
    found = probe("multiclass", np.eye(3)[targets] + noise(300, 3) / 10, targets)
    assert found.score == "accuracy"
    assert found.linear == found.nearest_neighbors == found.recall_at_1 == 1
    assert (found.dimension, found.train_samples, found.test_samples) == (3, 200, 100)


def test_classes_that_no_line_separates_are_found_by_neighbors_only():
    corners = np.random.default_rng(0).integers(0, 2, (300, 2))
    found = probe("multiclass", 2 * corners - 1 + noise(300, 2) / 10, corners[:, 0] ^ corners[:, 1])
    assert found.nearest_neighbors == found.recall_at_1 == 1
    assert found.linear < 0.7


def test_features_of_noise_are_not_better_than_chance():
    found = probe("multiclass", noise(300, 5), np.arange(300) % 4)
    assert max(found.linear, found.nearest_neighbors, found.recall_at_1) < 0.4


def test_the_length_of_features_does_not_matter_to_neighbors():
    targets = np.arange(300) % 3
    features = np.eye(3)[targets] + noise(300, 3) / 10
    lengths = np.random.default_rng(1).uniform(0.1, 10, (300, 1))
    assert probe("multiclass", features * lengths, targets).recall_at_1 == 1


def test_labels_have_a_macro_f1_and_no_recall():
    labels = np.random.default_rng(0).integers(0, 2, (300, 2)).astype("float32")
    found = probe("multilabel", 2 * labels - 1 + noise(300, 2) / 10, labels)
    assert (found.score, found.recall_at_1) == ("f1_macro", None)
    assert found.linear == found.nearest_neighbors == 1


def test_values_have_an_r2_and_no_recall():
    features = noise(300, 2)
    found = probe("regression", features, features @ [[1.0], [2.0]] + 5)
    assert (found.score, found.recall_at_1) == ("r2", None)
    assert found.linear > 0.95
    assert found.nearest_neighbors < 0.8  # it knows directions, not lengths


def test_the_penalty_of_the_linear_probe_suits_the_samples():
    features = noise(300, 100)
    values = features @ noise(100, 2, seed=1) * [1, 1e6]
    assert probe("regression", features, values).linear > 0.95
    assert probe("regression", features, noise(300, 1, seed=2)).linear > -0.2


def test_dead_features_and_a_single_training_image_can_be_probed():
    features, targets = np.zeros((3, 4), "float32"), np.array([0, 1, 1])
    found = probe_features("multiclass", (features[:1], targets[:1]), (features, targets))
    assert found.linear == found.nearest_neighbors == pytest.approx(1 / 3)


def test_of_samples_with_many_features_fewer_are_probed():
    assert probed_samples(512) == probed_samples(2048) == (20_000, 5_000)
    for dimension in (27_648, 10**6):
        train, test = probed_samples(dimension)
        assert 0 < 4 * test <= train
        assert train * dimension <= 20_000 * 2048


def test_the_scores_of_classes_begin_with_the_worst():
    probabilities = np.eye(3)[[0, 0, 0, 1, 1, 1]]
    rows = class_scores(np.array([0, 0, 0, 1, 0, 1]), probabilities, ("a", "b", "c"))
    assert [row["name"] for row in rows] == ["b", "a", "c"]
    assert rows[0]["precision"] == pytest.approx(2 / 3)
    assert rows[0]["recall"] == 1
    assert rows[1]["recall"] == pytest.approx(3 / 4)
    # no sample has it, so it is none of the worst
    zeros = dict.fromkeys(("precision", "recall", "f1"), 0.0)
    assert rows[2] == {"name": "c", "samples": 0, "predicted": 0, **zeros}
    assert write_class_scores(rows[2]) == (UNDEFINED, UNDEFINED, UNDEFINED)
    assert write_class_scores({**zeros, "samples": 0, "predicted": 2}) == ("0%", UNDEFINED, "0.000")
    assert write_class_scores({**zeros, "samples": 2, "predicted": 0}) == (UNDEFINED, "0%", "0.000")


def test_the_scores_of_labels_are_those_of_each_label():
    labels = np.array([[1, 0], [1, 1], [0, 0]], "float32")
    first, second = class_scores(labels, np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.3]]), "xy")
    assert (first["name"], first["samples"], first["recall"]) == ("y", 1, 0)
    assert (second["name"], second["samples"], second["f1"]) == ("x", 2, 1)


def test_a_run_on_images_states_its_probes(mlp_run, run):
    evaluation = read_evaluation(mlp_run.folder)
    probes = evaluation["probes"]
    assert probes["dimension"] == 32
    assert probes["train_samples"] == len(mlp_run.splits.train)
    assert probes["linear"] > 0.8
    assert len(evaluation["classes"]) == 10
    mean = np.mean([row["f1"] for row in evaluation["classes"]])
    assert mean == pytest.approx(mlp_run.metrics["test"]["f1_macro"])
    text = describe_probes(probes)
    assert text.startswith(f"accuracy {write_percent(probes['linear'])} of a linear probe")
    assert (
        f">{write_percent(probes['recall_at_1'])}<" in (mlp_run.folder / "report.html").read_text()
    )
    status, output, _ = run("train", "--resume", mlp_run.folder)
    assert status == 0
    assert f"probes: {text}" in output


def test_a_run_on_rows_has_no_probes(softmax_run):
    assert "probes" not in read_evaluation(softmax_run.folder)
    assert "linear probe" not in (softmax_run.folder / "report.html").read_text()
