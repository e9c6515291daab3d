"""Trains replicas: many models of one architecture at once, with separate samples and rates.

Only the studies use this. Everything that differs from the training of a single model is here and
in `models.replicas`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from app.config.families import FAMILIES
from app.config.run_config import RunConfig
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.system.keras_defaults import keras_defaults

from .fit import FitResult, fit_job
from .job import Job
from .optimizers import make_optimizer

_NONE = np.arange(0)


@dataclass(frozen=True)
class Replicas:
    """What replicas have in common, and how they differ.

    Attributes:
        config: configuration of each replica.
        count: number of replicas.
        learning_rates: learning rate of each replica; empty if all use that of `config`.
    """

    config: RunConfig
    count: int
    learning_rates: tuple[float, ...] = ()


@keras_defaults()
def fit_replicas(
    replicas: Replicas,
    dataset: Dataset,
    train: np.ndarray,
    validation: np.ndarray = _NONE,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> FitResult:
    """Train all replicas at once.

    Args:
        replicas: what to train.
        dataset: the samples.
        train: int64 indices of the training samples: `(samples,)` if all replicas share them, or
            `(samples, replicas)`. Each replica sees them in its own order.
        validation: int64 indices of the validation samples, of either shape; empty for none.
        callbacks: callbacks for `keras.Model.fit`.

    Returns:
        The model of all replicas. In its history the loss is the sum over replicas, and
        `replica_losses` has the loss of each.
    """
    return fit_job(ReplicaJob(replicas, dataset, Splits(train, validation, _NONE)), callbacks)


class ReplicaJob(Job):
    """A job that trains replicas.

    Args:
        replicas: what to train.
        dataset: the samples.
        splits: indices `(samples,)` or `(samples, replicas)`.
    """

    def __init__(self, replicas: Replicas, dataset: Dataset, splits: Splits) -> None:
        self.replicas = replicas
        self.loss_weight = float(
            replicas.count
        )  # turns the mean into a sum: each learns as if alone
        super().__init__(replicas.config, dataset, splits)

    def build_family(self) -> keras.Model:
        """Return a new model of all replicas."""
        family = FAMILIES[self.config.family]
        return family.build(self.model_config, replicas=self.replicas.count)

    def prepared(self, model: keras.Model) -> Any:
        """Return the tensor that the replicas share."""
        return model.get_layer("replicas").input

    def trained_input(self, model: keras.Model) -> Any:
        """Return the tensor `(batch, replicas, columns)` that the replicas learn from."""
        return model.get_layer("replicas").output

    def batch_indices(self, indices: np.ndarray) -> np.ndarray:
        """Return indices `(samples, replicas)`."""
        if indices.ndim == 2:
            return indices
        return np.repeat(indices[:, np.newaxis], self.replicas.count, axis=1)

    def metric(self, loss: keras.losses.Loss) -> keras.metrics.Metric:
        """Return the loss of each replica."""
        return ReplicaLosses(loss, self.replicas.count)

    def optimizer(self) -> keras.optimizers.Optimizer:
        """Return an optimizer that gives each replica its learning rate."""
        rates = self.replicas.learning_rates
        if not rates:
            return super().optimizer()
        training = self.config.training
        settings = replace(training.optimizer, learning_rate=1.0)
        optimizer = make_optimizer(settings, self.steps_per_epoch, training.epochs)
        kind: Any = type("ReplicaOptimizer", (_ReplicaRates, type(optimizer)), {"rates": rates})
        return kind.from_config(optimizer.get_config())

    def guards(self) -> list[keras.callbacks.Callback]:
        """Return none: a replica that diverges must not stop the others."""
        return []


class _ReplicaRates:
    """Extends a Keras optimizer: multiplies the learning rate by that of each replica.

    The first axis of each weight is over replicas, or over the units of all replicas in order.
    """

    rates: tuple[float, ...]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        first, *others = variable.shape
        each = np.repeat(np.array(self.rates, np.float32), first // len(self.rates))
        scaled = learning_rate * each.reshape(-1, *[1] * len(others))
        super().update_step(gradient, variable, scaled)  # type: ignore[misc]


class ReplicaLosses(keras.metrics.Metric):
    """The mean loss of each replica, `(replicas,)`.

    Args:
        loss: loss of a sample.
        replicas: number of replicas.
    """

    def __init__(self, loss: keras.losses.Loss, replicas: int) -> None:
        super().__init__(name="replica_losses")
        self._loss = loss
        self._sums = self.add_weight(shape=(replicas,), initializer="zeros", name="sums")
        self._count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, targets: Any, outputs: Any, sample_weight: Any = None) -> None:  # noqa: ARG002
        """Add the losses of a batch; both arrays are `(batch, replicas, …)`. No weights."""
        losses = self._loss.call(targets, outputs)  # (batch, replicas)
        self._sums.assign_add(keras.ops.sum(losses, axis=0))
        self._count.assign_add(keras.ops.cast(keras.ops.shape(losses)[0], "float32"))

    def result(self) -> Any:
        """Return the means."""
        return self._sums / keras.ops.maximum(self._count, 1.0)
