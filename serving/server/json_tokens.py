"""Reads JSON as many clients write it: NaN is a missing number, a byte order mark may precede."""

import codecs
import re
from typing import TypeVar

import msgspec

from ..errors import reason_of
from .errors import RequestError

Shape = TypeVar("Shape")
# Possessive quantifiers, and an optional closing quote: no body takes more than one pass.
_TEXT_OR_NAN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|\bNaN\b', re.DOTALL)


def decode_json(decoder: msgspec.json.Decoder[Shape], body: bytes, what: str) -> Shape:
    """Decode a body.

    Args:
        decoder: decodes the body into its type.
        body: JSON.
        what: name of the body, for the error.

    Raises:
        RequestError: the body is malformed, or does not fit the decoder's type.
    """
    try:
        return decode_leniently(decoder, body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"The body must be {what}: {reason_of(error)}.") from None


def decode_leniently(decoder: msgspec.json.Decoder[Shape], text: bytes) -> Shape:
    """Decode JSON. NaN, which is not valid JSON, is read as null; a byte order mark is left out.

    Raises:
        msgspec.DecodeError: the text is malformed, or does not fit the decoder's type.
        UnicodeDecodeError: the text is not UTF-8.
    """
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = bytes(text)  # of msgspec.Raw
        mended = text.removeprefix(codecs.BOM_UTF8)  # RFC 8259, 8.1: may be ignored
        if b"NaN" in text:
            mended = _TEXT_OR_NAN.sub(lambda m: b"null" if m[0] == b"NaN" else m[0], mended)
        if mended == text:
            raise
    return decoder.decode(mended)
