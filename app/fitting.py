"""Fits a model to the training split: the one training step and loop of the project."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .config import RunConfig
from .data.datasets import Dataset
from .data.pipelines import evaluation_pipeline, seed_everything, training_pipeline
from .data.splits import Splits
from .errors import RunError
from .families import FAMILIES, fit_to_data
from .settings import OptimizerConfig

_LOSSES = {
    "cross_entropy": keras.losses.CategoricalCrossentropy,
    "mse": keras.losses.MeanSquaredError,
}
_OPTIMIZERS: dict[str, Any] = {
    "sgd": keras.optimizers.SGD,
    "momentum": lambda learning_rate: keras.optimizers.SGD(learning_rate, momentum=0.9),
    "adagrad": keras.optimizers.Adagrad,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
}


@dataclass(frozen=True)
class Fitted:
    """A trained model.

    Attributes:
        model: from the raw input to the dict of outputs.
        history: one row an epoch: epoch, loss, accuracy, val_loss, val_accuracy.
        seconds: wall time of the epochs.
    """

    model: keras.Model
    history: list[dict[str, float]]
    seconds: float


def fit(
    config: RunConfig,
    dataset: Dataset,
    splits: Splits,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Fitted:
    """Build the model of `config` and train it; the same seed gives the same weights.

    Raises:
        DataError: the family cannot take such data.
        RunError: the loss is no longer finite.
    """
    seed_everything(config.seed)
    family = FAMILIES[config.family]
    model = family.build(fit_to_data(family, config.model, dataset))
    _adapt(model, dataset.inputs[splits.train])
    # Only probabilities have a target; the features share the layers.
    trained = keras.Model(model.inputs, model.output["probabilities"])
    steps = -(-len(splits.train) // config.training.batch_size) * config.training.epochs
    trained.compile(
        optimizer=_optimizer(config.training.optimizer, steps),
        loss=_LOSSES[config.training.loss](),
        metrics=["accuracy"],
        # XLA was measured slower than oneDNN here: 1.5 times for a step of `cnn` on two cores.
        jit_compile=False,
    )
    one_hot = np.eye(len(dataset.labels), dtype=np.float32)[dataset.targets]
    training = training_pipeline(
        dataset.inputs[splits.train], one_hot[splits.train], config.training.batch_size, config.seed
    )
    validation = evaluation_pipeline(dataset.inputs[splits.validation], one_hot[splits.validation])
    start = time.perf_counter()
    history = trained.fit(
        training,
        validation_data=validation,
        epochs=config.training.epochs,
        shuffle=False,  # the pipeline shuffles
        verbose=0,
        callbacks=[keras.callbacks.TerminateOnNaN(), *callbacks],
    )
    seconds = time.perf_counter() - start
    rows = _history_rows(history.history)
    if not np.isfinite(rows[-1]["loss"]):
        raise RunError(
            f"The loss must stay finite. Received: {rows[-1]['loss']} in epoch {len(rows)}, with "
            f"optimizer.learning_rate={config.training.optimizer.learning_rate}. Lower it."
        )
    return Fitted(model, rows, seconds)


def _adapt(model: keras.Model, inputs: np.ndarray) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt(inputs)


def _optimizer(config: OptimizerConfig, steps: int) -> keras.optimizers.Optimizer:
    learning_rate: Any = config.learning_rate
    if config.schedule == "cosine":
        learning_rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    return _OPTIMIZERS[config.name](learning_rate)


def _history_rows(history: dict[str, list[float]]) -> list[dict[str, float]]:
    epochs = range(len(history["loss"]))
    return [
        {"epoch": epoch + 1, **{name: float(values[epoch]) for name, values in history.items()}}
        for epoch in epochs
    ]
