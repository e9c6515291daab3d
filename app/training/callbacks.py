"""Callbacks that watch training: the epoch, the clock, and the loss that must stay finite."""

import math
import time
from dataclasses import dataclass
from typing import Any

import keras

from app.data.pipelines import TrainingPipeline, Wait
from app.errors import RunError

_CALM = "Lower optimizer.learning_rate, or set optimizer.clip_norm=1."


@dataclass
class Seconds:
    """What whole epochs took, those before an interruption with them.

    Attributes:
        epochs: validation included.
        steps: of training alone, but for the first step of each process, which is compiled.
        waiting: in which these steps waited for data.
        passes: how many epochs' worth of steps `steps` is about.
    """

    epochs: float = 0.0
    steps: float = 0.0
    waiting: float = 0.0
    passes: float = 0.0


class Clock(keras.callbacks.Callback):
    """Adds each epoch that ends to `seconds`; `wait` is the pipeline's."""

    def __init__(self, seconds: Seconds, wait: Wait) -> None:
        super().__init__()
        self.seconds = seconds
        self.wait = wait
        self._compiled = False
        self._epoch = self._begun = self._last = 0.0
        self._waited = 0.0
        self._left_out = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start to count."""
        self._epoch = self._begun = self._last = time.perf_counter()
        self._waited = self.wait.seconds
        self._left_out = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count up to here, or from here."""
        self._last = time.perf_counter()
        if not self._compiled:
            self._compiled = True
            self._begun, self._waited, self._left_out = self._last, self.wait.seconds, batch + 1

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the epoch."""
        self.seconds.epochs += time.perf_counter() - self._epoch
        self.seconds.steps += self._last - self._begun
        self.seconds.waiting += self.wait.seconds - self._waited
        self.seconds.passes += 1 - self._left_out / self.params["steps"]


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

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the validation loss, which tells of the last step.

        Raises:
            RunError: it is infinite or NaN.
        """
        loss = float((logs or {}).get("val_loss", 0.0))
        if not math.isfinite(loss):
            raise RunError(
                f"The validation loss must stay finite. Received: {loss} after epoch {epoch + 1}. "
                f"{_CALM}"
            )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the mean loss of the epoch so far.

        Raises:
            RunError: it is infinite or NaN.
        """
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            mend = _CALM
            if self._epoch == batch == 0:  # of the weights as they were drawn
                mend = "No step was taken before: lower initializer_stddev, l1, l2, or the targets."
            raise RunError(
                f"The loss must stay finite. Received: {loss} in step {batch + 1} of epoch "
                f"{self._epoch + 1}, at the learning rate {learning_rate:.3g}. {mend}"
            )
