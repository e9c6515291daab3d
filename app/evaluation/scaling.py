"""Fits what calibrates probabilities: a temperature of the logits, and a bias for each label."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax
from scipy.stats import chi2

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
