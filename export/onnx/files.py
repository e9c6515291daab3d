"""Writes ONNX graphs to files without copying their weights."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

from serving.bundle import weights_file

# Bytes of the largest message of protobuf, and so of a graph with its weights in one file.
LARGEST_MESSAGE = 2**31 - 1
# Bytes. Smaller constants, such as shapes and axes, belong to the graph.
_SMALLEST = 1024
# Keys of the fields `raw_data` of a tensor, `initializer` of a graph, and `graph` of a model.
_RAW_DATA, _INITIALIZER, _GRAPH = b"\x4a", b"\x2a", b"\x3a"


def to_message(model: ir.Model) -> onnx.ModelProto:
    """Return a graph as a message, without the types of inner values, which others infer."""
    message: onnx.ModelProto = ir.to_proto(model)
    del message.graph.value_info[:]
    return message


def write_graph(model: ir.Model, path: Path, largest: int = LARGEST_MESSAGE) -> None:
    """Write `model` to `path`; its weights in a file beside it if one file cannot hold them.

    Weights are written one by one. The same graph gives the same bytes.

    Args:
        model: The graph. It is changed if its weights are written beside it.
        path: File to write. The other is `serving.bundle.weights_file(path)`.
        largest: Bytes that one file may have.

    Raises:
        OSError: A file cannot be written completely.
    """
    with _arrays_left_out(model) as left_out:
        message = to_message(model)
    tensors = [(_header_of(value), value.const_value) for value in left_out]
    graph = message.graph.SerializeToString(deterministic=True)
    message.ClearField("graph")
    rest = message.SerializeToString(deterministic=True)
    sizes = [len(header) + _length_of(tensor.nbytes, _RAW_DATA) for header, tensor in tensors]
    graph_size = len(graph) + sum(_length_of(size, _INITIALIZER) for size in sizes)
    if len(rest) + _length_of(graph_size, _GRAPH) > largest:
        _write_beside(model, path)
        return
    with path.open("wb") as file:
        file.write(rest + _GRAPH + _varint(graph_size) + graph)
        for size, (header, tensor) in zip(sizes, tensors, strict=True):
            file.write(_INITIALIZER + _varint(size) + header + _RAW_DATA + _varint(tensor.nbytes))
            _write_data(tensor, file)


def without_arrays(model: ir.Model) -> onnx.ModelProto:
    """Return a message in which inputs take the place of large constants, to check the graph."""
    with _arrays_left_out(model) as left_out:
        message = to_message(model)
    for value in left_out:
        tensor = value.const_value
        message.graph.input.append(
            onnx.helper.make_tensor_value_info(value.name, int(tensor.dtype), [*tensor.shape])
        )
    return message


def forget_weights(model: ir.Model) -> None:
    """Free the weights of a graph that was written; onnxscript's rules keep the graph itself."""
    for value in model.graph.initializers.values():
        value.const_value = None


def _write_data(tensor: Any, file: BinaryIO) -> None:
    """Write the data of a tensor; numpy's own `tofile` does not notice that a disk is full."""
    array = tensor.numpy()
    if array.nbytes != tensor.nbytes:  # of four bits, of which a byte holds two
        file.write(tensor.tobytes())
    else:
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _write_beside(model: ir.Model, path: Path) -> None:
    ir.external_data.unload_from_model(
        model, path.parent, weights_file(path).name, size_threshold_bytes=_SMALLEST
    )
    tensors = (value.const_value for value in model.graph.initializers.values())
    ends = [t.offset + t.length for t in tensors if isinstance(t, ir.ExternalTensor)]
    if weights_file(path).stat().st_size < max(ends, default=0):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    path.write_bytes(to_message(model).SerializeToString(deterministic=True))


@contextmanager
def _arrays_left_out(model: ir.Model) -> Iterator[list[ir.Value]]:
    """Take the large constants out of a graph for a while; yield them."""
    constants = model.graph.initializers
    everything = dict(constants)
    left_out = [value for value in everything.values() if _is_large(value)]
    for value in left_out:
        del constants[value.name]
    try:
        yield left_out
    finally:
        constants.clear()
        constants.update(everything)


def _is_large(value: ir.Value) -> bool:
    tensor = value.const_value
    return bool(tensor.dtype != ir.DataType.STRING and tensor.nbytes >= _SMALLEST)


def _header_of(value: ir.Value) -> bytes:
    """Return the message of a tensor without its data."""
    tensor = value.const_value
    header = onnx.TensorProto(name=value.name, data_type=int(tensor.dtype), dims=[*tensor.shape])
    return bytes(header.SerializeToString(deterministic=True))


def _length_of(size: int, key: bytes) -> int:
    """Return the length of a field of `size` bytes with its key and its own length."""
    return len(key) + len(_varint(size)) + size


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits in a byte, the lowest first."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
