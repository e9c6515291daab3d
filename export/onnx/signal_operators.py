"""Converts Fourier transforms, and the complex numbers that they take and give.

A complex tensor becomes a float tensor with one more axis at the end, for the real and the
imaginary part, as ONNX' DFT has it. Other operations would take that axis for one of their own, so
they are refused on complex tensors.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto

from export.errors import ExportError
from export.layer_names import layer_of

from .nodes import Steps

_TRANSFORMS = {"FFT": 1, "FFT2D": 2, "FFT3D": 3}


def signal_handlers() -> dict[str, Any]:
    """Return the handler of each operation on complex numbers."""
    handlers = {
        "Complex": _convert_complex,
        "ComplexAbs": _convert_magnitude,
        "Conj": _convert_conj,
    }
    handlers |= {"Real": _convert_part, "Imag": _convert_part, "RFFT": _convert_rfft}
    handlers |= {"IRFFT": _convert_irfft}
    for name in _TRANSFORMS:
        handlers |= {name: _convert_fft, f"I{name}": _convert_fft}
    return handlers


def refuse_complex(graph: tf.Graph, layers: Collection[str]) -> None:
    """Raise ExportError for an operation on complex numbers that has no handler here."""
    known = {*signal_handlers(), "Identity"}
    for op in graph.get_operations():
        tensors = [*op.inputs, *op.outputs]
        if op.type not in known and any(tensor.dtype.is_complex for tensor in tensors):
            layer = layer_of(op.name, layers)
            raise ExportError(
                "Complex numbers may only be made, transformed and split into their parts. "
                f"Received: {op.type} of {f'layer {layer!r}' if layer else op.name}. "
                "Compute with the real and the imaginary part."
            )


def _convert_complex(context: Any, node: Any, _name: str, _args: Any) -> None:
    steps = Steps(context, node)
    parts = [steps.add("Unsqueeze", part, [-1]) for part in node.input]
    _replace(steps, steps.add("Concat", *parts, axis=-1))


def _convert_part(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert Real or Imag to the element of the last axis."""
    steps = Steps(context, node)
    number = np.int64(node.type == "Imag")
    _replace(steps, steps.add("Gather", node.input[0], number, axis=-1))


def _convert_conj(context: Any, node: Any, _name: str, _args: Any) -> None:
    steps = Steps(context, node)
    _replace(steps, steps.add("Mul", node.input[0], np.array([1, -1], np.float32)))


def _convert_magnitude(context: Any, node: Any, _name: str, _args: Any) -> None:
    steps = Steps(context, node)
    last: dict[str, Any] = {"axes": [-1]} if context.opset < 18 else {}
    axes = () if last else ([-1],)
    _replace(steps, steps.add("ReduceL2", node.input[0], *axes, keepdims=0, **last))


def _convert_fft(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert a transform along the last axes to one DFT for each of them."""
    steps = Steps(context, node)
    rank = len(node.output_shapes[0])
    value = node.input[0]
    is_inverse = int(node.type.startswith("I"))
    for number in range(_TRANSFORMS[node.type.removeprefix("I")]):
        value = steps.add("DFT", value, axis=rank - 1 - number, inverse=is_inverse)
    _replace(steps, value)


def _convert_rfft(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert the transform of real numbers; the length cuts or fills the last axis."""
    steps = Steps(context, node)
    signal, length = node.input
    rank = len(node.output_shapes[0])
    samples = steps.add("Unsqueeze", signal, [-1])
    size = steps.add("Squeeze", steps.add("Cast", length, to=TensorProto.INT64))
    _replace(steps, steps.add("DFT", samples, size, axis=rank - 1, onesided=1))


def _convert_irfft(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert the transform to real numbers: the other half of the spectrum mirrors the first.

    ONNX' DFT takes no half of a spectrum.
    """
    length = context.get_node_by_output(node.input[1])
    if not length.is_const():
        return
    size = int(np.ravel(length.get_tensor_value(as_list=False))[0])
    steps = Steps(context, node)
    rank = len(node.output_shapes[0])
    axis = rank - 1
    half = size // 2 + 1
    # Bins that are absent are 0.
    padding = np.zeros(2 * (rank + 1), np.int64)
    padding[rank + 1 + axis] = half
    filled = steps.add("Pad", node.input[0], padding)
    first = steps.add("Slice", filled, [0], [half], [axis])
    rest = steps.add("Gather", filled, np.arange((size - 1) // 2, 0, -1), axis=axis)
    mirrored = steps.add("Mul", rest, np.array([1, -1], np.float32))
    whole = steps.add("Concat", first, mirrored, axis=axis)
    found = steps.add("DFT", whole, axis=axis, inverse=1)
    _replace(steps, steps.add("Gather", found, np.int64(0), axis=-1))


def _replace(steps: Steps, value: str) -> None:
    """Replace the node by a float tensor, whose shape is found again from the graph."""
    outputs = steps.node.output
    steps.replace(value)
    steps.context.set_dtype(outputs[0], TensorProto.FLOAT)
