"""Predicts samples with a Keras model, chunk by chunk."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from app.data.arrays import CHUNK
from app.data.datasets import Dataset
from app.system.keras_defaults import keras_defaults
from serving.parity import count_samples, take_samples

from .metrics import OUTPUTS


def predict_samples(model: keras.Model, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Return the model's probabilities or values, float32 `(samples, outputs)`."""
    name = OUTPUTS[dataset.task]
    return predict_outputs(model, dataset, indices, {name: np.ones(len(indices), bool)})[name]


@keras_defaults()
def predict_outputs(
    model: keras.Model, dataset: Dataset, indices: np.ndarray, kept: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return outputs of the model for the samples at `indices`, float32 `(samples, …)` by name.

    Args:
        model: the model.
        dataset: the samples.
        indices: int64 `(samples,)`.
        kept: names of outputs, and of which samples to keep each, bool `(samples,)`. The others
            take no memory.
    """
    # The whole model is used, since Keras would have to trace a separate model for each output.
    parts: dict[str, list[np.ndarray]] = {name: [] for name in kept}
    for start in range(0, len(indices), CHUNK):
        chunk = slice(start, start + CHUNK)
        outputs = _run(model, dataset.model_inputs(indices[chunk]))
        for name, is_kept in kept.items():
            parts[name].append(outputs[name][is_kept[chunk]])
    return {name: np.concatenate(rows) for name, rows in parts.items()}


@keras_defaults()
def predict_rows(model: keras.Model, task: str, inputs: Any) -> np.ndarray:
    """Return the model's probabilities or values for inputs, float32 `(samples, outputs)`.

    Args:
        model: the model.
        task: `multiclass`, `multilabel` or `regression`.
        inputs: see `app.data.datasets.Dataset.model_inputs`.
    """
    # Batches of one size: Keras would trace the model again for each size of the last batch.
    count = count_samples(inputs)
    filled = np.minimum(np.arange(-(-count // CHUNK) * CHUNK), count - 1)
    taken: Any = take_samples(inputs, filled)
    predictions: np.ndarray = _run(model, taken, CHUNK)[OUTPUTS[task]][:count]
    return predictions


def _run(model: keras.Model, inputs: Any, batch_size: int = 256) -> dict[str, np.ndarray]:
    outputs: dict[str, np.ndarray] = model.predict(
        _tensors(inputs), batch_size=batch_size, verbose=0
    )
    return outputs


def _tensors(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()}
    is_text = inputs.dtype == object
    return keras.ops.convert_to_tensor(inputs) if is_text else inputs
