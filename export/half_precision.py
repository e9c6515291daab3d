"""Makes a graph in half precision, for GPUs and browsers, and proves it beside the float32 one."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

import serving.runtime  # noqa: F401  # before onnxruntime: turns its telemetry off

# isort: split
from onnxruntime.transformers.float16 import convert_float_to_float16

from serving.bundle import FLOAT16, MODEL
from serving.manifest import Float16, Parity
from serving.parity import (
    FLOAT16_TOLERANCES,
    Inputs,
    Outputs,
    allowed_difference,
    count_samples,
    is_within,
    run_in_batches,
)
from serving.runtime import onnxruntime
from serving.session import float32_runner, open_session

from .batches import batch_sizes
from .errors import ProofError, explained
from .inference import InferenceFunction
from .onnx.files import forget_weights, without_arrays, write_graph
from .output_kind import OutputKind
from .parity import compare, worst

PRECISIONS = ("float32", "float16")
_LARGEST = float(np.finfo(np.float16).max)
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Samples whose numbers are looked at: those spread over the data, and the edge cases at the end.
_CHECKED = 34


def write_float16(
    inference: InferenceFunction,
    folder: Path,
    samples: Inputs,
    expected: Outputs,
    kind: OutputKind,
    has_float16_io: bool,
) -> Float16:
    """Write `model.float16.onnx` beside `model.onnx`, and compare it with Keras.

    Weights and what is computed from them are float16. Operators that ONNX has for float32 only
    stay as they are, between casts.

    Args:
        inference: The traced model.
        folder: Folder of the version being made, with `model.onnx`.
        samples: Inputs to run.
        expected: What Keras predicts for them.
        kind: What the outputs stand for.
        has_float16_io: Whether inputs and outputs are float16 too.

    Raises:
        ExportError: The graph cannot be converted.
        ProofError: A number in the graph is too large for float16, or an output differs by more
            than its tolerance.
    """
    with explained("float16 needs a graph that onnxruntime can convert"):
        message = onnx.load(folder / MODEL)
        graph = ir.from_proto(message)
        # Shapes are inferred without the weights: a message holds 2 GB at most.
        bare = onnx.shape_inference.infer_shapes(without_arrays(graph), strict_mode=True)
        _require_small_numbers(graph, bare, inference.by_name(samples))
        del graph
        _convert(message, bare, folder / FLOAT16, has_float16_io)
        del message
        run = float32_runner(open_session(folder / FLOAT16))
    measured: list[Parity] = []
    for batch_size in batch_sizes(samples):
        with explained("The float16 graph must run on every input that Keras runs on"):
            received = run_in_batches(run, inference.by_name(samples), batch_size)
        for name, wanted in expected.items():
            is_probability = kind.predicts_probabilities(name)
            for parity, every in compare("float16", name, batch_size, wanted, received[name], kind):
                _require(parity, allowed_difference(every, is_probability, FLOAT16_TOLERANCES))
                measured.append(parity)
    dtypes = {"probabilities", *(spec.dtype for spec in inference.outputs)}
    tolerances = {name: value for name, value in FLOAT16_TOLERANCES.items() if name in dtypes}
    return Float16(has_float16_io, tolerances, worst(measured))


def _require(parity: Parity, allowed: float) -> None:
    if not is_within(parity.max_absolute_difference, allowed):
        raise ProofError(
            f"{parity.output} in float16 must be within {allowed:.1e} of Keras'. "
            f"Received: {parity.max_absolute_difference:.1e} at batch size {parity.batch_size}. "
            "Nothing was published. Export it in float32."
        )


def _convert(
    message: onnx.ModelProto, bare: onnx.ModelProto, path: Path, has_float16_io: bool
) -> None:
    message.graph.value_info.extend(bare.graph.value_info)
    half = convert_float_to_float16(
        message, keep_io_types=not has_float16_io, disable_shape_infer=True
    )
    del half.graph.value_info[:]
    graph = ir.from_proto(half)
    graph.graph.sort()  # casts were added at the end
    write_graph(graph, path)
    forget_weights(graph)


def _require_small_numbers(
    graph: ir.Model, bare: onnx.ModelProto, inputs: dict[str, np.ndarray]
) -> None:
    """Require that float16 can hold every number that the graph computes from golden samples.

    On a CPU, ONNX Runtime computes in float32 between casts and would not notice.
    """
    weights = {
        value.name: graph.graph.initializers[value.name].const_value.numpy()
        for value in bare.graph.input
        if value.name in graph.graph.initializers
    }
    producers = {name: node for node in bare.graph.node for name in node.output}
    outputs = {value.name for value in bare.graph.output}
    floats = [
        value
        for value in bare.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name in producers
    ]
    bare.graph.output.extend(value for value in floats if value.name not in outputs)
    session = onnxruntime.InferenceSession(
        bare.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in bare.graph.output]
    for place in range(min(_CHECKED, count_samples(inputs))):
        sample = {name: array[place : place + 1] for name, array in inputs.items()}
        found = dict(zip(names, session.run(names, sample | weights), strict=True))
        for name, array in found.items():
            node = producers.get(name)
            if node is None or array.dtype != np.float32 or not array.size:
                continue
            # What masks subtract stands for minus infinity, and stays so.
            lowest = float(array.min()) if node.op_type in _PRODUCTS else 0.0
            largest = max(float(array.max()), -lowest)
            if largest > _LARGEST:
                raise ProofError(
                    f"float16 holds numbers of at most {_LARGEST:g}. Received: {largest:.3g} from "
                    f"{node.name or node.op_type}. Nothing was published. Scale the inputs, or "
                    "export in float32."
                )
    del bare.graph.output[len(outputs) :]
