"""The loss, the metric shown with it, the targets as numbers, and the sample weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from app.config.keras_names import LOSSES, keras_name
from app.config.training_config import TrainingConfig
from app.data.arrays import Array, OneHot
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.errors import ConfigError, DataError
from app.system.user_code import is_reference
from models.own import ends_in_logits
from serving.manifest import TASKS

from .own_losses import (
    MetricAround,
    OnProbabilities,
    check_value_per_sample,
    own_loss,
    own_metric,
    try_out,
)

# The losses that suit each task; the first is the default.
_LOSSES = {
    "multiclass": ("cross_entropy", "binary_cross_entropy", "mse", "kl_divergence"),
    "multilabel": ("binary_cross_entropy", "mse"),
    "regression": ("mse",),
}
_METRICS = {"multiclass": "accuracy", "multilabel": "binary_accuracy", "regression": "r2"}
# What to use instead of a loss or metric of several classes.
_ALTERNATIVES = {
    ("loss", "multiclass"): "binary_crossentropy",
    ("loss", "multilabel"): "binary_crossentropy",
    ("loss", "regression"): "mse",
    ("metrics", "multiclass"): "binary_accuracy",
    ("metrics", "multilabel"): "binary_accuracy",
    ("metrics", "regression"): "mae",
}
# Modules of Keras' metrics that do not compare values.
_OF_CLASSES = ("accuracy_metrics", "confusion_metrics", "f_score_metrics", "iou_metrics")


@dataclass(frozen=True)
class TrainedOutput:
    """What a model returns for the loss to compare with the targets.

    Attributes:
        units: number of units; two classes may have a single one.
        activation: `softmax` or `sigmoid` if they are logits that need it; empty for probabilities
            and values.
    """

    units: int
    activation: str = ""


@dataclass(frozen=True)
class Units:
    """The units of targets that are values, which the loss takes standardized.

    Attributes:
        mean: mean of each value in the training split, float32 `(units,)`.
        deviation: standard deviation of each value, above 0, float32 `(units,)`.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def restore(self, standardized: Any) -> Any:
        """Return values in units of the targets, float32 `(…, units)`, for standardized ones."""
        return keras.ops.cast(standardized, "float32") * self.deviation + self.mean


def trained_output(model: keras.Model, layer: str, task: str) -> TrainedOutput:
    """Return what a model returns for the loss: the output of `layer`."""
    units = int(model.get_layer(layer).output.shape[-1])
    if not ends_in_logits(model):
        return TrainedOutput(units)
    is_each = task == "multilabel" or units == 1
    return TrainedOutput(units, "sigmoid" if is_each else "softmax")


def make_loss(
    config: TrainingConfig,
    task: str,
    output: TrainedOutput | None = None,
    has_weights: bool = False,
) -> keras.losses.Loss:
    """Return the loss that the settings name.

    Args:
        config: settings of the training.
        task: `multiclass`, `multilabel` or `regression`.
        output: what the model returns; None for probabilities of all classes, or values.
        has_weights: whether samples have weights of their own, beside those of classes.

    Raises:
        ConfigError: the loss does not suit the task; or a user's loss cannot be computed, or gives
            no value for each sample, where samples or classes have weights.
    """
    output = output or TrainedOutput(0)
    if config.loss not in LOSSES:
        _check_categorical("loss", config.loss, task, output.units)
        loss = own_loss(config.loss, output.activation)
        if output.units:
            try_out(config.loss, "loss", loss, output.units)
            if has_weights or config.class_weight != "none":
                check_value_per_sample(config.loss, loss, output.units)
        return loss
    allowed = _LOSSES[task]
    name = allowed[0] if config.loss == "auto" else config.loss
    if name not in allowed:
        raise ConfigError(
            f"The loss for {TASKS[task]} must be one of {', '.join(allowed)}. "
            f"Received: loss={name!r}."
        )
    if config.label_smoothing and not name.endswith("cross_entropy"):
        raise ConfigError(
            "label_smoothing applies to cross entropy only. "
            f"Received: label_smoothing={config.label_smoothing}, loss={name!r}."
        )
    if output.units == 1 and name == "cross_entropy":
        name = "binary_cross_entropy"  # of a single unit, it is the same
    if name == "binary_cross_entropy" and output.activation == "softmax":
        loss = keras.losses.BinaryCrossentropy(label_smoothing=config.label_smoothing)
        return OnProbabilities(loss, output.activation)
    if name.endswith("cross_entropy"):
        kind = (
            keras.losses.CategoricalCrossentropy
            if name == "cross_entropy"
            else keras.losses.BinaryCrossentropy
        )
        return kind(from_logits=bool(output.activation), label_smoothing=config.label_smoothing)
    loss = (
        keras.losses.KLDivergence() if name == "kl_divergence" else keras.losses.MeanSquaredError()
    )
    return OnProbabilities(loss, output.activation) if output.activation else loss


def metric_name(task: str) -> str:
    """Return the name of the metric that training shows next to the loss."""
    return _METRICS[task]


def make_metric(task: str, num_outputs: int, activation: str = "") -> keras.metrics.Metric:
    """Return the metric that training shows next to the loss, named by `metric_name`.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        num_outputs: number of units of the output.
        activation: see `TrainedOutput`.
    """
    name, threshold = metric_name(task), 0.0 if activation else 0.5
    if task == "multiclass" and num_outputs == 1:
        return LabelAccuracy(name=name, threshold=threshold)
    if task == "multiclass":
        return keras.metrics.CategoricalAccuracy(name=name)
    if task == "multilabel":
        return LabelAccuracy(name=name, threshold=threshold)
    metric = keras.metrics.R2Score(name=name)
    # It creates variables when it is first used. If that were in a step, it would be traced twice.
    nothing = np.zeros((1, num_outputs), np.float32)
    metric.update_state(nothing, nothing)
    metric.reset_state()
    return metric


def extra_metrics(
    config: TrainingConfig, task: str, output: TrainedOutput
) -> list[keras.metrics.Metric]:
    """Return the metrics of the setting `metrics`, without the one that training shows anyway.

    As in Keras, `accuracy` and `acc` mean the one that suits the task; the second is shown under
    that name too.

    Raises:
        ConfigError: a user's metric is none, has the name of another, or cannot be computed; or a
            metric is one of classes, and the targets are values.
    """
    found: list[keras.metrics.Metric] = []
    for name in config.metrics:
        taken = {"loss", _METRICS[task], *(metric.name for metric in found)}
        if task != "regression" and keras_name(name) == "accuracy":
            if name == _METRICS[task]:
                continue
            metric = make_metric(task, output.units, output.activation)
            metric.name = name
        else:
            metric = own_metric(name, output.activation, taken)
        if task == "regression" and not is_reference(name) and _is_of_classes(metric):
            raise ConfigError(
                f"Values need metrics of values, such as mae. Received: metrics={name}, of classes."
            )
        _check_categorical("metrics", name, task, output.units)
        if metric.name in taken:
            raise ConfigError(
                "Each of metrics must have a name of its own. Received: "
                f"{metric.name!r}, which another one has, or the one that is shown anyway."
            )
        try_out(name, "metrics", lambda *both, m=metric: m(*both), output.units)
        metric.reset_state()
        found.append(metric)
    return found


def named_as_before(config: TrainingConfig, history: Sequence[Mapping[str, Any]]) -> TrainingConfig:
    """Return settings whose metrics keep their names in a run of an earlier version that goes on.

    Such a version called `mae` `mean_absolute_error`, which callbacks may monitor.

    Args:
        config: settings of the training.
        history: rows of the epochs before.
    """
    names = history[0] if history else {}
    metrics = (
        keras_name(name) if name not in names and keras_name(name) in names else name
        for name in config.metrics
    )
    return replace(config, metrics=tuple(metrics))


def in_units(metric: keras.metrics.Metric, units: Units) -> keras.metrics.Metric:
    """Return a metric that takes standardized values, for one of values in units of the targets."""
    is_r2 = isinstance(metric, keras.metrics.R2Score)
    if is_r2 and metric.class_aggregation != "variance_weighted_average":
        # R² is the same in any units, but Keras computes it by sums of squares, which round off the
        # spread of values that are far from 0, such as years.
        return metric
    return _MetricInUnits(metric, units)


def _check_categorical(setting: str, name: str, task: str, units: int) -> None:
    """Refuse a loss or metric of Keras that compares one class of several, where there is none.

    Keras computes them for other targets and for a single output too, and trains on a constant.

    Raises:
        ConfigError: the targets or the outputs do not suit it.
    """
    short = keras_name(name)
    if is_reference(name) or "categorical" not in short:
        return
    ours = f"{setting}={_ALTERNATIVES[setting, task]}"
    if task == "regression" or (short.startswith("sparse_") and task != "multiclass"):
        raise ConfigError(
            f"{short} needs classes, and the targets are {TASKS[task]}. "
            f"Received: {setting}={name}. Use {ours}."
        )
    if units == 1:
        raise ConfigError(
            f"{short} compares at least two outputs, and the model has one. "
            f"Received: {setting}={name}. Use {ours}."
        )


def _is_of_classes(metric: keras.metrics.Metric) -> bool:
    """Return whether a metric of Keras compares classes, which values are not."""
    return isinstance(metric, MetricAround) or type(metric).__module__.endswith(_OF_CLASSES)


class LabelAccuracy(keras.metrics.BinaryAccuracy):
    """The fraction of labels that are right; a label of mixed images is that of the larger part."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add the labels of a batch; both arrays are float32 `(batch, labels)`."""
        super().update_state(keras.ops.round(y_true), y_pred, sample_weight)


class _MetricInUnits(MetricAround):
    """A metric of values in units of the targets, for standardized ones.

    Args:
        metric: the metric.
        units: the units of the targets.
    """

    def __init__(self, metric: keras.metrics.Metric, units: Units) -> None:
        super().__init__(metric)
        self._units = units

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch: standardized targets and outputs, both float `(batch, outputs)`."""
        targets, outputs = self._units.restore(y_true), self._units.restore(y_pred)
        self._metric.update_state(targets, outputs, sample_weight)


class MemberLoss(keras.losses.Loss):
    """The mean loss of the members of an ensemble, each compared with the same targets.

    Args:
        loss: loss of a single model.
    """

    def __init__(self, loss: keras.losses.Loss) -> None:
        super().__init__(name=loss.name)
        self._loss = loss

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the losses of a batch, `(batch,)`.

        Args:
            y_true: float32 `(batch, outputs)`.
            y_pred: float32 `(batch, members, outputs)`.
        """
        _, members, units = y_pred.shape
        # A user's loss takes outputs of the shape that it has without members.
        losses = self._loss.call(
            keras.ops.repeat(y_true, members, axis=0), keras.ops.reshape(y_pred, (-1, units))
        )
        if not len(losses.shape):  # the mean of the batch
            return losses
        of_members = keras.ops.reshape(losses, (-1, members, *losses.shape[1:]))
        return keras.ops.mean(of_members, axis=1)


class MemberMetric(MetricAround):
    """A metric of the mean of the members of an ensemble, around that of a single model."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch: targets `(batch, outputs)` and outputs `(batch, members, outputs)`."""
        self._metric.update_state(y_true, keras.ops.mean(y_pred, axis=1), sample_weight)


def numeric_targets(dataset: Dataset, model: keras.Model, num_outputs: int = 0) -> Array:
    """Return the targets that the loss compares outputs with, float32 `(samples, outputs)`.

    Classes become one-hot, or are the probabilities that the data has, for a single output a
    column; values are standardized by the statistics of the layer `values`, if there is one.
    """
    if (probabilities := dataset.class_probabilities) is not None:
        return probabilities[:, 1:] if num_outputs == 1 else probabilities
    if dataset.task == "multiclass" and num_outputs == 1:
        return dataset.targets[:, np.newaxis].astype(np.float32)
    if dataset.task == "multiclass":
        return OneHot(dataset.targets, len(dataset.labels))
    units = None if dataset.task == "multilabel" else units_of_values(model)
    if units is None:
        return dataset.targets
    standard: np.ndarray = (dataset.targets - units.mean) / units.deviation
    return standard.astype(np.float32)


def units_of_values(model: keras.Model) -> Units | None:
    """Return the units of the targets of a model that learns standardized values, else None."""
    scale = next((layer for layer in model.layers if layer.name == "values"), None)
    if not isinstance(scale, keras.layers.Normalization):
        return None
    mean, variance, _ = (np.asarray(weights, np.float32) for weights in scale.get_weights())
    return Units(mean, np.maximum(np.sqrt(variance), keras.config.epsilon()))


def sample_weights(config: TrainingConfig, dataset: Dataset, splits: Splits) -> np.ndarray | None:
    """Return the weight of each sample, float32 `(samples,)`; None if all are equal.

    Raises:
        DataError: the data has weights, and all those of the training or the validation split are
            0: no loss could be computed.
        ConfigError: the settings ask for balanced classes, but the task has no classes, or the data
            has weights.
    """
    if dataset.weights is not None:
        _check_weights(config, dataset.weights, splits)
        return dataset.weights
    weights = class_weights(config, dataset, splits)
    if weights is None:
        return None
    of_samples: np.ndarray = weights[dataset.targets].astype(np.float32)
    return of_samples


def _check_weights(config: TrainingConfig, weights: np.ndarray, splits: Splits) -> None:
    """Require weights that are not all 0 in a split, without class weights beside them."""
    if config.class_weight != "none":
        raise ConfigError(
            "Samples with weights take no class weights, as in keras.Model.fit. Received: "
            f"class_weight={config.class_weight} and data (x, y, weights). Multiply the weights by "
            "those of the classes, or leave one out."
        )
    for name, indices in (("training", splits.train), ("validation", splits.validation)):
        if len(indices) and not weights[indices].any():
            raise DataError(
                f"Some weights of {name} samples must be above 0. "
                f"Received: 0 for all {len(indices):,} of them."
            )


def class_weights(config: TrainingConfig, dataset: Dataset, splits: Splits) -> np.ndarray | None:
    """Return the weight of each class, float64 `(classes,)`; None if all are equal.

    A class without training samples has the weight 0.

    Raises:
        ConfigError: the settings ask for balanced classes, but the task has no classes.
    """
    if config.class_weight == "none":
        return None
    if dataset.task != "multiclass":
        raise ConfigError(
            "class_weight=balanced needs classes to balance. "
            f"Received: {dataset.source}, whose targets are {TASKS[dataset.task]}."
        )
    counts = np.bincount(dataset.targets[splits.train], minlength=len(dataset.labels))
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = len(splits.train) / (present.sum() * counts[present])
    return weights
