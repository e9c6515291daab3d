"""Metrics are those of scikit-learn, with any weights, and their intervals hold what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from app.evaluation.estimates import mcnemar, paired_difference, wilson_estimate
from app.evaluation.metrics import class_scores, make_scorer, measure
from app.evaluation.resampling import resample, score_intervals

COUNT = 300
# Counts of a resample, some of them 0; and the plain metrics.
DRAWN = np.random.default_rng(3).integers(COUNT, size=COUNT)
WEIGHTS = [np.ones(COUNT), np.bincount(DRAWN, minlength=COUNT)]


def drawn(classes):
    random = np.random.default_rng(3)
    probabilities = random.dirichlet(np.full(classes, 0.4), COUNT).astype(np.float32)
    probabilities = np.round(probabilities, 2) + np.float32(0.001)  # some are equal
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return random.integers(classes, size=COUNT), probabilities


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_metrics_of_classes_are_those_of_scikit_learn(classes, weights):
    targets, probabilities = drawn(classes)
    found = make_scorer("multiclass", targets, probabilities)(weights.astype(float))
    exact = probabilities.astype(float)
    exact /= exact.sum(axis=1, keepdims=True)
    truth, shown = np.eye(classes)[targets], exact
    if classes == 2:
        truth, shown = truth[:, 1], exact[:, 1]
    predicted, given = probabilities.argmax(axis=1), {"sample_weight": weights}
    expected = {
        "accuracy": reference.accuracy_score(targets, predicted, **given),
        "f1_macro": reference.f1_score(targets, predicted, average="macro", **given),
        "cross_entropy": reference.log_loss(targets, exact, labels=range(classes), **given),
        "roc_auc": reference.roc_auc_score(truth, shown, **given),
        "average_precision": reference.average_precision_score(truth, shown, **given),
    }
    if classes > 5:
        expected["top3_accuracy"] = reference.top_k_accuracy_score(targets, exact, k=3, **given)
    assert found == pytest.approx(expected, abs=1e-12)
    assert next(iter(found)) == ("roc_auc" if classes == 2 else "accuracy")


@pytest.mark.parametrize("weights", WEIGHTS)
def test_metrics_of_labels_are_those_of_scikit_learn(weights):
    random = np.random.default_rng(3)
    targets = (random.random((COUNT, 4)) < 0.4).astype(np.float32)
    probabilities = np.round(random.random((COUNT, 4)), 2).astype(np.float32)
    found = make_scorer("multilabel", targets, probabilities)(weights.astype(float))
    chosen, given = probabilities >= 0.5, {"sample_weight": weights}
    assert found["exact_match"] == pytest.approx(reference.accuracy_score(targets, chosen, **given))
    for name in ("macro", "micro"):
        assert found[f"f1_{name}"] == pytest.approx(
            reference.f1_score(targets, chosen, average=name, **given)
        )
    assert found["roc_auc"] == pytest.approx(
        reference.roc_auc_score(targets, probabilities, **given)
    )
    assert found["average_precision"] == pytest.approx(
        reference.average_precision_score(targets, probabilities, **given)
    )


@pytest.mark.parametrize("weights", WEIGHTS)
def test_metrics_of_values_are_those_of_scikit_learn(weights):
    random = np.random.default_rng(3)
    targets, values = random.normal(size=(2, COUNT, 3)).astype(np.float32)
    found = make_scorer("regression", targets, values)(weights.astype(float))
    given = {"sample_weight": weights}
    assert found == pytest.approx(
        {
            "mae": reference.mean_absolute_error(targets, values, **given),
            "rmse": reference.root_mean_squared_error(targets, values, **given),
            "r2": reference.r2_score(targets, values, **given),
        }
    )


def test_precision_and_recall_of_classes_are_those_of_scikit_learn():
    targets, probabilities = drawn(5)
    targets[targets == 2] = 3  # a class without samples
    rows = {row["name"]: row for row in class_scores(targets, probabilities, list("abcde"))}
    found = reference.precision_recall_fscore_support(
        targets, probabilities.argmax(axis=1), labels=range(5), zero_division=0.0
    )
    for name, *scores in zip("abcde", *found, strict=True):
        row = rows[name]
        assert [row["precision"], row["recall"], row["f1"], row["samples"]] == pytest.approx(scores)


def test_a_single_value_has_no_r2_and_a_constant_target_no_division():
    assert set(measure("regression", np.ones((1, 1)), np.ones((1, 1)))) == {"mae", "rmse"}
    for targets in (np.ones((4, 1)), np.full((7, 1), 0.1), np.full((7, 1), np.float32(1e18 / 3))):
        assert measure("regression", targets, targets)["r2"] == 1
        assert measure("regression", targets, targets * 2)["r2"] == 0
    changed = np.full((70, 1), np.float32(0.1))
    changed[0] = np.nextafter(changed[0], np.float32(1))
    assert measure("regression", changed, changed)["r2"] == 1
    assert measure("regression", changed, changed * 2)["r2"] < -1e9


@pytest.mark.parametrize("task", ["classes", "labels", "values"])
def test_many_resamples_are_scored_at_once_as_one_after_the_other(task):
    random = np.random.default_rng(0)
    weights = np.stack([np.bincount(random.integers(20, size=20), minlength=20) for _ in range(9)])
    weights = np.append(weights.astype(float), [np.arange(20) < 7], axis=0)  # all of one class
    if task == "classes":
        targets = np.repeat([0, 1, 2], [7, 7, 6])
        scorer = make_scorer("multiclass", targets, random.dirichlet(np.ones(3), 20))
    elif task == "labels":
        targets = (np.arange(20)[:, np.newaxis] < [7, 9]).astype(np.float32)
        scorer = make_scorer("multilabel", targets, random.random((20, 2)))
    else:
        scorer = make_scorer("regression", *random.normal(size=(2, 20, 3)))
    together, alone = scorer(weights), [scorer(each) for each in weights]
    for name, values in together.items():
        assert all(type(scores[name]) is float for scores in alone)
        assert values == pytest.approx([scores[name] for scores in alone], nan_ok=True)
    if "roc_auc" in together:
        assert np.flatnonzero(np.isnan(together["roc_auc"])).tolist() == [9]


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize(("count", "is_ranked"), [(100, True), (101, False)])
def test_of_more_than_a_hundred_labels_none_is_ranked(task, count, is_ranked):
    targets = np.arange(2 * count) % count
    if task == "multilabel":
        targets = np.eye(count, dtype=np.float32)[targets]
    probabilities = np.random.default_rng(0).dirichlet(np.ones(count), 2 * count)
    found = set(make_scorer(task, targets, probabilities)(np.ones(2 * count)))
    assert found & {"roc_auc", "average_precision"} == (
        {"roc_auc", "average_precision"} if is_ranked else set()
    )


def test_intervals_contain_the_true_score_of_nineteen_in_twenty_samples():
    held = {"accuracy": 0, "cross_entropy": 0, "roc_auc": 0}
    truth = {}
    for seed in range(-1, 60):
        random = np.random.default_rng(seed + 1)
        count = 200_000 if seed < 0 else 120
        positive = random.beta(0.5, 0.8, count)
        targets = (random.random(count) < positive).astype(np.int64)
        probabilities = np.stack([1 - positive, positive], axis=1)
        scorer = make_scorer("multiclass", targets, probabilities)
        scores = scorer(np.ones(count))
        if seed < 0:
            truth = scores
            continue
        (resamples,) = resample([scorer], count, outputs=1200)  # 208 of them
        found = score_intervals(scores, resamples, count)
        for name in held:
            held[name] += found[name].low <= truth[name] <= found[name].high
            assert found[name].low <= scores[name] <= found[name].high
    assert all(53 <= number <= 60 for number in held.values()), held


def test_intervals_of_proportions_are_those_of_wilson():
    for found, count in ((0, 5), (5, 5), (97, 100), (1, 2)):
        wanted = binomtest(found, count).proportion_ci(0.95, method="wilson")
        estimate = wilson_estimate(found, count)
        assert (estimate.low, estimate.high) == pytest.approx((wanted.low, wanted.high))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_a_paired_difference_of_proportions_lies_in_its_interval(gained, lost, same):
    first = np.repeat([False, True, True], [gained, lost, same + 1])
    second = np.repeat([True, False, True], [gained, lost, same + 1])
    found = paired_difference(first, second)
    assert -1 <= found.low <= found.value <= found.high <= 1
    everywhere = paired_difference(np.zeros(gained + 1), np.ones(gained + 1))
    assert (everywhere.value, everywhere.high) == (1, 1)


def test_paired_answers_are_compared_with_mcnemars_exact_test():
    first = np.array([True] * 90 + [False] * 10)
    second = first.copy()
    assert mcnemar(first, second) == 1
    assert paired_difference(first, second).low < 0 < paired_difference(first, second).high
    random = np.random.default_rng(0)
    for size in (7, 300, 20_000):
        one, other = random.random((2, size)) < [[0.5], [0.48]]
        wanted = binomtest(int((one & ~other).sum()), int((one != other).sum())).pvalue
        assert mcnemar(one, other) == pytest.approx(wanted)
    second[90:] = True  # ten more are right, none is lost
    assert mcnemar(first, second) == pytest.approx(2 * 0.5**10)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(0.1)
    assert 0.02 < found.low < 0.1 < found.high < 0.2
