"""tf.data pipelines: they prepare batches ahead of the training steps.

The order of the samples in an epoch depends only on the seed and the number of the epoch, so a
resumed run gets the same batches as an uninterrupted one.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from .arrays import Array
from .datasets import Stream
from .shards import Shard

EVALUATION_BATCH_SIZE = 256
# Batches that are read ahead.
_READ_AHEAD = 2


def seed_everything(seed: int, xla: bool = False, is_exact: bool = True) -> None:
    """Seed pipelines, initial weights and dropout, and make TensorFlow deterministic.

    With `xla` it is not deterministic: TensorFlow refuses to compile deterministic operations. Nor
    is it if `is_exact` is false: a pipeline of a user would be read one element at a time.
    """
    keras.utils.set_random_seed(seed)
    if xla or not is_exact:
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


_ZERO = np.zeros((), np.int32)


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
        samples: number of samples in an epoch, all shards together.
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
        self.samples = len(indices) * passes
        self.wait = Wait()
        steps = -(-len(indices) // batch_size)

        @functools.lru_cache(maxsize=1)
        def shuffled(number: int) -> np.ndarray:
            # For one-dimensional indices this is the same as `permutation`.
            return np.random.default_rng((seed, number)).permuted(indices, axis=0)

        def choose(step: int) -> np.ndarray:
            number, step = divmod(step, steps)
            order = shuffled(self.epoch * passes + number)
            return _batch(order, step, batch_size, shard)

        self.batches = _timed(_batches(arrays, choose, steps * passes, indices.shape), self.wait)


class StreamPipeline:
    """The training batches of a user's pipeline, as `TrainingPipeline` has them.

    Nothing is put around them, so how long the reader waits is not known.

    Args:
        stream: the pipeline.
    """

    def __init__(self, stream: Stream) -> None:
        self.epoch = 0
        self.batches, self.samples = stream.batches, stream.samples
        self.wait = Wait()


def evaluation_pipeline(
    arrays: Sequence[Array],
    indices: np.ndarray,
    batch_size: int = EVALUATION_BATCH_SIZE,
    shard: Shard | None = None,
) -> tf.data.Dataset:
    """Return batches of the samples at `indices`, in order: from each batch the rows of `shard`."""

    def choose(step: int) -> np.ndarray:
        return _batch(indices, step, batch_size, shard)

    return _batches(arrays, choose, -(-len(indices) // batch_size), indices.shape)


def _batch(order: np.ndarray, step: int, batch_size: int, shard: Shard | None) -> np.ndarray:
    batch = order[step * batch_size : (step + 1) * batch_size]
    if shard is None or shard.is_whole:
        return batch
    chosen: np.ndarray = batch[shard.positions(len(batch), batch_size)]
    return chosen


def _batches(
    arrays: Sequence[Array],
    choose: Callable[[int], np.ndarray],
    steps: int,
    shape: tuple[int, ...],
) -> tf.data.Dataset:
    """Return batches that are read ahead: the rows of `arrays` that `choose` returns.

    Each epoch begins with new iterators, and the time to create one grows with the number of
    functions in a pipeline. So Python chooses and reads in one function. TensorFlow is told that
    the functions have no state: in deterministic mode, it reads nothing ahead otherwise.

    Args:
        arrays: arrays `(samples, …)`.
        choose: a function of the step that returns int64 indices.
        steps: number of batches.
        shape: shape of all indices. Its first axis is that of the samples.
    """
    structure = tuple(getattr(array, "named", array) for array in arrays)
    single = tf.nest.flatten(structure)
    dtypes = [tf.as_dtype(array.dtype) for array in single]

    def rows(step: np.ndarray) -> list[np.ndarray]:
        chosen = choose(int(step))
        return [array[chosen] for array in single]

    @tf.autograph.experimental.do_not_convert
    def read(step: tf.Tensor) -> tuple[Any, ...]:
        tensors = tf.numpy_function(rows, [step], dtypes, stateful=False)
        for array, tensor in zip(single, tensors, strict=True):
            tensor.set_shape((None, *shape[1:], *array.shape[1:]))
        packed: tuple[Any, ...] = tf.nest.pack_sequence_as(structure, tensors)
        return packed

    numbers = tf.data.Dataset.range(steps)
    options = tf.data.Options()
    # Its thread can keep the end of an epoch waiting for up to a minute.
    options.autotune.enabled = False
    batches = numbers.map(read, num_parallel_calls=1).prefetch(_READ_AHEAD)
    return batches.with_options(options)


def _timed(batches: tf.data.Dataset, wait: Wait) -> tf.data.Dataset:
    """Measure how long the reader waits for each batch.

    The clock must be read when the reader asks for a batch, so nothing may be prefetched after this
    step; TensorFlow would insert a prefetch automatically. (`tf.timestamp` does not run in
    deterministic mode.)
    """

    def tick(read: Callable[[], np.ndarray], element: tf.Tensor) -> tf.Tensor:
        # With an input and without state, as `_batches` explains, it still runs for each element.
        return tf.numpy_function(lambda _: read(), [element], tf.int32, stateful=False)

    @tf.autograph.experimental.do_not_convert
    def begin(element: tf.Tensor) -> tf.Tensor:
        return tick(wait.begin, element)

    @tf.autograph.experimental.do_not_convert
    def end(begun: tf.Tensor, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        first, *others = tf.nest.flatten(batch)
        # TensorFlow would leave out what no result depends on.
        timed = tf.reshape(first, tf.shape(first) + tick(wait.end, begun))
        timed = tf.ensure_shape(timed, first.shape)
        packed: tuple[Any, ...] = tf.nest.pack_sequence_as(batch, [timed, *others])
        return packed

    # One element at a time, in this order: the clock, the batch, the clock.
    timed = tf.data.Dataset.zip((tf.data.Dataset.range(1).repeat().map(begin), batches)).map(end)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    options.experimental_optimization.map_parallelization = False
    return timed.with_options(options)
