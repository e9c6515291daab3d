"""Measures a trained model on a split, with metrics that suit its task."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from sklearn import metrics

from app.data.arrays import CHUNK
from app.data.datasets import Dataset
from app.errors import RunError
from app.system.keras_defaults import keras_defaults

# Name of the output that is compared with the targets, by task.
OUTPUTS = {"multiclass": "probabilities", "multilabel": "probabilities", "regression": "values"}
# The main score of each task.
SCORES = {"multiclass": "accuracy", "multilabel": "f1_macro", "regression": "r2"}
TOP_K = 3
_NAMES = {
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "mae": "mean absolute error",
    "r2": "R²",
    "rmse": "root mean squared error",
    "roc_auc": "ROC AUC",
    f"top{TOP_K}_accuracy": f"top-{TOP_K} accuracy",
}
_BOOTSTRAPS = 200


def metric_name(metric: str) -> str:
    """Return the name of a metric for people, such as `macro F1` for `f1_macro`."""
    return _NAMES.get(metric, metric.replace("_", " "))


def describe_scores(scores: dict[str, float]) -> str:
    """Return scores by metric as text, such as `accuracy 0.9734, macro F1 0.9731`."""
    return ", ".join(f"{metric_name(metric)} {score:.4f}" for metric, score in scores.items())


def predict_samples(model: keras.Model, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Return the model's probabilities or values, float32 `(samples, outputs)`."""
    name = OUTPUTS[dataset.task]
    return predict_outputs(model, dataset, indices, {name: np.ones(len(indices), bool)})[name]


@keras_defaults()
def predict_outputs(
    model: keras.Model, dataset: Dataset, indices: np.ndarray, kept: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return outputs of the model for the samples at `indices`, float32 `(samples, …)` by name.

    Args:
        model: the model.
        dataset: the samples.
        indices: int64 `(samples,)`.
        kept: names of outputs, and of which samples to keep each, bool `(samples,)`. The others
            take no memory.
    """
    # The whole model is used, since Keras would have to trace a separate model for each output.
    parts: dict[str, list[np.ndarray]] = {name: [] for name in kept}
    for start in range(0, len(indices), CHUNK):
        chunk = slice(start, start + CHUNK)
        inputs = _tensors(dataset.model_inputs(indices[chunk]))
        outputs = model.predict(inputs, batch_size=256, verbose=0)
        for name, is_kept in kept.items():
            parts[name].append(outputs[name][is_kept[chunk]])
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def _tensors(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()}
    is_text = inputs.dtype == object
    return keras.ops.convert_to_tensor(inputs) if is_text else inputs


def measure(task: str, targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Return the metrics of a split.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        targets: as in `Dataset`.
        predictions: probabilities or values, `(samples, outputs)`.

    Raises:
        RunError: a prediction is not finite.
    """
    if not np.isfinite(predictions).all():  # the very last training step can cause this
        raise RunError(
            "The model's predictions must be finite. Received: NaN or infinity. "
            "Lower optimizer.learning_rate, or set optimizer.clip_norm=1."
        )
    return {
        "multiclass": classification_metrics,
        "multilabel": label_metrics,
        "regression": regression_metrics,
    }[task](targets, predictions)


def classification_metrics(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return accuracy, macro-averaged F1, ROC AUC, mean cross entropy in nats, top-3 accuracy.

    Args:
        targets: int64 `(samples,)`.
        probabilities: `(samples, classes)`.

    Returns:
        Scores by name. ROC AUC (one class against the rest, averaged over the classes) is left
        out if a class is missing, top-3 accuracy if there are fewer than six classes.
    """
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    # float32 rows sum to 1 within 1e-6, which is not enough for scikit-learn
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
    """Return metrics for samples that may have any number of labels.

    Args:
        targets: 0 or 1, `(samples, labels)`.
        probabilities: `(samples, labels)`.

    Returns:
        Scores by name: `exact_match`, the fraction of samples whose labels are all right at a
        threshold of 0.5; F1 averaged over labels (macro) and over all decisions (micro);
        binary cross entropy in nats; ROC AUC, left out if a label is always or never set.
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
    """Return mean absolute error, root mean squared error and R².

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


def class_scores(
    targets: np.ndarray, predictions: np.ndarray, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class or label, in ascending order of F1.

    Args:
        targets: classes `(samples,)`, or labels 0 and 1 `(samples, labels)`.
        predictions: probabilities `(samples, outputs)`.
        labels: name of each class or label.

    Returns:
        For each class its `name`, the number of `samples` that have it, and the scores. Precision
        is 0 if the class is never predicted, recall and F1 are 0 if no sample has it.
    """
    is_set = predictions >= 0.5 if targets.ndim > 1 else predictions.argmax(axis=1)
    found = metrics.precision_recall_fscore_support(
        targets, is_set, labels=np.arange(len(labels)), zero_division=0.0
    )
    names = ("precision", "recall", "f1")
    rows = [
        {
            "name": label,
            "samples": int(samples),
            **dict(zip(names, map(float, scores), strict=True)),
        }
        for label, *scores, samples in zip(labels, *found, strict=True)
    ]
    return sorted(rows, key=lambda row: row["f1"])


def standard_error(task: str, targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the standard error of the main score, which depends on the number of samples.

    For accuracy it is that of Laplace's estimate, which stays above 0 if all of a few predictions
    are right. For other scores it is the standard deviation over bootstrap samples (Efron, 1979).

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        targets: as in `Dataset`.
        predictions: probabilities or values, `(samples, outputs)`.
    """
    count = len(targets)
    if task == "multiclass":
        accuracy = ((predictions.argmax(axis=1) == targets).sum() + 1) / (count + 2)
        return float(np.sqrt(accuracy * (1 - accuracy) / count))
    random = np.random.default_rng(0)
    drawn = (random.integers(count, size=count) for _ in range(_BOOTSTRAPS))
    score = SCORES[task]
    scores = [measure(task, targets[i], predictions[i])[score] for i in drawn]
    return float(np.std(scores, ddof=1))


def _floats(found: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}
