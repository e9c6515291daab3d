"""Imports TensorFlow without its remarks, which would bury the one line that matters."""

import contextlib
import gc
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .silence import standard_error_dropped

# TensorFlow and Keras import these, where they are installed, only to know their types or to wrap
# them, which nothing here asks for; they take more than half of the seconds that TensorFlow takes.
_UNNEEDED = ("jax", "matplotlib", "pandas", "sklearn")


def import_tensorflow_quietly() -> None:
    """Import TensorFlow; what it says of missing GPUs and renamed functions is dropped.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    is_first = "tensorflow" not in sys.modules
    unneeded = set(_UNNEEDED) - {_keras_backend()}
    # Some lines are written before any level is read.
    with standard_error_dropped(), _hidden(unneeded):
        import tensorflow  # noqa: F401, PLC0415
    for name in ("tensorflow", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if is_first:
        # Half a million objects that live as long as the process: an export looks for garbage four
        # times, and would look through them each time.
        gc.freeze()


@contextlib.contextmanager
def _hidden(packages: set[str]) -> Iterator[None]:
    """Have imports fail as if these were not installed, but for what is imported already."""
    hidden = packages - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # as importlib says
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _keras_backend() -> str | None:
    """Return the backend that Keras will choose, as keras.io says: variable, file, or its own."""
    told = os.environ.get("KERAS_BACKEND")
    if told:
        return told
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        backend: str | None = json.loads((home / "keras.json").read_text("utf-8")).get("backend")
        return backend
    return None
