"""A progress bar for training, on standard error: standard output is only for results."""

from typing import Any, Self

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from .progress_texts import describe_scores, describe_training, samples_per_step
from .progressive_resizing import work_of


class _Rate(ProgressColumn):
    """Shows the samples that are trained on in a second, as long as training goes on."""

    def render(self, task: Task) -> Text:
        """Return the column of a task that counts steps, or their work."""
        per_second = (task.speed or 0) * task.fields["per_step"]
        return Text(f"{per_second:,.0f} {task.fields['kind']}/s" if per_second else "")


class TrainingProgress(keras.callbacks.Callback):
    """Shows epoch, steps, loss and metric. Use it as a context manager."""

    def __init__(self) -> None:
        """Create the bar; it appears when training begins."""
        super().__init__()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[scores]}", table_column=Column()),  # wraps if it must
            console=Console(stderr=True),
        )
        self._task: Any = None
        self._training = self._validation = ""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Say what is trained where, and show the bar."""
        self._per_step, kind = samples_per_step(self.model, self.params)
        self._task = self._progress.add_task(
            "training", total=None, scores="", per_step=self._per_step, kind=kind
        )
        line = f"training: {describe_training(self.model, self.params)}"
        self._progress.console.print(line, soft_wrap=True, markup=False, highlight=False)
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Name the epoch."""
        self._epoch, self._work = epoch, work_of(self.params, epoch, epoch + 1)
        self._done = work_of(self.params, 0, epoch) * self.params["steps"]
        self._progress.update(self._task, per_step=self._per_step / self._work)
        self._show(epoch + 1, done=epoch, epochs=self.params["epochs"])

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count the step."""
        self._training = describe_scores(logs).lstrip()
        self._progress.update(
            self._task,
            completed=self._done + self._work * (batch + 1),
            scores=self._training + self._validation,
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the validation loss, which stays during the next epoch."""
        self._validation = f"  val_loss {float((logs or {}).get('val_loss', 0)):.4f}"
        self._progress.update(self._task, scores=self._training + self._validation)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Leave the full bar on the screen, with the number of epochs that training took."""
        done = self._epoch + 1
        self._show(done, done, epochs=done)
        self._progress.stop()

    def _show(self, epoch: int, done: int, epochs: int) -> None:
        steps = self.params["steps"]
        self._progress.update(
            self._task,
            description=f"epoch {epoch}/{epochs}",
            completed=steps * work_of(self.params, 0, done),
            total=steps * work_of(self.params, 0, epochs),
        )

    def __enter__(self) -> Self:
        """Return the callback."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the terminal. After an error Keras does not call `on_train_end`."""
        if self._progress.live.is_started:
            self._progress.stop()
