"""tf.data pipelines: they prepare batches ahead of the training steps.

The order of the samples in an epoch depends only on the seed and the number of the epoch, so a
resumed run gets the same batches as an uninterrupted one.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from .arrays import Array
from .shards import Shard

EVALUATION_BATCH_SIZE = 256


def seed_everything(seed: int, xla: bool = False) -> None:
    """Seed pipelines, initial weights and dropout, and make TensorFlow deterministic.

    With `xla` it is not deterministic: TensorFlow refuses to compile deterministic operations.
    """
    keras.utils.set_random_seed(seed)
    if xla:
        disable_op_determinism()
    else:
        tf.config.experimental.enable_op_determinism()


class Wait:
    """Sums the seconds between calls of `begin` and `end`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begun = 0.0

    def begin(self) -> np.ndarray:
        """Start the clock. Returns 0, because tf.data needs a value."""
        self._begun = time.perf_counter()
        return _ZERO

    def end(self) -> np.ndarray:
        """Stop the clock. Returns 0."""
        self.seconds += time.perf_counter() - self._begun
        return _ZERO


_ZERO = np.zeros((), np.uint8)


class TrainingPipeline:
    """Batches for training, in a new order for each pass; the same seed gives the same orders.

    Args:
        arrays: arrays `(samples, …)`; a batch is a tuple of their rows.
        indices: int64 indices of the samples, `(samples,)`. With more axes, such as
            `(samples, replicas)`, each column has its own order, and batches are
            `(batch, replicas, …)`.
        batch_size: samples in a batch; the last batch of a pass may be smaller.
        seed: seed of the orders.
        passes: passes over the samples in each epoch.
        shard: the part of each batch to return; None returns all of it.

    Attributes:
        batches: a `tf.data.Dataset` of the batches of one epoch.
        epoch: number of the epoch; set it before its batches are read.
        wait: how long the reader of the batches has waited for them.
    """

    def __init__(
        self,
        arrays: Sequence[Array],
        indices: np.ndarray,
        batch_size: int,
        seed: int,
        passes: int = 1,
        shard: Shard | None = None,
    ) -> None:
        self.epoch = 0
        self.wait = Wait()
        count = len(indices)
        steps = -(-count // batch_size) * passes

        def shuffle(number: int) -> np.ndarray:
            # For one-dimensional indices this is the same as `permutation`.
            generator = np.random.default_rng((seed, self.epoch * passes + int(number)))
            return generator.permuted(indices, axis=0)

        def one_pass(number: tf.Tensor) -> tf.data.Dataset:
            # Not a tf.constant, of which a graph keeps many copies.
            order = tf.numpy_function(shuffle, [number], indices.dtype)
            return _in_batches(order, count, batch_size, shard or Shard())

        chosen = tf.data.Dataset.range(passes).flat_map(one_pass)
        batches = chosen.map(_reader(arrays, indices.shape[1:]), num_parallel_calls=1).prefetch(
            tf.data.AUTOTUNE
        )
        timed = _timed(batches, self.wait)
        self.batches = timed.apply(tf.data.experimental.assert_cardinality(steps))


def evaluation_pipeline(
    arrays: Sequence[Array],
    indices: np.ndarray,
    batch_size: int = EVALUATION_BATCH_SIZE,
    shard: Shard | None = None,
) -> tf.data.Dataset:
    """Return batches of the samples at `indices`, in order: from each batch the rows of `shard`."""
    given = tf.numpy_function(lambda: indices, [], indices.dtype)
    chosen = _in_batches(given, len(indices), batch_size, shard or Shard())
    return chosen.map(_reader(arrays, indices.shape[1:]), num_parallel_calls=1).prefetch(
        tf.data.AUTOTUNE
    )


def _in_batches(indices: tf.Tensor, count: int, batch_size: int, shard: Shard) -> tf.data.Dataset:
    starts = tf.data.Dataset.range(0, count, batch_size)
    batches = starts.map(lambda start: indices[start : start + batch_size])
    if shard.is_whole:
        return batches

    def rows_of_shard(batch: np.ndarray) -> np.ndarray:
        rows: np.ndarray = batch[shard.positions(len(batch), batch_size)]
        return rows

    return batches.map(lambda batch: tf.numpy_function(rows_of_shard, [batch], indices.dtype))


def _reader(arrays: Sequence[Array], more_axes: tuple[int, ...]) -> Any:
    """Return a function that reads rows; `more_axes` are all but the first axis of the indices."""
    dtypes = [tf.as_dtype(array.dtype) for array in arrays]

    @tf.autograph.experimental.do_not_convert
    def read(indices: tf.Tensor) -> tuple[tf.Tensor, ...]:
        rows = tf.numpy_function(
            lambda chosen: [array[chosen] for array in arrays], [indices], dtypes, stateful=False
        )
        for array, tensor in zip(arrays, rows, strict=True):
            tensor.set_shape((None, *more_axes, *array.shape[1:]))
        return tuple(rows)

    return read


def _timed(batches: tf.data.Dataset, wait: Wait) -> tf.data.Dataset:
    """Measure how long the reader waits for each batch.

    The clock must be read when the reader asks for a batch, so nothing may be prefetched after this
    step; TensorFlow would insert a prefetch automatically. (`tf.timestamp` does not run in
    deterministic mode.)
    """

    def tick(read: Callable[[], np.ndarray]) -> tf.data.Dataset:
        forever = tf.data.Dataset.range(1).repeat()
        return forever.map(lambda _: tf.numpy_function(read, [], tf.uint8))

    # One element at a time, in this order: the clock, the batch, the clock.
    timed = tf.data.Dataset.zip((tick(wait.begin), batches, tick(wait.end)))
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    options.experimental_optimization.map_parallelization = False
    return timed.map(lambda _, batch, __: batch).with_options(options)
