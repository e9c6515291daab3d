"""Writes to streams whose reader may be slow, stopped or gone."""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# Size of the backlog; further lines are dropped.
_MAX_BYTES = 8_000_000
_RETRY_S = 0.05


class Writer:
    """Writes to a stream in a thread, so that the callers never wait for its reader."""

    def __init__(
        self, stream: Any, failed: Callable[[int, OSError], None], max_bytes: int = _MAX_BYTES
    ) -> None:
        """Make a writer. Its thread starts with the first write.

        Args:
            stream: binary stream.
            failed: called with the number of lines that were not written, and the error.
            max_bytes: size of the backlog.
        """
        # Unbuffered: when Python ends it would wait for a buffer that the thread holds.
        self._stream = getattr(stream, "raw", stream)
        self._failed = failed
        self._max_bytes = max_bytes
        self._parts: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._thread: threading.Thread | None = None

    def write(self, content: bytes, lines: int) -> bool:
        """Queue `content` to be written; return False if the backlog is full and it is dropped."""
        with self._lock:
            if self._waiting + len(content) > self._max_bytes:
                return False
            self._waiting += len(content)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
                self._thread.start()
        self._parts.put((content, lines))
        return True

    def close(self, timeout_s: float) -> None:
        """Stop when the backlog is written, or after `timeout_s` seconds."""
        if self._thread is not None:
            self._parts.put(None)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (part := self._parts.get()) is not None:
            content, lines = part
            try:
                self._write_all(content)
            except OSError as error:
                self._failed(lines, error)
            with self._lock:
                self._waiting -= len(content)

    def _write_all(self, content: bytes) -> None:
        left = memoryview(content)
        while left:
            written = self._stream.write(left)
            if written is None:  # another process made the pipe non-blocking
                time.sleep(_RETRY_S)
            left = left[written or 0 :]


class ThreadedHandler(logging.Handler):
    """Logs to standard error in a thread; lines that cannot be written are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._writer = Writer(sys.stderr.buffer, lambda _lines, _error: None)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = self.format(record) + "\n"
            self._writer.write(line.encode("utf-8", "backslashreplace"), 1)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Stop; `logging` calls this when Python ends."""
        self._writer.close(1.0)
        super().close()
