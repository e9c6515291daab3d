"""Writing to a stream whose reader may be slow, stopped or gone."""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# Waiting for a reader; what comes beyond it is dropped.
_MAX_BYTES = 8_000_000
_RETRY_S = 0.05


class Writer:
    """Writes in a thread of its own, so that nothing else waits for who reads."""

    def __init__(
        self, stream: Any, failed: Callable[[int, OSError], None], most_bytes: int = _MAX_BYTES
    ) -> None:
        """Make a writer; its thread begins with the first write.

        Args:
            stream: of bytes.
            failed: told how many lines were not written, and why.
            most_bytes: that may wait.
        """
        # Unbuffered: at its end Python would wait for a buffer that the thread holds.
        self._stream = getattr(stream, "raw", stream)
        self._failed = failed
        self._most_bytes = most_bytes
        self._parts: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._thread: threading.Thread | None = None

    def write(self, content: bytes, lines: int) -> bool:
        """Let `content` be written; return False if too much waits, and it is dropped."""
        with self._lock:
            if self._waiting + len(content) > self._most_bytes:
                return False
            self._waiting += len(content)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
                self._thread.start()
        self._parts.put((content, lines))
        return True

    def close(self, most_s: float) -> None:
        """End, once what waits is written, or after so many seconds."""
        if self._thread is not None:
            self._parts.put(None)
            self._thread.join(most_s)

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
            if written is None:  # whoever shares the pipe made it one that never waits
                time.sleep(_RETRY_S)
            left = left[written or 0 :]


class AsideHandler(logging.Handler):
    """Logs to standard error by a `Writer`; what cannot be written is dropped."""

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
        """End, as `logging` asks for when Python ends."""
        self._writer.close(1.0)
        super().close()
