"""The errors of `export`, each one line: the rule, the value received, the fix.

HornbillError
└── ExportError (also a ValueError)    nothing was published; earlier versions are untouched
    └── ProofError                     the artifacts do not compute the same function
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from serving.errors import HornbillError

from .reasons import describe_failure, plain_errors


class ExportError(HornbillError, ValueError):
    """A model cannot be exported. Nothing was published; earlier versions are untouched."""


class ProofError(ExportError):
    """The artifacts do not compute the same function."""

    exit_status = 1


@contextmanager
def explained(rule: str, layers: Collection[str] = ()) -> Iterator[None]:
    """Turn what Keras, TensorFlow, tf2onnx or ONNX Runtime raise into an `ExportError`.

    Args:
        rule: The rule that was broken, as one sentence without its full stop.
        layers: Names of the model's layers, to name the one that failed.

    Raises:
        ExportError: The block raised an exception other than `ExportError` or `OSError`.
    """
    try:
        with plain_errors():
            yield
    except (ExportError, OSError):
        raise
    except Exception as error:  # these libraries raise anything
        if isinstance(error.__context__, KeyboardInterrupt):  # TensorFlow turns it into a TypeError
            raise error.__context__ from None
        raise ExportError(f"{rule}. Received: {describe_failure(error, layers)}") from error
