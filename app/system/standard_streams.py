"""Standard streams that were closed before the program began."""

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
