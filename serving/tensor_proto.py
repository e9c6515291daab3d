"""Reads ONNX's TensorProto, the format of golden samples. Does not need the onnx package.

Source: onnx/onnx.proto, message TensorProto, and the Protocol Buffers wire format.
"""

import math
from collections.abc import Iterator

import numpy as np

from .errors import ManifestError

# TensorProto.DataType
_DTYPES = {
    1: "f4",
    2: "u1",
    3: "i1",
    4: "u2",
    5: "i2",
    6: "i4",
    7: "i8",
    9: "?",
    10: "f2",
    11: "f8",
}
# Bits of an element of each numeric type; two of 4 bits share a byte.
BITS = {code: 8 * np.dtype(name).itemsize for code, name in _DTYPES.items()} | {
    12: 32, 13: 64, 14: 64, 15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4,
}  # fmt: skip
# A protobuf message. A memoryview is read without copies.
Message = bytes | memoryview

_STRING = 8
_DIMS, _DATA_TYPE, _STRING_DATA, _NAME, _RAW_DATA = 1, 2, 6, 8, 9
_MAX_RANK = 8
_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


def read_tensor(message: bytes) -> tuple[str, np.ndarray]:
    """Return the name and the array of a TensorProto.

    Numbers must be in `raw_data`. Strings become an array of dtype `object`.

    Raises:
        ManifestError: the bytes are not such a message, or the tensor is empty.
    """
    name, code, raw = "", 0, b""
    shape: list[int] = []
    strings: list[str] = []
    for field, value in read_fields(message):
        if field == _DIMS:
            shape += read_numbers(value)
        elif field == _DATA_TYPE and isinstance(value, int):
            code = value
        elif not isinstance(value, int):
            content = bytes(value)
            name = content.decode("utf-8", "replace") if field == _NAME else name
            raw = content if field == _RAW_DATA else raw
            strings += [content.decode("utf-8", "replace")] if field == _STRING_DATA else []
    if code == _STRING:
        return name, _text_array(strings, shape)
    if code not in _DTYPES:
        raise ManifestError(f"A tensor must hold numbers or strings. Received: data_type={code}.")
    dtype = np.dtype(_DTYPES[code]).newbyteorder("<")
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ManifestError(
            f"A tensor of {dtype.name} {tuple(shape)} must have "
            f"{math.prod(shape) * dtype.itemsize} bytes of raw_data. Received: {len(raw)}."
        )
    if not raw or len(shape) > _MAX_RANK:
        raise ManifestError(
            f"A tensor must have elements and at most {_MAX_RANK} axes. "
            f"Received: shape={tuple(shape)!s:.80}."
        )
    return name, np.frombuffer(raw, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _text_array(strings: list[str], shape: list[int]) -> np.ndarray:
    if not strings or math.prod(shape) != len(strings) or len(shape) > _MAX_RANK:
        raise ManifestError(
            "A tensor of strings must have elements that fill its shape. "
            f"Received: {len(strings)} for shape={tuple(shape)!s:.80}."
        )
    return np.array(strings, object).reshape(shape)


def read_numbers(value: int | Message) -> list[int]:
    """Return the numbers of a repeated field, which may be packed."""
    return [value] if isinstance(value, int) else list(_varints(value))


def read_fields(message: Message) -> Iterator[tuple[int, int | Message]]:
    """Yield the number and the value of each field of a protobuf message, in order.

    Raises:
        ManifestError: the bytes are not a protobuf message.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        field, wire_type = key >> 3, key & 7
        # A reader of 32-bit keys would read another field.
        if not 0 < field < 2**29:
            raise ManifestError(f"The bytes must be a protobuf message. Received: field {field}.")
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield field, value
            continue
        if wire_type == _LENGTH_DELIMITED:
            length, position = _varint(message, position)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise ManifestError(
                f"The bytes must be a protobuf message. Received: wire type {wire_type}."
            )
        if position + length > len(message):
            raise ManifestError(
                "The bytes must be a complete protobuf message. Received: a truncated one."
            )
        yield field, message[position : position + length]
        position += length


def _varints(packed: Message) -> Iterator[int]:
    position = 0
    while position < len(packed):
        value, position = _varint(packed, position)
        yield value


def _varint(message: Message, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(message):
            raise ManifestError(
                "The bytes must be a complete protobuf message. Received: a truncated one."
            )
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ManifestError("The bytes must be a protobuf message. Received: a number over 64 bits.")
