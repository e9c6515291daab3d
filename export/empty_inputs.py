"""Leaves out inputs that hold no numbers, such as the masks of a model that was built for none."""

from typing import Any

import keras

from .tensor_names import input_names, named_like


def without_empty_inputs(model: keras.Model) -> keras.Model:
    """Return a model without the inputs that have an axis of size 0; the model itself if none has.

    Args:
        model: Functional model.
    """
    are_empty = [_is_empty(tensor) for tensor in model.inputs]
    if all(are_empty) or not any(are_empty):
        return model
    names = input_names(model)
    described = list(zip(model.inputs, names, are_empty, strict=True))
    inputs = [
        keras.Input(tensor.shape[1:], tensor.shape[0], tensor.dtype, name=name)
        for tensor, name, is_empty in described
        if not is_empty
    ]
    kept = iter(inputs)
    leaves = [
        _Empty(tensor.shape, tensor.dtype, name=f"no_{name}")(inputs[0]) if is_empty else next(kept)
        for tensor, name, is_empty in described
    ]
    outputs = model(keras.tree.pack_sequence_as(model.input, leaves))
    return keras.Model(inputs, named_like(model, outputs), name=model.name)


def _is_empty(tensor: Any) -> bool:
    """Return whether an input can hold no number, in whatever batch."""
    return 0 in tensor.shape and None not in tensor.shape[1:] and tensor.dtype != "string"


class _Empty(keras.layers.Layer):  # type: ignore[misc]
    """Makes a tensor without numbers for each batch."""

    def __init__(self, shape: Any, dtype: str, **more: Any) -> None:
        super().__init__(dtype=dtype, autocast=False, **more)
        self._rest = tuple(shape[1:])

    def call(self, inputs: Any) -> Any:
        batch = keras.ops.shape(inputs)[0]
        return keras.ops.zeros((batch, *self._rest), self.dtype)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((inputs.shape[0], *self._rest), self.dtype)
