"""Writes a graph so that ONNX Runtime does not optimize it into another function."""

import onnx_ir as ir


def guard_pools(model: ir.Model) -> None:
    """Keep paddings of zeros out of MaxPool. The graph changes in place.

    ONNX Runtime (seen in 1.31) makes a padding before MaxPool its own, which is of lowest values,
    not of zeros: the result is another where all of a border is below 0. It leaves alone a pool
    that says by `auto_pad` that it has none.
    """
    for node in model.graph:
        if node.op_type != "MaxPool" or node.domain:
            continue
        producer = node.inputs[0].producer()
        pads = node.attributes["pads"].as_ints() if "pads" in node.attributes else ()
        if producer is not None and producer.op_type == "Pad" and not any(pads):
            node.attributes.pop("pads", None)
            node.attributes["auto_pad"] = ir.AttrString("auto_pad", "VALID")
