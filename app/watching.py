"""Callbacks that watch training: the epoch, the clock, and the loss that must stay finite."""

import math
import time
from typing import Any

import keras

from .data.pipelines import TrainingPipeline
from .errors import RunError


class StepTime(keras.callbacks.Callback):
    """Adds up the seconds of training steps, validation and other callbacks left out."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._begun = 0.0
        self._last = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start to count."""
        self._begun = self._last = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count up to here."""
        self._last = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the epoch."""
        self.seconds += self._last - self._begun


class NextEpoch(keras.callbacks.Callback):
    """Tells a pipeline which epoch's batches come next."""

    def __init__(self, pipeline: TrainingPipeline) -> None:
        super().__init__()
        self.pipeline = pipeline

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the epoch."""
        self.pipeline.epoch = epoch


class FiniteLoss(keras.callbacks.Callback):
    """Stops a run whose loss is no longer a finite number."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the mean loss of the epoch so far.

        Raises:
            RunError: it is infinite or NaN.
        """
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            raise RunError(
                f"The loss must stay finite. Received: {loss} in step {batch + 1} of epoch "
                f"{self._epoch + 1}, at the learning rate {learning_rate:.3g}. Lower "
                "optimizer.learning_rate, or set optimizer.clip_norm=1."
            )
