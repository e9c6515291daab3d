"""Chooses the thresholds of two classes, or of labels, on the validation split."""

import math
from collections.abc import Sequence

import numpy as np

from app.config.threshold_rules import ThresholdRule, parse_rule
from app.config.training_config import TrainingConfig
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.errors import ConfigError
from serving.decisions import WEIGHTED, decide
from serving.manifest import TASKS, Thresholds

from .metrics import labels_set


def weighted_rule(config: TrainingConfig) -> float | str:
    """Return the rule of calibrated probabilities where no threshold is set.

    A net that was trained with class weights predicts a class as soon as it is more probable than
    it is common, which the probabilities themselves do not, once they are those of the data.
    """
    return WEIGHTED if config.class_weight == "balanced" else config.threshold


def describe_targets(dataset: Dataset) -> str:
    """Return what is predicted, such as `3 classes` or `a value`."""
    count, kind = len(dataset.labels), TASKS[dataset.task]
    return f"a {kind.removesuffix('s')}" if count == 1 else f"{count} {kind}"


def check_rule(rule: float | str, dataset: Dataset) -> None:
    """Require targets that have thresholds, unless the rule is the default.

    Raises:
        ConfigError: the targets are values, or three or more classes.
    """
    has_thresholds = dataset.task == "multilabel" or dataset.positive is not None
    if not has_thresholds and not is_default(rule):
        raise ConfigError(
            "A threshold needs two classes, or labels. "
            f"Received: threshold={rule} for {dataset.source}, whose targets are "
            f"{describe_targets(dataset)}."
        )


def is_default(rule: float | str) -> bool:
    """Return whether a rule predicts the more probable of two classes."""
    return parse_rule(rule) == ThresholdRule("value", 0.5)


def choose_thresholds(
    rule: float | str, dataset: Dataset, validation: np.ndarray, probabilities: np.ndarray
) -> tuple[float, ...] | None:
    """Return the threshold of each label; None if the rule is the default.

    Those of two classes sum to 1, and the rule is about the positive class.

    Args:
        rule: see `app.config.threshold_rules.parse_rule`.
        dataset: the samples.
        validation: indices of the validation split, int64 `(samples,)`.
        probabilities: predictions for them, `(samples, labels)`.

    Raises:
        ConfigError: no threshold has the stated precision, a class or label is always or never in
            the validation split, or the targets have no thresholds.
    """
    check_rule(rule, dataset)
    if is_default(rule):
        return None
    parsed, targets = parse_rule(rule), dataset.targets[validation]
    if dataset.positive is None:
        return tuple(
            _choose(parsed, probabilities[:, n], targets[:, n] > 0, label)
            for n, label in enumerate(dataset.labels)
        )
    number = dataset.positive
    label = dataset.labels[number]
    threshold = _choose(parsed, probabilities[:, number], targets == number, label)
    if number == 1:
        return 1 - threshold, threshold
    # The first class is predicted where the second is not, so its threshold of 0 needs one above 1.
    return threshold, 1 - threshold if threshold else math.nextafter(1, 2)


def weighted_thresholds(dataset: Dataset, train: np.ndarray) -> tuple[float, ...]:
    """Return the thresholds of `WEIGHTED`: the fraction of each class, which sum to 1.

    Args:
        dataset: the samples, with classes.
        train: indices of the training split, int64 `(samples,)`.
    """
    counts = np.bincount(dataset.targets[train], minlength=len(dataset.labels))
    present = np.maximum(counts, 1)  # a class without samples is not predicted from 0 on
    return tuple((present / present.sum()).tolist())


def _choose(
    rule: ThresholdRule, probabilities: np.ndarray, is_positive: np.ndarray, label: str
) -> float:
    """Return a threshold that lies halfway between two probabilities of the validation split."""
    if rule.name == "value":
        return rule.number
    positives, count = int(is_positive.sum()), len(is_positive)
    if not 0 < positives < count:
        raise ConfigError(
            "A threshold can be chosen only on validation samples with and without the label. "
            f"Received: {positives} of {count} with {label!r}. Set threshold to a probability."
        )
    order = np.argsort(-probabilities, kind="stable")
    # A cut k predicts the k most probable samples; those of equal probability stay together.
    edges = np.concatenate([[1.0], probabilities[order].astype(np.float64), [0.0]])
    cuts = np.flatnonzero(np.append(edges[:-2] > edges[1:-1], True))
    found = np.concatenate([[0], np.cumsum(is_positive[order])])[cuts]
    best = _best_cut(rule, found, cuts, positives)
    if best is None:
        highest = (found / np.maximum(cuts, 1)).max()
        raise ConfigError(
            "threshold must be reachable on the validation split. Received: "
            f"threshold=precision={rule.number:g} for {label!r}, whose highest precision is "
            f"{highest:.4f}."
        )
    cut = cuts[best]
    return float((edges[cut] + edges[cut + 1]) / 2)


def _best_cut(
    rule: ThresholdRule, found: np.ndarray, predicted: np.ndarray, positives: int
) -> int | None:
    """Return the index of the best cut; None if none reaches the precision of the rule.

    Args:
        rule: how to choose.
        found: number of positive samples that each cut predicts, in ascending order.
        predicted: number of samples that it predicts.
        positives: number of all positive samples.
    """
    if rule.name == "f1":
        return int(np.argmax(found / (predicted + positives)))
    if rule.name == "cost":
        return int(np.argmin(rule.number * (positives - found) + (predicted - found)))
    if rule.name == "recall":
        return int(np.argmax(found / positives >= rule.number))
    reached = np.flatnonzero(found / np.maximum(predicted, 1) >= rule.number)
    return int(reached[np.argmax(found[reached])]) if reached.size else None


def record_thresholds(
    rule: float | str,
    values: Sequence[float],
    dataset: Dataset,
    splits: Splits,
    probabilities: np.ndarray,
) -> Thresholds:
    """Return thresholds with what they reach on the test split.

    Args:
        rule: the rule that they were chosen by.
        values: threshold of each label.
        dataset: the samples.
        splits: indices of the splits.
        probabilities: predictions for the test split, `(samples, labels)`.
    """
    decided = decide(dataset.task, probabilities, values)
    precision, recall = precision_and_recall(
        decided, dataset.targets[splits.test], len(dataset.labels)
    )
    return Thresholds(
        str(rule),
        tuple(values),
        dataset.positive_label,
        splits.describe("train" if rule == WEIGHTED else "validation"),
        splits.describe("test"),
        precision,
        recall,
    )


def precision_and_recall(
    decided: np.ndarray, targets: np.ndarray, count: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the precision and the recall of each class or label; 0 where they are undefined.

    Args:
        decided: see `serving.decisions.decide`.
        targets: classes `(samples,)`, or labels 0 and 1 `(samples, labels)`.
        count: number of classes or labels.
    """
    is_set, is_true = (labels_set(array, count) for array in (decided, targets))
    found = (is_set & is_true).sum(axis=0)
    precision, recall = (found / np.maximum(array.sum(axis=0), 1) for array in (is_set, is_true))
    return tuple(precision.tolist()), tuple(recall.tolist())
