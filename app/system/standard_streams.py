"""Standard streams that were closed before the program began, or cannot write every character."""

import io
import os
import sys


def open_closed_streams() -> None:
    """Open the null device in place of standard streams that were closed before the program began.

    Otherwise a file or a socket would take the number of such a stream, what is printed would go
    there, and Python's own stream would be None.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        os.set_inheritable(null, True)
        setattr(sys, name, os.fdopen(null, mode, closefd=False))


def escape_unknown_characters() -> None:
    """Write characters that the encoding of a standard stream lacks as escapes.

    Otherwise a pipe on Windows, which is not UTF-8, would end a command with an error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
