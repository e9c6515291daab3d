"""What Python code is told about its data and training: the log `hornbill.notes`."""

import contextlib
import logging
import sys

LOG = logging.getLogger("hornbill.notes")


def log_note(line: str, is_shown: bool = True) -> None:
    """Log a note. Where logging has no handler, show it on standard error as a command does.

    Args:
        line: what the user should know.
        is_shown: whether to show it without a handler; a handler gets it anyway.
    """
    if LOG.hasHandlers():
        LOG.warning("%s", line)
    elif is_shown and LOG.isEnabledFor(logging.WARNING):
        write_to_standard_error(f"note: {line}")


def write_to_standard_error(line: str) -> None:
    """Write a line. A log that nobody reads any longer must not end a training."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def hide_notes() -> None:
    """Hide notes in this process, whose command shows them in its own way."""
    LOG.setLevel(logging.ERROR)
