"""The servers under comparison: how each is started, and which requests it gets."""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from serving.server.rpc.messages import message_class

ROOT = Path(__file__).parent.parent
RIVALS = Path(__file__).parent / "rivals"
_JSON = {"Content-Type": "application/json"}
_GRPC = {"content-type": "application/grpc", "te": "trailers"}
GRPC = "gRPC"


@dataclass(frozen=True)
class RequestFormat:
    """One format of a request for the probabilities of one image.

    Attributes:
        kind: `JSON`, `binary` or `gRPC`; servers are compared within a kind.
        path: path of the URL; the path of the method for gRPC.
        headers: headers of the request.
        body: body of the request; for gRPC the message with its length before it.
        read: function that returns the probabilities in the body of a response, float `(10,)`.
    """

    kind: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    read: Callable[[bytes], np.ndarray]


@dataclass(frozen=True)
class Contender:
    """A server under comparison.

    Attributes:
        name: name in reports.
        packages: requirements from PyPI in pip's syntax; their versions are reported.
        command: command that starts it. `{bin}` is the bin folder of its environment, `{port}` the
            port to listen on, `{second}` the port for gRPC, `{third}` one for metrics. The
            environment variable MODEL names the ONNX file.
        formats: its request formats, by the names of `make_request_formats`.
        folder: working directory.
        is_ours: whether it is Hornbill, which runs in this environment.
        is_checked: whether it runs the model, so that its responses must be checked.
    """

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    formats: tuple[str, ...] = ("open",)
    folder: Path = RIVALS
    is_ours: bool = False
    is_checked: bool = True


_UVICORN = ("uvicorn", "uvloop", "httptools")
# What the others name and Hornbill uses too has the same version in their environments.
_ONNXRUNTIME, _GRPC_CORE, _GRANIAN_CORE = (
    f"{package}=={version(package)}" for package in ("onnxruntime", "grpcio", "granian")
)
_GRANIAN = (_GRANIAN_CORE, "uvloop")
_HORNBILL = "from app.commands.cli import main; raise SystemExit(main())"
_MLSERVER = (
    "MLSERVER_HOST=127.0.0.1",
    "MLSERVER_HTTP_PORT={port}",
    "MLSERVER_GRPC_PORT={second}",
    "MLSERVER_METRICS_PORT={third}",
)
OURS = Contender(
    "Hornbill",
    (*_GRANIAN, _GRPC_CORE, "msgspec", _ONNXRUNTIME),
    (
        *("{bin}/python", "-c", _HORNBILL, "serve", "{bundle}"),
        *("--port", "{port}", "--grpc-port", "{second}"),
    ),
    ("open", "binary", "rpc"),
    folder=ROOT,
    is_ours=True,
)
CONTENDERS = (
    OURS,
    Contender(
        "constant",
        _UVICORN,
        ("{bin}/uvicorn", "constant_app:app", "--port", "{port}", "--no-access-log"),
        ("open", "binary"),
        is_checked=False,
    ),
    # The constant application on the HTTP server that Hornbill uses.
    Contender(
        "Granian",
        _GRANIAN,
        ("{bin}/granian", "--interface", "asgi", "--port", "{port}", "constant_app:app"),
        ("open", "binary"),
        is_checked=False,
    ),
    Contender(
        "grpc.aio",
        (_GRPC_CORE,),
        ("{bin}/python", "constant_rpc.py", "aio", "{second}"),
        ("rpc",),
        is_checked=False,
    ),
    # What no server on grpcio exceeds.
    Contender(
        "grpcio",
        (_GRPC_CORE,),
        ("{bin}/python", "constant_rpc.py", "core", "{second}"),
        ("rpc",),
        is_checked=False,
    ),
    Contender(
        "FastAPI",
        ("fastapi", *_UVICORN, _ONNXRUNTIME),
        ("{bin}/uvicorn", "fastapi_app:app", "--port", "{port}"),
        ("plain",),
    ),
    Contender(
        "Triton",
        ("nvidia-pytriton", _ONNXRUNTIME),
        ("{bin}/python", "triton_server.py", "{port}", "{second}", "{third}"),
        ("open", "rpc"),
    ),
    Contender(
        "MLServer",
        # MLServer 1.7 needs an older uvloop to get an event loop.
        ("mlserver", "uvloop<0.22", _ONNXRUNTIME),
        ("env", *_MLSERVER, "{bin}/mlserver", "start", "mlserver"),
        ("open", "rpc"),
    ),
    Contender(
        "KServe",
        ("kserve", _ONNXRUNTIME),
        ("{bin}/python", "kserve_app.py", "--http_port", "{port}", "--grpc_port", "{second}"),
        ("open", "rpc"),
    ),
    Contender(
        "LitServe",
        ("litserve", _ONNXRUNTIME),
        ("{bin}/python", "litserve_app.py", "{port}"),
        ("plain",),
    ),
    Contender(
        "BentoML",
        ("bentoml", _ONNXRUNTIME),
        ("{bin}/bentoml", "serve", "bentoml_app:Digits", "--port", "{port}"),
        ("plain",),
    ),
)


def make_request_formats(model: str, image: np.ndarray) -> dict[str, RequestFormat]:
    """Return the request for an image in every format.

    Args:
        model: name of the model.
        image: uint8 `(1, 28, 28)`.
    """
    path = f"/v2/models/{model}/infer"
    tensor = {"name": "image", "shape": list(image.shape), "datatype": "UINT8"}
    pixels: list[int] = image.ravel().tolist()
    request = {"inputs": [{**tensor, "data": pixels}], "outputs": [{"name": "probabilities"}]}
    is_binary = {"parameters": {"binary_data": True}}
    head = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": image.nbytes}}],
        "outputs": [{"name": "probabilities", **is_binary}],
    }
    text = json.dumps(head).encode()
    binary = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(text)),
    }
    plain = json.dumps({"image": pixels}).encode()
    message = message_class("inference.ModelInferRequest")(
        model_name=model, outputs=[{"name": "probabilities"}], raw_input_contents=[image.tobytes()]
    )
    message.inputs.add(**tensor)
    method = "/inference.GRPCInferenceService/ModelInfer"
    framed = message.SerializeToString()
    framed = struct.pack(">BI", 0, len(framed)) + framed  # not compressed, and the length
    return {
        "open": RequestFormat("JSON", path, _JSON, json.dumps(request).encode(), _read_open),
        "binary": RequestFormat("binary", path, binary, text + image.tobytes(), _read_binary),
        "rpc": RequestFormat(GRPC, method, _GRPC, framed, _read_rpc),
        "plain": RequestFormat("JSON", "/predict", _JSON, plain, _read_plain),
    }


def _read_open(body: bytes) -> np.ndarray:
    outputs = {output["name"]: output for output in json.loads(body)["outputs"]}
    return np.ravel(outputs["probabilities"]["data"])


def _read_binary(body: bytes) -> np.ndarray:
    return np.frombuffer(body[-40:], "<f4")  # (10,), after the JSON


def _read_plain(body: bytes) -> np.ndarray:
    return np.array(json.loads(body)["probabilities"])


def _read_rpc(message: bytes) -> np.ndarray:
    response = message_class("inference.ModelInferResponse").FromString(message)
    (output,) = response.outputs
    if response.raw_output_contents:
        return np.frombuffer(response.raw_output_contents[0], "<f4")
    return np.array(output.contents.fp32_contents, np.float32)
