"""Evaluates a trained model beyond its scores: what the report says of classes, values, columns."""

from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from app.config.training_config import TrainingConfig
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.errors import ConfigError
from app.evaluation.baselines import (
    baseline_scorers,
    describe_shortfalls,
    linear_train,
    measure_lead,
    unclear_leads,
)
from app.evaluation.calibration import calibration_error, classwise_calibration_error
from app.evaluation.evaluations import lacking_labels
from app.evaluation.imbalance import describe_weighted, suggest_for_rare_class
from app.evaluation.importance import partial_dependence, permutation_importance
from app.evaluation.intervals import errors_by_decile, fit_intervals
from app.evaluation.metrics import class_scores, make_scorer, plain_score, value_scores
from app.evaluation.mistakes import confused_pairs, error_quantiles
from app.evaluation.probes import probe_features
from app.evaluation.thresholds import choose_thresholds, record_thresholds
from serving.decisions import decide
from serving.errors import first_few
from serving.manifest import TASKS

Scores = dict[str, float]
# By split: indices of some samples, int64 `(samples,)`, and their features `(samples, dimension)`.
Features = dict[str, tuple[np.ndarray, np.ndarray]]
# Values of which the error by decile is shown.
_MAX_VALUES = 6


@dataclass(frozen=True)
class Predictions:
    """What a trained model predicts for the samples of a run.

    Attributes:
        by_split: probabilities or values `(samples, outputs)`, by split.
        thresholds: threshold of each label; None for the default.
        problem: why no thresholds could be chosen; empty if they could.
        features: learned features of some samples; empty if the model has none.
    """

    by_split: dict[str, np.ndarray]
    thresholds: tuple[float, ...] | None
    problem: str
    features: Features


def try_thresholds(
    config: TrainingConfig, dataset: Dataset, splits: Splits, validation: np.ndarray
) -> tuple[tuple[float, ...] | None, str]:
    """Return the thresholds that the settings ask for, or why they cannot be chosen.

    A model that is trained is not thrown away because its precision is lower than hoped.

    Args:
        config: settings of the training.
        dataset: the samples.
        splits: indices of the splits.
        validation: predictions for the validation split, `(samples, outputs)`.
    """
    try:
        return choose_thresholds(config.threshold, dataset, splits.validation, validation), ""
    except ConfigError as error:
        return None, str(error)


def evaluate(
    config: TrainingConfig,
    dataset: Dataset,
    splits: Splits,
    model: keras.Model,
    predictions: Predictions,
    scores: Scores,
) -> dict[str, Any]:
    """Return the content of a run's `evaluation.json`.

    Args:
        config: settings of the training.
        dataset: the samples.
        splits: indices of the splits.
        model: the trained model.
        predictions: what it predicts.
        scores: its metrics on the test split.

    Returns:
        `baselines`, see `app.evaluation.baselines`; `shortfalls`, how many of the warnings are
        about them; `unclear_leads`, by how much the model leads over those to which the difference
        may be chance, by `plain_score`; lines of text, `warnings` and `hints`; for classes and
        labels `classes` and `thresholds`; for classes `confusions`; `positive`, the positive one of
        two classes; for values `values`, the scores of each, `error_quantiles`,
        `errors_by_decile` and `intervals`; for rows
        `linear_samples`, how many the linear model was trained on, `importance` and
        `partial_dependence`; for images `probes`. What does not apply is left out.
    """
    validation, test = predictions.by_split["validation"], predictions.by_split["test"]
    targets, thresholds = dataset.targets[splits.test], predictions.thresholds
    scorers = baseline_scorers(dataset, splits)
    baselines = {name: scorer(np.ones(len(targets))) for name, scorer in scorers.items()}
    ours = make_scorer(dataset.task, targets, test, thresholds, dataset.positive)
    lead = measure_lead(ours, scorers, len(targets), test.shape[-1])
    shortfalls = describe_shortfalls(
        dataset, splits.train, scores, baselines, thresholds is not None, lead
    )
    warnings = [*shortfalls]
    shown = plain_score(dataset.task, scores)
    leads = unclear_leads(shown, scores, baselines, lead, len(targets))
    found: dict[str, Any] = {
        "baselines": baselines,
        "shortfalls": len(shortfalls),
        "unclear_leads": {name: asdict(one) for name, one in leads.items()},
    }
    if dataset.task == "regression":
        found |= _evaluate_values(dataset, splits, validation, test)
        if "intervals" not in found:
            warnings.append(
                "intervals need 9 validation samples. "
                f"Received: {len(splits.validation)}, so the model has none"
            )
    else:
        found |= _evaluate_classes(dataset, targets, test, thresholds)
        warnings += _describe_unseen(dataset, splits)
        if thresholds is not None:
            record = record_thresholds(config.threshold, thresholds, dataset, splits, test)
            found["thresholds"] = asdict(record)
    if dataset.positive is not None:
        found["positive"] = dataset.positive_label
    if predictions.problem:
        warnings.append(f"{predictions.problem} The threshold of this run is 0.5")
    hints = (
        suggest_for_rare_class(config, dataset, splits, validation),
        describe_weighted(config, dataset, splits, test),
    )
    found |= {"warnings": warnings, "hints": list(filter(None, hints))}
    if dataset.kind == "rows":
        found["linear_samples"] = len(linear_train(dataset, splits.train))
        importance = permutation_importance(model, dataset, splits.test, scores, thresholds)
        names = [column["name"] for column in importance["columns"]]
        dependence = partial_dependence(model, dataset, splits.test, names)
        found |= {"importance": importance, "partial_dependence": dependence}
    elif predictions.features:
        train, tested = (
            (rows, dataset.targets[indices])
            for indices, rows in (predictions.features[name] for name in ("train", "test"))
        )
        found["probes"] = asdict(probe_features(dataset.task, train, tested))
    return found


def _evaluate_classes(
    dataset: Dataset, targets: np.ndarray, test: np.ndarray, thresholds: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "classes": class_scores(targets, test, dataset.labels, thresholds),
        "calibration": {
            "ece": calibration_error(test, targets),
            "classwise_ece": classwise_calibration_error(test, targets),
        },
    }
    if dataset.task == "multiclass":
        predicted = decide(dataset.task, test, thresholds)
        found["confusions"] = confused_pairs(targets, predicted, dataset.labels)
    return found


def _describe_unseen(dataset: Dataset, splits: Splits) -> list[str]:
    """Name the classes and labels that no sample of a split has that something is measured on."""
    lines = []
    for split in ("test", "validation"):
        indices = getattr(splits, split)
        unseen = lacking_labels(dataset, indices)
        if unseen and len(indices):
            fix = f"add samples, or leave rare {TASKS[dataset.task]} out"
            lines.append(f"no {split} sample has {first_few(unseen)}: {fix}")
    return lines


def _evaluate_values(
    dataset: Dataset, splits: Splits, validation: np.ndarray, test: np.ndarray
) -> dict[str, Any]:
    targets = dataset.targets[splits.test]
    found: dict[str, Any] = {
        "values": value_scores(targets, test, dataset.labels),
        "error_quantiles": error_quantiles(targets, test, dataset.labels),
        "errors_by_decile": {
            label: errors_by_decile(targets[:, number], test[:, number])
            for number, label in enumerate(dataset.labels[:_MAX_VALUES])
        },
    }
    intervals = fit_intervals(dataset, splits, validation, test)
    return found if intervals is None else {**found, "intervals": asdict(intervals)}
