"""Receives the bodies of requests: within a time, in bounded memory, and fairly."""

import asyncio
import math
import time
import zlib
from collections import defaultdict
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

from granian.rsgi import Headers, HTTPProtocol, ProtocolClosed, ProtocolError

from ..cores import available_cores
from ..errors import reason_of
from .errors import RequestError
from .http import WINDOWS, header_values
from .rooms import Room

# Bytes: shorter bodies are received at once and take no room.
SHORT = 65_536
# Room for a chunked body, whose length is unknown; a longer one takes twice as much, and so on.
_CHUNKED = 1_000_000
_MAX_MEMBERS = 100
# How many times its size a body may have after decompression, if it is longer than `SHORT`: texts
# of numbers are compressed to a tenth, or to a hundredth if most are zeros.
_MAX_RATIO = 200
# A body may lag this far behind the pace at which it would arrive in time.
_LAG_S = 2.0
Read = TypeVar("Read")


class Body(NamedTuple):
    """A body that was received.

    Attributes:
        content: the body, decompressed.
        room: the room that it takes, to be left when it is no longer needed.
    """

    content: bytes
    room: int


@dataclass(eq=False, slots=True)
class _Awaited:
    """A body that is awaited.

    Attributes:
        client: address and port of the client.
        start: time when its reception began, in seconds; infinity while it waits for room.
        length: its length, of a long one; as much as it may have so far if it is chunked.
        received: number of bytes that have arrived, of a long one.
        room: the room that it takes.
        is_seen: whether it was awaited when the timer looked last. A body that has arrived is not,
            however long the event loop took to notice.
        rule: what it has broken, if it is not awaited any longer. No error, whose traceback would
            keep the connection.
    """

    client: str
    start: float
    length: int = 0
    received: int = 0
    room: int = 0
    is_seen: bool = False
    rule: str = ""


class Bodies:
    """Receives the bodies of requests.

    One timer watches all of them: a timer for each would take longer than receiving most bodies.
    """

    def __init__(self, max_bytes: int, timeout_s: float, max_awaited: int, room: Room) -> None:
        """Make a receiver. Time-outs need `watch` to run as a task.

        Args:
            max_bytes: largest size of a body, before and after decompression.
            timeout_s: seconds within which a body must arrive.
            max_awaited: largest number of bodies that are awaited for longer than a twentieth of
                that time. Half of them may be of one client address; the oldest are given up.
            room: the room for long bodies.
        """
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_awaited = max_awaited
        self._room = room
        # Not more: each thread may need the memory of the largest body.
        self._threads = ThreadPoolExecutor(available_cores(), "hornbill-bodies")
        # By the task that receives it, the oldest first.
        self._awaited: dict[asyncio.Task[None], _Awaited] = {}

    async def watch(self) -> None:
        """Give up bodies that take too long, or are too many; runs until it is cancelled."""
        while True:
            await asyncio.sleep(self._timeout_s / 20)
            self._give_up_slow()
            by_address: defaultdict[str, list[asyncio.Task[None]]] = defaultdict(list)
            for task, one in self._awaited.items():
                by_address[one.client.rpartition(":")[0]].append(task)
            for tasks in by_address.values():
                self._give_up_oldest(tasks, len(tasks) - self._max_awaited // 2)
            most = max(by_address.values(), key=len, default=[])
            self._give_up_oldest(most, len(self._awaited) - self._max_awaited)
            for one in self._awaited.values():
                one.is_seen = True

    def _give_up_slow(self) -> None:
        now = time.monotonic()
        for task, awaited in list(self._awaited.items()):
            seconds = now - awaited.start
            # While others wait for its room, a long body must keep pace, unless it waits too.
            pace = awaited.length * (seconds - _LAG_S) / self._timeout_s
            if seconds > self._timeout_s or (self._room.is_full and awaited.received < pace):
                _give_up(task, awaited, f"within {self._timeout_s:g} s")

    def _give_up_oldest(self, tasks: list[asyncio.Task[None]], count: int) -> None:
        for task in tasks[: max(0, count)]:
            if (one := self._awaited[task]).is_seen:
                rule = f"before {self._max_awaited // 2:,} others of the same client"
                _give_up(task, one, rule)

    async def receive(self, headers: Headers, protocol: HTTPProtocol, client: str) -> Body:
        """Return the body of a request, decompressed.

        Args:
            headers: headers of the request.
            protocol: gives the parts of the body.
            client: address and port of the client.

        Raises:
            RequestError: the body is too long, too slow, incomplete, or not compressed as declared;
                or too many bodies are awaited.
        """
        # The length of a chunked body is unknown, whatever the header says.
        length = None if "transfer-encoding" in headers else int(headers.get("content-length", 0))
        if length is not None and length > self._max_bytes:
            raise too_long(self._max_bytes)
        encoding = _encoding(headers) if "content-encoding" in headers else None
        if length is None or length > SHORT:
            body = await self._receive_long(length, encoding, protocol, client)
        else:
            content = await self._in_time(protocol(), _Awaited(client, time.monotonic()))
            if encoding is None:  # by far the commonest
                return Body(content, 0)
            body = Body(content, await self._room.take(self._decompressed(length)))
        if encoding is None:
            return body
        try:
            # In a thread: a few kilobytes can decompress to megabytes.
            content = await asyncio.get_running_loop().run_in_executor(
                self._threads,
                _decompress,
                body.content,
                encoding,
                self._decompressed(len(body.content)),
            )
        except BaseException:
            self._room.leave(body.room)
            raise
        return self._shrunk(content, body.room)

    def close(self) -> None:
        """End the threads that decompress."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def drain(self, protocol: HTTPProtocol, client: str) -> None:
        """Receive and discard the rest of a body after the response.

        Otherwise the connection would be closed while the client is still sending.
        """
        with suppress(RequestError):
            await self._in_time(_discard(protocol), _Awaited(client, time.monotonic()))

    async def _in_time(self, receiving: Awaitable[Read], awaited: _Awaited) -> Read:
        """Make place for a body; raise `RequestError` if it is given up or is incomplete."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._awaited[task] = awaited
        try:
            return await receiving
        except (ProtocolClosed, ProtocolError):  # or malformed chunks
            raise RequestError("The body must be complete. Received: a part of it.") from None
        except asyncio.CancelledError:
            if not awaited.rule:  # cancelled by something else
                raise
            task.uncancel()
            raise RequestError(
                f"The body must arrive {awaited.rule}. Received: a part of it.",
                408,
                {"connection": "close"},
            ) from None
        finally:
            del self._awaited[task]

    async def _receive_long(
        self, length: int | None, encoding: str | None, protocol: HTTPProtocol, client: str
    ) -> Body:
        awaited = _Awaited(client, time.monotonic(), _CHUNKED if length is None else length)
        awaited.room = await self._room.take(self._needed(awaited.length, encoding))
        awaited.start = time.monotonic()
        parts: list[bytes] = []

        async def receive() -> None:
            async for part in protocol:
                awaited.received += len(part)
                if awaited.received > self._max_bytes:
                    parts.clear()  # read to its end, or the response would be lost
                    continue
                if awaited.received > awaited.length:
                    await self._grow(awaited, encoding)
                parts.append(part)

        try:
            await self._in_time(receive(), awaited)
            if awaited.received > self._max_bytes:
                raise too_long(self._max_bytes)
        except BaseException:
            self._room.leave(awaited.room)
            raise
        content = b"".join(parts)
        return Body(content, awaited.room) if encoding else self._shrunk(content, awaited.room)

    async def _grow(self, awaited: _Awaited, encoding: str | None) -> None:
        """Take room for twice the bytes; the time until there is room does not count."""
        awaited.length = min(self._max_bytes, max(2 * awaited.length, awaited.received))
        more = self._needed(awaited.length, encoding) - awaited.room
        if more > 0:
            seconds = time.monotonic() - awaited.start
            awaited.start = math.inf
            most = self._needed(self._max_bytes, encoding) - awaited.room
            awaited.room += await self._room.grow(more, most)
            if awaited.room >= self._needed(self._max_bytes, encoding):
                awaited.length = self._max_bytes  # it must keep the pace of what it holds
            awaited.start = time.monotonic() - seconds

    def _needed(self, length: int, encoding: str | None) -> int:
        """Return the room for a body of this length, at most all that there is."""
        more = 0 if encoding is None else self._decompressed(length)
        return min(length + more, self._room.size)

    def _decompressed(self, length: int) -> int:
        """Return the largest size of a body of this length after decompression."""
        return min(self._max_bytes, max(SHORT, _MAX_RATIO * length))

    def _shrunk(self, content: bytes, room: int) -> Body:
        """Return a body that takes no more room than it needs, and none if it is short."""
        needed = min(room, len(content)) if len(content) > SHORT else 0
        self._room.leave(room - needed)
        return Body(content, needed)


def _give_up(task: asyncio.Task[Any], awaited: _Awaited, rule: str) -> None:
    if not awaited.rule:
        awaited.rule = rule
        task.cancel()


def _encoding(headers: Headers) -> str | None:
    """Return how a body is compressed; None if it is not. Several encodings are joined."""
    values = header_values(headers, "content-encoding")
    encoding = ", ".join(values).strip().lower()
    if values and encoding in ("", "identity"):
        return None
    if encoding not in WINDOWS:
        raise RequestError(
            f"content-encoding must be gzip, deflate or identity. Received: {encoding:.40}.", 415
        )
    return encoding


async def _discard(protocol: HTTPProtocol) -> None:
    async for _ in protocol:
        pass


def too_long(max_bytes: int) -> RequestError:
    """Return the error for a body that is too long, before or after decompression."""
    return RequestError(f"The body must have at most {max_bytes:,} bytes. Received: more.", 413)


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
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
            raise RequestError(
                f"The body must have at most {max_bytes:,} bytes after decompression, which are "
                f"at most {_MAX_RATIO} times its size. Received: more.",
                413,
            )
    return b"".join(parts)


def _decompress_member(body: bytes, encoding: str, max_bytes: int) -> tuple[bytes, bytes]:
    """Return the first member and what follows it.

    If the member is too long, its first `max_bytes` + 1 bytes are returned and nothing follows.
    """
    stream = zlib.decompressobj(WINDOWS[encoding])
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
