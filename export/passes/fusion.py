"""Fuses chains for which ONNX has one operator and which ONNX Runtime does not fuse."""

import onnx_ir as ir
from onnx_ir.passes import common

from .deadline import in_time


def fuse_operators(model: ir.Model) -> None:
    """Fuse every such chain. The graph changes in place.

    Args:
        model: Graph whose constants are initializers.
    """
    for node in in_time(model.graph):
        _fuse_hard_sigmoid(node)
    common.RemoveUnusedNodesPass()(model)


def _fuse_hard_sigmoid(node: ir.Node) -> None:
    """Replace clip(x + b, 0, c) / c by a HardSigmoid, which is also part of a hard swish.

    MobileNetV3 contains relu6(x + 3) / 6 (Howard et al., 2019).
    """
    scale = _scalar(node, 1)
    if scale is None or node.op_type not in ("Div", "Mul") or node.domain:
        return
    clip = _single_use(node.inputs[0], "Clip")
    add = _single_use(clip.inputs[0], "Add") if clip is not None else None
    if clip is None or add is None:
        return
    lowest, highest = _scalar(clip, 1), _scalar(clip, 2)
    place = 1 if _scalar(add, 1) is not None else 0
    offset = _scalar(add, place)
    if lowest != 0 or highest is None or highest <= 0 or offset is None:
        return
    product = highest / scale if node.op_type == "Div" else highest * scale
    if abs(product - 1) > 1e-6:
        return
    attributes = {"alpha": 1 / highest, "beta": offset / highest}
    fused = ir.node("HardSigmoid", [add.inputs[1 - place]], attributes, name=node.name)
    (before,), (after,) = node.outputs, fused.outputs
    after.name, after.shape, after.type = before.name, before.shape, before.type
    node.graph.insert_before(node, fused)
    ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    before.name = None


def _single_use(value: ir.Value | None, op: str) -> ir.Node | None:
    """Return the node `op` that computes `value`, if `value` has one reader."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    node = value.producer()
    return node if node is not None and node.op_type == op and not node.domain else None


def _scalar(node: ir.Node, place: int) -> float | None:
    """Return the value of a constant input of one number; None for other inputs."""
    value = node.inputs[place] if place < len(node.inputs) else None
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    if value.const_value.dtype == ir.DataType.STRING:
        return None
    return float(value.const_value.numpy().reshape(()))
