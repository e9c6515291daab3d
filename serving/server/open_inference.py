"""Inference requests and responses of the Open Inference Protocol v2.

With Triton's extensions for binary tensors and classification. Source: Open Inference Protocol,
REST, "Inference"; Triton, "Binary Tensor Data Extension" and "Classification Extension".
"""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np

from ..manifest import Manifest, TensorSpec
from .errors import RequestError
from .json_tokens import decode_json
from .tensors import (
    BYTES,
    byte_size,
    check_batch_sizes,
    check_datatype,
    check_rows,
    check_shape,
    classify,
    datatype_of,
    element_type,
    from_binary,
    from_flat,
    from_json,
    to_binary,
    to_json,
)

JSON_LENGTH = "inference-header-content-length"
PLATFORM = "onnx_onnxv1"
EXTENSIONS = (
    "classification",
    "binary_tensor_data",
    "model_configuration",
    "statistics",
)


# Python refuses to write numbers of thousands of digits into an error.
_Size = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


Data = TypeVar("Data")


class _Input(msgspec.Struct, Generic[Data], gc=False):
    name: str
    shape: list[_Size]
    datatype: str
    data: Data | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct, Generic[Data], gc=False):
    inputs: list[_Input[Data]]
    id: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    outputs: msgspec.Raw = msgspec.Raw(b"[]")


class _Tensor(msgspec.Struct, gc=False, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, int] | None = None
    data: list[Any] | None = None


class _Response(msgspec.Struct, gc=False, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_Tensor]
    id: str = ""


_DECODER = msgspec.json.Decoder(_Request[msgspec.Raw])
# Null, as some clients write what they leave out, is nothing.
_PARAMETERS = msgspec.json.Decoder(dict[str, Any] | None)
_OUTPUTS = msgspec.json.Decoder(list[_Output] | None)
_ENCODER = msgspec.json.Encoder()
# Clients ask for the same again and again: what was found to be right is kept, so much of it, and
# of texts up to this length.
_MAX_KEPT, _LONGEST_KEPT = 1024, 1024


class AskedOutput(NamedTuple):
    """How one output is wanted.

    Attributes:
        place: of the output in the manifest.
        is_binary: as raw bytes behind the JSON.
        classes: how many of the best classes, as texts; 0 for the numbers.
    """

    place: int
    is_binary: bool = False
    classes: int = 0


class Inference(NamedTuple):
    """An inference request, read and checked.

    Attributes:
        arrays: one for each input, by name, all with the same number of samples.
        outputs: what is wanted.
        id: of the request; may be empty.
    """

    arrays: dict[str, np.ndarray]
    outputs: tuple[AskedOutput, ...]
    id: str = ""


class OpenInference:
    """Reads requests for one model, and writes its answers."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._version = str(manifest.version)
        self._inputs = {spec.name: spec for spec in manifest.inputs}
        self._outputs = [(spec.name, datatype_of(spec.dtype)) for spec in manifest.outputs]
        self._places = {spec.name: place for place, spec in enumerate(manifest.outputs)}
        self._all = tuple(AskedOutput(place) for place in self._places.values())
        self._all_binary = tuple(AskedOutput(place, True) for place in self._places.values())
        self._decoder = _decoder([spec.dtype for spec in manifest.inputs])
        self._fitting: set[tuple[str | int, ...]] = set()
        self._asked: dict[tuple[bytes, bytes], tuple[AskedOutput, ...]] = {}

    def read(
        self, body: bytes, json_length: int | None = None, most_rows: int | None = None
    ) -> Inference:
        """Read a request.

        Args:
            body: JSON, and behind it the binary tensors.
            json_length: of the JSON; None if there is nothing else; 0 if there is none and the
                body is the one input of one sample.
            most_rows: samples that it may have, where it is so long that numbers beyond them must
                not be read into memory; None if it is not.

        Raises:
            RequestError: the body is not as the protocol says, or not what the model takes.
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
        request = self._decode(text) if most_rows is None else _decode_outside(text)
        arrays = self._read_inputs(request.inputs, tail, most_rows)
        return Inference(
            arrays, self._read_outputs(request.outputs, request.parameters), request.id or ""
        )

    def _decode(self, text: bytes) -> Any:
        """Read flat data at once, which most send; else leave data as they are for `from_json`."""
        try:
            return self._decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):  # or a mistake, which this puts in words
            return _decode_outside(text)

    def _read_inputs(
        self, given: Sequence[_Input[Any]], tail: memoryview, most_rows: int | None
    ) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        place = 0
        for tensor in given:
            name, datatype, shape = tensor.name, tensor.datatype, tensor.shape
            if (name, datatype, *shape) not in self._fitting:
                self._check_input(tensor, given)
            if most_rows is not None:
                check_rows(shape[0], most_rows)
            size = tensor.parameters.get("binary_data_size") if tensor.parameters else None
            if size is None:
                data: Any = tensor.data
                read = from_flat if type(data) is list else from_json
                arrays[name] = read(name, datatype, shape, data)
                continue
            if type(size) is not int or not 0 <= size <= len(tail) - place:
                raise RequestError(
                    f"binary_data_size of {name} must be at most the {len(tail) - place} "
                    f"bytes that are left of the body. Received: {size!r:.40}."
                )
            arrays[name] = from_binary(name, datatype, shape, tail[place : place + size])
            place += size
        if not len(arrays) == len(given) == len(self._inputs):
            raise self._wrong_names(given)
        if place != len(tail):
            raise RequestError(
                f"The body must end with its last tensor. Received: {len(tail) - place} bytes more."
            )
        if len(arrays) > 1:
            check_batch_sizes(arrays)
        return arrays

    def _check_input(self, tensor: _Input[Any], given: Sequence[_Input[Any]]) -> None:
        """Raise `RequestError` unless name, type and shape are what the model takes."""
        if tensor.name not in self._inputs:
            raise self._wrong_names(given)
        spec = self._inputs[tensor.name]
        check_datatype(tensor.name, tensor.datatype, datatype_of(spec.dtype))
        check_shape(tensor.name, tensor.shape, spec.shape)
        if len(self._fitting) < _MAX_KEPT:
            self._fitting.add((tensor.name, tensor.datatype, *tensor.shape))

    def _wrong_names(self, given: Sequence[_Input[Any]]) -> RequestError:
        names = ", ".join(tensor.name for tensor in given) or "none"
        return RequestError(
            f"Inputs must be {', '.join(self._inputs)}, each once. Received: {names:.80}."
        )

    def _read_raw(self, body: bytes) -> Inference:
        if len(self._inputs) > 1:
            raise RequestError(
                f"A raw body is for models of one input. Received: one for {len(self._inputs)}."
            )
        ((name, spec),) = self._inputs.items()
        datatype = datatype_of(spec.dtype)
        # As Triton has it: one sample, whose one variable axis follows from the bytes.
        shape = [1, *(size if isinstance(size, int) else 1 for size in spec.shape[1:])]
        variable = [n for n, size in enumerate(spec.shape) if n and isinstance(size, str)]
        if len(variable) == 1 and datatype != BYTES:
            shape[variable[0]] = len(body) // byte_size(datatype, shape)
        check_shape(name, shape, spec.shape)
        return Inference(
            {name: from_binary(name, datatype, shape, memoryview(body))}, self._all_binary
        )

    def _read_outputs(self, outputs: bytes, parameters: bytes) -> tuple[AskedOutput, ...]:
        key = (bytes(outputs), bytes(parameters))
        asked = self._asked.get(key)
        if asked is not None:
            return asked
        wanted = decode_json(_PARAMETERS, key[1], "an inference request") or {}
        are_binary = _flag(wanted, "binary_data_output")
        given = decode_json(_OUTPUTS, key[0], "an inference request") or []
        asked = tuple(self._read_output(output, are_binary) for output in given)
        if len({output.place for output in asked}) < len(asked):
            raise RequestError("Each output must be asked for once. Received: one twice.")
        asked = asked or (self._all_binary if are_binary else self._all)
        if len(self._asked) < _MAX_KEPT and sum(map(len, key)) <= _LONGEST_KEPT:
            self._asked[key] = asked
        return asked

    def _read_output(self, output: _Output, are_binary: bool) -> AskedOutput:
        place = self._places.get(output.name)
        if place is None:
            raise RequestError(
                f"Outputs must be among {', '.join(self._places)}. Received: {output.name:.40}."
            )
        parameters = output.parameters or {}
        classes = parameters.get("classification", 0)
        spec = self._manifest.outputs[place]
        if type(classes) is not int or classes < 0 or (classes and not _has_classes(spec)):
            raise RequestError(
                "classification must be a number of classes, of an output of [batch, classes]. "
                f"Received: {classes!r:.40} of {output.name}."
            )
        return AskedOutput(place, _flag(parameters, "binary_data", are_binary), classes)

    def write(self, inference: Inference, arrays: Sequence[np.ndarray]) -> tuple[bytes, int | None]:
        """Write a response.

        Args:
            inference: what was asked.
            arrays: every output of the model, in the manifest's order.

        Returns:
            The body, and the length of its JSON if binary tensors follow.
        """
        tails: list[bytes] = []
        outputs = [self._write_output(asked, arrays, tails) for asked in inference.outputs]
        response = _Response(self._manifest.name, self._version, outputs, inference.id)
        body = _ENCODER.encode(response)
        return (b"".join([body, *tails]), len(body)) if tails else (body, None)

    def _write_output(
        self, asked: AskedOutput, arrays: Sequence[np.ndarray], tails: list[bytes]
    ) -> _Tensor:
        values = arrays[asked.place]
        name, datatype = self._outputs[asked.place]
        if asked.classes:
            labels = self._manifest.labels if name == self._manifest.prediction_output else ()
            values, datatype = classify(values, asked.classes, labels), BYTES
        if asked.is_binary:
            tails.append(to_binary(values))
            size = {"binary_data_size": len(tails[-1])}
            return _Tensor(name, datatype, values.shape, parameters=size)
        return _Tensor(name, datatype, values.shape, data=to_json(values))


def _decode_outside(text: bytes) -> Any:
    """Read a request but for its data, which stay text for `from_json`."""
    return decode_json(_DECODER, text, "an inference request")


def _decoder(dtypes: Sequence[str]) -> msgspec.json.Decoder[Any]:
    """Return what reads requests whose data are flat; of any if elements are of several types."""
    types = [element_type(datatype_of(dtype)) for dtype in dtypes]
    if any(one != types[0] for one in types):
        return _DECODER
    return msgspec.json.Decoder(_Request[list[types[0]]])  # type: ignore[valid-type]


def describe_model(manifest: Manifest, versions: Sequence[int]) -> dict[str, Any]:
    """Return a model's metadata."""
    return {
        "name": manifest.name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORM,
        "inputs": [_describe(spec) for spec in manifest.inputs],
        "outputs": [_describe(spec) for spec in manifest.outputs],
    }


def _describe(spec: TensorSpec) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": shape}


def _has_classes(spec: TensorSpec) -> bool:
    return len(spec.shape) == 2 and spec.dtype != "string"


def _flag(parameters: dict[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false. Received: {value!r:.40}.")
    return value
