"""Entry point of the command `hornbill`: Ctrl-C prints one line even during the imports."""

import os
import signal
import sys
from types import FrameType

from app.system.notes import hide_notes
from app.system.standard_streams import escape_unknown_characters, open_closed_streams


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: always, with the status of `app.commands.cli.main`.
    """
    open_closed_streams()
    escape_unknown_characters()
    hide_notes()
    # C extensions can turn a KeyboardInterrupt during their import into an ImportError.
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, _exit)
    from app.commands.cli import main as run

    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _exit(_number: int, _frame: FrameType | None) -> None:
    sys.stderr.write("hornbill: Interrupted.\n")
    sys.stderr.flush()
    os._exit(130)
