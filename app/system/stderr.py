"""Silences start-up messages of libraries, which no log level controls."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Discard what is written to standard error, also by C++ code through the file descriptor."""
    if sys.stderr is None:  # closed before this process began
        yield
        return
    sys.stderr.flush()
    original = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(null)
        os.close(original)
