"""Imports TensorFlow and Keras without remarks, which would bury the one line that matters."""

import contextlib
import gc
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from app.errors import ConfigError
from serving.errors import one_line

from .stderr import suppress_stderr

# Of Keras', those that this package knows.
_BACKENDS = ("tensorflow", "jax")
# TensorFlow and Keras import these, where they are installed, only to know their types or to wrap
# them, which nothing here asks for; they take more than half of the seconds that TensorFlow takes.
_UNNEEDED = ("jax", "matplotlib", "pandas", "sklearn")


def import_tensorflow_quietly() -> None:
    """Import TensorFlow and Keras; what they say of missing GPUs and renamed functions is dropped.

    Raises:
        ConfigError: Keras has settings of its own with which it cannot start.
        ModuleNotFoundError: one of them is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    is_first = "tensorflow" not in sys.modules
    backend = _keras_backend()
    if backend not in (None, *_BACKENDS):
        raise ConfigError(
            f"Keras' backend must be {' or '.join(_BACKENDS)}. Received: {backend!r}, from "
            f"KERAS_BACKEND or {_keras_file()}."
        )
    unneeded = set(_UNNEEDED) - {backend}
    # Some lines are written before any level is read.
    with suppress_stderr(), _hidden(unneeded):
        try:
            import keras  # noqa: F401, PLC0415
            import tensorflow  # noqa: F401, PLC0415
        except ModuleNotFoundError:
            raise
        except (AssertionError, ImportError, ValueError) as error:
            raise ConfigError(
                f"Keras must be able to start. Received: {one_line(error)}. "
                f"Look for settings that it does not know in {_keras_file()}, and for variables "
                "KERAS_…"
            ) from None
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
    with contextlib.suppress(OSError, ValueError, AttributeError):
        backend: str | None = json.loads(_keras_file().read_text("utf-8")).get("backend")
        return backend
    return None


def _keras_file() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"
