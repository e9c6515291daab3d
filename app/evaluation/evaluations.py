"""Evaluates the predictions of a model that exists, trained here or not."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from app.data.datasets import Dataset
from serving.decisions import decide, describe_thresholds
from serving.errors import first_few
from serving.manifest import Manifest, ScoreInterval

from .calibration import (
    calibration_error,
    chance_calibration_errors,
    classwise_calibration_error,
    confidence_and_truth,
)
from .intervals import errors_by_decile
from .metrics import Scorer, class_scores, make_scorer, targets_vary, value_scores
from .mistakes import confused_pairs, error_quantiles
from .resampling import resample, score_intervals
from .thresholds import precision_and_recall

# Values of which the error by decile is shown.
_MAX_VALUES = 6


def scorer_of(
    manifest: Manifest, dataset: Dataset, indices: np.ndarray, predictions: np.ndarray
) -> Scorer:
    """Return the scorer of a model's predictions for the samples at `indices`."""
    return make_scorer(
        manifest.task,
        dataset.targets[indices],
        predictions,
        None if manifest.thresholds is None else manifest.thresholds.values,
        dataset.positive,
    )


def measure_with_intervals(
    scorer: Scorer, count: int, outputs: int
) -> tuple[dict[str, float], dict[str, ScoreInterval]]:
    """Return metrics and their intervals.

    Args:
        scorer: see `app.evaluation.metrics.make_scorer`.
        count: number of samples.
        outputs: number of outputs of the model.
    """
    scores = scorer(np.ones(count))
    (resamples,) = resample([scorer], count, outputs)
    return scores, score_intervals(scores, resamples, count)


def describe_interval(value: float, interval: ScoreInterval) -> dict[str, Any]:
    """Return a metric and its interval as JSON has them."""
    return {"value": value, **asdict(interval)}


def data_gaps(dataset: Dataset, indices: np.ndarray) -> dict[str, list[str]]:
    """Return what the data lacks, or does not make certain.

    `lacking` are the labels that no sample has, `left_out` is a reason for each such file, and
    `notes` are those of the data.

    Args:
        dataset: samples with the labels of a model.
        indices: those that are measured, int64 `(samples,)`.
    """
    return {
        "lacking": lacking_labels(dataset, indices),
        "left_out": list(dataset.skipped),
        "notes": [*dataset.notes, *_why_no_r2(dataset, indices)],
    }


def _why_no_r2(dataset: Dataset, indices: np.ndarray) -> list[str]:
    """Return a note on values for which R² is undefined, if there are any."""
    if dataset.task != "regression":
        return []
    if len(indices) < 2:
        return ["R² is undefined for a single sample."]
    varies = targets_vary(dataset.targets[indices])
    constant = [label for label, each in zip(dataset.labels, varies, strict=True) if not each]
    if not constant:
        return []
    them = "it" if len(constant) == 1 else "them"
    effect = f", and the mean leaves {them} out" if len(constant) < len(dataset.labels) else ""
    return [f"R² is undefined where the target is constant, {first_few(constant)}{effect}."]


def lacking_labels(dataset: Dataset, indices: np.ndarray) -> list[str]:
    """Return the classes or labels that no sample has."""
    if dataset.task == "regression":
        return []
    targets = dataset.targets[indices]
    counts = (
        np.bincount(targets, minlength=len(dataset.labels))
        if dataset.task == "multiclass"
        else targets.sum(axis=0)
    )
    return [label for label, count in zip(dataset.labels, counts, strict=True) if not count]


def evaluate_predictions(
    manifest: Manifest, dataset: Dataset, indices: np.ndarray, predictions: np.ndarray
) -> dict[str, Any]:
    """Return what is known about a model from its predictions for labeled samples.

    Args:
        manifest: manifest of the model.
        dataset: the samples, with the labels of the model.
        indices: those that were predicted, int64 `(samples,)`.
        predictions: probabilities or values for them, `(samples, outputs)`.

    Returns:
        `scores`, each with its interval; `positive`, the positive one of two classes, or None; what
        `data_gaps` returns; for classes and labels `classes`, `calibration` and, if the model has
        them, `thresholds` and `decisions`, a line on each that says what is predicted; for classes
        `confusions` and, if the model has one, `reject_option`; for values `values`, the scores of
        each, `error_quantiles`, `errors_by_decile` and, if the model has intervals, `coverage`.
    """
    targets, labels = dataset.targets[indices], manifest.labels
    scorer = scorer_of(manifest, dataset, indices, predictions)
    scores, intervals = measure_with_intervals(scorer, len(indices), len(labels))
    if manifest.task == "regression" and not targets_vary(targets).any():
        scores.pop("r2", None)
    found: dict[str, Any] = {
        "samples": len(indices),
        "scores": {name: describe_interval(v, intervals[name]) for name, v in scores.items()},
        "positive": dataset.positive_label,
        **data_gaps(dataset, indices),
    }
    if manifest.task == "regression":
        return found | _evaluate_values(manifest, targets, predictions)
    thresholds = None if manifest.thresholds is None else manifest.thresholds.values
    found["classes"] = class_scores(targets, predictions, labels, thresholds)
    found["calibration"] = calibration_of(targets, predictions)
    decided = decide(manifest.task, predictions, thresholds)
    if manifest.task == "multiclass":
        found["confusions"] = confused_pairs(targets, decided, labels)
    if manifest.thresholds is not None:
        precision, recall = precision_and_recall(decided, targets, len(labels))
        measured = replace(manifest.thresholds, precision=precision, recall=recall)
        found["decisions"] = describe_thresholds(measured, labels, "on these samples")
        found["thresholds"] = [
            {"label": label, "threshold": value, "precision": right, "recall": part}
            for label, value, right, part in zip(
                labels, manifest.thresholds.values, precision, recall, strict=True
            )
        ]
    if manifest.reject_option is not None:
        found["reject_option"] = _accepted(manifest.reject_option.threshold, targets, predictions)
    return found


def calibration_of(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return the calibration errors, and what a calibrated model would have by chance.

    `ece_by_chance` is its mean error, `ece_by_chance_95` what 95% of its errors are at most.
    """
    confidences, is_right = confidence_and_truth(probabilities, targets)
    by_chance = chance_calibration_errors(confidences)
    return {
        "ece": calibration_error(probabilities, targets),
        "classwise_ece": classwise_calibration_error(probabilities, targets),
        "ece_by_chance": float(by_chance.mean()),
        "ece_by_chance_95": float(np.quantile(by_chance, 0.95)),
        "mean_confidence": float(confidences.mean()),
        "right": float(is_right.mean()),
    }


def _accepted(threshold: float, targets: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
    confidences, is_right = confidence_and_truth(predictions, targets)
    accepted = confidences >= threshold
    accuracy = float(is_right[accepted].mean()) if accepted.any() else None
    return {"threshold": threshold, "coverage": float(accepted.mean()), "accuracy": accuracy}


def _evaluate_values(manifest: Manifest, targets: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    named: Sequence[str] = manifest.labels[:_MAX_VALUES]
    found: dict[str, Any] = {
        "values": value_scores(targets, values, manifest.labels),
        "error_quantiles": error_quantiles(targets, values, manifest.labels),
        "errors_by_decile": {
            label: errors_by_decile(targets[:, n], values[:, n]) for n, label in enumerate(named)
        },
    }
    if manifest.intervals is not None:
        reach = np.asarray(manifest.intervals.half_widths)
        inside = (np.abs(targets.astype(np.float64) - values) <= reach).mean(axis=0)
        found["coverage"] = dict(zip(manifest.labels, inside.tolist(), strict=True))
    return found
