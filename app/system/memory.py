"""Says in one line that a model is too large for the machine."""

import contextlib
from collections.abc import Iterator

from app.errors import RunError
from serving.errors import one_line

_TOO_LARGE = ("MemoryError", "RecursionError", "ResourceExhaustedError")


@contextlib.contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Raise `RunError` for what the backends of Keras raise where memory, or the stack, ends."""
    try:
        yield
    except Exception as error:  # each backend has a class of its own
        is_of_jax = type(error).__name__ == "JaxRuntimeError"  # for whatever goes wrong
        if type(error).__name__ not in _TOO_LARGE and not (
            is_of_jax and "RESOURCE_EXHAUSTED" in str(error)
        ):
            raise
        raise RunError(
            "A model must be small enough for this machine. "
            f"Received: {type(error).__name__}: {one_line(error):.200}."
        ) from None
