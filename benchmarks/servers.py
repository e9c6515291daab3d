"""Starts a server on one core, loads it from another, and stops it."""

import http.client
import json
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

from benchmarks.contenders import Contender, RequestFormat
from benchmarks.environments import Unavailable, last_line
from serving.bundle import MODEL

CONNECTIONS = 32
_SERVER_CORE, _LOAD_CORE = "0", "1"
_START_S, _STOP_S, _RESPONSE_S = 60, 20, 10
_SCRIPT = Path(__file__).with_name("http_load.lua")


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        process: its process.
        port: the port that it listens on.
        log: file with its output.
    """

    process: subprocess.Popen[bytes]
    port: int
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

    def _send(self, request: RequestFormat) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_RESPONSE_S)
        try:
            connection.request("POST", request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def load(self, request: RequestFormat, seconds: int) -> dict[str, float]:
        """Send requests for the given time, and return the figures of `http_load.lua`.

        Raises:
            Unavailable: wrk cannot connect.
        """
        command = ["taskset", "-c", _LOAD_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
        for name, value in request.headers.items():
            command += ["-H", f"{name}: {value}"]
        command += ["-s", str(_SCRIPT), f"http://127.0.0.1:{self.port}{request.path}"]
        with tempfile.NamedTemporaryFile() as body:
            body.write(request.body)
            body.flush()
            variables = {**os.environ, "BODY": body.name}
            finished = subprocess.run(command, env=variables, capture_output=True, check=False)
        if finished.returncode != 0:
            raise Unavailable(f"wrk: {last_line(finished.stdout.decode())}")
        load: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
        return load


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
            yield Server(process, port, log)
        finally:
            _stop(process)


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
