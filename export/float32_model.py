"""Rebuilds a model of mixed precision in float32."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from .errors import ExportError, explained

_NARROW = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def in_float32(model: keras.Model) -> keras.Model:
    """Return `model`, or a model with the same weights whose layers all compute in float32.

    Raises:
        ExportError: A layer is quantized or of an unsupported precision, or Keras cannot rebuild
            the model.
    """
    policies = {layer.dtype_policy.name: layer.name for layer in model._flatten_layers()}
    _check_policies(policies)
    if not policies.keys() & set(_NARROW):
        return model
    with explained("Keras must be able to rebuild a model of mixed precision from its config"):
        return _rebuilt(model)


def _rebuilt(model: keras.Model) -> Any:
    config = _widened(keras.saving.serialize_keras_object(model))
    # Classes that are not registered are at hand: they are those of the model's layers.
    own = {
        keras.saving.get_registered_name(type(one)): type(one) for one in model._flatten_layers()
    }
    with _new_layers_in_float32():
        rebuilt = keras.saving.deserialize_keras_object(config, custom_objects=own)
    rebuilt.set_weights(model.get_weights())
    for given, tensor in zip(model.inputs, rebuilt.inputs, strict=True):
        tensor.name = given.name  # the config has only those of layers
    for before, after in zip(model._flatten_layers(), rebuilt._flatten_layers(), strict=True):
        after.name = before.name  # which a class may leave out of its config
        _copy_state(before, after)
    return rebuilt


@contextmanager
def _new_layers_in_float32() -> Iterator[None]:
    """Make the layers that a class makes itself in float32, and build them when it is called."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* had a build config, but")
            yield
    finally:
        keras.config.set_dtype_policy(before)


def _check_policies(policies: dict[str, str]) -> None:
    """Refuse precisions other than float32 and the mixed ones.

    Args:
        policies: Name of a layer for each dtype policy in the model.
    """
    for policy, layer in policies.items():
        # Preprocessing layers, such as Hashing, compute in integers.
        kind, _, precision = policy.rpartition("_from_")
        is_known = precision in ("float32", *_NARROW) or precision.startswith(("int", "uint"))
        if not is_known or kind not in ("", "int8"):
            fix = ' Export it as it was before quantize(), or after quantize("int8").'
            raise ExportError(
                "Layers must compute in float32, in a mixed precision, or in int8. "
                f"Received: {policy} in layer {layer!r}.{fix if kind else ''}"
            )


def _copy_state(before: Any, after: Any) -> None:
    """Copy the state that layers hold outside of their weights, or compute once from them."""
    if getattr(before, "lookup_table", None) is not None:
        words = before.get_vocabulary(include_special_tokens=False)
        if before.output_mode != "tf_idf":
            after.set_vocabulary(words)
        else:
            first = before._token_start_index()
            after.set_vocabulary(words, before.idf_weights.numpy()[first : first + len(words)])
    if isinstance(after, keras.layers.Normalization) and after.input_mean is None:
        after.finalize_state()


def _widened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _widened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_widened(item) for item in value)
    return "float32" if isinstance(value, str) and value in _NARROW else value
