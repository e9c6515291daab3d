"""Computes constants and applies onnxscript's rules, in time that grows like the graph."""

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import rewriter
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter.rules.common import slice_split_rule

from .deadline import check_time
from .initializers import adopt_constants

# Size limit for folding constants: transposed weights are as large as the model.
_ANY_SIZE = 2**40
# The rule that is left out compares each Slice with each other, and walks the graph for each pair:
# it takes minutes for a Swin transformer (seen in onnxscript 0.7).
_RULES = tuple(rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule is not slice_split_rule)
_ROUNDS = 2  # what a rule leaves can be folded


def simplify(model: ir.Model) -> None:
    """Fold constants, apply rules, and drop what is computed twice. The graph changes in place.

    All constants are initializers afterwards.
    """
    for _ in range(_ROUNDS):
        folded = fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=_ANY_SIZE,
            output_size_limit=_ANY_SIZE,
            should_fold=_in_time,
        )
        check_time()
        rewritten = rewriter.RewritePass(_RULES)(model)
        common.RemoveUnusedNodesPass()(model)
        if not folded.modified and not rewritten.modified:
            break
    for tidy in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        check_time()
        tidy(model)
    adopt_constants(model.graph)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def _in_time(_node: ir.Node) -> None:
    """Decide nothing, but raise TimeoutError once the time is up."""
    check_time()
