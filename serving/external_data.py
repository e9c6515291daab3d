"""Finds weights that an ONNX file keeps elsewhere, without the onnx package.

ONNX Runtime would read them from wherever the process runs, past every checksum.
Source: onnx/onnx.proto, the messages that can hold a TensorProto.
"""

from .errors import ManifestError
from .tensor_proto import read_fields

# By message: which fields hold which messages.
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
_DEEPEST = 50


def refuse_external_data(model: bytes) -> None:
    """Require that an ONNX file is complete in itself.

    Args:
        model: the file's bytes.

    Raises:
        ManifestError: a tensor's data lie in another file, or the bytes are no ONNX file.
    """
    _walk("model", model, 0)


def _walk(kind: str, message: bytes, depth: int) -> None:
    if depth > _DEEPEST:
        raise ManifestError(f"An ONNX file must nest at most {_DEEPEST} deep. Received: more.")
    inner = _INNER.get(kind, {})
    for field, value in read_fields(message):
        if kind == "tensor" and field in _EXTERNAL and value:
            raise ManifestError(
                "An ONNX file must hold all of its weights. Received: a tensor whose data lie "
                "in another file."
            )
        if field in inner and isinstance(value, bytes):
            _walk(inner[field], value, depth + 1)
