"""Brings the channels of an image first before arithmetic with a constant for each channel."""

import numpy as np
import onnx_ir as ir

from .deadline import in_time
from .initializers import add_initializer

_ARITHMETIC = ("Add", "Div", "Mul", "Sub")


def lift_transposes(model: ir.Model) -> None:
    """Move a Transpose that brings channels first in front of sums and products with constants.

    ONNX Runtime standardizes 96x96 pixels in color ten times faster if each channel is contiguous.
    The graph changes in place.

    Args:
        model: Graph with inferred shapes whose constants are initializers.
    """
    for node in in_time(model.graph):
        if node.op_type == "Transpose" and _brings_channels_first(node):
            while _lift(model.graph, node):
                pass


def _brings_channels_first(node: ir.Node) -> bool:
    order = tuple(node.attributes.get_ints("perm", ()))
    last = len(order) - 1
    return last > 1 and order == (0, last, *range(1, last))


def _lift(graph: ir.Graph, transpose: ir.Node) -> bool:
    """Exchange a Transpose with the arithmetic that it reads; return whether that was possible."""
    before, after = transpose.inputs[0], transpose.outputs[0]
    arithmetic = None if before is None else before.producer()
    if before is None or arithmetic is None or arithmetic.op_type not in _ARITHMETIC:
        return False
    constants = [p for p, v in enumerate(arithmetic.inputs) if v and v.const_value is not None]
    if len(constants) != 1 or len(before.uses()) > 1 or before.is_graph_output():
        return False
    source = arithmetic.inputs[1 - constants[0]]
    if source is None or source.shape != before.shape or after.is_graph_output():
        return False
    order = transpose.attributes.get_ints("perm")
    array = arithmetic.inputs[constants[0]].const_value.numpy()
    full = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    moved = add_initializer(graph, np.ascontiguousarray(full.transpose(order)))
    for user, place in after.uses():
        user.replace_input_with(place, before)
    transpose.replace_input_with(0, source)
    arithmetic.replace_input_with(1 - constants[0], after)
    arithmetic.replace_input_with(constants[0], moved)
    before.shape = after.shape
    graph.remove(transpose)
    graph.insert_before(arithmetic, transpose)
    return True
