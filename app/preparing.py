"""Runs the part of a model that is the same in each epoch once, before training.

A model is a preparation (polarity, size and place of the ink; standardised columns) followed by
layers that learn. What the preparation gives is kept, in memory or, where the data lies there, on
disk; training then starts behind it.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from .data.arrays import CHUNK, Array, DiskArray, chunks
from .data.datasets import Dataset


def adapt(model: keras.Model, dataset: Dataset, train: np.ndarray) -> None:
    """Give the layers of statistics the mean and the variance of the training split."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            array = dataset.targets if layer.name == "values" else dataset.inputs
            _set_statistics(layer, *_statistics(chunks(array, train)))


def prepare(model: keras.Model, prepared_layer: str, dataset: Dataset) -> Array:
    """Return the output of `prepared_layer` for every sample, float32 `(samples, …)`."""
    layer = model.get_layer(prepared_layer)
    preparation = keras.Model(model.inputs, layer.output)
    count = len(dataset.inputs)
    batches = (
        preparation.predict_on_batch(
            _in_order(model, dataset.model_inputs(slice(start, min(start + CHUNK, count))))
        )
        for start in range(0, count, CHUNK)
    )
    if not isinstance(dataset.inputs, DiskArray):
        return np.concatenate(list(batches))
    prepared = DiskArray(layer.output.shape[1:], np.float32)
    for batch in batches:
        prepared.append(batch)
    return prepared


def _in_order(model: keras.Model, inputs: Any) -> Any:
    if not isinstance(inputs, dict):
        return keras.ops.convert_to_tensor(inputs)
    return [keras.ops.convert_to_tensor(inputs[tensor.name]) for tensor in model.inputs]


def _statistics(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return mean, variance and count of each column; what is NaN is left out.

    The variance is that of Chan et al. (1979), which joins parts without losing digits.
    """
    count: Any = 0.0
    mean: Any = 0.0
    squares: Any = 0.0
    for part in parts:
        rows = part.astype(np.float64)
        present = (~np.isnan(rows)).sum(axis=0)
        part_mean = np.nansum(rows, axis=0) / np.maximum(present, 1)
        part_squares = np.nansum((rows - part_mean) ** 2, axis=0)
        total = np.maximum(count + present, 1)
        delta = part_mean - mean
        squares = squares + part_squares + delta**2 * count * present / total
        mean = mean + delta * present / total
        count = count + present
    return mean, squares / np.maximum(count, 1), int(np.max(count))


def _set_statistics(
    layer: keras.layers.Normalization, mean: np.ndarray, variance: np.ndarray, count: int
) -> None:
    layer.set_weights([mean, variance, np.array(count)])
    layer.finalize_state()
