"""The main process of a server: it holds the listener, and starts, replaces and ends the workers.

A worker that is killed loses its requests in flight and nothing else: connections that it has not
accepted yet stay with the listener, for the others or for the one that takes its place.
"""

import os
import signal
import socket
import time
from contextlib import suppress
from typing import Any

from granian.net import SocketSpec
from granian.server.mp import MPServer

# Told to the workers by the main process; not on Windows.
DRAIN_SIGNAL = getattr(signal, "SIGUSR1", None)
# In the environment of a worker that takes the place of another, while others serve.
REPLACES = "HORNBILL_REPLACES"
# A worker that ends so often in so many seconds cannot be started; then the server ends.
_MAX_ENDS, _ENDS_S = 5, 60.0
_CHECK_S = 0.05


class Supervisor(MPServer):
    """Granian with a listener that outlives workers, and with an end in two steps."""

    _shd: Any  # Granian's socket
    _sfd: Any  # its number
    _sso: Any  # Python's object for it

    def __init__(self, *arguments: Any, drain_delay_s: float, **options: Any) -> None:
        """Make one.

        Args:
            *arguments: arguments of Granian.
            drain_delay_s: seconds between SIGTERM and the end of the listener.
            **options: options of Granian.
        """
        super().__init__(*arguments, **options)
        self._drain_delay_s = drain_delay_s
        self._signals = 0
        self._ends: dict[int, list[float]] = {}

    def _init_shared_socket(self) -> None:
        super()._init_shared_socket()
        if self._sso is not None:
            return
        # Granian gives each worker its own listener, with which its connections would be lost.
        self._shd = SocketSpec(self.bind_addr, self.bind_port, self.backlog).build()
        self._sfd = self._shd.get_fd()
        self._ssp = None
        self._sso = socket.socket(fileno=self._sfd)
        self._sso.set_inheritable(True)

    def signal_handler_interrupt(self, *arguments: Any, **options: Any) -> None:
        """Begin to end; a second signal ends the delay."""
        self._signals += 1
        super().signal_handler_interrupt(*arguments, **options)

    def startup(self, *arguments: Any) -> None:
        """Start the workers, which ignore the signal to drain until they handle it."""
        if DRAIN_SIGNAL is not None:
            signal.signal(DRAIN_SIGNAL, signal.SIG_IGN)
        super().startup(*arguments)

    def shutdown(self, exit_code: int = 0) -> None:
        """Let the workers refuse to be ready for a while, then end them."""
        for worker in self.wrks:
            worker.interrupt_by_parent = True  # a terminal sends its signal to the workers too
            if DRAIN_SIGNAL is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.inner.pid, DRAIN_SIGNAL)
        end = time.monotonic() + self._drain_delay_s
        while time.monotonic() < end and self._signals < 2 and any(w.is_alive() for w in self.wrks):
            time.sleep(_CHECK_S)
        super().shutdown(exit_code)

    def _respawn_workers(self, workers: list[int], *arguments: Any, **options: Any) -> None:
        now = time.monotonic()
        for index in workers:
            self._ends[index] = [*self._recent_ends(index), now]
        if any(len(self._ends[index]) >= _MAX_ENDS for index in workers):
            self.interrupt_children.extend(workers)  # so that the status is 1
            self.interrupt_signal = True
            self.main_loop_interrupt.set()
            return
        if self.workers > 1:
            os.environ[REPLACES] = "1"
        super()._respawn_workers(workers, *arguments, **options)
        for index in workers:  # else Granian ends if the next end comes within 5.5 s
            self.respawned_wrks.pop(index, None)

    def is_given_up(self, index: int) -> bool:
        """Return whether the server ends if this worker, counted from 0, ends now."""
        return len(self._recent_ends(index)) + 1 >= _MAX_ENDS

    def _recent_ends(self, index: int) -> list[float]:
        now = time.monotonic()
        return [end for end in self._ends.get(index, []) if now - end < _ENDS_S]
