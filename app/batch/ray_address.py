"""Checks that a Ray cluster responds at an address."""

import socket
import subprocess
import sys

from app.errors import BatchError

_CONNECT_S, _JOIN_S = 5, 30
# Runs in a separate process: ray.init can take minutes to give up and cannot be interrupted.
_JOIN = """
import sys, ray
try:
    ray.init(sys.argv[1], log_to_driver=False, logging_level="error")
except Exception as error:
    lines = str(error).strip().splitlines()
    sys.exit(f"{type(error).__name__}: {lines[0] if lines else ''}")
"""


def check_address(address: str) -> None:
    """Require a cluster that can be joined.

    Args:
        address: `HOST:PORT` of the head node of a cluster that this machine is part of. `ray://`
            is refused, since Ray Data does not run over Ray's client (2.60).

    Raises:
        BatchError: the address is invalid, nothing listens there, or it is not a Ray of this
            version.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BatchError(
            "--ray-address must be HOST:PORT of a cluster that this machine is part of. "
            f"Received: {address!r}."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None
    _join(address)


def _join(address: str) -> None:
    command = [sys.executable, "-c", _JOIN, address]
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=_JOIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"no response from Ray within {_JOIN_S} s") from None
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"]
        raise _unreachable(address, f"{lines[-1]:.200}")


def _unreachable(address: str, reason: str) -> BatchError:
    return BatchError(f"No Ray cluster responds at --ray-address. Received: {address}: {reason}.")
