"""Keeps Keras' own settings, which are those of the whole process, out of training."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import keras

_AS_IT_COMES = {
    "floatx": "float32",
    "image_data_format": "channels_last",
    "epsilon": 1e-7,
    "max_epochs": None,
    "max_steps_per_epoch": None,
    "dtype_policy": "float32",
}
# Settings and the seed are of the process: two models at once would draw from one sequence.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def keras_defaults() -> Iterator[None]:
    """Have Keras as it comes, in float32; afterwards it has the caller's settings again.

    Of `keras.json`, the variables `KERAS_…` and `keras.config` the backend alone counts. One
    thread at a time gets in, others wait.
    """
    with _ONE_AT_A_TIME:
        before = {name: getattr(keras.config, name)() for name in _AS_IT_COMES}
        _set(_AS_IT_COMES)
        try:
            yield
        finally:
            _set(before)


def _set(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        getattr(keras.config, f"set_{name}")(value)
