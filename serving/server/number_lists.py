"""Reads long lists of numbers, part by part, without an object for each of their lists."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from .errors import RequestError
from .long_lists import PART, LongList, scalar_spans

_BRACKETS = bytes.maketrans(b"[]", b"  ")
_VALUES = bytes(set(range(256)) - set(b"[],"))


def read_numbers(
    name: str, found: LongList, max_elements: int, decode: Callable[[bytes], np.ndarray]
) -> np.ndarray:
    """Return the array of a list of numbers, whose shape follows from its brackets.

    Brackets are compared with those that the first element requires; then they are left out, which
    leaves a flat list.

    Args:
        name: name of the tensor, for errors.
        found: the list.
        max_elements: largest number of elements.
        decode: returns the array `(elements,)` of a flat JSON list.

    Raises:
        RequestError: there are more elements, lists beside each other differ in length, or
            `decode` refuses an element.
    """
    sizes = _inner_sizes(found)
    structure = _structure(sizes) + b","
    tiled = structure * (2 + (PART + 4096) // len(structure))
    arrays: list[np.ndarray] = []
    count = place = 0
    for start, end in scalar_spans(found):
        part = found.text[start:end]
        brackets = part.translate(None, _VALUES)
        if tiled[place : place + len(brackets)] != brackets:
            raise _uneven(name)
        # The comma after this part is one of the structure's, or there is none at the end.
        place = (place + len(brackets)) % len(structure)
        if end < found.span.end - 1:
            if tiled[place] != _COMMA:
                raise _uneven(name)
            place = (place + 1) % len(structure)
        arrays.append(decode(b"[%b]" % part.translate(_BRACKETS)))
        count += len(arrays[-1])
        if count > max_elements:
            raise _too_many(name, max_elements)
        if not len(arrays[-1]):
            raise RequestError(
                f"data of {name} must have a number after each comma. Received: none."
            )
    if place != len(structure) - 1:
        raise _uneven(name)
    return np.concatenate(arrays).reshape(-1, *sizes)


_COMMA = ord(",")


def _inner_sizes(found: LongList) -> list[int]:
    """Return the lengths of the lists inside of the first element, from the outside inward."""
    brackets, end = bytearray(), b"]" * (found.rank - 1)
    for span in scalar_spans(found):
        searched = len(brackets)
        brackets += found.text[span.start : span.end].translate(None, _VALUES) + b","
        if brackets.find(end, max(0, searched - len(end))) >= 0:
            break
    totals = [1]
    for depth in range(1, found.rank):
        first = brackets.find(b"]" * depth)
        totals.append(brackets.count(b",", 0, max(first, 0)) + 1)
    return [inner // outer for outer, inner in pairwise(totals)][::-1]


def _structure(sizes: Sequence[int]) -> bytes:
    """Return the brackets and commas of one element."""
    structure = b""
    for size in reversed(sizes):
        structure = b"[" + (structure + b",") * (size - 1) + structure + b"]"
    return structure


def _uneven(name: str) -> RequestError:
    return RequestError(
        f"data of {name} must have lists of equal lengths beside each other. Received: others."
    )


def _too_many(name: str, max_elements: int) -> RequestError:
    return RequestError(
        f"data of {name} must have at most {max_elements:,} elements. Received: more."
    )
