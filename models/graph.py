"""What computes a tensor of a functional model, inside models that it nests too."""

from typing import Any

import keras

# Layers that keep what their inputs are: probabilities stay probabilities, logits stay logits.
_KEEPING = (
    keras.layers.ActivityRegularization,
    keras.layers.Average,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Identity,
    keras.layers.Reshape,
)


def producer(tensor: Any) -> Any:
    """Return the operation that computes a symbolic tensor; of a nested model, the one inside."""
    history = tensor._keras_history
    operation = history.operation
    outputs = getattr(operation, "outputs", None)
    if isinstance(operation, keras.Model) and outputs:
        return producer(outputs[history.tensor_index])
    return operation


def activation_of(tensor: Any) -> str:
    """Return the last activation in front of a tensor, such as `softmax`, `sigmoid` or `linear`.

    It is empty if the operation is a layer or model whose inside is unknown.
    """
    operation = producer(tensor)
    is_empty = isinstance(operation, keras.layers.Activation) and _name(operation) == "linear"
    if is_empty or isinstance(operation, _KEEPING) or type(operation).__name__ == "Cast":
        found = {activation_of(each) for each in keras.tree.flatten(operation.input)}
        return found.pop() if len(found) == 1 else "linear"
    if isinstance(operation, keras.layers.Softmax) or type(operation).__name__ == "BothClasses":
        return "softmax"
    if getattr(operation, "activation", None) is not None:
        return _name(operation)
    name = type(operation).__name__.lower()
    if name in ("softmax", "sigmoid"):
        return name
    is_known = type(operation).__module__.startswith("keras.")
    return "linear" if is_known and not isinstance(operation, keras.Model) else ""


def _name(operation: Any) -> str:
    activation = operation.activation
    return str(getattr(activation, "__name__", type(activation).__name__)).lower()
