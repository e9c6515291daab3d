"""Folds products and sums with constants into each other and into the weights before them.

Batch normalization at inference is a product and a sum for each channel (Ioffe & Szegedy, 2015).
As part of the weights of the convolution or matrix product before it, it costs nothing.
"""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from .deadline import in_time
from .initializers import add_initializer

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_WEIGHTED = (*_CONVOLUTIONS, "Gemm", "MatMul")


def fold_into_weights(model: ir.Model) -> None:
    """Fold products and sums wherever possible. The graph changes in place.

    Args:
        model: Graph with inferred shapes whose constants are initializers.
    """
    for node in in_time(model.graph):
        if node.op_type in ("Mul", "Add") and node.domain == "":
            _fold(model.graph, node)
    common.RemoveUnusedNodesPass()(model)


def _fold(graph: ir.Graph, node: ir.Node) -> None:
    """Fold `node` into the nodes that it reads, until it is gone or nothing changes."""
    while True:
        found = _value_and_constant(node)
        if found is None:
            return
        value, constant = found
        before = _producer_behind_pools(value, node.op_type, constant)
        if before is None or before.domain != "":
            return
        is_direct = before is value.producer()
        # The channels of a matrix product lie along an axis that a pool goes over.
        if before.op_type in (_WEIGHTED if is_direct else _CONVOLUTIONS):
            changed = _changed_constants(before, node.op_type, constant)
            if changed is not None:
                _set_constants(graph, before, changed)
                _replace_output(node, value)
            return
        if not is_direct or before.op_type not in ("Mul", "Add"):
            return
        earlier = _value_and_constant(before)
        if earlier is None:
            return
        if not _merge(graph, node, before, constant, *earlier):
            return


def _producer_behind_pools(value: ir.Value, op: str, constant: np.ndarray) -> ir.Node | None:
    """Return the node that computes `value`, or what it takes the largest of; None if others do.

    The largest of some sums is the sum with the largest, and so it is for products with constants
    above 0.
    """
    while len(value.uses()) == 1 and not value.is_graph_output():
        before = value.producer()
        is_pool = before is not None and before.op_type == "MaxPool" and not before.domain
        if before is None or not is_pool or len(before.outputs) > 1:
            return before
        if op == "Mul" and not (constant > 0).all():
            return None
        (value,) = before.inputs
    return None


def _value_and_constant(node: ir.Node) -> tuple[ir.Value, np.ndarray] | None:
    """Return the computed and the constant input, if the output has the shape of the former."""
    for value, other in (node.inputs, tuple(reversed(node.inputs))):
        if value is None or other is None or other.const_value is None:
            continue
        constant = other.const_value.numpy()
        if value.const_value is None and value.shape is not None:
            sizes = [1] * (len(value.shape) - constant.ndim) + list(constant.shape)
            fits = len(sizes) == len(value.shape) and all(
                size in (1, known) for size, known in zip(sizes, value.shape, strict=True)
            )
            if fits and constant.dtype.kind == "f":
                return value, constant
    return None


def _merge(
    graph: ir.Graph,
    node: ir.Node,
    before: ir.Node,
    constant: np.ndarray,
    value: ir.Value,
    earlier: np.ndarray,
) -> bool:
    """Merge two equal operations, or move a product before a sum; return whether it changed.

    (x + a) * b becomes x * b + a * b, so that the product can be folded into weights.
    """
    if before.op_type == node.op_type:
        both = earlier * constant if node.op_type == "Mul" else earlier + constant
        _set_inputs(graph, node, value, both)
        graph.remove(before, safe=True)
        return True
    if node.op_type == "Add":
        return False
    product = ir.node("Mul", [value, add_initializer(graph, constant)])
    product.name = before.name
    scaled = product.outputs[0]
    scaled.name, scaled.shape, scaled.dtype = f"{before.name}/scaled", value.shape, value.dtype
    graph.insert_before(node, product)
    node.op_type = "Add"
    _set_inputs(graph, node, scaled, earlier * constant)
    graph.remove(before, safe=True)  # before `product` looks at the readers of `value`
    _fold(graph, product)
    return True


def _set_inputs(graph: ir.Graph, node: ir.Node, value: ir.Value, constant: np.ndarray) -> None:
    node.replace_input_with(0, value)
    node.replace_input_with(1, add_initializer(graph, constant))


def _set_constants(graph: ir.Graph, before: ir.Node, changed: dict[int, np.ndarray]) -> None:
    for place, array in changed.items():
        if place >= len(before.inputs):
            before.resize_inputs(place + 1)
        before.replace_input_with(place, add_initializer(graph, array))


def _replace_output(node: ir.Node, value: ir.Value) -> None:
    output = node.outputs[0]
    if output.is_graph_output():
        value.name, output.name = output.name, f"{output.name}_folded"
    output.replace_all_uses_with(value, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)  # it would count as a reader of `value`


def _changed_constants(
    before: ir.Node, op: str, constant: np.ndarray
) -> dict[int, np.ndarray] | None:
    """Return new weights and bias of `before` by index of the input; None if impossible."""
    weights = before.inputs[1].const_value
    bias = before.inputs[2] if len(before.inputs) > 2 else None
    if weights is None or (bias is not None and bias.const_value is None):
        return None
    array = weights.numpy()
    axis, channels = _channels(before, array)
    if axis is None:
        return None
    per_channel = _per_channel(constant, channels, before.op_type, array.ndim)
    if per_channel is None:
        return None
    given = None if bias is None else np.broadcast_to(bias.const_value.numpy(), (channels,))
    if op == "Add":
        if before.op_type == "MatMul":
            return None  # it has no bias
        return {2: (per_channel if given is None else given + per_channel).astype(array.dtype)}
    shape = [1] * array.ndim
    shape[axis] = channels
    changed = {1: (array * per_channel.reshape(shape)).astype(array.dtype)}
    if given is not None:
        changed[2] = (given * per_channel).astype(array.dtype)
    return changed


def _channels(before: ir.Node, weights: np.ndarray) -> tuple[int | None, int]:
    """Return the axis of `weights` that holds the output channels, and their number."""
    attributes = before.attributes
    if before.op_type == "Conv":
        return 0, weights.shape[0]
    if before.op_type == "ConvTranspose":
        groups = attributes["group"].as_int() if "group" in attributes else 1
        return (1, weights.shape[1]) if groups == 1 else (None, 0)
    if before.op_type == "Gemm":
        scaled = any(attributes[n].as_float() != 1 for n in ("alpha", "beta") if n in attributes)
        is_transposed = "transB" in attributes and attributes["transB"].as_int()
        axis = 0 if is_transposed else 1
        return (None, 0) if scaled else (axis, weights.shape[axis])
    return (1, weights.shape[1]) if weights.ndim == 2 else (None, 0)


def _per_channel(constant: np.ndarray, channels: int, op: str, rank: int) -> np.ndarray | None:
    """Return a number for each channel, if `constant` varies along that axis alone."""
    if constant.size == 1:
        return np.full(channels, constant.reshape(()))
    behind = rank - 2 if op.startswith("Conv") else 0  # axes after the channels
    shape = constant.shape
    if (
        constant.size != channels
        or len(shape) <= behind
        or shape[len(shape) - 1 - behind] != channels
    ):
        return None
    return constant.reshape(channels)
