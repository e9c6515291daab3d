"""Imports TensorFlow without its remarks, which would bury the one line that matters."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator


def import_tensorflow_quietly() -> None:
    """Import TensorFlow; what it says of missing GPUs and renamed functions is dropped.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _standard_error_dropped():
        import tensorflow  # noqa: F401, PLC0415
    for name in ("tensorflow", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def _standard_error_dropped() -> Iterator[None]:
    # Some lines are written before any level is read, by C++ code straight to the descriptor.
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(null)
        os.close(kept)
