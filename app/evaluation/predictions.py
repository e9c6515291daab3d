"""Predicts samples with a Keras model, chunk by chunk."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from app.data.arrays import rows_in_chunk, samples_at_once
from app.data.datasets import Dataset
from app.system.keras_defaults import keras_defaults
from serving.parity import count_samples, take_samples

from .metrics import OUTPUTS

_BATCH = 256


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
    # A batch that is filled up takes no time for rows, but a large net of images takes long.
    batch_size = samples_at_once(dataset.inputs.shape, _BATCH)
    if dataset.kind != "rows":
        batch_size = max(1, min(len(indices), batch_size))
    # Whole batches, so that only the last of all is filled up.
    step = batch_size * max(1, rows_in_chunk(dataset.inputs) // batch_size)
    for start in range(0, len(indices), step):
        chunk = slice(start, start + step)
        outputs = _run(model, dataset.model_inputs(indices[chunk]), batch_size)
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
    return _run(model, inputs, _BATCH)[OUTPUTS[task]]


def _run(model: keras.Model, inputs: Any, batch_size: int) -> dict[str, np.ndarray]:
    """Return all outputs for inputs, in batches of one size, of which the last is filled up.

    Keras would trace the model again for another size, and `Model.predict` takes a tenth of a
    second to begin.
    """
    count = count_samples(inputs)
    batches = []
    for start in range(0, count, batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), count - 1)
        batches.append(model.predict_on_batch(_tensors(take_samples(inputs, rows))))
    return {name: np.concatenate([batch[name] for batch in batches])[:count] for name in batches[0]}


def _tensors(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()}
    is_text = inputs.dtype == object
    return keras.ops.convert_to_tensor(inputs) if is_text else inputs
