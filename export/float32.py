"""Rebuilds a model that computes in another precision."""

from typing import Any

import keras

from .errors import ExportError

_NARROW = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def in_float32(model: keras.Model) -> keras.Model:
    """Return `model`, or one of the same weights whose layers all compute in float32.

    Raises:
        ExportError: a layer computes in another type than these, or is no Keras object that can
            be rebuilt.
    """
    policies = {layer.dtype_policy.name for layer in model._flatten_layers()}
    foreign = sorted(policies - {"float32", *_NARROW})
    if foreign:
        raise ExportError(
            "Layers must compute in float32 or in a mixed precision. "
            f"Received: {', '.join(foreign)} in {model.name!r}."
        )
    if policies == {"float32"}:
        return model
    config = _widened(keras.saving.serialize_keras_object(model))
    try:
        rebuilt = keras.saving.deserialize_keras_object(config)
        rebuilt.set_weights(model.get_weights())
    except (TypeError, ValueError) as error:
        raise ExportError(
            f"A model in mixed precision must be one that Keras can rebuild. Received: {error}."
        ) from None
    return rebuilt


def _widened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _widened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_widened(item) for item in value)
    return "float32" if isinstance(value, str) and value in _NARROW else value
