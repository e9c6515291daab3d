"""Finds the layers that read an input as it is, in the graph that TensorFlow traced."""

from collections import defaultdict
from typing import Any

import keras
import tensorflow as tf

from .inference import InferenceFunction
from .layer_names import layer_of

# Operations that move numbers, choose among them or limit them, and do not change them otherwise.
_PASS_ON = (
    "Cast", "ClipByValue", "ConcatV2", "ExpandDims", "Identity", "Maximum", "Minimum", "Pack",
    "Pad", "PadV2", "Reshape", "ReverseV2", "SelectV2", "Split", "SplitV", "Squeeze",
    "StridedSlice", "Transpose", "Unpack",
)  # fmt: skip


def readers_of(inference: InferenceFunction, number: int) -> list[Any]:
    """Return the layers that read an input, directly or after what only moves it, in their order.

    The graph tells them in any model, also inside of the `call` of a class. A text is followed
    until it becomes a number.

    Args:
        inference: The traced model.
        number: Place of the input.
    """
    layers = defaultdict(list)
    for layer in inference.model._flatten_layers(include_self=False):
        layers[layer.name].append(layer)
    found: dict[int, Any] = {}
    for operation in _reading(inference.function.inputs[number]):
        for layer in layers.get(layer_of(operation.name, layers) or "", ()):
            is_wrapper = isinstance(layer, keras.layers.Wrapper)  # calls a layer without its scope
            parts = layer._flatten_layers() if is_wrapper else [layer]
            found |= {id(part): part for part in parts}
    return list(found.values())


def _reading(tensor: Any) -> list[Any]:
    """Return the operations that read a tensor as it is."""
    found: dict[Any, None] = {}
    waiting = [tensor]
    while waiting:
        read = waiting.pop(0)
        for operation in read.consumers():
            if operation in found or operation.type == "Shape":
                continue
            found[operation] = None
            is_text = read.dtype == tf.string
            waiting += [
                one
                for one in operation.outputs
                if operation.type in _PASS_ON or (is_text and one.dtype == tf.string)
            ]
    return list(found)
