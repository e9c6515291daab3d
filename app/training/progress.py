"""Shows the progress of a training on standard error: standard output is only for results."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
from rich.console import Console

from .progress_bar import TrainingProgress
from .progress_log import TrainingLog


def training_progress() -> TrainingProgress | TrainingLog:
    """Return a callback that draws a bar in a terminal, and writes lines into a pipe or a log."""
    return TrainingProgress() if Console(stderr=True).is_terminal else TrainingLog()


@contextlib.contextmanager
def with_progress(
    callbacks: Sequence[keras.callbacks.Callback], quiet: bool
) -> Iterator[Sequence[keras.callbacks.Callback]]:
    """Yield callbacks, and one that shows the progress unless `quiet`."""
    if quiet:
        yield callbacks
        return
    with training_progress() as progress:
        yield [*callbacks, progress]
