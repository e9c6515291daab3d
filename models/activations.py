"""Activation functions by name: those of Keras and two that it lacks."""

from typing import Any

import keras
from keras import ops

# Xu et al. (2015) draw the slope of the negative side between 1/8 and 1/3.
RRELU_SLOPES = (1 / 8, 1 / 3)


@keras.saving.register_keras_serializable(package="hornbill")
class Step(keras.layers.Layer):
    """The step function of the perceptron: 1 above 0, else 0 (Rosenblatt, 1958).

    Its gradient is 0 everywhere, so layers in front of it cannot learn by gradient descent.

    Input shape: float, any shape.
    Output shape: same as the input.
    """

    def call(self, x: Any) -> Any:
        """Return 0 or 1 for each element."""
        return ops.relu(ops.sign(x))  # has gradient 0; a comparison would have no gradient


@keras.saving.register_keras_serializable(package="hornbill")
class RandomizedReLU(keras.layers.Layer):
    """A leaky ReLU that draws the slope of each element at random in training (Xu et al., 2015).

    In inference the slope is the mean of its range.

    Input shape: float, any shape.
    Output shape: same as the input.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, x: Any, training: bool = False) -> Any:
        """Return `x` where it is positive, `slope * x` elsewhere."""
        lowest, highest = RRELU_SLOPES
        slope: Any = 0.5 * (lowest + highest)
        if training:
            shape = ops.shape(x)
            slope = keras.random.uniform(
                shape, lowest, highest, dtype=x.dtype, seed=self.seed_generator
            )
        return ops.where(x > 0, x, slope * x)


def activate(x: Any, activation: str, name: str) -> Any:
    """Apply one of `ACTIVATIONS` as the layer `name`.

    Args:
        x: float `(batch, columns)`, `(batch, replicas, columns)` or
            `(batch, height, width, channels)`.
        activation: one of `ACTIVATIONS`. `linear` returns its input; `prelu` (He et al., 2015)
            learns a slope for each channel.
        name: name of the layer.
    """
    if activation == "step":
        layer = Step(name=name)
    elif activation == "rrelu":
        layer = RandomizedReLU(name=name)
    elif activation == "prelu":
        shared_axes = [1, 2] if len(x.shape) == 4 else None
        layer = keras.layers.PReLU(
            alpha_initializer=keras.initializers.Constant(0.25), shared_axes=shared_axes, name=name
        )
    else:
        layer = keras.layers.Activation(activation, name=name)
    return layer(x)
