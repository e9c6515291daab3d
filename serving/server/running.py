"""Runs a server on uvicorn: in this process, or in several that share a port."""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn

from .app import Server
from .connections import Connection
from .settings import Settings
from .telemetry import forget_ended_processes, shared_metrics

# How the processes of a server learn its settings.
_VARIABLE = "HORNBILL_SETTINGS"
# Of uvicorn. There are no web sockets here; a drain is for requests under way at the end.
OPTIONS: dict[str, Any] = {
    "http": Connection,
    "ws": "none",
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "timeout_graceful_shutdown": 30,
}


def run_server(settings: Settings, host: str, port: int, workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first.

    Args:
        settings: of the server.
        host: address to listen on.
        port: to listen on.
        workers: processes. Each has its own models.
    """
    _log_to_stderr()
    options = {**OPTIONS, "host": host, "port": port}
    if workers == 1:
        uvicorn.run(Server(settings), **options)
        return
    os.environ[_VARIABLE] = json.dumps({**asdict(settings), "folder": str(settings.folder)})
    with shared_metrics():
        uvicorn.run(f"{__name__}:make_server", factory=True, workers=workers, **options)


def make_server() -> Server:
    """Return a server with the settings that `run_server` left in the environment."""
    _log_to_stderr()
    forget_ended_processes()
    settings = json.loads(os.environ[_VARIABLE])
    return Server(Settings(**{**settings, "folder": Path(settings["folder"])}))


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
