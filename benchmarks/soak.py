"""Sends a million mixed requests to one server, valid and invalid ones.

    python -m benchmarks.soak dist [--requests 1000000]

Processes send requests over persistent connections of HTTP and of gRPC: single images and batches
as JSON, as binary tensors and by TF Serving's interface, image files, and two dozen kinds of
invalid requests. Some clients hang up before the response. Expected:

- Every valid request gets status 200 and exactly the outputs of the Predictor, which do not depend
  on the rest of a batch.
- Every invalid request gets its 4xx or its status of gRPC, and there is no 5xx except 503 under
  overload, which is UNAVAILABLE in gRPC.
- The memory of the server does not grow after the first tenth.
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
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from PIL import Image

from app.distributed.cluster import free_port
from benchmarks.arguments import path_argument
from benchmarks.results import write_results
from benchmarks.servers import wait_until_ready
from serving import Predictor
from serving.server.rpc.messages import message_class

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
_InferRequest, _InferResponse, _PredictRequest, _PredictResponse = map(
    message_class,
    (
        "inference.ModelInferRequest",
        "inference.ModelInferResponse",
        "tensorflow.serving.PredictRequest",
        "tensorflow.serving.PredictResponse",
    ),
)
PROCESSES, SAMPLES = 2, 200
TENTHS = 10


class Request(NamedTuple):
    """One request and its expected response.

    Attributes:
        kind: kind of request in the report.
        path: path of the URL; for gRPC of the method.
        body: body of the request; for gRPC the message.
        headers: headers of the request.
        status: expected status: a number, or the name of gRPC's.
        probabilities: expected probabilities, float32 `(rows, classes)`; None if there are none.
    """

    kind: str
    path: str
    body: bytes
    headers: dict[str, str]
    status: int | str = 200
    probabilities: np.ndarray | None = None


def make_requests(name: str, predictor: Predictor, rng: np.random.Generator) -> list[Request]:
    """Return requests of every kind for a digit net.

    Args:
        name: name of the model.
        predictor: Predictor of the model.
        rng: generates the images.
    """
    requests = [*_invalid_requests(name), *_invalid_calls(name)]
    for _ in range(SAMPLES):
        rows = int(rng.choice([1, 1, 1, 2, 7]))
        images = rng.integers(0, 256, (rows, 28, 28)).astype(np.uint8)
        # Each row is predicted alone, since the server may run it in any batch.
        right = np.concatenate(
            [predictor.predict(image[np.newaxis]).probabilities for image in images]
        )
        requests += _valid_requests(name, images, right)
    return requests


def _valid_requests(name: str, images: np.ndarray, right: np.ndarray) -> list[Request]:
    infer = f"/v2/models/{name}/infer"
    tensor = {"name": "image", "shape": list(images.shape), "datatype": "UINT8"}
    outputs = [{"name": "probabilities"}]
    flat = {"inputs": [{**tensor, "data": images.ravel().tolist()}], "outputs": outputs}
    sized = {**tensor, "parameters": {"binary_data_size": images.nbytes}}
    head = json.dumps({"inputs": [sized], "outputs": outputs}).encode()
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
    calls = _open_call(name, images), _typed_call(name, images), _tf_call(name, images)
    requests += [
        Request("gRPC", path, message.SerializeToString(), {}, "OK", right)
        for path, message in zip((INFER, INFER, PREDICT), calls, strict=True)
    ]
    if len(images) == 1:
        file = io.BytesIO()
        Image.fromarray(images[0]).save(file, "PNG")
        requests.append(Request("image", f"/images/{name}", file.getvalue(), {}, 200, right))
    return requests


def _open_call(name: str, images: np.ndarray) -> Any:
    message = _InferRequest(model_name=name, outputs=[{"name": "probabilities"}])
    message.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    message.raw_input_contents.append(images.tobytes())
    return message


def _typed_call(name: str, images: np.ndarray) -> Any:
    message = _open_call(name, images)
    message.ClearField("raw_input_contents")
    message.inputs[0].contents.uint_contents.extend(images.ravel().tolist())
    return message


def _tf_call(name: str, images: np.ndarray) -> Any:
    message = _PredictRequest(output_filter=["probabilities"])
    message.model_spec.name = name
    tensor = message.inputs["image"]
    tensor.dtype, tensor.tensor_content = 4, images.tobytes()
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    return message


def _invalid_calls(name: str) -> list[Request]:
    images = np.zeros((1, 28, 28), np.uint8)

    def wrong(change: Callable[[Any], Any], status: str = "INVALID_ARGUMENT") -> Request:
        message = _open_call(name, images)
        change(message)
        return Request("gRPC mistake", INFER, message.SerializeToString(), {}, status)

    return [
        wrong(lambda message: message.raw_input_contents.append(b"")),
        wrong(lambda message: message.raw_input_contents.pop()),
        wrong(lambda message: message.inputs[0].shape.append(1)),
        wrong(lambda message: message.inputs[0].contents.fp32_contents.append(1)),
        wrong(lambda message: setattr(message.inputs[0], "datatype", "FP32")),
        wrong(lambda message: setattr(message.outputs[0], "name", "x")),
        wrong(lambda message: setattr(message, "model_name", "none"), "NOT_FOUND"),
        wrong(lambda message: setattr(message, "model_version", "99"), "NOT_FOUND"),
        Request("gRPC mistake", INFER, b"\xff" * 100, {}, "INVALID_ARGUMENT"),
        Request("gRPC mistake", PREDICT, b"\x12\x00", {}, "NOT_FOUND"),
        Request("gRPC mistake", "/x.Y/Z", b"", {}, "UNIMPLEMENTED"),
        Request("gRPC hang up", INFER, _open_call(name, images).SerializeToString(), {}, "OK"),
    ]


def _invalid_requests(name: str) -> list[Request]:
    infer = f"/v2/models/{name}/infer"
    tensor = {"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}

    def wrong(status: int = 400, **changes: Any) -> Request:
        body = json.dumps({"inputs": [tensor | changes]}).encode()
        return Request("mistake", infer, body, {}, status)

    wrong_length = {"Inference-Header-Content-Length": "99999"}
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
        Request("mistake", infer, b"{}", wrong_length, 400),
        Request("mistake", infer, b"{}", {"Content-Encoding": "gzip"}, 400),
        Request("mistake", "/v2/models/none/infer", b"{}", {}, 404),
        Request("mistake", f"/images/{name}", b"no image", {}, 400),
        Request("hang up", infer, json.dumps({"inputs": [tensor]}).encode(), {}, 200),
    ]


def send(
    ports: tuple[int, int], requests: list[Request], count: int, seed: int
) -> Counter[tuple[str, str]]:
    """Send `count` random requests, and return the number of each kind and outcome."""
    rng = np.random.default_rng(seed)
    found: Counter[tuple[str, str]] = Counter()
    port, grpc_port = ports
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        for index in rng.integers(0, len(requests), count):
            request = requests[index]
            try:
                if request.kind.startswith("gRPC"):
                    outcome = _call(channel, request)
                elif request.kind == "hang up":
                    outcome = _hang_up(port, request)
                else:
                    outcome = _post(connection, request)
            except Exception as error:  # a broken connection, or a malformed response
                connection.close()
                outcome = type(error).__name__
            found[request.kind, outcome] += 1
    return found


def _post(connection: http.client.HTTPConnection, request: Request) -> str:
    connection.request("POST", request.path, request.body, request.headers)
    response = connection.getresponse()
    return _judge(request, response.status, response.read())


def _call(channel: grpc.Channel, request: Request) -> str:
    method = channel.unary_unary(request.path)
    if request.kind == "gRPC hang up":
        method.future(request.body).cancel()
        return "sent"
    status, message = "OK", b""
    try:
        message = method(request.body, timeout=60)
    except grpc.RpcError as error:
        status = error.code().name
    if status == "UNAVAILABLE":
        return "503"
    if status != request.status:
        return f"{status}, not {request.status}"
    if request.probabilities is None:
        return "right"
    received = _read(request.path, message).reshape(request.probabilities.shape)
    return "right" if np.array_equal(received, request.probabilities) else "other bits"


def _read(path: str, message: bytes) -> np.ndarray:
    if path == PREDICT:
        outputs = _PredictResponse.FromString(message).outputs
        return np.array(outputs["probabilities"].float_val, np.float32)
    response = _InferResponse.FromString(message)
    if response.raw_output_contents:
        return np.frombuffer(response.raw_output_contents[0], np.float32)
    return np.array(response.outputs[0].contents.fp32_contents, np.float32)


def _hang_up(port: int, request: Request) -> str:
    head = f"POST {request.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request.body)}\r\n\r\n"
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
        stream.sendall(head.encode() + request.body[:300])
    return "sent"


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
    """Run the server, send the requests, watch its memory, and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", metavar="DIR", type=path_argument, help="Folder of bundles that contains mlp."
    )
    parser.add_argument("--requests", type=int, default=1_000_000)
    arguments = parser.parse_args()
    predictor = Predictor.load(arguments.folder / "mlp")
    requests = make_requests("mlp", predictor, np.random.default_rng(0))
    port, grpc_port = ports = free_port(), free_port()
    code = "from app.commands.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(arguments.folder), "--port", str(port)]
    command += ["--grpc-port", str(grpc_port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            wait_until_ready(server, port)
            found, memory = _send_all(server.pid, ports, requests, arguments.requests)
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


def _send_all(
    server: int, ports: tuple[int, int], requests: list[Request], count: int
) -> tuple[Counter[tuple[str, str]], list[int]]:
    """Return the counts of all outcomes, and the resident memory in MB after each tenth."""
    context = multiprocessing.get_context("fork")
    found: Counter[tuple[str, str]] = Counter()
    memory = []
    start = time.perf_counter()
    for tenth in range(TENTHS):
        each = count // TENTHS // PROCESSES
        seeds = [tenth * PROCESSES + number for number in range(PROCESSES)]
        with ProcessPoolExecutor(PROCESSES, context) as pool:  # raises if a process ends
            for counts in pool.map(partial(send, ports, requests, each), seeds):
                found += counts
        memory.append(round(_resident_mb(server)))
        rate = sum(found.values()) / (time.perf_counter() - start)
        print(f"{sum(found.values()):9,} requests, {rate:6,.0f}/s, {memory[-1]} MB", flush=True)
    return found, memory


def _resident_mb(parent: int) -> float:
    """Return the resident memory in MB of the child processes of a process."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children]
    return sum(pages) * 4096 / 1e6


if __name__ == "__main__":
    main()
