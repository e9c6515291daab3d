"""Takes out of loops what is the same in each turn.

TensorFlow hands a loop its weights as variables, which come out as they went in. As values from
outside the loop they are constants to ONNX Runtime, and not copied in each turn.
"""

import onnx_ir as ir
from onnx_ir.passes import common


def hoist_invariants(model: ir.Model) -> None:
    """Let bodies of loops read from outside what does not change. The graph changes in place."""
    for node in list(model.graph):
        if node.op_type == "Loop" and node.domain == "":
            _hoist(model.graph, node)
    common.RemoveUnusedNodesPass()(model)


def _hoist(graph: ir.Graph, loop: ir.Node) -> None:
    body = loop.attributes["body"].as_graph()
    states = len(loop.inputs) - 2  # behind the count and the condition
    fixed = {
        place
        for place in range(states)
        if loop.inputs[2 + place] is not None
        and _origin(body.outputs[1 + place]) is body.inputs[2 + place]
    }
    if not fixed:
        return
    for place in fixed:
        outer = loop.inputs[2 + place]
        loop.outputs[place].replace_all_uses_with(outer, replace_graph_outputs=True)
    kept = [place for place in range(states) if place not in fixed]
    inner = list(body.outputs)
    body.outputs.clear()
    body.outputs.extend([inner[0], *(inner[1 + p] for p in kept), *inner[1 + states :]])
    for place in fixed:
        body.inputs[2 + place].replace_all_uses_with(loop.inputs[2 + place])
    given = list(body.inputs)
    body.inputs.clear()
    body.inputs.extend([*given[:2], *(given[2 + p] for p in kept)])
    inputs = [*loop.inputs[:2], *(loop.inputs[2 + p] for p in kept)]
    left = [loop.outputs[p] for p in (*kept, *range(states, len(loop.outputs)))]
    attribute = loop.attributes.pop("body")
    hoisted = ir.Node("", "Loop", inputs, [attribute], num_outputs=len(left), name=loop.name)
    for before, after in zip(left, hoisted.outputs, strict=True):
        after.name, after.shape, after.type = before.name, before.shape, before.type
        before.name = None
        before.replace_all_uses_with(after, replace_graph_outputs=True)
    graph.insert_before(loop, hoisted)
    graph.remove(loop, safe=True)


def _origin(value: ir.Value) -> ir.Value:
    """Return what `value` is, behind operations that change nothing."""
    node = value.producer()
    while node is not None and node.op_type == "Identity":
        value = node.inputs[0]
        node = value.producer()
    return value
