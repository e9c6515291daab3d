"""Measures predictions with metrics that suit their task. Nothing here imports Keras."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from app.errors import RunError
from serving.decisions import decide

# Name of the output that is compared with the targets, by task.
OUTPUTS = {"multiclass": "probabilities", "multilabel": "probabilities", "regression": "values"}
# The main score of each task.
SCORES = {"multiclass": "accuracy", "multilabel": "f1_macro", "regression": "r2"}
TOP_K = 3
# From the weights of samples, `(samples,)` or `(resamples, samples)`, to metrics by name.
Scorer = Callable[[np.ndarray], dict[str, Any]]
# Smaller probabilities count as this one in cross entropy, as in scikit-learn.
_EPSILON = float(np.finfo(np.float64).eps)
# To rank the samples by each of more classes, in each resample, would take minutes.
_MAX_RANKED = 100
# A smaller spread, relative to the mean, is rounding: targets are float32.
_CONSTANT = 1e-12
_BOOTSTRAPS = 200
# Weights that are scored at once: more would leave the cache of a processor.
_WEIGHTS_AT_ONCE = 10_000


def measure(
    task: str,
    targets: np.ndarray,
    predictions: np.ndarray,
    thresholds: Sequence[float] | None = None,
    positive: int | None = None,
    remedy: str = "Lower optimizer.learning_rate, or set optimizer.clip_norm=1.",
) -> dict[str, float]:
    """Return the metrics of a split, see `make_scorer`.

    The error ends with `remedy`, see `app.config.training_config.OptimizerConfig.remedy`.

    Raises:
        RunError: a prediction is not finite.
    """
    if not np.isfinite(predictions).all():  # the very last training step can cause this
        raise RunError(
            f"The model's predictions must be finite. Received: NaN or infinity. {remedy}"
        )
    return make_scorer(task, targets, predictions, thresholds, positive)(np.ones(len(targets)))


def make_scorer(
    task: str,
    targets: np.ndarray,
    predictions: np.ndarray,
    thresholds: Sequence[float] | None = None,
    positive: int | None = None,
) -> Scorer:
    """Return a function from the weights of samples, float64 `(samples,)`, to metrics by name.

    Weights of 1 give the metrics themselves, and counts of how often each sample was drawn those of
    a resample. Weights `(resamples, samples)` give metrics `(resamples,)`, many times faster than
    one resample after the other. What can be done once, such as ranking the samples, is done here.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        targets: as in `Dataset`.
        predictions: probabilities or values, `(samples, outputs)`.
        thresholds: see `serving.decisions.decide`.
        positive: see `app.data.datasets.Dataset.positive`; None means the second of two classes.
    """
    exact = predictions.astype(np.float64)
    if task == "multiclass":
        return _class_scorer(targets, exact, decide(task, predictions, thresholds), positive)
    if task == "multilabel":
        return _label_scorer(targets == 1, exact, decide(task, predictions, thresholds))
    return _value_scorer(targets.astype(np.float64), exact)


def _class_scorer(
    targets: np.ndarray, exact: np.ndarray, predicted: np.ndarray, positive: int | None
) -> Scorer:
    """Score classes: accuracy, macro-averaged F1, mean cross entropy in nats, and the ranking.

    F1 is averaged over the classes that are a target or predicted. ROC AUC and average precision
    are those of one class against the rest: of the positive one of two classes, averaged over three
    or more. They come first for two classes, of which one may be rare, and are left out if a class
    is missing, or there are many. Top-3 accuracy is left out if there are fewer than six classes.
    """
    count = exact.shape[1]
    # float32 rows sum to 1 within 1e-6 only
    normalized = exact / exact.sum(axis=1, keepdims=True)
    own = normalized[np.arange(len(targets)), targets]
    losses = -np.log(np.clip(own, _EPSILON, 1 - _EPSILON))
    is_right = predicted == targets
    # Of two classes, one column says it all.
    ranked = [1 if positive is None else positive] if count == 2 else slice(None)
    rank = _ranking_scorer(np.eye(count, dtype=bool)[targets][:, ranked], normalized[:, ranked])
    # Of equal probabilities, the later one counts as higher.
    is_later = np.arange(count) > targets[:, np.newaxis]
    is_higher = np.where(
        is_later, normalized >= own[:, np.newaxis], normalized > own[:, np.newaxis]
    )
    is_near = is_higher.sum(axis=1) < TOP_K

    def score(weights: np.ndarray) -> dict[str, Any]:
        sums = [
            sum_by_class(weights, classes, count + 1)[..., :count]
            for classes in (targets, predicted, np.where(is_right, targets, count))
        ]
        found = {
            "accuracy": _mean(is_right, weights),
            "f1_macro": _f1(sums[2], sums[0] + sums[1], are_all=False),
            "cross_entropy": _mean(losses, weights),
        }
        found = rank(weights) | found if count == 2 else found | rank(weights)
        if count >= 2 * TOP_K:
            found[f"top{TOP_K}_accuracy"] = _mean(is_near, weights)
        return found

    return score


def _label_scorer(truth: np.ndarray, exact: np.ndarray, decided: np.ndarray) -> Scorer:
    """Score labels: `exact_match`, the fraction of samples whose labels are all right, and others.

    These are F1 averaged over labels (macro) and over all decisions (micro), binary cross entropy
    in nats, and ROC AUC and average precision averaged over labels, which are left out if a label
    is always or never set, or there are many.
    """
    clipped = np.clip(exact, 1e-7, 1 - 1e-7)
    losses = -np.log(np.where(truth, clipped, 1 - clipped)).mean(axis=1)
    is_exact = (decided == truth).all(axis=1)
    rights, sums = (truth & decided).astype(float), truth.astype(float) + decided
    rank = _ranking_scorer(truth, exact)

    def score(weights: np.ndarray) -> dict[str, Any]:
        right, total = weights @ rights, weights @ sums
        return {
            "exact_match": _mean(is_exact, weights),
            "f1_macro": _f1(right, total, are_all=True),
            "f1_micro": _plain(2 * right.sum(axis=-1) / np.maximum(total.sum(axis=-1), 1)),
            "binary_cross_entropy": _mean(losses, weights),
            **rank(weights),
        }

    return score


def _value_scorer(targets: np.ndarray, values: np.ndarray) -> Scorer:
    """Score values: mean absolute error, root mean squared error and R², averaged over values.

    R² is left out for a single sample. Its mean is over the values whose targets vary. If none
    does, it is 1 if all are exact, else 0, since a training needs a score.
    """
    errors = targets - values
    absolute, squared = np.abs(errors).mean(axis=1), errors**2
    counted = targets_vary(targets)
    if not counted.any():
        counted = np.ones_like(counted)

    def score(weights: np.ndarray) -> dict[str, Any]:
        share = weights / weights.sum(axis=-1, keepdims=True)
        mse = share @ squared
        found = {"mae": _plain(share @ absolute), "rmse": _plain(np.sqrt(mse).mean(axis=-1))}
        if len(targets) < 2:
            return found
        means = (share @ targets)[..., np.newaxis, :]  # (1, values), or one for each resample
        spread = np.einsum("...s,...sv->...v", share, (targets - means) ** 2)
        # The mean of equal targets may be off by rounding, and their spread must not divide.
        varies = spread > (_CONSTANT * means[..., 0, :]) ** 2
        r2 = np.where(varies, 1 - mse / np.where(varies, spread, 1), mse == 0)
        return {**found, "r2": _plain(r2[..., counted].mean(axis=-1))}

    return score


def targets_vary(targets: np.ndarray) -> np.ndarray:
    """Return which values have different targets, by more than rounding; R² needs that.

    Args:
        targets: float `(samples, values)`.

    Returns:
        bool `(values,)`.
    """
    exact = targets.astype(np.float64)
    varies: np.ndarray = exact.var(axis=0) > (_CONSTANT * exact.mean(axis=0)) ** 2
    return varies


def _ranking_scorer(truth: np.ndarray, scores: np.ndarray) -> Scorer:
    """Score the ranking of samples by each label: ROC AUC and average precision, averaged.

    They are left out if a label is always or never set, or if there are many labels. In a resample
    where a label is always or never set, they are NaN.

    Args:
        truth: bool `(samples, labels)`.
        scores: `(samples, labels)`.
    """
    is_varied = truth.any(axis=0) & ~truth.all(axis=0)
    if truth.shape[1] > _MAX_RANKED or not is_varied.all():
        return lambda _: {}
    orders = np.argsort(-scores, axis=0, kind="stable").T
    ranked = []
    for label, order in enumerate(orders):
        falling = scores[order, label]
        # Samples of equal probability have one place.
        ends = np.flatnonzero(np.append(falling[:-1] != falling[1:], True))
        ranked.append((order, truth[order, label], ends))

    def score(weights: np.ndarray) -> dict[str, Any]:
        curves = [
            _areas(weights.take(order, axis=-1), is_true, ends) for order, is_true, ends in ranked
        ]
        auc, precision = (_plain(np.mean(areas, axis=0)) for areas in zip(*curves, strict=True))
        return {"roc_auc": auc, "average_precision": precision}

    return score


def _areas(weights: np.ndarray, is_true: np.ndarray, ends: np.ndarray) -> tuple[Any, Any]:
    """Return the areas under the ROC curve and under the precision-recall curve."""
    taken = np.cumsum(weights, axis=-1).take(ends, axis=-1)
    hits = np.cumsum(weights * is_true, axis=-1).take(ends, axis=-1)
    positives, negatives = hits[..., -1], taken[..., -1] - hits[..., -1]
    misses = taken - hits
    gained, lost = hits.copy(), misses.copy()
    gained[..., 1:] -= hits[..., :-1]
    lost[..., 1:] -= misses[..., :-1]
    pairs = positives * negatives
    unknown = np.where(pairs > 0, 1.0, np.nan)  # without a positive and a negative sample
    auc = np.sum(lost * (hits - gained / 2), axis=-1) / np.where(pairs > 0, pairs, 1)
    gains = np.sum(gained * (hits / np.maximum(taken, 1)), axis=-1)
    precision = gains / np.where(positives > 0, positives, 1)
    return auc * unknown, precision * unknown


def sum_by_class(weights: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Return the sums of weights `(…, samples)` over the samples of each class, `(…, count)`."""
    rows = weights.reshape(-1, weights.shape[-1])
    cells = classes + count * np.arange(len(rows))[:, np.newaxis]
    sums = np.bincount(cells.ravel(), rows.ravel(), count * len(rows))
    return sums.reshape(*weights.shape[:-1], count)


def _plain(values: Any) -> Any:
    """Return a single value as a number, and several as they are."""
    return values if np.ndim(values) else float(values)


def _mean(values: np.ndarray, weights: np.ndarray) -> Any:
    return _plain(weights @ values / weights.sum(axis=-1))


def _f1(right: np.ndarray, total: np.ndarray, are_all: bool) -> Any:
    """Return the mean F1 of classes, given how often each is right, and a target or predicted.

    Those that never are count as 0 if `are_all`, and are left out otherwise.
    """
    f1 = 2 * right / np.maximum(total, 1)  # 0 for those that never are
    return _plain(f1.mean(-1) if are_all else f1.sum(-1) / (total > 0).sum(-1))


def value_scores(
    targets: np.ndarray, values: np.ndarray, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the scores of each value by its label: `mae`, `rmse` and `r2`.

    Their mean over values of several units says little of each. R² is left out for a single sample
    and for a value whose target is constant.

    Args:
        targets: float `(samples, values)`.
        values: what is predicted, of the same shape.
        labels: name of each value.
    """
    equal, varies = np.ones(len(targets)), targets_vary(targets)
    found = {
        label: _value_scorer(targets[:, [number]], values[:, [number]])(equal)
        for number, label in enumerate(labels)
    }
    return {
        label: {name: v for name, v in scores.items() if name != "r2" or varies[number]}
        for number, (label, scores) in enumerate(found.items())
    }


def class_scores(
    targets: np.ndarray,
    predictions: np.ndarray,
    labels: Sequence[str],
    thresholds: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class or label, the worst first.

    They are in ascending order of F1; those that no sample has come last.

    Args:
        targets: classes `(samples,)`, or labels 0 and 1 `(samples, labels)`.
        predictions: probabilities `(samples, outputs)`.
        labels: name of each class or label.
        thresholds: see `serving.decisions.decide`.

    Returns:
        For each class its `name`, the number of `samples` that have it, how often it is
        `predicted`, and the scores. Precision is 0 if the class is never predicted, recall and F1
        are 0 if no sample has it.
    """
    task = "multilabel" if targets.ndim > 1 else "multiclass"
    truth, decided = (
        labels_set(array, len(labels)) for array in (targets, decide(task, predictions, thresholds))
    )
    right, samples, chosen = ((truth & decided).sum(0), truth.sum(0), decided.sum(0))
    precision, recall = (right / np.maximum(total, 1) for total in (chosen, samples))
    f1 = 2 * right / np.maximum(samples + chosen, 1)
    arrays = (samples, chosen, precision, recall, f1)
    columns = (labels, *(array.tolist() for array in arrays))
    names = ("name", "samples", "predicted", "precision", "recall", "f1")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return sorted(rows, key=lambda row: (not row["samples"], row["f1"]))


def labels_set(array: np.ndarray, count: int) -> np.ndarray:
    """Return which of `count` labels each sample has, bool `(samples, count)`.

    Args:
        array: classes `(samples,)`, or labels 0 and 1 or bool `(samples, count)`.
        count: number of classes or labels.
    """
    if array.ndim > 1:
        return np.asarray(array > 0)
    chosen: np.ndarray = array[:, np.newaxis] == np.arange(count)
    return chosen


def compared_score(task: str, scores: Mapping[str, float]) -> str:
    """Return the name of the score by which models of a task are compared.

    For two classes, of which one may be rare, and for labels it is ROC AUC, if there is one.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        scores: scores of a model on the test split, from `measure`.
    """
    is_ranked = next(iter(scores)) == "roc_auc" or task == "multilabel"
    return "roc_auc" if is_ranked and "roc_auc" in scores else SCORES[task]


def plain_score(task: str, scores: Mapping[str, float]) -> str:
    """Return the name of the score that says most to people who do not know scores.

    Where classes are so unequal that most answers are right without a model, it is ROC AUC.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        scores: scores of a model on the test split, from `measure`.
    """
    named = {"multilabel": "exact_match", "regression": "mae"}
    return named.get(task) or compared_score(task, scores)


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
    random, scorer = np.random.default_rng(0), make_scorer(task, targets, predictions)
    drawn = (scorer(weights) for weights in draw_weights(random, count, _BOOTSTRAPS))
    scores = np.concatenate([scores[SCORES[task]] for scores in drawn])
    return float(np.std(scores, ddof=1))


def draw_weights(random: np.random.Generator, count: int, draws: int) -> Iterator[np.ndarray]:
    """Yield how often each sample was drawn in resamples, float64 `(resamples, samples)`.

    Args:
        random: what draws.
        count: number of samples.
        draws: number of resamples; they come in as many parts as memory asks for.
    """
    at_once = max(_WEIGHTS_AT_ONCE // count, 1)
    for start in range(0, draws, at_once):
        chosen = random.integers(count, size=(min(at_once, draws - start), count))
        yield sum_by_class(np.ones(chosen.shape), chosen, count)
