"""Bodies and answers of HTTP, by ASGI: limits, compression, time-outs."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .errors import RequestError

Scope = MutableMapping[str, Any]
# By name in lower case; of one that comes twice the last.
Headers = Mapping[bytes, bytes]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "application/json"
BINARY = "application/octet-stream"
# By zlib: what its windows are called.
_WINDOWS = {"gzip": 31, "deflate": 15}
_WORTH_COMPRESSING = 1400  # bytes: less is one packet anyway
_ENCODER = msgspec.json.Encoder()


class Answer(NamedTuple):
    """What is sent back."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Sequence[tuple[str, str]] = ()


def json_answer(value: Any, status: int = 200) -> Answer:
    """Return an answer of JSON."""
    return Answer(_ENCODER.encode(value), status)


def error_answer(message: str, status: int, headers: Mapping[str, str]) -> Answer:
    """Return an error as both protocols write it."""
    return Answer(_ENCODER.encode({"error": message}), status, headers=tuple(headers.items()))


async def read_body(headers: Headers, receive: Receive, most: int, most_s: float) -> bytes:
    """Return the body of a request, decompressed.

    Args:
        headers: of the request.
        receive: gives its parts.
        most: bytes that it may have, before and after decompression.
        most_s: seconds that it may take to come.

    Raises:
        RequestError: it is too long, too slow, cut off, or not compressed as it says.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > most:
        raise _too_long(most)
    try:
        async with asyncio.timeout(most_s):
            body = await _receive_body(receive, most)
    except TimeoutError:
        raise RequestError(
            f"A body must come within {most_s:g} s. Received: not all of it.",
            408,
            {"connection": "close"},
        ) from None
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding == b"identity":
        return body
    # Aside: a few kilobytes can be a bomb that takes long to find out.
    name = encoding.decode("latin-1").strip().lower()
    return await asyncio.to_thread(_decompress, body, name, most)


async def _receive_body(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":  # or chunks that are none
            raise RequestError("A body must come to its end. Received: a part of it.")
        parts.append(message.get("body", b""))
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


async def send_answer(
    scope: Scope, headers: Headers, send: Send, answer: Answer, request_id: bytes
) -> None:
    """Send an answer, compressed where the client asks for it and it is worth it."""
    body = answer.body
    sent = [
        (b"content-type", answer.media_type.encode()),
        (b"x-request-id", request_id),
        *[(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers],
    ]
    if len(body) >= _WORTH_COMPRESSING and b"accept-encoding" in headers:
        encoding = _accepted(headers[b"accept-encoding"])
        if encoding is not None:
            stream = zlib.compressobj(1, wbits=_WINDOWS[encoding])
            body = stream.compress(body) + stream.flush()
            sent += [(b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding")]
    sent.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": sent})
    is_wanted = scope["method"] != "HEAD"
    await send({"type": "http.response.body", "body": body if is_wanted else b""})


def _accepted(value: bytes) -> str | None:
    texts = value.decode("latin-1").split(",")
    offers = [offer.strip().lower().partition(";") for offer in texts]
    accepted = {
        name.strip() for name, _, weight in offers if weight.strip() not in ("q=0", "q=0.0")
    }
    return next((name for name in _WINDOWS if name in accepted), None)
