"""Imports TensorFlow, Keras and scikit-learn without messages and without what nothing needs."""

import contextlib
import gc
import json
import logging
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

from app.errors import ConfigError
from serving.errors import one_line

from .garbage import collection_paused
from .stderr import suppress_stderr

# The backends of Keras that this package supports.
_BACKENDS = ("tensorflow", "jax")
# Where these are installed, TensorFlow and Keras import them only to recognize their types or to
# wrap them, which nothing here needs. Without them, the import takes less than half the time.
_UNNEEDED = ("jax", "matplotlib", "pandas", "sklearn")


def import_tensorflow_quietly(has_data: bool = True) -> None:
    """Import TensorFlow and Keras; drop their messages on missing GPUs and renamed functions.

    Args:
        has_data: whether data is read and split, which needs scikit-learn. It is imported here so
            that it does not load pandas.

    Raises:
        ConfigError: Keras cannot start with the settings in its file or in the environment.
        ModuleNotFoundError: one of them is not installed.
    """
    # TensorFlow logs as errors that there is no GPU driver, and that oneDNN leaves an operator to
    # Eigen, which 2 would show. What matters is raised. 0 is for debugging.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # TensorFlow leaves oneDNN off on processors without AVX-512 VNNI, and convolutions then take up
    # to twice the time. It reads this when it is imported.
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    is_first = "tensorflow" not in sys.modules
    backend = keras_backend()
    if backend not in _BACKENDS:
        raise ConfigError(
            f"Keras' backend must be {' or '.join(_BACKENDS)}. Received: {backend!r}, from "
            f"KERAS_BACKEND or {_keras_file()}."
        )
    # Some lines are written before any log level is read.
    with suppress_stderr(), _HiddenPackages(set(_UNNEEDED) - {backend}), collection_paused():
        try:
            import keras  # noqa: F401, PLC0415
            import tensorflow  # noqa: F401, PLC0415
        except ModuleNotFoundError:
            raise
        except (AssertionError, ImportError, ValueError) as error:
            raise ConfigError(
                f"Keras cannot start with its settings: {one_line(error)}. "
                f"Check {_keras_file()} and the variables KERAS_… in the environment."
            ) from None
    if has_data:
        # pandas takes a third of scikit-learn's time.
        with _HiddenPackages(("pandas",)), collection_paused():
            import sklearn.utils  # noqa: F401, PLC0415
    for name in ("tensorflow", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if is_first:
        # The imports create half a million objects that live as long as the process. An export
        # collects garbage four times, and would traverse them each time.
        gc.freeze()


class _HiddenPackages(MetaPathFinder):
    """Makes packages look as if they were not installed, as long as the context lasts.

    Packages that are imported already stay available.

    Args:
        packages: names of top-level packages.
    """

    def __init__(self, packages: Iterable[str]) -> None:
        self._packages = frozenset(packages)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> None:
        """Raise `ModuleNotFoundError` for a hidden package; leave others to the next finder."""
        if fullname in self._packages:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)


def keras_backend() -> str:
    """Return the backend that Keras chooses: from the environment, from its file, or TensorFlow."""
    backend: str | None = os.environ.get("KERAS_BACKEND")
    if not backend:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            backend = json.loads(_keras_file().read_text("utf-8")).get("backend")
    return backend or "tensorflow"


def _keras_file() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"
