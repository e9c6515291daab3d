"""Converts the solution of linear equations, by elimination with pivots in a loop.

Golub & Van Loan, Matrix Computations, 2013, section 3.4.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from .counting import range_of, size_of
from .nodes import Steps


def matrix_handlers() -> dict[str, Any]:
    """Return the handler of each operation on matrices."""
    return {
        "LogMatrixDeterminant": _convert_log_determinant,
        "MatrixInverse": _convert_inverse,
        "MatrixSolve": _convert_solve,
        "MatrixTriangularSolve": _convert_triangular_solve,
    }


def _convert_inverse(context: Any, node: Any, _name: str, _args: Any) -> None:
    steps = Steps(context, node)
    (matrix,) = node.input
    places = range_of(steps, size_of(steps, matrix, -1))
    is_diagonal = steps.add("Equal", places, steps.add("Unsqueeze", places, [1]))
    unit = steps.add("Cast", is_diagonal, to=TensorProto.FLOAT)
    right = steps.add("Expand", unit, steps.add("Shape", matrix))
    _solve(steps, matrix, right)


def _convert_solve(context: Any, node: Any, _name: str, _args: Any) -> None:
    _solve(Steps(context, node), *node.input)


def _convert_triangular_solve(context: Any, node: Any, _name: str, _args: Any) -> None:
    steps = Steps(context, node)
    matrix, right = node.input
    is_lower = bool(node.get_attr_value("lower", 1))
    _solve(steps, steps.add("Trilu", matrix, upper=int(not is_lower)), right)


def _solve(steps: Steps, matrix: str, right: str) -> None:
    """Replace the node by the solution x of `matrix` x = `right`."""
    rank = steps.context.get_rank(matrix)
    if rank is None or steps.context.get_rank(right) != rank:
        return
    if steps.node.get_attr_value("adjoint", 0):
        order = [*range(rank - 2), rank - 1, rank - 2]
        matrix = steps.add("Transpose", matrix, perm=order)
    both = steps.add("Concat", matrix, right, axis=-1)
    size = size_of(steps, matrix, -1)
    count = steps.add("Squeeze", size)
    places = range_of(steps, size)

    def eliminate(within: Steps, number: str, states: Sequence[str]) -> list[str]:
        """Make column `number` that of a unit matrix, with its largest element as the pivot."""
        (rows,) = states
        column = within.add("Abs", within.add("Gather", rows, number, axis=-1))
        is_done = within.add("Less", places, number)
        left = within.add("Where", is_done, np.array([-1], np.float32), column)
        pivot = within.add("ArgMax", left, axis=-1, keepdims=1)
        one = within.add("Unsqueeze", number, [0])
        current = within.add("Gather", rows, one, axis=-2)
        shape = within.add("Shape", current)
        index = within.add("Expand", within.add("Unsqueeze", pivot, [-1]), shape)
        chosen = within.add("GatherElements", rows, index, axis=-2)
        is_pivot = within.add("Unsqueeze", within.add("Equal", places, pivot), [-1])
        is_current = within.add("Unsqueeze", within.add("Equal", places, number), [-1])
        swapped = within.add("Where", is_pivot, current, rows)
        unit = within.add("Div", chosen, within.add("Gather", chosen, one, axis=-1))
        factors = within.add("Gather", swapped, one, axis=-1)
        reduced = within.add("Sub", swapped, within.add("Mul", factors, unit))
        return [within.add("Where", is_current, unit, reduced)]

    kinds = [(TensorProto.FLOAT, rank)]
    solved = steps.add_loop(count, [both], kinds, eliminate)[0]
    steps.replace(steps.add("Slice", solved, size, [2**62], [rank - 1]))


def _convert_log_determinant(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert to the sign of the determinant and the logarithm of its size."""
    steps = Steps(context, node)
    found = steps.add("Det", node.input[0])
    magnitude = steps.add("Log", steps.add("Abs", found))
    steps.replace(steps.add("Sign", found), magnitude)
