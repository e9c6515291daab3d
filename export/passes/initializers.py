"""Adds constants to a graph."""

import numpy as np
import onnx_ir as ir


def add_initializer(graph: ir.Graph, array: np.ndarray) -> ir.Value:
    """Add `array` to the constants of `graph` under a new name; return its value."""
    number = len(graph.initializers)
    while (name := f"constant.{number}") in graph.initializers:
        number += 1
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    value = ir.Value(
        name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape
    )
    graph.register_initializer(value)
    return value


def adopt_constants(graph: ir.Graph) -> None:
    """Register the constants that nodes read but `graph` does not have.

    onnxscript loses constants if it creates two with the same name, for example for two equal clips
    of one tensor.
    """
    for node in graph:
        for value in node.inputs:
            is_lost = value is not None and value.const_value is not None
            if is_lost and value.producer() is None and not value.is_initializer():
                number = 1
                while f"{value.name}.{number}" in graph.initializers:
                    number += 1
                value.name = f"{value.name}.{number}"
                graph.register_initializer(value)
