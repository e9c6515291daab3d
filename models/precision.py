"""Layers whose numbers need float32, whatever the rest of the model computes in."""

from typing import Any

import keras


class Float32Layer(keras.layers.Layer):
    """A layer that computes in float32 under a policy of mixed precision too.

    Sixteen bits would round away what preparation decides: where the ink ends, which column is
    how far from its mean.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
