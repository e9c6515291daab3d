"""Fits a linear model: the baseline of rows, and the start of a net's linear part."""

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

# Products of the fit in all iterations, and limits of their number.
_MAX_PRODUCTS, _MIN_ITERATIONS, _MAX_ITERATIONS = 1e9, 10, 100


def fit_linear(
    task: str,
    rows: Any,
    targets: np.ndarray,
    outputs: int,
    sample_weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a ridge regression of values, or a logistic regression, with scikit-learn's defaults.

    The number of iterations is limited, so that it takes about two seconds.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        rows: float `(samples, columns)`, an array or a sparse matrix.
        targets: class indices `(samples,)`; labels 0 or 1, or values, `(samples, outputs)`.
        outputs: number of classes, labels or values.
        sample_weights: weight of each sample, `(samples,)`; None if all are equal.

    Returns:
        Weights float64 `(columns, outputs)` and biases float64 `(outputs,)`. They give values, or
        logits: of a softmax for classes, of a sigmoid for labels. The bias of a class without a
        sample is -inf, and so is that of a label that no sample has; inf if all have it.
    """
    weights, biases = np.zeros((rows.shape[1], outputs)), np.full(outputs, -np.inf)
    if task == "regression":
        ridge = Ridge().fit(rows, targets.reshape(len(targets), outputs), sample_weights)
        return np.asarray(ridge.coef_).reshape(outputs, -1).T, np.asarray(ridge.intercept_)
    if task == "multiclass":
        classes = np.unique(targets)
        if len(classes) == 1:
            biases[classes] = 0
            return weights, biases
        several = outputs if len(classes) > 2 else 1
        found, bias = _fit_logistic(rows, targets, several, sample_weights)
        if len(classes) == 2:  # scikit-learn has the logit of the second class only
            found, bias = np.hstack([-found / 2, found / 2]), np.hstack([-bias / 2, bias / 2])
        weights[:, classes], biases[classes] = found, bias
        return weights, biases
    for label in range(outputs):
        has_label = targets[:, label] > 0
        if has_label.all():
            biases[label] = np.inf
        elif has_label.any():
            found, bias = _fit_logistic(rows, has_label, outputs, sample_weights)
            weights[:, label], biases[label] = found[:, 0], bias[0]
    return weights, biases


def _fit_logistic(
    rows: Any, targets: np.ndarray, outputs: int, sample_weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    iterations = _MAX_PRODUCTS / max(rows.size * outputs, 1)  # of sparse rows, the stored numbers
    most = int(np.clip(iterations, _MIN_ITERATIONS, _MAX_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(max_iter=most).fit(rows, targets, sample_weights)
    return np.asarray(fitted.coef_).T, np.asarray(fitted.intercept_)
