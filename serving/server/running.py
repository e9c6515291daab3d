"""Runs a server on Granian: its processes share a port, and one that fails is restarted.

Granian parses HTTP outside Python and passes requests on through RSGI, its own interface, which
needs fewer calls than ASGI.
"""

import ctypes
import gc
import importlib.util
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

if sys.platform != "win32":
    import fcntl

import msgspec
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels

from ..errors import InputError, cannot_write
from .app import Server
from .model_folder import ModelFolder
from .model_settings import read_model_settings
from .settings import Settings
from .supervisor import Supervisor
from .telemetry import forget_ended_processes, shared_metrics
from .tls import check_certificate
from .tokens import read_tokens
from .writing import ThreadedHandler

# Passes the settings to the processes of the server.
_VARIABLE = "HORNBILL_SETTINGS"
_GRPC_PACKAGES = ("grpc", "grpc_health", "grpc_reflection")
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
# Granian would log to standard output, among the requests.
_LOGGING: dict[str, Any] = {
    "handlers": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}
# Python's 5 ms would be waited several times by each request while threads read or write long JSON.
_SWITCH_S = 0.001
# New objects after which Python looks for cycles among them; its default is 700.
_COLLECTED_OBJECTS = 20_000
# Options of glibc's mallopt, and bytes from which a block of memory is returned when it is freed.
_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 1_000_000
_ENDED = re.compile(r"Unexpected exit from worker-(\d+)")


class Address(NamedTuple):
    """The address of a server: an IP address and a port above 0, or a Unix domain socket."""

    host: str = ""
    port: int = 0
    uds: Path | None = None

    def __str__(self) -> str:
        """Return the address as in a URL, or `unix:` and the path of the socket."""
        if self.uds is not None:
            return f"unix:{self.uds}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def url(self, has_tls: bool = False) -> str:
        """Return the URL of the address; of a socket, what `str` returns."""
        return str(self) if self.uds is not None else f"http{'s' if has_tls else ''}://{self}"


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


def find_grpc_address(host: str, port: int) -> Address:
    """Return an address for gRPC, as `find_address` does.

    Raises:
        InputError: grpcio is not installed, or no server can listen there.
    """
    missing = [name for name in _GRPC_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"gRPC needs the packages of the extra grpc. Received: no {', '.join(missing)}. "
            "Install them in the clone of Hornbill with: pip install '.[serve,grpc]'."
        )
    return find_address(host, port)


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


def find_socket(path: Path) -> Address:
    """Return the address of a Unix domain socket, after removing one that a dead server left.

    A file beside it, `PATH.lock`, is locked until this process ends: another server may have the
    address already and not listen yet.

    Raises:
        InputError: another server listens there, there is another file, or none can be made.
    """
    _lock(path)
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as client, suppress(ConnectionRefusedError):
            client.settimeout(1.0)
            client.connect(os.fspath(path))
            raise _used(path)
        path.unlink()
    elif path.exists():
        raise InputError(f"--uds must be a path for a new socket. Received: {path}, another file.")
    try:
        with socket.socket(socket.AF_UNIX) as listener:  # Granian's own error is a traceback
            listener.bind(os.fspath(path))
        path.unlink()
    except OSError as error:  # for a path of over 107 bytes it has no number
        raise InputError(cannot_write(path, error)) from None
    return Address(uds=path)


def _lock(path: Path) -> None:
    try:
        file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)  # stays open
    except OSError as error:
        raise InputError(cannot_write(path, error)) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise _used(path) from None


def _used(path: Path) -> InputError:
    return InputError(f"The socket must be free. Received: {path}, a server listens there.")


def check_files(settings: Settings) -> None:
    """Check the files that settings name, before processes are started.

    Raises:
        InputError: one cannot be read or is invalid.
    """
    read_tokens(settings.token, settings.token_file)
    read_model_settings(ModelFolder(settings.folder))
    if settings.public_key is not None:
        from ..signature import read_verifier  # an extra

        read_verifier(settings.public_key)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        check_certificate(settings.tls_certificate, settings.tls_key)


def run_server(settings: Settings, address: Address, workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are completed first.

    At SIGTERM the server is not ready any more, and its responses close their connections; after
    `settings.drain_delay_s` it stops listening. A second signal ends that delay.

    Args:
        settings: settings of the server.
        address: address to listen on, from `find_address` or `find_socket`.
        workers: number of processes. Each loads its own models.
    """
    # Spawned, not forked: a fork would lose the threads of imported packages, and only a new import
    # lets processes share their metrics.
    multiprocessing.set_start_method("spawn", force=True)
    server = Supervisor(
        f"{__name__}:make_server",
        address=address.host,
        port=address.port,
        uds=address.uds,
        ssl_cert=settings.tls_certificate,
        ssl_key=settings.tls_key,
        ssl_protocol_min=SSLProtocols.tls12,
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
    _log_to_stderr()
    logging.getLogger("_granian").addFilter(lambda record: _tell_why_ended(server, record))
    with (
        tempfile.TemporaryDirectory(prefix="hornbill-") as folder,
        _in_environment(replace(settings, shared_folder=Path(folder))),
        shared_metrics() if workers > 1 else nullcontext(),
    ):
        server.serve()


@contextmanager
def _in_environment(settings: Settings) -> Iterator[None]:
    """Pass the settings to the processes that are started inside this context."""
    os.environ[_VARIABLE] = msgspec.json.encode(settings, enc_hook=str).decode()
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


def make_server() -> Server:
    """Return a server with the settings that `run_server` put into the environment."""
    _use_batch_scheduling()
    _return_large_blocks()
    _collect_rarely()
    sys.setswitchinterval(_SWITCH_S)
    _log_to_stderr()
    forget_ended_processes()
    settings = msgspec.json.decode(
        os.environ[_VARIABLE], type=Settings, dec_hook=lambda _type, text: Path(text)
    )
    parent = multiprocessing.parent_process()
    return Server(settings, parent=parent.pid if parent else None)


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO,
        format="%(levelname)s %(name)s: %(message)s",
        handlers=[ThreadedHandler()],
        force=True,
    )


def _tell_why_ended(server: Any, record: logging.LogRecord) -> bool:
    """Add to Granian's message about a process that ended why it ended."""
    match = _ENDED.fullmatch(record.getMessage())
    if match is not None:
        number = int(match[1])
        process = server.wrks[number - 1].inner
        status = process.exitcode or 0
        why = f"ended with status {status}"
        if status < 0:
            why = f"was killed by {signal.Signals(-status).name}"
        then = "A new one takes its place."
        if server.is_given_up(number - 1):
            then = "It has ended too often within a minute: the server ends."
        record.msg = f"Worker {number}, process {process.pid}, {why}. {then}"
    return True


def _use_batch_scheduling() -> None:
    """Keep threads that wake up from preempting the running thread; new threads inherit this.

    On one processor a thread of Granian would preempt the thread that holds the interpreter lock,
    only to wait for that lock. This costs a third of the throughput.
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):  # not allowed in some sandboxes
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _collect_rarely() -> None:
    """Let the garbage collector look for cycles rarely: requests make none, and it takes 5%."""
    gc.collect()
    gc.freeze()  # what was imported stays
    gc.set_threshold(_COLLECTED_OBJECTS, *gc.get_threshold()[1:])


def _return_large_blocks() -> None:
    """Let glibc return large blocks at once; it would keep those below the largest freed one."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)
