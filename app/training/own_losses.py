"""Losses and metrics beyond those of the families: Keras' own by name, and those of users.

They compare targets with what the model returns. For classes, targets are one-hot, float32
`(batch, classes)`, or float32 `(batch, 1)` for a model with a single unit; a loss or metric of
Keras for classes as numbers (`sparse_…`) gets them as such.
"""

import inspect
import itertools
import re
from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

from app.config.keras_names import keras_name
from app.errors import ConfigError, OwnSettingError
from app.system.user_code import describe_error, is_reference, load_object, shown_name
from serving.errors import one_line

# The function that turns logits into probabilities, by name.
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "softmax": keras.ops.softmax,
    "sigmoid": keras.ops.sigmoid,
}


class OnProbabilities(keras.losses.Loss):
    """A loss of probabilities, for a model that returns logits.

    Args:
        loss: the loss.
        activation: `softmax` or `sigmoid`.
    """

    def __init__(self, loss: keras.losses.Loss, activation: str) -> None:
        super().__init__(name=loss.name)
        self._loss, self._activation = loss, _ACTIVATIONS[activation]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the losses of a batch, `(batch,)`."""
        return self._loss.call(y_true, self._activation(y_pred))


class _OwnLoss(keras.losses.Loss):
    """A loss that a function or a loss for classes as numbers computes."""

    def __init__(self, function: Callable[[Any, Any], Any], name: str, is_sparse: bool) -> None:
        super().__init__(name=name)
        self._function, self._is_sparse = function, is_sparse

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the losses of a batch."""
        return self._function(_numbers(y_true) if self._is_sparse else y_true, y_pred)


class MetricAround(keras.metrics.Metric):
    """A metric that hands batches in another form to `metric`.

    Args:
        metric: the metric.
    """

    def __init__(self, metric: keras.metrics.Metric) -> None:
        super().__init__(name=metric.name)
        self._metric = metric
        if hasattr(metric, "_direction"):  # tells callbacks whether more of it is better
            self._direction = metric._direction

    def result(self) -> Any:
        """Return the metric."""
        return self._metric.result()

    def reset_state(self) -> None:
        """Forget all batches."""
        self._metric.reset_state()


class _OwnMetric(MetricAround):
    """A metric that gets probabilities or classes as numbers.

    Args:
        metric: the metric.
        activation: what turns the model's outputs into probabilities; empty for nothing.
        is_sparse: whether the metric takes classes as numbers.
    """

    def __init__(self, metric: keras.metrics.Metric, activation: str, is_sparse: bool) -> None:
        super().__init__(metric)
        self._is_sparse = is_sparse
        self._activation = _ACTIVATIONS.get(activation)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch."""
        outputs = y_pred if self._activation is None else self._activation(y_pred)
        targets = _numbers(y_true) if self._is_sparse else y_true
        self._metric.update_state(targets, outputs, sample_weight)


def own_loss(name: str, activation: str = "") -> keras.losses.Loss:
    """Return a loss of Keras by its name, or a user's loss by a reference.

    Args:
        name: the setting.
        activation: what turns the model's outputs into probabilities; empty if they are no logits.

    Raises:
        ConfigError: the reference names nothing that is a loss, or a loss of probabilities for
            logits or the other way round.
    """
    if not is_reference(name):
        kind = _class_of(keras.losses, keras_name(name))
        arguments = {"from_logits": bool(activation)} if _takes(kind, "from_logits") else {}
        loss = kind(**arguments)
        if activation and not arguments:
            return OnProbabilities(loss, activation)
        return _OwnLoss(loss.call, loss.name, True) if _is_sparse(loss) else loss
    loss = _instance(name, "loss", keras.losses.Loss)
    if not isinstance(loss, keras.losses.Loss):
        return _OwnLoss(loss, _name_of(loss, "loss"), _is_sparse(loss))
    from_logits = getattr(loss, "from_logits", None)
    if from_logits is not None and from_logits != bool(activation):
        outputs = "logits" if activation else "probabilities"
        raise ConfigError(
            f"The loss must take what the model returns, {outputs}. "
            f"Received: {shown_name(name)} with from_logits={from_logits}."
        )
    return _OwnLoss(loss.call, loss.name, True) if _is_sparse(loss) else loss


def own_metric(
    name: str, activation: str = "", taken: Collection[str] = ()
) -> keras.metrics.Metric:
    """Return a metric of Keras by its name, or a user's metric by a reference.

    A metric of Keras sees probabilities, also for a model that returns logits, unless it is made
    for these; a user's sees what the model returns. One by its name in Keras has the name that the
    user wrote, such as `mae`, as Keras itself calls it.

    Args:
        name: the setting.
        activation: see `own_loss`.
        taken: names of other metrics. A function with such a name gets a number behind it.

    Raises:
        ConfigError: the reference names nothing that is a metric.
    """
    if not is_reference(name):
        kind = _class_of(keras.metrics, keras_name(name))
        arguments = {"average": "macro"} if kind and _takes(kind, "average") else {}
        metric = kind(name=name, **arguments)
        is_sparse = _is_sparse(metric)
        return _OwnMetric(metric, activation, is_sparse) if activation or is_sparse else metric
    metric = _instance(name, "metrics", keras.metrics.Metric)
    if not isinstance(metric, keras.metrics.Metric):
        metric = keras.metrics.MeanMetricWrapper(metric, _name_of(metric, "metric", taken))
    elif _is_of_keras(metric) and activation and not getattr(metric, "from_logits", False):
        return _OwnMetric(metric, activation, _is_sparse(metric))
    return _OwnMetric(metric, "", True) if _is_sparse(metric) else metric


def own_callback(name: str) -> keras.callbacks.Callback:
    """Return a user's callback by a reference to a class, a function that makes one, or itself.

    Raises:
        ConfigError: the reference names something else.
    """
    found = load_object(name, "callbacks")
    if not isinstance(found, keras.callbacks.Callback) and callable(found):
        found = called(name, "callbacks", found)
    if not isinstance(found, keras.callbacks.Callback):
        raise ConfigError(
            "callbacks must name a keras.callbacks.Callback, or a function that returns one. "
            f"Received: {name}, of the type {type(found).__name__}."
        )
    return found


def check_callbacks(callbacks: Any) -> None:
    """Require what `keras.Model.fit` takes as callbacks.

    Raises:
        ConfigError: it is no list or tuple, or something in it is no callback.
    """
    rule = "callbacks must be a list of objects of keras.callbacks.Callback. Received:"
    if not isinstance(callbacks, list | tuple):
        kind = type(callbacks).__name__
        is_one = isinstance(callbacks, keras.callbacks.Callback)
        received = f"{kind}, which is not in a list" if is_one else f"{callbacks!r:.60}"
        raise ConfigError(f"{rule} {one_line(received)}.")
    for each in callbacks:
        if inspect.isclass(each):
            name = each.__name__
            raise ConfigError(
                f"{rule} the class {name} in the list. Make an object of it: {name}(…)."
            )
        if not isinstance(each, keras.callbacks.Callback):
            raise ConfigError(f"{rule} {one_line(f'{each!r:.60}')} in the list.")


def try_out(name: str, kind: str, compute: Callable[[Any, Any], Any], units: int) -> None:
    """Call a loss or metric of a user once, so that its errors are told before the first epoch.

    Args:
        name: the reference.
        kind: the setting, `loss` or `metrics`.
        compute: function of targets and outputs, float32 `(2, units)`.
        units: number of outputs.

    Raises:
        OwnSettingError: it raises an error.
        ConfigError: it returns no number.
    """
    nothing = np.full((2, units), 0.5, np.float32)
    try:
        found = compute(keras.ops.convert_to_tensor(nothing), keras.ops.convert_to_tensor(nothing))
        number = np.asarray(keras.ops.convert_to_numpy(found), np.float32)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise OwnSettingError(
            f"{kind} must take targets and outputs, float32 (batch, {units}). "
            f"Received: {shown_name(name)}, which raised {describe_error(error)}"
        ) from error
    if number.ndim:
        raise ConfigError(
            f"{kind} must give one number. "
            f"Received: {shown_name(name)}, which gives {number.shape}."
        )


def check_value_per_sample(name: str, loss: keras.losses.Loss, units: int) -> None:
    """Require a loss that weights of samples reach: Keras multiplies what its `call` returns.

    A mean of the batch would be multiplied by the mean of the weights, which tells no samples
    apart.

    Args:
        name: the setting.
        loss: the loss, which can be computed, see `try_out`.
        units: number of outputs.

    Raises:
        ConfigError: it does not give a value, or several, for each sample.
    """
    if type(loss).__call__ is not keras.losses.Loss.__call__:
        return  # only its author knows what it does with weights
    samples = 2 if units != 2 else 3  # a value for each output must not look like one for each
    nothing = keras.ops.convert_to_tensor(np.full((samples, units), 0.5, np.float32))
    shape = np.shape(keras.ops.convert_to_numpy(loss.call(nothing, nothing)))
    if shape[:1] != (samples,):
        given = f"the shape {shape}" if shape else "one number"
        raise ConfigError(
            "Weights of samples or classes need a loss that gives a value for each sample. "
            f"Received: loss={shown_name(name)}, which gives {given} for {samples} samples. "
            "Return the mean of each sample, over axis=-1, or train without weights."
        )


def _instance(name: str, kind: str, base: type) -> Any:
    """Return what a reference names: an object of `base`, or a function."""
    found = load_object(name, kind)
    if inspect.isclass(found):
        found = called(name, kind, found)
    if not isinstance(found, base) and not callable(found):
        raise ConfigError(
            f"{kind} must name a function of targets and outputs, or a {base.__module__}."
            f"{base.__name__}. Received: {name}, of the type {type(found).__name__}."
        )
    return found


def called(name: str, kind: str, function: Any) -> Any:
    """Return what a function or a class of the user returns.

    Args:
        name: the reference.
        kind: the setting.
        function: what the reference names.

    Raises:
        OwnSettingError: it raises an error.
    """
    try:
        return function()
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        rule = "needs no arguments" if _needs_arguments(function) else "raises no error"
        raise OwnSettingError(
            f"{kind} must name what {rule}. Received: {name}, which raised {describe_error(error)}"
        ) from error


def _needs_arguments(function: Any) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):  # the latter for one that is not written in Python
        return True
    return False


def _name_of(function: Any, default: str, taken: Collection[str] = ()) -> str:
    """Return the name of a function as TensorFlow takes it: `<lambda>` is `lambda`."""
    name = re.sub(r"[^A-Za-z0-9_.]", "", getattr(function, "__name__", "")) or default
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def _class_of(module: Any, name: str) -> Any:
    """Return the class of Keras whose name is `name` in snake case; None if there is none."""
    classes = {keras_name(each): each for each in dir(module) if each[:1].isupper()}
    return getattr(module, classes[name]) if name in classes else None


def _takes(kind: Any, argument: str) -> bool:
    return argument in inspect.signature(kind).parameters


def _is_of_keras(metric: keras.metrics.Metric) -> bool:
    """Return whether Keras has written what a metric computes."""
    is_wrapped = type(metric) is keras.metrics.MeanMetricWrapper  # around a user's function
    return type(metric).__module__.startswith("keras.") and not is_wrapped


def _is_sparse(thing: Any) -> bool:
    names = (type(thing).__name__, getattr(thing, "__name__", ""))
    is_keras = type(thing).__module__.startswith("keras") or "keras" in getattr(
        thing, "__module__", ""
    )
    return is_keras and any(name.lower().startswith("sparse") for name in names)


def _numbers(targets: Any) -> Any:
    """Return classes as numbers, int32 `(batch,)`, for one-hot rows or a single column."""
    if targets.shape[-1] == 1:
        return keras.ops.cast(keras.ops.squeeze(targets, -1), "int32")
    return keras.ops.argmax(targets, axis=-1)
