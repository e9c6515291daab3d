"""Splits a data set into training, validation and test parts that never overlap."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from app.errors import DataError

from .datasets import Dataset

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1


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


def split_dataset(dataset: Dataset, seed: int) -> Splits:
    """Split at random with every class in equal shares.

    The test split is the source's own where it has one, else 20 %. Validation takes 10 % of the
    rest.

    Raises:
        DataError: a class has too few samples to be in every part.
    """
    everything = np.arange(len(dataset.targets))
    if dataset.test_start is None:
        rest, test = _stratified(dataset, everything, TEST_SHARE, seed)
    else:
        rest, test = everything[: dataset.test_start], everything[dataset.test_start :]
    train, validation = _stratified(dataset, rest, VALIDATION_SHARE, seed)
    return Splits(train, validation, test)


def _stratified(
    dataset: Dataset, indices: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    targets = dataset.targets[indices]
    try:
        first, second = train_test_split(
            indices, test_size=share, stratify=targets, random_state=seed
        )
    except ValueError as error:
        raise DataError(
            f"{dataset.source} must have enough samples of each class to split. Received: {error}"
        ) from None
    return np.sort(first), np.sort(second)
