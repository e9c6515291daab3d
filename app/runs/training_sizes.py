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
from app.evaluation.metrics import SCORES, measure
from app.evaluation.predictions import predict_samples
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
    # A user's callbacks and pipeline are for the run itself.
    config = replace(config, training=replace(config.training, callbacks=()))
    dataset = replace(dataset, stream=None)
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
    parts = {"train": splits.train, "validation": splits.validation}
    # Both in one call: Keras traces the model again for each size of the last batch.
    together = predict_samples(model, dataset, np.concatenate(list(parts.values())))
    predictions = np.split(together, [len(splits.train)])
    score = SCORES[dataset.task]
    return {
        name: measure(dataset.task, dataset.targets[indices], predicted)[score]
        for (name, indices), predicted in zip(parts.items(), predictions, strict=True)
    }
