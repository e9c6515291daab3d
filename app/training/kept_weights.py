"""Chooses the weights that a training keeps: those of the last epoch, or those of the best."""

import math
from collections.abc import Sequence

import numpy as np

from app.config.training_config import TrainingConfig

Weights = list[np.ndarray]


class KeptWeights:
    """The weights to keep, chosen as the epochs go by.

    The best epoch is the one with the lowest validation loss, averaged over the epochs around it.
    Without validation, the last epoch counts.

    Args:
        config: settings of the training.

    Attributes:
        weights: the weights to keep so far; empty before the first epoch has ended.
        recent: weights of the last epochs whose neighbors are not all known yet.
        best: lowest mean of validation losses so far.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._is_best_kept = config.restore_best_weights
        self._reach = config.validation_window // 2
        self.weights: Weights = []
        self.recent: list[Weights] = []
        self.best = math.inf

    def add(
        self, weights: Weights, losses: Sequence[float], is_last: bool, is_whole: bool = True
    ) -> None:
        """Take note of an epoch.

        Args:
            weights: the model's weights at its end.
            losses: validation losses of the epochs up to it, all with images of its size; infinite
                without validation.
            is_last: whether training ends with it.
            is_whole: whether it had images of full size; losses on smaller ones choose nothing.
        """
        if not self._is_best_kept or not math.isfinite(losses[-1]):
            self.weights = weights
            return
        if not is_whole:
            self.recent = []
            if not math.isfinite(self.best):  # a run that goes on has whole images in its past
                self.weights = weights
            return
        self.recent = [*self.recent, weights][-(self._reach + 1) :]
        first = len(losses) - len(self.recent)
        for epoch, candidate in enumerate(self.recent, start=first):
            if epoch + self._reach < len(losses) or is_last:
                self._compare(candidate, losses, epoch)
        if not math.isfinite(self.best):
            self.weights = weights

    def _compare(self, weights: Weights, losses: Sequence[float], epoch: int) -> None:
        around = losses[max(0, epoch - self._reach) : epoch + self._reach + 1]
        mean = sum(around) / len(around)
        if mean < self.best:
            self.weights, self.best = weights, mean
