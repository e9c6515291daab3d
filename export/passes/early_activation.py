"""Moves a ReLU in front of the MaxPool that it follows, to run it together with a convolution."""

import onnx_ir as ir

from .deadline import in_time
from .matching import single_use


def activate_before_pools(model: ir.Model) -> None:
    """Exchange every MaxPool of a convolution with the ReLU behind it. The graph changes in place.

    The largest of rectified numbers is the rectified largest number, exactly. ONNX Runtime computes
    a ReLU with the convolution in front of it; and in int8, which has one scale on both sides of a
    MaxPool, it pools codes instead of numbers.

    Args:
        model: Graph whose normalization is part of the weights.
    """
    for node in in_time(model.graph):
        if node.op_type == "Relu" and not node.domain:
            _exchange(model.graph, node)


def _exchange(graph: ir.Graph, relu: ir.Node) -> None:
    activated = relu.outputs[0]
    pool = single_use(relu.inputs[0], "MaxPool")
    if pool is None or len(pool.outputs) > 1 or activated.is_graph_output():
        return
    convolved, pooled = pool.inputs[0], pool.outputs[0]
    if convolved is None or single_use(convolved, "Conv") is None:
        return
    for user, place in activated.uses():
        user.replace_input_with(place, pooled)
    relu.replace_input_with(0, convolved)
    pool.replace_input_with(0, activated)
    activated.shape = convolved.shape
    graph.remove(relu)
    graph.insert_before(pool, relu)
