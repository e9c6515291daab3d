"""Keeps Keras' own settings, which are those of the whole process, out of training."""

import contextlib
import threading
from collections.abc import Iterator

import keras

# Settings and the seed are of the process: two models at once would draw from one sequence.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def own_keras_settings() -> Iterator[None]:
    """Have Keras as it comes, in float32; afterwards it has the caller's settings again.

    Of `keras.json`, the variables `KERAS_…` and `keras.config` the backend alone counts. One
    thread at a time gets in, others wait.
    """
    with _ONE_AT_A_TIME:
        config = keras.config
        before = {
            config.set_floatx: config.floatx(),
            config.set_image_data_format: config.image_data_format(),
            config.set_epsilon: config.epsilon(),
            config.set_max_epochs: config.max_epochs(),
            config.set_max_steps_per_epoch: config.max_steps_per_epoch(),
            config.set_dtype_policy: config.dtype_policy(),
        }
        wanted = ("float32", "channels_last", 1e-7, None, None, "float32")
        for set_value, value in zip(before, wanted, strict=True):
            set_value(value)
        try:
            yield
        finally:
            for set_value, value in before.items():
                set_value(value)
