"""Tells tf2onnx the shapes of what the branches of a condition take.

tf2onnx 1.17 counts the condition itself among them, and what TensorFlow's optimizer writes into a
function hides them: a branch that reads a weight does not know its shape, and a convolution there
cannot be converted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from tf2onnx import tf_loader

_SHAPES = "_output_shapes"


def forget_unknown_shapes(graph: Any) -> None:
    """Remove from the functions of a GraphDef what they say of arguments of unknown rank."""
    for function in graph.library.function:
        for argument in function.arg_attr.values():
            shapes = argument.attr[_SHAPES].list.shape if _SHAPES in argument.attr else ()
            if any(shape.unknown_rank for shape in shapes):
                del argument.attr[_SHAPES]


@contextmanager
def shapes_of_branches() -> Iterator[None]:
    """Let tf2onnx know these shapes in the context."""
    read = tf_loader.tflist_to_onnx

    def read_shapes(graph: Any, *arguments: Any, **more: Any) -> Any:
        *found, functions = read(graph, *arguments, **more)
        for operation in graph.get_operations():
            if operation.type in ("If", "StatelessIf"):
                shapes = [tensor.shape for tensor in operation.inputs[1:]]
                for branch in ("then_branch", "else_branch"):
                    functions[operation.get_attr(branch).name] = shapes
        return (*found, functions)

    with patch.object(tf_loader, "tflist_to_onnx", read_shapes):
        yield
