"""Sends responses: long ones only as fast as their client reads them, and not for ever.

Granian copies a body and keeps it until the client has read it, however long that takes. It reads a
file only as fast as the client takes it, so that a long body is handed over as the end of a pipe.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

if sys.platform == "linux":
    import fcntl

from granian.rsgi import HTTPProtocol

from .http import Response

# Bytes: shorter bodies fit the buffers of a connection.
LONG = 65_536
# Bytes that a client must take of a long body in each interval, unless it takes the rest.
_MIN_BYTES = 1_000_000
# Bytes of a connection that the kernel accepts before they are sent.
_UNSENT = 131_072
_FOLDER = "/dev/fd"  # of open files
Headers = Sequence[tuple[str, str]]


async def send_response(
    method: str, protocol: HTTPProtocol, response: Response, request_id: str, interval_s: float
) -> bool:
    """Send a response; return whether the connection has taken it, or its client is given up.

    Args:
        method: method of the request.
        protocol: takes the response.
        response: the response.
        request_id: id of the request.
        interval_s: seconds in which the client must take a megabyte of a long body.
    """
    sent = [("content-type", response.media_type), ("x-request-id", request_id), *response.headers]
    if method == "HEAD":
        length = ("content-length", str(response.size))
        protocol.response_empty(response.status, [*sent, length])
    elif response.size <= LONG or sys.platform == "win32":
        protocol.response_bytes(response.status, sent, b"".join([response.body, *response.more]))
    else:
        return await _send_long(protocol, response, sent, interval_s)
    return True


async def _send_long(
    protocol: HTTPProtocol, response: Response, headers: Headers, interval_s: float
) -> bool:
    source, sink = os.pipe()
    try:
        os.set_blocking(sink, False)
        if sys.platform == "linux":  # less than any long body
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, LONG)
        length = ("content-length", str(response.size))
        protocol.response_file(response.status, [*headers, length], f"{_FOLDER}/{source}")
        # Without its reader, which a disconnected client has not, the end of a pipe is an error.
        with suppress(TimeoutError, BrokenPipeError):
            await _fill(sink, source, (response.body, *response.more), interval_s)
            return True
        return False
    finally:
        os.close(sink)  # before the end of the body, Granian closes the connection
        os.close(source)


async def _fill(sink: int, source: int, parts: Sequence[bytes], interval_s: float) -> None:
    """Write parts into a pipe as fast as they are read from it.

    Raises:
        TimeoutError: too little was read in an interval.
        BrokenPipeError: the reader is gone.
    """
    loop = asyncio.get_running_loop()
    end_s, taken, is_open = loop.time() + interval_s, 0, False
    for part in parts:
        left = memoryview(part)
        while left:
            try:
                written = os.write(sink, left)
            except BlockingIOError:
                await _writable(loop, sink, end_s)
                if not is_open:  # by Granian now, so that this process needs no reader any more
                    is_open = True
                    os.dup2(sink, source)
                continue
            left = left[written:]
            taken += written
            if taken >= _MIN_BYTES:
                end_s, taken = loop.time() + interval_s, 0
                await asyncio.sleep(0)  # others must not wait for a fast reader


async def _writable(loop: asyncio.AbstractEventLoop, sink: int, end_s: float) -> None:
    ready = asyncio.Event()
    loop.add_writer(sink, ready.set)
    try:
        async with asyncio.timeout_at(end_s):
            await ready.wait()
    finally:
        loop.remove_writer(sink)


def limit_connections(timeout_s: float) -> bool:
    """Close connections whose clients take nothing for a while, and bound what the kernel keeps.

    Connections inherit both from the sockets of this process that listen. Linux only.

    Args:
        timeout_s: seconds after which a connection that takes nothing is closed.

    Returns:
        Whether a socket listens.
    """
    found = False
    for path in Path(_FOLDER).iterdir() if sys.platform == "linux" else ():
        with suppress(OSError), _opened(int(path.name)) as one:
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * timeout_s))
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
                found = True
    return found


def _opened(descriptor: int) -> socket.socket:
    """Return a copy of a socket; raise `OSError` if the descriptor is none."""
    copied = os.dup(descriptor)
    try:
        return socket.socket(fileno=copied)
    except OSError:
        os.close(copied)
        raise
