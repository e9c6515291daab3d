"""Runs a server on Granian: its processes share a port, and one that fails is started anew.

Granian parses HTTP outside Python, and hands requests over by RSGI, its own interface, which takes
fewer calls than ASGI.
"""

import json
import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from ..errors import InputError
from .app import Server
from .settings import Settings
from .telemetry import forget_ended_processes, shared_metrics
from .writing import AsideHandler

# How the processes of a server learn its settings.
_VARIABLE = "HORNBILL_SETTINGS"
# For requests under way when the server is told to end.
_DRAIN_S = 30
# Open at once, beside those whose requests are under way; health would wait behind more.
_IDLE_CONNECTIONS = 4096
# Of Granian. A connection of HTTP/2 that asks nothing would stay for ever, and hold up the end.
_HEAD_S = 10  # for the head of a request to come; a body has its own time
OPTIONS: dict[str, Any] = {
    "interface": Interfaces.RSGI,
    "http": HTTPModes.http1,
    "websockets": False,
    "http1_settings": HTTP1Settings(header_read_timeout=1000 * _HEAD_S),
}


class Address(NamedTuple):
    """Where a server listens: an IP address, and a port above 0."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """As a browser takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def find_address(host: str, port: int) -> Address:
    """Return the address of a name, IPv4 before IPv6, where a server can listen now.

    Args:
        host: name or IP address.
        port: to listen on; 0 for any that is free.

    Raises:
        InputError: nobody can listen there.
    """
    reason = "an empty host"
    for family, ip in _resolve(host) if host else ():
        try:
            # Granian's own error is a page of frames.
            with socket.create_server((ip, port), family=family) as listener:
                return Address(ip, listener.getsockname()[1])
        except OSError as error:
            reason = str(error.strerror)
    raise _no_address(f"{host}:{port}, {reason}")


def _resolve(host: str) -> list[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _no_address(f"{host}, {getattr(error, 'strerror', None) or error}") from None
    families = {socket.AF_INET: 4, socket.AF_INET6: 6}
    known = {(family, str(to[0])) for family, _, _, _, to in found if family in families}
    # Granian takes no address with a zone.
    usable = [(family, ip) for family, ip in known if "%" not in ip]
    return sorted(usable, key=lambda item: (families[socket.AddressFamily(item[0])], item[1]))


def _no_address(received: str) -> InputError:
    return InputError(
        "The address must be one of this machine to listen on, such as 127.0.0.1. "
        f"Received: {received}."
    )


def run_server(settings: Settings, address: Address, workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first.

    Args:
        settings: of the server.
        address: to listen on, as `find_address` returns it.
        workers: processes. Each has its own models.
    """
    # Not forked: threads of what was imported would be missing, and metrics are shared only by
    # processes that import them anew.
    multiprocessing.set_start_method("spawn", force=True)
    server = Granian(
        f"{__name__}:make_server",
        address=address.host,
        port=address.port,
        **OPTIONS,
        factory=True,
        workers=workers,
        loop=Loops.auto,
        # The server itself refuses what is too much, with an answer. This counts connections, also
        # those on which nothing is asked.
        backpressure=settings.max_requests + _IDLE_CONNECTIONS,
        respawn_failed_workers=True,
        workers_kill_timeout=_DRAIN_S,
        log_level=LogLevels.warning,
    )
    with _told(settings), shared_metrics() if workers > 1 else nullcontext():
        server.serve()


@contextmanager
def _told(settings: Settings) -> Iterator[None]:
    os.environ[_VARIABLE] = json.dumps({**asdict(settings), "folder": str(settings.folder)})
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


def make_server() -> Server:
    """Return a server with the settings that `run_server` left in the environment."""
    _schedule_in_batches()
    logging.basicConfig(
        level=logging.INFO,
        format="%(levelname)s %(name)s: %(message)s",
        handlers=[AsideHandler()],
    )
    forget_ended_processes()
    settings = json.loads(os.environ[_VARIABLE])
    parent = multiprocessing.parent_process()
    return Server(
        Settings(**{**settings, "folder": Path(settings["folder"])}),
        parent=parent.pid if parent else None,
    )


def _schedule_in_batches() -> None:
    """Let no thread of this process, when it is woken, interrupt another.

    On one processor a thread of Granian's would take it from the one that holds Python's lock, only
    to wait for that lock: a third of the throughput. Threads inherit this.
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):  # in a sandbox that does not know it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
