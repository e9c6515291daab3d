"""Converts tensors of the Open Inference Protocol v2, in JSON and in binary, to and from arrays.

Source: Open Inference Protocol, REST, "Tensor Data Types"; Triton, "Binary Tensor Data Extension".
"""

import math
import re
import struct
from array import array as typed_array
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from ..errors import reason_of
from ..manifest import TensorSpec
from .errors import RequestError
from .json_tokens import decode_leniently
from .long_lists import LongList, too_many
from .number_lists import read_numbers

BYTES = "BYTES"
DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "FP32": "float32",
    "FP64": "float64",
    BYTES: "string",
}
_DATATYPES = {dtype: datatype for datatype, dtype in DATATYPES.items()}
_FLOATS = {"FP32": "f", "FP64": "d"}
# The little-endian dtypes of raw elements. On little-endian machines dtypes made from these texts
# are numpy's own objects, with which the Predictor takes its fast path.
_RAW: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype("u1"),
    "INT8": np.dtype("i1"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_PART_NUMBERS = 8_192
_ENCODER = msgspec.json.Encoder()
_EMPTY = b'"data":[]'
# More than a body can have: the size of samples with variable axes.
_ANY_SIZE = 2**40
_NESTED = re.compile(rb"\s*\[\s*\[")

_SCALE = " Scale images to 0..255, and round them."


class _Base64(msgspec.Struct):
    """Bytes in the form of TF Serving."""

    b64: bytes


def datatype_of(dtype: str) -> str:
    """Return the protocol's datatype for a dtype of the manifest."""
    return _DATATYPES[dtype]


def check_datatype(name: str, datatype: str, wanted: str) -> None:
    """Raise `RequestError` unless a tensor has the datatype that the model takes."""
    if datatype != wanted:
        fix = _SCALE if wanted == "UINT8" and datatype.startswith("FP") else ""
        raise RequestError(f"{name} must have datatype {wanted}. Received: {datatype:.40}.{fix}")


def check_batch_sizes(arrays: Mapping[str, Sized]) -> None:
    """Raise `RequestError` unless all inputs have the same number of samples."""
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1:
        raise RequestError(f"All inputs must have the same batch size. Received: {sorted(counts)}.")


def check_shape(name: str, shape: Sequence[int], wanted: Sequence[int | str]) -> None:
    """Raise `RequestError` unless a shape fits `wanted`; named axes have any size above 0."""
    fits = len(shape) == len(wanted) and all(
        given == size or (isinstance(size, str) and given > 0)
        for given, size in zip(shape, wanted, strict=True)
    )
    if not fits:
        expected = ", ".join(map(str, wanted))
        raise RequestError(f"{name} must have shape [{expected}]. Received: {list(shape)!r:.80}.")


def check_rows(rows: int, max_rows: int) -> None:
    """Raise `RequestError` if a request has too many samples."""
    if rows > max_rows:
        raise RequestError(
            f"A request must have at most {max_rows:,} samples. Received: {rows:,}.", 413
        )


def from_json(name: str, datatype: str, shape: Sequence[int], data: bytes | LongList) -> np.ndarray:
    """Return the array of nested or flat row-major data, whose shape was checked before.

    Args:
        name: name of the tensor, for errors.
        datatype: datatype of its elements.
        shape: shape of the tensor.
        data: JSON text, or a list that was cut out of it.

    Raises:
        RequestError: the data is not a list or has another length, or an element has another type.
    """
    if isinstance(data, LongList):
        array = _read_long(name, datatype, data, math.prod(shape))
        if array.ndim == 1:
            return _reshaped(name, array, shape)
        if array.shape != tuple(shape):
            raise _wrong_nesting(name, shape, f"lists of lengths {list(array.shape)!r:.80}")
        return array
    if not data:
        raise RequestError(f"{name} must have data or binary_data_size. Received: neither.")
    is_nested = _NESTED.match(data) is not None
    values = _decode(name, datatype, len(shape) if is_nested else 1, data)
    if is_nested:
        values = _flatten(name, values, shape)
    return from_flat(name, datatype, shape, values)


def from_flat(name: str, datatype: str, shape: Sequence[int], values: list[Any]) -> np.ndarray:
    """Return the array of row-major elements of the right type; its shape was checked before.

    Raises:
        RequestError: there are more or fewer elements, or one is out of the datatype's range.
    """
    return _reshaped(name, to_array(name, datatype, values), shape)


def _reshaped(name: str, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if len(array) != math.prod(shape):
        raise RequestError(
            f"data of {name} must have {math.prod(shape)} elements for its shape {list(shape)}. "
            f"Received: {len(array)}."
        )
    return array.reshape(shape)


def from_nested(name: str, spec: TensorSpec, data: bytes | LongList, max_rows: int) -> np.ndarray:
    """Return the array of data that is nested as `spec` requires; its lengths give the shape.

    Args:
        name: name of the tensor, for errors.
        spec: spec of the input.
        data: JSON text, or a list that was cut out of it.
        max_rows: largest number of samples.

    Raises:
        RequestError: the data has another shape, or an element has another type.
    """
    datatype = datatype_of(spec.dtype)
    if isinstance(data, LongList):
        array = _read_long(name, datatype, data, max_rows * row_size(spec))
        check_shape(name, array.shape, spec.shape)
        return array
    values = _decode(name, datatype, len(spec.shape), data)
    shape = _lengths(values, len(spec.shape))
    check_shape(name, shape, spec.shape)
    return to_array(name, datatype, _flatten(name, values, shape)).reshape(shape)


def row_size(spec: TensorSpec) -> int:
    """Return the number of elements of a sample; as many as a body can have if it may vary."""
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == len(spec.shape) - 1 else _ANY_SIZE


def _lengths(values: list[Any], depth: int) -> list[int]:
    """Return the lengths of nested lists, of the first at each depth."""
    shape: list[int] = []
    level: Any = values
    for _ in range(depth):
        shape.append(len(level))
        level = level[0] if level else []
    return shape


def _read_long(name: str, datatype: str, found: LongList, max_elements: int) -> np.ndarray:
    """Return the array of a long list, nested as its first element is.

    Raises:
        RequestError: there are more elements, other lists have other lengths, or an element has
            another type.
    """
    if found.elements is None:
        return read_numbers(
            name,
            found,
            max_elements,
            lambda part: to_array(name, datatype, _decode(name, datatype, 1, part)),
        )
    arrays: list[np.ndarray] = []
    count = 0
    for part in found.parts():
        values = _decode(name, datatype, found.rank, part)
        shape = _lengths(values, found.rank)
        if arrays:
            shape[1:] = arrays[0].shape[1:]
        count += math.prod(shape)
        if count > max_elements:
            raise too_many(max_elements)
        arrays.append(to_array(name, datatype, _flatten(name, values, shape)).reshape(shape))
    return np.concatenate(arrays)


def _decode(name: str, datatype: str, depth: int, data: bytes) -> list[Any]:
    try:
        return decode_leniently(_decoder(datatype, depth), data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fix = ' Write a missing text as "".' if datatype == BYTES and "`null`" in str(error) else ""
        fix = _SCALE if datatype == "UINT8" and "got `float`" in str(error) else fix
        raise RequestError(
            f"data of {name} must hold {datatype}: {reason_of(error)}.{fix}"
        ) from None


def element_type(datatype: str) -> Any:
    """Return the type of an element in JSON, for msgspec."""
    # null is a missing number.
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
    """Flatten nested lists whose lengths must be exactly those of the shape."""
    level = [level]
    for size in shape:
        wrong = next((len(item) for item in level if len(item) != size), None)
        if wrong is not None:
            raise _wrong_nesting(name, shape, f"a list of length {wrong} in place of {size}")
        level = list(chain.from_iterable(level))
    return level


def _wrong_nesting(name: str, shape: Sequence[int], received: str) -> RequestError:
    return RequestError(
        f"data of {name} must be nested like its shape {list(shape)}. Received: {received}."
    )


def to_array(name: str, datatype: str, values: list[Any]) -> np.ndarray:
    """Return the array `(elements,)` of elements of the right type.

    Raises:
        RequestError: an element is out of the datatype's range.
    """
    try:
        if datatype == "UINT8":  # three times as fast as numpy reads a list
            return np.frombuffer(bytes(values), np.uint8)
        if datatype in _FLOATS:  # as in C: too large ones become infinite, refused later
            return np.frombuffer(_floats(_FLOATS[datatype], values), DATATYPES[datatype])
        if datatype == BYTES:
            texts = np.empty(len(values), object)
            texts[:] = [_text(name, value) for value in values]
            return texts
        return np.array(values, DATATYPES[datatype])
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
        raise RequestError(f"The texts of {name} must be UTF-8. Received: other bytes.") from None


def byte_size(datatype: str, shape: Sequence[int]) -> int:
    """Return the number of bytes of a raw tensor of numbers."""
    return math.prod(shape) * _raw_dtype(datatype).itemsize


def _raw_dtype(datatype: str) -> np.dtype[Any]:
    # Bools are read as bytes: numpy would accept other bytes than 0 and 1.
    return _RAW["UINT8" if datatype == "BOOL" else datatype]


def from_binary(name: str, datatype: str, shape: Sequence[int], content: memoryview) -> np.ndarray:
    """Return the array of raw little-endian elements; its shape was checked before.

    Raises:
        RequestError: the size does not fit the shape, or the texts do not fit their lengths.
    """
    if datatype == BYTES:
        count = math.prod(shape)
        values = _read_texts(name, count, content)  # first, since the client may declare any count
        texts = np.empty(count, object)
        texts[:] = values
        return texts.reshape(shape)
    size = byte_size(datatype, shape)
    if len(content) != size:
        raise RequestError(
            f"{name} must have {size} bytes for shape {list(shape)} and {datatype}. "
            f"Received: {len(content)}."
        )
    numbers: np.ndarray = np.frombuffer(content, _raw_dtype(datatype)).reshape(shape)
    if not numbers.flags.aligned:  # it follows JSON of any length
        numbers = numbers.copy()
    if datatype == "BOOL":
        numbers = numbers != 0
    return numbers.astype(DATATYPES[datatype], copy=False)


def _read_texts(name: str, count: int, content: memoryview) -> list[str]:
    texts: list[str] = []
    place = 0
    for _ in range(count):
        if place + 4 > len(content):
            raise RequestError(
                f"{name} must have {count} texts. Received: {len(texts)}, truncated."
            )
        (length,) = struct.unpack_from("<I", content, place)
        place += 4 + length
        if place > len(content):
            raise RequestError(
                f"{name} must have texts of the declared lengths. Received: a shorter one."
            )
        try:
            texts.append(str(content[place - length : place], "utf-8"))
        except UnicodeDecodeError:
            raise RequestError(
                f"The texts of {name} must be UTF-8. Received: other bytes."
            ) from None
    if place != len(content):
        raise RequestError(f"{name} must have exactly {count} texts. Received: more bytes.")
    return texts


def to_json(values: np.ndarray) -> list[Any]:
    """Return the elements, flat and row-major."""
    flat: list[Any] = values.ravel().tolist()
    return flat


def json_parts(values: np.ndarray) -> list[bytes]:
    """Return the inside of a long JSON list, as parts of whole rows."""
    size = values.size // max(1, len(values))
    return encoded_parts(len(values), size, lambda rows: values[rows].tolist())


def with_data(text: bytes, arrays: Iterable[np.ndarray]) -> list[bytes]:
    """Return the parts of JSON in which each empty list of `data` has the elements of an array.

    Args:
        text: JSON with a field `data`, an empty list, for each array.
        arrays: arrays of any shape; their elements are written flat and row-major.
    """
    first, *others = text.split(_EMPTY)  # in a text the quotes would be escaped
    parts = [first]
    for values, rest in zip(arrays, others, strict=True):
        parts += [_EMPTY[:-1], *json_parts(values.ravel()), b"]" + rest]
    return parts


def encoded_parts(count: int, size: int, rows: Callable[[slice], list[Any]]) -> list[bytes]:
    """Return the inside of a long JSON list as parts that take about a millisecond each.

    Args:
        count: number of its elements.
        size: numbers in an element.
        rows: returns some of the elements.
    """
    step = max(1, _PART_NUMBERS // max(1, size))
    parts: list[bytes] = []
    for start in range(0, count, step):
        parts += b",", _ENCODER.encode(rows(slice(start, start + step)))[1:-1]
    return parts[1:]


def check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `RequestError` if JSON cannot hold an output, since it has NaN or infinity."""
    for name, values in arrays.items():
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        wrong = values[~np.isfinite(values)][0]
        raise RequestError(
            f"Outputs must be finite to be written as JSON. Received: {wrong} in {name}. "
            "Request it as a binary tensor, which can hold it."
        )


def to_binary(values: np.ndarray) -> bytes:
    """Return the raw little-endian elements; each text is preceded by its length."""
    if values.dtype == object:
        encoded = [text.encode() for text in values.ravel().tolist()]
        return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def classify(values: np.ndarray, count: int, labels: Sequence[str]) -> np.ndarray:
    """Return the largest `count` numbers of each row as texts `value:index:label`, best first.

    Source: Triton, "Classification Extension".

    Args:
        values: numbers `(batch, classes)`.
        count: number of classes to return, at most all of them.
        labels: name of each class; empty if they are unknown.
    """
    order = np.argsort(-values.astype(np.float64), axis=1, kind="stable")[:, :count]
    texts = np.empty(order.shape, object)
    for row, indices in enumerate(order.tolist()):
        for place, index in enumerate(indices):
            label = f":{labels[index]}" if labels else ""
            texts[row, place] = f"{float(values[row, index]):f}:{index}{label}"
    return texts
