"""Arrays from the repeated fields of messages, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import RequestError
from ..tensors import DATATYPES, to_binary
from .messages import bytes_field

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


def put_elements(message: Any, field: str, values: np.ndarray) -> None:
    """Append the elements of an array to a repeated field of a message, row-major."""
    if values.dtype == object:
        getattr(message, field).extend(text.encode() for text in values.ravel().tolist())
    elif values.dtype.kind == "f":  # a packed field of floats is their bytes
        number = message.DESCRIPTOR.fields_by_name[field].number
        message.MergeFromString(b"".join(bytes_field(number, to_binary(values))))
    else:
        getattr(message, field).extend(values.ravel().tolist())
