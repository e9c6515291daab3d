"""Computes shapes at export that an ONNX graph would compute at run time.

`Flatten`, attention and recurrent layers leave chains of Shape, Gather and Concat behind, though
all sizes but the batch are known. One walk follows the sizes through such chains. A fully known
shape becomes a constant, and a Reshape with one unknown size gets a constant with -1.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from .deadline import in_time
from .initializers import add_initializer

# A size is a number, the name of an axis, or None where it is unknown.
Size = int | str | None
_MAX_ELEMENTS = 64  # longer integer tensors hold data, not shapes
_BROADCASTING = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Where")


def resolve_shapes(model: ir.Model) -> None:
    """Compute all shapes in the main graph that can be known. The graph changes in place.

    Args:
        model: Graph with inferred shapes whose constants are initializers.
    """
    sizes: dict[ir.Value, list[Size]] = {}
    for node in in_time(model.graph):
        if node.domain != "":
            continue
        if node.op_type == "Reshape":
            _settle_reshape(model.graph, node, sizes)
        elif node.op_type == "Resize":
            _settle_resize(model.graph, node)
        elif node.op_type in ("ConstantOfShape", "Expand"):
            _settle_fill(model.graph, node)
        elif node.op_type in ("GRU", "LSTM", "RNN"):
            _settle_state(node)
        elif node.op_type in _FOLLOW:
            found = _FOLLOW[node.op_type](node, [_sizes(v, sizes) for v in node.inputs])
            if found is not None:
                _record(model.graph, node, found, sizes)
    common.RemoveUnusedNodesPass()(model)


def _sizes(value: ir.Value | None, sizes: dict[ir.Value, list[Size]]) -> list[Size] | None:
    if value is None or value in sizes:
        return sizes.get(value) if value is not None else None
    if value.const_value is None or value.const_value.size > _MAX_ELEMENTS:
        return None
    array = value.const_value.numpy()
    if array.ndim > 1 or array.dtype.kind not in "iub":
        return None
    return [int(number) for number in array.reshape(-1)]


def _record(
    graph: ir.Graph, node: ir.Node, found: list[Size], sizes: dict[ir.Value, list[Size]]
) -> None:
    """Record the sizes that an output holds; replace it by a constant if all are known."""
    output = node.outputs[0]
    sizes[output] = found
    if output.is_graph_output() or output.dtype is None or output.shape is None:
        return
    if all(isinstance(size, int) for size in found) and len(output.shape) <= 1:
        array = np.array(found, output.dtype.numpy())
        constant = add_initializer(graph, array if len(output.shape) else array.reshape(()))
        output.replace_all_uses_with(constant)
        sizes[constant] = found


def _settle_reshape(graph: ir.Graph, node: ir.Node, sizes: dict[ir.Value, list[Size]]) -> None:
    target = node.inputs[1]
    wanted = sizes.get(target)
    if wanted is None or target.const_value is not None or 0 in wanted:
        return
    open_places = [place for place, size in enumerate(wanted) if not _is_known(size)]
    if len(open_places) == 1:
        settled = [size if _is_known(size) else -1 for size in wanted]
        node.replace_input_with(1, add_initializer(graph, np.array(settled, np.int64)))


def _is_known(size: Size) -> bool:
    return isinstance(size, int) and size >= 0


def _settle_resize(graph: ir.Graph, node: ir.Node) -> None:
    """Round scales up so that they give the intended size: 12 * float32(7 / 12) is 6.99…, not 7."""
    scales = node.inputs[2].const_value if len(node.inputs) > 2 and node.inputs[2] else None
    shape = node.inputs[0].shape
    if scales is None or scales.size == 0 or shape is None:
        return
    settled = scales.numpy().astype(np.float32)
    for place, size in enumerate(shape):
        if isinstance(size, int):
            intended = round(size * float(settled[place]))
            # Holds whether a runtime multiplies in float32 or, like shape inference, in float64.
            while math.floor(size * float(settled[place])) < intended:
                settled[place] = np.nextafter(settled[place], np.float32(np.inf))
    node.replace_input_with(2, add_initializer(graph, settled))


def _settle_fill(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a tensor filled with one number by that number, if its readers broadcast it."""
    filled, array = node.outputs[0], _filled_with(node)
    if array is None or filled.shape is None or None in map(_size, filled.shape):
        return
    for user, place in list(filled.uses()):
        others = [value for value in user.inputs if value is not None and value is not filled]
        if user.op_type in _BROADCASTING and any(
            value.shape is not None and value.shape == filled.shape for value in others
        ):
            user.replace_input_with(place, add_initializer(graph, array))


def _settle_state(node: ir.Node) -> None:
    """Drop initial states of zeros, which are the default of a recurrent operator."""
    for place in range(5, min(7, len(node.inputs))):
        before = node.inputs[place].producer() if node.inputs[place] is not None else None
        while before is not None and before.op_type in ("Identity", "Transpose", "Unsqueeze"):
            before = before.inputs[0].producer()
        if before is not None and _filled_with(before) == 0:
            node.replace_input_with(place, None)
            node.name = (
                before.name
            )  # named after the layer; the operator's name was made up by the converter


def _filled_with(node: ir.Node) -> np.ndarray | None:
    """Return the number that `node` fills a tensor with; None if it does something else."""
    if node.op_type == "Expand":
        number = node.inputs[0].const_value
        return None if number is None or number.size != 1 else number.numpy().reshape(())
    if node.op_type == "ConstantOfShape":
        given = node.attributes.get("value")
        return np.zeros((), np.float32) if given is None else given.as_tensor().numpy().reshape(())
    return None


def _size(size: Any) -> Size:
    return size if isinstance(size, int) else size.value


def _follow_shape(node: ir.Node, _inputs: Any) -> list[Size] | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return None
    found = [_size(size) for size in shape]
    return found[node.attributes.get_int("start", 0) : node.attributes.get_int("end", len(found))]


def _follow_size(node: ir.Node, _inputs: Any) -> list[Size] | None:
    found = _follow_shape(node, None)
    return None if found is None else [_product(found)]


def _follow_same(_node: ir.Node, inputs: list[list[Size] | None]) -> list[Size] | None:
    return inputs[0]


def _follow_gather(node: ir.Node, inputs: list[list[Size] | None]) -> list[Size] | None:
    values, places = inputs[0], inputs[1]
    if values is None or places is None or node.attributes.get_int("axis", 0) != 0:
        return None
    chosen = [values[place] for place in places if isinstance(place, int)]
    return chosen if len(chosen) == len(places) else None


def _follow_slice(_node: ir.Node, inputs: list[list[Size] | None]) -> list[Size] | None:
    values, starts, ends, *_ = inputs
    steps = inputs[4] if len(inputs) > 4 else [1]
    if values is None or starts is None or ends is None or steps is None:
        return None
    bounds = [number for number in (starts[0], ends[0], steps[0]) if isinstance(number, int)]
    return values[slice(*bounds)] if len(bounds) == 3 else None


def _follow_concat(_node: ir.Node, inputs: list[list[Size] | None]) -> list[Size] | None:
    # An input of unknown length makes the length of the output unknown.
    if any(values is None for values in inputs):
        return None
    return [size for values in inputs if values is not None for size in values]


def _follow_product(_node: ir.Node, inputs: list[list[Size] | None]) -> list[Size] | None:
    return None if inputs[0] is None else [_product(inputs[0])]


def _product(sizes: list[Size]) -> Size:
    numbers = [size for size in sizes if isinstance(size, int)]
    if len(numbers) == len(sizes):
        return math.prod(numbers)
    rest = [size for size in sizes if not isinstance(size, int)]
    return rest[0] if len(rest) == 1 and math.prod(numbers) == 1 else None


def _pairwise(compute: Callable[[int, int], int]) -> Any:
    def follow(_node: ir.Node, inputs: list[list[Size] | None]) -> list[Size] | None:
        if len(inputs) != 2 or None in inputs:
            return None
        first, second = (side or [] for side in inputs)
        length = max(len(first), len(second))
        if {len(first), len(second)} - {1, length}:
            return None
        if len(first) < length:
            first = first * length
        if len(second) < length:
            second = second * length
        return [
            compute(a, b) if isinstance(a, int) and isinstance(b, int) else None
            for a, b in zip(first, second, strict=True)
        ]

    return follow


_FOLLOW: dict[str, Callable[[ir.Node, list[list[Size] | None]], list[Size] | None]] = {
    "Add": _pairwise(lambda a, b: a + b),
    "Cast": _follow_same,
    "Concat": _follow_concat,
    "Gather": _follow_gather,
    "Identity": _follow_same,
    "Max": _pairwise(max),
    "Min": _pairwise(min),
    "Mul": _pairwise(lambda a, b: a * b),
    "ReduceProd": _follow_product,
    "Shape": _follow_shape,
    "Size": _follow_size,
    "Slice": _follow_slice,
    "Squeeze": _follow_same,
    "Sub": _pairwise(lambda a, b: a - b),
    "Unsqueeze": _follow_same,
}
