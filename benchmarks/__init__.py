"""Measurements that anyone can repeat: `python -m benchmarks.NAME`."""

import sys
from types import TracebackType

from serving.errors import HornbillError


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an error of ours, such as missing data, as one line."""
    if isinstance(error, HornbillError):
        sys.stderr.write(f"{error}\n")
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _show
