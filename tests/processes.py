"""Processes that a command under test started, as Linux lists them."""

from pathlib import Path


def children(process):
    """Return the ids of the processes that a `Popen` started."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in listed.split()]


def is_alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
