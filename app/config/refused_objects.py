"""Objects of Keras where settings are names and numbers: what to give in their place."""

from collections.abc import Mapping
from typing import Any

from app.errors import ConfigError
from serving.errors import either

from .training_config import SCHEDULES

# What files and the command line give, whose errors are those of other settings.
_PLAIN = (str, bool, int, float, list, tuple)
_OF_RATE = ("optimizer.learning_rate", "optimizer.schedule")


def refuse_objects(settings: Mapping[str, Any]) -> None:
    """Require a schedule that is chosen by name.

    Args:
        settings: values by flat key.

    Raises:
        ConfigError: one is an object or a class, such as `ExponentialDecay`.
    """
    for key in _OF_RATE:
        if _is_schedule(settings.get(key)):
            raise ConfigError(
                "Schedules of the learning rate are chosen by name, optimizer.schedule="
                f"{either(SCHEDULES)}. Received: {key}={_class_name(settings[key])}. Any other is "
                'the learning rate of an optimizer, {"optimizer": '
                "keras.optimizers.Adam(schedule)}."
            )


def is_object_of_keras(value: Any) -> bool:
    """Return whether a value is an object, a class or a function, as Python code passes them."""
    return value is not None and not isinstance(value, (*_PLAIN, Mapping))


def _is_schedule(value: Any) -> bool:
    """Return whether a value is a schedule of Keras, without importing Keras."""
    kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
    return any(kind.__name__ == "LearningRateSchedule" for kind in kinds)


def _class_name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__
