"""Simple models on the same split, which a net must beat: a constant, and a linear model."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from app.data.datasets import Dataset
from app.data.splits import Splits, some
from serving.written_numbers import metric_name

from .estimates import Estimate
from .linear_models import fit_linear
from .metrics import Scorer, compared_score, make_scorer
from .resampling import PROPORTIONS, Resamples, difference_estimate, resample

Scores = dict[str, dict[str, float]]
# How much better the model is than a baseline by a metric.
Lead = Callable[[str, str], Estimate]
# What is closer to 0 is 0 but for rounding.
_ROUNDING = 1e-5
# Training rows times columns times classes of the linear model: some two seconds.
_MAX_CELLS = 5_000_000
_MIN_TRAIN = 1000
# Texts of a column that have a column each; the rare ones share one.
_MAX_CATEGORIES = 100


def baseline_scorers(dataset: Dataset, splits: Splits) -> dict[str, Scorer]:
    """Return what scores simple models on the test split, see `app.evaluation.metrics.make_scorer`.

    `constant` always predicts how common each class or label is in the training split, or the mean
    of its values. `linear`, for rows only, is a logistic regression, or a ridge regression of
    values, of scikit-learn with its defaults.
    """
    task, targets = dataset.task, dataset.targets
    constant = constant_prediction(dataset, splits.train)
    predictions = {"constant": np.tile(constant, (len(splits.test), 1))}
    if dataset.kind == "rows":
        predictions["linear"] = _linear_predictions(dataset, splits)
    return {
        name: make_scorer(task, targets[splits.test], found, positive=dataset.positive)
        for name, found in predictions.items()
    }


def measure_lead(model: Scorer, baselines: dict[str, Scorer], count: int, outputs: int) -> Lead:
    """Return a function from a baseline and a metric to the lead of a model, with its interval.

    The interval is that of a paired bootstrap of the test samples.

    Args:
        model: scores the model on the test split.
        baselines: see `baseline_scorers`.
        count: number of test samples.
        outputs: number of outputs of the model.
    """

    @cache
    def measured(baseline: str) -> tuple[list[dict[str, float]], list[Resamples]]:
        pair = (baselines[baseline], model)
        return [scorer(np.ones(count)) for scorer in pair], resample(pair, count, outputs)

    return lambda baseline, metric: difference_estimate(metric, *measured(baseline))


def unclear_leads(
    metric: str, scores: dict[str, float], baselines: Scores, lead: Lead, count: int
) -> dict[str, Estimate]:
    """Return by how much a model leads over baselines, where that may be chance.

    Args:
        metric: the metric that is compared.
        scores: metrics of the model on the test split.
        baselines: metrics of the baselines, by name.
        lead: see `measure_lead`.
        count: number of test samples.
    """
    # The interval of a paired difference of proportions reaches no further than this.
    most = 2 / math.sqrt(count) if metric in PROPORTIONS else math.inf
    found = {
        name: lead(name, metric)
        for name, others in baselines.items()
        if metric in others and abs(scores[metric] - others[metric]) < most
    }
    return {name: one for name, one in found.items() if one.low <= 0 <= one.high}


def constant_prediction(dataset: Dataset, train: np.ndarray) -> np.ndarray:
    """Return the best constant prediction of the training targets, float64 `(outputs,)`."""
    targets = dataset.targets[train]
    if dataset.task == "multiclass":
        return np.bincount(targets, minlength=len(dataset.labels)) / len(targets)
    return np.asarray(targets.mean(axis=0, dtype=np.float64))


def describe_shortfalls(
    dataset: Dataset,
    train: np.ndarray,
    scores: dict[str, float],
    baselines: Scores,
    has_thresholds: bool = False,
    lead: Lead | None = None,
) -> list[str]:
    """Return a line for each baseline that a model does not beat.

    Classes are compared with the most common one by accuracy, unless a chosen threshold trades
    accuracy for something else. The line of a difference whose interval contains 0 says so.

    Args:
        dataset: the samples.
        train: indices of the training split.
        scores: metrics of the model on the test split.
        baselines: metrics of the baselines, by name.
        has_thresholds: whether thresholds other than the default were chosen.
        lead: see `measure_lead`; None says nothing about chance.
    """
    name = compared_score(dataset.task, scores)
    if dataset.task == "multiclass":
        label = dataset.labels[int(constant_prediction(dataset, train).argmax())]
        metric = name if has_thresholds else "accuracy"
        rivals = [(metric, "constant", f'always answering "{label}", ')]
    else:
        is_value = dataset.task == "regression"
        what = "the mean of training" if is_value else "how common each label is in training"
        rivals = [(name, "constant", f"always answering {what}, ")]
    rivals.append((name, "linear", "the linear model's "))
    return [
        _describe_shortfall(metric_name(metric), scores[metric], rival, baselines[key][metric])
        + ("" if lead is None else _describe_chance(lead(key, metric)))
        for metric, key, rival in rivals
        if metric in baselines.get(key, {}) and scores[metric] <= baselines[key][metric]
        if key == "constant" or scores[metric] < 1  # nothing is better than perfect
    ]


def _describe_shortfall(metric: str, score: float, rival: str, other: float) -> str:
    if score == other:
        return f"{metric} {score:z.3f} is no better than {rival}{other:z.3f}"
    # Neither may look like the other, nor like 0 unless it is 0 but for rounding.
    is_near_0 = min(abs(score), abs(other)) < _ROUNDING
    values = (score, other) if is_near_0 else (score, other, 0.0)
    digits = next(
        (n for n in range(3, 6) if len({round(value, n) for value in values}) == len(values)), 6
    )
    return f"{metric} {score:z.{digits}f} is below {rival}{other:z.{digits}f}"


def _describe_chance(lead: Estimate) -> str:
    if lead.value == 0 or not lead.low <= 0 <= lead.high:
        return ""
    interval = f"{lead.low:+.3f} to {lead.high:+.3f}"
    return f"; the difference may be chance, since its 95% interval is {interval}"


def linear_train(dataset: Dataset, train: np.ndarray) -> np.ndarray:
    """Return the indices of the training samples that the linear model is trained on."""
    columns = len(dataset.columns) + len(dataset.string_columns)
    outputs = len(dataset.labels) if dataset.positive is None else 1
    most = max(_MIN_TRAIN, _MAX_CELLS // (columns * outputs))
    return np.asarray(train[some(len(train), most)])


def _linear_predictions(dataset: Dataset, splits: Splits) -> np.ndarray:
    """Return the predictions of the linear model for the test split, `(samples, outputs)`."""
    train = linear_train(dataset, splits.train)
    model = _encoder(len(dataset.columns), len(dataset.string_columns))
    rows, tested = (_table(dataset, indices) for indices in (train, splits.test))
    return _fit_and_predict(dataset, train, model.fit_transform(rows), model.transform(tested))


def _table(dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Return the numbers, and the codes of texts, of the samples at `indices`, float64."""
    parts = [dataset.inputs[indices]]
    if dataset.codes is not None:
        parts.append(dataset.codes[indices])
    return np.concatenate(parts, axis=1, dtype=np.float64)


def _encoder(num_columns: int, num_texts: int) -> Any:
    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
    )
    texts = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=_MAX_CATEGORIES, dtype=np.float64
    )
    parts: list[tuple[str, Pipeline | OneHotEncoder, Sequence[int]]] = [
        ("numbers", numbers, range(num_columns)),
        ("texts", texts, range(num_columns, num_columns + num_texts)),
    ]
    return ColumnTransformer([(name, step, list(places)) for name, step, places in parts if places])


def _fit_and_predict(dataset: Dataset, train: np.ndarray, rows: Any, tested: Any) -> np.ndarray:
    weights, biases = fit_linear(dataset.task, rows, dataset.targets[train], len(dataset.labels))
    found: np.ndarray = np.asarray(tested @ weights) + biases
    if dataset.task == "multiclass":
        found = softmax(found, axis=1)
    elif dataset.task == "multilabel":
        found = expit(found)
    return found
