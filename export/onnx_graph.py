"""Converts the inference function to an ONNX graph that runs anywhere as it is."""

import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxsim
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from .errors import ExportError
from .inference import BATCH_AXIS, InferenceFunction, lookup_tables

OPSET = 18
_ML_DOMAIN = "ai.onnx.ml"
_ML_OPSET = 3
_DOMAINS = {"", "ai.onnx", _ML_DOMAIN}
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
        tensor: spec.name for tensor, spec in zip(input_names, inference.inputs, strict=False)
    }
    tables = _vocabularies(inference, input_names)
    model: onnx.ModelProto
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name=inference.model.name,
        input_names=input_names[: len(inference.inputs)],
        output_names=[tensor_names[spec.name] for spec in inference.outputs],
        opset=opset,
        custom_op_handlers={
            "Erfc": (_convert_erfc, []),
            "LookupTableFindV2": (functools.partial(_convert_lookup, tables), []),
        },
        extra_opset=[onnx.helper.make_opsetid(_ML_DOMAIN, _ML_OPSET)] if tables else None,
        tensors_to_rename=renamed,
    )
    return model


def _vocabularies(inference: InferenceFunction, input_names: list[str]) -> dict[str, list[str]]:
    """Return the known texts behind each table of the frozen graph, by the name of its handle."""
    # The handles stay inputs of the frozen graph, after the model's own, in the order captured.
    handles = [t for t in inference.function.captured_inputs if t.dtype == tf.resource]
    of_handle = {
        id(layer.lookup_table.resource_handle): layer.get_vocabulary()[1:]
        for layer in lookup_tables(inference.model)
    }
    tables = [of_handle[id(handle)] for handle in handles if id(handle) in of_handle]
    return dict(zip(input_names[len(inference.inputs) :], tables, strict=True))


def _convert_lookup(
    tables: dict[str, list[str]], context: Any, node: Any, _name: str, _args: Any
) -> None:
    """Map a table of texts, which tf2onnx reads from files alone, to LabelEncoder of ONNX-ML."""
    texts = tables[node.input[0]]
    outputs, shapes, dtypes = node.output, node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    context.make_node(
        "LabelEncoder",
        [node.input[1]],
        attr={
            "keys_strings": texts,
            "values_int64s": list(range(1, len(texts) + 1)),
            "default_int64": 0,
        },
        name=node.name,
        outputs=outputs,
        shapes=shapes,
        dtypes=dtypes,
        domain=_ML_DOMAIN,
    )


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
