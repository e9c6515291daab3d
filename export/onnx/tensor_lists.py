"""Converts tensor arrays that are written outside of loops, one tensor after the other."""

from typing import Any

import numpy as np

from .nodes import Steps, convert_by_default


def convert_stack(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert TensorListStack, where each of its tensors is written at a known place.

    It becomes a Concat of the tensors. Loops are left to tf2onnx, which knows their arrays.
    """
    items = _written(node)
    if not items:
        convert_by_default(context, node)
        return
    steps = Steps(context, node)
    parts = [steps.add("Unsqueeze", item, np.array([0])) for item in items]
    steps.replace(steps.add("Concat", *parts, axis=0))


def convert_read(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert TensorListGetItem of a tensor that was written at a known place."""
    items, _ = _items(node.inputs[0])
    place = node.inputs[1].get_tensor_value() if node.inputs[1].is_const() else None
    if place is None or int(place) not in items:
        convert_by_default(context, node)
        return
    Steps(context, node).replace(items[int(place)])


def _written(node: Any) -> list[str]:
    """Return the names of all tensors of a list, in order; none if a place is not known."""
    items, size = _items(node.inputs[0])
    # An array of dynamic size begins with none. Those that are not written are zeros of a shape
    # that is not known here.
    count = max([size, *(place + 1 for place in items)])
    return [items[place] for place in range(count)] if len(items) == count else []


def _items(source: Any) -> tuple[dict[int, str], int]:
    """Return what was written into a list, by place, and its size; nothing if that is unknown."""
    items: dict[int, str] = {}
    while source.type == "TensorListSetItem":
        if not source.inputs[1].is_const():
            return {}, 0
        items.setdefault(int(source.inputs[1].get_tensor_value()), source.input[2])  # the last one
        source = source.inputs[0]
    if source.type != "TensorListReserve" or not source.inputs[1].is_const():
        return {}, 0
    return items, int(source.inputs[1].get_tensor_value())
