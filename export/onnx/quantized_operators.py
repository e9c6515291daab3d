"""Converts products of integers, which layers after Keras' `quantize("int8")` compute, to QDQ."""

from typing import Any

import numpy as np
from onnx import TensorProto

from .nodes import add_constant, add_step, replace_node


def convert_integer_product(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert BatchMatMulV3 of int8 to int32: a product of dequantized tensors, whose scale is 1.

    ONNX Runtime runs DequantizeLinear and MatMul as one product of integers. Elsewhere, float32
    holds the sums exactly up to 2^24, the products of a thousand numbers.
    """
    if node.output_dtypes[0] != TensorProto.INT32:
        return  # left as it is, and refused later as an operation that ONNX lacks
    scale = add_constant(context, node, "scale", np.float32(1))
    zero = add_constant(context, node, "zero_point", np.int8(0))
    factors = [
        _dequantized(context, node, name, is_transposed, scale, zero)
        for name, is_transposed in zip(node.input, ("adj_x", "adj_y"), strict=True)
    ]
    product = add_step(context, node, "MatMul", factors)
    replace_node(context, node, "Cast", [product], attr={"to": TensorProto.INT32})


def _dequantized(
    context: Any, node: Any, name: str, is_transposed: str, scale: str, zero: str
) -> str:
    shape = context.get_shape(name)
    if node.get_attr_value(is_transposed):
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        name = add_step(context, node, "Transpose", [name], perm=order)
    return add_step(context, node, "DequantizeLinear", [name, scale, zero])
