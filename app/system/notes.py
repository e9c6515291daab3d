"""What Python code is told about its data and training: the log `hornbill.notes`."""

import logging

LOG = logging.getLogger("hornbill.notes")


def hide_notes() -> None:
    """Hide notes in this process, whose command shows them in its own way."""
    LOG.setLevel(logging.ERROR)
