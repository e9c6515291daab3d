"""Where the command `hornbill` begins: Ctrl-C is one line even while the rest is imported."""

import sys


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: always, with the status of `app.cli.main`.
    """
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("hornbill: Interrupted.\n")
        sys.exit(130)
