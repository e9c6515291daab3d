"""Converts TensorFlow operations that Keras emits and tf2onnx lacks or converts wrongly.

Each function is a handler for tf2onnx's `custom_op_handlers`: it takes tf2onnx's graph and the node
to replace.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from .counting import convert_bincount
from .crosses import convert_cross, convert_hash, convert_sparse_to_dense
from .lookup_operators import (
    Table,
    convert_bucketize,
    convert_equal,
    convert_lookup,
    convert_one_hot,
)
from .matrix_operators import matrix_handlers
from .nodes import add_constant, add_step, convert_by_default, replace_node
from .numeric_operators import numeric_handlers
from .quantized_operators import convert_integer_product
from .resampling import RESAMPLING, convert_resampling
from .signal_operators import signal_handlers
from .tensor_lists import convert_read, convert_stack
from .text_operators import text_handlers

_SIGN_BIT = -(2**31)


def operator_handlers(
    tables: Mapping[str, Table], hashed: Mapping[str, list[np.ndarray]]
) -> dict[str, Any]:
    """Return the handlers for tf2onnx's `custom_op_handlers`.

    Args:
        tables: Each lookup table, by the name of its handle.
        hashed: Values that are hashed, see `crosses.values_before_hashes`.
    """
    handlers = {
        "BatchMatMulV3": convert_integer_product,
        "Bitcast": _convert_bitcast,
        "BitwiseAnd": _convert_bitwise_and,
        "Bucketize": convert_bucketize,
        "DenseBincount": convert_bincount,
        "RaggedBincount": convert_bincount,
        "Equal": convert_equal,
        "Einsum": _convert_einsum,
        "Erfc": _convert_erfc,
        "Expm1": _convert_expm1,
        "FloorDiv": _convert_floor_division,
        "FloorMod": _convert_floor_modulo,
        "Log1p": _convert_log1p,
        "OneHot": convert_one_hot,
        "LookupTableFindV2": functools.partial(convert_lookup, tables),
        "SelectV2": _convert_select,
        "SparseCross": functools.partial(convert_cross, hashed),
        "SparseToDense": convert_sparse_to_dense,
        "StringToHashBucketFast": functools.partial(convert_hash, hashed),
        "StringToHashBucketStrong": functools.partial(convert_hash, hashed),
        "TensorListGetItem": convert_read,
        "TensorListStack": convert_stack,
    }
    handlers |= dict.fromkeys(RESAMPLING, convert_resampling)
    handlers |= {**matrix_handlers(), **numeric_handlers(), **signal_handlers(), **text_handlers()}
    return {op: (handler, []) for op, handler in handlers.items()}


def _convert_erfc(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert Erfc (Keras' GELU): erfc(x) = 1 - erf(x)."""
    one = add_constant(context, node, "one", np.ones((), np.float32))
    replace_node(context, node, "Sub", [one, add_step(context, node, "Erf", node.input)])


def _convert_expm1(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert Expm1 (CELU): exp(x) - 1, near 0 by Kahan's formula."""
    step = functools.partial(add_step, context, node)
    (x,) = node.input
    one = add_constant(context, node, "one", np.ones((), np.float32))
    u = step("Exp", [x])
    plain = step("Sub", [u, one])
    exact = step("Div", [step("Mul", [plain, x]), step("Log", [u])])
    _replace_near_zero(context, node, u, exact, plain)


def _convert_log1p(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert Log1p: log(1 + x), near 0 by Kahan's formula."""
    step = functools.partial(add_step, context, node)
    (x,) = node.input
    one = add_constant(context, node, "one", np.ones((), np.float32))
    u = step("Add", [x, one])
    plain = step("Log", [u])
    exact = step("Div", [step("Mul", [plain, x]), step("Sub", [u, one])])
    _replace_near_zero(context, node, u, exact, plain)


def _replace_near_zero(context: Any, node: Any, u: str, exact: str, plain: str) -> None:
    """Return x where u = exp(x) or u = 1 + x rounds to 1, `exact` where |x| < 1, else `plain`.

    In `exact` the rounding of u cancels, while `plain` loses all digits near 0 (Kahan's formula, in
    Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 1.14.1).
    """
    step = functools.partial(add_step, context, node)
    (x,) = node.input
    one = add_constant(context, node, "unit", np.ones((), np.float32))
    is_small = step("Less", [step("Abs", [x]), one])
    inside = step("Where", [step("Equal", [u, one]), x, exact])
    replace_node(context, node, "Where", [is_small, inside, plain])


def _convert_floor_division(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert FloorDiv of integers, which ONNX's Div rounds towards zero."""
    x, y = node.input
    if not _is_whole(node):
        convert_by_default(context, node)
        return
    rest = add_step(context, node, "Mod", [x, y])  # has the sign of y
    replace_node(context, node, "Div", [add_step(context, node, "Sub", [x, rest]), y])


def _convert_floor_modulo(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert FloorMod of integers to ONNX's Mod."""
    if _is_whole(node):
        replace_node(context, node, "Mod", node.input)
    else:
        convert_by_default(context, node)


def _is_whole(node: Any) -> bool:
    return node.output_dtypes[0] not in (TensorProto.FLOAT, TensorProto.DOUBLE)


def _convert_bitcast(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert Bitcast as Keras uses it, in argmax: to extract the sign bit of a float.

    The result is the lowest int32 if the bit is set and 0 if not. ONNX has no Bitcast before opset
    26.
    """
    consumers = context.find_output_consumers(node.output[0])
    if not all(_keeps_sign_bit(context, consumer) for consumer in consumers):
        return  # left as it is, and refused later as an operation that ONNX lacks
    zero = add_constant(context, node, "zero", np.zeros((), np.float32))
    below = add_step(context, node, "Less", [*node.input, zero])
    # Negative zero has a reciprocal below 0; negative infinity is below 0 itself.
    reciprocal = add_step(
        context, node, "Less", [add_step(context, node, "Reciprocal", node.input), zero]
    )
    has_sign = add_step(context, node, "Or", [below, reciprocal])
    _replace_by_sign_bit(context, node, has_sign)


def _convert_bitwise_and(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert a BitwiseAnd that extracts a sign bit; ONNX has none before opset 18."""
    if not _keeps_sign_bit(context, node):
        convert_by_default(context, node)
        return
    (x,) = [name for name in node.input if not context.get_node_by_output(name).is_const()]
    zero = add_constant(context, node, "zero", np.zeros((), np.int32))
    is_below = add_step(context, node, "Less", [x, zero])
    _replace_by_sign_bit(context, node, is_below)


def _replace_by_sign_bit(context: Any, node: Any, has_sign: str) -> None:
    """Replace `node` by the lowest int32 where `has_sign` is true, and 0 elsewhere."""
    whole = add_step(context, node, "Cast", [has_sign], to=TensorProto.INT32)
    lowest = add_constant(context, node, "lowest", np.array(_SIGN_BIT, np.int32))
    replace_node(context, node, "Mul", [whole, lowest])


def _keeps_sign_bit(context: Any, node: Any) -> bool:
    masks = [context.get_node_by_output(name) for name in node.input]
    return node.type == "BitwiseAnd" and any(
        mask.is_const() and mask.get_tensor_value() == _SIGN_BIT for mask in masks
    )


def _convert_select(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert SelectV2 to Where; tf2onnx multiplies and adds, which turns infinity into NaN."""
    condition, first, second = node.input
    if node.output_dtypes != [TensorProto.BOOL]:
        replace_node(context, node, "Where", node.input)
        return
    # ONNX Runtime has no Where of booleans.
    chosen = add_step(context, node, "And", [condition, first])
    otherwise = add_step(context, node, "Not", [condition])
    other = add_step(context, node, "And", [otherwise, second])
    replace_node(context, node, "Or", [chosen, other])


def _convert_einsum(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert Einsum to a matrix product if possible, as in attention, or to ONNX's Einsum.

    tf2onnx would compute the shapes for the product at run time.
    """
    equation = node.get_attr_value("equation").decode().replace(" ", "")
    plan = matrix_product(equation)
    if plan is None:
        replace_node(context, node, "Einsum", node.input, attr={"equation": equation})
        return
    left, right, result = plan
    first = _transposed(context, node, node.input[0], left)
    second = _transposed(context, node, node.input[1], right)
    if result == tuple(range(len(result))):
        replace_node(context, node, "MatMul", [first, second])
        return
    product = add_step(context, node, "MatMul", [first, second])
    replace_node(context, node, "Transpose", [product], attr={"perm": result})


def _transposed(context: Any, node: Any, value: str, order: tuple[int, ...]) -> str:
    if order == tuple(range(len(order))):
        return value
    return add_step(context, node, "Transpose", [value], perm=order)


def matrix_product(
    equation: str,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """Return how to compute an einsum as one product of (stacks of) matrices.

    Args:
        equation: Equation of `numpy.einsum`, such as `aecd,abcd->acbe`.

    Returns:
        The axis orders to which the left and the right side are transposed before the product, and
        the result after it; None if the einsum is not such a product.
    """
    sides, arrow, result = equation.partition("->")
    terms = sides.split(",")
    if not arrow or "." in equation or len(terms) != 2:
        return None
    left, right = terms
    if any(len(set(term)) < len(term) for term in (left, right, result)):
        return None
    batch = [label for label in result if label in left and label in right]
    summed = [label for label in left if label in right and label not in result]
    rows = [label for label in left if label not in right]
    columns = [label for label in right if label not in left]
    if any(len(labels) != 1 for labels in (summed, rows, columns)):
        return None
    if set(result) != {*batch, *rows, *columns}:
        return None
    product = batch + rows + columns
    return (
        tuple(left.index(label) for label in batch + rows + summed),
        tuple(right.index(label) for label in batch + summed + columns),
        tuple(product.index(label) for label in result),
    )
