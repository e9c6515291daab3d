"""Starts a server on one core, and stops it."""

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.contenders import GRPC, Contender, RequestFormat
from benchmarks.environments import Unavailable, last_line
from serving.bundle import MODEL

_SERVER_CORE = "0"
_START_S, _STOP_S, _RESPONSE_S = 60, 20, 10


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        process: its process.
        port: the port that it listens on.
        grpc_port: the port for gRPC, if it has gRPC.
        log: file with its output.
    """

    process: subprocess.Popen[bytes]
    port: int
    grpc_port: int
    log: Path

    def first_response(self, request: RequestFormat) -> bytes:
        """Return the body of the first response with status 200.

        Raises:
            Unavailable: the server ends, or sends no such response in time.
        """
        received = "none"
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Unavailable(f"ended: {last_line(self.log.read_text(errors='replace'))}")
            with suppress(OSError, http.client.HTTPException):  # not listening yet
                status, body = self._send(request)
                if status == http.client.OK:
                    return body
                received = f"{status}, {body[:200]!r}"
            time.sleep(0.2)
        raise Unavailable(f"no response with status 200 within {_START_S} s. Received: {received}")

    def port_of(self, request: RequestFormat) -> int:
        """Return the port for a request."""
        return self.grpc_port if request.kind == GRPC else self.port

    def _send(self, request: RequestFormat) -> tuple[int, bytes]:
        if request.kind == GRPC:
            return _call(self.grpc_port, request)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_RESPONSE_S)
        try:
            connection.request("POST", request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextmanager
def running(contender: Contender, bundle: Path, python: Path) -> Iterator[Server]:
    """Run a server inside the context; all of its processes end with the context.

    Args:
        contender: the server to run.
        bundle: folder of the version that it serves.
        python: interpreter of its environment.
    """
    port, second, third = _free_ports(3)
    paths = {"bin": python.parent, "bundle": bundle.parent.resolve()}
    values = {**paths, "port": port, "second": second, "third": third}
    started = [word.format_map(values) for word in contender.command]
    variables = {**os.environ, "MODEL": str(bundle.resolve() / MODEL)}
    command = ["taskset", "-c", _SERVER_CORE, *started]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=variables,
                cwd=contender.folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            yield Server(process, port, second, log)
        finally:
            _stop(process)


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a server answers that it is ready; end the benchmark if it does not.

    Args:
        process: the process of the server.
        port: its port for HTTP.
    """
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):  # not listening yet
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_RESPONSE_S)
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.1)
    if process.poll() is not None:
        raise SystemExit(f"The server ended with status {process.returncode} before it was ready.")
    raise SystemExit(f"The server did not become ready within {_START_S} s.")


def _call(port: int, request: RequestFormat) -> tuple[int, bytes]:
    message = request.body[5:]  # the library writes the length itself
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            return http.client.OK, channel.unary_unary(request.path)(message, timeout=_RESPONSE_S)
        except grpc.RpcError as error:
            return 0, str(error.details()).encode()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    with suppress(ProcessLookupError):  # no process is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
