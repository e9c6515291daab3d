"""Creates Keras optimizers and learning-rate schedules from their settings."""

import copy
import re
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

import keras
import numpy as np

from app.config.training_config import DECAYING, OptimizerConfig
from app.errors import ConfigError, OwnSettingError
from app.system.user_code import describe_error, load_object, shown_name
from models.heads import HEAD_LAYERS

from .muon import Muon
from .own_losses import called

_OPTIMIZERS: dict[str, Any] = {
    "gradient_descent": keras.optimizers.SGD,
    "sgd": keras.optimizers.SGD,
    "momentum": keras.optimizers.SGD,
    "nesterov": keras.optimizers.SGD,
    "adagrad": keras.optimizers.Adagrad,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "adamax": keras.optimizers.Adamax,
    "adafactor": keras.optimizers.Adafactor,
    "lamb": keras.optimizers.Lamb,
    "lion": keras.optimizers.Lion,
    "muon": Muon,
}

# Attributes that belong to the variables of one model, or to Keras' and TensorFlow's own records.
_OF_VARIABLES = {
    "built",
    "_trainable_variables_indices",
    "_exclude_from_weight_decay",
    "_exclude_from_weight_decay_cache",
}
_OF_TRACKING = ("_self_", "_tracker")
_PLAIN = (str, bytes, int, float, complex, np.generic, re.Pattern, type(None))
_COLLECTIONS = (list, tuple, set, frozenset)


def make_optimizer(
    config: OptimizerConfig, steps_per_epoch: int, epochs: int
) -> keras.optimizers.Optimizer:
    """Return the optimizer of `config` for a run of `epochs` times `steps_per_epoch` steps.

    Raises:
        ConfigError: see `own_optimizer`.
    """
    if config.is_own:
        return own_optimizer(config.name)
    arguments: dict[str, Any] = {}
    if config.name in ("momentum", "nesterov"):
        arguments |= {"momentum": config.momentum, "nesterov": config.name == "nesterov"}
    if config.name in ("adam", "adamw"):
        arguments["beta_2"] = config.beta_2
    if config.name in DECAYING:
        arguments["weight_decay"] = config.weight_decay
    if config.name == "muon":
        arguments |= {
            "momentum": config.momentum,
            "adam_weight_decay": config.weight_decay,
            "exclude_layers": [f"(^|/){head}/" for head in HEAD_LAYERS],
            # Five, the default of Keras, take longer and train no better.
            "ns_steps": 3,
        }
    if config.clip_norm:
        arguments["global_clipnorm"] = config.clip_norm
    if config.ema_momentum:
        arguments |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    rate = _learning_rate(config, steps_per_epoch, epochs)
    return _OPTIMIZERS[config.name](rate, **arguments)


def own_optimizer(name: str) -> keras.optimizers.Optimizer:
    """Return a user's optimizer by a reference to a class, a function that makes one, or itself.

    Each call returns a new one, since an optimizer belongs to the variables of one model.

    Raises:
        ConfigError: the reference names something else, or an object that cannot be made again.
    """
    setting = "optimizer.name"
    named = load_object(name, setting)
    is_object = isinstance(named, keras.optimizers.Optimizer)
    found = called(shown_name(name), setting, named) if not is_object and callable(named) else named
    if not isinstance(found, keras.optimizers.Optimizer):
        raise ConfigError(
            f"{setting} must name a keras.optimizers.Optimizer, or a function that returns one. "
            f"Received: {shown_name(name)}, of the type {type(found).__name__}."
        )
    if any(getattr(each, "_exclude_from_weight_decay", ()) for each in _with_inner(found)):
        raise ConfigError(
            f"{setting} may exclude weights from weight decay by name, since each model has "
            f"its own weights. Received: {shown_name(name)} with var_list. Give var_names, such as "
            "exclude_from_weight_decay(var_names=['bias'])."
        )
    return found if not is_object and not found.built else _copied(found, name)


def is_same_optimizer(optimizer: keras.optimizers.Optimizer, other: Any) -> bool:
    """Return whether another optimizer has the same settings, those outside get_config too."""
    kept, again = (list(_with_inner(each)) for each in (optimizer, other))
    return len(kept) == len(again) and not any(
        key
        for one, two in zip(kept, again, strict=True)
        for key, value in _attributes(one)
        if not _is_same(value, vars(two).get(key))
    )


def own_settings(config: OptimizerConfig) -> dict[str, Any]:
    """Return the class and the settings of a user's optimizer, by name, as its report shows them.

    Those that are turned off are left out. Without an optimizer of the user's there are none.
    """
    if not config.is_own:
        return {}
    found: dict[str, Any] = {}
    for each in _with_inner(own_optimizer(config.name)):
        found["inner_optimizer" if found else "class"] = type(each).__name__
        settings = _config_of(each)
        settings.pop("inner_optimizer", None)
        if not settings.get("use_ema"):
            settings.pop("ema_momentum", None)
        found |= {key: value for key, value in _flat(settings).items() if key != "name"}
    return found


def _config_of(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Return the configuration of an optimizer; nothing if its class has none."""
    try:
        return {**optimizer.get_config()}
    except Exception:  # whatever the user's class raises
        return {}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the texts and numbers of nested settings; a serialized object is its class."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and "class_name" in value:
            found[prefix + key] = value["class_name"]
            inner = value.get("config")
            found |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {}
        elif isinstance(value, float):
            found[prefix + key] = float(f"{value:.7g}")  # a rate is kept in float32
        elif isinstance(value, str | int) and value is not False:
            found[prefix + key] = value
    return found


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer that takes the steps, rather than the one that scales its loss."""
    return list(_with_inner(optimizer))[-1]


def _with_inner(optimizer: Any) -> Iterator[keras.optimizers.Optimizer]:
    """Yield an optimizer, and those inside it if it scales the loss of another one."""
    while isinstance(optimizer, keras.optimizers.Optimizer):
        yield optimizer
        optimizer = getattr(optimizer, "inner_optimizer", None)


def _copied(optimizer: keras.optimizers.Optimizer, name: str) -> keras.optimizers.Optimizer:
    """Return a new optimizer with the settings of another one."""
    try:
        return _made_again(optimizer)
    except Exception as error:  # whatever the user's class raises
        reason = describe_error(error).rstrip(".")
        raise OwnSettingError(
            "An optimizer must be one that its get_config makes again. Received: "
            f"{shown_name(name)}, which raised {reason}. Name a function that "
            "returns a new one."
        ) from error


def _made_again(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return a new optimizer by the configuration and the attributes of another one.

    Raises:
        ValueError: an attribute that is neither text nor number differs.
    """
    settings = optimizer.get_config()
    inner = getattr(optimizer, "inner_optimizer", None)
    if isinstance(inner, keras.optimizers.Optimizer):
        settings["inner_optimizer"] = _made_again(inner)
        again = type(optimizer)(**settings)
    else:
        if _has_schedule(optimizer):  # perhaps of a class that Keras would not find
            settings["learning_rate"] = optimizer._learning_rate
        again = type(optimizer).from_config(settings)
    for key, value in _attributes(optimizer):
        if _is_plain(value):
            setattr(again, key, copy.deepcopy(value))
        elif not _is_same(value, vars(again).get(key)):
            raise ValueError(f"its get_config does not give the attribute {key}")
    return again


def _attributes(optimizer: keras.optimizers.Optimizer) -> list[tuple[str, Any]]:
    """Return the attributes of an optimizer that do not belong to the variables of a model."""
    return [
        (key, value)
        for key, value in vars(optimizer).items()
        if key not in _OF_VARIABLES and not key.startswith(_OF_TRACKING)
        if not _is_state(value)
    ]


def _is_state(value: Any) -> bool:
    """Return whether a value consists of variables, of which some may be missing."""
    if isinstance(value, dict):
        return bool(value) and _is_state(list(value.values()))
    if isinstance(value, _COLLECTIONS):
        found = [each for each in value if each is not None]
        return bool(found) and all(map(_is_state, found))
    return isinstance(value, keras.Variable | keras.optimizers.Optimizer)


def _is_plain(value: Any) -> bool:
    """Return whether a value consists of texts and numbers, which all optimizers may share."""
    if isinstance(value, dict):
        return all(_is_plain(each) for pair in value.items() for each in pair)
    if isinstance(value, _COLLECTIONS):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _is_same(value: Any, other: Any) -> bool:
    """Return whether two attributes have the same effect, as far as can be told."""
    if value is other or (_is_plain(value) and value == other):
        return True
    if type(value) is not type(other):
        return False
    parts, others = _parts(value), _parts(other)
    if parts is None or others is None:
        return bool(value == other)
    return len(parts) == len(others) and all(map(_is_same, parts, others))


def _parts(value: Any) -> list[Any] | None:
    """Return what tells whether a value is the same as another one; None for the value itself."""
    parts: list[Any] | None = None
    if isinstance(value, FunctionType):  # made in the constructor, perhaps
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = [value.__code__, value.__defaults__, *cells]
    elif isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        parts = [*value]
    elif isinstance(value, np.ndarray):
        parts = [str(value.dtype), value.tolist()]
    elif hasattr(value, "get_config"):
        parts = [value.get_config()]
    elif type(value).__module__.startswith(("keras.", "tensorflow.")):
        parts = []
    elif hasattr(value, "__dict__") and "__eq__" not in vars(type(value)):
        parts = [vars(value)]
    return parts


def _has_schedule(optimizer: keras.optimizers.Optimizer) -> bool:
    """Return whether something else than a number is the learning rate of an optimizer."""
    return not isinstance(inner_optimizer(optimizer)._learning_rate, keras.Variable)


class AveragesAtEpochEnd(keras.callbacks.SwapEMAWeights):
    """Puts averaged weights into the model for what is kept of an epoch.

    It goes with a user's SwapEMAWeights, which puts them there for the validation only.
    """

    def __init__(self) -> None:
        super().__init__(swap_on_epoch=True)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Do nothing: the user's callback does it."""

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Do nothing."""

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Do nothing."""

    def on_predict_end(self, logs: dict[str, Any] | None = None) -> None:
        """Do nothing."""


def averages_at_epoch_end(
    config: OptimizerConfig, callbacks: Sequence[keras.callbacks.Callback]
) -> list[AveragesAtEpochEnd]:
    """Return what keeps averaged weights where a user's callback only validates them.

    Args:
        config: settings of the optimizer.
        callbacks: those of the user.
    """
    swapping = _swapping(callbacks)
    is_needed = bool(swapping) and not any(each.swap_on_epoch for each in swapping)
    return [AveragesAtEpochEnd()] if is_needed and _is_averaged(config) else []


def _swapping(
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[keras.callbacks.SwapEMAWeights]:
    return [each for each in callbacks if isinstance(each, keras.callbacks.SwapEMAWeights)]


def _is_averaged(config: OptimizerConfig) -> bool:
    """Return whether an optimizer averages the weights over its steps."""
    if config.is_own:
        return bool(inner_optimizer(own_optimizer(config.name)).use_ema)
    return bool(config.ema_momentum)


def optimizer_callbacks(
    config: OptimizerConfig, others: Sequence[keras.callbacks.Callback] = ()
) -> list[keras.callbacks.Callback]:
    """Return the callbacks that the schedule and the moving average need, in their order.

    Args:
        config: settings of the optimizer.
        others: callbacks of the user. One that swaps averaged weights in makes ours superfluous:
            two would swap them out again.
    """
    callbacks: list[keras.callbacks.Callback] = []
    if not config.is_own and config.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss",
                factor=config.decay_rate,
                patience=config.decay_epochs,
                min_delta=0.0,
            )
        )
    if _is_averaged(config) and not _swapping(others):
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    return callbacks


def check_rate_callbacks(
    config: OptimizerConfig, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Require a learning rate that callbacks of Keras can set, if there are such callbacks.

    Raises:
        ConfigError: a schedule sets it.
    """
    setting = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
    found = next((callback for callback in callbacks if isinstance(callback, setting)), None)
    if found is not None and config.is_own:
        if _has_schedule(own_optimizer(config.name)):
            raise ConfigError(
                f"{type(found).__name__} needs a learning rate without a schedule. Received: "
                f"optimizer.name={shown_name(config.name)}, which has one. Give it a number."
            )
        return
    if found is not None and config.schedule not in ("constant", "plateau"):
        raise ConfigError(
            f"{type(found).__name__} needs a learning rate without a schedule. Received: "
            f"optimizer.schedule={config.schedule}. Set optimizer.schedule=constant."
        )


def _learning_rate(config: OptimizerConfig, steps_per_epoch: int, epochs: int) -> Any:
    schedules = keras.optimizers.schedules
    if config.schedule == "cosine":
        steps = steps_per_epoch * epochs
        warmup = int(config.warmup * steps)
        if warmup:
            return schedules.CosineDecay(
                0.0, steps - warmup, warmup_target=config.learning_rate, warmup_steps=warmup
            )
        return schedules.CosineDecay(config.learning_rate, steps)
    if config.schedule in ("step", "exponential"):
        return schedules.ExponentialDecay(
            config.learning_rate,
            config.decay_epochs * steps_per_epoch,
            config.decay_rate,
            staircase=config.schedule == "step",
        )
    return config.learning_rate
