"""A million requests of mixed kinds, bad ones among them, to one server.

    python -m benchmarks.soak dist [--requests 1000000]

Processes ask over kept connections: single images and batches as JSON, as binary tensors, by TF
Serving's interface, images in files, and a dozen kinds of mistakes; some hang up before they are
answered. What must hold: every good request is answered 200 with the very bits of the Predictor
(of a model whose answers do not depend on what else is in a batch), every bad one with its 4xx,
nothing with a 5xx but a deliberate 503, and the server's memory does not grow after the first
tenth.
"""

import argparse
import http.client
import io
import json
import multiprocessing
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.results import write_results
from serving import Predictor

PROCESSES, SAMPLES = 2, 200
TENTHS = 10


class Request(NamedTuple):
    """One request, and what must come back.

    Attributes:
        kind: in the report.
        path: of the address.
        body: of it.
        headers: of it.
        status: of the answer.
        probabilities: that the answer holds, float32 `(rows, classes)`; None if it holds none.
    """

    kind: str
    path: str
    body: bytes
    headers: dict[str, str]
    status: int = 200
    probabilities: np.ndarray | None = None


def make_requests(name: str, predictor: Predictor, rng: np.random.Generator) -> list[Request]:
    """Return requests of every kind, for a model of digits.

    Args:
        name: of the model.
        predictor: of it.
        rng: draws the images.
    """
    requests = [*_mistakes(name)]
    for _ in range(SAMPLES):
        rows = int(rng.choice([1, 1, 1, 2, 7]))
        images = rng.integers(0, 256, (rows, 28, 28)).astype(np.uint8)
        # Each row alone: the server may run it with others.
        right = np.concatenate(
            [predictor.predict(image[np.newaxis]).probabilities for image in images]
        )
        requests += _good(name, images, right)
    return requests


def _good(name: str, images: np.ndarray, right: np.ndarray) -> list[Request]:
    infer = f"/v2/models/{name}/infer"
    tensor = {"name": "image", "shape": list(images.shape), "datatype": "UINT8"}
    asked = [{"name": "probabilities"}]
    flat = {"inputs": [{**tensor, "data": images.ravel().tolist()}], "outputs": asked}
    sized = {**tensor, "parameters": {"binary_data_size": images.nbytes}}
    head = json.dumps({"inputs": [sized], "outputs": asked}).encode()
    lengths = {"Inference-Header-Content-Length": str(len(head))}
    requests = [
        Request("JSON", infer, json.dumps(flat).encode(), {}, 200, right),
        Request("binary", infer, head + images.tobytes(), lengths, 200, right),
        Request(
            "TF Serving",
            f"/v1/models/{name}:predict",
            json.dumps({"instances": images.tolist()}).encode(),
            {},
            200,
            right,
        ),
    ]
    if len(images) == 1:
        file = io.BytesIO()
        Image.fromarray(images[0]).save(file, "PNG")
        requests.append(Request("image", f"/images/{name}", file.getvalue(), {}, 200, right))
    return requests


def _mistakes(name: str) -> list[Request]:
    infer = f"/v2/models/{name}/infer"
    tensor = {"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}

    def wrong(status: int = 400, **changes: Any) -> Request:
        body = json.dumps({"inputs": [tensor | changes]}).encode()
        return Request("mistake", infer, body, {}, status)

    lie = {"Inference-Header-Content-Length": "99999"}
    return [
        wrong(shape=[1, 28, 27]),
        wrong(data=[0] * 783),
        wrong(data=[300] * 784),
        wrong(data=["x"] * 784),
        wrong(name="x"),
        wrong(datatype="FP32"),
        wrong(parameters={"binary_data_size": 10**9}),
        Request("mistake", infer, b"{", {}, 400),
        Request("mistake", infer, b"\xff" * 100, {}, 400),
        Request("mistake", infer, b"{}", lie, 400),
        Request("mistake", infer, b"{}", {"Content-Encoding": "gzip"}, 400),
        Request("mistake", "/v2/models/none/infer", b"{}", {}, 404),
        Request("mistake", f"/images/{name}", b"no image", {}, 400),
        Request("hang up", infer, json.dumps({"inputs": [tensor]}).encode(), {}, 200),
    ]


def ask(port: int, requests: list[Request], count: int, seed: int, counts: Any) -> None:
    """Send `count` requests; put how many of each kind were answered how into `counts`."""
    rng = np.random.default_rng(seed)
    found: Counter[tuple[str, str]] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for index in rng.integers(0, len(requests), count):
        request = requests[index]
        if request.kind == "hang up":
            _hang_up(port, request)
            found[request.kind, "sent"] += 1
            continue
        try:
            connection.request("POST", request.path, request.body, request.headers)
            answer = connection.getresponse()
            found[request.kind, _judge(request, answer.status, answer.read())] += 1
        except (OSError, http.client.HTTPException) as error:
            found[request.kind, f"{type(error).__name__}"] += 1
            connection.close()
    counts.put(found)


def _hang_up(port: int, request: Request) -> None:
    head = f"POST {request.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request.body)}\r\n\r\n"
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
        stream.sendall(head.encode() + request.body[:300])


def _judge(request: Request, status: int, body: bytes) -> str:
    if status == 503:
        return "503"
    if status != request.status:
        return f"{status}, not {request.status}"
    value = json.loads(body)
    if request.probabilities is None:
        return "right" if "error" in value else "no error in it"
    if "outputs" in value:
        value = value["outputs"][0]["data"]
    else:
        value = value["probabilities"] if "probabilities" in value else _rows(value["predictions"])
    received = np.array(value, np.float32).reshape(request.probabilities.shape)
    return "right" if np.array_equal(received, request.probabilities) else "other bits"


def _rows(predictions: list[Any]) -> list[Any]:
    return [row["probabilities"] if isinstance(row, dict) else row for row in predictions]


def main() -> None:
    """Run the server, ask, watch its memory, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="of bundles, with `mlp` in it")
    parser.add_argument("--requests", type=int, default=1_000_000)
    arguments = parser.parse_args()
    predictor = Predictor.load(arguments.folder / "mlp")
    requests = make_requests("mlp", predictor, np.random.default_rng(0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    code = "from app.commands.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(arguments.folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_until_ready(port)
            found, memory = _ask_all(server.pid, port, requests, arguments.requests)
        finally:
            server.terminate()
    for (kind, outcome), count in sorted(found.items()):
        print(f"{kind:12} {outcome:24} {count:9,}")
    print("resident MB after each tenth:", *memory)
    row = {
        "what": "soak",
        "requests": sum(found.values()),
        "outcomes": {f"{kind}: {outcome}": n for (kind, outcome), n in sorted(found.items())},
        "resident_mb": memory,
        "growth_after_first_tenth": round(memory[-1] / memory[0] - 1, 4),
    }
    write_results("soak", [row])


def _wait_until_ready(port: int) -> None:
    for _ in range(300):
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise SystemExit("The server must become ready. Received: no answer.")


def _ask_all(
    server: int, port: int, requests: list[Request], count: int
) -> tuple[Counter[tuple[str, str]], list[int]]:
    """Return what came of all requests, and the server's resident memory after each tenth."""
    context = multiprocessing.get_context("fork")
    found: Counter[tuple[str, str]] = Counter()
    memory = []
    start = time.perf_counter()
    for tenth in range(TENTHS):
        counts = context.Queue()
        each = count // TENTHS // PROCESSES
        seeds = [tenth * PROCESSES + number for number in range(PROCESSES)]
        asking = [
            context.Process(target=ask, args=(port, requests, each, seed, counts)) for seed in seeds
        ]
        for process in asking:
            process.start()
        for _ in asking:
            found += counts.get()
        for process in asking:
            process.join()
        memory.append(round(_resident_mb(server)))
        rate = sum(found.values()) / (time.perf_counter() - start)
        print(f"{sum(found.values()):9,} requests, {rate:6,.0f}/s, {memory[-1]} MB", flush=True)
    return found, memory


def _resident_mb(parent: int) -> float:
    """Return the memory of the processes that a process has started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children]
    return sum(pages) * 4096 / 1e6


if __name__ == "__main__":
    main()
