"""Fuses chains for which ONNX has one operator, or writes them as ONNX Runtime fuses them."""

import math

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from .deadline import in_time
from .initializers import add_initializer
from .matching import argument, is_near, operands, producer, replace_node, scalar, single_use


def fuse_operators(model: ir.Model) -> None:
    """Fuse every such chain. The graph changes in place.

    Args:
        model: Graph whose constants are initializers.
    """
    for node in in_time(model.graph):
        if node.op_type in ("Div", "Mul") and not node.domain:
            _fuse_hard_sigmoid(node)
        if node.op_type == "Mul" and not node.domain:
            _order_gelu(node)
        if node.op_type == "Gather" and not node.domain:
            _read_from_the_end(node)
    common.RemoveUnusedNodesPass()(model)


def _fuse_hard_sigmoid(node: ir.Node) -> None:
    """Replace clip(x + b, 0, c) / c by a HardSigmoid, which is also part of a hard swish.

    MobileNetV3 contains relu6(x + 3) / 6 (Howard et al., 2019).
    """
    scale = scalar(node.inputs[1])
    clip = single_use(node.inputs[0], "Clip") if scale is not None else None
    add = single_use(clip.inputs[0], "Add") if clip is not None else None
    if scale is None or clip is None or add is None or len(clip.inputs) < 3:
        return
    lowest, highest = scalar(clip.inputs[1]), scalar(clip.inputs[2])
    place = 1 if scalar(add.inputs[1]) is not None else 0
    offset = scalar(add.inputs[place])
    if lowest != 0 or highest is None or highest <= 0 or offset is None:
        return
    product = highest / scale if node.op_type == "Div" else highest * scale
    if abs(product - 1) > 1e-6:
        return
    attributes = {"alpha": 1 / highest, "beta": offset / highest}
    replace_node(node, ir.node("HardSigmoid", [add.inputs[1 - place]], attributes, name=node.name))


def _order_gelu(node: ir.Node) -> None:
    """Write (x / 2) * (1 - erf(-x * sqrt(1 / 2))) as x * (1 + erf(x / sqrt(2))) / 2.

    ONNX Runtime and others fuse the second form (Hendrycks & Gimpel, 2016).
    """
    for halved, tail in operands(node.outputs[0], "Mul"):
        complement = producer(tail, "Sub")
        if complement is None or not is_near(complement.inputs[0], 1):
            continue
        for source, half in operands(halved, "Mul"):
            inner = operands(argument(complement.inputs[1], "Erf"), "Mul")
            if is_near(half, 0.5) and any(
                argument(negative, "Neg") is source and is_near(factor, math.sqrt(0.5))
                for negative, factor in inner
            ):
                _write_gelu(node, source)
                return


def _write_gelu(node: ir.Node, source: ir.Value) -> None:
    root, one, half = (
        add_initializer(node.graph, np.array(number, np.float32))
        for number in (math.sqrt(2), 1, 0.5)
    )
    value = source
    for op, *inputs in (
        ("Div", source, root), ("Erf",), ("Add", one), ("Mul", source)
    ):  # fmt: skip
        step = ir.node(op, inputs if op == "Div" else [value, *inputs], name=node.name)
        (value,) = step.outputs
        value.name = f"{node.outputs[0].name}/{op}"
        value.shape, value.type = source.shape, source.type
        node.graph.insert_before(node, step)
    replace_node(node, ir.node("Mul", [value, half], name=node.name))


def _read_from_the_end(node: ir.Node) -> None:
    """Replace Gather(table, i < 0 ? i + length : i) by Gather(table, i), which does the same."""
    table, places = node.inputs
    choice = producer(places, "Where")
    if choice is None or table.shape is None:
        return
    is_negative, moved, place = choice.inputs
    compared = producer(is_negative, "Less")
    if compared is None or scalar(compared.inputs[1]) != 0:
        return
    left = argument(compared.inputs[0], "Cast") or compared.inputs[0]
    length = table.shape[node.attributes.get_int("axis", 0)]
    if left is place and any(
        other is place and scalar(added) == length for other, added in operands(moved, "Add")
    ):
        node.replace_input_with(1, place)
