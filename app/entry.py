"""Where the command `hornbill` begins: Ctrl-C is one line even while the rest is imported."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: always, with the status of `app.commands.cli.main`.
    """
    # Raised inside an import, KeyboardInterrupt can come out of C as an ImportError.
    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heeded:
        signal.signal(signal.SIGINT, _end)
    from app.commands.cli import main as run

    if is_heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.stderr.write("hornbill: Interrupted.\n")
    sys.stderr.flush()
    os._exit(130)
