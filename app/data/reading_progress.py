"""Tells an observer how far reading, preparation and evaluation are, and what to know of data."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

from app.system.notes import log_note


class ReadingObserver(Protocol):
    """Gets told about the reading and preparation of data."""

    def advance(self, done: int, total: int, activity: str = "reading images") -> None:
        """Note that `done` of `total` are done.

        Args:
            done: number so far.
            total: number of all; 0 if it is not known.
            activity: a verb and what it is done to.
        """

    def begin(self, step: str) -> None:
        """Note that a step begins whose length is unknown, such as `evaluating`."""

    def note(self, line: str) -> None:
        """Take note of something that the user should know."""


_observer: ContextVar[ReadingObserver | None] = ContextVar("observer", default=None)


@contextlib.contextmanager
def observed_reading(observer: ReadingObserver) -> Iterator[None]:
    """Tell `observer` about all data that is read inside the context, in the same thread."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def is_observed() -> bool:
    """Return whether there is an observer, as that of a command."""
    return _observer.get() is not None


def tell_progress(done: int, total: int, activity: str = "reading images") -> None:
    """Tell the observer, if there is one, that `done` of `total` are done, see `advance`."""
    observer = _observer.get()
    if observer is not None:
        observer.advance(done, total, activity)


def tell_step(step: str) -> None:
    """Tell the observer, if there is one, that a step begins, such as `evaluating`."""
    observer = _observer.get()
    if observer is not None:
        observer.begin(step)


def tell(line: str) -> None:
    """Tell the observer what the user should know; without one, as Python code, the log."""
    observer = _observer.get()
    if observer is None:
        log_note(line)
    else:
        observer.note(line)
