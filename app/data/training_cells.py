"""Describes the cells of a table that a model was trained on."""

import numpy as np

from serving.manifest import ColumnRange, FrequentTexts, TrainingCells

from .arrays import chunks
from .datasets import REST, Dataset

_MAX_TEXTS = 20
# A rarer text may be about a single person.
_MIN_COUNT = 5


def describe_cells(dataset: Dataset, train: np.ndarray) -> TrainingCells | None:
    """Return the ranges and the frequent texts of a table's columns; None if there is no table.

    Args:
        dataset: a data set.
        train: indices of the training split.
    """
    if dataset.kind != "rows" or not (dataset.columns or dataset.string_columns):
        return None
    measured_on = f"the {len(train):,} samples of the training split"
    return TrainingCells(measured_on, _ranges(dataset, train), _frequent_texts(dataset, train))


def _ranges(dataset: Dataset, indices: np.ndarray) -> tuple[ColumnRange, ...]:
    count = len(dataset.columns)
    low, high = np.full(count, np.inf, np.float32), np.full(count, -np.inf, np.float32)
    for rows in chunks(dataset.inputs, indices):
        low = np.fmin(low, np.fmin.reduce(rows[:, :count], axis=0))  # these ignore NaN
        high = np.fmax(high, np.fmax.reduce(rows[:, :count], axis=0))
    # As the shortest decimal number that is this float32.
    ends = [[float(str(end)) for end in ends] for ends in (low, high)]
    found = zip(dataset.columns, *ends, strict=True)
    return tuple(ColumnRange(name, *ends) for name, *ends in found if ends[0] <= ends[1])


def _frequent_texts(dataset: Dataset, indices: np.ndarray) -> tuple[FrequentTexts, ...]:
    if dataset.codes is None:
        return ()
    codes = np.asarray(dataset.codes[indices])
    found = []
    for place, (name, words) in enumerate(zip(dataset.string_columns, dataset.words, strict=True)):
        counts = np.bincount(codes[:, place], minlength=len(words))
        best = np.argsort(-counts, kind="stable")
        known = [words[code] for code in best if counts[code] >= _MIN_COUNT]
        texts = tuple(word for word in known if word not in ("", REST))[:_MAX_TEXTS]
        if texts:
            found.append(FrequentTexts(name, texts))
    return tuple(found)
