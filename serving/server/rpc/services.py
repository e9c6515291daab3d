"""The services and their methods; admits, runs, logs and counts calls as the REST server does."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import grpc
from google.protobuf.json_format import ParseDict
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ...errors import ServingError, printable
from ...triton import describe_config
from ...version import VERSION
from ..admission import Admission
from ..answering import LONG_BODY, Answers, is_short
from ..documents import describe_stats
from ..errors import RequestError
from ..open_inference import describe_model
from ..recording import Head, Recorder
from ..repository import Repository
from ..settings import Settings
from ..tracing import Ended
from ..versions import LoadedModel
from .calls import Call, CallServer
from .messages import POOL, first_value, message_class, parse
from .open_inference import InferMessages, InferRequest
from .tf_serving import (
    MetadataRequest,
    PredictRequest,
    read_predict,
    requested_version,
    write_metadata,
    write_predict,
)

_LOG = logging.getLogger("hornbill.server")
_OPEN_INFERENCE = "inference.GRPCInferenceService"
_TF_SERVING = "tensorflow.serving.PredictionService"
_HEALTH = "grpc.health.v1.Health"
_REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
_SERVICES = (_OPEN_INFERENCE, _TF_SERVING, _HEALTH, _REFLECTION)
_EXTENSIONS = ("classification", "model_configuration", "statistics", "model_repository")
# gRPC's status for each HTTP status of `RequestError`.
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_NAMES = {code: code.name for code in grpc.StatusCode}
_WATCH_S = 0.5
# Calls that may be open beyond `max_requests`: streams, and those whose message has not arrived.
_MORE_CALLS = 4096


class _Method(NamedTuple):
    """One method.

    Attributes:
        route: its name in metrics and in the log.
        answer: returns the response to the message of a call, serialized; None for a method whose
            calls have several messages, which sends them itself.
        is_stream: whether its calls have several messages.
        depth: how deep in a message the name of a model is, as the first field of each message; 0
            for a method that runs no model.
    """

    route: str
    answer: Callable[[Call], Awaitable[bytes | None]]
    is_stream: bool = False
    depth: int = 0


class _Outcome(NamedTuple):
    """How a call has ended.

    Attributes:
        code: its status.
        token: name of the token that it presented; empty if none is needed.
        details: what was wrong.
        content: its response, serialized.
    """

    code: grpc.StatusCode
    token: str = ""
    details: str = ""
    content: bytes | None = None


class Services:
    """Answers calls with the models of a server."""

    def __init__(
        self,
        max_rows: int,
        repository: Repository,
        admission: Admission,
        answers: Answers,
        recorder: Recorder,
    ) -> None:
        self._repository = repository
        self._admission = admission
        self._answers = answers
        self._recorder = recorder
        self._max_rows = max_rows
        self._reflection = reflection.ReflectionServicer(_SERVICES, POOL)
        self._is_ending = asyncio.Event()
        self._readers: WeakKeyDictionary[LoadedModel, InferMessages] = WeakKeyDictionary()
        runs = {
            f"{_OPEN_INFERENCE}/ModelInfer": (self._infer, 1),
            f"{_TF_SERVING}/Predict": (self._predict, 2),
        }
        unary = {
            f"{_TF_SERVING}/GetModelMetadata": self._tf_metadata,
            f"{_OPEN_INFERENCE}/ServerLive": _shown(None, _live),
            f"{_OPEN_INFERENCE}/ServerReady": _shown(None, self._ready),
            f"{_OPEN_INFERENCE}/ServerMetadata": _shown(None, _server_metadata),
            f"{_OPEN_INFERENCE}/ModelReady": _shown("ModelReadyRequest", self._model_ready),
            f"{_OPEN_INFERENCE}/ModelMetadata": _shown("ModelMetadataRequest", self._metadata),
            f"{_OPEN_INFERENCE}/ModelConfig": _shown("ModelConfigRequest", self._config),
            f"{_OPEN_INFERENCE}/ModelStatistics": _shown("ModelStatisticsRequest", self._stats),
            f"{_OPEN_INFERENCE}/RepositoryIndex": self._index,
            f"{_OPEN_INFERENCE}/RepositoryModelLoad": self._load,
            f"{_OPEN_INFERENCE}/RepositoryModelUnload": self._unload,
            f"{_HEALTH}/Check": self._check,
        }
        streams = {
            f"{_HEALTH}/Watch": self._watch,
            f"{_REFLECTION}/ServerReflectionInfo": self._reflect,
            # The current name of the same messages.
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": self._reflect,
        }
        self._methods = {f"/{name}": _Method(name, answer) for name, answer in unary.items()}
        for name, (run, depth) in runs.items():
            self._methods[f"/{name}"] = _Method(name, run, depth=depth)
        for name, answer in streams.items():
            self._methods[f"/{name}"] = _Method(name, answer, is_stream=True)

    def end(self) -> None:
        """End the calls that would never end by themselves."""
        self._is_ending.set()

    def admit(self, call: Call) -> None:
        """Set the token of a call; not if it is wrong, so that `answer` refuses it."""
        with suppress(RequestError):
            call.token = self._admission.identify(call.method, call.metadata)

    async def answer(self, call: Call) -> None:
        """Answer a call; log and count it."""
        start = time.perf_counter()
        method = self._methods.get(call.method, _UNKNOWN)
        held = 0 if method.is_stream else 1
        self._admission.in_flight += held
        if method.is_stream:
            call.watch()
        outcome = _Outcome(grpc.StatusCode.CANCELLED)
        try:
            outcome = await self._respond(method, call)
        finally:
            self._admission.in_flight -= held
            code = call.finish(outcome.content, outcome.code, outcome.details)
            self._record(method, call, outcome._replace(code=code), time.perf_counter() - start)

    async def _respond(self, method: _Method, call: Call) -> _Outcome:
        token = call.token or ""
        try:
            if call.token is None:
                token = self._admission.identify(call.method, call.metadata)
            self._admission.refuse_one_too_many(call.method)
            if call.message is None and method is not _UNKNOWN:
                raise RequestError("A call must have a message. Received: none.")
            return _Outcome(grpc.StatusCode.OK, token, content=await method.answer(call))
        except RequestError as error:
            code = _CODES.get(error.status, grpc.StatusCode.UNKNOWN)
            return _Outcome(code, token, str(error))
        except ServingError as error:
            return _Outcome(grpc.StatusCode.INVALID_ARGUMENT, token, str(error))
        except Exception:
            _LOG.exception("%s failed.", printable(call.method))
            failed = "The server failed. Its log has the traceback."
            return _Outcome(grpc.StatusCode.INTERNAL, token, failed)

    def _record(self, method: _Method, call: Call, outcome: _Outcome, seconds: float) -> None:
        recorder, name = self._recorder, _NAMES[outcome.code]
        if not call.model:  # it was refused before its message was read
            call.model = _model_of(method, call)
        recorder.count(method.route, call.model, name, seconds)
        if recorder.is_logging:
            metadata = call.metadata
            request_id = str(metadata.get("x-request-id") or recorder.next_id())
            head = Head(request_id, "POST", call.method, metadata.get("traceparent", ""))
            recorder.log(head, name, seconds, len(outcome.content or b""), outcome.token)
        if recorder.trace is not None and call.model:
            recorder.trace(_ended(method, call, outcome.code, seconds))

    async def _infer(self, call: Call) -> bytes:
        run = self._answers.call
        request, is_long = await self._parsed(InferRequest, call)
        call.model = request.model_name
        loaded = await self._answers.find(request.model_name, request.model_version or None)
        messages = self._messages(loaded)
        inference, is_raw = await run(is_long, messages.read, request)
        del request
        outputs = await loaded.batcher.infer(inference.arrays)
        is_long = not is_short(outputs)
        written: bytes = await run(is_long, messages.write, inference, is_raw, outputs)
        return written

    async def _parsed(self, message: Any, call: Call) -> tuple[Any, bool]:
        """Return the request of a call, and whether it is long; its bytes are freed."""
        content = call.message or b""
        is_long = len(content) >= LONG_BODY
        request = await self._answers.call(is_long, parse, message, content)
        call.message = None
        return request, is_long

    def _messages(self, loaded: LoadedModel) -> InferMessages:
        messages = self._readers.get(loaded)
        if messages is None:
            messages = InferMessages(loaded.model.open_inference, self._max_rows)
            self._readers[loaded] = messages
        return messages

    async def _predict(self, call: Call) -> bytes:
        run = self._answers.call
        request, is_long = await self._parsed(PredictRequest, call)
        call.model = request.model_spec.name
        version = requested_version(request.model_spec)
        model = (loaded := await self._answers.find(call.model, version)).model
        fit = model.manifest, model.open_inference
        inference = await run(is_long, read_predict, *fit, request, self._max_rows)
        del request
        outputs = await loaded.batcher.infer(inference.arrays)
        is_long = not is_short(outputs)
        written: bytes = await run(is_long, write_predict, *fit, inference, outputs)
        return written

    async def _tf_metadata(self, call: Call) -> bytes:
        request = parse(MetadataRequest, call.message or b"")
        version = requested_version(request.model_spec)
        loaded = await self._answers.find(request.model_spec.name, version)
        return write_metadata(loaded.model.manifest, request)

    def _ready(self, _: Any) -> bytes:
        return _reply("ServerReadyResponse", {"ready": self._repository.is_ready})

    def _model_ready(self, request: Any) -> bytes:
        try:
            self._find(request)
        except RequestError:  # as Triton, which has no error for unknown models here
            return _reply("ModelReadyResponse", {"ready": False})
        return _reply("ModelReadyResponse", {"ready": not self._repository.is_draining})

    def _find(self, request: Any) -> LoadedModel:
        return self._repository.find(request.name, request.version or None)

    def _metadata(self, request: Any) -> bytes:
        manifest = self._find(request).model.manifest
        described = describe_model(manifest, list(self._repository.models[manifest.name]))
        return _reply("ModelMetadataResponse", described)

    def _config(self, request: Any) -> bytes:
        config = describe_config(self._find(request).model.manifest)
        return _reply("ModelConfigResponse", {"config": config})

    def _stats(self, request: Any) -> bytes:
        models = self._repository.models.values()
        all_loaded = [loaded for versions in models for loaded in versions.values()]
        found = [self._find(request)] if request.name else all_loaded
        stats = [describe_stats(loaded) for loaded in found]
        return _reply("ModelStatisticsResponse", {"model_stats": stats})

    async def _index(self, call: Call) -> bytes:
        request = _parse("RepositoryIndexRequest", call)
        models = await self._repository.index(only_ready=request.ready)
        return _reply("RepositoryIndexResponse", {"models": models})

    async def _load(self, call: Call) -> bytes:
        request = _parse("RepositoryModelLoadRequest", call)
        await self._repository.load(request.model_name, request.parameters)
        return _reply("RepositoryModelLoadResponse", {})

    async def _unload(self, call: Call) -> bytes:
        await self._repository.unload(_parse("RepositoryModelUnloadRequest", call).model_name)
        return _reply("RepositoryModelUnloadResponse", {})

    def _health(self, call: Call) -> int | None:
        """Return the status of the service that a message names; None if there is no such one."""
        service = parse(health_pb2.HealthCheckRequest, call.message or b"").service
        if service not in ("", *_SERVICES):
            return None
        is_ready = self._repository.is_ready and not self._is_ending.is_set()
        status = health_pb2.HealthCheckResponse.ServingStatus
        number: int = status.Value("SERVING" if is_ready else "NOT_SERVING")
        return number

    async def _check(self, call: Call) -> bytes:
        status = self._health(call)
        if status is None:
            raise RequestError(f"The service must be one of {', '.join(_SERVICES)}.", 404)
        content: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
        return content

    async def _watch(self, call: Call) -> None:
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        sent = None
        while not self._is_ending.is_set() or sent is None:
            status = self._health(call) or unknown
            if status != sent:
                await call.send(health_pb2.HealthCheckResponse(status=status).SerializeToString())
                sent = status
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S):
                    await self._is_ending.wait()

    async def _reflect(self, call: Call) -> None:
        content = call.message
        while content is not None:
            request = parse(reflection_pb2.ServerReflectionRequest, content)
            for response in self._reflection.ServerReflectionInfo([request], None):
                await call.send(response.SerializeToString())
            content = await call.receive()


async def _refuse(call: Call) -> bytes:
    service, _, name = call.method[1:].rpartition("/")
    received = f"{name:.80} of {service:.80}, which is not supported"
    raise RequestError(
        f"The method must be one that the reflection service lists. Received: {received}.", 501
    )


_UNKNOWN = _Method("other", _refuse)


def _shown(request: str | None, show: Callable[[Any], bytes]) -> Callable[[Call], Awaitable[bytes]]:
    """Return a method that reads a message of the Open Inference Protocol and shows something."""

    async def answer(call: Call) -> bytes:
        return show(_parse(request, call) if request else None)

    return answer


def _model_of(method: _Method, call: Call) -> str:
    """Return the name of the model that a call asks for; empty if it asks for none."""
    value: bytes | memoryview | None = call.message if method.depth else None
    for _ in range(method.depth):
        value = None if value is None else first_value(value)
    return "" if value is None else str(value, "utf-8", "replace")


def _parse(message: str, call: Call) -> Any:
    return parse(message_class(f"inference.{message}"), call.message or b"")


def _ended(method: _Method, call: Call, code: grpc.StatusCode, seconds: float) -> Ended:
    """Return the description of a call for its trace."""
    service, _, name = method.route.rpartition("/")
    is_error = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
    attributes: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": name,
        "rpc.grpc.status_code": code.value[0],
        "hornbill.model": call.model,
    }
    if is_error:
        attributes["error.type"] = code.name
    parent, state = (str(call.metadata.get(key, "")) for key in ("traceparent", "tracestate"))
    return Ended(method.route, parent, state, seconds, attributes, is_error)


def _live(_: Any) -> bytes:
    return _reply("ServerLiveResponse", {"live": True})


def _server_metadata(_: Any) -> bytes:
    named = {"name": "hornbill", "version": VERSION, "extensions": _EXTENSIONS}
    return _reply("ServerMetadataResponse", named)


def _reply(message: str, fields: Mapping[str, Any]) -> bytes:
    """Return a message of the Open Inference Protocol, serialized; REST may have more fields."""
    empty = message_class(f"inference.{message}")()
    content: bytes = ParseDict(fields, empty, ignore_unknown_fields=True).SerializeToString()
    return content


class RpcServer:
    """Serves gRPC on the event loop of the server."""

    def __init__(self, settings: Settings, services: Services) -> None:
        """Make a server that does not listen yet; `services` answer its calls."""
        self._services = services
        self._settings = settings
        self._calls = CallServer(
            self._services.admit,
            self._services.answer,
            int(settings.max_body_mb * 1e6),
            settings.body_s,
            settings.max_requests + _MORE_CALLS,
        )

    def listen(self, address: str) -> None:
        """Start to serve on an address such as `127.0.0.1:8001`, on the running event loop.

        Raises:
            OSError: the address cannot be used.
        """
        certificate, key = self._settings.tls_certificate, self._settings.tls_key
        if certificate is None or key is None:
            self._calls.listen(address)
        else:
            pair = key.read_bytes(), certificate.read_bytes()
            self._calls.listen(address, grpc.ssl_server_credentials([pair]))

    async def watch(self) -> None:
        """End the calls of clients that are too slow; runs until it is cancelled."""
        await self._calls.watch()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls and complete the open ones; cancel those that take longer."""
        self._services.end()
        await self._calls.stop(grace_s)

    def close(self) -> None:
        """End at once."""
        self._services.end()
        self._calls.close()
