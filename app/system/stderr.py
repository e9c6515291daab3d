"""Drops what libraries write to standard error as they start, where no level of theirs reaches."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Drop what is written to standard error meanwhile, also by C++ code to the descriptor."""
    if sys.stderr is None:  # it was closed before this process began
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(null)
        os.close(kept)
