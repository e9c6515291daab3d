"""Keeps ONNX Runtime from optimizing a padded MaxPool into a different function."""

import onnx_ir as ir

from .deadline import in_time


def guard_pools(model: ir.Model) -> None:
    """Protect paddings of zeros before MaxPool. The graph changes in place.

    ONNX Runtime (seen in 1.31) merges a padding of zeros into MaxPool, which pads with the lowest
    value: the results differ where all values of a border are below 0. It does not merge into a
    pool whose `auto_pad` says that it has no padding.
    """
    for node in in_time(model.graph):
        if node.op_type != "MaxPool" or node.domain:
            continue
        producer = node.inputs[0].producer()
        pads = node.attributes["pads"].as_ints() if "pads" in node.attributes else ()
        if producer is not None and producer.op_type == "Pad" and not any(pads):
            node.attributes.pop("pads", None)
            node.attributes["auto_pad"] = ir.AttrString("auto_pad", "VALID")
