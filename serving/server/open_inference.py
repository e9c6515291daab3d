"""Inference requests and responses of the Open Inference Protocol v2.

With Triton's extensions for binary tensors and classification. Source: Open Inference Protocol,
REST, "Inference"; Triton, "Binary Tensor Data Extension" and "Classification Extension".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np

from ..manifest import Manifest, TensorSpec
from .errors import RequestError
from .json_tokens import decode_json
from .tensors import (
    BYTES,
    check_batch_sizes,
    check_datatype,
    check_shape,
    classify,
    datatype_of,
    from_binary,
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


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[_Size]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)


class _Request(msgspec.Struct, gc=False):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    outputs: list[_Output] = msgspec.field(default_factory=list)


_DECODER = msgspec.json.Decoder(_Request)
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class AskedOutput:
    """How one output is wanted.

    Attributes:
        place: of the output in the manifest.
        is_binary: as raw bytes behind the JSON.
        classes: how many of the best classes, as texts; 0 for the numbers.
    """

    place: int
    is_binary: bool = False
    classes: int = 0


@dataclass(frozen=True)
class Inference:
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
        self._inputs = {spec.name: spec for spec in manifest.inputs}
        self._places = {spec.name: place for place, spec in enumerate(manifest.outputs)}
        self._all = tuple(AskedOutput(place) for place in self._places.values())
        self._all_binary = tuple(AskedOutput(place, True) for place in self._places.values())

    def read(self, body: bytes, json_length: int | None = None) -> Inference:
        """Read a request.

        Args:
            body: JSON, and behind it the binary tensors.
            json_length: of the JSON; None if there is nothing else; 0 if there is none and the
                body is the one input of one sample.

        Raises:
            RequestError: the body is not as the protocol says, or not what the model takes.
        """
        if json_length == 0:
            return self._read_raw(body)
        if json_length is not None and not 0 < json_length <= len(body):
            raise RequestError(
                f"{JSON_LENGTH} must be at most the length of the body, {len(body)}. "
                f"Received: {json_length}."
            )
        text = body if json_length is None else body[:json_length]
        request = decode_json(_DECODER, text, "an inference request")
        tail = memoryview(body)[json_length if json_length is not None else len(body) :]
        return Inference(
            self._read_inputs(request.inputs, tail), self._read_outputs(request), request.id
        )

    def _read_inputs(self, given: Sequence[_Input], tail: memoryview) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        place = 0
        for tensor in given:
            if tensor.name not in self._inputs or tensor.name in arrays:
                raise self._wrong_names([tensor.name for tensor in given])
            spec = self._inputs[tensor.name]
            check_datatype(tensor.name, tensor.datatype, datatype_of(spec.dtype))
            check_shape(tensor.name, tensor.shape, spec.shape)
            size = tensor.parameters.get("binary_data_size")
            if size is None:
                arrays[tensor.name] = from_json(
                    tensor.name, tensor.datatype, tensor.shape, tensor.data
                )
                continue
            if type(size) is not int or not 0 <= size <= len(tail) - place:
                raise RequestError(
                    f"binary_data_size of {tensor.name} must be at most the {len(tail) - place} "
                    f"bytes that are left of the body. Received: {size!r:.40}."
                )
            content = tail[place : place + size]
            arrays[tensor.name] = from_binary(tensor.name, tensor.datatype, tensor.shape, content)
            place += size
        if len(arrays) != len(self._inputs):
            raise self._wrong_names(list(arrays))
        if place != len(tail):
            raise RequestError(
                f"The body must end with its last tensor. Received: {len(tail) - place} bytes more."
            )
        check_batch_sizes(arrays)
        return arrays

    def _wrong_names(self, names: Sequence[str]) -> RequestError:
        return RequestError(
            f"Inputs must be {', '.join(self._inputs)}, each once. "
            f"Received: {', '.join(names) or 'none'!s:.80}."
        )

    def _read_raw(self, body: bytes) -> Inference:
        if len(self._inputs) > 1:
            raise RequestError(
                f"A raw body is for models of one input. Received: one for {len(self._inputs)}."
            )
        ((name, spec),) = self._inputs.items()
        shape = [size if isinstance(size, int) else 1 for size in spec.shape]
        datatype = datatype_of(spec.dtype)
        return Inference(
            {name: from_binary(name, datatype, shape, memoryview(body))}, self._all_binary
        )

    def _read_outputs(self, request: _Request) -> tuple[AskedOutput, ...]:
        are_binary = _flag(request.parameters, "binary_data_output")
        if not request.outputs:
            return self._all_binary if are_binary else self._all
        asked = tuple(self._read_output(output, are_binary) for output in request.outputs)
        if len({output.place for output in asked}) < len(asked):
            raise RequestError("Each output must be asked for once. Received: one twice.")
        return asked

    def _read_output(self, output: _Output, are_binary: bool) -> AskedOutput:
        place = self._places.get(output.name)
        if place is None:
            raise RequestError(
                f"Outputs must be among {', '.join(self._places)}. Received: {output.name:.40}."
            )
        classes = output.parameters.get("classification", 0)
        spec = self._manifest.outputs[place]
        if type(classes) is not int or classes < 0 or (classes and not _has_classes(spec)):
            raise RequestError(
                "classification must be a number of classes, of an output of [batch, classes]. "
                f"Received: {classes!r:.40} of {output.name}."
            )
        return AskedOutput(place, _flag(output.parameters, "binary_data", are_binary), classes)

    def write(self, inference: Inference, arrays: Sequence[np.ndarray]) -> tuple[bytes, int | None]:
        """Write a response.

        Args:
            inference: what was asked.
            arrays: every output of the model, in the manifest's order.

        Returns:
            The body, and the length of its JSON if binary tensors follow.
        """
        manifest = self._manifest
        tails: list[bytes] = []
        outputs = [self._write_output(asked, arrays, tails) for asked in inference.outputs]
        response: dict[str, Any] = {
            "model_name": manifest.name,
            "model_version": str(manifest.version),
        }
        if inference.id:
            response["id"] = inference.id
        response["outputs"] = outputs
        body = _ENCODER.encode(response)
        return (b"".join([body, *tails]), len(body)) if tails else (body, None)

    def _write_output(
        self, asked: AskedOutput, arrays: Sequence[np.ndarray], tails: list[bytes]
    ) -> dict[str, Any]:
        spec, values = self._manifest.outputs[asked.place], arrays[asked.place]
        datatype = datatype_of(spec.dtype)
        if asked.classes:
            labels = self._manifest.labels if spec.name == self._manifest.answer else ()
            values, datatype = classify(values, asked.classes, labels), BYTES
        output: dict[str, Any] = {
            "name": spec.name,
            "datatype": datatype,
            "shape": list(values.shape),
        }
        if asked.is_binary:
            tails.append(to_binary(values))
            output["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            output["data"] = to_json(values)
        return output


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
