"""Batch normalization by TensorFlow's fused operation, which Keras 3 no longer calls.

Keras composes it of some twenty operations. On a CPU, where XLA does not fuse them, they take a
third of the step of a convolutional net, and more in bfloat16, since Keras casts to float32 for it.
"""

from typing import Any

import keras
import tensorflow as tf


def with_fused_normalization(model: keras.Model) -> keras.Model:
    """Return a functional `model` that shares its weights and computes the same, sooner.

    Layers of batch normalization on the last axis are computed by the fused operation, which takes
    and gives bfloat16 and float16 as they are and holds its statistics in float32.
    """

    def layer_of(layer: keras.Layer) -> keras.Layer:
        return _FusedNormalization(layer) if _can_be_fused(layer) else layer

    return keras.models.clone_model(model, clone_function=layer_of)


def _can_be_fused(layer: keras.Layer) -> bool:
    return (
        isinstance(layer, keras.layers.BatchNormalization)
        and layer.center
        and layer.scale
        and not layer.renorm
        and not layer.synchronized
        and layer.compute_dtype != "float64"
        and layer.axis in (-1, layer.input.ndim - 1)
        and layer.input.ndim in (2, 4)
    )


class _FusedNormalization(keras.layers.Layer):
    """Computes what a layer of batch normalization does, and updates its moving statistics."""

    def __init__(self, layer: keras.layers.BatchNormalization) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer
        self.built = True

    # Of masks, which only sequences have, Keras hands on that there is none.
    def call(self, inputs: Any, training: bool = False, mask: None = None) -> Any:
        layer = self.layer
        channels = inputs.shape[-1]
        images = inputs if len(inputs.shape) == 4 else tf.reshape(inputs, (-1, 1, 1, channels))
        is_training = bool(training and layer.trainable)
        moving = (layer.moving_mean.value, layer.moving_variance.value)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            images,
            layer.gamma.value,
            layer.beta.value,
            *(() if is_training else moving),
            epsilon=layer.epsilon,
            is_training=is_training,
        )
        if is_training:
            # The operation's is the unbiased one; Keras keeps the mean of squares.
            count = tf.cast(tf.size(images) // channels, variance.dtype)
            variance *= tf.maximum(count - 1, 1) / count
            for variable, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
                variable.assign(variable * layer.momentum + value * (1 - layer.momentum))
        return outputs if images is inputs else tf.reshape(outputs, (-1, channels))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape
