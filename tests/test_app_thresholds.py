"""Thresholds of classes and labels: their rules, and what they reach on the validation split."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from app.config import make_config
from app.config.threshold_rules import ThresholdRule, parse_rule
from app.data.datasets import Dataset
from app.errors import ConfigError
from app.evaluation.metrics import class_scores, measure
from app.evaluation.thresholds import check_rule, choose_thresholds
from serving.decisions import decide


def dataset(targets, labels=("no", "yes"), task="multiclass"):
    targets = np.asarray(targets, np.float32 if task == "multilabel" else np.int64)
    inputs = np.zeros((len(targets), 1), np.float32)
    return Dataset(
        source="drawn", inputs=inputs, targets=targets, labels=labels, task=task, columns=("x",)
    )


@st.composite
def predictions(draw):
    """Draw probabilities of two classes, many of them equal, and targets with both classes."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=40))
    second = np.array([number / 20 for number, _ in pairs], np.float32)
    targets = np.array([int(is_true) for _, is_true in pairs])
    targets[:2] = 0, 1
    return np.stack([1 - second, second], axis=1), targets


def decided(rule, probabilities, targets):
    data = dataset(targets)
    thresholds = choose_thresholds(rule, data, np.arange(len(targets)), probabilities)
    # Scores of the positive class, which is the rarer one.
    return decide(
        "multiclass", probabilities, thresholds
    ) == data.positive, targets == data.positive


def every_decision(probabilities, targets):
    """Yield what every possible threshold decides."""
    place = dataset(targets).positive
    scores = probabilities[:, place].astype(np.float64)
    for threshold in np.unique([0.0, *scores, 1.1]):
        yield scores >= threshold, targets == place


@given(predictions())
def test_no_threshold_has_a_better_f1(drawn):
    best = max(f1_score(true, found, zero_division=0.0) for found, true in every_decision(*drawn))
    found, true = decided("f1", *drawn)
    assert f1_score(true, found) == pytest.approx(best)


@given(predictions(), st.floats(0.05, 1))
def test_a_stated_recall_is_reached_with_the_fewest_predictions(drawn, wanted):
    found, true = decided(f"recall={wanted}", *drawn)
    assert recall_score(true, found) >= wanted
    others = [x.sum() for x, t in every_decision(*drawn) if recall_score(t, x) >= wanted]
    assert found.sum() == min(others)


@given(predictions(), st.floats(0.05, 1))
def test_a_stated_precision_is_reached_with_the_highest_recall(drawn, wanted):
    reached = [
        recall_score(true, found)
        for found, true in every_decision(*drawn)
        if found.any() and precision_score(true, found) >= wanted
    ]
    if not reached:
        with pytest.raises(ConfigError, match="must be reachable.*whose highest precision is"):
            decided(f"precision={wanted}", *drawn)
        return
    found, true = decided(f"precision={wanted}", *drawn)
    assert precision_score(true, found) >= wanted
    assert recall_score(true, found) == max(reached)


@given(predictions(), st.floats(0.1, 20))
def test_no_threshold_costs_less(drawn, cost):
    def price(found, true):
        return cost * (true & ~found).sum() + (found & ~true).sum()

    cheapest = min(price(*pair) for pair in every_decision(*drawn))
    # A threshold is at most 1, which a probability of 1 reaches.
    if drawn[0].max() < 1:
        assert price(*decided(f"cost={cost}", *drawn)) == pytest.approx(cheapest)


def test_the_threshold_lies_halfway_between_two_samples():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    data = dataset([0, 0, 1, 1])
    assert choose_thresholds("f1", data, np.arange(4), probabilities) == pytest.approx((0.45, 0.55))


def test_the_rarer_class_is_the_positive_one():
    assert dataset([0, 1, 1]).positive == 0
    assert dataset([0, 1, 0]).positive == 1
    assert dataset([0, 1]).positive == 1
    assert dataset([0, 1, 2], labels=("a", "b", "c")).positive is None
    probabilities = np.array([[0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])
    thresholds = choose_thresholds("f1", dataset([0, 1, 1]), np.arange(3), probabilities)
    assert thresholds == pytest.approx((0.35, 0.65))
    assert decide("multiclass", probabilities, thresholds).tolist() == [0, 1, 1]


def test_the_first_of_two_classes_may_always_be_predicted():
    """A probability of 1 of the second does not reach its threshold."""
    found = choose_thresholds(
        "recall=1", dataset([0, 1, 1]), np.arange(3), np.array([[0.0, 1], [0, 1], [0, 1]])
    )
    assert found == (0.0, math.nextafter(1, 2))


def test_each_label_gets_a_threshold():
    targets = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    probabilities = np.array([[0.3, 0.6], [0.2, 0.9], [0.1, 0.8], [0.1, 0.1]])
    data = dataset(targets, task="multilabel", labels=("a", "b"))
    thresholds = choose_thresholds("f1", data, np.arange(4), probabilities)
    assert thresholds == pytest.approx((0.15, 0.7))
    assert (decide("multilabel", probabilities, thresholds) == targets).all()
    assert measure("multilabel", targets, probabilities, thresholds)["exact_match"] == 1
    assert all(row["f1"] == 1 for row in class_scores(targets, probabilities, "ab", thresholds))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (0.3, ("value", 0.3)),
        ("0.3", ("value", 0.3)),
        ("f1", ("f1", 0)),
        ("precision=0.9", ("precision", 0.9)),
        ("recall = 1", ("recall", 1)),
        ("cost=5", ("cost", 5)),
    ],
)
def test_a_rule_is_a_number_or_a_name_with_a_number(rule, expected):
    assert parse_rule(rule) == ThresholdRule(*expected)
    assert make_config("features", {"threshold": rule}).training.threshold == rule


@pytest.mark.parametrize(
    "rule", ["f2", 0.0, 1, "1.5", "precision=0", "recall=2", "cost=-1", "cost=inf", "=", "f1=1"]
)
def test_other_rules_are_refused(rule):
    with pytest.raises(
        ConfigError, match="threshold must be f1; a probability above 0 and below 1"
    ):
        make_config("features", {"threshold": rule})


def test_more_than_two_classes_and_values_have_no_threshold():
    data = dataset([0, 1, 2], labels=("a", "b", "c"))
    with pytest.raises(ConfigError, match="two classes, or labels. .* whose targets are 3 classes"):
        check_rule("f1", data)
    check_rule(0.5, data)


def test_a_class_that_the_validation_split_lacks_has_no_threshold():
    with pytest.raises(ConfigError, match="Received: 0 of 2 with 'yes'. Set threshold to a prob"):
        choose_thresholds("f1", dataset([0, 0, 1]), np.arange(2), np.full((2, 2), 0.5))
