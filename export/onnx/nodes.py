"""Replaces TensorFlow nodes by ONNX nodes in the graph that tf2onnx converts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tf2onnx.handler import tf_op


def convert_by_default(context: Any, node: Any) -> None:
    """Convert a node with tf2onnx's own handler."""
    handlers = tf_op.create_mapping(context.opset, None)
    function, arguments = handlers[node.type]
    if "onnx_op" in arguments:
        node.type = arguments["onnx_op"]
    function(context, node, **arguments)


def replace_node(context: Any, node: Any, op: str, inputs: Sequence[str], **more: Any) -> None:
    """Replace `node` by an ONNX node with the same name and outputs."""
    outputs, shapes, dtypes = node.output, node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    context.make_node(
        op, list(inputs), name=node.name, outputs=outputs, shapes=shapes, dtypes=dtypes, **more
    )


def add_step(context: Any, node: Any, op: str, inputs: Sequence[str], **attributes: Any) -> str:
    """Add a node before `node`; return the name of its output."""
    made = context.make_node(op, list(inputs), attr=attributes, op_name_scope=node.name)
    return str(made.output[0])


def add_constant(context: Any, node: Any, name: str, values: Any) -> str:
    """Add a constant for `node`; return its name."""
    return str(context.make_const(f"{node.name}/{name}", np.asarray(values)).output[0])
