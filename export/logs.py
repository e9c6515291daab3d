"""Keeps what TensorFlow, tf2onnx, onnxscript and ONNX Runtime log out of the user's terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_log() -> Iterator[None]:
    """Drop warnings, such as advice on a graph that is not the user's; errors are still logged.

    Those that tf2onnx logs are dropped as well: they are raised or mended later. No code of the
    user's should run within.
    """
    converter = logging.getLogger("tf2onnx")
    before, level = logging.root.manager.disable, converter.level
    logging.disable(max(before, logging.WARNING))
    converter.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        converter.setLevel(level)
