"""Measures a trained model on a split, by metrics that suit its targets."""

from typing import Any

import keras
import numpy as np
from sklearn import metrics

from app.data.arrays import CHUNK
from app.data.datasets import Dataset
from app.errors import RunError
from app.system.keras_defaults import keras_defaults

# The name of the output that a model's targets are compared with.
ANSWERS = {"multiclass": "probabilities", "multilabel": "probabilities", "regression": "values"}
# Of each kind of targets: the score that is read first.
SCORES = {"multiclass": "accuracy", "multilabel": "f1_macro", "regression": "r2"}
TOP_K = 3
_DRAWS = 200


def predict_answers(model: keras.Model, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Return the probabilities or values for the samples at `indices`, `(samples, outputs)`."""
    return predict_output(model, ANSWERS[dataset.task], dataset, indices)


@keras_defaults()
def predict_output(
    model: keras.Model, name: str, dataset: Dataset, indices: np.ndarray
) -> np.ndarray:
    """Return the output `name` for the samples at `indices`, float32 `(samples, …)`."""
    # By the whole model: a part of it would be traced anew for each output.
    parts = [
        model.predict(
            _tensors(dataset.model_inputs(indices[start : start + CHUNK])),
            batch_size=256,
            verbose=0,
        )[name]
        for start in range(0, len(indices), CHUNK)
    ]
    return np.concatenate(parts)


def _tensors(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()}
    is_text = inputs.dtype == object
    return keras.ops.convert_to_tensor(inputs) if is_text else inputs


def measure(task: str, targets: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """Return the metrics of a split.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        targets: as in `Dataset`.
        answers: the model's probabilities or values, `(samples, outputs)`.

    Raises:
        RunError: an answer is not finite.
    """
    if not np.isfinite(answers).all():  # the last step of all can do it
        raise RunError(
            "A model must give finite answers. Received: NaN or infinity. "
            "Lower optimizer.learning_rate, or set optimizer.clip_norm=1."
        )
    return {
        "multiclass": classification_metrics,
        "multilabel": label_metrics,
        "regression": regression_metrics,
    }[task](targets, answers)


def classification_metrics(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return accuracy, macro-averaged F1, ROC AUC, mean cross entropy in nats, top-3 accuracy.

    Args:
        targets: int64 `(samples,)`.
        probabilities: `(samples, classes)`.

    Returns:
        By name. ROC AUC (one class against the rest, averaged over the classes) is left out where
        a class is missing; top-3 accuracy where there are fewer than six classes.
    """
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    # float32 rows sum to 1 within 1e-6; scikit-learn asks for more of float64
    exact = probabilities.astype(np.float64)
    normalized = exact / exact.sum(axis=1, keepdims=True)
    found = {
        "accuracy": metrics.accuracy_score(targets, predicted),
        "f1_macro": metrics.f1_score(targets, predicted, average="macro", zero_division=0.0),
        "cross_entropy": metrics.log_loss(targets, normalized, labels=classes),
    }
    if len(np.unique(targets)) == len(classes):
        one_hot = np.eye(len(classes))[targets]
        found["roc_auc"] = metrics.roc_auc_score(one_hot, normalized, average="macro")
    if len(classes) >= 2 * TOP_K:
        found[f"top{TOP_K}_accuracy"] = metrics.top_k_accuracy_score(
            targets, normalized, k=TOP_K, labels=classes
        )
    return _floats(found)


def label_metrics(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return what fits samples with any number of labels.

    Args:
        targets: 0 or 1, `(samples, labels)`.
        probabilities: `(samples, labels)`.

    Returns:
        `exact_match`, the share of samples with every label right at a threshold of one half;
        F1 averaged over labels and over all decisions; binary cross entropy in nats; ROC AUC,
        left out where a label is always or never set.
    """
    predicted = probabilities >= 0.5
    exact = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    found = {
        "exact_match": (predicted == (targets == 1)).all(axis=1).mean(),
        "f1_macro": metrics.f1_score(targets, predicted, average="macro", zero_division=0.0),
        "f1_micro": metrics.f1_score(targets, predicted, average="micro", zero_division=0.0),
        "binary_cross_entropy": -np.where(targets == 1, np.log(exact), np.log(1 - exact)).mean(),
    }
    if ((targets.mean(axis=0) > 0) & (targets.mean(axis=0) < 1)).all():
        found["roc_auc"] = metrics.roc_auc_score(targets, probabilities, average="macro")
    return _floats(found)


def regression_metrics(targets: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Return mean absolute error, root of the mean squared error and R².

    Args:
        targets: `(samples, values)`.
        values: the same shape.
    """
    return _floats(
        {
            "mae": metrics.mean_absolute_error(targets, values),
            "rmse": metrics.root_mean_squared_error(targets, values),
            "r2": metrics.r2_score(targets, values),
        }
    )


def standard_error(task: str, targets: np.ndarray, answers: np.ndarray) -> float:
    """Return how far the score of `SCORES` may be off because so few samples were measured.

    Of accuracy, a share, that of Laplace's estimate: that all of a few were right must not look
    certain. Of others the standard deviation over samples drawn anew (Efron, 1979).

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        targets: as in `Dataset`.
        answers: the model's probabilities or values, `(samples, outputs)`.
    """
    count = len(targets)
    if task == "multiclass":
        share = ((answers.argmax(axis=1) == targets).sum() + 1) / (count + 2)
        return float(np.sqrt(share * (1 - share) / count))
    random = np.random.default_rng(0)
    drawn = (random.integers(count, size=count) for _ in range(_DRAWS))
    score = SCORES[task]
    scores = [measure(task, targets[i], answers[i])[score] for i in drawn]
    return float(np.std(scores, ddof=1))


def _floats(found: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}
