"""Converts the inference function to an ONNX graph that needs nothing but ONNX Runtime."""

import itertools
import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.python.framework.convert_to_constants import (
    _FunctionConverterDataInEager,
    _replace_variables_by_constants,
)
from tensorflow.python.grappler.tf_optimizer import OptimizeGraph
from tf2onnx.tf_utils import compress_graph_def
from tf2onnx.tfonnx import process_tf_graph

from export.errors import ExportError, explained
from export.inference import InferenceFunction, layer_names, lookup_tables
from export.memory import return_memory
from export.node_names import layer_of
from export.passes.pipeline import clean_graph
from serving.manifest import TensorSpec

from .lookup_operators import ML_DOMAIN, ML_OPSET, Table
from .operators import operator_handlers

OPSET = 18
# The first release of ONNX Runtime that supports each opset.
LOWEST_ONNXRUNTIME = {15: "1.10", 16: "1.11", 17: "1.12", 18: "1.14"}
OPSETS = tuple(LOWEST_ONNXRUNTIME)
_DOMAINS = {"", "ai.onnx", ML_DOMAIN}
# Operations of TensorFlow that draw random numbers.
_RANDOM = re.compile(
    "Random|Multinomial|TruncatedNormal|Shuffle|Stateful(Uniform|StandardNormal)|NonDeterministic"
)


def convert_to_onnx(
    inference: InferenceFunction, metadata: Mapping[str, Any], opset: int = OPSET
) -> onnx.ModelProto:
    """Convert a traced model, clean the graph and check it.

    Args:
        inference: The traced model.
        metadata: Values for the file's `metadata_props`, written as JSON.
        opset: Opset of the default domain, one of `OPSETS`.

    Returns:
        A graph whose inputs, outputs and axes have the names of `inference` and whose nodes and
        tensors are named after the layers. The same model gives the same graph, byte for byte.

    Raises:
        ExportError: An operation has no counterpart in ONNX, or the graph is not valid.
    """
    check_opset(opset)
    layers = layer_names(inference.model)
    with explained("ONNX must be able to express the model", layers):
        converted = _convert(inference, opset, layers)
    return_memory()
    _require_known_operators(converted, layers, opset)
    named = zip((*inference.inputs, *inference.outputs), _interface(converted), strict=True)
    for spec, value in named:
        _set_shape(value, spec)
    with explained("The converted graph must be valid ONNX", layers):
        graph = clean_graph(converted, layers)
    # An inner value, with other axis names, may have become the output.
    for spec, value in zip(inference.outputs, graph.graph.output, strict=True):
        _set_shape(value, spec)
    del graph.metadata_props[:]  # what the converter wrote
    for key, value in metadata.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value, ensure_ascii=False)
    _check(graph, layers)
    return graph


def check_opset(opset: int) -> None:
    """Raise ExportError unless `opset` is one of `OPSETS`."""
    if opset not in OPSETS:
        raise ExportError(f"opset must be one of {', '.join(map(str, OPSETS))}. Received: {opset}.")


def _convert(inference: InferenceFunction, opset: int, layers: Collection[str]) -> onnx.ModelProto:
    frozen, input_names, output_names = _freeze(inference.function)
    # TensorFlow flattens a dict by sorted key.
    names = sorted(spec.name for spec in inference.outputs)
    tensor_names = dict(zip(names, output_names, strict=True))
    renamed = {tensor: name for name, tensor in tensor_names.items()}
    renamed |= {
        tensor: spec.name for tensor, spec in zip(input_names, inference.inputs, strict=False)
    }
    tables = _tables(inference, input_names)
    model: onnx.ModelProto
    with _without_log(), tf.Graph().as_default() as graph:
        weights = compress_graph_def(frozen)  # TensorFlow copies what it imports
        inlined = _inline(frozen, input_names + output_names)
        _refuse_random(inlined, layers)
        tf.import_graph_def(inlined, name="")
        # tf2onnx's optimizers are skipped: they take most of the time and do what clean_graph does.
        model = process_tf_graph(
            graph,
            const_node_values=weights,
            continue_on_error=True,
            opset=opset,
            custom_op_handlers=operator_handlers(tables),
            extra_opset=[onnx.helper.make_opsetid(ML_DOMAIN, ML_OPSET)] if tables else None,
            input_names=input_names[: len(inference.inputs)],
            output_names=[tensor_names[spec.name] for spec in inference.outputs],
            tensors_to_rename=renamed,
        ).make_model("", graph_name=inference.model.name)
    return model


def _freeze(function: Any) -> tuple[Any, list[str], list[str]]:
    """Return the graph with its variables as constants, and the names of its inputs and outputs.

    tf2onnx's own entry points fail on many Keras 3 models. Loops stay as they are, so that tf2onnx
    recognizes recurrent layers in them. Functions compiled with XLA, such as grouped convolutions,
    are inlined like any other.
    """
    # `convert_variables_to_constants_v2` also turns the graph into a function, which takes half
    # of the time and six copies of the weights.
    data = _FunctionConverterDataInEager(
        func=function, lower_control_flow=False, aggressive_inlining=True
    )
    graph, converted = _replace_variables_by_constants(converter_data=data)
    captured = {id(function.graph.internal_captures[number]) for number in converted}
    inputs = [tensor.name for tensor in function.inputs if id(tensor) not in captured]
    for holder in [*graph.node, *graph.library.function]:
        for mark in ("_XlaMustCompile", "_noinline"):
            holder.attr.pop(mark, None)
    return graph, inputs, [tensor.name for tensor in function.outputs]


def _inline(graph: Any, fetches: list[str]) -> Any:
    """Return the graph with its functions inlined and without unused nodes."""
    config = ConfigProto()
    # No constant folding: the weights are not in the graph.
    config.graph_options.rewrite_options.optimizers[:] = ["function", "dependency"]
    config.graph_options.infer_shapes = True
    meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph)
    meta_graph.collection_def["train_op"].node_list.value.extend(fetches)
    return OptimizeGraph(config, meta_graph)


def _refuse_random(graph: Any, layers: Collection[str]) -> None:
    """Raise ExportError if an output depends on random numbers."""
    parts = (graph.node, *(function.node_def for function in graph.library.function))
    for node in itertools.chain.from_iterable(parts):
        if _RANDOM.search(node.op):
            layer = layer_of(node.name, layers)
            raise ExportError(
                "Outputs must not depend on random numbers at inference. "
                f"Received: {node.op} of {f'layer {layer!r}' if layer else node.name}. "
                "Pass the numbers as an input."
            )


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep tf2onnx from logging errors that are raised or fixed later."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _tables(inference: InferenceFunction, input_names: list[str]) -> dict[str, Table]:
    """Return the content of each lookup table of the frozen graph, by the name of its handle."""
    # The handles are inputs of the frozen graph, after those of the model, in the order of capture.
    handles = [t for t in inference.function.captured_inputs if t.dtype == tf.resource]
    of_handle = {
        id(table.resource_handle): _read_table(table) for table in lookup_tables(inference.model)
    }
    tables = [of_handle[id(handle)] for handle in handles if id(handle) in of_handle]
    return dict(zip(input_names[len(inference.inputs) :], tables, strict=True))


def _read_table(table: Any) -> Table:
    keys, values = (tensor.numpy() for tensor in table.export())
    order = np.argsort(values, kind="stable")  # a table has no order
    default = np.asarray(table._default_value)
    return Table(_decoded(keys[order]), _decoded(values[order]), _decoded(default.reshape(1))[0])


def _decoded(values: np.ndarray) -> list[Any]:
    return [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]


def _interface(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output]


def _set_shape(value: onnx.ValueInfoProto, spec: TensorSpec) -> None:
    dims = value.type.tensor_type.shape
    del dims.dim[:]
    for size in spec.shape:
        if isinstance(size, str):
            dims.dim.add().dim_param = size
        else:
            dims.dim.add().dim_value = size


def _require_known_operators(model: onnx.ModelProto, layers: Collection[str], opset: int) -> None:
    """Raise for operations that are not ONNX: tf2onnx leaves those it cannot convert."""
    unknown = {
        node.op_type: layer_of(node.name, layers)
        for node in _all_nodes(model.graph)
        if not onnx.defs.has(
            node.op_type, *((ML_OPSET, ML_DOMAIN) if node.domain == ML_DOMAIN else (opset, ""))
        )
        or node.domain not in _DOMAINS
    }
    if unknown:
        where = ", ".join(
            f"{op} of layer {layer!r}" if layer else f"{op} of a keras.ops function"
            for op, layer in sorted(unknown.items())
        )
        raise ExportError(
            "Every operation must have a counterpart in ONNX. "
            f"Received: {where}. Build the model without it."
        )


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)


def _check(model: onnx.ModelProto, layers: Collection[str]) -> None:
    with explained("ONNX must accept the types and shapes of every operation", layers):
        onnx.checker.check_model(model, full_check=True)
