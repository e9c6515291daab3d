"""Makes constants of what is the same in each turn of a loop.

TensorFlow hands a loop its weights as variables, which come out as they went in. As constants of
the loop's body they are neither copied nor handed in, turn by turn.
"""

import onnx_ir as ir
from onnx_ir.passes import common


def hoist_invariants(model: ir.Model) -> None:
    """Make constants in the bodies of loops of what does not change. The graph changes in place."""
    for node in list(model.graph):
        if node.op_type == "Loop" and node.domain == "":
            _hoist(model.graph, node)
    for node in model.graph:
        if node.op_type == "Loop" and node.domain == "":
            _take_constants(node.attributes["body"].as_graph())
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


def _take_constants(body: ir.Graph) -> None:
    """Give a body constants of its own for those of the graph outside that it reads."""
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
    """Return what `value` is, behind operations that change nothing."""
    node = value.producer()
    while node is not None and node.op_type == "Identity":
        value = node.inputs[0]
        node = value.producer()
    return value
