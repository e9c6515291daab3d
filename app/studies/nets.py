"""Builds, trains and measures the small nets of studies, as replicas in the usual training loop."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

from app.config.run_config import RunConfig, make_config
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.evaluation.metrics import OUTPUTS
from app.training.fit import FitResult
from app.training.replicas import ReplicaJob, Replicas

# Plain models, to which a study adds only what it is about.
_PLAIN = {"normalization": "none", "dropout": 0.0, "optimizer.schedule": "constant"}
# Steps between two returns to Python, which takes longer than a step of a tiny model.
_STEPS = 500
NONE = np.arange(0)
# Samples that go through a model at once: more would not fit into memory as images.
_TOGETHER = 256


def rows(
    name: str, inputs: Any, targets: Any, task: str = "multiclass", labels: Sequence[str] = ()
) -> Dataset:
    """Return a data set of rows.

    Args:
        name: name of the data set.
        inputs: float `(samples, columns)`.
        targets: `(samples,)` for the task `multiclass`, otherwise `(samples, targets)`.
        task: see `Dataset.task`.
        labels: names of the targets; numbers by default.
    """
    inputs, targets = np.asarray(inputs, np.float32), np.asarray(targets)
    count = int(targets.max()) + 1 if task == "multiclass" else targets.shape[1]
    return Dataset(
        source=name,
        inputs=inputs,
        targets=targets.astype(np.int64 if task == "multiclass" else np.float32),
        task=task,
        labels=tuple(labels) or tuple(map(str, range(count))),
        columns=tuple(f"column{number}" for number in range(inputs.shape[1])),
    )


def digit_rows() -> Dataset:
    """Return scikit-learn's digits as rows: 64 pixels each, 1,797 samples of 10 classes."""
    bunch = load_digits()
    return rows("digits8x8", bunch.data, bunch.target)


def split_for_replicas(
    dataset: Dataset, count: int, train: int, test: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw training and test samples for each replica.

    Returns:
        int64 indices `(train, replicas)` and `(test, replicas)`. The training and the test samples
        of a replica never overlap.
    """
    orders = [
        np.random.default_rng(number).permutation(len(dataset.targets))[: train + test]
        for number in range(count)
    ]
    order = np.stack(orders, axis=1)
    return order[:train], order[train:]


def plain_config(settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a plain model.

    Args:
        settings: values by flat key, as `make_config` takes them, and `family` if it is not
            `features`.
    """
    given = dict(settings)
    family = given.pop("family", "features")
    plain = _PLAIN if family != "softmax" else {"optimizer.schedule": "constant"}
    return make_config(family, {**plain, "steps_per_execution": _STEPS, **given}, data="study")


def configure(settings: Mapping[str, Any], count: int, rates: Sequence[float] = ()) -> Replicas:
    """Return replicas of a plain model.

    Args:
        settings: see `plain_config`.
        count: number of replicas.
        rates: learning rate of each replica; empty if all use that of the settings.
    """
    return Replicas(plain_config(settings), count, tuple(rates))


def build_replicas(replicas: Replicas, dataset: Dataset, train: np.ndarray) -> keras.Model:
    """Return the untrained replicas, as they are at the start of training."""
    return ReplicaJob(replicas, dataset, Splits(train, NONE, NONE)).model


def prepared(model: keras.Model, dataset: Dataset, indices: np.ndarray) -> Any:
    """Return the inputs of the layers that learn, float32 `(samples, replicas, columns)`.

    Args:
        model: replicas, see `build_replicas`.
        dataset: the samples.
        indices: indices of the samples, `(samples,)`.
    """
    preparation = keras.Model(model.inputs, model.get_layer("replicas").output)
    return preparation(keras.ops.convert_to_tensor(dataset.model_inputs(indices)))


def losses(fitted: FitResult, split: str = "") -> np.ndarray:
    """Return the loss of each replica after each epoch, `(epochs, replicas)`.

    Args:
        fitted: the replicas.
        split: empty for the training split, `val_` for validation.
    """
    return np.array([row[f"{split}replica_losses"] for row in fitted.history], float)


def predictions(fitted: FitResult, dataset: Dataset) -> np.ndarray:
    """Return the predictions for every sample, `(samples, replicas, outputs)`.

    For a model without replicas they are `(samples, outputs)`.
    """
    inputs = dataset.model_inputs(np.arange(len(dataset.targets)))
    found: np.ndarray = outputs(fitted.model, inputs)[OUTPUTS[dataset.task]]
    return found


def outputs(model: keras.Model, inputs: Any) -> Any:
    """Return the outputs of a model, as numpy arrays in the same structure.

    This is faster than `keras.Model.predict`, which traces the model first.
    """
    parts = [
        keras.tree.map_structure(keras.ops.convert_to_numpy, model(part, training=False))
        for start in range(0, len(inputs), _TOGETHER)
        for part in [keras.ops.convert_to_tensor(inputs[start : start + _TOGETHER])]
    ]
    return keras.tree.map_structure(lambda *each: np.concatenate(each), *parts)


def accuracies(fitted: FitResult, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Return the accuracy of each replica, `(replicas,)`.

    Args:
        fitted: the replicas.
        dataset: the samples.
        indices: indices of the samples, `(samples,)` or `(samples, replicas)`.
    """
    is_right = predictions(fitted, dataset).argmax(axis=2) == dataset.targets[:, np.newaxis]
    chosen = (
        is_right[indices] if indices.ndim == 1 else np.take_along_axis(is_right, indices, axis=0)
    )
    found: np.ndarray = chosen.mean(axis=0)
    return found


class AfterEachEpoch(keras.callbacks.Callback):
    """Measures something before training and after each epoch.

    Args:
        replicas: a model from `build_replicas`; before each measurement it gets the trained
            weights.
        measure: function that returns the measurement.

    Attributes:
        found: the measurements.
    """

    def __init__(self, replicas: keras.Model, measure: Callable[[], Any]) -> None:
        super().__init__()
        self.replicas = replicas
        self.measure = measure
        self.found: list[Any] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Measure the initial weights."""
        self._measure()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Measure the weights after the epoch."""
        self._measure()

    def _measure(self) -> None:
        pairs = zip(self.replicas.trainable_variables, self.model.trainable_variables, strict=True)
        for own, trained in pairs:
            own.assign(trained)
        self.found.append(self.measure())


class StartFrom(keras.callbacks.Callback):
    """Begins training with the given weights.

    Args:
        weights: weights of the layers that learn, in their order.
    """

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.weights = weights

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Set the weights."""
        self.model.set_weights(self.weights)


def learning_weights(model: keras.Model) -> list[np.ndarray]:
    """Return the trainable weights, in the order of `StartFrom`."""
    return [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables]
