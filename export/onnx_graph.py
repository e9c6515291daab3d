"""Converts the inference function to an ONNX graph that runs anywhere as it is."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxsim
import tf2onnx
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from .errors import ExportError
from .inference import BATCH_AXIS, InferenceFunction

OPSET = 18
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
# What is left of a shape that is computed at run time.
_SHAPE_OPS = {"Shape", "Size"}


def convert_to_onnx(
    inference: InferenceFunction, metadata: Mapping[str, Any], opset: int = OPSET
) -> onnx.ModelProto:
    """Convert, clean and check.

    Args:
        inference: the traced model.
        metadata: values for the file's `metadata_props`, written as JSON.
        opset: of the default domain.

    Returns:
        A graph with the model's own names of inputs and outputs, the first axis of each named
        `batch`, and no shape left to compute.

    Raises:
        ExportError: an operation has no counterpart in ONNX, or the graph is not valid.
    """
    graph = _clean(_convert(inference, opset), inference)
    del graph.metadata_props[:]  # the converter's own remarks
    for key, value in metadata.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value, ensure_ascii=False)
    _check(graph)
    return graph


def _convert(inference: InferenceFunction, opset: int) -> onnx.ModelProto:
    # Frozen first: tf2onnx's own entries fail on many Keras 3 models.
    frozen = convert_variables_to_constants_v2(inference.function)
    input_names = [tensor.name for tensor in frozen.inputs]
    # TensorFlow flattens a dict by sorted key.
    tensor_names = dict(
        zip(sorted(inference.model.output), (t.name for t in frozen.outputs), strict=True)
    )
    renamed = {tensor: name for name, tensor in tensor_names.items()}
    renamed |= {
        tensor: spec.name for tensor, spec in zip(input_names, inference.inputs, strict=True)
    }
    model: onnx.ModelProto
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name=inference.model.name,
        input_names=input_names,
        output_names=[tensor_names[spec.name] for spec in inference.outputs],
        opset=opset,
        custom_op_handlers={"Erfc": (_convert_erfc, [])},
        tensors_to_rename=renamed,
    )
    return model


def _convert_erfc(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Map Erfc, which Keras' GELU uses and tf2onnx lacks: erfc(x) = 1 - erf(x)."""
    one = context.make_const(f"{node.name}_one", np.ones((), np.float32))
    erf = context.make_node("Erf", node.input, name=f"{node.name}_erf")
    outputs, shapes, dtypes = node.output, node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        name=node.name,
        outputs=outputs,
        shapes=shapes,
        dtypes=dtypes,
    )


def _clean(model: onnx.ModelProto, inference: InferenceFunction) -> onnx.ModelProto:
    values = [*model.graph.input, *model.graph.output]
    for value, spec in zip(values, (*inference.inputs, *inference.outputs), strict=True):
        for dim, size in zip(value.type.tensor_type.shape.dim, spec.shape, strict=True):
            if size == BATCH_AXIS:
                dim.dim_param = BATCH_AXIS
            else:
                dim.dim_value = int(size)
    del model.graph.value_info[:]
    simplified: onnx.ModelProto
    simplified, _ = onnxsim.simplify(model)
    del simplified.graph.value_info[:]  # its names of axes are invented
    return simplified


def _check(model: onnx.ModelProto) -> None:
    foreign = sorted({node.op_type for node in model.graph.node if node.domain not in _DOMAINS})
    shape_ops = [node.name for node in model.graph.node if node.op_type in _SHAPE_OPS]
    if foreign:
        raise ExportError(
            f"Every operation must exist in ONNX. Received: {', '.join(foreign)}, not mapped."
        )
    if shape_ops:
        raise ExportError(f"No shape may be left to compute. Received: {', '.join(shape_ops)}.")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())
        raise ExportError(f"The ONNX graph must be valid. Received: {reason:.300}.") from None
