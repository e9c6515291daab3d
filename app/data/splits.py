"""Splits a data set into training, validation and test samples that never overlap."""

import math
from dataclasses import dataclass

import numpy as np

from app.errors import DataError
from serving.number_text import read_numbers
from serving.unit_text import strip_unit

from .datasets import Dataset

TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.1
# R² is undefined for a single value.
MIN_VALUES = 2
# A class needs a sample on each side of a split; more than half of the samples are for training.
_MIN_OF_CLASS, _MOST_SPLIT_OFF = 2, 0.5


@dataclass(frozen=True)
class Splits:
    """Indices of the samples of each split, int64 `(samples,)` in ascending order.

    Attributes:
        train: samples that the model is trained on.
        validation: samples that settings and weights are chosen on.
        test: samples that only the final result is measured on.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def describe(self, name: str) -> str:
        """Return what a split is: `the 564 samples of the validation split`."""
        return f"the {len(getattr(self, name)):,} samples of the {name} split"


def split_dataset(dataset: Dataset, seed: int, validation: float = VALIDATION_FRACTION) -> Splits:
    """Split at random, with the same class proportions in each split.

    The test and the validation split are those of the source if it has them. Otherwise 20% of the
    training samples are for testing, and `validation` of the others for validation.

    Args:
        dataset: the samples.
        seed: seed of the split.
        validation: fraction of the samples outside the test split to use for validation.

    Raises:
        DataError: a class has no sample, or none in the training split; or a split is too small to
            measure on.
    """
    if dataset.task == "multiclass":
        _require_every_class(dataset)
    train, validating, test = split_test(dataset, seed)
    if dataset.validation_start is None:
        train, validating = _split(dataset, train, validation, seed, "validation_split")
    if dataset.task == "multiclass":
        count = np.bincount(dataset.targets[train], minlength=len(dataset.labels))
        if not count.all():
            raise _too_few(dataset, validation)
    return Splits(train, validating, test)


def split_test(dataset: Dataset, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the training, the validation and the test samples before validation is split off.

    Args:
        dataset: the samples.
        seed: seed of the split.

    Returns:
        int64 indices; none of validation unless the source has such a split.

    Raises:
        DataError: there are too few samples.
    """
    end = len(dataset.targets)
    test_start = end if dataset.test_start is None else dataset.test_start
    start = test_start if dataset.validation_start is None else dataset.validation_start
    train, validation, test = np.split(np.arange(end), [start, test_start])
    if dataset.test_start is None:
        train, test = _split(dataset, train, TEST_FRACTION, seed)
    return train, validation, test


def _require_every_class(dataset: Dataset) -> None:
    for what, count in (("", len(dataset.targets)), ("training ", dataset.test_start)):
        counts = np.bincount(dataset.targets[:count], minlength=len(dataset.labels))
        if not counts.all():
            are_numbers = dataset.labels == tuple(str(n) for n in range(len(counts)))
            fix = " Number the classes from 0 without gaps, at least two."
            raise DataError(
                f"Each class of {dataset.source} must have {what}samples. "
                f"Received: none of {dataset.labels[int(counts.argmin())]!r}."
                f"{fix if are_numbers and not what else ''}"
            )


def _rarest(dataset: Dataset) -> str:
    total = f"{len(dataset.targets):,} samples"
    if dataset.task != "multiclass":
        return total
    counts = np.bincount(dataset.targets, minlength=len(dataset.labels))
    rarest = int(counts.argmin())
    return (
        f"{total} of {len(counts):,} classes, "
        f"{counts[rarest]:,} of them of the class {dataset.labels[rarest]!r}"
    )


def _split(
    dataset: Dataset, indices: np.ndarray, fraction: float, seed: int, setting: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Split off a fraction of the samples at `indices`, which `setting` sets if it has a name."""
    from sklearn.model_selection import train_test_split

    classes = dataset.targets[indices] if dataset.task == "multiclass" else None
    try:
        first, second = train_test_split(
            indices, test_size=fraction, stratify=classes, random_state=seed
        )
    except ValueError:  # its message is about arrays that the user does not know
        fix = _larger_fraction(classes, fraction, setting)
        raise _too_few(dataset, fraction, fix) from None
    if dataset.task == "regression" and min(len(first), len(second)) < MIN_VALUES:
        raise _too_few(dataset, fraction)
    return np.sort(first), np.sort(second)


def _larger_fraction(classes: np.ndarray | None, fraction: float, setting: str) -> str:
    """Return how to split off a sample of each class; nothing if no fraction has one of each."""
    if classes is None or not setting:
        return ""
    counts = np.bincount(classes)
    least = math.ceil(100 * len(counts) / len(classes)) / 100
    if counts.min() < _MIN_OF_CLASS or not fraction < least <= _MOST_SPLIT_OFF:
        return ""
    return f"Set {setting}={least:g}, which is as many samples as there are classes."


def _too_few(dataset: Dataset, fraction: float, fix: str = "") -> DataError:
    numbers = read_numbers(strip_unit(dataset.labels))
    is_classes = dataset.task == "multiclass"
    need = "at least one sample of each class" if is_classes else f"{MIN_VALUES} samples or more"
    fix = fix or f"Add samples{', or leave rare classes out' if is_classes else ''}."
    if is_classes and numbers is not None:
        fix += " To predict numbers instead of classes, use head=linear."
    return DataError(
        f"Training, validation and test must each get {need}. Received: {dataset.source} with "
        f"{_rarest(dataset)}, of which {fraction:.0%} are to be split off. {fix}"
    )


def some(count: int, limit: int) -> np.ndarray:
    """Return indices of at most `limit` of `count` samples, always the same ones."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, limit, replace=False))
