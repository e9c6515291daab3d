"""Request bodies and responses of HTTP over RSGI: limits, compression, time-outs."""

import asyncio
import time
import zlib
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from granian.rsgi import Headers, HTTPProtocol, ProtocolClosed, ProtocolError

from ..cores import available_cores
from ..errors import reason_of
from .errors import RequestError

JSON = "application/json"
BINARY = "application/octet-stream"
# The window sizes by which zlib distinguishes the encodings.
_WINDOWS = {"gzip": 31, "deflate": 15}
_MIN_COMPRESSED = 1400  # bytes: a shorter body fits one packet anyway
_MAX_MEMBERS = 100
_ENCODER = msgspec.json.Encoder()
Read = TypeVar("Read")


class Response(NamedTuple):
    """A response before it is sent."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Sequence[tuple[str, str]] = ()


def json_response(value: Any, status: int = 200) -> Response:
    """Return a response of JSON."""
    return Response(_ENCODER.encode(value), status)


def error_response(message: str, status: int, headers: Mapping[str, str]) -> Response:
    """Return an error in the form of both protocols."""
    content = _ENCODER.encode(ErrorResponse(message))
    return Response(content, status, headers=tuple(headers.items()))


class ErrorResponse(msgspec.Struct):
    """The body of every response but 200: what was wrong, and what would be right."""

    error: str


class Bodies:
    """Reads the bodies of requests.

    One timer watches all of them: a timer for each would take longer than reading most bodies.
    """

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        """Make a reader. Time-outs need `watch` to run as a task.

        Args:
            max_bytes: largest size of a body, before and after decompression.
            timeout_s: seconds within which a body must arrive.
        """
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        # Not more: each thread may need the memory of the largest body.
        self._threads = ThreadPoolExecutor(available_cores(), "hornbill-bodies")
        # The tasks that read, with their start, the oldest first.
        self._reading: dict[asyncio.Task[None], float] = {}

    async def watch(self) -> None:
        """Cancel the reading of bodies that take too long; runs until it is cancelled."""
        while True:
            await asyncio.sleep(self._timeout_s / 20)
            latest = time.monotonic() - self._timeout_s
            for task in [task for task, start in self._reading.items() if start < latest]:
                del self._reading[task]
                task.cancel()

    async def read(self, headers: Headers, protocol: HTTPProtocol) -> bytes:
        """Return the body of a request, decompressed.

        Args:
            headers: headers of the request.
            protocol: gives the parts of the body.

        Raises:
            RequestError: the body is too long, too slow, incomplete, or not compressed as declared.
        """
        # The length of a chunked body is unknown, whatever the header says.
        length = None if "transfer-encoding" in headers else headers.get("content-length")
        body = await self._in_time(self._receive(length, protocol))
        encoding = headers.get("content-encoding")
        if encoding is None:
            return body
        encoding = encoding.strip().lower()
        if encoding in ("", "identity"):
            return body
        # In a thread: a few kilobytes can decompress to more than allowed, which takes long.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, _decompress, body, encoding, self._max_bytes
        )

    def close(self) -> None:
        """End the threads that decompress."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def drain(self, protocol: HTTPProtocol) -> None:
        """Read and discard the rest of a body after the response.

        Otherwise the connection would be closed while the client is still sending.
        """
        with suppress(RequestError):
            await self._in_time(_discard(protocol))

    async def _in_time(self, reading: Coroutine[Any, Any, Read]) -> Read:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._reading[task] = time.monotonic()
        try:
            return await reading
        except (ProtocolClosed, ProtocolError):  # or malformed chunks
            raise RequestError("The body must be complete. Received: a part of it.") from None
        except asyncio.CancelledError:
            if task in self._reading:  # cancelled by something other than `watch`
                raise
            task.uncancel()
            raise RequestError(
                f"The body must arrive within {self._timeout_s:g} s. Received: a part of it.",
                408,
                {"connection": "close"},
            ) from None
        finally:
            self._reading.pop(task, None)

    async def _receive(self, length: str | None, protocol: HTTPProtocol) -> bytes:
        if length is not None:  # faster than reading part by part
            if int(length) > self._max_bytes:
                raise _too_long(self._max_bytes)
            return await protocol()
        parts: list[bytes] = []
        received = 0
        async for part in protocol:
            received += len(part)
            if received <= self._max_bytes:
                parts.append(part)
            else:  # read to its end, or the response would be lost with the connection
                parts.clear()
        if received > self._max_bytes:
            raise _too_long(self._max_bytes)
        return b"".join(parts)


async def _discard(protocol: HTTPProtocol) -> None:
    async for _ in protocol:
        pass


def _too_long(max_bytes: int) -> RequestError:
    return RequestError(f"The body must have at most {max_bytes:,} bytes. Received: more.", 413)


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding not in _WINDOWS:
        raise RequestError(
            f"content-encoding must be gzip, deflate or identity. Received: {encoding:.40}.", 415
        )
    parts: list[bytes] = []
    left = max_bytes
    while body or not parts:
        if len(parts) == _MAX_MEMBERS:  # each member copies the rest of the body
            raise RequestError(
                f"A gzip body must have at most {_MAX_MEMBERS} members. Received: more."
            )
        part, body = _decompress_member(body, encoding, left)
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise _too_long(max_bytes)
    return b"".join(parts)


def _decompress_member(body: bytes, encoding: str, max_bytes: int) -> tuple[bytes, bytes]:
    """Return the first member and what follows it.

    If the member is too long, its first `max_bytes` + 1 bytes are returned and nothing follows.
    """
    stream = zlib.decompressobj(_WINDOWS[encoding])
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise RequestError(f"The body must be valid {encoding}: {reason_of(error)}.") from None
    if len(content) > max_bytes:
        return content, b""
    if not stream.eof or (stream.unused_data and encoding != "gzip"):
        raise RequestError(
            f"The body must be exactly one {encoding} stream. Received: less or more."
        )
    return content, stream.unused_data


def compressed(response: Response, headers: Headers) -> Response:
    """Return the response, compressed if the client accepts that and the body is long enough."""
    if len(response.body) < _MIN_COMPRESSED:
        return response
    encoding = _accepted(headers.get("accept-encoding", ""))
    if encoding is None:
        return response
    stream = zlib.compressobj(1, wbits=_WINDOWS[encoding])
    body = stream.compress(response.body) + stream.flush()
    added = ("content-encoding", encoding), ("vary", "accept-encoding")
    return response._replace(body=body, headers=(*response.headers, *added))


def send_response(method: str, protocol: HTTPProtocol, response: Response, request_id: str) -> None:
    """Send a response."""
    sent = [("content-type", response.media_type), ("x-request-id", request_id), *response.headers]
    if method == "HEAD":
        length = ("content-length", str(len(response.body)))
        protocol.response_empty(response.status, [*sent, length])
    else:
        protocol.response_bytes(response.status, sent, response.body)


def _accepted(value: str) -> str | None:
    offers = [offer.strip().lower().partition(";") for offer in value.split(",")]
    accepted = {name.strip() for name, _, weight in offers if weight.strip().rstrip("0.") != "q="}
    return next((name for name in _WINDOWS if name in accepted), None)
