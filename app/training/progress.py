"""Shows the progress of a training on standard error: standard output is only for results."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
from rich.console import Console

from app.data.reading_progress import is_observed, observed_reading
from app.data.shown_progress import ReadingProgress
from app.system.notes import log_note, write_to_standard_error

from .progress_bar import TrainingProgress
from .progress_log import TrainingLog


def training_progress() -> TrainingProgress | TrainingLog:
    """Return a callback that draws a bar in a terminal, and writes lines into a pipe or a log."""
    return TrainingProgress() if Console(stderr=True).is_terminal else TrainingLog()


class _PythonProgress(ReadingProgress):
    """Shows Python code, which has no command around it, what a command shows.

    Args:
        quiet: whether to show nothing; handlers of the log `hornbill.notes` get notes anyway.
    """

    def __init__(self, quiet: bool) -> None:
        super().__init__()
        self._quiet = quiet

    def advance(self, done: int, total: int, activity: str = "reading images") -> None:
        """Show how far reading and preparation are."""
        if not self._quiet:
            super().advance(done, total, activity)

    def note(self, line: str) -> None:
        """Log a note, or show it."""
        self.stop()
        log_note(line, is_shown=not self._quiet)

    def write(self, line: str) -> None:
        """Write a line; a closed standard error must not end a training."""
        if not self._quiet:
            write_to_standard_error(line)


@contextlib.contextmanager
def with_progress(
    callbacks: Sequence[keras.callbacks.Callback], quiet: bool
) -> Iterator[Sequence[keras.callbacks.Callback]]:
    """Yield callbacks, and one that shows the progress unless `quiet`.

    So are the reading of data, steps and notes, unless a command shows them.
    """
    with contextlib.ExitStack() as stack:
        if not is_observed():
            shown = stack.enter_context(_PythonProgress(quiet))
            stack.enter_context(observed_reading(shown))
        yield callbacks if quiet else [*callbacks, stack.enter_context(training_progress())]
