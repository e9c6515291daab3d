"""The base of layers that need float32, whatever precision the rest of the model has."""

from typing import Any

import keras


class Float32Layer(keras.layers.Layer):
    """A layer that computes in float32 even under a mixed-precision policy.

    Sixteen bits are too few for preprocessing, for example to find where the ink ends or how far a
    value is from the mean.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
