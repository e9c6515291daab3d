"""Which epoch's weights a training keeps."""

import math

import numpy as np
import pytest

from app.config.training_config import TrainingConfig
from app.training.kept_weights import KeptWeights


def kept_epoch(losses, **settings):
    """The epoch, from 0, whose weights are kept after validation losses."""
    kept = KeptWeights(TrainingConfig(**settings))
    for epoch in range(len(losses)):
        weights = [np.array([epoch])]
        kept.add(weights, losses[: epoch + 1], is_last=epoch + 1 == len(losses))
    return int(kept.weights[0][0])


BEST = {"restore_best_weights": True}


@pytest.mark.parametrize(
    ("losses", "settings", "epoch"),
    [
        ([3, 1, 2], {}, 2),
        ([3, 1, 2], BEST, 1),
        ([3, 1, 1], BEST, 1),
        ([9, 1, 9, 4, 3, 4, 5], {**BEST, "validation_window": 3}, 4),  # 1 is luck
        ([5, 4, 3, 2, 1], {**BEST, "validation_window": 3}, 4),
        ([1, 2, 3, 4, 5], {**BEST, "validation_window": 3}, 0),
        ([2, 1], {**BEST, "validation_window": 5}, 0),
        ([math.inf] * 3, BEST, 2),
        ([math.inf] * 3, {**BEST, "validation_window": 3}, 2),
    ],
)
def test_the_best_epoch_is_the_one_with_the_lowest_mean_loss_around_it(losses, settings, epoch):
    assert kept_epoch(losses, **settings) == epoch


def test_there_are_weights_to_keep_from_the_first_epoch_on():
    kept = KeptWeights(TrainingConfig(**BEST, validation_window=9))
    kept.add([np.array([7])], [1.0], is_last=False)
    assert kept.weights[0][0] == 7


def test_only_the_weights_that_may_still_be_kept_are_in_memory():
    kept = KeptWeights(TrainingConfig(**BEST, validation_window=5))
    for epoch in range(20):
        kept.add([np.array([epoch])], [1.0] * (epoch + 1), is_last=False)
    assert len(kept.recent) == 3


def test_the_window_has_a_middle():
    with pytest.raises(ValueError, match="must be odd.*Received: validation_window=4"):
        TrainingConfig(validation_window=4)
