"""Puts nodes of ONNX in the place of TensorFlow's, in the graph that tf2onnx converts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tf2onnx.handler import tf_op


def as_tf2onnx_does(context: Any, node: Any) -> None:
    """Map a node by tf2onnx' own handler of its operation."""
    own = tf_op.create_mapping(context.opset, None)
    function, arguments = own[node.type]
    if "onnx_op" in arguments:
        node.type = arguments["onnx_op"]
    function(context, node, **arguments)


def replace_node(context: Any, node: Any, op: str, inputs: Sequence[str], **more: Any) -> None:
    """Put a node of ONNX in the place of `node`, under its name and with its outputs."""
    outputs, shapes, dtypes = node.output, node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    context.make_node(
        op, list(inputs), name=node.name, outputs=outputs, shapes=shapes, dtypes=dtypes, **more
    )


def add_step(context: Any, node: Any, op: str, inputs: Sequence[str], **attributes: Any) -> str:
    """Add a node of its own before `node`; return its output."""
    made = context.make_node(op, list(inputs), attr=attributes, op_name_scope=node.name)
    return str(made.output[0])


def add_constant(context: Any, node: Any, name: str, values: Any) -> str:
    """Add a constant of its own before `node`; return its output."""
    return str(context.make_const(f"{node.name}/{name}", np.asarray(values)).output[0])
