"""Calibrates probabilities by scaling logits; chooses the threshold of a reject option."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax
from scipy.stats import chi2

from app.errors import ConfigError

# Bins of equal width, in which confidence is compared with accuracy.
BINS = 15
# Standard deviation of the prior of log(temperature): most models need 0.6 to 1.6.
_PRIOR_DEVIATION = 0.25
# The same for the bias of a label around the expected one.
_BIAS_DEVIATION = 1.0
_FARTHEST = 3.0
# Certainty that a temperature, or a bias for each label, is not due to chance. A bias may change
# predicted classes.
_TEMPERATURE_LEVEL, _BIAS_LEVEL = 0.95, 0.99
# The biases of more labels would take long to fit, to a few samples each.
_MAX_BIASES = 100
_DRAWS = 50
# float32 turns smaller probabilities into 0, and for p near 1 it leaves 1 - p at most 24 bits.
_SMALLEST, _SMALLEST_REST = 1e-37, 2.0**-25


@dataclass(frozen=True)
class Scaling:
    """How logits are corrected.

    Attributes:
        temperature: divisor of the logits.
        bias: what is then added to the logits of each class or label, float64 `(labels,)`; zeros
            change nothing.
    """

    temperature: float
    bias: np.ndarray

    @property
    def is_needless(self) -> bool:
        """Whether nothing changes."""
        return self.temperature == 1 and not self.bias.any()

    def then(self, other: "Scaling") -> "Scaling":
        """Return both corrections in one, this one first."""
        bias = self.bias / other.temperature + other.bias
        return Scaling(self.temperature * other.temperature, bias)


def expected_bias(weights: np.ndarray | None) -> np.ndarray | None:
    """Return the bias that takes the effect of class weights out of logits.

    A net that was trained with weights gives each class the odds that its samples have by weight
    (Elkan, 2001, "The foundations of cost-sensitive learning"), so the bias is minus the logarithm
    of the weight.

    Args:
        weights: weight of each class, float64 `(classes,)`; 0 for a class without samples. None if
            there were none.

    Returns:
        float64 `(classes,)`; None if there were no weights.
    """
    if weights is None:
        return None
    bias = -np.log(np.where(weights > 0, weights, 1.0))
    centered: np.ndarray = bias - bias.mean()
    return centered


def fit_scaling(
    probabilities: np.ndarray, targets: np.ndarray, shift: np.ndarray | None = None
) -> Scaling:
    """Return the temperature and the bias of each label that calibrate `probabilities` best.

    Dividing the logits by a temperature and adding a bias minimizes the cross entropy (Guo et al.,
    2017; a bias alone corrects the prior: Saerens et al., 2002). Normal priors keep both near what
    is expected if there are few samples or if all predictions are right. The temperature stays at 1
    and the bias at `shift` unless the samples are significantly more likely with others
    (likelihood-ratio tests, Wilks, 1938): the temperature of a calibrated model, fitted on a
    hundred samples, varies by 8%, and would make it worse.

    Args:
        probabilities: predictions for validation samples, `(samples, classes)` or
            `(samples, labels)`.
        targets: classes `(samples,)`, or labels 0 and 1 `(samples, labels)`.
        shift: expected bias of each label, float64 `(labels,)`, as after a training with class
            weights; None expects none.
    """
    num_labels = probabilities.shape[1]
    expected = np.zeros(num_labels) if shift is None else shift
    loss = _make_loss(probabilities, targets)

    def fit(has_temperature: bool, has_bias: bool) -> tuple[Scaling, float]:
        """Return the best scaling of a kind, and twice its log likelihood."""
        free = np.concatenate([[has_temperature], np.full(num_labels, has_bias)])
        start = np.concatenate([[0.0], expected])
        deviations = np.where(np.arange(len(start)), _BIAS_DEVIATION, _PRIOR_DEVIATION)

        def penalized(chosen: np.ndarray) -> tuple[float, np.ndarray]:
            values = start.copy()
            values[free] = chosen
            far = (values - start) / deviations
            value, gradient = loss(values)
            return value + 0.5 * float(far @ far), (gradient + far / deviations)[free]

        found = start.copy()
        if free.any():
            bounds = [(low - _FARTHEST, low + _FARTHEST) for low in start[free]]
            found[free] = minimize(penalized, start[free], jac=True, bounds=bounds).x
        bias = found[1:] if targets.ndim > 1 else found[1:] - found[1:].mean()
        return Scaling(float(np.exp(found[0])), bias), -2 * loss(found)[0]

    least_gain = chi2.ppf(_BIAS_LEVEL, num_labels - (targets.ndim == 1))
    has_bias = num_labels <= _MAX_BIASES
    has_bias = has_bias and fit(True, True)[1] - fit(True, False)[1] > least_gain
    (plain, likelihood), (tempered, other) = fit(False, has_bias), fit(True, has_bias)
    return tempered if other - likelihood > chi2.ppf(_TEMPERATURE_LEVEL, 1) else plain


def _make_loss(
    probabilities: np.ndarray, targets: np.ndarray
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return a function that gives the cross entropy of all samples, in nats, and its gradient.

    Its argument is the logarithm of the temperature, followed by the bias of each label.
    """
    exact = np.clip(probabilities.astype(np.float64), _SMALLEST, None)
    logits, is_classes = np.log(exact), targets.ndim == 1
    if is_classes:
        truth = np.eye(logits.shape[1])[targets]
    else:
        logits -= np.log(np.clip(1 - exact, _SMALLEST_REST, None))
        truth = (targets > 0).astype(np.float64)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        divided = logits / np.exp(values[0])
        scaled = divided + values[1:]
        if is_classes:
            logarithms = log_softmax(scaled, axis=1)
            value, predicted = -(truth * logarithms).sum(), np.exp(logarithms)
        else:
            value = -log_expit(np.where(truth, scaled, -scaled)).sum()
            predicted = expit(scaled)
        wrong = predicted - truth
        return float(value), np.concatenate([[-(wrong * divided).sum()], wrong.sum(axis=0)])

    return loss


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
    count, num_labels = probabilities.shape
    truth = np.eye(num_labels)[targets] if targets.ndim == 1 else targets > 0
    cells = _bins(probabilities) + BINS * np.arange(num_labels)
    gaps: np.ndarray = np.bincount(cells.ravel(), (truth - probabilities.astype(float)).ravel())
    return float(np.abs(gaps).sum() / (count * num_labels))


def chance_calibration_error(confidences: np.ndarray) -> float:
    """Return the expected calibration error of a calibrated model with these confidences.

    It is above 0, since the accuracy of the few predictions in a bin varies by chance: about 0.07
    for 240 predictions of medium confidence. Only a larger error shows a lack of calibration.

    Args:
        confidences: confidence of each prediction, float64 `(predictions,)`.
    """
    random, bins = np.random.default_rng(0), _bins(confidences)

    def drawn_error() -> float:
        is_right = random.random(len(confidences)) < confidences
        return float(np.abs(np.bincount(bins, is_right - confidences)).sum())

    return float(np.mean([drawn_error() for _ in range(_DRAWS)])) / len(confidences)


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
