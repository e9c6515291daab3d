"""Splits a data set into training, validation and test parts that never overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from app.errors import DataError

from .datasets import Dataset

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
# Of one there is no R².
MIN_VALUES = 2


@dataclass(frozen=True)
class Splits:
    """Which sample is for what; each int64 `(samples,)`, ascending indices into the data set.

    Attributes:
        train: what the weights are fitted to.
        validation: what choices are made on.
        test: what the result is measured on, once.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_dataset(dataset: Dataset, seed: int, validation: float = VALIDATION_SHARE) -> Splits:
    """Split at random, with every class in equal shares.

    The test split is the source's own where it has one, else 20 %.

    Args:
        dataset: the samples.
        seed: of the choice.
        validation: share of the rest that is kept for validation.

    Raises:
        DataError: a class has no sample, or none in the training split, a part is too small to
            measure on, or the test split has a class that training never sees.
    """
    everything = np.arange(len(dataset.targets))
    if dataset.task == "multiclass":
        _require_every_class(dataset)
    if dataset.test_start is None:
        rest, test = _split(dataset, everything, TEST_SHARE, seed)
    else:
        rest, test = everything[: dataset.test_start], everything[dataset.test_start :]
    train, validating = _split(dataset, rest, validation, seed)
    if dataset.task == "multiclass":
        count = np.bincount(dataset.targets[train], minlength=len(dataset.labels))
        if not count.all():
            raise _too_few(dataset, validation)
    return Splits(train, validating, test)


def _require_every_class(dataset: Dataset) -> None:
    for what, count in (("", len(dataset.targets)), ("training ", dataset.test_start)):
        counts = np.bincount(dataset.targets[:count], minlength=len(dataset.labels))
        if not counts.all():
            raise DataError(
                f"Each class of {dataset.source} must have {what}samples. "
                f"Received: none of {dataset.labels[int(counts.argmin())]!r}."
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
    dataset: Dataset, indices: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    classes = dataset.targets[indices] if dataset.task == "multiclass" else None
    try:
        first, second = train_test_split(
            indices, test_size=share, stratify=classes, random_state=seed
        )
    except ValueError:  # whose message speaks of arrays that nobody here knows
        raise _too_few(dataset, share) from None
    if dataset.task == "regression" and min(len(first), len(second)) < MIN_VALUES:
        raise _too_few(dataset, share)
    return np.sort(first), np.sort(second)


def _too_few(dataset: Dataset, share: float) -> DataError:
    are_fractions = dataset.task == "multiclass" and _have_fractions(dataset.labels)
    mend = " Numbers that are no classes need head=linear." if are_fractions else ""
    return DataError(
        f"{dataset.source} must have samples for the training, the validation and the test split, "
        "each as many as classes, or two of values, and each class in training. "
        f"Received: {_rarest(dataset)}, of which a share of {share:g} is split off.{mend}"
    )


def _have_fractions(labels: Sequence[str]) -> bool:
    try:
        return any(not float(label).is_integer() for label in labels)
    except ValueError:
        return False


def some(count: int, limit: int) -> np.ndarray:
    """Return indices of at most `limit` of `count` samples, the same ones every time."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, limit, replace=False))
