"""Converts resampling that ONNX lacks to a product with a matrix along each axis."""

from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto

from .nodes import add_constant, add_step, evaluated, replace_node

# TensorFlow's operations for averaging, cubic, and antialiased or Lanczos resampling.
RESAMPLING = ("ResizeArea", "ResizeBicubic", "ScaleAndTranslate")


def convert_resampling(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert a resampling of images of known size, `(batch, height, width, channels)`.

    Resampling is linear and works along one axis after the other, so two matrices describe it. They
    are found by resampling the unit matrix in TensorFlow.
    """
    _, *sizes, _ = context.get_shape(node.input[0]) or (None, -1, -1, None)
    new_sizes = context.get_node_by_output(node.input[1])
    if min(sizes) < 0 or not new_sizes.is_const():
        return  # left as it is, and refused later as an operation that ONNX lacks
    attributes = {
        key: _attribute(node.attr[key]) for key in _ATTRIBUTES[node.type] if key in node.attr
    }
    along_height, along_width = (
        _matrix(node.type, old, int(new), attributes)
        for old, new in zip(sizes, new_sizes.get_tensor_value(), strict=True)
    )
    floats = add_step(context, node, "Cast", [node.input[0]], to=TensorProto.FLOAT)
    planes = add_step(context, node, "Transpose", [floats], perm=[0, 3, 1, 2])
    height = add_constant(context, node, "along_height", along_height)
    width = add_constant(context, node, "along_width", along_width.T.copy())
    planes = add_step(context, node, "MatMul", [height, planes])
    planes = add_step(context, node, "MatMul", [planes, width])
    replace_node(context, node, "Transpose", [planes], attr={"perm": [0, 2, 3, 1]})


_ATTRIBUTES = {
    "ResizeArea": ("align_corners",),
    "ResizeBicubic": ("align_corners", "half_pixel_centers"),
    "ScaleAndTranslate": ("kernel_type", "antialias"),
}


def _attribute(attribute: Any) -> Any:
    value = attribute.s.decode() if attribute.s else attribute.i
    return value if attribute.s else bool(value)


def _matrix(op: str, old: int, new: int, attributes: dict[str, Any]) -> np.ndarray:
    """Return the matrix along one axis, float32 `(new, old)`."""
    unit = np.eye(old, dtype=np.float32)[np.newaxis, :, :, np.newaxis]
    # Resample the height of the unit matrix and keep its width.
    arguments: dict[str, Any] = {"images": unit, "size": np.array([new, old], np.int32)}
    if op == "ScaleAndTranslate":  # Keras emits it only to resize, without translation
        arguments["scale"] = np.array([new / old, 1], np.float32)
        arguments["translation"] = np.zeros(2, np.float32)
    resampled: np.ndarray = evaluated(lambda: getattr(tf.raw_ops, op)(**arguments, **attributes))
    return resampled[0, :, :, 0]
