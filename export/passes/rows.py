"""Keeps the rows of a stack of matrices in one matrix, from one matrix product to the next.

Keras writes a product of steps `(batch, steps, channels)` with weights as a product of a matrix
between two Reshapes, and adds the bias after the second. With all of it on the matrix, ONNX Runtime
adds the bias within the product, and most Reshapes are gone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from .initializers import add_initializer
from .matching import argument

_ELEMENTWISE = """
    Abs Add Cast Ceil Celu Clip Div Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu Log
    Max Min Mul Neg Pow Reciprocal Relu Selu Sigmoid Softplus Softsign Sqrt Sub Tanh
""".split()  # noqa: SIM905


@dataclass(frozen=True)
class _Rows:
    """What a value is a Reshape of.

    Attributes:
        matrix: Value `(rows, channels)`.
        shape: Shape that the Reshape is given.
        axes: Sizes of the last axes, whose product is the number of channels.
    """

    matrix: ir.Value
    shape: ir.Value
    axes: tuple[int, ...]


def keep_rows(model: ir.Model) -> None:
    """Run products with weights, and what follows for each row, on matrices; in place.

    Args:
        model: Graph with inferred shapes whose constants are initializers.
    """
    walk = _Walk(model.graph)
    for node in list(model.graph):
        if node.domain == "" and len(node.outputs) == 1:
            walk.visit(node)
    common.RemoveUnusedNodesPass()(model)


class _Walk:
    """One walk through a graph, in its order."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.rows: dict[ir.Value, _Rows] = {}

    def visit(self, node: ir.Node) -> None:
        """Run `node` on matrices if that gives the same."""
        if node.op_type == "Reshape":
            self._visit_reshape(node)
        elif node.outputs[0].is_graph_output():
            return
        elif node.op_type == "MatMul":
            self._visit_product(node)
        elif node.op_type in _ELEMENTWISE:
            self._visit_elementwise(node)
        elif node.op_type == "LayerNormalization" and node.inputs[0] in self.rows:
            found = self.rows[node.inputs[0]]
            if node.attributes.get_int("axis", -1) == -1 and len(found.axes) == 1:
                node.replace_input_with(0, found.matrix)
                self._use_matrix(node, found)

    def _visit_reshape(self, node: ir.Node) -> None:
        source, given = node.inputs
        (value,) = node.outputs
        found = self.rows.get(source)
        target = given.const_value.numpy().tolist() if given.const_value is not None else [0]
        if found is not None and 0 not in target:
            source = found.matrix
            node.replace_input_with(0, source)
        if 0 not in target and not value.is_graph_output():  # inference may have lost sizes
            value.shape = ir.Shape([None if size == -1 else size for size in target])
        if source.shape is None or value.shape is None or len(source.shape) != 2:
            return
        channels = source.shape[1]
        if len(value.shape) == 2 and value.shape[1] == channels and found is not None:
            if isinstance(channels, int) and not value.is_graph_output():
                value.replace_all_uses_with(source)
            return
        axes = _last_axes(value.shape, channels)
        if axes and len(value.shape) > len(axes):
            self.rows[value] = _Rows(source, given, axes)

    def _visit_product(self, node: ir.Node) -> None:
        source, weights = node.inputs
        if weights.const_value is None or len(weights.shape) != 2 or source.shape is None:
            return
        if len(source.shape) < 3 or not all(isinstance(n, int) for n in source.shape[1:]):
            return
        steps = source.shape[1:-1]
        found = self._rows_of(source, self._constant([-1, *source.shape[1:]]))
        if len(found.axes) != 1:
            return
        columns = int(weights.shape[1])
        shape = [-1, *steps, columns]
        node.replace_input_with(0, found.matrix)
        self._use_matrix(node, _Rows(found.matrix, self._constant(shape), (columns,)))

    def _visit_elementwise(self, node: ir.Node) -> None:
        known = [value for value in node.inputs if value in self.rows]
        if not known or None in node.inputs or known[0].shape is None:
            return
        found, full = self.rows[known[0]], known[0].shape
        inputs = [self._on_matrix(value, found, full) for value in node.inputs]
        if any(value is None for value in inputs):
            return
        for place, value in enumerate(inputs):
            node.replace_input_with(place, value)
        node.outputs[0].shape = full
        self._use_matrix(node, found)

    def _on_matrix(self, value: ir.Value, found: _Rows, full: ir.Shape) -> ir.Value | None:
        """Return an operand for the matrix of `found`; None if it differs from row to row."""
        if value.const_value is not None:
            array = value.const_value.numpy()
            if array.size == 1:
                return value
            last = array.shape[-len(found.axes) :]
            is_lower = array.ndim <= len(full)
            if array.size != math.prod(last) or len(last) < len(found.axes) or not is_lower:
                return None
            filled = np.broadcast_to(array.reshape(last), found.axes).reshape(-1)
            return add_initializer(self.graph, filled)
        if not _are_alike(value.shape, full):
            return None
        own = self.rows.get(value)
        if own is None and len(found.axes) == 1:
            own = self._rows_of(value, found.shape)
        return own.matrix if own is not None and own.axes == found.axes else None

    def _rows_of(self, value: ir.Value, shape: ir.Value) -> _Rows:
        """Return the matrix of a value of this shape, which is made if there is none."""
        if value not in self.rows:
            channels = int(value.shape[-1])
            source = argument(value, "Reshape") or value
            node = ir.node("Reshape", [source, self._constant([-1, channels])])
            (matrix,) = node.outputs
            matrix.name, matrix.dtype = f"{value.name}/rows", value.dtype
            matrix.shape = ir.Shape([None, channels])
            before = value.producer()
            if before is None:
                self.graph.insert_before(self.graph[0], node)
            else:
                node.name = before.name
                self.graph.insert_after(before, node)
            self.rows[value] = _Rows(matrix, shape, (channels,))
        return self.rows[value]

    def _use_matrix(self, node: ir.Node, found: _Rows) -> None:
        """Let the readers of `node`, which computes a matrix now, read it in its former shape."""
        (matrix,) = node.outputs
        reshaped = ir.node("Reshape", [matrix, found.shape], name=node.name)
        (value,) = reshaped.outputs
        matrix.replace_all_uses_with(value)
        reshaped.replace_input_with(0, matrix)
        value.name, value.dtype, value.shape = f"{matrix.name}/stack", matrix.dtype, matrix.shape
        matrix.shape = ir.Shape([None, math.prod(found.axes)])
        self.graph.insert_after(node, reshaped)
        self.rows[value] = _Rows(matrix, found.shape, found.axes)

    def _constant(self, numbers: Sequence[int]) -> ir.Value:
        return add_initializer(self.graph, np.array(numbers, np.int64))


def _are_alike(first: ir.Shape | None, second: ir.Shape) -> bool:
    """Return whether two shapes are the same but for the name of the first axis."""
    if first is None or len(first) != len(second):
        return False
    rest = [*first[1:], *second[1:]]
    is_known = all(isinstance(size, int) for size in rest) or first == second
    begins_alike = isinstance(first[0], int) == isinstance(second[0], int)
    return is_known and begins_alike and list(first[1:]) == list(second[1:])


def _last_axes(shape: ir.Shape, size: object) -> tuple[int, ...]:
    """Return the sizes of the last axes whose product is `size`; none if there are no such axes."""
    found: list[int] = []
    for axis in reversed(list(shape)):
        if not isinstance(axis, int):
            return ()
        found.insert(0, axis)
        if math.prod(found) == size:
            return tuple(found)
    return ()
