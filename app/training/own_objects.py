"""Losses, metrics and optimizers that Python code passes, kept so that a run can be resumed."""

import inspect
import json
from pathlib import Path
from typing import Any

import keras

from app.config.training_config import TrainingConfig
from app.errors import ConfigError
from app.system.atomic_files import atomic_write
from app.system.user_code import is_object, is_passed, load_object, named_objects, pass_object
from serving.errors import one_line

from .own_optimizers import is_same_optimizer

OBJECTS = "objects.json"
# Arguments of all losses and metrics, which configurations of Keras may lack.
_OF_EVERY = {"name", "dtype", "reduction"}


def write_objects(config: TrainingConfig, folder: Path) -> None:
    """Write to a run's folder what Keras can serialize of the losses, metrics and the optimizer.

    Raises:
        OSError: the file cannot be written.
    """
    kept = {name: made for name, made in serialized_objects(config).items() if made is not None}
    if kept:
        atomic_write(folder / OBJECTS, json.dumps(kept, indent=2))


def serialized_objects(config: TrainingConfig) -> dict[str, Any]:
    """Return how Keras makes losses, metrics and the optimizer again that are objects.

    Returns:
        The configuration by reference, of those that are in this process; None where Keras cannot
        make the object again.
    """
    names = (config.loss, *config.metrics, config.optimizer.name)
    references = [name for name in names if is_object(name) and is_passed(name)]
    return {name: _serialized(load_object(name, "loss or metric")) for name in references}


def read_objects(folder: Path) -> None:
    """Let settings of a run name the losses, metrics and optimizer that are written in its folder.

    Raises:
        ConfigError: one of them cannot be made again.
    """
    path = folder / OBJECTS
    if not path.is_file():
        return
    for name, config in json.loads(path.read_text("utf-8")).items():
        if is_passed(name):
            continue
        try:
            known = named_objects(name)
        except ConfigError:  # of Keras itself, or of a script that is not there
            known = {}
        try:
            thing = keras.saving.deserialize_keras_object(config, custom_objects=known)
        except Exception as error:  # whatever Keras or a constructor raises
            raise ConfigError(
                f"Losses, metrics and optimizers must be made again from {path}. "
                f"Received: {name}: {one_line(error):.200}"
            ) from None
        pass_object(name, thing)


def _serialized(thing: Any) -> Any:
    """Return the configuration from which Keras makes an object again; None if it cannot."""
    if not _has_whole_config(thing):
        return None
    try:
        text = json.dumps(keras.saving.serialize_keras_object(thing))
        known = {type(thing).__name__: type(thing)}
        # An optimizer puts its schedule into the configuration that it is made of.
        again: Any = keras.saving.deserialize_keras_object(json.loads(text), custom_objects=known)
        is_optimizer = isinstance(thing, keras.optimizers.Optimizer)
        if is_optimizer and not is_same_optimizer(thing, again):
            return None  # which excludes weights from weight decay, for example
    except Exception:  # whatever a user's class raises
        return None
    return json.loads(text) if again.get_config() == thing.get_config() else None


def _has_whole_config(thing: Any) -> bool:
    """Return whether the configuration of a Keras object has all arguments of its constructor."""
    is_function = type(thing) is keras.metrics.MeanMetricWrapper
    kinds_of_keras = keras.losses.Loss | keras.metrics.Metric | keras.optimizers.Optimizer
    if not isinstance(thing, kinds_of_keras) or is_function:
        return False
    config = thing.get_config()
    if type(thing).__module__.startswith("keras."):  # their configurations lack hardly anything
        return not getattr(thing, "from_logits", False) or "from_logits" in config
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(type(thing)).parameters.values()
    wanted = {each.name for each in parameters if each.kind not in kinds} - _OF_EVERY
    return wanted <= set(config)
