"""A progress bar for training, on standard error: standard output stays fit for machines."""

from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress(keras.callbacks.Callback):
    """Shows the epoch, its steps, and loss and accuracy so far."""

    def __init__(self) -> None:
        """Prepare a bar; it appears when training begins."""
        super().__init__()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scores]}"),
            console=Console(stderr=True),
        )
        self._task: Any = None
        self._validation = ""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Show the bar."""
        self._task = self._progress.add_task("training", total=None, scores="")
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Name the epoch."""
        epochs, steps = self.params["epochs"], self.params["steps"]
        self._progress.update(
            self._task,
            description=f"epoch {epoch + 1}/{epochs}",
            total=steps * epochs if steps else None,
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count the step."""
        values = logs or {}
        scores = f"loss {values.get('loss', 0):.4f}  accuracy {values.get('accuracy', 0):.4f}"
        self._progress.update(self._task, advance=1, scores=scores + self._validation)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep the validation accuracy in sight."""
        self._validation = f"  validation {(logs or {}).get('val_accuracy', 0):.4f}"

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Leave the finished bar on the screen."""
        self._progress.stop()
