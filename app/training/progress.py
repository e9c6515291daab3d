"""Shows the progress of a training on standard error: standard output is only for results."""

from rich.console import Console

from .progress_bar import TrainingProgress
from .progress_log import TrainingLog


def training_progress() -> TrainingProgress | TrainingLog:
    """Return a callback that draws a bar in a terminal, and writes lines into a pipe or a log."""
    return TrainingProgress() if Console(stderr=True).is_terminal else TrainingLog()
