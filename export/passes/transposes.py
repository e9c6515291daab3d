"""Moves transposes through an ONNX graph until they cancel.

TensorFlow has channels last and ONNX has them first, so the converter puts a Transpose before and
after each convolution. One walk in the order of the graph removes them: a value stays in the
axis order in which it was computed, and is transposed only where a reader needs another order.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from .deadline import in_time
from .initializers import add_initializer

Order = tuple[int, ...]

_ELEMENTWISE = """
    Abs Add And Cast Ceil Celu Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater
    GreaterOrEqual HardSigmoid HardSwish Identity LeakyRelu Less LessOrEqual Log Max Mean Min
    Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus
    Softsign Sqrt Sub Sum Tan Tanh ThresholdedRelu Where Xor
""".split()  # noqa: SIM905
_REDUCTIONS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare
""".split()  # noqa: SIM905
_ALONG_AN_AXIS = ["Hardmax", "LogSoftmax", "Softmax"]


def remove_transposes(model: ir.Model) -> None:
    """Remove every Transpose of the main graph that is not needed. The graph changes in place.

    Args:
        model: Graph with inferred shapes whose constants are initializers.
    """
    walk = _Walk(model.graph)
    for node in in_time(model.graph):
        walk.visit(node)
    walk.restore_outputs()
    common.RemoveUnusedNodesPass()(model)


class _Walk:
    """One walk through a graph, in its order.

    `views` maps a value to its source, the value of which it is a transposed view, and to the order
    of the axes: `value.shape[i] == source.shape[order[i]]`.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.views: dict[ir.Value, tuple[ir.Value, Order]] = {}
        self._transposed: dict[tuple[ir.Value, Order], ir.Value] = {}
        self._names = {value.name for node in graph for value in node.outputs}
        self._names |= set(graph.initializers)
        self._given = {value: value.shape for value in graph.outputs}

    def visit(self, node: ir.Node) -> None:
        """Run `node` on untransposed values if possible; otherwise transpose them for it."""
        if node.op_type == "Transpose" and _ints(node, "perm"):  # else the rank is not known
            if (
                _is_read_inside(node) and node.inputs[0] in self.views
            ):  # kept, because a loop's body reads it
                node.replace_input_with(0, self._transposed_value(node.inputs[0], node))
            source, order = self._read(node.inputs[0])
            taken = _ints(node, "perm")
            order = taken if order is None else tuple(order[axis] for axis in taken)
            self.views[node.outputs[0]] = (source, order)
            return
        if not any(value in self.views for value in node.inputs):
            return
        follow = _FOLLOW.get(node.op_type) if node.domain == "" else None
        if follow is not None and follow not in _OF_ALL_INPUTS:
            self._transpose_inputs(node, range(1, len(node.inputs)))  # only the first is the data
        order = None if _is_read_inside(node) else self._order_of(node)
        if order is None or follow is None or not follow(self, node, order):
            self._transpose_inputs(node, range(len(node.inputs)))

    def _transpose_inputs(self, node: ir.Node, places: Iterable[int]) -> None:
        """Let `node` read these inputs in their original order."""
        for place in places:
            value = node.inputs[place]
            if value in self.views:
                node.replace_input_with(place, self._transposed_value(value, node))

    def restore_outputs(self) -> None:
        """Transpose the outputs of the graph to their original order."""
        for place, value in enumerate(self.graph.outputs):
            if value in self.views:
                source, order = self.views[value]
                given = self._transpose(source, order)
                given.name, value.name = value.name, self._new_name(value.name)
                given.type, given.shape = value.type, self._given[value]
                self.graph.append(given.producer())
                self.graph.outputs[place] = given

    def set_inputs(self, node: ir.Node, order: Order, places: Iterable[int] | None = None) -> bool:
        """Let `node` read its inputs untransposed; if one cannot, return False and change nothing.

        Args:
            node: Node whose transposed inputs all have the same order.
            order: That order.
            places: Indices of the inputs that broadcast against each other; None for all.
        """
        chosen = range(len(node.inputs)) if places is None else places
        found = {place: self._untransposed(node.inputs[place], order) for place in chosen}
        if any(value is None and node.inputs[p] is not None for p, value in found.items()):
            return False
        for place, value in found.items():
            if value is not None:
                node.replace_input_with(place, value)
        return True

    def set_outputs(self, node: ir.Node, order: Order) -> None:
        """Record that the outputs of `node` now have another order of axes."""
        for value in node.outputs:
            if order != tuple(range(len(order))):
                self.views[value] = (value, order)
                if value.shape is not None:
                    value.shape = ir.Shape([value.shape[axis] for axis in _inverse(order)])

    def _read(self, value: ir.Value) -> tuple[ir.Value, Order | None]:
        return self.views.get(value, (value, None))

    def _order_of(self, node: ir.Node) -> Order | None:
        """Return the axis order of the inputs that are views; None if they differ."""
        orders = {self.views[value][1] for value in node.inputs if value in self.views}
        return orders.pop() if len(orders) == 1 else None

    def _untransposed(self, value: ir.Value | None, order: Order) -> ir.Value | None:
        if value is None:
            return None
        if value in self.views:
            return self.views[value][0]
        if (value, _inverse(order)) in self._transposed:  # made for another reader
            return self._transposed[value, _inverse(order)]
        array = None if value.const_value is None else value.const_value.numpy()
        if array is None or array.ndim > len(order):
            return None
        if array.size == 1:
            return value
        full = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
        return add_initializer(self.graph, np.ascontiguousarray(full.transpose(_inverse(order))))

    def _transposed_value(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """Return a transposed value for a view."""
        source, order = self.views[value]
        if order == tuple(range(len(order))):
            return source
        if (source, order) not in self._transposed:
            made = self._transpose(source, order)
            self.graph.insert_before(before, made.producer())
            self._transposed[source, order] = made
        return self._transposed[source, order]

    def _transpose(self, source: ir.Value, order: Order) -> ir.Value:
        sizes = None if source.shape is None else [source.shape[axis] for axis in order]
        if order == tuple(range(len(order))):
            node = ir.node("Identity", [source])
        elif sizes is not None and _moves_only_ones(sizes, order):
            target = [size if isinstance(size, int) else -1 for size in sizes]
            constant = add_initializer(self.graph, np.array(target, np.int64))
            node = ir.node("Reshape", [source, constant])
        else:
            node = ir.node("Transpose", [source], {"perm": order})
        (made,) = node.outputs
        made.name = self._new_name(source.name)
        if source.dtype is not None:  # a type without a dtype cannot be written
            made.dtype = source.dtype
        if sizes is not None:
            made.shape = ir.Shape(sizes)
        return made

    def _new_name(self, name: str | None) -> str:
        number = 1
        while f"{name}_{number}" in self._names:
            number += 1
        self._names.add(f"{name}_{number}")
        return f"{name}_{number}"


def _is_read_inside(node: ir.Node) -> bool:
    """Return whether a subgraph, such as a loop's body, reads an output of `node`."""
    return any(user.graph is not node.graph for value in node.outputs for user, _ in value.uses())


Follow = Callable[[_Walk, ir.Node, Order], bool]


def _follow_elementwise(walk: _Walk, node: ir.Node, order: Order) -> bool:
    if not walk.set_inputs(node, order):
        return False
    walk.set_outputs(node, order)
    return True


def _follow_reduction(walk: _Walk, node: ir.Node, order: Order) -> bool:
    axes = _axes(node, 1)
    if axes is None:
        return False
    walk.set_inputs(node, order, [0])
    gone = [axis % len(order) for axis in axes]
    _set_axes(walk, node, 1, [order[axis] for axis in gone])
    are_kept = node.op_type != "Squeeze" and node.attributes.get_int("keepdims", 1)
    walk.set_outputs(node, order if are_kept else _without(order, gone))
    return True


def _follow_axis(walk: _Walk, node: ir.Node, order: Order) -> bool:
    walk.set_inputs(node, order, [0])
    _move_axis(walk, node, order)
    return True


def _follow_concat(walk: _Walk, node: ir.Node, order: Order) -> bool:
    ranks = {v.const_value.numpy().ndim for v in node.inputs if v.const_value is not None}
    if ranks - {len(order)} or not walk.set_inputs(node, order):
        return False
    _move_axis(walk, node, order)
    return True


def _move_axis(walk: _Walk, node: ir.Node, order: Order) -> None:
    default = -1 if node.op_type in _ALONG_AN_AXIS else 0
    axis = node.attributes.get_int("axis", default) % len(order)
    node.attributes["axis"] = ir.AttrInt64("axis", order[axis])
    walk.set_outputs(node, order)


def _follow_pad(walk: _Walk, node: ir.Node, order: Order) -> bool:
    pads = _constant(node, 1)
    if pads is None or len(node.inputs) > 3 or node.inputs[1] in walk.views:
        return False
    walk.set_inputs(node, order, [0])
    back = list(_inverse(order))
    moved = pads.reshape(2, len(order))[:, back].reshape(-1)
    node.replace_input_with(1, add_initializer(walk.graph, moved))
    walk.set_outputs(node, order)
    return True


def _follow_slice(walk: _Walk, node: ir.Node, order: Order) -> bool:
    starts = _constant(node, 1)
    axes = _constant(node, 3) if len(node.inputs) > 3 else None
    if starts is None or (axes is None and len(node.inputs) > 3):
        return False
    axes = np.arange(len(starts)) if axes is None else axes
    walk.set_inputs(node, order, [0])
    moved = add_initializer(
        walk.graph, np.array([order[axis % len(order)] for axis in axes], np.int64)
    )
    if len(node.inputs) <= 3:
        node.resize_inputs(4)
    node.replace_input_with(3, moved)
    walk.set_outputs(node, order)
    return True


def _follow_resize(walk: _Walk, node: ir.Node, order: Order) -> bool:
    sizes = {place: _constant(node, place) for place in (2, 3) if _is_given(node, place)}
    if _ints(node, "axes") or any(values is None for values in sizes.values()):
        return False
    walk.set_inputs(node, order, [0])
    for place, values in sizes.items():
        if values is not None and len(values):
            moved = np.ascontiguousarray(values[list(_inverse(order))])
            node.replace_input_with(place, add_initializer(walk.graph, moved))
    walk.set_outputs(node, order)
    return True


def _follow_reshape(walk: _Walk, node: ir.Node, order: Order) -> bool:
    """Flatten untransposed if a product with constant weights follows: reorder the weights."""
    source = walk.views[node.inputs[0]][0] if node.inputs[0] in walk.views else None
    shape, target = (source.shape if source is not None else None), _constant(node, 1)
    users = [usage.node for usage in node.outputs[0].uses()]
    if (
        shape is None
        or order[0] != 0
        or target is None
        or len(target) != 2
        or any(not isinstance(size, int) for size in shape[1:])
        or target[1] not in (-1, np.prod(shape[1:]))
        or not users
        or node.outputs[0].is_graph_output()
        or not all(_multiplies_by_constant(user, node.outputs[0]) for user in users)
    ):
        return False
    sizes = [shape[axis] for axis in order[1:]]  # in the order of the weights' rows
    back = [axis - 1 for axis in _inverse(order)[1:]]
    for user in users:
        weights = user.inputs[1].const_value.numpy()
        rows = weights.reshape(*sizes, -1).transpose(*back, len(sizes))
        moved = np.ascontiguousarray(rows.reshape(weights.shape))
        user.replace_input_with(1, add_initializer(walk.graph, moved))
    walk.set_inputs(node, order, [0])
    return True


def _multiplies_by_constant(user: ir.Node, value: ir.Value) -> bool:
    return (
        user.op_type in ("MatMul", "Gemm")
        and user.inputs[0] is value
        and user.inputs[1].const_value is not None
        and user.inputs[1].const_value.numpy().ndim == 2
        and not user.attributes.get_int("transA", 0)
        and not user.attributes.get_int("transB", 0)
    )


_FOLLOW: dict[str, Follow] = {
    **dict.fromkeys(_ELEMENTWISE, _follow_elementwise),
    **dict.fromkeys(_REDUCTIONS, _follow_reduction),
    **dict.fromkeys(_ALONG_AN_AXIS, _follow_axis),
    "Concat": _follow_concat,
    "Pad": _follow_pad,
    "Reshape": _follow_reshape,
    "Resize": _follow_resize,
    "Slice": _follow_slice,
    "Split": _follow_axis,
    "Squeeze": _follow_reduction,
}
# The other rules are about the axes of the first input; those after it are sizes, axes or weights.
_OF_ALL_INPUTS = (_follow_elementwise, _follow_concat)


def _moves_only_ones(sizes: Sequence[Any], order: Order) -> bool:
    """Return whether the axes longer than 1 keep their order, so that no element moves."""
    longer = [axis for size, axis in zip(sizes, order, strict=True) if size != 1]
    is_known = sum(not isinstance(size, int) for size in sizes) <= 1 and 0 not in sizes
    return is_known and longer == sorted(longer)


def _inverse(order: Sequence[int]) -> Order:
    return tuple(int(axis) for axis in np.argsort(order))


def _without(order: Order, gone: Sequence[int]) -> Order:
    """Return the order of the remaining axes, renumbered."""
    left = [axis for place, axis in enumerate(order) if place not in gone]
    return tuple(sorted(left).index(axis) for axis in left)


def _is_given(node: ir.Node, place: int) -> bool:
    return place < len(node.inputs) and node.inputs[place] is not None


def _constant(node: ir.Node, place: int) -> np.ndarray | None:
    if not _is_given(node, place) or node.inputs[place].const_value is None:
        return None
    array: np.ndarray = node.inputs[place].const_value.numpy()
    return array


def _ints(node: ir.Node, name: str) -> Order:
    return tuple(node.attributes.get_ints(name, ()))


def _axes(node: ir.Node, place: int) -> Order | None:
    """Return the axes given by an input or an attribute; None if they are unknown."""
    axes = _constant(node, place)
    return tuple(axes.tolist()) if axes is not None else _ints(node, "axes") or None


def _set_axes(walk: _Walk, node: ir.Node, place: int, axes: Sequence[int]) -> None:
    if "axes" in node.attributes:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
    else:
        node.replace_input_with(place, add_initializer(walk.graph, np.array(axes, np.int64)))
