"""tf.data pipelines: samples in memory to batches, ahead of the step that consumes them."""

import keras
import numpy as np
import tensorflow as tf


def seed_everything(seed: int) -> None:
    """Make pipelines, initial weights, dropout and sums repeat from here on for the same seed."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def training_pipeline(
    inputs: np.ndarray, targets: np.ndarray, batch_size: int, seed: int
) -> tf.data.Dataset:
    """Return batches in another order each epoch, the same orders for the same seed.

    Args:
        inputs: `(samples, …)`.
        targets: `(samples, …)`.
        batch_size: samples in a batch; the last may be smaller.
        seed: of the orders.
    """
    samples = tf.data.Dataset.from_tensor_slices((inputs, targets)).cache()
    shuffled = samples.shuffle(len(inputs), seed=seed, reshuffle_each_iteration=True)
    return shuffled.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def evaluation_pipeline(
    inputs: np.ndarray, targets: np.ndarray, batch_size: int = 256
) -> tf.data.Dataset:
    """Return batches in the order of the samples."""
    batches = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(batch_size)
    return batches.cache().prefetch(tf.data.AUTOTUNE)
