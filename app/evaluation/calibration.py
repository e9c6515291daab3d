"""Calibration errors of probabilities, and the threshold of a reject option."""

from typing import Any

import numpy as np

from app.errors import ConfigError

# Bins of equal width, in which confidence is compared with accuracy.
BINS = 15
# Draws of a calibrated model, fewer of so many predictions that a few tell as much: a second.
_LEAST_DRAWS, _MAX_DRAWN = 20, 20_000_000


def confidence_and_truth(
    probabilities: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence of each prediction, float64, and whether it is right.

    For classes, a prediction is the most probable class. For labels, each label of each sample is
    a separate prediction.
    """
    if targets.ndim == 1:
        confidences = probabilities.max(axis=1)
        return confidences.astype(np.float64), probabilities.argmax(axis=1) == targets
    is_set = probabilities >= 0.5
    confidences = np.where(is_set, probabilities, 1 - probabilities).astype(np.float64)
    return confidences.reshape(-1), (is_set == (targets > 0)).reshape(-1)


def reliability(
    probabilities: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean confidence, accuracy and number of the predictions in each bin that has any.

    The bins of confidence have equal width (Guo et al., 2017).
    """
    confidences, is_right = confidence_and_truth(probabilities, targets)
    bins = _bins(confidences)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    confidence, accuracy = (
        np.bincount(bins, what, BINS)[filled] / counts[filled] for what in (confidences, is_right)
    )
    return confidence, accuracy, counts[filled]


def _bins(confidences: np.ndarray) -> np.ndarray:
    bins: np.ndarray = np.minimum((confidences * BINS).astype(int), BINS - 1)
    return bins


def calibration_error(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the expected calibration error: the mean difference of confidence and accuracy."""
    confidence, accuracy, counts = reliability(probabilities, targets)
    return float(np.abs(accuracy - confidence) @ counts / counts.sum())


def classwise_calibration_error(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean over classes or labels of the calibration error of their own probability.

    Unlike `calibration_error`, it shows probabilities of a rare class that are too high while that
    class is seldom predicted (Kull et al., 2019).

    Args:
        probabilities: `(samples, classes)` or `(samples, labels)`.
        targets: classes `(samples,)`, or labels 0 and 1 `(samples, labels)`.
    """
    total = 0.0
    for number, own in enumerate(probabilities.T):  # all at once would be gigabytes of many classes
        truth = targets == number if targets.ndim == 1 else targets[:, number] > 0
        total += float(np.abs(np.bincount(_bins(own), truth - own.astype(float))).sum())
    return total / probabilities.size


def chance_calibration_errors(confidences: np.ndarray, draws: int = 1000) -> np.ndarray:
    """Return calibration errors that a calibrated model with these confidences has by chance.

    They are above 0, since the accuracy of the few predictions in a bin varies by chance: about
    0.07 for 240 predictions of medium confidence. Only an error that is larger than nearly all of
    them shows a lack of calibration.

    Args:
        confidences: confidence of each prediction, float64 `(predictions,)`.
        draws: number of draws; for a mean alone, fewer do.

    Returns:
        The error of each draw, of fewer for many predictions, float64 `(draws,)`.
    """
    random, bins = np.random.default_rng(0), _bins(confidences)

    def drawn_error() -> float:
        is_right = random.random(len(confidences)) < confidences
        return float(np.abs(np.bincount(bins, is_right - confidences)).sum())

    draws = int(np.clip(_MAX_DRAWN // len(confidences), _LEAST_DRAWS, draws))
    return np.array([drawn_error() for _ in range(draws)]) / len(confidences)


def choose_threshold(probabilities: np.ndarray, targets: np.ndarray, accuracy: float) -> float:
    """Return the lowest confidence threshold at which accepted predictions reach an accuracy.

    Args:
        probabilities: predictions for validation samples, `(samples, classes)`.
        targets: classes `(samples,)`.
        accuracy: accuracy that the accepted predictions must reach, above 0 and at most 1.

    Raises:
        ConfigError: no threshold reaches it.
    """
    if not 0 < accuracy <= 1:
        raise ConfigError(f"target_accuracy must be above 0 and at most 1. Received: {accuracy}.")
    confidences, is_right = confidence_and_truth(probabilities, targets)
    order = np.argsort(-confidences, kind="stable")
    confidences, right = confidences[order], np.cumsum(is_right[order])
    accuracies: Any = right / np.arange(1, len(order) + 1)
    # Predictions of equal confidence are accepted together.
    is_last = np.append(confidences[:-1] > confidences[1:], True)
    reached = np.flatnonzero(is_last & (accuracies >= accuracy))
    if not reached.size:
        raise ConfigError(
            f"target_accuracy must be reachable. Received: {accuracy}; the best threshold reaches "
            f"{accuracies[is_last].max():.4f} on the validation split."
        )
    last = reached[-1]
    if last == len(order) - 1:
        return 0.0
    # Halfway between the least confident accepted prediction and the next one.
    return float((confidences[last] + confidences[last + 1]) / 2)
