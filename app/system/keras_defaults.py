"""Shields training from the caller's process-wide Keras settings."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import keras

_DEFAULTS = {
    "floatx": "float32",
    "image_data_format": "channels_last",
    "epsilon": 1e-7,
    "max_epochs": None,
    "max_steps_per_epoch": None,
    "dtype_policy": "float32",
}
# Settings and random seed are global: two models trained at once would share one random sequence.
_LOCK = threading.RLock()


@contextlib.contextmanager
def keras_defaults() -> Iterator[None]:
    """Run with Keras' own defaults, in float32, and restore the caller's settings afterwards.

    The backend is the only setting from `keras.json`, the variables `KERAS_…` and `keras.config`
    that has an effect. Only one thread at a time enters; others wait.
    """
    with _LOCK:
        before = {name: getattr(keras.config, name)() for name in _DEFAULTS}
        _set(_DEFAULTS)
        try:
            yield
        finally:
            _set(before)


def _set(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        getattr(keras.config, f"set_{name}")(value)
