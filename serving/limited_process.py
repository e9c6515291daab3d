"""A process of its own for what may never end, take all memory or crash, such as a foreign graph.

It ends with the process that started it. The memory limit needs Linux.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from .errors import ServingError, reason_of
from .free_memory import free_memory

if sys.platform == "linux":
    import resource

# What verifying and loading a small bundle may take, and what each byte of its files adds to that.
# A digit net needs half a second and 0.1 GB; of a net of 2 GB, all copies of the weights and a
# batch of activations exist at once, and a slow processor needs minutes for its golden samples.
_SECONDS, _SECONDS_PER_MB = 60.0, 1.0
_BYTES, _BYTES_PER_BYTE = 4e9, 5.0
_FREE_FRACTION = 0.9
_STATUS = Path("/proc/self/status")


class LimitError(ServingError):
    """A process has reached a limit, or has crashed.

    Attributes:
        kind: `time`, `memory` or `crash`.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Limits:
    """What one call may take.

    Attributes:
        seconds: time on the clock.
        memory: bytes of memory beyond those of an idle process.
    """

    seconds: float
    memory: float

    def time_error(self) -> LimitError:
        """Return the error for a call that takes longer."""
        return LimitError(
            f"Verifying and loading a bundle must take at most {self.seconds:,.4g} s. "
            "Received: a bundle that takes longer.",
            "time",
        )

    def memory_error(self) -> LimitError:
        """Return the error for a call that needs more memory."""
        return LimitError(
            "Verifying and loading a bundle must take at most "
            f"{self.memory / 1e9:,.3g} GB of memory. Received: a bundle that takes more.",
            "memory",
        )

    def crash_error(self, status: int) -> LimitError:
        """Return the error for a process that ended with `status`, minus the signal that did it."""
        how = f"exit status {status}"
        with suppress(ValueError):
            how = signal.Signals(-status).name
        return LimitError(
            "Verifying and loading a bundle must not end the process that does it. Received: "
            f"{how}, with {self.memory / 1e9:,.3g} GB of memory allowed.",
            "crash",
        )

    def failure(self, reason: str) -> LimitError:
        """Return the error for a call that failed in a way that nobody foresaw."""
        return LimitError(
            f"Verifying and loading a bundle must not fail otherwise. Received: {reason}.", "crash"
        )


def limits_for(
    folder: Path, seconds: float | None = None, memory_gb: float | None = None
) -> Limits:
    """Return the limits for a bundle, which grow with the size of its files.

    Args:
        folder: folder of a version.
        seconds: the limit of time; None for the default.
        memory_gb: the limit of memory in gigabytes; None for the default, which is at most nine
            tenths of the memory that is free.
    """
    size = _size(folder)
    usual = min(_BYTES + _BYTES_PER_BYTE * size, _FREE_FRACTION * free_memory())
    return Limits(
        _SECONDS + _SECONDS_PER_MB * size / 1e6 if seconds is None else seconds,
        usual if memory_gb is None else memory_gb * 1e9,
    )


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


class LimitedProcess:
    """A process that answers requests of JSON, one at a time; see `serve_requests`."""

    def __init__(self, module: str, niceness: int = 0) -> None:
        """Make one. It is started with the first request, and again after it has ended.

        Args:
            module: module with a function `main` that calls `serve_requests`.
            niceness: how much less of a busy processor it gets, from 0 to 19.
        """
        self._module = module
        self._niceness = niceness
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    def ask(self, request: Any, limits: Limits, receive: Callable[[Any], None]) -> None:
        """Send a request and pass on each reply. The process is ended unless all is well.

        Raises:
            LimitError: a limit was reached, or the process ended; another thread may `kill` it.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        process = self._process
        if self._is_killed:  # while it was started
            process.kill()
        is_late = threading.Event()
        timer = threading.Timer(limits.seconds, _end, [process, is_late])
        timer.daemon = True
        timer.start()
        try:
            self._exchange(process, [request, limits.memory], limits, receive)
        except BaseException as error:
            self.close()
            if is_late.is_set() and isinstance(error, LimitError):
                raise limits.time_error() from None
            raise
        finally:
            timer.cancel()

    def _exchange(
        self,
        process: "subprocess.Popen[bytes]",
        request: Any,
        limits: Limits,
        receive: Callable[[Any], None],
    ) -> None:
        to_it, from_it = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        with suppress(BrokenPipeError):  # then there is nothing to read either
            to_it.write(json.dumps(request).encode() + b"\n")
            to_it.flush()
        for line in from_it:
            state, reply = json.loads(line)
            if state == "memory":
                raise limits.memory_error()
            if state == "failed":
                raise limits.failure(reply)
            if state == "end":
                return
            receive(reply)
        raise limits.crash_error(process.wait())

    def kill(self) -> None:
        """End the process for good, from any thread; `ask` then raises `LimitError`."""
        self._is_killed = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process if it runs, while no `ask` is under way."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with process:  # waits for its end and closes its pipes
                pass

    def _start(self) -> "subprocess.Popen[bytes]":
        # The same packages, wherever they are; `-c` leaves the working folder out.
        code = (
            f"import os, sys; os.nice({self._niceness}); sys.path[:] = {sys.path!r}; "
            f"from {self._module} import main; main()"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is for the parent
        )


def _end(process: "subprocess.Popen[bytes]", is_late: threading.Event) -> None:
    is_late.set()
    process.kill()


def serve_requests(answer: Callable[[Any], Iterator[Any]]) -> None:
    """Read requests from standard input and write the replies, until the parent ends.

    Args:
        answer: yields the replies to a request; `MemoryError` if there is too little memory.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed is no reply
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    idle = _data_bytes()

    def reply(state: str, value: Any = None) -> None:
        replies.write(json.dumps([state, value]) + "\n")
        replies.flush()

    while True:
        request, memory = json.loads(requests.get())
        _limit_memory(int(idle + memory))
        try:
            for value in answer(request):
                reply("reply", value)
            reply("end")
        except MemoryError:
            reply("memory")
        except Exception as error:  # passed on: nothing that a bundle does may pass unnoticed
            reply("failed", f"{type(error).__name__}: {reason_of(error)}")


def _read_requests(requests: "queue.SimpleQueue[bytes]") -> None:
    # In a thread, since the end of the parent must be noticed while a graph runs.
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _data_bytes() -> int:
    """Return the memory that the limit counts: what this process may write to."""
    if sys.platform != "linux":
        return 0
    found = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmData"))
    return 1024 * int(found.split()[1])


def _limit_memory(size: int) -> None:
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (size if hard < 0 else min(size, hard), hard))
