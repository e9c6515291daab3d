"""Measures how the score grows with the number of training samples."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from app.config.run_config import RunConfig
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.distributed.team import Team
from app.errors import DataError, RunError
from app.evaluation.metrics import SCORES, measure, predict_samples
from app.training.fit import fit


def scores_by_size(
    config: RunConfig, dataset: Dataset, splits: Splits, team: Team | None = None
) -> list[dict[str, Any]]:
    """Train a model on each fraction of the training split that the settings name.

    Args:
        config: configuration of the run; `training.train_sizes` are the fractions.
        dataset: the samples.
        splits: indices of the splits; all validation samples are used each time.
        team: the processes that train together, see `app.training.fit.fit`.

    Returns:
        For each fraction, `samples` and the scores `train` and `validation`; or `samples` and
        `reason` if there are too few samples to train on, for example because a column has no
        value among them. Fractions that amount to the same number of samples give one row.
    """
    # The first samples of one random order: larger fractions include the smaller ones.
    order = np.random.default_rng(config.seed).permutation(splits.train)
    rows: list[dict[str, Any]] = []
    fractions = config.training.train_sizes
    for size in dict.fromkeys(max(1, round(fraction * len(order))) for fraction in fractions):
        chosen = np.sort(order[:size])
        part = replace(splits, train=chosen)
        try:
            scores = _scores(fit(config, dataset, part, team=team).model, dataset, part)
        except (DataError, RunError) as error:  # the run itself is not affected
            rows.append({"samples": len(chosen), "reason": str(error)})
        else:
            rows.append({"samples": len(chosen), **scores})
    return rows


def _scores(model: keras.Model, dataset: Dataset, splits: Splits) -> dict[str, float]:
    scores = {}
    for name, indices in (("train", splits.train), ("validation", splits.validation)):
        predictions = predict_samples(model, dataset, indices)
        metrics = measure(dataset.task, dataset.targets[indices], predictions)
        scores[name] = metrics[SCORES[dataset.task]]
    return scores
