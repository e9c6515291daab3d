"""Handles the signals that stop a run. It imports nothing heavy, since launchers use it too."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

# Exit status after SIGINT, as shells report it.
INTERRUPTED = 130
NOTHING_TO_RESUME = "No epoch was finished, so there is nothing to resume."


def resume_command(folder: str | Path) -> str:
    """Return the command that resumes the run in `folder`."""
    return f"hornbill train --resume {quote(str(folder))}"


class Interrupted(KeyboardInterrupt):
    """A signal stopped a run. The message says how to resume it, or that it cannot be resumed."""


@contextlib.contextmanager
def sigterm_as_sigint() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM too. Outside the main thread this does nothing."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    # Only the main thread can set signal handlers.
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the block ends. Outside the main thread this does nothing.

    It protects steps that must not be left half done, such as the start of a process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
