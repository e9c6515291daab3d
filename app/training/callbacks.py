"""Callbacks that set the epoch, measure time, and stop a run whose loss is not finite."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from app.config.families import is_own_model
from app.config.run_config import RunConfig
from app.config.training_config import OptimizerConfig
from app.data.pipelines import StreamPipeline, TrainingPipeline, Wait
from app.errors import ConfigError, OwnCodeError, RunError
from app.system.user_code import is_reference, shown_name

from .progressive_resizing import work_of

# Callbacks of Keras that follow a value of the logs, and those that add one themselves.
MONITORING = (
    keras.callbacks.EarlyStopping,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ReduceLROnPlateau,
)
_TELLING_RATE = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
_FIRST_FIX = "lower initializer_stddev, l1, l2, or the targets"


@dataclass
class Seconds:
    """Seconds that all epochs have taken, including those before an interruption.

    Attributes:
        epochs: time of the epochs, validation included.
        steps: time of the training steps, except the first step of each process, and of each size
            of images, which includes compilation.
        waiting: part of `steps` that was spent waiting for data.
        passes: number of epochs that the steps in `steps` amount to.
    """

    epochs: float = 0.0
    steps: float = 0.0
    waiting: float = 0.0
    passes: float = 0.0


class Clock(keras.callbacks.Callback):
    """Adds the time of each finished epoch to `seconds`; `wait` is the pipeline's `Wait`."""

    def __init__(self, seconds: Seconds, wait: Wait) -> None:
        super().__init__()
        self.seconds = seconds
        self.wait = wait
        self._compiled = False
        self._epoch = self._begun = self._last = 0.0
        self._waited = 0.0
        self._left_out = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._epoch = self._begun = self._last = time.perf_counter()
        self._waited = self.wait.seconds
        self._left_out = 0
        work, before = (work_of(self.params, now, now + 1) for now in (epoch, max(epoch - 1, 0)))
        if work != before:
            self._compiled = False  # another size of images

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Note the time; the clock restarts after a step that includes compilation."""
        self._last = time.perf_counter()
        if not self._compiled:
            self._compiled = True
            self._begun, self._waited = self._last, self.wait.seconds
            # The last of several steps that are executed at once may lie behind the epoch.
            self._left_out = min(batch + 1, self.params["steps"])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the time of the epoch."""
        self.seconds.epochs += time.perf_counter() - self._epoch
        self.seconds.steps += self._last - self._begun
        self.seconds.waiting += self.wait.seconds - self._waited
        self.seconds.passes += 1 - self._left_out / self.params["steps"]


class NextEpoch(keras.callbacks.Callback):
    """Sets the epoch whose batches the pipeline yields next.

    It also tells the callbacks after it the number of samples in an epoch, `params["samples"]`.
    """

    def __init__(self, pipeline: TrainingPipeline | StreamPipeline) -> None:
        super().__init__()
        self.pipeline = pipeline

    def set_params(self, params: dict[str, Any]) -> None:
        """Add the number of samples to the parameters, which all callbacks share."""
        super().set_params(params)
        params["samples"] = self.pipeline.samples

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the epoch."""
        self.pipeline.epoch = epoch


class NumericLogs(keras.callbacks.Callback):
    """Turns the values in the logs of an epoch, to which users' callbacks add some, into floats."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Change the logs, which all callbacks share.

        Raises:
            OwnCodeError: a value is no number.
        """
        logs = {} if logs is None else logs
        for name, value in logs.items():
            try:
                logs[name] = float(np.asarray(value).item())
            except (TypeError, ValueError):
                raise OwnCodeError(
                    "Callbacks may add numbers to the logs. "
                    f"Received: {name}={value!r:.80} after epoch {epoch + 1}."
                ) from None


def check_monitors(callbacks: Sequence[keras.callbacks.Callback], names: Sequence[str]) -> None:
    """Require that callbacks of Keras monitor what is in the logs.

    Those behind a callback of a user's are not checked: it may add values to the logs.

    Args:
        callbacks: the callbacks in the order in which they run.
        names: names of the values in the logs of an epoch.

    Raises:
        ConfigError: one monitors something else.
    """
    known = [*names]
    for callback in callbacks:
        kind = type(callback)
        if not kind.__module__.startswith("keras.") or kind is keras.callbacks.LambdaCallback:
            return
        if kind in MONITORING and not _is_in(known, callback):
            raise ConfigError(
                "A callback must monitor a value of the logs. Received: "
                f"{kind.__name__}(monitor={callback.monitor!r}). "
                f"The logs have {', '.join(known)}."
            )
        if kind in _TELLING_RATE:
            known.append("learning_rate")


def _is_in(names: Sequence[str], callback: Any) -> bool:
    """Return whether a callback monitors one of `names`, or has no need to."""
    if getattr(callback, "save_best_only", True):
        return callback.monitor in names
    # It saves each epoch, but Keras asks whether less of the value is better.
    return str(callback.monitor).removeprefix("val_") in names


class EpochLog(keras.callbacks.TensorBoard):
    """Writes logs for TensorBoard after each epoch.

    Keras' own callback also prepares logs of each step, which it then drops; on a small model that
    takes a quarter of the step's time.
    """

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Do nothing."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Do nothing."""


class FiniteLoss(keras.callbacks.Callback):
    """Stops a run whose loss is no longer a finite number.

    Args:
        config: configuration of the run, which tells what the user has written; None if nothing.
    """

    def __init__(self, config: RunConfig | None = None) -> None:
        super().__init__()
        self._first_fix = _FIRST_FIX if config is None else _first_fix(config)
        optimizer = OptimizerConfig() if config is None else config.training.optimizer
        self._fix = optimizer.remedy

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the validation loss, which shows the effect of the last step.

        Raises:
            RunError: it is infinite or NaN.
        """
        loss = float((logs or {}).get("val_loss", 0.0))
        if not math.isfinite(loss):
            raise RunError(
                f"The validation loss must stay finite. Received: {loss} after epoch {epoch + 1}. "
                f"{self._fix}"
            )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the mean loss of the epoch so far.

        Raises:
            RunError: it is infinite or NaN.
        """
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            fix = self._fix
            if self._epoch == batch == 0:  # the weights are still the initial ones
                fix = f"No step was taken yet: {self._first_fix}."
            raise RunError(
                f"The loss must stay finite. Received: {loss} in step {batch + 1} of epoch "
                f"{self._epoch + 1}, at the learning rate {learning_rate:.3g}. {fix}"
            )


def _first_fix(config: RunConfig) -> str:
    """Return what to change if the loss is not finite before the first step."""
    own = []
    if is_reference(config.training.loss):
        own.append(f"the loss {shown_name(config.training.loss)}")
    if is_own_model(config.family):
        own.append(f"the initial weights of {shown_name(config.family)}")
        return f"mend {' or '.join(own)}"
    return f"mend {own[0]}, or {_FIRST_FIX}" if own else _FIRST_FIX
