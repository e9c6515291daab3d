"""From a Keras model to the one TensorFlow function that both artifacts are made of."""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from serving.manifest import TensorSpec

from .errors import ExportError

BATCH_AXIS = "batch"


@dataclass(frozen=True)
class InferenceFunction:
    """A model in inference form.

    Attributes:
        model: the Keras model.
        function: the concrete TensorFlow function, on the CPU, `training=False`.
        inputs: its inputs.
        outputs: its outputs, in the model's order.
    """

    model: keras.Model
    function: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def trace_inference(model: keras.Model) -> InferenceFunction:
    """Trace a functional model with one named input and a dict of outputs.

    Raises:
        ExportError: Keras does not run on TensorFlow, or the model is of another form.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "Export needs Keras on TensorFlow. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )
    outputs = getattr(model, "output", None)  # a sequential model has none of its own
    if len(model.inputs) != 1 or not isinstance(outputs, dict):
        raise ExportError(
            "A model must have one input and a dict of named outputs. "
            f"Received: {len(model.inputs)} inputs and {type(outputs).__name__} as outputs."
        )
    tensor = model.inputs[0]

    def serve(inputs: Any) -> Any:
        return model(inputs, training=False)

    with tf.device("/CPU:0"):  # a GPU would leave ops behind that a CPU lacks
        signature = tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name)
        function = tf.function(serve, input_signature=[signature]).get_concrete_function()
    return InferenceFunction(
        model=model,
        function=function,
        inputs=(_tensor_spec(tensor.name, tensor),),
        outputs=tuple(_tensor_spec(name, output) for name, output in outputs.items()),
    )


def _tensor_spec(name: str, tensor: Any) -> TensorSpec:
    first, *rest = tensor.shape
    if first is not None or None in rest:
        raise ExportError(
            f"The first axis alone must be variable. Received: {name} {tuple(tensor.shape)}."
        )
    return TensorSpec(name, keras.backend.standardize_dtype(tensor.dtype), (BATCH_AXIS, *rest))
