"""Bodies and answers of HTTP, by ASGI: limits, compression, time-outs."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .errors import RequestError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "application/json"
BINARY = "application/octet-stream"
# By zlib: what its windows are called.
_WINDOWS = {"gzip": 31, "deflate": 15}
_WORTH_COMPRESSING = 1400  # bytes: less is one packet anyway
_ENCODER = msgspec.json.Encoder()


class Gone(Exception):  # noqa: N818  # no error: nobody is there to be answered
    """The client has left."""


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(value: Any, status: int = 200) -> Answer:
    """Return an answer of JSON."""
    return Answer(_ENCODER.encode(value), status)


def error_answer(message: str, status: int, headers: Mapping[str, str]) -> Answer:
    """Return an error as both protocols write it."""
    return Answer(_ENCODER.encode({"error": message}), status, headers=headers)


def header(scope: Scope, name: bytes) -> str | None:
    """Return the value of a header, its name in lower case; None if it is not there."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


async def read_body(scope: Scope, receive: Receive, most: int, most_s: float) -> bytes:
    """Return the body of a request, decompressed.

    Args:
        scope: of the request.
        receive: gives its parts.
        most: bytes that it may have, before and after decompression.
        most_s: seconds that it may take to come.

    Raises:
        RequestError: it is too long, too slow, or not compressed as it says.
        Gone: the client has left before its end.
    """
    length = header(scope, b"content-length")
    if length is not None and length.isdecimal() and int(length) > most:
        raise _too_long(most)
    try:
        async with asyncio.timeout(most_s):
            body = await _read_parts(receive, most)
    except TimeoutError:
        raise RequestError(
            f"A body must come within {most_s:g} s. Received: a part of it.",
            408,
            {"connection": "close"},
        ) from None
    encoding = header(scope, b"content-encoding")
    if encoding is None or encoding == "identity":
        return body
    return _decompress(body, encoding.strip().lower(), most)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise Gone
    part: bytes = message.get("body", b"")
    return part


async def _read_parts(receive: Receive, most: int) -> bytes:
    parts, length = [], 0
    while True:
        message = await receive()
        parts.append(_part(message))
        length += len(parts[-1])
        if length > most:
            raise _too_long(most)
        if not message.get("more_body"):
            return b"".join(parts)


def _too_long(most: int) -> RequestError:
    return RequestError(f"A body must have at most {most:,} bytes. Received: more.", 413)


def _decompress(body: bytes, encoding: str, most: int) -> bytes:
    if encoding not in _WINDOWS:
        raise RequestError(
            f"A body must be encoded by gzip, deflate or not at all. Received: {encoding:.40}.", 415
        )
    stream = zlib.decompressobj(_WINDOWS[encoding])
    try:
        content = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise RequestError(f"The body must be {encoding}, as it says. Received: {error}.") from None
    if len(content) > most:
        raise _too_long(most)
    if not stream.eof or stream.unused_data:
        raise RequestError(f"The body must be whole {encoding}. Received: a part, or more.")
    return content


async def send_answer(scope: Scope, send: Send, answer: Answer, extra: Mapping[str, str]) -> None:
    """Send an answer, compressed where the client asks for it and it is worth it."""
    body = answer.body
    headers = {"content-type": answer.media_type, **extra, **answer.headers}
    if len(body) >= _WORTH_COMPRESSING:
        accepted = header(scope, b"accept-encoding")
        encoding = _accepted(accepted) if accepted else None
        if encoding is not None:
            stream = zlib.compressobj(1, wbits=_WINDOWS[encoding])
            body = stream.compress(body) + stream.flush()
            headers |= {"content-encoding": encoding, "vary": "accept-encoding"}
    headers["content-length"] = str(len(body))
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    is_wanted = scope["method"] != "HEAD"
    await send({"type": "http.response.body", "body": body if is_wanted else b""})


def _accepted(header_value: str) -> str | None:
    offers = [offer.strip().lower().partition(";") for offer in header_value.split(",")]
    accepted = {
        name.strip() for name, _, weight in offers if weight.strip() not in ("q=0", "q=0.0")
    }
    return next((name for name in _WINDOWS if name in accepted), None)
