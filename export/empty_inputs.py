"""Leaves out inputs that hold no numbers, such as the masks of a model that was built for none."""

from typing import Any

import keras


def without_empty_inputs(model: keras.Model) -> keras.Model:
    """Return a model without the inputs that have an axis of size 0; the model itself if none has.

    Args:
        model: Functional model.
    """
    tensors = keras.tree.flatten(model.input)
    kept = [tensor for tensor in tensors if 0 not in tensor.shape]
    if not kept or len(kept) == len(tensors):
        return model
    inputs = {
        tensor.name: keras.Input(tensor.shape[1:], tensor.shape[0], tensor.dtype, name=tensor.name)
        for tensor in kept
    }
    some = next(iter(inputs.values()))
    leaves = [inputs.get(tensor.name) for tensor in tensors]
    for place, tensor in enumerate(tensors):
        if leaves[place] is None:
            leaves[place] = _Empty(tensor.shape, tensor.dtype, name=f"no_{tensor.name}")(some)
    outputs = model(keras.tree.pack_sequence_as(model.input, leaves))
    return keras.Model(inputs, outputs, name=model.name)


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
