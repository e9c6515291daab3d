"""Cuts the long lists out of a long JSON body, so that they are read part by part.

A decoder holds Python's interpreter until it has read all of its text, and makes an object of every
element: of 12 million empty lists, which are 35 kilobytes of gzip, in ten seconds a gigabyte. Here
texts are only searched, a window at a time. What is left of a body without its lists is short.
"""

import re
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .errors import RequestError

# Bytes of JSON that are decoded at once: takes about a millisecond.
PART = 65_536
# Bytes of a body without its long lists.
_MAX_REST = 200_000
_MIN_LIST = 4_096  # shorter ones stay in the rest
_MAX_RANK = 64
# Possessive quantifiers: no text takes more than one pass.
_OPENING = re.compile(rb"(?:\[\s*+){1,65}+")
_TOKEN = re.compile(rb'[\[\]{},"]')
_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_OBJECT = re.compile(rb"\[\s*+\{")
_END_WINDOW = 2048  # whitespace between the brackets at the end of a list
# Clients cannot know this text, so that no text of theirs is taken for a list.
_MARK = f"{secrets.token_hex(8)}-"


class Span(NamedTuple):
    """A part of a list: some of its elements, with the commas between them."""

    start: int
    end: int


@dataclass(frozen=True)
class LongList:
    """A list in the text of a body.

    Attributes:
        text: the body.
        span: the list, from its first bracket to its last.
        rank: number of brackets before the first element that is not a list.
        elements: parts of whole elements; None if the list has nothing but numbers, truth values
            and null, which may be cut at any comma.
    """

    text: bytes
    span: Span
    rank: int
    elements: tuple[Span, ...] | None

    def parts(self) -> Iterator[bytes]:
        """Return the elements as JSON lists of about `PART` bytes.

        A list of lists of numbers must be read by `serving.server.number_lists` instead.
        """
        for start, end in self.elements or scalar_spans(self):
            yield b"[%b]" % self.text[start:end]

    def starts_with_object(self) -> bool:
        """Return whether the first element is an object."""
        return _OBJECT.match(self.text, self.span.start) is not None


class Outline(NamedTuple):
    """A body without its long lists.

    Attributes:
        rest: the body, in which a text stands for each list.
        lists: the list for which each of these texts stands, as JSON.
    """

    rest: bytes
    lists: dict[bytes, LongList]


def cut_lists(text: bytes, depths: Collection[int], max_elements: int) -> Outline:
    """Return a body without the lists that open at some depths.

    Args:
        text: JSON.
        depths: number of brackets around a list that is cut; those inside of it stay in it.
        max_elements: largest number of elements of a list, of those that may be long.

    Raises:
        RequestError: a list has more elements, or the rest is too long.
    """
    rest: list[bytes] = []
    lists: dict[bytes, LongList] = {}
    place = depth = length = 0
    position = 0
    while (token := _next_token(text, position)) is not None:
        kind, position = token
        if kind == b"[" and depth in depths:
            start = position - 1
            found = _find_list(text, start, max_elements)
            position = found.span.end
            if position - start >= _MIN_LIST:
                mark = f'"{_MARK}{len(lists)}"'.encode()
                lists[mark] = found
                rest += text[place:start], mark
                length += start - place
                place = position
        else:
            depth += _DEPTHS.get(kind, 0)
        if length + position - place > _MAX_REST:
            raise _too_long_rest()
    if length + len(text) - place > _MAX_REST:
        raise _too_long_rest()
    rest.append(text[place:])
    return Outline(b"".join(rest), lists)


_DEPTHS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


def _too_long_rest() -> RequestError:
    return RequestError(
        f"JSON must have at most {_MAX_REST:,} bytes besides its data. Received: more.", 413
    )


def _next_token(text: bytes, position: int) -> tuple[bytes, int] | None:
    """Return the next bracket, comma or text, and where it ends; None if there is none."""
    while position < len(text):
        token = _TOKEN.search(text, position, position + PART)
        if token is None:
            position += PART
        elif token[0] == b'"':
            return b'"', _end_of_text(text, token.end())
        else:
            return token[0], token.end()
    return None


def _end_of_text(text: bytes, position: int) -> int:
    while (match := _TEXT.match(text, position, position + PART)) is not None:
        if match.end() < position + PART - 1 or match.end() == position:
            return min(match.end() + 1, len(text))
        position = match.end()
    return len(text)


def _find_list(text: bytes, start: int, max_elements: int) -> LongList:
    opening = _OPENING.match(text, start)
    rank = opening[0].count(b"[") if opening else 0
    if opening is None or rank > _MAX_RANK:
        raise RequestError(f"Lists must be nested at most {_MAX_RANK} deep. Received: more.")
    if text[opening.end() : opening.end() + 1] not in b'"{]':
        end = _find_end(text, opening.end(), rank)
        if text.find(b'"', start, end) < 0:
            return LongList(text, Span(start, end), rank, None)
    return _split_elements(text, start, rank, max_elements)


def _find_end(text: bytes, start: int, rank: int) -> int:
    """Return the end of a list without texts: its first `rank` brackets in succession."""
    end = re.compile(rb"\](?:\s*+\]){%d}" % (rank - 1))
    while start < len(text):
        match = end.search(text, start, start + PART + _END_WINDOW)
        if match is not None:
            return match.end()
        start += PART
    raise _unterminated()


def _unterminated() -> RequestError:
    return RequestError("The body must be valid JSON. Received: a list without its end.")


def _split_elements(text: bytes, start: int, rank: int, max_elements: int) -> LongList:
    spans: list[Span] = []
    first = position = start + 1
    depth = count = 1
    while depth:
        token = _next_token(text, position)
        if token is None:
            raise _unterminated()
        kind, position = token
        depth += _DEPTHS.get(kind, 0)
        if kind == b"," and depth == 1:
            count += 1
            if count > max_elements:
                raise too_many(max_elements)
            if position - first > PART:
                spans.append(Span(first, position - 1))
                first = position
    spans.append(Span(first, position - 1))
    if len(spans) > 1 and not text[first : position - 1].strip():
        raise _unterminated()
    return LongList(text, Span(start, position), rank, tuple(spans))


def scalar_spans(found: LongList) -> Iterator[Span]:
    """Return the parts of a list between its first and its last bracket, cut at any commas."""
    place, end = found.span.start + 1, found.span.end - 1
    while (comma := found.text.find(b",", min(place + PART, end), end)) >= 0:
        yield Span(place, comma)
        place = comma + 1
    yield Span(place, end)


def too_many(max_elements: int) -> RequestError:
    """Return the error for a list with more elements than a request may have."""
    return RequestError(f"A list must have at most {max_elements:,} elements. Received: more.", 413)
