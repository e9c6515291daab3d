"""Converts the inference function to an ONNX graph that needs nothing but ONNX Runtime."""

import itertools
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.python.grappler.tf_optimizer import OptimizeGraph
from tf2onnx.tf_utils import compress_graph_def
from tf2onnx.tfonnx import process_tf_graph

from export.errors import ExportError, ProofError, explained
from export.inference import InferenceFunction, layer_names, lookup_tables
from export.layer_names import layer_of
from export.logs import without_log
from export.memory import return_memory
from export.passes.pipeline import clean_model
from serving.manifest import DTYPES, TensorSpec

from .branches import forget_unknown_shapes, shapes_of_branches
from .crosses import values_before_hashes
from .files import to_message, without_arrays
from .lookup_operators import ML_DOMAIN, ML_OPSET, Table
from .operators import operator_handlers
from .opsets import OPSET, OPSETS, check_opset, convert_opset, lowest_ir_version
from .signal_operators import refuse_complex
from .weights import Weights, freeze, weights_outside

# The opset in which the axis of DFT became an input.
_DFT_AXIS_IS_INPUT = 20
_DOMAINS = {"", "ai.onnx", ML_DOMAIN}
# Operations whose output Keras or TensorFlow gives a shape after the fact.
_SHAPED_IN_PYTHON = ("LookupTableFindV2", "SparseToDense")
# What would do instead of an operation that ONNX lacks.
_WITHOUT = "Build the model without it."
_HASH = (
    "ONNX cannot hash: use StringLookup or IntegerLookup with one num_oov_indices, "
    "string_categorical or integer_categorical in a FeatureSpace, or hash outside."
)
_REPLACE = "ONNX can replace a literal or a set of characters, such as [.,]+, by a literal."
_ADVICE = {
    "RegexReplace": _REPLACE,
    "StaticRegexReplace": _REPLACE,
    "SparseCross": _HASH,
    "SparseCrossHashed": _HASH,
    "StringToHashBucketFast": _HASH,
    "StringToHashBucketStrong": _HASH,
    "UnicodeDecode": "ONNX cannot split into characters: split the texts outside, at white space.",
}
LEFT_OUT = "left_out_passes"
_ONNX_NAMES = {"float32": "FLOAT", "float64": "DOUBLE"}
_DTYPES = {name: ir.DataType[_ONNX_NAMES.get(name, name.upper())] for name in DTYPES}
# Operations of TensorFlow that draw random numbers.
_RANDOM = re.compile(
    "Random|Multinomial|TruncatedNormal|Shuffle|Stateful(Uniform|StandardNormal)|NonDeterministic"
)


def convert_to_onnx(
    inference: InferenceFunction, metadata: dict[str, Any], opset: int | None = None
) -> onnx.ModelProto:
    """Convert a traced model of less than 2 GB, see `convert_to_graph`."""
    return to_message(convert_to_graph(inference, metadata, opset))


def convert_to_graph(
    inference: InferenceFunction,
    metadata: dict[str, Any],
    opset: int | None = None,
    without: Collection[str] = (),
) -> ir.Model:
    """Convert a traced model, clean the graph and check it.

    Args:
        inference: The traced model.
        metadata: Values for the file's `metadata_props`, written as JSON.
        opset: Opset of the default domain, one of `OPSETS`; None for the default, `OPSET`, or a
            later one if an operator needs it.
        without: Names of passes to leave out, see `export.passes.pipeline.clean_model`.

    Returns:
        A graph whose inputs, outputs and axes have the names of `inference` and whose nodes and
        tensors are named after the layers. The same model gives the same graph, byte for byte.
        Its weights are those of the model where they did not have to change. If a pass failed, the
        metadata tell why, as JSON by the pass' name under `LEFT_OUT`.

    Raises:
        ExportError: An operation has no counterpart in ONNX.
        ProofError: The graph is not valid.
    """
    check_opset(opset)
    layers = layer_names(inference.model)
    with (
        explained("ONNX must be able to express the model", layers),
        without_log(),
        weights_outside() as weights,
    ):
        converted = _convert(inference, opset, layers, weights)
    _require_known_operators(converted, layers)
    _settle_opset(converted, layers, opset)
    named = zip((*inference.inputs, *inference.outputs), _interface(converted), strict=True)
    for spec, value in named:
        _set_shape(value, spec)
    with explained("The converted graph must be valid ONNX", layers), without_log():
        graph = weights.put_into(ir.from_proto(converted))
        del weights
        graph, left_out = clean_model(graph, layers, without)
        convert_opset(graph, opset or OPSET)
    # An inner value, with other axis names, may have become the output.
    for spec, output in zip(inference.outputs, graph.graph.outputs, strict=True):
        output.shape, output.dtype = ir.Shape(spec.shape), _DTYPES[spec.dtype]
    graph.metadata_props.clear()  # what the converter wrote
    for key, value in (metadata | ({LEFT_OUT: left_out} if left_out else {})).items():
        graph.metadata_props[key] = json.dumps(value, ensure_ascii=False)
    return_memory(inference.model)
    _check(graph, layers)
    return graph


def _convert(
    inference: InferenceFunction, opset: int | None, layers: Collection[str], weights: Weights
) -> onnx.ModelProto:
    frozen, input_names, output_names, contents = _freeze(inference.function, weights)
    # TensorFlow flattens a dict by sorted key.
    names = sorted(spec.name for spec in inference.outputs)
    tensor_names = dict(zip(names, output_names, strict=True))
    renamed = {tensor: name for name, tensor in tensor_names.items()}
    renamed |= {
        tensor: spec.name for tensor, spec in zip(input_names, inference.inputs, strict=False)
    }
    tables = _tables(inference, input_names)
    model: onnx.ModelProto
    with tf.Graph().as_default() as graph, shapes_of_branches():
        contents |= compress_graph_def(frozen)  # TensorFlow copies what it imports
        inlined = _inline(frozen, input_names + output_names)
        _refuse_random(inlined, layers)
        _keep_shapes(inference.function.graph, inlined)
        forget_unknown_shapes(inlined)
        tf.import_graph_def(inlined, name="")
        refuse_complex(graph, layers)
        # tf2onnx's optimizers are skipped: they take most of the time and do what clean_graph does.
        model = process_tf_graph(
            graph,
            const_node_values=contents,
            continue_on_error=True,
            opset=min(opset or OPSET, OPSET),
            custom_op_handlers=operator_handlers(tables, values_before_hashes(graph, tables)),
            extra_opset=[onnx.helper.make_opsetid(ML_DOMAIN, ML_OPSET)],
            input_names=input_names[: len(inference.inputs)],
            output_names=[tensor_names[spec.name] for spec in inference.outputs],
            tensors_to_rename=renamed,
        ).make_model("", graph_name=inference.model.name)
    return model


def _freeze(function: Any, weights: Weights) -> tuple[Any, list[str], list[str], dict[str, bytes]]:
    """Return the graph with its variables as constants, and the names of its inputs and outputs.

    tf2onnx's own entry points fail on many Keras 3 models. Loops stay as they are, so that tf2onnx
    recognizes recurrent layers in them. Functions compiled with XLA, such as grouped convolutions,
    are inlined like any other. The last result is the content of constants that `weights` keeps.
    """
    graph, converted, contents = freeze(function, weights)
    captured = {id(function.graph.internal_captures[number]) for number in converted}
    inputs = [tensor.name for tensor in function.inputs if id(tensor) not in captured]
    for holder in [*graph.node, *graph.library.function]:
        for mark in ("_XlaMustCompile", "_noinline"):
            holder.attr.pop(mark, None)
    return graph, inputs, [tensor.name for tensor in function.outputs], contents


def _inline(graph: Any, fetches: list[str]) -> Any:
    """Return the graph with its functions inlined and without unused nodes."""
    config = ConfigProto()
    # No constant folding: the weights are not in the graph.
    config.graph_options.rewrite_options.optimizers[:] = ["function", "dependency"]
    config.graph_options.infer_shapes = True
    meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph)
    meta_graph.collection_def["train_op"].node_list.value.extend(fetches)
    return OptimizeGraph(config, meta_graph)


def _keep_shapes(traced: tf.Graph, graph: Any) -> None:
    """Write the shapes that Python knows of what a table answers; TensorFlow's graph loses them."""
    shapes = {
        op.name: op.outputs[0].shape
        for op in traced.get_operations()
        if op.type in _SHAPED_IN_PYTHON
    }
    for node in graph.node:
        if node.name in shapes:
            node.attr["_output_shapes"].list.shape.append(shapes[node.name].as_proto())


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


def _settle_opset(model: onnx.ModelProto, layers: Collection[str], opset: int | None) -> None:
    """Write the domains that a graph uses, and the opset of its operators, at least the default.

    Of the operators that are written here for opset 18, only DFT differs in opset 20.

    Raises:
        ExportError: An operator is newer than the opset that was asked for.
    """
    nodes = list(_all_nodes(model.graph))
    plain = [node for node in nodes if node.domain != ML_DOMAIN]
    newest = max(plain, key=_since, default=None)
    needed = 0 if newest is None else _since(newest)
    if newest is not None and opset is not None and needed > opset:
        layer = layer_of(newest.name, layers)
        raise ExportError(
            f"opset must be at least {needed} for {newest.op_type}"
            f"{f' of layer {layer!r}' if layer else ''}. Received: {opset}. "
            "Leave it out, and the lowest that is needed is chosen."
        )
    opsets = {"": max(needed, min(opset or OPSET, OPSET))}
    if len(plain) < len(nodes):
        opsets[ML_DOMAIN] = ML_OPSET
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*item) for item in opsets.items())
    for node in nodes:
        if node.op_type == "DFT" and opsets[""] >= _DFT_AXIS_IS_INPUT:
            _make_axis_an_input(model.graph, node)
    model.ir_version = max(model.ir_version, lowest_ir_version(opsets))


def _make_axis_an_input(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    axis = next(attribute for attribute in node.attribute if attribute.name == "axis")
    name = f"{node.name}/axis"
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(axis.i), name))
    node.input.extend([""] * (2 - len(node.input)) + [name])
    node.attribute.remove(axis)


def _since(node: onnx.NodeProto) -> int:
    """Return the opset with which an operator began, or 0 if it is older than any that is used."""
    known = [opset for opset in OPSETS if onnx.defs.has(node.op_type, opset, "")]
    return known[0] if known and known[0] > OPSETS[0] else 0


def _require_known_operators(model: onnx.ModelProto, layers: Collection[str]) -> None:
    """Raise for operations that are not ONNX: tf2onnx leaves those it cannot convert."""
    unknown = {
        node.op_type: layer_of(node.name, layers)
        for node in _all_nodes(model.graph)
        if not onnx.defs.has(
            node.op_type, *((ML_OPSET, ML_DOMAIN) if node.domain == ML_DOMAIN else (OPSETS[-1], ""))
        )
        or node.domain not in _DOMAINS
    }
    if unknown:
        where = ", ".join(
            f"{op} of layer {layer!r}" if layer else f"{op} of a keras.ops function"
            for op, layer in sorted(unknown.items())
        )
        advice = next((_ADVICE[op] for op in sorted(unknown) if op in _ADVICE), _WITHOUT)
        raise ExportError(
            f"Every operation must have a counterpart in ONNX. Received: {where}. {advice}"
        )


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)


def _check(model: ir.Model, layers: Collection[str]) -> None:
    try:
        with explained("ONNX must accept the types and shapes of every operation", layers):
            onnx.checker.check_model(without_arrays(model), full_check=True)
    except ExportError as error:
        raise ProofError(str(error)) from error
