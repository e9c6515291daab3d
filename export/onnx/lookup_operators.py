"""Converts TensorFlow operations on categories: lookups, one-hot and multi-hot encoding, bins.

Each function is a handler for tf2onnx's `custom_op_handlers`: it takes tf2onnx's graph and the node
to replace.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from .nodes import add_constant, add_step, convert_by_default, replace_node

ML_DOMAIN = "ai.onnx.ml"
ML_OPSET = 3


@dataclass(frozen=True)
class Table:
    """Content of a lookup table.

    Attributes:
        keys: Strings or numbers to look up.
        values: Value of each key, strings or numbers.
        default: Value of an unknown key.
    """

    keys: list[Any]
    values: list[Any]
    default: Any


# Types of LabelEncoder's attributes; whole numbers are int64.
_KINDS = {str: "string", float: "float"}


def convert_lookup(
    tables: Mapping[str, Table], context: Any, node: Any, _name: str, _args: Any
) -> None:
    """Convert a lookup to LabelEncoder of ONNX-ML; tf2onnx only supports tables from files."""
    table = tables[node.input[0]]
    keys, values = (_KINDS.get(type(side[0]), "int64") for side in (table.keys, table.values))
    attributes = {
        f"keys_{keys}s": table.keys,
        f"values_{values}s": table.values,
        f"default_{values}": table.default,
    }
    source, found = node.input[1], node.output[0]
    replace_node(context, node, "LabelEncoder", [source], attr=attributes, domain=ML_DOMAIN)
    if context.get_shape(source) is not None:
        context.set_shape(found, context.get_shape(source))


def convert_bucketize(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert Bucketize (Discretization) to the number of boundaries that x is not below.

    NaN counts all boundaries, as in TensorFlow.
    """
    boundaries = np.array(node.get_attr_value("boundaries"), np.float32)
    last = add_constant(context, node, "last", np.array([-1], np.int64))
    x = add_step(context, node, "Cast", node.input, to=TensorProto.FLOAT)
    x = add_step(context, node, "Unsqueeze", [x, last])
    limits = add_constant(context, node, "boundaries", boundaries)
    reached = add_step(context, node, "Not", [add_step(context, node, "Less", [x, limits])])
    reached = add_step(context, node, "Cast", [reached], to=TensorProto.INT32)
    replace_node(context, node, "ReduceSum", [reached, last], attr={"keepdims": 0})


def convert_one_hot(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert OneHot. For indices below 0 TensorFlow sets no element; ONNX counts from the end."""
    indices, depth, on, off = node.input
    size = context.get_node_by_output(depth)
    shape = context.get_shape(indices)
    axis = node.get_attr_value("axis", -1)
    if not size.is_const() or shape is None or axis not in (-1, len(shape)):
        convert_by_default(context, node)
        return
    last = add_constant(context, node, "last", np.array([-1], np.int64))
    places = add_step(context, node, "Unsqueeze", [indices, last])
    whole = add_step(context, node, "Cast", [places], to=TensorProto.INT64)
    classes = np.arange(int(size.get_tensor_value()), dtype=np.int64)
    is_hot = add_step(
        context, node, "Equal", [whole, add_constant(context, node, "classes", classes)]
    )
    if node.output_dtypes[0] == TensorProto.BOOL:
        replace_node(context, node, "Identity", [is_hot])
    else:
        replace_node(context, node, "Where", [is_hot, on, off])


def convert_equal(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert Equal with constant strings to lookups; before opset 19 ONNX compares no strings."""
    for text, other in (node.input, node.input[::-1]):
        constant = context.get_node_by_output(text)
        if context.get_dtype(text) == TensorProto.STRING and constant.is_const():
            wanted = np.asarray(constant.get_tensor_value(as_list=False))
            words = [_decoded(word) for word in wanted.reshape(-1)]
            known = list(dict.fromkeys(words))
            attributes = {"keys_strings": known, "values_int64s": list(range(len(known))),
                          "default_int64": -1}  # fmt: skip
            made = context.make_node(
                "LabelEncoder", [other], attr=attributes, domain=ML_DOMAIN, op_name_scope=node.name
            )
            numbers = np.array([known.index(word) for word in words], np.int64)
            codes = add_constant(context, node, "codes", numbers.reshape(wanted.shape))
            replace_node(context, node, "Equal", [made.output[0], codes])
            return
    replace_node(context, node, "Equal", node.input)


def _decoded(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)
