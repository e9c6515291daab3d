"""Evaluates a bundle on labeled data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.config.reading_config import ReadingConfig
from app.data.datasets import Dataset
from app.data.labeled import default_reading, read_labeled
from app.data.measured import choose_measured
from app.errors import ConfigError
from app.evaluation.evaluations import evaluate_predictions
from serving.manifest import Manifest

from .opening import opened, predict, title_of


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation has found.

    Attributes:
        manifest: manifest of the bundle.
        dataset: the data, with the labels of the bundle.
        indices: the samples that were measured, int64 `(samples,)`.
        predictions: predictions for them, `(samples, labels)`.
        facts: see `app.evaluation.evaluations.evaluate_predictions`; also `title`, `model`,
            `version`, `precision`, `task` and `measured_on`.
    """

    manifest: Manifest
    dataset: Dataset
    indices: np.ndarray
    predictions: np.ndarray
    facts: dict[str, Any]


def reading_of(manifest: Manifest, given: Mapping[str, Any]) -> ReadingConfig:
    """Return how labeled data is read for a model: as its training read it, unless given.

    Images that cannot be read are left out: nothing is learned from what remains, and the measures
    name them.

    Args:
        manifest: manifest of the model.
        given: settings of the user by key, such as `target`.

    Raises:
        ConfigError: a setting is out of range.
    """
    settings = {**default_reading(manifest), "unreadable": "skip", **given}
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    try:
        return ReadingConfig(**values)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def evaluate_bundle(path: Path, source: str, given: Mapping[str, Any]) -> Evaluation:
    """Measure a bundle on a labeled data source.

    Args:
        path: bundle, version or run.
        source: see `app.data.labeled.read_labeled`.
        given: see `reading_of`.

    Raises:
        ManifestError: the bundle cannot be used.
        DataError: the data cannot be used, or does not suit the model.
    """
    with opened(path) as predictor:
        manifest = predictor.manifest
        dataset = read_labeled(source, manifest, reading_of(manifest, given))
        indices, measured_on = choose_measured(dataset, source, [manifest])
        predictions = predict(predictor, dataset, indices)
        facts = {
            "title": title_of(path, manifest),
            "model": manifest.name,
            "version": manifest.version,
            "precision": predictor.precision,
            "task": manifest.task,
            "measured_on": measured_on,
            **evaluate_predictions(manifest, dataset, indices, predictions),
        }
    return Evaluation(manifest, dataset, indices, predictions, facts)
