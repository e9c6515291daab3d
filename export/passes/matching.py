"""Recognizes chains of nodes, and replaces a node by another."""

from collections.abc import Iterator

import onnx_ir as ir


def operands(value: ir.Value | None, op: str) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Yield the two inputs of the node `op` that computes `value`, in both orders."""
    node = producer(value, op)
    if node is not None and len(node.inputs) == 2 and None not in node.inputs:
        first, second = node.inputs
        yield first, second
        yield second, first


def producer(value: ir.Value | None, op: str) -> ir.Node | None:
    """Return the node that computes `value`, if it is an `op` of ONNX."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op and not node.domain else None


def single_use(value: ir.Value | None, op: str) -> ir.Node | None:
    """Return the node `op` that computes `value`, if `value` has one reader."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    return producer(value, op)


def argument(value: ir.Value | None, op: str) -> ir.Value | None:
    """Return the first input of the node `op` that computes `value`."""
    node = producer(value, op)
    return None if node is None else node.inputs[0]


def scalar(value: ir.Value | None) -> float | None:
    """Return a constant of one number; None for other values."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    if value.const_value.dtype == ir.DataType.STRING:
        return None
    return float(value.const_value.numpy().reshape(()))


def is_near(value: ir.Value | None, number: float) -> bool:
    """Return whether a value is this constant, as float32 rounds it."""
    found = scalar(value)
    return found is not None and abs(found - number) <= 1e-6 * abs(number)


def replace_node(node: ir.Node, fused: ir.Node) -> None:
    """Put `fused` in the place of `node`; both have one output."""
    (before,), (after,) = node.outputs, fused.outputs
    after.name, after.shape, after.type = before.name, before.shape, before.type
    node.graph.insert_before(node, fused)
    before.replace_all_uses_with(after, replace_graph_outputs=True)
    before.name = None
