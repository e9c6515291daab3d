"""Cleans a converted ONNX graph: the passes in order."""

from collections.abc import Callable, Collection, Sequence

import onnx
import onnx_ir as ir

from serving.errors import one_line

from .channels_first import lift_transposes
from .constant_folding import fold_into_weights
from .deadline import time_limit
from .early_activation import activate_before_pools
from .fusion import fuse_operators
from .loop_invariants import hoist_invariants
from .max_pool_padding import guard_pools
from .naming import in_canonical_order, name_after_layers
from .normalization import fuse_normalization
from .reductions import split_reductions
from .rows import keep_rows
from .shapes import resolve_shapes
from .simplification import simplify
from .transposes import remove_transposes

Pass = Callable[[ir.Model], None]
_LIMIT_S = 120.0  # for each pass
_PASSES: tuple[Pass, ...] = (
    simplify,
    resolve_shapes,
    simplify,  # known shapes allow more folding
    resolve_shapes,
    hoist_invariants,
    fuse_normalization,
    remove_transposes,
    lift_transposes,
    fuse_operators,
    fold_into_weights,
    activate_before_pools,
    keep_rows,
    split_reductions,
    guard_pools,
)
PASSES = tuple(dict.fromkeys(step.__name__ for step in _PASSES))


def clean_graph(model: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """Return a graph that computes the same function without redundant nodes, see `clean_model`."""
    cleaned, _ = clean_model(ir.from_proto(model), layers)
    proto: onnx.ModelProto = ir.to_proto(cleaned)
    del proto.graph.value_info[:]
    return proto


def clean_model(
    model: ir.Model,
    layers: Collection[str],
    without: Collection[str] = (),
    passes: Sequence[Pass] = _PASSES,
) -> tuple[ir.Model, dict[str, str]]:
    """Return a graph that computes the same function without redundant nodes.

    Constants and shapes are computed. Transposes cancel with their inverse. Products and sums with
    constants become part of the weights. Chains for which ONNX has an operator are fused. Order and
    names depend only on the graph, so the same model gives the same file.

    A pass that fails or takes minutes is left out: cleaning never costs the export.

    Args:
        model: Graph with inputs and outputs of known types; other types are inferred again. It does
            not change, and shares its weights with the result.
        layers: Names of the model's layers, after which the nodes are named.
        without: Names of passes to leave out, of `PASSES`.
        passes: Functions that change a graph in place, in order.

    Returns:
        The graph, and why each pass that failed was left out, by its name.
    """
    model = model.clone()
    _forget_inner_types(model)
    left_out: dict[str, str] = {}
    for step in passes:
        name = step.__name__
        if name in without or name in left_out:
            continue
        changed = model.clone()
        try:
            with time_limit(_LIMIT_S):
                step(changed)
        except Exception as error:  # a pass must not cost the export, whatever it raises
            left_out[name] = one_line(error)
        else:
            model = changed
    in_canonical_order(model)
    name_after_layers(model, layers)
    _forget_inner_types(model)  # their axis names are generated
    return model, left_out


def _forget_inner_types(model: ir.Model) -> None:
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type, value.shape = None, None
            value.metadata_props.clear()  # a value without a type cannot be written with them
