"""Loads a server from one core: with wrk, or with h2load for gRPC."""

import json
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.contenders import GRPC, RequestFormat
from benchmarks.environments import Unavailable, last_line

CONNECTIONS = 32
_CORE = "1"
_SCRIPT = Path(__file__).with_name("http_load.lua")
_DATA = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)


def load(port: int, request: RequestFormat, response: bytes, seconds: int) -> dict[str, float]:
    """Send requests for a time, each connection one as soon as it has the previous response.

    Args:
        port: port of the server.
        request: the request.
        response: its body; for gRPC its message.
        seconds: the time.

    Returns:
        `requests_per_s`, `p50_ms`, `p99_ms`, `not_200` and `broken`. A gRPC response of another
        length counts as not 200.

    Raises:
        Unavailable: the load generator cannot connect.
    """
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(request.body)
        if request.kind == GRPC:
            return _load_grpc(port, request, body, 5 + len(response), seconds)
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
        for name, value in request.headers.items():
            command += ["-H", f"{name}: {value}"]
        command += ["-s", str(_SCRIPT), f"http://127.0.0.1:{port}{request.path}"]
        output = _run(command, {"BODY": str(body)})
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def _load_grpc(
    port: int, request: RequestFormat, body: Path, size: int, seconds: int
) -> dict[str, float]:
    log = body.with_name("log")
    command = ["h2load", f"-c{CONNECTIONS}", "-m1", f"-D{seconds}", f"--log-file={log}"]
    command += ["-d", str(body)]
    for name, value in request.headers.items():
        command += ["-H", f"{name}: {value}"]
    output = _run([*command, f"http://127.0.0.1:{port}{request.path}"], {})
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    times_ms = [int(microseconds) / 1000 for _, status, microseconds in rows if status == "200"]
    if len(times_ms) < 2:
        return {"requests_per_s": 0.0}
    (received,) = _DATA.findall(output)
    percentiles = statistics.quantiles(times_ms, n=100)
    # The status of a call is in its trailers, which h2load does not read. Errors have no message.
    wrong = abs(len(times_ms) - int(received) / size)
    return {
        "requests_per_s": len(times_ms) / seconds,
        "p50_ms": percentiles[49],
        "p99_ms": percentiles[98],
        "not_200": round(wrong) if wrong >= CONNECTIONS else 0,  # some are under way at the end
        "broken": len(rows) - len(times_ms),
    }


def _run(command: list[str], variables: dict[str, str]) -> str:
    pinned = ["taskset", "-c", _CORE, *command]
    finished = subprocess.run(
        pinned,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise Unavailable(f"{command[0]}: {last_line(finished.stdout)}")
    return finished.stdout
