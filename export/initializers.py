"""Adds constants to a graph."""

import numpy as np
import onnx_ir as ir


def add_initializer(graph: ir.Graph, array: np.ndarray) -> ir.Value:
    """Add `array` to the constants of `graph`, under a name that no other has; return its value."""
    number = len(graph.initializers)
    while (name := f"constant.{number}") in graph.initializers:
        number += 1
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape
    )
    graph.register_initializer(value)
    return value
