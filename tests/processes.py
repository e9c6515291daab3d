"""Processes of a command under test: those that it started, as Linux lists them, and its end."""

import subprocess
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


def reap(process, seconds):
    """Wait for a process that was told to end, with its output; kill it if that takes longer."""
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
