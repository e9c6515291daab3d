"""Checks the weights that an ONNX file keeps in another file. Does not need the onnx package.

ONNX Runtime would read them from wherever the file says, without any checksum.
Source: onnx/onnx.proto, the messages that can hold a TensorProto, and docs/ExternalData.md.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from .errors import ManifestError, cannot_read
from .tensor_proto import BITS, Message, read_fields, read_numbers

# For each message, the fields that hold other messages.
_INNER = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
# Fields of TensorProto.
_DIMS, _DATA_TYPE, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 13, 14
_EXTERNAL = {_EXTERNAL_DATA, _DATA_LOCATION}
_MAX_DEPTH = 50


def refuse_external_data(model: Message) -> None:
    """Check that an ONNX file holds all of its weights.

    Args:
        model: bytes of the file.

    Raises:
        ManifestError: a tensor's data is in another file, or the bytes are not an ONNX file.
    """
    for _ in _external_tensors("model", model, 0):
        raise ManifestError(
            "An ONNX file must hold all of its weights. Received: a tensor whose data is "
            "in another file."
        )


def check_external_data(model: Message, weights: Path) -> bool:
    """Check that what an ONNX file keeps elsewhere is a part of one file beside it.

    Args:
        model: bytes of the ONNX file.
        weights: the file that may hold weights, in the folder of the ONNX file. It must be a
            regular file, without links.

    Returns:
        Whether any weights are there.

    Raises:
        ManifestError: a tensor's data is in another place or reaches beyond the file, or the bytes
            are not an ONNX file.
    """
    found = False
    for tensor in _external_tensors("model", model, 0):
        location, offset, length = _place_of(tensor)
        if location != weights.name:
            raise ManifestError(
                f"Weights outside of the ONNX file must be in {weights.name} beside it. "
                f"Received: {location!r:.120}."
            )
        needed, size = _bytes_of(tensor), _size_of(weights)
        if length != needed or offset + length > size:
            raise ManifestError(
                f"A tensor of {needed} bytes must lie within the {size} bytes of {weights}. "
                f"Received: {length} bytes from byte {offset} on."
            )
        found = True
    return found


def _size_of(weights: Path) -> int:
    try:
        if weights.is_symlink() or not weights.is_file():
            weights.stat()
            raise ManifestError(f"{weights} must be a regular file. Received: another kind.")
        return weights.stat().st_size
    except OSError as error:
        raise ManifestError(cannot_read(weights, error)) from None


def _external_tensors(kind: str, message: Message, depth: int) -> Iterator[Message]:
    """Yield the tensors whose data is elsewhere."""
    if depth > _MAX_DEPTH:
        raise ManifestError(
            f"An ONNX file must be nested at most {_MAX_DEPTH} deep. Received: more."
        )
    inner = _INNER.get(kind, {})
    for field, value in read_fields(message):
        if kind == "tensor" and field in _EXTERNAL and value:
            yield message
            return
        if field in inner and not isinstance(value, int):
            yield from _external_tensors(inner[field], value, depth + 1)


def _place_of(tensor: Message) -> tuple[str, int, int]:
    """Return the location, the offset and the length that a tensor states."""
    entries: dict[str, str] = {}
    for field, value in read_fields(tensor):
        if field == _EXTERNAL_DATA and not isinstance(value, int):
            pair = {key: _text(item) for key, item in read_fields(value)}
            key = pair.get(1, "")
            if key in entries:
                raise ManifestError(f"A tensor must state its {key!r:.40} once. Received: twice.")
            entries[key] = pair.get(2, "")
    numbers = [entries.get(key, default) for key, default in (("offset", "0"), ("length", ""))]
    if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
        raise ManifestError(
            "A tensor in another file must state its length, and its offset as a number. "
            f"Received: {entries!r:.160}."
        )
    offset, length = map(int, numbers)
    return entries.get("location", ""), offset, length


def _text(value: int | Message) -> str:
    return "" if isinstance(value, int) else bytes(value).decode("utf-8", "replace")


def _bytes_of(tensor: Message) -> int:
    """Return how many bytes the data of a tensor takes."""
    shape: list[int] = []
    code = 0
    for field, value in read_fields(tensor):
        if field == _DIMS:
            shape += read_numbers(value)
        elif field == _DATA_TYPE and isinstance(value, int):
            code = value
    if code not in BITS or any(not 0 <= size < 2**48 for size in shape):
        raise ManifestError(
            "A tensor in another file must hold numbers and have a size. "
            f"Received: data_type={code}, shape={tuple(shape)!s:.80}."
        )
    return -(-math.prod(shape) * BITS[code] // 8)
