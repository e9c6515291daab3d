"""Attacks one process of the server in every known way at once, and measures single requests.

    python -m benchmarks.attack dist/mlp [--seconds 60]

The attackers, all from one address:

- gzip bodies of 35 to 280 KB that decompress to millions of empty lists, objects or rows
- clients that request 16,384 predictions as JSON and never read them
- heads whose bodies never come, in as many connections as there are places for requests
- bodies that come a few bytes a second
- batches of 16,384 images, ten at a time
- images of 50 million pixels, one pixel wide
- heads that never end, and idle connections

Meanwhile a client sends one image after another, and another one checks the health. Expected: both
always get status 200, 99% of the single images within 250 ms; attackers get no status of 500 or
above but 503; and the process has less than 400 MB.
"""

import argparse
import gzip
import http.client
import json
import multiprocessing
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from app.distributed.cluster import free_port
from benchmarks.arguments import path_argument
from benchmarks.results import write_results
from benchmarks.servers import wait_until_ready

ROWS, PLACES, BATCHES, READERS = 16_384, 1_024, 10, 12
_ANSWER_S = 120
# The element of each frozen body, and their number.
_BODIES = {
    "lists": (b"[]", 12_000_000),
    "objects": (b"{}", 12_000_000),
    "rows": (b'{"image":1}', 5_000_000),
}
# What an attacker does until it is ended, given the port, the model and its count of statuses.
Attack = Callable[[int, str, Any], None]


def _repeat(request: Callable[[int, str], int], port: int, model: str, counts: Any) -> None:
    """Send a request again and again, and put each status into `counts`; 0 if it broke."""
    while True:
        try:
            counts.put(request(port, model))
        except (OSError, http.client.HTTPException):
            counts.put(0)
            time.sleep(0.1)


def _post(port: int, path: str, body: bytes, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def _freeze(body: bytes, port: int, model: str) -> int:
    return _post(port, f"/v1/models/{model}:predict", body, {"Content-Encoding": "gzip"})


def _batch(port: int, model: str) -> int:
    body, headers = _images(ROWS)
    return _post(port, f"/v2/models/{model}/infer", body, headers)


def _tall_image(body: bytes, port: int, model: str) -> int:
    return _post(port, f"/images/{model}", body, {})


def _hold(count: int, sent: Callable[[str], bytes], more: bytes, port: int, model: str,
          counts: Any) -> None:  # fmt: skip
    """Hold connections that have sent something; replace those that the server closes.

    Args:
        count: number of connections.
        sent: returns what each sends, given the model.
        more: what each sends every second.
        port: port of the server.
        model: name of the model.
        counts: gets the status of each response.
    """
    held: list[socket.socket] = []
    while True:
        for connection in held[:]:
            with suppress(BlockingIOError):
                try:
                    if more:
                        connection.send(more)
                    elif answer := connection.recv(100):
                        counts.put(int(answer[9:12]))
                        continue
                    else:
                        raise ConnectionError
                except (ConnectionError, ValueError):
                    connection.close()
                    held.remove(connection)
        with suppress(OSError):
            for _ in range(min(count - len(held), max(100, count // 10))):
                connection = socket.create_connection(("127.0.0.1", port), timeout=5)
                connection.sendall(sent(model))
                connection.setblocking(False)
                held.append(connection)
        time.sleep(1)


def _head(lines: str, model: str) -> bytes:
    return f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\n{lines}".encode()


def _ignore(port: int, model: str, counts: Any) -> None:
    """Request long responses, read the status, then nothing."""
    body, headers = _images(ROWS)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = _head(f"{lines}Content-Length: {len(body)}\r\n\r\n", model)
    while True:
        with suppress(OSError, ValueError), socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(_ANSWER_S)
            connection.connect(("127.0.0.1", port))
            connection.sendall(head + body)
            counts.put(int(connection.recv(100)[9:12]))
            time.sleep(30)


def _images(count: int) -> tuple[bytes, dict[str, str]]:
    sizes = {"binary_data_size": 784 * count}
    tensor = {"name": "image", "shape": [count, 28, 28], "datatype": "UINT8", "parameters": sizes}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + bytes(784 * count), {"Inference-Header-Content-Length": str(len(head))}


def _frozen_body(item: bytes, count: int) -> bytes:
    return gzip.compress(b'{"instances":[' + (item + b",") * count + item + b"]}", 9)


def _tall_png(height: int = 50_000_000) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(b"\0\xff" * 1_000_000) for _ in range(height // 1_000_000))
    header = struct.pack(">IIBBBBB", 1, height, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", rows + packed.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def make_attacks() -> dict[str, list[Attack]]:
    """Return the attackers of each kind."""
    frozen = {kind: _frozen_body(*item) for kind, item in _BODIES.items()}
    slow = partial(_head, "Transfer-Encoding: chunked\r\n\r\n")
    return {
        **{kind: [partial(_repeat, partial(_freeze, body))] for kind, body in frozen.items()},
        "no reading": [_ignore] * READERS,
        "no body": [partial(_hold, PLACES + 6, partial(_head, "Content-Length: 9\r\n\r\n"), b"")],
        "slow body": [partial(_hold, 100, slow, b"1\r\n[\r\n")],
        "half head": [partial(_hold, 200, partial(_head, ""), b"")],
        "idle": [partial(_hold, 500, lambda _: b"", b"")],
        "large batches": [partial(_repeat, _batch)] * BATCHES,
        "tall image": [partial(_repeat, partial(_tall_image, _tall_png()))],
    }


def measure(port: int, model: str, seconds: float) -> tuple[Counter[int], list[float]]:
    """Send single images for some seconds; return the count of statuses, and the ms of each 200."""
    tensor = {"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}
    body = json.dumps({"inputs": [tensor]}).encode()
    times: list[float] = []
    statuses: Counter[int] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        try:
            status = _post(port, f"/v2/models/{model}/infer", body, {})
        except (OSError, http.client.HTTPException):
            status = 0
        statuses[status] += 1
        if status == http.client.OK:
            times.append(1000 * (time.perf_counter() - start))
        time.sleep(0.005)
    return statuses, times


def _check_health(port: int, _model: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/v2/health/live")
        return connection.getresponse().status
    finally:
        connection.close()
        time.sleep(0.05)


@contextmanager
def attacking(port: int, model: str) -> Iterator[dict[str, Any]]:
    """Run all attackers inside the context; yields the queue of statuses of each kind."""
    context = multiprocessing.get_context("fork")
    attacks = make_attacks() | {"health": [partial(_repeat, _check_health)]}
    queues = {kind: context.Queue() for kind in attacks}
    processes = [
        context.Process(target=attack, args=(port, model, queues[kind]), daemon=True)
        for kind, attackers in attacks.items()
        for attack in attackers
    ]
    for process in processes:
        process.start()
    try:
        yield queues
    finally:
        for process in processes:
            process.kill()


def _counted(queue: Any) -> Counter[int]:
    found: Counter[int] = Counter()
    while not queue.empty():
        found[queue.get()] += 1
    return found


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[int, int]]:
    """Run a server inside the context; yields its port and the id of its main process."""
    port = free_port()
    code = "from app.commands.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(folder), "--port", str(port), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            wait_until_ready(server, port)
            yield port, server.pid
        finally:
            server.send_signal(signal.SIGTERM)


def peak_mb(parent: int) -> float:
    """Return the largest resident memory so far, in MB, of the child that has had most."""
    peaks = []
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        lines = Path(f"/proc/{child}/status").read_text().splitlines()
        peaks += [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return max(peaks) * 1024 / 1e6


def main() -> None:
    """Run the server, measure it in peace and under attack, and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder",
        metavar="DIR",
        type=path_argument,
        help="Folder of a model of images of 28x28 pixels.",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="Duration of the attack.")
    arguments = parser.parse_args()
    model = arguments.folder.resolve().name
    with _serving(arguments.folder) as (port, server):
        measure(port, model, 1)
        _, before = measure(port, model, 5)
        with attacking(port, model) as queues:
            time.sleep(2)
            statuses, times = measure(port, model, arguments.seconds)
            found = {kind: _counted(queue) for kind, queue in queues.items()}
        _, after = measure(port, model, 5)
        peak = peak_mb(server)
    found = {"single images": statuses} | found
    for kind, counts in found.items():
        print(f"{kind:14} " + ", ".join(f"{status}: {n:,}" for status, n in sorted(counts.items())))
    row = {
        "what": "attack",
        "seconds": arguments.seconds,
        "requests": statuses.total(),
        "p50_before_ms": round(statistics.median(before), 2),
        "p50_ms": round(statistics.median(times), 2),
        "p99_ms": round(statistics.quantiles(times, n=100)[-1], 1),
        "max_ms": round(max(times), 1),
        "p50_after_ms": round(statistics.median(after), 2),
        "peak_mb": round(peak),
        "statuses": {kind: dict(sorted(counts.items())) for kind, counts in found.items()},
    }
    print({name: value for name, value in row.items() if name != "statuses"})
    write_results("attack", [row])


if __name__ == "__main__":
    main()
