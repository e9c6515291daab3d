"""Inference requests and responses of the Open Inference Protocol v2.

Includes Triton's extensions for binary tensors and classification. Source: Open Inference Protocol,
REST, "Inference"; Triton, "Binary Tensor Data Extension" and "Classification Extension".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np

from ..decisions import derived_outputs
from ..manifest import Manifest, TensorSpec
from ..row_format import row_format
from .errors import RequestError
from .http import BINARY, Response
from .json_tokens import decode_json
from .long_lists import PART, LongList, cut_lists
from .tensors import (
    BYTES,
    DATATYPES,
    byte_size,
    check_batch_sizes,
    check_datatype,
    check_finite,
    check_rows,
    check_shape,
    classify,
    datatype_of,
    element_type,
    from_binary,
    from_flat,
    from_json,
    row_size,
    to_binary,
    to_json,
    with_data,
)

JSON_LENGTH = "inference-header-content-length"
PLATFORM = "onnx_onnxv1"
EXTENSIONS = (
    "classification",
    "binary_tensor_data",
    "model_configuration",
    "statistics",
    "model_repository",
)


# Bounded, because Python refuses to print numbers of thousands of digits in an error.
Size = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


Datatype = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(DATATYPES)})]
Data = TypeVar("Data")
Parameters = TypeVar("Parameters")
Outputs = TypeVar("Outputs")


class RequestInput(msgspec.Struct, Generic[Data], gc=False):
    """An input tensor; `data` may be nested or flat and row-major."""

    name: str
    shape: list[Size]
    datatype: Datatype
    data: Data | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | None = None


class RequestOutput(msgspec.Struct, gc=False):
    """An output that the client requests."""

    name: str
    parameters: dict[str, Any] | None = None


class InferenceRequest(msgspec.Struct, Generic[Data, Parameters, Outputs], gc=False):
    """An inference request; without `outputs` the response has all outputs of the model."""

    inputs: list[RequestInput[Data]]
    id: str | None = None
    parameters: Parameters | msgspec.UnsetType = msgspec.UNSET
    outputs: Outputs | msgspec.UnsetType = msgspec.UNSET


class ResponseOutput(msgspec.Struct, gc=False, omit_defaults=True):
    """An output tensor; `data` is flat and row-major, and missing if the tensor is binary."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    parameters: dict[str, int] | None = None
    data: list[Any] | None = None


class InferenceResponse(msgspec.Struct, gc=False, omit_defaults=True):
    """The outputs of a model for one request."""

    model_name: str
    model_version: str
    outputs: list[ResponseOutput]
    id: str = ""


# Some clients write null for a field that they leave out.
_Parameters = dict[str, Any] | None
_Outputs = list[RequestOutput] | None
JsonInferenceRequest = InferenceRequest[list[Any], _Parameters, _Outputs]
_DECODER = msgspec.json.Decoder(InferenceRequest[msgspec.Raw, msgspec.Raw, msgspec.Raw])
_PARAMETERS = msgspec.json.Decoder(_Parameters)
_OUTPUTS = msgspec.json.Decoder(_Outputs)
_ENCODER = msgspec.json.Encoder()
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_DATA_DEPTH = (3,)  # brackets around the data of a tensor: {"inputs": [{"data": [
# Clients repeat themselves, so that valid shapes and outputs are cached: this many, and texts up to
# this length.
_MAX_CACHED, _MAX_CACHED_BYTES = 1024, 1024


class SelectedOutput(NamedTuple):
    """How one output is returned.

    Attributes:
        place: index of the output in the manifest; those that are computed from the predictions
            come after them.
        is_binary: whether it follows the JSON as raw bytes.
        classes: number of best classes to return as texts; 0 returns the numbers.
    """

    place: int
    is_binary: bool = False
    classes: int = 0


class Inference(NamedTuple):
    """An inference request that was read and checked.

    Attributes:
        arrays: an array for each input by name, all with the same number of samples.
        outputs: the outputs to return.
        id: id of the request; may be empty.
    """

    arrays: dict[str, np.ndarray]
    outputs: tuple[SelectedOutput, ...]
    id: str = ""


class OpenInference:
    """Reads the requests for one model and writes its responses.

    Attributes:
        name: name of the model.
        version: version of the model.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.name = manifest.name
        self.version = str(manifest.version)
        self._inputs = {spec.name: spec for spec in manifest.inputs}
        self._row_size = max(row_size(spec) for spec in manifest.inputs)
        self._outputs = [(spec.name, datatype_of(spec.dtype)) for spec in manifest.outputs]
        self._all = tuple(SelectedOutput(place) for place in range(len(self._outputs)))
        self._all_binary = tuple(SelectedOutput(place, True) for place in range(len(self._outputs)))
        derived = derived_outputs(manifest)
        self._outputs += [(name, datatype_of(one.dtype)) for name, one in derived.items()]
        self._compute = [one.compute for one in derived.values()]
        self._places = {name: place for place, (name, _) in enumerate(self._outputs)}
        self._decoder = _decoder([spec.dtype for spec in manifest.inputs])
        self._valid: set[tuple[str | int, ...]] = set()
        self._selected: dict[tuple[bytes, bytes], tuple[SelectedOutput, ...]] = {}

    def read(
        self, body: bytes, json_length: int | None = None, max_rows: int | None = None
    ) -> Inference:
        """Read a request.

        Args:
            body: JSON, followed by the binary tensors.
            json_length: length of the JSON in bytes; None if there are no binary tensors; 0 if the
                body is the raw input of one sample.
            max_rows: largest number of samples. Given for a long body, which is read part by part;
                None for a short one.

        Raises:
            RequestError: the body violates the protocol, or does not fit the model.
        """
        if json_length is None:
            text, tail = body, memoryview(b"")
        elif json_length == 0:
            return self._read_raw(body)
        elif json_length <= len(body):
            text, tail = body[:json_length], memoryview(body)[json_length:]
        else:
            raise RequestError(
                f"{JSON_LENGTH} must be at most the length of the body, {len(body)}. "
                f"Received: {json_length}."
            )
        lists: dict[bytes, LongList] = {}
        if max_rows is None or len(text) <= PART:
            request = self._decode(text)
        else:
            text, lists = cut_lists(text, _DATA_DEPTH, max_rows * self._row_size)
            request = _decode_without_data(text)
        arrays = self._read_inputs(request.inputs, tail, max_rows, lists)
        return Inference(
            arrays, self._read_outputs(request.outputs, request.parameters), request.id or ""
        )

    def _decode(self, text: bytes) -> Any:
        """Decode flat data at once (the common case), or leave the data as text for `from_json`."""
        try:
            return self._decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):  # or an error, which this explains
            return _decode_without_data(text)

    def _read_inputs(
        self,
        given: Sequence[RequestInput[Any]],
        tail: memoryview,
        max_rows: int | None,
        lists: Mapping[bytes, LongList],
    ) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        place = 0
        for tensor in given:
            name, datatype, shape = tensor.name, tensor.datatype, tensor.shape
            if (name, datatype, *shape) not in self._valid:
                self.check_input(tensor, shape, given)
            if max_rows is not None:
                check_rows(shape[0], max_rows)
            size = _binary_size(name, tensor.parameters) if tensor.parameters else None
            if size is None:
                data: Any = tensor.data
                read = from_flat if type(data) is list else from_json
                data = lists.get(bytes(data or b""), data) if lists else data
                arrays[name] = read(name, datatype, shape, data)
                continue
            if type(size) is not int or not 0 <= size <= len(tail) - place:
                raise RequestError(
                    f"binary_data_size of {name} must be at most {len(tail) - place}, the rest of "
                    f"the body. Received: {size!r:.40}."
                )
            arrays[name] = from_binary(name, datatype, shape, tail[place : place + size])
            place += size
        self.check_names(arrays, given)
        if place != len(tail):
            raise RequestError(
                f"The body must end with its last tensor. Received: {len(tail) - place} more bytes."
            )
        if len(arrays) > 1:
            check_batch_sizes(arrays)
        return arrays

    def check_input(self, tensor: Any, shape: Sequence[int], given: Sequence[Any]) -> None:
        """Raise `RequestError` unless the name, datatype and shape of one input fit the model.

        Args:
            tensor: has `name` and `datatype`.
            shape: its shape.
            given: all inputs of the request, for the error.
        """
        key = (tensor.name, tensor.datatype, *shape)
        if key in self._valid:
            return
        if tensor.name not in self._inputs:
            raise self._wrong_names(given)
        spec = self._inputs[tensor.name]
        check_datatype(tensor.name, tensor.datatype, datatype_of(spec.dtype))
        check_shape(tensor.name, shape, spec.shape)
        if len(self._valid) < _MAX_CACHED:
            self._valid.add(key)

    def check_names(self, arrays: Mapping[str, Any], given: Sequence[Any]) -> None:
        """Raise `RequestError` unless the request has each input once."""
        if not len(arrays) == len(given) == len(self._inputs):
            raise self._wrong_names(given)

    def _wrong_names(self, given: Sequence[Any]) -> RequestError:
        names = ", ".join(tensor.name for tensor in given) or "none"
        return RequestError(
            f"Inputs must be {', '.join(self._inputs)}, each once. Received: {names:.80}."
        )

    def _read_raw(self, body: bytes) -> Inference:
        if len(self._inputs) > 1:
            raise RequestError(
                "A raw body needs a model with one input. "
                f"Received: a model with {len(self._inputs)} inputs."
            )
        ((name, spec),) = self._inputs.items()
        datatype = datatype_of(spec.dtype)
        # As in Triton: one sample, whose variable axis follows from the number of bytes.
        shape = [size if isinstance(size, int) else 1 for size in spec.shape]
        variable = [n for n, size in enumerate(spec.shape) if n and isinstance(size, str)]
        if len(variable) == 1 and datatype != BYTES:
            shape[variable[0]] = len(body) // byte_size(datatype, shape)
        check_shape(name, shape, spec.shape)
        return Inference(
            {name: from_binary(name, datatype, shape, memoryview(body))}, self._all_binary
        )

    def _read_outputs(self, outputs: Any, parameters: Any) -> tuple[SelectedOutput, ...]:
        key = (bytes(outputs or b"null"), bytes(parameters or b"null"))
        selected = self._selected.get(key)
        if selected is not None:
            return selected
        wanted = decode_json(_PARAMETERS, key[1], "an inference request") or {}
        _refuse_sequence(wanted)
        are_binary = _flag(wanted, "binary_data_output")
        given = decode_json(_OUTPUTS, key[0], "an inference request") or []
        selected = self.select(given, are_binary)
        if len(self._selected) < _MAX_CACHED and sum(map(len, key)) <= _MAX_CACHED_BYTES:
            self._selected[key] = selected
        return selected

    def select(
        self, outputs: Sequence[RequestOutput], are_binary: bool = False
    ) -> tuple[SelectedOutput, ...]:
        """Return the outputs that a request asks for; all of the graph's if it names none.

        Raises:
            RequestError: there is no such output, or it is not what the parameters need.
        """
        selected = tuple(self._read_output(output, are_binary) for output in outputs)
        if len({output.place for output in selected}) < len(selected):
            raise RequestError("Each output must be requested once. Received: one twice.")
        return selected or (self._all_binary if are_binary else self._all)

    def _read_output(self, output: RequestOutput, are_binary: bool) -> SelectedOutput:
        place = self._places.get(output.name)
        if place is None:
            raise RequestError(
                f"Outputs must be among {', '.join(self._places)}. Received: {output.name:.40}."
            )
        parameters = output.parameters or {}
        _refuse_shared_memory(output.name, parameters)
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0 or (classes and not self._has_classes(place)):
            raise RequestError(
                "classification must be a number of classes, for an output [batch, classes]. "
                f"Received: {classes!r:.40} for {output.name}."
            )
        return SelectedOutput(place, _flag(parameters, "binary_data", are_binary), classes)

    def write(
        self, inference: Inference, arrays: Sequence[np.ndarray], is_long: bool = False
    ) -> Response:
        """Write a response.

        Args:
            inference: the request.
            arrays: every output of the model, in the manifest's order.
            is_long: whether it is written part by part.

        Raises:
            RequestError: JSON cannot hold an output, since it has NaN or infinity.
        """
        outputs: list[ResponseOutput] = []
        written: dict[str, np.ndarray] = {}  # as JSON
        tails: list[bytes] = []
        for selected in inference.outputs:
            name, datatype, values = self._tensor(selected, arrays)
            if selected.is_binary:
                tails.append(to_binary(values))
                size = {"binary_data_size": len(tails[-1])}
                outputs.append(ResponseOutput(name, datatype, values.shape, size))
            else:
                written[name] = values
                data = [] if is_long else to_json(values)
                outputs.append(ResponseOutput(name, datatype, values.shape, data=data))
        text = _ENCODER.encode(InferenceResponse(self.name, self.version, outputs, inference.id))
        if written and (is_long or b"null" in text):
            check_finite(written)
        parts = with_data(text, written.values()) if is_long else [text]
        if not tails:
            return Response(parts[0], more=parts[1:])
        length = (JSON_LENGTH, str(sum(map(len, parts))))
        first, *more = [*parts, *tails] if is_long else [b"".join([text, *tails])]
        return Response(first, media_type=BINARY, headers=[length], more=more)

    def tensors(
        self, inference: Inference, arrays: Sequence[np.ndarray]
    ) -> Iterator[tuple[str, str, np.ndarray]]:
        """Yield the name, the datatype and the array of each output that a request asks for.

        Args:
            inference: the request.
            arrays: every output of the model, in the manifest's order.
        """
        for selected in inference.outputs:
            yield self._tensor(selected, arrays)

    def _tensor(
        self, selected: SelectedOutput, arrays: Sequence[np.ndarray]
    ) -> tuple[str, str, np.ndarray]:
        place, _, classes = selected
        values = self._array(place, arrays)
        name, datatype = self._outputs[place]
        if classes:
            labels = self._manifest.labels if name == self._manifest.prediction_output else ()
            values, datatype = classify(values, classes, labels), BYTES
        return name, datatype, values

    def _array(self, place: int, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Return an output of the graph, or one that is computed from its predictions."""
        if place < len(arrays):
            return arrays[place]
        predictions = arrays[self._places[str(self._manifest.prediction_output)]]
        return self._compute[place - len(arrays)](predictions)

    def _has_classes(self, place: int) -> bool:
        """Return whether an output of the graph has a number for each class."""
        if place >= len(self._manifest.outputs):
            return False
        spec = self._manifest.outputs[place]
        return len(spec.shape) == 2 and spec.dtype != "string"


def _decode_without_data(text: bytes) -> Any:
    """Decode a request except for its data, which stays text for `from_json`."""
    return decode_json(_DECODER, text, "an inference request")


def _decoder(dtypes: Sequence[str]) -> msgspec.json.Decoder[Any]:
    """Return the decoder of flat data; of any data if the inputs have several element types."""
    types = [element_type(datatype_of(dtype)) for dtype in dtypes]
    if any(one != types[0] for one in types):
        return _DECODER
    return msgspec.json.Decoder(InferenceRequest[list[types[0]], msgspec.Raw, msgspec.Raw])  # type: ignore[valid-type]


def describe_model(manifest: Manifest, versions: Sequence[int]) -> dict[str, Any]:
    """Return a model's metadata.

    What the protocol has no field for are its `parameters`: `columns`, the name and kind of each
    column of a table that the model needs, and the unit of one that has a unit; and `labels`.
    """
    parameters: dict[str, Any] = {"labels": list(manifest.labels)} if manifest.labels else {}
    if manifest.columns or manifest.string_columns:
        found = row_format(manifest).columns
        parameters["columns"] = [
            {"name": one.name, "kind": one.kind} | ({"unit": one.unit} if one.unit else {})
            for one in found
        ]
    return {
        "name": manifest.name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORM,
        "inputs": [_describe(spec) for spec in manifest.inputs],
        "outputs": [_describe(spec) for spec in manifest.outputs],
        **({"parameters": parameters} if parameters else {}),
    }


def _describe(spec: TensorSpec) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": shape}


def _binary_size(name: str, parameters: Mapping[str, Any]) -> Any:
    _refuse_shared_memory(name, parameters)
    return parameters.get("binary_data_size")


def _refuse_shared_memory(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise `RequestError` if a tensor is in shared memory, where this server does not look."""
    if "shared_memory_region" in parameters:
        raise RequestError(
            f"{name} must be in the body. Received: shared_memory_region, which is not supported."
        )


def _refuse_sequence(parameters: Mapping[str, Any]) -> None:
    """Raise `RequestError` if a request is one of a sequence: no model has a state."""
    given = next((name for name in _SEQUENCE if parameters.get(name)), None)
    if given is not None:
        raise RequestError(
            f"Requests must not depend on each other. Received: {given}, which is not supported."
        )


def _flag(parameters: dict[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false. Received: {value!r:.40}.")
    return value
