"""Cleans a converted ONNX graph: the passes in order."""

from collections.abc import Collection

import onnx
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import optimize_ir

from .channels_first import lift_transposes
from .constant_folding import fold_into_weights
from .fusion import fuse_operators
from .initializers import adopt_constants
from .loop_invariants import hoist_invariants
from .max_pool_padding import guard_pools
from .naming import in_canonical_order, name_after_layers
from .normalization import fuse_normalization
from .reductions import split_reductions
from .rows import keep_rows
from .shapes import resolve_shapes
from .transposes import remove_transposes

# Size limit for folding constants: transposed weights are as large as the model.
_ANY_SIZE = 2**40


def clean_graph(model: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """Return a graph that computes the same function without redundant nodes, see `clean_model`."""
    graph = ir.from_proto(model)
    clean_model(graph, layers)
    cleaned: onnx.ModelProto = ir.to_proto(graph)
    return cleaned


def clean_model(graph: ir.Model, layers: Collection[str]) -> None:
    """Remove redundant nodes from a graph, in place, so that it computes the same function.

    Constants and shapes are computed. Transposes cancel with their inverse. Products and sums with
    constants become part of the weights. Chains for which ONNX has an operator are fused. Order and
    names depend only on the graph, so the same model gives the same file.

    Args:
        graph: Graph with inputs and outputs of known types; other types are inferred again.
        layers: Names of the model's layers, after which the nodes are named.
    """
    _forget_inner_types(graph)
    for _ in range(2):  # known shapes allow more folding
        optimize_ir(graph, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
        adopt_constants(graph.graph)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
        resolve_shapes(graph)
    hoist_invariants(graph)
    fuse_normalization(graph)
    remove_transposes(graph)
    lift_transposes(graph)
    fuse_operators(graph)
    fold_into_weights(graph)
    keep_rows(graph)
    split_reductions(graph)
    guard_pools(graph)
    in_canonical_order(graph)
    name_after_layers(graph, layers)
    _forget_inner_types(graph)  # their axis names are generated


def _forget_inner_types(model: ir.Model) -> None:
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type, value.shape = None, None
