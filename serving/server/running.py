"""Runs a server on Granian: its processes share a port, and one that fails is restarted.

Granian parses HTTP outside Python and passes requests on through RSGI, its own interface, which
needs fewer calls than ASGI.
"""

import json
import logging
import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from ..errors import InputError
from .app import Server
from .settings import Settings
from .supervisor import Supervisor
from .telemetry import forget_ended_processes, shared_metrics
from .writing import ThreadedHandler

# Passes the settings to the processes of the server.
_VARIABLE = "HORNBILL_SETTINGS"
# Time for the requests in flight when the server ends.
_DRAIN_S = 30
# Connections that may be open beyond `max_requests`. With more, health checks would wait.
_IDLE_CONNECTIONS = 4096
_HEAD_S = 10  # for the head of a request to arrive; `Settings.body_s` is for its body
# Granian's options. An idle HTTP/2 connection would stay open forever and block the shutdown.
OPTIONS: dict[str, Any] = {
    "interface": Interfaces.RSGI,
    "http": HTTPModes.http1,
    "websockets": False,
    "http1_settings": HTTP1Settings(header_read_timeout=1000 * _HEAD_S),
}
# Granian would log to standard output, which is for requests.
_LOGGING: dict[str, Any] = {
    "formatters": {"line": {"format": "%(levelname)s hornbill.server: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"_granian": {"handlers": ["stderr"], "propagate": False}},
}


class Address(NamedTuple):
    """The address of a server: an IP address and a port above 0."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The URL of the address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def find_address(host: str, port: int) -> Address:
    """Return an address of a host on which a server can listen now, IPv4 before IPv6.

    Args:
        host: name or IP address.
        port: port to listen on; 0 picks a free one.

    Raises:
        InputError: no server can listen there.
    """
    reason = "an empty host"
    for family, ip in _resolve(host) if host else ():
        try:
            # Tested here, because Granian's own error is a long traceback.
            with socket.create_server((ip, port), family=family) as listener:
                return Address(ip, listener.getsockname()[1])
        except OSError as error:
            reason = os.strerror(error.errno or 0)  # Python's own text repeats the address
    raise _no_address(f"{host}:{port}, {reason}")


def _resolve(host: str) -> list[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _no_address(f"{host}, {getattr(error, 'strerror', None) or error}") from None
    families = {socket.AF_INET: 4, socket.AF_INET6: 6}
    known = {(family, str(to[0])) for family, _, _, _, to in found if family in families}
    # Granian does not support addresses with a zone.
    usable = [(family, ip) for family, ip in known if "%" not in ip]
    return sorted(usable, key=lambda item: (families[socket.AddressFamily(item[0])], item[1]))


def _no_address(received: str) -> InputError:
    return InputError(
        "The host must be an address of this machine and the port must be free, such as "
        f"127.0.0.1:8000. Received: {received}."
    )


def run_server(settings: Settings, address: Address, workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are completed first.

    At SIGTERM the server is not ready any more, and its responses close their connections; after
    `settings.drain_delay_s` it stops listening. A second signal ends that delay.

    Args:
        settings: settings of the server.
        address: address to listen on, from `find_address`.
        workers: number of processes. Each loads its own models.
    """
    # Spawned, not forked: a fork would lose the threads of imported packages, and only a new import
    # lets processes share their metrics.
    multiprocessing.set_start_method("spawn", force=True)
    server = Supervisor(
        f"{__name__}:make_server",
        address=address.host,
        port=address.port,
        **OPTIONS,
        factory=True,
        workers=workers,
        loop=Loops.auto,
        # This limits connections, idle ones included. The server itself limits requests, and
        # refuses them with a response.
        backpressure=settings.max_requests + _IDLE_CONNECTIONS,
        respawn_failed_workers=True,
        workers_kill_timeout=_DRAIN_S,
        log_level=LogLevels.warning,
        log_dictconfig=_LOGGING,
        drain_delay_s=settings.drain_delay_s,
    )
    with (
        tempfile.TemporaryDirectory(prefix="hornbill-") as folder,
        _in_environment(replace(settings, control_file=Path(folder, "models"))),
        shared_metrics() if workers > 1 else nullcontext(),
    ):
        server.serve()


@contextmanager
def _in_environment(settings: Settings) -> Iterator[None]:
    """Pass the settings to the processes that are started inside this context."""
    os.environ[_VARIABLE] = json.dumps(asdict(settings), default=str)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


def make_server() -> Server:
    """Return a server with the settings that `run_server` put into the environment."""
    _use_batch_scheduling()
    logging.basicConfig(
        level=logging.INFO,
        format="%(levelname)s %(name)s: %(message)s",
        handlers=[ThreadedHandler()],
    )
    forget_ended_processes()
    settings = json.loads(os.environ[_VARIABLE])
    paths = {name: Path(settings[name]) for name in ("folder", "control_file")}
    parent = multiprocessing.parent_process()
    return Server(Settings(**settings | paths), parent=parent.pid if parent else None)


def _use_batch_scheduling() -> None:
    """Keep threads that wake up from preempting the running thread; new threads inherit this.

    On one processor a thread of Granian would preempt the thread that holds the interpreter lock,
    only to wait for that lock. This costs a third of the throughput.
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):  # not allowed in some sandboxes
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
