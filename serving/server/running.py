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
from typing import Any

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
# Of Granian. A connection of HTTP/2 that asks nothing would stay for ever, and hold up the end.
_HEAD_S = 10  # for the head of a request to come; a body has its own time
OPTIONS: dict[str, Any] = {
    "interface": Interfaces.RSGI,
    "http": HTTPModes.http1,
    "websockets": False,
    "http1_settings": HTTP1Settings(header_read_timeout=1000 * _HEAD_S),
}


def run_server(settings: Settings, host: str, port: int, workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first.

    Args:
        settings: of the server.
        host: address to listen on.
        port: to listen on.
        workers: processes. Each has its own models.

    Raises:
        InputError: nobody can listen there.
    """
    _check_address(host, port)
    # Not forked: threads of what was imported would be missing, and metrics are shared only by
    # processes that import them anew.
    multiprocessing.set_start_method("spawn", force=True)
    server = Granian(
        f"{__name__}:make_server",
        address=host,
        port=port,
        **OPTIONS,
        factory=True,
        workers=workers,
        loop=Loops.auto,
        # The server itself refuses what is too much, with an answer.
        backpressure=2 * settings.max_requests,
        respawn_failed_workers=True,
        workers_kill_timeout=_DRAIN_S,
        log_level=LogLevels.warning,
    )
    with _told(settings), shared_metrics() if workers > 1 else nullcontext():
        server.serve()


def _check_address(host: str, port: int) -> None:
    # Granian's own error is a page of frames.
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise InputError(
            f"The address must be one to listen on. Received: {host}:{port}, {error.strerror}."
        ) from None


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
    return Server(Settings(**{**settings, "folder": Path(settings["folder"])}))


def _schedule_in_batches() -> None:
    """Let no thread of this process, when it is woken, interrupt another.

    On one processor a thread of Granian's would take it from the one that holds Python's lock, only
    to wait for that lock: a third of the throughput. Threads inherit this.
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):  # in a sandbox that does not know it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
