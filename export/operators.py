"""Maps TensorFlow operations that Keras emits and tf2onnx lacks or maps badly.

Each function gets tf2onnx's graph and the node to replace, in the form that its
`custom_op_handlers` ask for.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

ML_DOMAIN = "ai.onnx.ml"
ML_OPSET = 3


def operator_handlers(tables: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return what tf2onnx takes as `custom_op_handlers`.

    Args:
        tables: the known texts of each lookup table, by the name of its handle.
    """
    handlers = {
        "Bucketize": _convert_bucketize,
        "Einsum": _convert_einsum,
        "Erfc": _convert_erfc,
        "Expm1": _convert_expm1,
        "LookupTableFindV2": functools.partial(_convert_lookup, tables),
        "SelectV2": _convert_select,
    }
    return {op: (handler, []) for op, handler in handlers.items()}


def _replace(context: Any, node: Any, op: str, inputs: Sequence[str], **more: Any) -> None:
    """Put a node of ONNX in the place of `node`, under its name and with its outputs."""
    outputs, shapes, dtypes = node.output, node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    context.make_node(
        op, list(inputs), name=node.name, outputs=outputs, shapes=shapes, dtypes=dtypes, **more
    )


def _step(context: Any, node: Any, op: str, inputs: Sequence[str], **attributes: Any) -> str:
    """Add a node of its own before `node`; return its output."""
    made = context.make_node(op, list(inputs), attr=attributes, op_name_scope=node.name)
    return str(made.output[0])


def _constant(context: Any, node: Any, name: str, values: Any) -> str:
    return str(context.make_const(f"{node.name}/{name}", np.asarray(values)).output[0])


def _convert_lookup(
    tables: Mapping[str, list[str]], context: Any, node: Any, _name: str, _args: Any
) -> None:
    """Map a table of texts, which tf2onnx reads from files alone, to LabelEncoder of ONNX-ML."""
    texts = tables[node.input[0]]
    attributes = {
        "keys_strings": texts,
        "values_int64s": list(range(1, len(texts) + 1)),
        "default_int64": 0,
    }
    _replace(context, node, "LabelEncoder", [node.input[1]], attr=attributes, domain=ML_DOMAIN)


def _convert_erfc(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Map Erfc, of Keras' GELU: erfc(x) = 1 - erf(x)."""
    one = _constant(context, node, "one", np.ones((), np.float32))
    _replace(context, node, "Sub", [one, _step(context, node, "Erf", node.input)])


def _convert_expm1(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Map Expm1, of CELU: exp(x) - 1."""
    one = _constant(context, node, "one", np.ones((), np.float32))
    _replace(context, node, "Sub", [_step(context, node, "Exp", node.input), one])


def _convert_select(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Map SelectV2, which tf2onnx makes a sum of products: NaN where the other side is infinite."""
    condition, first, second = node.input
    if node.output_dtypes != [TensorProto.BOOL]:
        _replace(context, node, "Where", node.input)
        return
    # ONNX Runtime has no Where of booleans.
    chosen = _step(context, node, "And", [condition, first])
    otherwise = _step(context, node, "Not", [condition])
    other = _step(context, node, "And", [otherwise, second])
    _replace(context, node, "Or", [chosen, other])


def _convert_bucketize(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Map Bucketize, of Discretization: the number of boundaries that are not above x."""
    boundaries = np.array(node.get_attr_value("boundaries"), np.float32)
    last = _constant(context, node, "last", np.array([-1], np.int64))
    x = _step(context, node, "Cast", node.input, to=TensorProto.FLOAT)
    x = _step(context, node, "Unsqueeze", [x, last])
    limits = _constant(context, node, "boundaries", boundaries)
    reached = _step(context, node, "GreaterOrEqual", [x, limits])
    reached = _step(context, node, "Cast", [reached], to=TensorProto.INT32)
    _replace(context, node, "ReduceSum", [reached, last], attr={"keepdims": 0})


def _convert_einsum(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Map Einsum to one matrix product where it is one, as in attention, else to ONNX' own.

    tf2onnx computes the shapes for such a product at run time.
    """
    equation = node.get_attr_value("equation").decode().replace(" ", "")
    plan = matrix_product(equation)
    if plan is None:
        _replace(context, node, "Einsum", node.input, attr={"equation": equation})
        return
    left, right, result = plan
    first = _transposed(context, node, node.input[0], left)
    second = _transposed(context, node, node.input[1], right)
    if result == tuple(range(len(result))):
        _replace(context, node, "MatMul", [first, second])
        return
    product = _step(context, node, "MatMul", [first, second])
    _replace(context, node, "Transpose", [product], attr={"perm": result})


def _transposed(context: Any, node: Any, value: str, order: tuple[int, ...]) -> str:
    if order == tuple(range(len(order))):
        return value
    return _step(context, node, "Transpose", [value], perm=order)


def matrix_product(
    equation: str,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """Return how an einsum is one product of (stacks of) matrices; None if it is not.

    Args:
        equation: of `numpy.einsum`, such as `aecd,abcd->acbe`.

    Returns:
        The order of axes that each side is transposed to before the product, and that of the
        result after it.
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
