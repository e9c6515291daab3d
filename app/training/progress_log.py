"""The progress of a training in a log: a line for each epoch, on standard error."""

import time
from collections.abc import Callable, Mapping
from typing import Self

import keras

from app.system.notes import write_to_standard_error

from .progress_texts import (
    describe_duration,
    describe_scores,
    describe_training,
    samples_per_step,
)
from .progressive_resizing import work_of

# At most one line in this time: a run of very short epochs must not fill a log.
_SECONDS_BETWEEN = 2.0
# Time after which the speed is known, and between two lines of an epoch that takes longer.
_SECONDS_OF_SPEED, _SECONDS_WITHIN = 2.0, 30.0


class TrainingLog(keras.callbacks.Callback):
    """Writes a line for each epoch, with its loss, metric, seconds and the time left.

    Of epochs that take less than `seconds_between`, some are left out; the first and the last never
    are. Use it as a context manager, as `TrainingProgress`.

    Args:
        write: takes each line; None writes it to standard error.
        clock: returns the time in seconds.
        seconds_between: smallest time between the lines of two epochs.
    """

    def __init__(
        self,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        seconds_between: float = _SECONDS_BETWEEN,
    ) -> None:
        super().__init__()
        self._write = write or write_to_standard_error
        self._clock = clock
        self._between = seconds_between
        self._pending = ""
        self._written = float("-inf")
        self._first: int | None = None
        self._is_compiled = self._has_told_speed = False

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Say what is trained where."""
        self._write(f"training: {describe_training(self.model, self.params)}")

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Start the clock."""
        self._epoch = epoch
        self._begun = self._shown = self._clock()
        if self._first is None:
            self._first = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Tell the speed once, and how far an epoch is that takes long."""
        now, steps = self._clock(), self.params["steps"]
        # The last of several steps that are executed at once may lie behind the epoch.
        done = min(batch + 1, steps)
        if not self._is_compiled:
            self._is_compiled, self._steady, self._steady_steps = True, now, done
        elif not self._has_told_speed:
            self._tell_speed(done, now, is_last=done == steps)
        if now - self._shown >= _SECONDS_WITHIN:
            self._shown = now
            left = describe_duration((now - self._begun) / done * (steps - done))
            self._write(
                f"{self._title()}  step {done:,}/{steps:,}{describe_scores(logs)}  "
                f"{left} left in this epoch"
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Write the line of the epoch, unless another was written a moment ago."""
        now = self._clock()
        seconds = now - self._begun
        line = f"{self._title()}{describe_scores(logs)}  {seconds:.1f} s"
        if left := work_of(self.params, epoch + 1, self.params["epochs"]):
            # What was compiled does not count, unless there was nothing else.
            first = self._first or 0
            share = self._steady_steps / self.params["steps"]
            compiled = work_of(self.params, first, first + 1) * share
            done = work_of(self.params, first, epoch + 1) - compiled
            spent = now - self._steady if done else seconds
            line += f"  {describe_duration(spent / (done or compiled) * left)} left"
        self._pending = line
        if now - self._written >= self._between:
            self._write_pending()

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Write the line of the last epoch."""
        self._write_pending()

    def _tell_speed(self, done: int, now: float, is_last: bool) -> None:
        spent = now - self._steady
        epochs = self._epoch - (self._first or 0)
        steps = epochs * self.params["steps"] + done - self._steady_steps
        per_step, kind = samples_per_step(self.model, self.params)
        if per_step and steps > 0 and spent > 0 and (is_last or spent >= _SECONDS_OF_SPEED):
            self._has_told_speed = True
            self._write(f"speed: {per_step * steps / spent:,.0f} {kind}/s")

    def _title(self) -> str:
        return f"epoch {self._epoch + 1}/{self.params['epochs']}"

    def _write_pending(self) -> None:
        if self._pending:
            self._write(self._pending)
            self._pending, self._written = "", self._clock()

    def __enter__(self) -> Self:
        """Return the callback."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: a log needs no end."""
