"""Finds weights that an ONNX file keeps in other files. Does not need the onnx package.

ONNX Runtime would read them from the working directory, without any checksum.
Source: onnx/onnx.proto, the messages that can hold a TensorProto.
"""

from .errors import ManifestError
from .tensor_proto import read_fields

# For each message, the fields that hold other messages.
_INNER = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
# TensorProto.external_data and data_location
_EXTERNAL = {13, 14}
_MAX_DEPTH = 50


def refuse_external_data(model: bytes) -> None:
    """Check that an ONNX file holds all of its weights.

    Args:
        model: bytes of the file.

    Raises:
        ManifestError: a tensor's data is in another file, or the bytes are not an ONNX file.
    """
    _walk("model", model, 0)


def _walk(kind: str, message: bytes, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ManifestError(
            f"An ONNX file must be nested at most {_MAX_DEPTH} deep. Received: more."
        )
    inner = _INNER.get(kind, {})
    for field, value in read_fields(message):
        if kind == "tensor" and field in _EXTERNAL and value:
            raise ManifestError(
                "An ONNX file must hold all of its weights. Received: a tensor whose data is "
                "in another file."
            )
        if field in inner and isinstance(value, bytes):
            _walk(inner[field], value, depth + 1)
