"""What Python code is told about its data and training: the log of the name `hornbill`."""

import logging

LOG = logging.getLogger("hornbill")


def hide_notes() -> None:
    """Hide notes in this process, whose command shows them in its own way."""
    LOG.setLevel(logging.ERROR)
