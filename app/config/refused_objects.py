"""Objects of Keras where settings are names and numbers: what to give in their place."""

from collections.abc import Mapping
from typing import Any

from app.errors import ConfigError
from serving.errors import either

from .training_config import OPTIMIZERS, SCHEDULES

# What files and the command line give, whose errors are those of other settings.
_PLAIN = (str, bool, int, float, list, tuple)
_OF_RATE = ("optimizer.learning_rate", "optimizer.schedule")


def refuse_objects(settings: Mapping[str, Any]) -> None:
    """Require an optimizer and a schedule that are chosen by name.

    Args:
        settings: values by flat key.

    Raises:
        ConfigError: one is an object or a class, such as `keras.optimizers.Adam()`.
    """
    for key in ("optimizer", "optimizer.name"):
        value = settings.get(key)
        if value is not None and not isinstance(value, _PLAIN):
            name = _class_name(value)
            same = name.lower() if name.lower() in OPTIMIZERS else ""
            hint = f"Set optimizer.name={same}." if same else f"Choose {either(OPTIMIZERS)}."
            raise ConfigError(
                "Optimizers are chosen by name, optimizer.name, with settings such as "
                f"optimizer.learning_rate. Received: {key}={name}. {hint}"
            )
    for key in _OF_RATE:
        if _is_schedule(settings.get(key)):
            raise ConfigError(
                "Schedules of the learning rate are chosen by name, optimizer.schedule="
                f"{either(SCHEDULES)}. Received: {key}={_class_name(settings[key])}. Any other is "
                "the callback keras.callbacks.LearningRateScheduler with "
                "optimizer.schedule=constant."
            )


def _is_schedule(value: Any) -> bool:
    """Return whether a value is a schedule of Keras, without importing Keras."""
    kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
    return any(kind.__name__ == "LearningRateSchedule" for kind in kinds)


def _class_name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__
