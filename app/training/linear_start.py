"""Starts the linear part of a table net as a linear model, which the hidden layers improve on.

From a random start, a net of a few hundred rows needs all its steps to find what a linear model
solves exactly, and often ends below it.
"""

from typing import Any

import keras
import numpy as np

from app.data.arrays import Array
from app.evaluation.linear_models import fit_linear
from models.graph import producer
from models.heads import HEAD_LAYERS

# Numbers that the linear model reads: some seconds. And the largest bias, in place of infinity.
_MAX_CELLS, _LARGEST_BIAS = 5_000_000, 10.0


def start_linear(
    model: keras.Model,
    prepared: Any,
    arrays: tuple[Array, Array],
    weights: np.ndarray | None,
    train: np.ndarray,
    task: str,
) -> None:
    """Set the weights of a net's linear part to those of a linear model of the encoded columns.

    Only columns that are not learned count: numbers, indicators of missing values and one-hot
    categories. The hidden layers keep their random start. Nothing happens if the net has no linear
    part, or the data is large.

    Args:
        model: net whose statistics are adapted to the training split.
        prepared: the tensor in `model` where training begins.
        arrays: its values for all samples; and class indices, labels, or standardized values.
        weights: weight of each sample; None if all are equal.
        train: indices of the training samples.
        task: `multiclass`, `multilabel` or `regression`.
    """
    layers = {layer.name: layer for layer in model.layers}
    if "wide" not in layers:
        return
    _, columns = layers["wide"].input
    before = producer(columns)
    columns = before.input if before.name == "wide_columns" else columns
    head = next(layers[name] for name in HEAD_LAYERS if hasattr(layers.get(name), "kernel"))
    units = int(head.kernel.shape[-1])
    if weights is not None:
        train = train[weights[train] > 0]  # samples without weight are as good as absent
    if len(train) * columns.shape[1] * units > _MAX_CELLS:
        return
    rows, targets = (array[train] for array in arrays)
    encoded = np.asarray(rows)
    if columns is not prepared:  # Keras makes no model of a tensor alone
        encoder = keras.Model(prepared, columns)
        encoded = np.asarray(encoder.predict_on_batch(keras.ops.convert_to_tensor(rows)))
    is_fixed = _fixed_columns(layers, columns.shape[1])
    is_second_class = task == "multiclass" and units == 1
    outputs = 2 if is_second_class else units
    of_rows = None if weights is None else weights[train]
    found, bias = fit_linear(task, encoded[:, is_fixed], targets, outputs, of_rows)
    if is_second_class:
        found, bias = found[:, 1:] - found[:, :1], bias[1:] - bias[:1]
    kernel, biases = head.get_weights()
    linear = kernel[..., kernel.shape[-2] - columns.shape[1] :, :]
    linear[..., is_fixed, :], linear[..., ~is_fixed, :] = found, 0
    biases[...] = np.clip(bias, -_LARGEST_BIAS, _LARGEST_BIAS)
    head.set_weights([kernel, biases])


def _fixed_columns(layers: dict[str, Any], width: int) -> np.ndarray:
    """Return which of the encoded columns do not come from an embedding, bool `(width,)`."""
    is_fixed = np.ones(width, bool)
    if "numeric_embedding" in layers:  # the first columns
        is_fixed[: layers["numeric_embedding"].output.shape[-1]] = False
    if "category_embedding" in layers:  # the last ones
        is_fixed[-layers["category_embedding"].output.shape[-1] :] = False
    return is_fixed
