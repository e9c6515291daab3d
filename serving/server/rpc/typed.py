"""Arrays from the repeated fields of messages, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import RequestError
from ..tensors import DATATYPES

# Elements that are converted at once: other threads can run in between.
_AT_ONCE = 100_000


def from_numbers(name: str, datatype: str, values: Sequence[Any]) -> np.ndarray:
    """Return the array `(elements,)` of numbers or truth values.

    Raises:
        RequestError: a number is out of the datatype's range.
    """
    array = np.empty(len(values), DATATYPES[datatype])
    try:
        for start in range(0, len(values), _AT_ONCE):
            array[start : start + _AT_ONCE] = values[start : start + _AT_ONCE]
    except OverflowError:
        raise RequestError(
            f"Elements of {name} must fit {datatype}. Received: {min(values)} to {max(values)}."
        ) from None
    return array


def from_texts(name: str, values: Sequence[bytes]) -> np.ndarray:
    """Return the array `(elements,)` of texts.

    Raises:
        RequestError: a text is not UTF-8.
    """
    texts = np.empty(len(values), object)
    try:
        texts[:] = [str(value, "utf-8") for value in values]
    except UnicodeDecodeError:
        raise RequestError(f"The texts of {name} must be UTF-8. Received: other bytes.") from None
    return texts


def put_numbers(message: Any, field: str, values: np.ndarray) -> None:
    """Append numbers to a repeated field of a message, row-major."""
    if values.dtype.kind != "f":
        getattr(message, field).extend(values.ravel().tolist())
        return
    # A packed field of floats is their bytes: key, length, little-endian elements.
    number = message.DESCRIPTOR.fields_by_name[field].number
    content = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    message.MergeFromString(_varint(number << 3 | 2) + _varint(len(content)) + content)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
