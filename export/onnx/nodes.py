"""Replaces TensorFlow nodes by ONNX nodes in the graph that tf2onnx converts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto
from tf2onnx.handler import tf_op
from tf2onnx.utils import make_name


def convert_by_default(context: Any, node: Any) -> None:
    """Convert a node with tf2onnx's own handler."""
    handlers = tf_op.create_mapping(context.opset, None)
    function, arguments = handlers[node.type]
    if "onnx_op" in arguments:
        node.type = arguments["onnx_op"]
    function(context, node, **arguments)


def replace_node(context: Any, node: Any, op: str, inputs: Sequence[str], **more: Any) -> None:
    """Replace `node` by an ONNX node with the same name and outputs."""
    outputs, shapes, dtypes = node.output, node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    context.make_node(
        op, list(inputs), name=node.name, outputs=outputs, shapes=shapes, dtypes=dtypes, **more
    )


def add_step(context: Any, node: Any, op: str, inputs: Sequence[str], **attributes: Any) -> str:
    """Add a node before `node`; return the name of its output."""
    made = context.make_node(op, list(inputs), attr=attributes, op_name_scope=node.name)
    return str(made.output[0])


def add_constant(context: Any, node: Any, name: str, values: Any) -> str:
    """Add a constant for `node`; return its name."""
    return str(context.make_const(f"{node.name}/{name}", np.asarray(values)).output[0])


def evaluated(compute: Callable[[], Any]) -> Any:
    """Return what TensorFlow computes, as an array, also while a graph is being converted."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return session.run(compute())


class Steps:
    """Adds the nodes that compute what replaces one node of TensorFlow."""

    def __init__(self, context: Any, node: Any) -> None:
        """Take tf2onnx's graph, and the node before which the others are added."""
        self.context, self.node = context, node

    def add(self, op: str, *inputs: Any, domain: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its first output. Inputs are names or constants."""
        return self.add_all(op, 1, *inputs, domain=domain, **attributes)[0]

    def add_all(
        self, op: str, count: int, *inputs: Any, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with `count` outputs; return their names."""
        made = self.context.make_node(
            op,
            [self._name(value) for value in inputs],
            attr=attributes,
            output_count=count,
            domain=domain,
            op_name_scope=self.node.name,
        )
        return list(map(str, made.output))

    def add_loop(
        self,
        count: str,
        starts: Sequence[str],
        kinds: Sequence[tuple[int, int]],
        body: Callable[["Steps", str, Sequence[str]], Sequence[str]],
    ) -> list[str]:
        """Add a Loop; return the last value of each of its states.

        Args:
            count: Number of rounds, int64 scalar.
            starts: First value of each state.
            kinds: Element type and rank of each state.
            body: Adds the nodes of one round: from steps, the number of the round and the states,
                to the next states.
        """
        graph = self.context.create_new_graph_with_same_config()
        graph.parent_graph = self.context
        scope = make_name(f"{self.node.name}/loop")
        dtypes = [TensorProto.INT64, TensorProto.BOOL, *(dtype for dtype, _ in kinds)]
        shapes: list[list[int]] = [[], [], *([-1] * rank for _, rank in kinds)]
        names = [f"{scope}/{name}" for name in ("number", "going", *map(str, range(len(starts))))]
        for name, dtype, shape in zip(names, dtypes, shapes, strict=True):
            graph.add_graph_input(name, dtype, shape)
        number, going, *states = names
        steps = Steps(graph, self.node)
        following = [going, *body(steps, number, states)]
        for value, dtype, shape in zip(following, dtypes[1:], shapes[1:], strict=True):
            graph.add_graph_output(steps.add("Identity", value), dtype, shape)
        made = self.context.make_node(
            "Loop",
            [count, self._name(np.array(True)), *starts],
            branches={"body": graph},
            output_count=len(starts),
            op_name_scope=self.node.name,
            dtypes=dtypes[2:],
            shapes=shapes[2:],
        )
        return list(map(str, made.output))

    def replace(self, *values: str) -> None:
        """Replace the node: its outputs become `values`."""
        name, outputs = self.node.name, self.node.output
        shapes, dtypes = self.node.output_shapes, self.node.output_dtypes
        self.context.remove_node(name)
        for number, value in enumerate(values):
            self.context.make_node(
                "Identity",
                [value],
                name=name if number == 0 else f"{name}/output_{number}",
                outputs=[outputs[number]],
                shapes=[shapes[number]],
                dtypes=[dtypes[number]],
            )

    def _name(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        name = make_name(f"{self.node.name}/constant")
        return str(self.context.make_const(name, np.asarray(value)).output[0])
