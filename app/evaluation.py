"""Measures a trained model on a split."""

from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, log_loss


def predict_probabilities(model: Any, inputs: np.ndarray) -> np.ndarray:
    """Return float32 `(samples, classes)`."""
    probabilities: np.ndarray = model.predict(inputs, batch_size=256, verbose=0)["probabilities"]
    return probabilities


def classification_metrics(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return accuracy, macro-averaged F1 and mean cross entropy in nats.

    Args:
        targets: int64 `(samples,)`.
        probabilities: `(samples, classes)`.
    """
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    # float32 rows sum to 1 within 1e-6; scikit-learn asks for more of float64
    exact = probabilities.astype(np.float64)
    normalized = exact / exact.sum(axis=1, keepdims=True)
    return {
        "accuracy": float(accuracy_score(targets, predicted)),
        "f1_macro": float(f1_score(targets, predicted, average="macro", zero_division=0.0)),
        "cross_entropy": float(log_loss(targets, normalized, labels=classes)),
    }
