"""Adapts a model's configuration to the data: classes, columns, vocabularies, image shape."""

from dataclasses import replace
from typing import Any

import numpy as np

from app.config.families import Family, ModelConfig
from app.config.starting_models import data_beside
from app.data.arrays import chunks
from app.data.datasets import REST, Dataset
from app.data.splits import Splits
from app.data.summary import count_missing
from app.errors import ConfigError, DataError
from models import DigitNetConfig, FeatureExtractorConfig, RowsConfig, SoftmaxClassifierConfig
from models.config import OwnModelConfig
from models.errors import BackboneError
from models.extractors import image_size_of
from serving.manifest import TASKS


def image_size_taken(config: Any) -> tuple[int, ...]:
    """Return the height and width of the images that the backbone of a run was trained on.

    Args:
        config: configuration of a run.

    Returns:
        The size; empty if it is set already, or the backbone was not trained before.

    Raises:
        ConfigError: the backbone cannot be loaded.
    """
    model = config.model
    if config.reading.image_size or not isinstance(model, FeatureExtractorConfig):
        return ()
    try:
        return image_size_of(model.backbone) if model.is_trained else ()
    except BackboneError as error:
        raise ConfigError(str(error)) from None


def fit_to_data(
    family: Family,
    config: Any,
    dataset: Dataset,
    splits: Splits,
    known: RowsConfig | None = None,
) -> Any:
    """Return the model's configuration with the sizes that the data determines.

    Args:
        family: the family of the model.
        config: configuration of the model.
        dataset: the samples.
        splits: indices of the splits; vocabularies and indicators of missing values come from the
            training split.
        known: the columns of a model whose weights are to be used; None takes those of the data.

    Raises:
        DataError: the family cannot take such data, or a column has missing values that `known`
            does not have.
        ConfigError: the head does not suit the targets.
    """
    family.check_kind(dataset.kind, dataset.source)
    _check_head(config, dataset)
    if isinstance(config, OwnModelConfig):
        return config
    if isinstance(config, DigitNetConfig):
        return replace(config, num_classes=len(dataset.labels))
    if isinstance(config, SoftmaxClassifierConfig):
        return replace(config, num_classes=len(dataset.labels), rows=_rows(dataset, splits, known))
    sizes: dict[str, Any] = {
        "num_outputs": len(dataset.labels),
        "many_labels": dataset.task == "multilabel",
    }
    if dataset.kind == "images":
        sizes["image_shape"] = dataset.inputs.shape[1:]
    else:
        sizes["rows"] = _rows(dataset, splits, known)
    try:
        return replace(config, **sizes)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def rows_beside(model: str) -> RowsConfig | None:
    """Return the columns that a model was built for; None if they are not known."""
    return rows_of(data_beside(model)) if model else None


def rows_of(data: dict[str, Any]) -> RowsConfig | None:
    """Return the columns that a run's `data.json` has in its `rows`; None if it has none."""
    found = data.get("rows")
    if found is None:
        return None
    return RowsConfig(
        num_columns=found["num_columns"],
        nullable_columns=tuple(found["nullable_columns"]),
        indicators=tuple(found["indicators"]),
        vocabularies=tuple(map(tuple, found["vocabularies"])),
    )


def _check_head(config: ModelConfig, dataset: Dataset) -> None:
    task = dataset.task
    heads = {
        "multiclass": ("softmax", "sigmoid"),
        "multilabel": ("sigmoid",),
        "regression": ("linear",),
    }[task]
    head = getattr(config, "head", "softmax")
    if head not in heads:
        fitting = heads[:1] if task == "multiclass" and len(dataset.labels) > 2 else heads
        raise ConfigError(
            f"The head must suit the targets. Received: head={head!r} for {dataset.source}, whose "
            f"targets are {TASKS[task]}. {_fix(config)} with head={' or head='.join(fitting)}."
        )


def _fix(config: ModelConfig) -> str:
    return "Train" if isinstance(config, OwnModelConfig) else "Use the family 'features'"


def columns_of(dataset: Dataset, splits: Splits) -> RowsConfig:
    """Return the columns of rows, with the texts of the training split.

    Raises:
        DataError: a column has no value in the training split.
    """
    return _rows(dataset, splits, None)


def _rows(dataset: Dataset, splits: Splits, known: RowsConfig | None) -> RowsConfig:
    missing = count_missing(dataset)
    missing_in_training = count_missing(dataset, splits.train)
    # The parts of a date are missing together, and one indicator says so.
    is_first = np.isin(np.arange(len(dataset.columns)), dataset.first_columns)
    if known is not None:
        unseen = np.setdiff1d(np.flatnonzero(missing), known.nullable_columns)
        if len(unseen):
            raise DataError(
                "Only columns that had missing values where a model was trained may have them. "
                f"Received: {dataset.columns[unseen[0]]!r} of {dataset.source}, which has "
                f"{missing[unseen[0]]:,}. Fill them."
            )
        return known
    vocabularies = _vocabularies(dataset, splits)
    has_value = [count < len(splits.train) for count in missing_in_training]
    names = (*dataset.columns, *dataset.string_columns)
    for name, has_any in zip(names, [*has_value, *map(bool, vocabularies)], strict=True):
        if not has_any:
            raise DataError(
                f"Each column of {dataset.source} must have a value in the training split. "
                f"Received: {name!r}, which has none. Remove the column."
            )
    return RowsConfig(
        num_columns=len(dataset.columns),
        nullable_columns=tuple(np.flatnonzero(missing).tolist()),
        indicators=tuple(np.flatnonzero(missing_in_training * is_first).tolist()),
        vocabularies=vocabularies,
    )


def _vocabularies(dataset: Dataset, splits: Splits) -> tuple[tuple[str, ...], ...]:
    """Return the texts of each column that occur in the training split."""
    if dataset.codes is None:
        return ()
    known = [np.zeros(len(words), bool) for words in dataset.words]
    for part in chunks(dataset.codes, splits.train):
        for column, seen in enumerate(known):
            seen[np.unique(part[:, column])] = True
    return tuple(
        tuple(
            word
            for word, is_known in zip(words, seen, strict=True)
            if is_known and word not in ("", REST)
        )
        for words, seen in zip(dataset.words, known, strict=True)
    )
