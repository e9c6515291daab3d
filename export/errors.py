"""The errors of `export`, each one line: the rule, the value received, the fix.

HornbillError
└── ExportError (also a ValueError)    nothing was published; earlier versions are untouched
    └── ProofError                     the artifacts do not compute the same function
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from serving.errors import HornbillError

_COLORS = re.compile(r"\x1b\[[0-9;]*m")
# Beginnings of the lines that Keras and TensorFlow append to an error.
_APPENDIX = ("Arguments received by", "[[{{node", "Stack trace for op definition", "Call arguments")


class ExportError(HornbillError, ValueError):
    """A model cannot be exported. Nothing was published; earlier versions are untouched."""


class ProofError(ExportError):
    """The artifacts do not compute the same function."""

    exit_status = 1


@contextmanager
def explained(rule: str) -> Iterator[None]:
    """Turn what Keras, TensorFlow, tf2onnx or ONNX Runtime raise into an `ExportError`.

    Args:
        rule: The rule that was broken, as one sentence without its full stop.

    Raises:
        ExportError: The block raised an exception other than `ExportError` or `OSError`.
    """
    try:
        yield
    except (ExportError, OSError):
        raise
    except Exception as error:  # these libraries raise anything
        if isinstance(error.__context__, KeyboardInterrupt):  # TensorFlow turns it into a TypeError
            raise error.__context__ from None
        reason = " ".join(_reason(str(error)).split())
        raise ExportError(f"{rule}: {type(error).__name__}: {reason:.200}.") from error


def _reason(message: str) -> str:
    """Return the whole message, or its last line where it contains a traceback."""
    lines = [line.strip() for line in _COLORS.sub("", message).splitlines()]
    ends = [n for n, line in enumerate(lines) if line.startswith(_APPENDIX)]
    lines = [line for line in lines[: ends[0] if ends else None] if line]
    has_trace = any(line.startswith("File ") for line in lines)
    return lines[-1] if has_trace and lines else " ".join(lines)
