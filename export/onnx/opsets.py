"""The opsets of an ONNX graph: which ONNX Runtime runs them, and conversion to a later one."""

import onnx
import onnx_ir as ir
from onnxscript import version_converter

from export.errors import ExportError
from serving.runtime import onnxruntime

# The newest opset that tf2onnx writes, which most runtimes support.
OPSET = 18
# The first release of ONNX Runtime that supports each opset, found by loading a graph with it.
LOWEST_ONNXRUNTIME = {
    15: "1.10", 16: "1.11", 17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17",
    21: "1.18", 22: "1.21", 23: "1.23", 24: "1.24", 25: "1.24", 26: "1.25",
}  # fmt: skip
# The newest opset to which onnxscript converts.
_CONVERTIBLE = 25


def _number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".")[:2])


# Those that the installed onnxruntime and onnx know.
OPSETS = tuple(
    opset
    for opset, release in LOWEST_ONNXRUNTIME.items()
    if _number(release) <= _number(onnxruntime.__version__)
    and opset <= onnx.defs.onnx_opset_version()
)


def check_opset(opset: int | None) -> None:
    """Raise ExportError unless `opset` is one of `OPSETS`, or None."""
    if opset is not None and (type(opset) is not int or opset not in OPSETS):
        raise ExportError(
            f"opset must be from {OPSETS[0]} to {OPSETS[-1]}, the newest that the installed "
            f"onnxruntime {onnxruntime.__version__} runs. Received: {opset}."
        )


def convert_opset(model: ir.Model, opset: int) -> None:
    """Convert a graph of opset 18 or later to `opset`, in place; an earlier one stays as it is.

    Raises:
        ExportError: An operator changes in a way that onnxscript does not know.
    """
    if opset <= model.opset_imports[""]:
        return
    version_converter.convert_version(model, min(opset, _CONVERTIBLE))
    for graph in model.graphs():
        for node in graph:
            if node.domain == "" and _changes(node.op_type, opset):
                raise ExportError(
                    f"Every operator must be the same in opset {opset} as in {_CONVERTIBLE}. "
                    f"Received: {node.op_type}. Choose opset {_CONVERTIBLE} or lower."
                )
            node.version = None
    model.opset_imports[""] = opset
    model.ir_version = max(model.ir_version, lowest_ir_version(model.opset_imports))


def lowest_ir_version(opsets: dict[str, int]) -> int:
    """Return the first IR version of ONNX that has these opsets, by domain."""
    imports = [onnx.helper.make_opsetid(domain, opset) for domain, opset in opsets.items()]
    return int(onnx.helper.find_min_ir_version_for(imports))


def _changes(op_type: str, opset: int) -> bool:
    before, after = (
        onnx.defs.get_schema(op_type, min(limit, opset), "").since_version
        for limit in (_CONVERTIBLE, opset)
    )
    return bool(before != after)
