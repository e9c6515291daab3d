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
    policies = {layer.dtype_policy.name: layer.name for layer in model._flatten_layers()}
    for policy, layer in policies.items():
        # Layers that prepare, such as Hashing, compute in whole numbers.
        is_known = policy in ("float32", *_NARROW) or policy.startswith(("int", "uint"))
        if not is_known or "_from_" in policy:
            mend = (
                " Export it as it was before quantize(), with --int8 always."
                if "_from_" in policy
                else ""
            )
            raise ExportError(
                "Layers must compute in float32 or in a mixed precision. "
                f"Received: {policy} in layer {layer!r}.{mend}"
            )
    if not policies.keys() & set(_NARROW):
        return model
    config = _widened(keras.saving.serialize_keras_object(model))
    try:
        rebuilt = keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(
            "A model in mixed precision must be one that Keras can rebuild. "
            f"Received: {reason:.200}."
        ) from None
    rebuilt.set_weights(model.get_weights())
    for before, after in zip(model._flatten_layers(), rebuilt._flatten_layers(), strict=True):
        _take_state(before, after)
    return rebuilt


def _take_state(before: Any, after: Any) -> None:
    """Bring along what layers keep besides weights, or compute from these once."""
    if getattr(before, "lookup_table", None) is not None:
        after.set_vocabulary(before.get_vocabulary(include_special_tokens=False))
    if isinstance(after, keras.layers.Normalization) and after.input_mean is None:
        after.finalize_state()


def _widened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _widened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_widened(item) for item in value)
    return "float32" if isinstance(value, str) and value in _NARROW else value
