"""Shows the progress of a training on standard error: standard output is only for results."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
from rich.console import Console

from app.data.reading_progress import is_observed, observed_reading
from app.system.notes import log_note, write_to_standard_error

from .progress_bar import TrainingProgress
from .progress_log import TrainingLog


def training_progress() -> TrainingProgress | TrainingLog:
    """Return a callback that draws a bar in a terminal, and writes lines into a pipe or a log."""
    return TrainingProgress() if Console(stderr=True).is_terminal else TrainingLog()


class _PythonProgress:
    """Tells Python code, which has no command around it, of steps and notes.

    It is an `app.data.reading_progress.ReadingObserver`.

    Args:
        quiet: whether to show nothing; handlers of the log `hornbill.notes` get notes anyway.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def advance(self, done: int, total: int, activity: str = "reading images") -> None:
        """Show nothing: the speed of reading is for commands."""

    def begin(self, step: str) -> None:
        """Show that a step begins."""
        if not self._quiet:
            write_to_standard_error(f"{step} …")

    def note(self, line: str) -> None:
        """Log a note, or show it."""
        log_note(line, is_shown=not self._quiet)


@contextlib.contextmanager
def with_progress(
    callbacks: Sequence[keras.callbacks.Callback], quiet: bool
) -> Iterator[Sequence[keras.callbacks.Callback]]:
    """Yield callbacks, and one that shows the progress unless `quiet`; so are steps and notes."""
    with contextlib.ExitStack() as stack:
        if not is_observed():
            stack.enter_context(observed_reading(_PythonProgress(quiet)))
        yield callbacks if quiet else [*callbacks, stack.enter_context(training_progress())]
