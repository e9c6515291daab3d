"""Imports TensorFlow without its remarks, which would bury the one line that matters."""

import logging
import os

from .silence import standard_error_dropped


def import_tensorflow_quietly() -> None:
    """Import TensorFlow; what it says of missing GPUs and renamed functions is dropped.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with standard_error_dropped():  # some lines are written before any level is read
        import tensorflow  # noqa: F401, PLC0415
    for name in ("tensorflow", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
