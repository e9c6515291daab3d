"""How the score grows with the number of training samples."""

from dataclasses import replace

import keras
import numpy as np

from .config import RunConfig
from .data.datasets import Dataset
from .data.splits import Splits
from .distributed.team import Team
from .evaluation import SCORES, measure, predict_answers
from .fitting import fit


def scores_by_size(
    config: RunConfig, dataset: Dataset, splits: Splits, team: Team | None = None
) -> list[dict[str, float]]:
    """Train on each share of the training split that the settings name.

    Args:
        config: of the run; `training.training_shares` are the shares.
        dataset: the samples.
        splits: which of them are for what; validation stays whole.
        team: see `app.fitting.fit`.

    Returns:
        For each share `samples`, and the scores `train` and `validation`.

    Raises:
        RunError: a loss is no longer finite.
    """
    # The first samples of one random order: a larger share holds the smaller ones.
    order = np.random.default_rng(config.seed).permutation(splits.train)
    rows = []
    for share in config.training.training_shares:
        chosen = np.sort(order[: max(1, round(share * len(order)))])
        part = replace(splits, train=chosen)
        model = fit(config, dataset, part, team=team).model
        rows.append({"samples": len(chosen), **_scores(model, dataset, part)})
    return rows


def _scores(model: keras.Model, dataset: Dataset, splits: Splits) -> dict[str, float]:
    kind = dataset.kind_of_targets
    scores = {}
    for name, indices in (("train", splits.train), ("validation", splits.validation)):
        answers = predict_answers(model, dataset, indices)
        scores[name] = measure(kind, dataset.targets[indices], answers)[SCORES[kind]]
    return scores
