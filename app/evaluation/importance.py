"""Permutation importance of the columns of a table, and partial dependence on the first few.

Both run the whole graph on raw rows, so that they show the model as it is exported.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from scipy.stats import rankdata

from app.data.datasets import Dataset
from app.data.splits import some
from serving.decisions import decide

from .metrics import SCORES, compared_score
from .predictions import predict_rows

REPEATS = 5
# Rows that are permuted, and rows that are predicted in all: one or two seconds.
_MAX_ROWS, _MIN_ROWS, _MAX_PREDICTED = 2000, 100, 100_000
# Of more columns, only those are measured whose permutation changes the predictions most, which a
# few rows tell.
_MAX_COLUMNS, _SCREENED_ROWS = 100, 20
# What is predicted in one call, each of which takes a while.
_ROWS_AT_ONCE, _CELLS_AT_ONCE = 16_384, 4_000_000
_BOOTSTRAPS = 30
# The 95% interval reaches this many standard deviations to both sides.
_REACH = 1.96
_SHOWN_COLUMNS, _DEPENDENCE_ROWS, _GRID, _TEXTS = 4, 200, 20, 10


@dataclass(frozen=True)
class Column:
    """A column of the source, with the columns of the model that are computed from it.

    Attributes:
        name: its name.
        numbers: places in `Dataset.columns`.
        texts: places in `Dataset.string_columns`.
    """

    name: str
    numbers: tuple[int, ...] = ()
    texts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rows:
    """Raw rows: the numbers and texts of samples.

    Attributes:
        numbers: float32 `(samples, columns)`.
        texts: strings `(samples, text columns)`.
    """

    numbers: np.ndarray
    texts: np.ndarray

    @property
    def inputs(self) -> Any:
        """The inputs of a model: an array, or a dict if there are both."""
        if not self.texts.shape[1]:
            return self.numbers
        return (
            {"inputs": self.numbers, "texts": self.texts} if self.numbers.shape[1] else self.texts
        )

    def repeated(self, times: int) -> "Rows":
        """Return the rows, all of them `times` times."""
        return Rows(*(np.tile(part, (times, 1)) for part in (self.numbers, self.texts)))

    def exchange(self, column: Column, other: "Rows") -> "Rows":
        """Return the rows with the values of `column` from as many other rows."""
        numbers, texts = self.numbers.copy(), self.texts.copy()
        for part, source, places in (
            (numbers, other.numbers, list(column.numbers)),
            (texts, other.texts, list(column.texts)),
        ):
            part[:, places] = source[:, places]
        return Rows(numbers, texts)


def read_rows(dataset: Dataset, indices: np.ndarray) -> Rows:
    """Return the raw rows at `indices`."""
    inputs, nothing = dataset.model_inputs(indices), np.zeros((len(indices), 0), object)
    if dataset.codes is None:
        return Rows(inputs, nothing)
    if not dataset.columns:
        return Rows(np.zeros((len(indices), 0), np.float32), inputs)
    return Rows(inputs["inputs"], inputs["texts"])


def source_columns(dataset: Dataset) -> list[Column]:
    """Return the columns of a table of rows; those that come from one column count as one."""
    read = () if dataset.row_format is None else dataset.row_format.columns
    source_of = {part: column.name for column in read for part in column.columns}  # as of a date
    places: dict[str, list[int]] = {}
    for place, name in enumerate(dataset.columns):
        places.setdefault(source_of.get(name, name), []).append(place)
    numbers = [Column(name, numbers=tuple(own)) for name, own in places.items()]
    texts = [Column(name, texts=(place,)) for place, name in enumerate(dataset.string_columns)]
    return numbers + texts


def permutation_importance(
    model: keras.Model,
    dataset: Dataset,
    test: np.ndarray,
    scores: dict[str, float],
    thresholds: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Return how far the score falls if the values of a column are permuted (Breiman, 2001).

    Columns that carry the same information can stand in for each other, so each of them has a small
    importance. The 95% intervals add up the variance over bootstrap samples of the rows (Efron,
    1979) and that over the permutations.

    Args:
        model: the model, with its preprocessing.
        dataset: a data set of rows.
        test: indices of the test split, int64 `(samples,)`.
        scores: metrics of the model on the test split; they determine the score.
        thresholds: threshold of each class or label, which scores of decisions follow; None for the
            default.

    Returns:
        `score`, its name; `samples`, the number of rows; `column_count`, the number of all columns;
        `columns`, those that were measured, in descending order of importance, each with `name`,
        `drop` and the ends of the interval `low` and `high`.
    """
    every = source_columns(dataset)
    columns = _screened(model, dataset, test, every)
    count = _MAX_PREDICTED // (REPEATS * len(columns))
    chosen = test[some(len(test), min(max(count, _MIN_ROWS), _MAX_ROWS))]
    rows, targets = read_rows(dataset, chosen), dataset.targets[chosen]
    before = predict_rows(model, dataset.task, rows.inputs)
    name = compared_score(dataset.task, scores)
    score = _Score(name, dataset.positive, thresholds)
    if np.isnan(score(targets, before)):  # a rare class is not among them
        name = SCORES[dataset.task]
        score = _Score(name, dataset.positive, thresholds)
    random = np.random.default_rng(0)
    draws = [random.integers(len(chosen), size=len(chosen)) for _ in range(_BOOTSTRAPS)]
    whole, drawn = score(targets, before), [score(targets[i], before[i]) for i in draws]
    found: list[dict[str, Any]] = []
    permuted = _permuted_predictions(model, dataset.task, rows, columns, random)
    for column, predictions in zip(columns, permuted, strict=True):
        drops = [whole - score(targets, after) for after in predictions]
        drop, over_permutations = np.mean(drops), np.var(drops, ddof=1) / REPEATS
        resampled = [
            full - np.mean([score(targets[i], after[i]) for after in predictions])
            for full, i in zip(drawn, draws, strict=True)
        ]
        known = [one for one in resampled if np.isfinite(one)]
        over_rows = np.var(known, ddof=1) if len(known) > 1 else 0.0
        reach = _REACH * np.sqrt(over_rows + over_permutations)
        ends = {"low": float(drop - reach), "high": float(drop + reach)}
        found.append({"name": column.name, "drop": float(drop), **ends})
    order = np.argsort([-row["drop"] for row in found], kind="stable")
    return {
        "score": name,
        "samples": len(chosen),
        "column_count": len(every),
        "columns": [found[n] for n in order],
    }


def partial_dependence(
    model: keras.Model, dataset: Dataset, test: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the mean prediction where a column has a given value in all rows (Friedman, 2001).

    Args:
        model: the model, with its preprocessing.
        dataset: a data set of rows.
        test: indices of the test split, int64 `(samples,)`.
        names: columns, the most important first. The first few that are a single column of the
            model are used.

    Returns:
        For each column its `name`; `values`, numbers in ascending order or its most common texts;
        and `predictions`, the mean prediction for each of them, `(values, outputs)`.
    """
    by_name = {column.name: column for column in source_columns(dataset)}
    single = [c for c in map(by_name.__getitem__, names) if len(c.numbers + c.texts) == 1]
    everything = read_rows(dataset, test[some(len(test), _MAX_ROWS)])
    rows = read_rows(dataset, test[some(len(test), _DEPENDENCE_ROWS)])
    grids = [(column, _grid(everything, column)) for column in single[:_SHOWN_COLUMNS]]
    if not grids:
        return []
    stacked = _stack([_with_values(rows, column, values) for column, values in grids])
    predictions = predict_rows(model, dataset.task, stacked.inputs)  # a call takes a while
    ends = np.cumsum([len(rows.numbers) * len(values) for _, values in grids])
    found = []
    for (column, values), part in zip(grids, np.split(predictions, ends[:-1]), strict=True):
        means = part.reshape(len(values), len(rows.numbers), -1).mean(axis=1, dtype=np.float64)
        row = {"name": column.name, "values": values.tolist(), "predictions": means.tolist()}
        found.append(row)
    return found


def _with_values(rows: Rows, column: Column, values: np.ndarray) -> Rows:
    """Return all rows with the first value in a column, then all with the second, and so on."""
    repeated = rows.repeated(len(values))
    part, places = (
        (repeated.numbers, column.numbers) if column.numbers else (repeated.texts, column.texts)
    )
    part[:, places[0]] = np.repeat(values, len(rows.numbers))
    return repeated


def _stack(parts: Sequence[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.texts for part in parts]),
    )


def _screened(
    model: keras.Model, dataset: Dataset, test: np.ndarray, columns: list[Column]
) -> list[Column]:
    """Return the columns whose permutation changes the predictions most, all if they are few."""
    if len(columns) <= _MAX_COLUMNS:
        return columns
    rows = read_rows(dataset, test[some(len(test), _SCREENED_ROWS)])
    before = predict_rows(model, dataset.task, rows.inputs)
    random = np.random.default_rng(0)
    permuted = _permuted_predictions(model, dataset.task, rows, columns, random, repeats=1)
    changes = [float(np.abs(after[0] - before).mean()) for after in permuted]
    order = np.argsort(np.negative(changes), kind="stable")
    return [columns[place] for place in np.sort(order[:_MAX_COLUMNS])]


def _permuted_predictions(
    model: keras.Model,
    task: str,
    rows: Rows,
    columns: Sequence[Column],
    random: np.random.Generator,
    repeats: int = REPEATS,
) -> Iterator[np.ndarray]:
    """Yield for each column the predictions `(repeats, rows, outputs)` with its values permuted."""
    count, width = len(rows.numbers), rows.numbers.shape[1] + rows.texts.shape[1]
    at_once = max(1, min(_ROWS_AT_ONCE, _CELLS_AT_ONCE // width) // (repeats * count))
    for start in range(0, len(columns), at_once):
        parts = []
        for column in columns[start : start + at_once]:
            orders = np.concatenate([random.permutation(count) for _ in range(repeats)])
            other = Rows(rows.numbers[orders], rows.texts[orders])
            parts.append(rows.repeated(repeats).exchange(column, other))
        predictions = predict_rows(model, task, _stack(parts).inputs)
        yield from predictions.reshape(len(parts), repeats, count, -1)


def _grid(rows: Rows, column: Column) -> np.ndarray:
    """Return the values of a column to show: quantiles of numbers, or the most common texts."""
    if column.texts:
        texts, counts = np.unique(rows.texts[:, column.texts[0]], return_counts=True)
        chosen: np.ndarray = texts[np.argsort(-counts, kind="stable")[:_TEXTS]]
        return chosen
    numbers = rows.numbers[:, column.numbers[0]]
    different = np.unique(numbers[~np.isnan(numbers)])
    if len(different) <= _GRID:
        return different if len(different) else np.zeros(1, np.float32)
    ends = np.nanquantile(numbers, np.linspace(0.02, 0.98, _GRID))
    return np.unique(ends.astype(np.float32))


class _Score:
    """A score that is computed a thousand times, faster than by `measure`."""

    def __init__(self, name: str, positive: int | None, thresholds: Sequence[float] | None) -> None:
        self._name = name
        self._positive = positive
        self._thresholds = thresholds

    def __call__(self, targets: np.ndarray, predictions: np.ndarray) -> float:
        """Return the score; NaN if it is undefined."""
        if self._name == "accuracy":
            return float((decide("multiclass", predictions, self._thresholds) == targets).mean())
        if self._name == "roc_auc":
            if self._positive is None:
                return _roc_auc(targets > 0, predictions)
            place = self._positive
            return _roc_auc((targets == place)[:, np.newaxis], predictions[:, [place]])
        if self._name == "f1_macro":
            is_set, is_true = decide("multilabel", predictions, self._thresholds), targets > 0
            both = (is_set & is_true).sum(axis=0)
            return float(
                (2 * both / np.maximum(is_set.sum(axis=0) + is_true.sum(axis=0), 1)).mean()
            )
        varies = np.ptp(targets, axis=0) > 0
        exact = targets[:, varies].astype(np.float64)  # squares may not fit in float32
        spread = ((exact - exact.mean(axis=0)) ** 2).sum(axis=0)
        errors = ((exact - predictions[:, varies]) ** 2).sum(axis=0)
        return float((1 - errors / spread).mean()) if varies.any() else 0.0


def _roc_auc(is_positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean area under the ROC curve of the labels that vary, by ranks (Hanley, 1982)."""
    positives = is_positive.sum(axis=0)
    pairs = positives * (len(scores) - positives)
    if not pairs.any():
        return float("nan")
    ranks = np.where(is_positive, rankdata(scores, axis=0), 0).sum(axis=0)
    above = ranks - positives * (positives + 1) / 2
    return float((above[pairs > 0] / pairs[pairs > 0]).mean())
