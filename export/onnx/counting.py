"""Converts counts of numbers, in rows of one length or of several: bags of tokens, multi-hot."""

from typing import Any

import numpy as np
from onnx import TensorProto

from .nodes import Steps


def convert_bincount(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert DenseBincount or RaggedBincount: multi-hot and count encoding, or tf-idf.

    Numbers `(n,)` give counts `(size,)`; rows of numbers give counts `(rows, size)`. Numbers of
    `size` and more are not counted. tf2onnx counts over all rows.
    """
    *splits, values, size, weights = node.input
    steps = Steps(context, node)
    # TensorFlow does not know the shape of what a table answers, but may know that of the counts.
    known = [context.get_rank(name) for name in (values, node.output[0])]
    rank = 2 if splits else next((rank for rank in known if rank), None)
    if rank is None:  # rows or a single list
        return
    numbers = steps.add("Reshape", steps.add("Cast", values, to=TensorProto.INT64), [-1])
    depth = _fixed_size(context, size)
    width = (
        steps.add("Reshape", steps.add("Cast", size, to=TensorProto.INT64), [1])
        if depth is None
        else np.array([depth])
    )
    rows: str | None = None
    num_rows: Any = np.array([1])
    if splits:
        ends = bounds_of(steps, splits[0])[1]
        num_rows = size_of(steps, ends, 0)
        rows = rows_of(steps, ends, range_of(steps, size_of(steps, numbers, 0)))
    elif rank == 2:
        num_rows = size_of(steps, values, 0)
        column = steps.add("Unsqueeze", range_of(steps, num_rows), [1])
        rows = steps.add("Reshape", steps.add("Expand", column, steps.add("Shape", values)), [-1])
    amounts = None if _is_empty_constant(context, weights) else steps.add("Reshape", weights, [-1])
    wide = steps.add("Add", width, np.array([1]))  # the last column is for those beyond
    places = steps.add("Min", numbers, width)
    if rows is not None:
        places = steps.add("Add", steps.add("Mul", rows, wide), places)
    counts = count_values(steps, places, steps.add("Mul", num_rows, wide), amounts)
    shape = wide if rank == 1 else steps.add("Concat", num_rows, wide, axis=0)
    counts = steps.add("Slice", steps.add("Reshape", counts, shape), [0], width, [rank - 1])
    if node.get_attr_value("binary_output", 0):
        counts = steps.add("Min", counts, np.int64(1))
    steps.replace(steps.add("Cast", counts, to=node.output_dtypes[0]))


def count_values(steps: Steps, values: str, size: str, weights: str | None = None) -> str:
    """Return how often each number below `size` is among `values`, int64 `(size,)`.

    Args:
        steps: Where to add the nodes.
        values: int64 `(n,)`.
        size: int64 `(1,)`.
        weights: How much each value counts, `(n,)`; None for 1, as integers.
    """
    zero: Any = np.array([0])
    if weights is None:
        weights = steps.add("Expand", np.array([1]), steps.add("Shape", values))
    else:
        zero = steps.add("CastLike", zero, weights)
    zeros = steps.add("Expand", zero, size)
    return steps.add("ScatterElements", zeros, values, weights, axis=0, reduction="add")


def bounds_of(steps: Steps, splits: str) -> tuple[str, str]:
    """Return the place of the first number of each row, and of the one behind its last, int64."""
    whole = steps.add("Cast", splits, to=TensorProto.INT64)
    return steps.add("Slice", whole, [0], [-1]), steps.add("Slice", whole, [1], [2**62])


def rows_of(steps: Steps, ends: str, numbers: str) -> str:
    """Return the row of each place, int64: the number of rows that end at it or before it."""
    has_ended = steps.add("LessOrEqual", ends, steps.add("Unsqueeze", numbers, [1]))
    return steps.add(
        "ReduceSum", steps.add("Cast", has_ended, to=TensorProto.INT64), [1], keepdims=0
    )


def size_of(steps: Steps, value: str, axis: int) -> str:
    """Return the size of an axis, int64 `(1,)`."""
    end: dict[str, Any] = {} if axis == -1 else {"end": axis + 1}
    return steps.add("Shape", value, start=axis, **end)


def range_of(steps: Steps, stop: str) -> str:
    """Return the numbers below `stop`, int64."""
    return steps.add("Range", np.int64(0), steps.add("Squeeze", stop), np.int64(1))


def _is_empty_constant(context: Any, name: str) -> bool:
    node = context.get_node_by_output(name)
    return bool(node.is_const() and node.get_tensor_value(as_list=False).size == 0)


def _fixed_size(context: Any, name: str) -> int | None:
    """Return the value of a constant, or of a clip to a single value; None if it varies."""
    for _ in range(3):
        node = context.get_node_by_output(name)
        if node.is_const():
            return int(node.get_tensor_value())
        if node.type not in ("Max", "Maximum", "Min", "Minimum"):
            return None
        sides = [context.get_node_by_output(side) for side in node.input]
        bounds = [int(side.get_tensor_value()) for side in sides if side.is_const()]
        others = [place for place, side in enumerate(sides) if not side.is_const()]
        if len(bounds) != 1 or len(others) != 1:
            return None
        inner = sides[others[0]]
        same = [side for side in map(context.get_node_by_output, inner.input) if side.is_const()]
        if any(int(side.get_tensor_value()) == bounds[0] for side in same):
            return bounds[0]
        name = node.input[others[0]]
    return None
