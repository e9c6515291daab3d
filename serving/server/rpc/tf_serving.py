"""TF Serving's prediction service: Predict and GetModelMetadata.

Source: TensorFlow Serving, predict.proto and get_model_metadata.proto; TensorFlow, tensor.proto.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.json_format import ParseDict

from ...manifest import Manifest, TensorSpec
from ..errors import RequestError
from ..open_inference import Inference, OpenInference, RequestOutput
from ..tensors import check_batch_sizes, check_rows, check_shape, datatype_of, from_binary
from ..tf_serving import DTYPES, SIGNATURE, describe_signature
from .messages import POOL, message_class
from .typed import from_numbers, from_texts, put_elements

PredictRequest = message_class("tensorflow.serving.PredictRequest")
MetadataRequest = message_class("tensorflow.serving.GetModelMetadataRequest")
_Response = message_class("tensorflow.serving.PredictResponse")
_MetadataResponse = message_class("tensorflow.serving.GetModelMetadataResponse")
_SignatureDefMap = message_class("tensorflow.serving.SignatureDefMap")
_NUMBERS = POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name
_NAMES = {value.number: name for name, value in _NUMBERS.items()}
# The field of a tensor for each dtype, if its elements are not raw bytes.
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "uint8": "int_val",
    "int8": "int_val",
    "int32": "int_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "string": "string_val",
}
_METADATA = "signature_def"
# Elements of a tensor whose last value is repeated: a few bytes could ask for any number.
_MAX_REPEATED = 16_000_000


def requested_version(spec: Any) -> str | None:
    """Return the version that a ModelSpec names; None for the latest.

    Raises:
        RequestError: it names a label, or another signature.
    """
    if spec.signature_name not in ("", SIGNATURE):
        raise RequestError(
            f"signature_name must be {SIGNATURE}. Received: {spec.signature_name:.40}."
        )
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        raise RequestError(
            f"{spec.name:.80} must have a version of that label. "
            f"Received: {spec.version_label:.40}.",
            404,
        )
    return None if choice is None else str(spec.version.value)


def read_predict(
    manifest: Manifest, model: OpenInference, request: Any, max_rows: int
) -> Inference:
    """Read a predict request; without `output_filter`, it asks for all outputs of the graph.

    Raises:
        RequestError: the request does not fit the model.
    """
    names = [spec.name for spec in manifest.inputs]
    if sorted(request.inputs) != sorted(names):
        received = ", ".join(sorted(request.inputs)) or "none"
        raise RequestError(f"Inputs must be {', '.join(names)}. Received: {received:.80}.")
    arrays = {
        spec.name: _read_tensor(spec, request.inputs[spec.name], max_rows)
        for spec in manifest.inputs
    }
    check_batch_sizes(arrays)
    return Inference(arrays, model.select([RequestOutput(name) for name in request.output_filter]))


def _read_tensor(spec: TensorSpec, tensor: Any, max_rows: int) -> np.ndarray:
    name, datatype = spec.name, datatype_of(spec.dtype)
    if _NAMES.get(tensor.dtype) != DTYPES[spec.dtype]:
        received = _NAMES.get(tensor.dtype, tensor.dtype)
        raise RequestError(f"{name} must have dtype {DTYPES[spec.dtype]}. Received: {received}.")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    check_shape(name, shape, spec.shape)
    check_rows(shape[0], max_rows)
    field = _FIELDS[spec.dtype]
    if tensor.tensor_content and spec.dtype != "string":
        return from_binary(name, datatype, shape, memoryview(tensor.tensor_content))
    values, count = getattr(tensor, field), math.prod(shape)
    if not 0 < len(values) <= count:
        what = field if spec.dtype == "string" else f"tensor_content or {field}"
        raise RequestError(
            f"{name} must have {count} elements in {what} for its shape {shape}. "
            f"Received: {len(values)}."
        )
    is_text = spec.dtype == "string"
    array = from_texts(name, values) if is_text else from_numbers(name, datatype, values)
    return _repeated(name, array, count).reshape(shape)


def _repeated(name: str, array: np.ndarray, count: int) -> np.ndarray:
    """Return the array with its last element repeated, as TensorFlow reads shorter ones."""
    if len(array) == count:
        return array
    if count > _MAX_REPEATED:
        raise RequestError(
            f"{name} must have all of its {count:,} elements. Received: {len(array):,}.", 413
        )
    return np.concatenate([array, np.repeat(array[-1:], count - len(array))])


def write_predict(
    manifest: Manifest, model: OpenInference, inference: Inference, arrays: Sequence[np.ndarray]
) -> bytes:
    """Return the response, serialized; numbers are in typed fields, as TF Serving has them.

    Args:
        manifest: manifest of the model.
        model: reads the outputs.
        inference: the request.
        arrays: every output of the model, in the manifest's order.
    """
    response = _Response()
    _fill_spec(response.model_spec, manifest)
    response.model_spec.signature_name = SIGNATURE
    for name, _, values in model.tensors(inference, arrays):
        tensor = response.outputs[name]
        dtype = "string" if values.dtype == object else values.dtype.name
        tensor.dtype = _NUMBERS[DTYPES[dtype]].number
        for size in values.shape:
            tensor.tensor_shape.dim.add(size=size)
        put_elements(tensor, _FIELDS[dtype], values)
    content: bytes = response.SerializeToString()
    return content


def _fill_spec(spec: Any, manifest: Manifest) -> None:
    spec.name = manifest.name
    spec.version.value = manifest.version


def write_metadata(manifest: Manifest, request: Any) -> bytes:
    """Return the signature of a model, serialized.

    Raises:
        RequestError: another field of the metadata is requested, or none.
    """
    if list(request.metadata_field) != [_METADATA]:
        received = ", ".join(request.metadata_field) or "none"
        raise RequestError(f"metadata_field must be {_METADATA}. Received: {received:.80}.")
    response = _MetadataResponse()
    _fill_spec(response.model_spec, manifest)
    described = describe_signature(manifest)["metadata"][_METADATA]
    metadata = response.metadata[_METADATA]
    metadata.type_url = f"type.googleapis.com/{_SignatureDefMap.DESCRIPTOR.full_name}"
    metadata.value = ParseDict(described, _SignatureDefMap()).SerializeToString()
    content: bytes = response.SerializeToString()
    return content
