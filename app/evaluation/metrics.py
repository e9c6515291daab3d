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
from serving.decisions import decide
from serving.parity import count_samples, take_samples

# Name of the output that is compared with the targets, by task.
OUTPUTS = {"multiclass": "probabilities", "multilabel": "probabilities", "regression": "values"}
# The main score of each task.
SCORES = {"multiclass": "accuracy", "multilabel": "f1_macro", "regression": "r2"}
TOP_K = 3
# The average precision of more classes would take longer than it is worth.
_MAX_RANKED = 100
_BOOTSTRAPS = 200


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
        outputs = _run(model, dataset.model_inputs(indices[chunk]))
        for name, is_kept in kept.items():
            parts[name].append(outputs[name][is_kept[chunk]])
    return {name: np.concatenate(rows) for name, rows in parts.items()}


@keras_defaults()
def predict_rows(model: keras.Model, task: str, inputs: Any) -> np.ndarray:
    """Return the model's probabilities or values for inputs, float32 `(samples, outputs)`.

    Args:
        model: the model.
        task: `multiclass`, `multilabel` or `regression`.
        inputs: see `app.data.datasets.Dataset.model_inputs`.
    """
    # Batches of one size: Keras would trace the model again for each size of the last batch.
    count = count_samples(inputs)
    filled = np.minimum(np.arange(-(-count // CHUNK) * CHUNK), count - 1)
    taken: Any = take_samples(inputs, filled)
    predictions: np.ndarray = _run(model, taken, CHUNK)[OUTPUTS[task]][:count]
    return predictions


def _run(model: keras.Model, inputs: Any, batch_size: int = 256) -> dict[str, np.ndarray]:
    outputs: dict[str, np.ndarray] = model.predict(
        _tensors(inputs), batch_size=batch_size, verbose=0
    )
    return outputs


def _tensors(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()}
    is_text = inputs.dtype == object
    return keras.ops.convert_to_tensor(inputs) if is_text else inputs


def measure(
    task: str,
    targets: np.ndarray,
    predictions: np.ndarray,
    thresholds: Sequence[float] | None = None,
    positive: int | None = None,
) -> dict[str, float]:
    """Return the metrics of a split.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        targets: as in `Dataset`.
        predictions: probabilities or values, `(samples, outputs)`.
        thresholds: see `serving.decisions.decide`.
        positive: see `app.data.datasets.Dataset.positive`; None means the second of two classes.

    Raises:
        RunError: a prediction is not finite.
    """
    if not np.isfinite(predictions).all():  # the very last training step can cause this
        raise RunError(
            "The model's predictions must be finite. Received: NaN or infinity. "
            "Lower optimizer.learning_rate, or set optimizer.clip_norm=1."
        )
    if task == "multiclass":
        return classification_metrics(targets, predictions, thresholds, positive)
    if task == "multilabel":
        return label_metrics(targets, predictions, thresholds)
    return regression_metrics(targets, predictions)


def classification_metrics(
    targets: np.ndarray,
    probabilities: np.ndarray,
    thresholds: Sequence[float] | None = None,
    positive: int | None = None,
) -> dict[str, float]:
    """Return accuracy, macro-averaged F1, mean cross entropy in nats, and metrics of the ranking.

    Args:
        targets: int64 `(samples,)`.
        probabilities: `(samples, classes)`.
        thresholds: see `serving.decisions.decide`.
        positive: index of the positive one of two classes; None means the second.

    Returns:
        Scores by name. ROC AUC and average precision are those of one class against the rest: of
        the positive one of two classes, averaged over three or more. They come first for two
        classes, of which one may be rare, and are left out if a class is missing. Top-3 accuracy is
        left out if there are fewer than six classes.
    """
    predicted = decide("multiclass", probabilities, thresholds)
    classes = np.arange(probabilities.shape[1])
    # float32 rows sum to 1 within 1e-6, which is not enough for scikit-learn
    exact = probabilities.astype(np.float64)
    normalized = exact / exact.sum(axis=1, keepdims=True)
    found = {
        "accuracy": metrics.accuracy_score(targets, predicted),
        "f1_macro": metrics.f1_score(targets, predicted, average="macro", zero_division=0.0),
        "cross_entropy": metrics.log_loss(targets, normalized, labels=classes),
    }
    # Of two classes, one column says it all.
    ranked = [1 if positive is None else positive] if len(classes) == 2 else classes
    ranking = _ranking_metrics(np.eye(len(classes))[targets][:, ranked], normalized[:, ranked])
    found = ranking | found if len(classes) == 2 else found | ranking
    if len(classes) >= 2 * TOP_K:
        found[f"top{TOP_K}_accuracy"] = metrics.top_k_accuracy_score(
            targets, normalized, k=TOP_K, labels=classes
        )
    return _floats(found)


def _ranking_metrics(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Return ROC AUC and average precision, averaged over the labels.

    They are left out if a label is always or never set, and average precision if there are many.

    Args:
        targets: 0 or 1, `(samples, labels)`.
        probabilities: `(samples, labels)`.
    """
    if not ((targets.mean(axis=0) > 0) & (targets.mean(axis=0) < 1)).all():
        return {}
    found = {"roc_auc": metrics.roc_auc_score(targets, probabilities, average="macro")}
    if targets.shape[1] <= _MAX_RANKED:
        found["average_precision"] = metrics.average_precision_score(targets, probabilities)
    return found


def label_metrics(
    targets: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float] | None = None
) -> dict[str, float]:
    """Return metrics for samples that may have any number of labels.

    Args:
        targets: 0 or 1, `(samples, labels)`.
        probabilities: `(samples, labels)`.
        thresholds: see `serving.decisions.decide`.

    Returns:
        Scores by name: `exact_match`, the fraction of samples whose labels are all right; F1
        averaged over labels (macro) and over all decisions (micro); binary cross entropy in nats;
        ROC AUC and average precision averaged over labels, left out if one is always or never set.
    """
    predicted = decide("multilabel", probabilities, thresholds)
    exact = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    found = {
        "exact_match": (predicted == (targets == 1)).all(axis=1).mean(),
        "f1_macro": metrics.f1_score(targets, predicted, average="macro", zero_division=0.0),
        "f1_micro": metrics.f1_score(targets, predicted, average="micro", zero_division=0.0),
        "binary_cross_entropy": -np.where(targets == 1, np.log(exact), np.log(1 - exact)).mean(),
    }
    return _floats(found | _ranking_metrics(targets, probabilities))


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
    targets: np.ndarray,
    predictions: np.ndarray,
    labels: Sequence[str],
    thresholds: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class or label, in ascending order of F1.

    Args:
        targets: classes `(samples,)`, or labels 0 and 1 `(samples, labels)`.
        predictions: probabilities `(samples, outputs)`.
        labels: name of each class or label.
        thresholds: see `serving.decisions.decide`.

    Returns:
        For each class its `name`, the number of `samples` that have it, and the scores. Precision
        is 0 if the class is never predicted, recall and F1 are 0 if no sample has it.
    """
    task = "multilabel" if targets.ndim > 1 else "multiclass"
    decided = decide(task, predictions, thresholds)
    found = metrics.precision_recall_fscore_support(
        targets, decided, labels=np.arange(len(labels)), zero_division=0.0
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


def compared_score(task: str, scores: Mapping[str, float]) -> str:
    """Return the name of the score by which models of a task are compared.

    For two classes, of which one may be rare, and for labels it is ROC AUC, if there is one.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        scores: scores of a model on the test split, from `measure`.
    """
    is_ranked = next(iter(scores)) == "roc_auc" or task == "multilabel"
    return "roc_auc" if is_ranked and "roc_auc" in scores else SCORES[task]


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
