"""Reports a model that is too large for the machine as an error of one line."""

import contextlib
from collections.abc import Iterator

from app.errors import RunError

# Class names, since importing the classes would import every backend of Keras.
_OUT_OF_MEMORY = ("MemoryError", "RecursionError", "ResourceExhaustedError")


@contextlib.contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Raise `RunError` where a backend of Keras runs out of memory or of stack."""
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise RunError(
            f"The model is too large for this machine. Received: {type(error).__name__}. "
            "Reduce hidden, filters, width, depth, image_size or batch_size."
        ) from None


def _is_out_of_memory(error: Exception) -> bool:
    name = type(error).__name__
    # JAX raises one class for every failure.
    return name in _OUT_OF_MEMORY or (
        name == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)
    )
