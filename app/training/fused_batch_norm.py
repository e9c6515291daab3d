"""Batch normalization by TensorFlow's fused operation, which Keras 3 no longer uses.

Keras composes it from about twenty operations. Without XLA, they take a third of a training step
of a convolutional net on a CPU, and more in bfloat16, because Keras casts to float32 for them.
"""

from typing import Any

import keras
import tensorflow as tf


def with_fused_normalization(model: keras.Model) -> keras.Model:
    """Return a faster functional model that computes the same as `model` and shares its weights.

    The fused operation replaces batch normalization on the last axis. It reads and returns
    bfloat16 and float16 without a cast, and keeps its statistics in float32.
    """

    def layer_of(layer: keras.Layer) -> keras.Layer:
        return _FusedNormalization(layer) if _can_be_fused(layer) else layer

    return keras.models.clone_model(model, clone_function=layer_of, recursive=True)


def _can_be_fused(layer: keras.Layer) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization  # that of a user may do something else
        and layer.center
        and layer.scale
        and not layer.renorm
        and not layer.synchronized
        and layer.compute_dtype != "float64"
        and layer.axis in (-1, layer.input.ndim - 1)
        and layer.input.ndim in (2, 4)
    )


class _FusedNormalization(keras.layers.Layer):
    """Computes what a batch normalization layer does, and updates its moving statistics."""

    def __init__(self, layer: keras.layers.BatchNormalization) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer
        self.built = True

    # Keras passes `mask`, which is None except for sequences.
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
            # The operation returns the unbiased variance; Keras keeps the biased one.
            count = tf.cast(tf.size(images) // channels, variance.dtype)
            variance *= tf.maximum(count - 1, 1) / count
            for variable, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
                variable.assign(variable * layer.momentum + value * (1 - layer.momentum))
        return outputs if images is inputs else tf.reshape(outputs, (-1, channels))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape
