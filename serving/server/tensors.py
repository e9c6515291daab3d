"""Tensors as the Open Inference Protocol v2 writes them, in JSON and in binary, and as arrays.

Source: Open Inference Protocol, REST, "Tensor Data Types"; Triton, "Binary Tensor Data Extension".
"""

import math
import re
import struct
from array import array as typed_array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from ..manifest import TensorSpec
from .errors import RequestError

BYTES = "BYTES"
_DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "FP32": "float32",
    "FP64": "float64",
    BYTES: "string",
}
_DATATYPES = {dtype: datatype for datatype, dtype in _DTYPES.items()}
_FLOATS = {"FP32": "f", "FP64": "d"}
# Of raw elements, which are little-endian; made from texts, since numpy's own are the same objects
# on a machine that is so too, and the Predictor is faster with these.
_RAW: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype("u1"),
    "INT8": np.dtype("i1"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_NESTED = re.compile(rb"\s*\[\s*\[")
# Bytes of data: what is shorter needs little memory whatever it holds.
_LONG = 1_000_000


class _Base64(msgspec.Struct):
    """Bytes as TF Serving writes them."""

    b64: bytes


def datatype_of(dtype: str) -> str:
    """Return the protocol's name of a dtype of the manifest."""
    return _DATATYPES[dtype]


def check_datatype(name: str, datatype: str, wanted: str) -> None:
    """Raise `RequestError` unless a tensor is of the type that the model takes."""
    if datatype != wanted:
        raise RequestError(f"{name} must have datatype {wanted}. Received: {datatype:.40}.")


def check_batch_sizes(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `RequestError` unless all inputs have the same number of samples."""
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1:
        raise RequestError(f"Inputs must have one batch size. Received: {sorted(counts)}.")


def check_shape(name: str, shape: Sequence[int], wanted: Sequence[int | str]) -> None:
    """Raise `RequestError` unless a shape fits `wanted`, where names fit any size above 0."""
    fits = len(shape) == len(wanted) and all(
        given == size or (isinstance(size, str) and given > 0)
        for given, size in zip(shape, wanted, strict=True)
    )
    if not fits:
        spoken = ", ".join(map(str, wanted))
        raise RequestError(f"{name} must have shape [{spoken}]. Received: {list(shape)!r:.80}.")


def check_rows(rows: int, most: int) -> None:
    """Raise `RequestError` if a request has more samples than `most`."""
    if rows > most:
        raise RequestError(
            f"A request must have at most {most:,} samples. Received: {rows:,}.", 413
        )


def from_json(name: str, datatype: str, shape: Sequence[int], data: bytes) -> np.ndarray:
    """Return the array of nested or flat row-major data; its shape was checked.

    Args:
        name: of the tensor, for errors.
        datatype: of its elements.
        shape: of the tensor.
        data: JSON text.

    Raises:
        RequestError: the data is no list, of another length, or an element is of another type.
    """
    if not data:
        raise RequestError(f"{name} must have data, or binary_data_size. Received: neither.")
    is_nested = _NESTED.match(data) is not None
    _check_count(name, datatype, data, math.prod(shape))
    values = _decode(name, datatype, len(shape) if is_nested else 1, data)
    if is_nested:
        values = _flatten(name, values, shape)
    return from_flat(name, datatype, shape, values)


def from_flat(name: str, datatype: str, shape: Sequence[int], values: list[Any]) -> np.ndarray:
    """Return the array of row-major elements that have the type; its shape was checked.

    Raises:
        RequestError: they are more or fewer, or one is out of the type's range.
    """
    if len(values) != math.prod(shape):
        raise RequestError(
            f"data of {name} must have {math.prod(shape)} elements, as its shape {list(shape)} "
            f"says. Received: {len(values)}."
        )
    return to_array(name, datatype, values).reshape(shape)


def from_nested(
    name: str, spec: TensorSpec, data: bytes, most_rows: int | None = None
) -> np.ndarray:
    """Return the array of data that is nested as deep as `spec` says, its lengths the shape.

    Args:
        name: of the tensor, for errors.
        spec: of the input.
        data: JSON text.
        most_rows: samples that it may have, if not as many as there are.

    Raises:
        RequestError: it is not, or an element is of another type.
    """
    datatype = datatype_of(spec.dtype)
    if most_rows is not None:
        sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
        if len(sizes) == len(spec.shape) - 1:  # else there is no telling how many are too many
            _check_count(name, datatype, data, most_rows * math.prod(sizes))
    values = _decode(name, datatype, len(spec.shape), data)
    shape: list[int] = []
    level: Any = values
    for _ in spec.shape:
        shape.append(len(level))
        level = level[0] if level else []
    check_shape(name, shape, spec.shape)
    return to_array(name, datatype, _flatten(name, values, shape)).reshape(shape)


def _check_count(name: str, datatype: str, data: bytes, most: int) -> None:
    """Refuse long data of too many elements before they are read, which takes ten times its size.

    Of texts, which may hold commas, it says nothing.
    """
    if len(data) > _LONG and datatype != BYTES and bytes(data).count(b",") >= most:
        raise RequestError(f"data of {name} must have at most {most:,} elements. Received: more.")


def _decode(name: str, datatype: str, depth: int, data: bytes) -> list[Any]:
    try:
        return _decoder(datatype, depth).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        mend = (
            ' A text that is missing is "".' if datatype == BYTES and "`null`" in str(error) else ""
        )
        raise RequestError(
            f"data of {name} must hold {datatype}. Received: {error}.{mend}"
        ) from None


def element_type(datatype: str) -> Any:
    """Return what an element is in JSON, as msgspec takes types."""
    # No value, null, is a number that is missing.
    return {
        BYTES: str | _Base64,
        "BOOL": bool,
        "FP32": float | None,
        "FP64": float | None,
    }.get(datatype, int)


@lru_cache(maxsize=64)
def _decoder(datatype: str, depth: int) -> msgspec.json.Decoder[list[Any]]:
    element: Any = element_type(datatype)
    for _ in range(depth):
        element = list[element]
    return msgspec.json.Decoder(element)


def _flatten(name: str, level: list[Any], shape: Sequence[int]) -> list[Any]:
    """Flatten nested lists, of exactly the lengths that the shape says."""
    level = [level]
    for size in shape:
        wrong = next((len(item) for item in level if len(item) != size), None)
        if wrong is not None:
            raise RequestError(
                f"data of {name} must be nested as its shape {list(shape)} says. "
                f"Received: a list of {wrong} where one of {size} belongs."
            )
        level = list(chain.from_iterable(level))
    return level


def to_array(name: str, datatype: str, values: list[Any]) -> np.ndarray:
    """Return an array of elements that have the type, `(elements,)`.

    Raises:
        RequestError: one is out of the type's range.
    """
    try:
        if datatype == "UINT8":  # three times as fast as numpy reads a list
            return np.frombuffer(bytes(values), np.uint8)
        if datatype in _FLOATS:  # as C does it: what is too large is infinite, and refused later
            return np.frombuffer(_floats(_FLOATS[datatype], values), _DTYPES[datatype])
        if datatype == BYTES:
            texts = np.empty(len(values), object)
            texts[:] = [_text(name, value) for value in values]
            return texts
        return np.array(values, _DTYPES[datatype])
    except (ValueError, OverflowError):
        raise RequestError(
            f"Elements of {name} must fit {datatype}. Received: {min(values)} to {max(values)}."
        ) from None


def _floats(code: str, values: list[Any]) -> "typed_array[float]":
    try:
        return typed_array(code, values)
    except TypeError:
        return typed_array(code, [math.nan if value is None else value for value in values])


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value.b64, "utf-8")
    except UnicodeDecodeError:
        raise RequestError(f"Texts of {name} must be UTF-8. Received: other bytes.") from None


def byte_size(datatype: str, shape: Sequence[int]) -> int:
    """Return how many bytes a raw tensor of numbers has."""
    return math.prod(shape) * _raw_dtype(datatype).itemsize


def _raw_dtype(datatype: str) -> np.dtype[Any]:
    # Any byte but 0 and 1 is no bool, and numpy would not say so.
    return _RAW["UINT8" if datatype == "BOOL" else datatype]


def from_binary(name: str, datatype: str, shape: Sequence[int], content: memoryview) -> np.ndarray:
    """Return the array of raw little-endian elements; its shape was checked.

    Raises:
        RequestError: the size is another, or texts are not as their lengths say.
    """
    if datatype == BYTES:
        count = math.prod(shape)
        values = _read_texts(name, count, content)  # first: the count is only what the client says
        texts = np.empty(count, object)
        texts[:] = values
        return texts.reshape(shape)
    size = byte_size(datatype, shape)
    if len(content) != size:
        raise RequestError(
            f"{name} must have {size} bytes, as its shape {list(shape)} and {datatype} say. "
            f"Received: {len(content)}."
        )
    numbers: np.ndarray = np.frombuffer(content, _raw_dtype(datatype)).reshape(shape)
    if not numbers.flags.aligned:  # behind JSON of any length
        numbers = numbers.copy()
    if datatype == "BOOL":
        numbers = numbers != 0
    return numbers.astype(_DTYPES[datatype], copy=False)


def _read_texts(name: str, count: int, content: memoryview) -> list[str]:
    texts: list[str] = []
    place = 0
    for _ in range(count):
        if place + 4 > len(content):
            raise RequestError(f"{name} must have {count} texts. Received: {len(texts)}, cut off.")
        (length,) = struct.unpack_from("<I", content, place)
        place += 4 + length
        if place > len(content):
            raise RequestError(f"{name} must have texts as long as they say. Received: one longer.")
        try:
            texts.append(str(content[place - length : place], "utf-8"))
        except UnicodeDecodeError:
            raise RequestError(f"Texts of {name} must be UTF-8. Received: other bytes.") from None
    if place != len(content):
        raise RequestError(f"{name} must have {count} texts. Received: more bytes than they have.")
    return texts


def to_json(values: np.ndarray) -> list[Any]:
    """Return the elements, flat and row-major."""
    flat: list[Any] = values.ravel().tolist()
    return flat


def to_binary(values: np.ndarray) -> bytes:
    """Return the raw little-endian elements; texts with their lengths before them."""
    if values.dtype == object:
        encoded = [text.encode() for text in values.ravel().tolist()]
        return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def classify(values: np.ndarray, count: int, labels: Sequence[str]) -> np.ndarray:
    """Return the `count` largest of each row as texts `value:index:label`, best first.

    Source: Triton, "Classification Extension".

    Args:
        values: numbers `(batch, classes)`.
        count: how many of each row; no more than there are.
        labels: name of each class; empty where none is known.
    """
    order = np.argsort(-values.astype(np.float64), axis=1, kind="stable")[:, :count]
    texts = np.empty(order.shape, object)
    for row, indices in enumerate(order.tolist()):
        for place, index in enumerate(indices):
            label = f":{labels[index]}" if labels else ""
            texts[row, place] = f"{float(values[row, index]):f}:{index}{label}"
    return texts
