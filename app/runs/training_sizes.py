"""How the score grows with the number of training samples."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from app.config.run_config import RunConfig
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.distributed.team import Team
from app.errors import DataError, RunError
from app.evaluation.metrics import SCORES, measure, predict_answers
from app.training.fit import fit


def scores_by_size(
    config: RunConfig, dataset: Dataset, splits: Splits, team: Team | None = None
) -> list[dict[str, Any]]:
    """Train on each share of the training split that the settings name.

    Args:
        config: of the run; `training.train_sizes` are the shares.
        dataset: the samples.
        splits: which of them are for what; validation stays whole.
        team: see `app.training.fit.fit`.

    Returns:
        For each share `samples`, and the scores `train` and `validation`; or `reason`, why so few
        samples cannot be trained on, such as a column without a value among them. Of shares that
        come to the same samples there is one.
    """
    # The first samples of one random order: a larger share holds the smaller ones.
    order = np.random.default_rng(config.seed).permutation(splits.train)
    rows: list[dict[str, Any]] = []
    shares = config.training.train_sizes
    for size in dict.fromkeys(max(1, round(share * len(order))) for share in shares):
        chosen = np.sort(order[:size])
        part = replace(splits, train=chosen)
        try:
            scores = _scores(fit(config, dataset, part, team=team).model, dataset, part)
        except (DataError, RunError) as error:  # the run itself is none the worse
            rows.append({"samples": len(chosen), "reason": str(error)})
        else:
            rows.append({"samples": len(chosen), **scores})
    return rows


def _scores(model: keras.Model, dataset: Dataset, splits: Splits) -> dict[str, float]:
    kind = dataset.task
    scores = {}
    for name, indices in (("train", splits.train), ("validation", splits.validation)):
        answers = predict_answers(model, dataset, indices)
        scores[name] = measure(kind, dataset.targets[indices], answers)[SCORES[kind]]
    return scores
