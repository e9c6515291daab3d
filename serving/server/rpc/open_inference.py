"""Inference requests and responses of the Open Inference Protocol v2 as gRPC messages.

Source: Open Inference Protocol, gRPC, "Inference"; Triton, "Classification Extension".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import RequestError
from ..open_inference import Inference, OpenInference, RequestOutput
from ..tensors import BYTES, check_batch_sizes, check_rows, from_binary, to_binary
from .messages import message_class
from .typed import from_numbers, from_texts, put_numbers

InferRequest = message_class("inference.ModelInferRequest")
_Response = message_class("inference.ModelInferResponse")
# The field of `contents` for each datatype.
_FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "INT8": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_RAW = "binary_data_output"


def read_inference(
    model: OpenInference, request: Any, max_rows: int
) -> tuple[Inference, bool]:
    """Read a request.

    Returns:
        The request, and whether its response has raw tensors: it has if the request has, or if
        its parameter `binary_data_output` is true.

    Raises:
        RequestError: the request violates the protocol, or does not fit the model.
    """
    parameters = _read_parameters(request.parameters)
    arrays = _read_inputs(model, request, max_rows)
    wanted = [
        RequestOutput(output.name, _read_parameters(output.parameters))
        for output in request.outputs
    ]
    is_raw = bool(request.raw_input_contents) or parameters.get(_RAW) is True
    return Inference(arrays, model.select(wanted), request.id), is_raw


def _read_inputs(model: OpenInference, request: Any, max_rows: int) -> dict[str, np.ndarray]:
    given, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(given):
        raise RequestError(
            f"raw_input_contents must have a tensor for each of {len(given)} inputs. "
            f"Received: {len(raw)}."
        )
    arrays: dict[str, np.ndarray] = {}
    for place, tensor in enumerate(given):
        shape = list(tensor.shape)
        model.check_input(tensor, shape, given)
        check_rows(shape[0], max_rows)
        if tensor.parameters:
            _read_parameters(tensor.parameters)
        has_contents = tensor.HasField("contents")
        if raw and has_contents:
            raise RequestError(
                f"{tensor.name} must have raw_input_contents or contents. Received: both."
            )
        name, datatype = tensor.name, tensor.datatype
        if raw:
            arrays[name] = from_binary(name, datatype, shape, memoryview(raw[place]))
        else:
            arrays[name] = _read_contents(name, datatype, shape, tensor.contents)
    model.check_names(arrays, given)
    if len(arrays) > 1:
        check_batch_sizes(arrays)
    return arrays


def _read_contents(name: str, datatype: str, shape: list[int], contents: Any) -> np.ndarray:
    field = _FIELDS[datatype]
    others = [one.name for one, _ in contents.ListFields() if one.name != field]
    if others:
        raise RequestError(f"{name} of {datatype} must be in {field}. Received: {others[0]}.")
    values, count = getattr(contents, field), math.prod(shape)
    if len(values) != count:
        raise RequestError(
            f"{field} of {name} must have {count} elements for its shape {shape}. "
            f"Received: {len(values)}."
        )
    if datatype == BYTES:
        return from_texts(name, values).reshape(shape)
    return from_numbers(name, datatype, values).reshape(shape)


# What this server does not do, and must not seem to have done.
_REFUSED = ("sequence_id", "sequence_start", "sequence_end", "shared_memory_region")


def _read_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters by name.

    Raises:
        RequestError: a parameter asks for what this server cannot do.
    """
    found: dict[str, Any] = {}
    for name, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        value = None if kind is None else getattr(parameter, kind)
        if name in _REFUSED and value:
            raise RequestError(
                f"{name} is not supported: no request depends on another one, and tensors are in "
                f"the message. Received: {value!r:.40}."
            )
        found[name] = value
    return found


def write_inference(
    model: OpenInference, inference: Inference, is_raw: bool, arrays: Sequence[np.ndarray]
) -> bytes:
    """Return the response, serialized.

    Args:
        model: writes for the model.
        inference: the request.
        is_raw: whether tensors are raw bytes.
        arrays: every output of the model, in the manifest's order.
    """
    response = _Response(
        model_name=model.name, model_version=model.version, id=inference.id
    )
    for name, datatype, values in model.tensors(inference, arrays):
        output = response.outputs.add(name=name, datatype=datatype, shape=values.shape)
        if is_raw:
            response.raw_output_contents.append(to_binary(values))
        elif datatype == BYTES:
            texts = [text.encode() for text in values.ravel().tolist()]
            output.contents.bytes_contents.extend(texts)
        else:
            put_numbers(output.contents, _FIELDS[datatype], values)
    content: bytes = response.SerializeToString()
    return content
