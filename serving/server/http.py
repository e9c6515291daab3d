"""Bodies and answers of HTTP, by RSGI: limits, compression, time-outs."""

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
from .errors import RequestError

JSON = "application/json"
BINARY = "application/octet-stream"
# By zlib: what its windows are called.
_WINDOWS = {"gzip": 31, "deflate": 15}
_WORTH_COMPRESSING = 1400  # bytes: less is one packet anyway
_MAX_MEMBERS = 100
_ENCODER = msgspec.json.Encoder()
Read = TypeVar("Read")


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
    """Return an error as both exchanges write it."""
    return Answer(_ENCODER.encode({"error": message}), status, headers=tuple(headers.items()))


class Bodies:
    """Reads the bodies of requests.

    One timer watches all of them: one for each would take longer than most bodies do.
    """

    def __init__(self, most: int, most_s: float) -> None:
        """Read bodies, once `watch` runs.

        Args:
            most: bytes that one may have, before and after decompression.
            most_s: seconds that one may take to come.
        """
        self._most = most
        self._most_s = most_s
        # No more: each may take the memory of the longest body.
        self._threads = ThreadPoolExecutor(available_cores(), "hornbill-bodies")
        # Who reads, and since when; the oldest first.
        self._reading: dict[asyncio.Task[None], float] = {}

    async def watch(self) -> None:
        """Give up those that take too long."""
        while True:
            await asyncio.sleep(self._most_s / 20)
            latest = time.monotonic() - self._most_s
            for task in [task for task, start in self._reading.items() if start < latest]:
                del self._reading[task]
                task.cancel()

    async def read(self, headers: Headers, exchange: HTTPProtocol) -> bytes:
        """Return the body of a request, decompressed.

        Args:
            headers: of the request.
            exchange: gives its parts.

        Raises:
            RequestError: it is too long, too slow, cut off, or not compressed as it says.
        """
        # Of a body in chunks a length says nothing.
        length = None if "transfer-encoding" in headers else headers.get("content-length")
        body = await self._in_time(self._receive(length, exchange))
        encoding = headers.get("content-encoding")
        if encoding is None:
            return body
        encoding = encoding.strip().lower()
        if encoding in ("", "identity"):
            return body
        # Aside: a few kilobytes can be a bomb that takes long to find out.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _decompress, body, encoding, self._most)

    def close(self) -> None:
        """End the threads that decompress."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def drain(self, exchange: HTTPProtocol) -> None:
        """Take what is left of the body of a request that was answered without it.

        Else its connection would be closed, in the middle of what the client says.
        """
        with suppress(RequestError):
            await self._in_time(_discard(exchange))

    async def _in_time(self, reading: Coroutine[Any, Any, Read]) -> Read:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._reading[task] = time.monotonic()
        try:
            return await reading
        except (ProtocolClosed, ProtocolError):  # or chunks that are none
            raise RequestError("A body must come to its end. Received: a part of it.") from None
        except asyncio.CancelledError:
            if task in self._reading:  # not by `watch`
                raise
            task.uncancel()
            raise RequestError(
                f"A body must come within {self._most_s:g} s. Received: not all of it.",
                408,
                {"connection": "close"},
            ) from None
        finally:
            self._reading.pop(task, None)

    async def _receive(self, length: str | None, exchange: HTTPProtocol) -> bytes:
        if length is not None:  # faster than part by part, and no longer than it says
            if int(length) > self._most:
                raise _too_long(self._most)
            return await exchange()
        parts: list[bytes] = []
        received = 0
        async for part in exchange:
            received += len(part)
            if received <= self._most:
                parts.append(part)
            else:  # taken to its end, or the answer would be lost with the connection
                parts.clear()
        if received > self._most:
            raise _too_long(self._most)
        return b"".join(parts)


async def _discard(exchange: HTTPProtocol) -> None:
    async for _ in exchange:
        pass


def _too_long(most: int) -> RequestError:
    return RequestError(f"A body must have at most {most:,} bytes. Received: more.", 413)


def _decompress(body: bytes, encoding: str, most: int) -> bytes:
    if encoding not in _WINDOWS:
        raise RequestError(
            f"A body must be encoded by gzip, deflate or not at all. Received: {encoding:.40}.", 415
        )
    parts: list[bytes] = []
    left = most
    while body or not parts:
        if len(parts) == _MAX_MEMBERS:  # the rest of the body is copied for each
            raise RequestError(f"gzip must have at most {_MAX_MEMBERS} members. Received: more.")
        part, body = _decompress_member(body, encoding, left)
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise _too_long(most)
    return b"".join(parts)


def _decompress_member(body: bytes, encoding: str, most: int) -> tuple[bytes, bytes]:
    """Return all of the first member, or more than `most` bytes of it, and what follows it."""
    stream = zlib.decompressobj(_WINDOWS[encoding])
    try:
        content = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise RequestError(f"The body must be {encoding}, as it says. Received: {error}.") from None
    if len(content) > most:
        return content, b""
    if not stream.eof or (stream.unused_data and encoding != "gzip"):
        raise RequestError(f"The body must be whole {encoding}. Received: a part, or more.")
    return content, stream.unused_data


def compressed(answer: Answer, headers: Headers) -> Answer:
    """Return the answer, compressed where the client asks for it and it is worth it."""
    if len(answer.body) < _WORTH_COMPRESSING:
        return answer
    encoding = _accepted(headers.get("accept-encoding", ""))
    if encoding is None:
        return answer
    stream = zlib.compressobj(1, wbits=_WINDOWS[encoding])
    body = stream.compress(answer.body) + stream.flush()
    added = ("content-encoding", encoding), ("vary", "accept-encoding")
    return answer._replace(body=body, headers=(*answer.headers, *added))


def send_answer(method: str, exchange: HTTPProtocol, answer: Answer, request_id: str) -> None:
    """Send an answer."""
    sent = [("content-type", answer.media_type), ("x-request-id", request_id), *answer.headers]
    if method == "HEAD":
        length = ("content-length", str(len(answer.body)))
        exchange.response_empty(answer.status, [*sent, length])
    else:
        exchange.response_bytes(answer.status, sent, answer.body)


def _accepted(value: str) -> str | None:
    offers = [offer.strip().lower().partition(";") for offer in value.split(",")]
    accepted = {name.strip() for name, _, weight in offers if weight.strip().rstrip("0.") != "q="}
    return next((name for name in _WINDOWS if name in accepted), None)
