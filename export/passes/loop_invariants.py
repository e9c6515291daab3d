"""Turns loop states that never change into constants.

TensorFlow passes weights to a loop as states that every iteration returns unchanged. As constants
of the loop's body they are neither copied nor passed from iteration to iteration.
"""

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from .deadline import in_time


def hoist_invariants(model: ir.Model) -> None:
    """Turn loop states that never change into constants. The graph changes in place."""
    for node in in_time(model.graph):
        if node.op_type == "Loop" and node.domain == "":
            _hoist(model.graph, node)
    for node in in_time(model.graph):
        if node.op_type == "Loop" and node.domain == "":
            _take_constants(node.attributes["body"].as_graph())
    common.RemoveUnusedNodesPass()(model)


def _hoist(graph: ir.Graph, loop: ir.Node) -> None:
    """Replace a loop by one that does not carry the states that it never changes."""
    body = loop.attributes["body"].as_graph()
    states = len(loop.inputs) - 2  # after the count and the condition
    fixed = [
        place
        for place in range(states)
        if loop.inputs[2 + place] is not None
        and _origin(body.outputs[1 + place]) is body.inputs[2 + place]
    ]
    if not fixed:
        return
    kept = [place for place in range(states) if place not in fixed]
    for place in fixed:
        outer = loop.inputs[2 + place]
        loop.outputs[place].replace_all_uses_with(outer, replace_graph_outputs=True)
        body.inputs[2 + place].replace_all_uses_with(outer)
    _keep_states(body, kept, states)
    inputs = [*loop.inputs[:2], *(loop.inputs[2 + place] for place in kept)]
    outputs = [loop.outputs[place] for place in (*kept, *range(states, len(loop.outputs)))]
    attribute = loop.attributes.pop("body")
    hoisted = ir.Node("", "Loop", inputs, [attribute], num_outputs=len(outputs), name=loop.name)
    for before, after in zip(outputs, hoisted.outputs, strict=True):
        after.name, after.shape, after.type = before.name, before.shape, before.type
        before.name = None
        before.replace_all_uses_with(after, replace_graph_outputs=True)
    graph.insert_before(loop, hoisted)
    graph.remove(loop, safe=True)


def _keep_states(body: ir.Graph, kept: Sequence[int], states: int) -> None:
    """Drop the inputs and outputs of a body for the states that are not kept."""
    outputs = list(body.outputs)  # the condition, the states, what is scanned
    body.outputs.clear()
    body.outputs.extend([outputs[0], *(outputs[1 + p] for p in kept), *outputs[1 + states :]])
    inputs = list(body.inputs)  # the count, the condition, the states
    body.inputs.clear()
    body.inputs.extend([*inputs[:2], *(inputs[2 + p] for p in kept)])


def _take_constants(body: ir.Graph) -> None:
    """Copy into a body the constants of the outer graph that it reads."""
    own: dict[ir.Value, ir.Value] = {}
    for node in body:
        for place, value in enumerate(node.inputs):
            if value is None or not value.is_initializer() or value.graph is body:
                continue
            if value not in own:
                copied = ir.Value(name=f"{value.name}/own", const_value=value.const_value)
                copied.shape, copied.type = value.shape, value.type
                body.register_initializer(copied)
                own[value] = copied
            node.replace_input_with(place, own[value])


def _origin(value: ir.Value) -> ir.Value:
    """Return the value that `value` is a copy of, through any number of Identity nodes."""
    node = value.producer()
    while node is not None and node.op_type == "Identity":
        value = node.inputs[0]
        node = value.producer()
    return value
