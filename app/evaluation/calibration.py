"""Makes a model's confidence mean what it says, and finds how much of it to ask for."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from app.errors import ConfigError

# Of equal width, in which confidences are compared with how often they are right.
BINS = 15
# Of a temperature's logarithm: few models need more than 1.6 or less than 0.6.
_PRIOR_DEVIATION = 0.25
_FARTHEST = 3.0
# In float32 a probability below has become 0; the rest of one near 1 has at most 24 bits.
_SMALLEST, _SMALLEST_REST = 1e-37, 2.0**-25


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature that makes `probabilities` fit `targets` best.

    Logits divided by it have the least cross entropy (Guo et al., 2017), with a normal prior on
    its logarithm: a few samples, or samples that are all right, are no reason to move far from 1.

    Args:
        probabilities: `(samples, classes)`, or of labels `(samples, labels)`.
        targets: of validation samples: classes `(samples,)`, or 0 and 1 `(samples, labels)`.
    """
    exact = np.clip(probabilities.astype(np.float64), _SMALLEST, None)
    logits = np.log(exact)
    if targets.ndim == 1:

        def log_likelihood(tempered: np.ndarray) -> Any:
            return log_softmax(tempered, axis=1)[np.arange(len(targets)), targets].sum()
    else:
        logits -= np.log(np.clip(1 - exact, _SMALLEST_REST, None))
        signs = np.where(targets > 0, 1, -1)

        def log_likelihood(tempered: np.ndarray) -> Any:
            return log_expit(signs * tempered).sum()

    def loss(log_temperature: float) -> float:
        prior = 0.5 * (log_temperature / _PRIOR_DEVIATION) ** 2
        return float(prior - log_likelihood(logits / np.exp(log_temperature)))

    bounds = (-_FARTHEST, _FARTHEST)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def confidence_and_truth(
    probabilities: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how sure each answer is, float64, and whether it is right.

    Of classes the answer is the most probable one; of labels each one's own decision.
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
    """Return mean confidence, accuracy and count of the answers in each filled bin.

    The bins of confidence have equal width (Guo et al., 2017).
    """
    confidences, is_right = confidence_and_truth(probabilities, targets)
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    confidence, accuracy = (
        np.bincount(bins, what, BINS)[filled] / counts[filled] for what in (confidences, is_right)
    )
    return confidence, accuracy, counts[filled]


def calibration_error(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy."""
    confidence, accuracy, counts = reliability(probabilities, targets)
    return float(np.abs(accuracy - confidence) @ counts / counts.sum())


def choose_threshold(probabilities: np.ndarray, targets: np.ndarray, accuracy: float) -> float:
    """Return the least confidence above which answers are as accurate as is asked.

    Args:
        probabilities: `(samples, classes)`, of validation samples.
        targets: `(samples,)`.
        accuracy: of the answers that are accepted, above 0 and at most 1.

    Raises:
        ConfigError: no threshold reaches it.
    """
    if not 0 < accuracy <= 1:
        raise ConfigError(f"target_accuracy must be above 0, at most 1. Received: {accuracy}.")
    confidences, is_right = confidence_and_truth(probabilities, targets)
    order = np.argsort(-confidences, kind="stable")
    confidences, shares = confidences[order], np.cumsum(is_right[order])
    accuracies: Any = shares / np.arange(1, len(order) + 1)
    # Answers as sure as each other are accepted together.
    is_last = np.append(confidences[:-1] > confidences[1:], True)
    reached = np.flatnonzero(is_last & (accuracies >= accuracy))
    if not reached.size:
        raise ConfigError(
            f"target_accuracy must be in reach. Received: {accuracy}; of the surest validation "
            f"samples {accuracies[is_last].max():.4f} are right."
        )
    last = reached[-1]
    if last == len(order) - 1:
        return 0.0
    # Between the least sure that is accepted and the next.
    return float((confidences[last] + confidences[last + 1]) / 2)
