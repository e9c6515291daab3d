"""Optimizers of the user's own: made for each model, copied, compared and described."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from app.config.training_config import OptimizerConfig
from app.errors import ConfigError, OwnSettingError
from app.system.user_code import describe_error, load_object, shown_name

from .own_losses import called

# Attributes that belong to the variables of one model, or to Keras' and TensorFlow's own records.
_OF_VARIABLES = {
    "built",
    "_distribution_strategy",
    "_trainable_variables_indices",
    "_exclude_from_weight_decay",
    "_exclude_from_weight_decay_cache",
}
_OF_TRACKING = ("_self_", "_tracker")
_PLAIN = (str, bytes, int, float, complex, np.generic, re.Pattern, type(None))
_COLLECTIONS = (list, tuple, set, frozenset)


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
        if has_schedule(optimizer):  # perhaps of a class that Keras would not find
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
    if type(value) is not type(other):
        return False
    if hasattr(value, "get_config"):  # such as a schedule
        return bool(value.get_config() == other.get_config())
    return value is other or bool(np.all(value == other))


def has_schedule(optimizer: keras.optimizers.Optimizer) -> bool:
    """Return whether something else than a number is the learning rate of an optimizer."""
    return not isinstance(inner_optimizer(optimizer)._learning_rate, keras.Variable)
