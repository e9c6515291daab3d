"""Keeps weights out of protobuf messages while a model is converted.

A message holds 2 GB at most, and each step of TensorFlow and tf2onnx would copy the weights. In
their place the messages carry a key, and who reads a message gets the array, which is not copied.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnx_ir as ir
import tensorflow as tf
import tf2onnx.tf_utils
from onnx import numpy_helper
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.python.framework import tensor_util
from tensorflow.python.framework.convert_to_constants import (
    _FunctionConverterDataInEager,
    _replace_variables_by_constants,
)

# Bytes. Smaller constants stay in the messages, where TensorFlow reads shapes and axes.
_LARGE = 1024


class Weights:
    """The arrays that belong to messages, by key."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def keep(self, array: np.ndarray) -> str:
        """Keep an array; return its key."""
        key = f"weights/{len(self._arrays)}"
        self._arrays[key] = array
        return key

    def find(self, key: str) -> np.ndarray | None:
        """Return the array that belongs to a key; None if that is not a key."""
        return self._arrays.get(key)

    def put_into(self, model: ir.Model) -> ir.Model:
        """Give each constant of a model that was read from a message its array."""
        for graph in model.graphs():
            for value in graph.initializers.values():
                value.const_value = self._filled(value.const_value)
            for node in graph:
                for name, attribute in node.attributes.items():
                    if attribute.type == ir.AttributeType.TENSOR:
                        node.attributes[name] = ir.AttrTensor(name, self._filled(attribute.value))
        return model

    def _filled(self, tensor: Any) -> Any:
        if not isinstance(tensor, ir.ExternalTensor):
            return tensor
        return ir.tensor(self._arrays[str(tensor.location)], name=tensor.name)


@contextmanager
def weights_outside() -> Iterator[Weights]:
    """Let tf2onnx write and read messages whose large arrays are kept outside of them."""
    weights = Weights()
    write_array, read_array = numpy_helper.from_array, numpy_helper.to_array
    read_content = tf2onnx.tf_utils.get_tf_tensor_data

    def write(array: np.ndarray, name: str | None = None) -> onnx.TensorProto:
        if not _is_large(array):
            return write_array(array, name)
        message = onnx.TensorProto(
            name=name,
            dims=array.shape,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=onnx.TensorProto.EXTERNAL,
        )
        message.external_data.add(key="location", value=weights.keep(array))
        return message

    def read(message: onnx.TensorProto, base_dir: str = "") -> np.ndarray:
        is_kept = message.data_location == onnx.TensorProto.EXTERNAL
        kept = weights.find(message.external_data[0].value) if is_kept else None
        return read_array(message, base_dir) if kept is None else kept

    def read_constant(message: TensorProto) -> np.ndarray:
        kept = weights.find(message.tensor_content[:32].decode("latin-1"))
        return read_content(message) if kept is None else kept

    with (
        patch.object(numpy_helper, "from_array", write),
        patch.object(numpy_helper, "to_array", read),
        patch.object(tf2onnx.tf_utils, "get_tf_tensor_data", read_constant),
    ):
        yield weights


def freeze(function: Any, weights: Weights) -> tuple[Any, set[int], dict[str, bytes]]:
    """Replace the variables of a concrete function by constants, with their arrays in `weights`.

    TensorFlow's own `convert_variables_to_constants_v2` copies the weights six times and also
    turns the graph into a function.

    Returns:
        The graph; the places of the variables among the captured tensors; and for each constant
        whose array is kept, what tf2onnx takes for its content.
    """
    data = _Variables(func=function, lower_control_flow=False, aggressive_inlining=True)
    write_constant = tensor_util.make_tensor_proto

    def write(values: Any, dtype: Any = None, shape: Any = None) -> TensorProto:
        if not _is_large(values):
            return write_constant(values, dtype, shape)
        return TensorProto(dtype=dtype, tensor_shape=tf.TensorShape(shape).as_proto())

    with patch.object(tensor_util, "make_tensor_proto", write):
        graph, places = _replace_variables_by_constants(converter_data=data)
    contents = {
        name: weights.keep(variable.numpy).encode()
        for name, variable in data.tensor_data.items()
        if _is_large(variable.numpy)
    }
    return graph, places, contents


class _Variables(_FunctionConverterDataInEager):  # type: ignore[misc]  # TensorFlow has no types
    """The variables that a function reads, without copies of their arrays."""

    def _eval(self, tensor: Any) -> np.ndarray:
        value = tensor.read_value() if isinstance(tensor, tf.Variable) else tensor
        try:
            return np.asarray(memoryview(value))
        except (BufferError, TypeError, ValueError):  # on a GPU, or of a type that numpy lacks
            copied: np.ndarray = value.numpy()
            return copied


def _is_large(array: Any) -> bool:
    is_numeric = isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
    return is_numeric and array.nbytes > _LARGE
