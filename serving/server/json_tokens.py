"""Reads JSON in which NaN stands for a missing number, as many clients write it."""

import re
from typing import TypeVar

import msgspec

from ..errors import reason_of
from .errors import RequestError

Shape = TypeVar("Shape")
# Possessive quantifiers, and an optional closing quote: no body takes more than one pass.
_TEXT_OR_NAN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|\bNaN\b', re.DOTALL)


def decode_json(decoder: msgspec.json.Decoder[Shape], body: bytes, what: str) -> Shape:
    """Decode a body. NaN, which is not valid JSON, is read as null.

    Args:
        decoder: decodes the body into its type.
        body: JSON.
        what: name of the body, for the error.

    Raises:
        RequestError: the body is malformed, or does not fit the decoder's type.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = error
    if b"NaN" in body:
        replaced = _TEXT_OR_NAN.sub(lambda m: b"null" if m[0] == b"NaN" else m[0], body)
        try:
            return decoder.decode(replaced)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = error
    raise RequestError(f"The body must be {what}: {reason_of(reason)}.")
