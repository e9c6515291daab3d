"""Opens an ONNX Runtime session on the CPU and reads its signature."""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .bundle import weights_file
from .errors import ManifestError, cannot_read, reason_of
from .external_data import check_external_data, refuse_external_data
from .manifest import TensorSpec
from .parity import Outputs
from .runtime import onnxruntime

_DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(string)": "string",
}


def open_session(model: bytes | Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a session for small nets: operators run one by one, and idle threads do not spin.

    Args:
        model: bytes of the ONNX file, which must hold all weights; or its path. Then weights may
            be in one file beside it, see `bundle.weights_file`, and fewer copies are made of them.
        threads: number of threads that one call may use. Calls from several Python threads always
            run in parallel.

    Raises:
        ManifestError: ONNX Runtime cannot load the model, or its weights are in another place.
    """
    if isinstance(model, Path):
        _check_file(model)
    else:
        refuse_external_data(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors share no public base class
        raise ManifestError(
            f"The ONNX model cannot be loaded by onnxruntime {onnxruntime.__version__}: "
            f"{reason_of(error)}."
        ) from None


def float32_runner(session: onnxruntime.InferenceSession) -> Callable[[Any], Outputs]:
    """Return a function from float32 inputs to float32 outputs by name, for a float16 graph.

    Inputs are an array, or arrays by name, and become float16 where the graph takes that.
    """
    inputs, outputs = session.get_inputs(), [node.name for node in session.get_outputs()]
    narrow = {node.name for node in inputs if node.type == "tensor(float16)"}

    def run(batch: Any) -> Outputs:
        arrays = batch if isinstance(batch, dict) else {inputs[0].name: batch}
        given = {
            name: array.astype(np.float16) if name in narrow else array
            for name, array in arrays.items()
        }
        found = zip(outputs, session.run(outputs, given), strict=True)
        return {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in found}

    return run


def _check_file(path: Path) -> None:
    """Check where the weights of an ONNX file are, without reading them.

    Raises:
        ManifestError: they are in another place than its file of weights, or it is no ONNX file.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return  # nothing can be mapped; ONNX Runtime refuses it
            # It is closed when no part of it is used any more, be it by the error.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            check_external_data(memoryview(content), weights_file(path))
    except OSError as error:
        raise ManifestError(cannot_read(path, error)) from None


def session_signature(
    session: onnxruntime.InferenceSession,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and the outputs of a session."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return tuple(map(_tensor_spec, inputs)), tuple(map(_tensor_spec, outputs))


def _tensor_spec(node: onnxruntime.NodeArg) -> TensorSpec:
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), tuple(node.shape))
