"""From a Keras model to the one TensorFlow function that both artifacts are made of."""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from serving.agreement import Inputs, Outputs
from serving.manifest import TensorSpec

from .errors import ExportError

BATCH_AXIS = "batch"


@dataclass(frozen=True)
class InferenceFunction:
    """A model in inference form.

    Attributes:
        model: the Keras model.
        function: the concrete TensorFlow function, on the CPU, `training=False`; it takes the
            inputs one by one.
        inputs: its inputs, in its order.
        outputs: its outputs, in the model's order.
    """

    model: keras.Model
    function: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def trace_inference(model: keras.Model) -> InferenceFunction:
    """Trace a functional model with named inputs and a dict of outputs.

    Raises:
        ExportError: Keras does not run on TensorFlow, or the model is of another form.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "Export needs Keras on TensorFlow. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )
    outputs = getattr(model, "output", None)  # a sequential model has none of its own
    if not isinstance(outputs, dict) or not (
        len(model.inputs) == 1 or isinstance(model.input, dict)
    ):
        raise ExportError(
            "A model must have one input or a dict of them, and a dict of named outputs. "
            f"Received: {len(model.inputs)} inputs and {type(outputs).__name__} as outputs."
        )
    names = [tensor.name for tensor in model.inputs]

    def serve(*tensors: Any) -> Any:
        inputs = dict(zip(names, tensors, strict=True)) if len(names) > 1 else tensors[0]
        return model(inputs, training=False)

    with tf.device("/CPU:0"):  # a GPU would leave ops behind that a CPU lacks
        signature = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
        function = tf.function(serve, input_signature=signature).get_concrete_function()
    return InferenceFunction(
        model=model,
        function=function,
        inputs=tuple(_tensor_spec(tensor.name, tensor) for tensor in model.inputs),
        outputs=tuple(_tensor_spec(name, output) for name, output in outputs.items()),
    )


def lookup_tables(model: keras.Model) -> list[keras.layers.StringLookup]:
    """Return the layers that look texts up, whose tables are no variables."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.StringLookup)]


def to_tensors(inputs: Inputs) -> Any:
    """Return `inputs` as tensors, since numpy has no strings that TensorFlow takes."""
    if isinstance(inputs, dict):
        return {name: tf.constant(array) for name, array in inputs.items()}
    return tf.constant(inputs)


def predict_keras(model: keras.Model, inputs: Inputs, batch_size: int = 32) -> Outputs:
    """Return what `keras.Model.predict` gives."""
    outputs: Outputs = model.predict(to_tensors(inputs), batch_size=batch_size, verbose=0)
    return outputs


def _tensor_spec(name: str, tensor: Any) -> TensorSpec:
    first, *rest = tensor.shape
    if first is not None or None in rest:
        raise ExportError(
            f"The first axis alone must be variable. Received: {name} {tuple(tensor.shape)}."
        )
    return TensorSpec(name, keras.backend.standardize_dtype(tensor.dtype), (BATCH_AXIS, *rest))
