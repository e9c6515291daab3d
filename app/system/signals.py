"""How a run is stopped by a signal. Nothing heavy is imported, for who only waits for a run."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any


def resume_command(folder: str | Path) -> str:
    """Return the command that goes on with the run of `folder`."""
    return f"hornbill train --resume {quote(str(folder))}"


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal and can go on."""


@contextlib.contextmanager
def sigterm_as_sigint() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGTERM too; outside the main thread signals stay as they are."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()  # others cannot handle signals
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the end; outside the main thread they stay as they are.

    For what must not be left half done, such as the start of a process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
