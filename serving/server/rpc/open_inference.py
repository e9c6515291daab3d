"""Inference requests and responses of the Open Inference Protocol v2 as gRPC messages.

Source: Open Inference Protocol, gRPC, "Inference"; Triton, "Classification Extension".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import RequestError
from ..open_inference import Inference, OpenInference, RequestOutput, SelectedOutput
from ..tensors import BYTES, check_batch_sizes, check_rows, from_binary, to_binary
from .messages import bytes_field, message_class
from .typed import from_numbers, from_texts, put_elements

InferRequest = message_class("inference.ModelInferRequest")
_Response = message_class("inference.ModelInferResponse")
_ID = _Response.DESCRIPTOR.fields_by_name["id"].number
_RAW_OUTPUT = _Response.DESCRIPTOR.fields_by_name["raw_output_contents"].number
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
# What this server does not do, and must not seem to have done.
_REFUSED = ("sequence_id", "sequence_start", "sequence_end", "shared_memory_region")
# Clients repeat themselves: what messages have in common is read and written once, for this many
# messages up to this length.
_MAX_CACHED, _MAX_CACHED_BYTES = 1024, 1024


class _Plan(NamedTuple):
    """What a request asks for, apart from its tensors and its id.

    Attributes:
        inputs: name, datatype and shape of each input.
        outputs: the outputs to return.
        is_raw: whether the tensors of the response are raw bytes: those of the request are, or its
            parameter `binary_data_output` is true.
    """

    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[SelectedOutput, ...]
    is_raw: bool


class InferMessages:
    """Reads the requests for one model and writes its responses."""

    def __init__(self, model: OpenInference, max_rows: int) -> None:
        """Make a reader for a model; requests have at most `max_rows` samples."""
        self._model = model
        self._max_rows = max_rows
        self._plans: dict[bytes, _Plan] = {}
        self._heads: dict[tuple[Any, ...], bytes] = {}

    def read(self, request: Any) -> tuple[Inference, bool]:
        """Read a request; it is changed.

        Returns:
            The request, and whether the tensors of its response are raw bytes.

        Raises:
            RequestError: the request violates the protocol, or does not fit the model.
        """
        raw: list[bytes] = list(request.raw_input_contents)
        if not raw:
            plan = self._make_plan(request, is_raw=False)
            read = zip(plan.inputs, request.inputs, strict=True)
            arrays = {one[0]: _read_contents(*one, tensor.contents) for one, tensor in read}
            return Inference(arrays, plan.outputs, request.id), plan.is_raw
        identity = request.id
        request.ClearField("raw_input_contents")
        request.ClearField("id")
        plan = self._find_plan(request)
        if len(raw) != len(plan.inputs):
            raise RequestError(
                f"raw_input_contents must have a tensor for each of {len(plan.inputs)} inputs. "
                f"Received: {len(raw)}."
            )
        arrays = {
            name: from_binary(name, datatype, shape, memoryview(content))
            for (name, datatype, shape), content in zip(plan.inputs, raw, strict=True)
        }
        return Inference(arrays, plan.outputs, identity), plan.is_raw

    def _find_plan(self, request: Any) -> _Plan:
        key = request.SerializeToString()
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make_plan(request, is_raw=True)
            if len(self._plans) < _MAX_CACHED and len(key) <= _MAX_CACHED_BYTES:
                self._plans[key] = plan
        return plan

    def _make_plan(self, request: Any, is_raw: bool) -> _Plan:
        given = request.inputs
        shapes = {}
        for tensor in given:
            shape = tuple(tensor.shape)
            self._model.check_input(tensor, shape, given)
            check_rows(shape[0], self._max_rows)
            _read_parameters(tensor.parameters)
            if is_raw and tensor.HasField("contents"):
                raise RequestError(
                    f"{tensor.name} must have raw_input_contents or contents. Received: both."
                )
            shapes[tensor.name] = shape
        self._model.check_names(shapes, given)
        check_batch_sizes({name: range(shape[0]) for name, shape in shapes.items()})
        wanted = [
            RequestOutput(one.name, _read_parameters(one.parameters)) for one in request.outputs
        ]
        has_raw = _read_parameters(request.parameters).get(_RAW) is True or is_raw
        inputs = tuple((one.name, one.datatype, shapes[one.name]) for one in given)
        return _Plan(inputs, self._model.select(wanted), has_raw)

    def write(self, inference: Inference, is_raw: bool, arrays: Sequence[np.ndarray]) -> bytes:
        """Return the response, serialized.

        Args:
            inference: the request.
            is_raw: whether its tensors are raw bytes.
            arrays: every output of the model, in the manifest's order.
        """
        tensors = list(self._model.tensors(inference, arrays))
        if not is_raw:
            return self._write_typed(inference, tensors)
        # Messages are merged by joining their bytes: Protocol Buffers, "Encoding".
        parts = [self._head(inference.outputs, tensors)]
        if inference.id:
            parts += bytes_field(_ID, inference.id.encode())
        for _, _, values in tensors:
            parts += bytes_field(_RAW_OUTPUT, to_binary(values))
        return b"".join(parts)

    def _head(
        self, outputs: tuple[SelectedOutput, ...], tensors: Sequence[tuple[str, str, np.ndarray]]
    ) -> bytes:
        """Return the serialized response without its id and its tensors."""
        key = (outputs, *[values.shape for _, _, values in tensors])
        head = self._heads.get(key)
        if head is None:
            head = self._respond(tensors).SerializeToString()
            if len(self._heads) < _MAX_CACHED and len(head) <= _MAX_CACHED_BYTES:
                self._heads[key] = head
        return head

    def _respond(self, tensors: Sequence[tuple[str, str, np.ndarray]]) -> Any:
        response = _Response(model_name=self._model.name, model_version=self._model.version)
        for name, datatype, values in tensors:
            response.outputs.add(name=name, datatype=datatype, shape=values.shape)
        return response

    def _write_typed(
        self, inference: Inference, tensors: Sequence[tuple[str, str, np.ndarray]]
    ) -> bytes:
        response = self._respond(tensors)
        response.id = inference.id
        for output, (_, datatype, values) in zip(response.outputs, tensors, strict=True):
            put_elements(output.contents, _FIELDS[datatype], values)
        content: bytes = response.SerializeToString()
        return content


def _read_contents(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> np.ndarray:
    field = _FIELDS[datatype]
    others = [one.name for one, _ in contents.ListFields() if one.name != field]
    if others:
        raise RequestError(f"{name} of {datatype} must be in {field}. Received: {others[0]}.")
    values, count = getattr(contents, field), math.prod(shape)
    if len(values) != count:
        raise RequestError(
            f"{field} of {name} must have {count} elements for its shape {list(shape)}. "
            f"Received: {len(values)}."
        )
    if datatype == BYTES:
        return from_texts(name, values).reshape(shape)
    return from_numbers(name, datatype, values).reshape(shape)


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
