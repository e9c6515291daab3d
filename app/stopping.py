"""How a run is stopped by a signal. Nothing heavy is imported, for who only waits for a run."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


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
