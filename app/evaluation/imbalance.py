"""Suggests what helps where a class is rare. Nothing is applied unless the user asks for it."""

import numpy as np

from app.config.training_config import TrainingConfig
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.errors import ConfigError
from serving.written_numbers import write_number, write_percent, write_score

from .metrics import class_scores
from .thresholds import choose_thresholds, is_default

# A class is rare below this fraction of the training split, if that is less than half of an equal
# share.
RARE = 0.1


def suggest_for_rare_class(
    config: TrainingConfig, dataset: Dataset, splits: Splits, validation: np.ndarray
) -> str:
    """Return one line that suggests class weights, and a threshold for two classes.

    Args:
        config: settings of the training.
        dataset: the samples.
        splits: indices of the splits.
        validation: predictions for the validation split, `(samples, outputs)`.

    Returns:
        The line; empty if no class is rare, or if the settings see to it.
    """
    if dataset.task != "multiclass":
        return ""
    counts = np.bincount(dataset.targets[splits.train], minlength=len(dataset.labels))
    rarest = int(counts.argmin())
    fraction = counts[rarest] / counts.sum()
    if fraction >= min(RARE, 0.5 / len(counts)):
        return ""
    label = dataset.labels[rarest]
    advice = []
    # Neither a user's pipeline nor weights of samples leave room for those of classes.
    if config.class_weight == "none" and not dataset.has_weights and dataset.stream is None:
        common = int(counts.argmax())
        ratio = write_number(counts[common] / counts[rarest], 3)
        advice.append(
            f"--set class_weight=balanced gives its samples {ratio} "
            f'times the weight of those of "{dataset.labels[common]}"'
        )
    if dataset.positive == rarest and is_default(config.threshold):
        advice.append(_suggest_threshold(dataset, splits, validation, label))
    if not any(advice):
        return ""
    return f'"{label}" has {write_percent(fraction)} of the training samples: ' + "; ".join(
        filter(None, advice)
    )


def describe_weighted(
    config: TrainingConfig, dataset: Dataset, splits: Splits, test: np.ndarray
) -> str:
    """Return a line on what class weights do to probabilities; empty if there were none.

    Args:
        config: settings of the training.
        dataset: the samples.
        splits: indices of the splits.
        test: predictions for the test split, `(samples, classes)`.
    """
    if config.class_weight == "none":
        return ""
    counts = np.bincount(dataset.targets[splits.test], minlength=len(dataset.labels))
    fractions, means = counts / counts.sum(), test.mean(axis=0, dtype=np.float64)
    farthest = int(np.abs(means - fractions).argmax())
    if dataset.positive is not None:
        farthest = dataset.positive
    return (
        f'class_weight={config.class_weight} shifts probabilities: that of "'
        f'{dataset.labels[farthest]}" is {_fraction(means[farthest])} on average, where '
        f"{_fraction(fractions[farthest])} of the test samples have it. An export corrects them"
    )


def _suggest_threshold(dataset: Dataset, splits: Splits, validation: np.ndarray, label: str) -> str:
    targets = dataset.targets[splits.validation]
    try:
        thresholds = choose_thresholds("f1", dataset, splits.validation, validation)
    except ConfigError:  # the validation split has a single class
        return ""
    scores = [
        next(
            row["f1"]
            for row in class_scores(targets, validation, dataset.labels, chosen)
            if row["name"] == label
        )
        for chosen in (None, thresholds)
    ]
    if scores[1] <= scores[0]:
        return ""
    at = dict(zip(dataset.labels, thresholds or (), strict=False)).get(label, 0.5)
    return (
        f"--set threshold=f1 predicts it from a probability of {_fraction(at)} on, with an F1 of "
        f"{_fraction(scores[1])} on the validation split instead of {_fraction(scores[0])}"
    )


def _fraction(value: float) -> str:
    return write_score("fraction", value)
