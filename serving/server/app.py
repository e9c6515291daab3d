"""The server as an RSGI application: admits, runs, logs and counts requests."""

import asyncio
import hmac
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from granian.rsgi import Headers, HTTPProtocol, Scope
from prometheus_client import Counter, Histogram

from ..cores import available_cores
from ..errors import ServingError, printable
from ..inputs import read_model_image
from .documents import Document, Documents
from .errors import RequestError
from .http import BINARY, Bodies, Response, compressed, error_response, send_response
from .image_requests import require_images, write_image_response
from .models import Model
from .open_inference import JSON_LENGTH, Inference
from .repository import LoadedModel, Repository
from .router import Handler, ModelHandler, Router
from .settings import Settings
from .telemetry import AccessLog, LogLine, Metrics, PredictionCounter
from .tf_serving import Call, read_call, write_predictions
from .turns import Turns

if TYPE_CHECKING:
    from .rpc import RpcServer

_LOG = logging.getLogger("hornbill.server")
# Bytes: longer bodies are read and written in a thread, since other requests would have to wait.
LONG_BODY = 200_000
_FLUSH_S = 0.5
_TOO_DEEP = "JSON must be nested less than a thousand levels deep. Received: more."
_LOADING_S = 20.0
_RPC_DRAIN_S = 10.0  # for gRPC calls in flight when the server ends
_ORPHAN_S = 30.0  # for requests in flight when the main process has ended
# Never refused: a busy server must not look dead to its health checks.
_OPEN = frozenset((
    "/v2/health/live", "/v2/health/ready", "/",
    "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
    "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady",
))  # fmt: skip


# A function that reads the body of a request for a model, and one that writes the outputs.
Read = Callable[[Model, Headers, bytes, int | None], Inference | Call]
Write = Callable[[Model, Any, Sequence[np.ndarray]], Response]


class Server:
    """Serves the bundles of a folder over HTTP, and over gRPC if the settings say so.

    Attributes:
        settings: settings of the server.
        repository: its models.
        in_flight: number of requests in flight.
        log: its access log.

    Examples:
        >>> server = Server(Settings(Path("dist")))  # for `granian module:server`
    """

    def __init__(self, settings: Settings, parent: int | None = None) -> None:
        """Make a server. It loads its models when it is started.

        Args:
            settings: settings of the server.
            parent: id of the main process; this one ends with it. None if there is none.
        """
        self.settings = settings
        self._parent = parent
        self._metrics = Metrics()
        self.log = AccessLog()
        self._threads = available_cores()
        # One more thread, so that new versions are loaded while all others read requests.
        self._executor = ThreadPoolExecutor(self._threads + 1, "hornbill")
        self._batch_threads = ThreadPoolExecutor(self._threads, "hornbill-batches")
        self._turns = Turns(self._batch_threads, self._threads)
        # A separate pool: large images wait for each other, and nothing else must wait for them.
        self._image_threads = ThreadPoolExecutor(self._threads, "hornbill-images")
        self.repository = Repository(settings.folder, settings.versions, self._serve)
        handlers: dict[str, ModelHandler] = {
            "infer": partial(self._run, _read_inference, _write_inference),
            "predict": partial(self._run, _read_call, _write_predictions),
            "image": self._image,
        }
        documents = Documents(self.repository, self._metrics)
        self._router = Router(handlers, documents, self._show, self.repository)
        self._is_loaded = asyncio.Event()
        self.in_flight = 0
        self._numbers = itertools.count()
        self._bodies = Bodies(int(settings.max_body_mb * 1e6), settings.body_s)
        self._tasks: list[asyncio.Task[None]] = []
        self._rpc: RpcServer | None = None
        self._series: dict[tuple[str, int | str], tuple[Histogram, Counter]] = {}

    def _serve(self, model: Model) -> LoadedModel:
        counter = PredictionCounter(self._metrics, model.manifest)
        batcher = model.batcher(counter.count, self._turns, self.settings)
        return LoadedModel(model, batcher)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start loading the models; called before the first request."""
        works = self._watch(), self._flush(), self._bodies.watch()
        self._tasks = [loop.create_task(work) for work in works]

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Free all resources; called after the last request."""
        self.repository.is_ready = False
        if self._rpc is not None:
            if loop.is_running():
                self._rpc.close()
            else:
                loop.run_until_complete(self._rpc.stop(_RPC_DRAIN_S))
        for task in self._tasks:
            task.cancel()
        self.log.close()
        self._bodies.close()
        self._executor.shutdown(cancel_futures=True)
        self._batch_threads.shutdown(cancel_futures=True)
        self._image_threads.shutdown(cancel_futures=True)

    def _listen(self, address: str) -> bool:
        """Serve gRPC too; return whether it can listen."""
        from .rpc import RpcServer  # grpcio is an extra

        rpc = RpcServer(self)
        try:
            rpc.listen(address)
        except OSError as error:
            _LOG.error("%s", error)
            return False
        self._rpc = rpc
        self._tasks.append(asyncio.create_task(rpc.watch()))
        return True

    async def _watch(self) -> None:
        address = self.settings.grpc_address
        while address is not None and not self._listen(address):  # not ready before it listens
            await asyncio.sleep(self.settings.poll_s)
        while True:
            try:
                if await self.repository.refresh(self._executor):
                    self.repository.is_ready = True
                    self._is_loaded.set()
                self._update_gauges()
            except Exception:  # the loop must go on, or new versions would never be served
                _LOG.exception("Looking for new versions failed.")
            await asyncio.sleep(self.settings.poll_s)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            try:
                self.log.flush()
                self._update_gauges()
                self._end_with_parent()
            except Exception:  # the loop must go on, or nothing more would be logged
                _LOG.exception("Writing the access log failed.")

    def _end_with_parent(self) -> None:
        """End this process if the main process is gone: it would hold the port forever."""
        if self._parent is not None and os.getppid() != self._parent:
            _LOG.error("The main process has ended; this worker ends too.")
            self._parent = None
            force = threading.Timer(_ORPHAN_S, os._exit, [1])
            force.daemon = True  # else the process would wait for it
            force.start()
            os.kill(os.getpid(), signal.SIGTERM)

    def _update_gauges(self) -> None:
        models, failures = self.repository.models, self.repository.failures()
        waiting = {
            name: sum(loaded.batcher.waiting for loaded in versions.values())
            for name, versions in models.items()
        }
        failed = {(name, number): False for name in failures for number in failures[name]}
        served = {(name, number): True for name in models for number in models[name]}
        self._metrics.update_gauges(self.in_flight, waiting, failed | served)

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        """Respond to a request."""
        start = time.perf_counter()
        method, path, headers = scope.method, scope.path, scope.headers
        request_id = headers.get("x-request-id") or self.next_id()
        route, handle = self._router.find(method, path, headers)
        self.in_flight += 1
        try:
            response = await self._respond(method, path, headers, protocol, handle)
            size = len(response.body)
            response = await self.call(size >= LONG_BODY, compressed, response, headers)
            send_response(method, protocol, response, request_id)
        finally:
            self.in_flight -= 1
        seconds = time.perf_counter() - start
        self.count(route, response.status, seconds)
        if self.settings.log_requests:
            self.log.write(
                LogLine(
                    round(time.time(), 3),
                    request_id,
                    method,
                    path,
                    response.status,
                    round(1000 * seconds, 3),
                    size,
                )
            )
        if response.status != 200 or method != "POST":
            await self._bodies.drain(protocol)

    async def _respond(
        self, method: str, path: str, headers: Headers, protocol: HTTPProtocol, handle: Handler
    ) -> Response:
        try:
            self.admit(path, headers)
            return await handle(headers, protocol)
        except RequestError as error:
            return error_response(str(error), error.status, error.headers)
        except ServingError as error:
            return error_response(str(error), 400, {})
        except RecursionError:
            return error_response(_TOO_DEEP, 400, {})
        except Exception:
            _LOG.exception("%s %s failed.", method, printable(path))
            return error_response("The server failed. Its log has the traceback.", 500, {})

    def next_id(self) -> str:
        """Return a new id for a request."""
        return f"{os.getpid():x}-{next(self._numbers):x}"

    def count(self, route: str, status: int | str, seconds: float) -> None:
        """Count a completed request."""
        series = self._series.get((route, status))
        if series is None:
            metrics = self._metrics
            series = metrics.seconds.labels(route), metrics.requests.labels(route, str(status))
            self._series[route, status] = series
        series[0].observe(seconds)
        series[1].inc()

    def admit(self, path: str, headers: Headers | Mapping[str, str]) -> None:
        """Raise `RequestError` if too many requests are in flight or the token is wrong."""
        if path in _OPEN:
            return
        if self.in_flight > self.settings.max_requests:
            raise RequestError(
                f"At most {self.settings.max_requests} requests may be in flight. "
                "Received: one more. Try again later.",
                503,
                {"retry-after": "1"},
            )
        token = self.settings.token
        if token is None:
            return
        header = headers.get("authorization", "")
        scheme, _, presented = header.partition(" ")
        is_right = hmac.compare_digest(presented.strip().encode(), token.strip().encode())
        if scheme.lower() != "bearer" or not is_right:  # RFC 9110: schemes ignore case
            raise RequestError(
                "Requests must present the token: Authorization: Bearer …. Received: "
                f"{'another one' if header else 'none'}.",
                401,
                {"www-authenticate": "Bearer"},
            )

    async def _run(
        self,
        read: Read,
        write: Write,
        name: str,
        version: str | None,
        headers: Headers,
        protocol: HTTPProtocol,
    ) -> Response:
        """Read a request, run the model on it, and write the response."""
        loaded = await self.find(name, version)
        body = await self._bodies.read(headers, protocol)
        is_long = len(body) >= LONG_BODY
        max_rows = self.settings.max_rows if is_long else None
        request = await self.call(is_long, read, loaded.model, headers, body, max_rows)
        outputs = await loaded.batcher.infer(request.arrays)
        is_long = not is_short(outputs)
        response: Response = await self.call(is_long, write, loaded.model, request, outputs)
        return response

    async def _image(
        self, name: str, version: str | None, headers: Headers, protocol: HTTPProtocol
    ) -> Response:
        loaded = await self.find(name, version)
        manifest = loaded.model.manifest
        require_images(manifest)
        body = await self._bodies.read(headers, protocol)
        start = time.perf_counter()
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(self._image_threads, read_model_image, body, manifest)
        arrays = await loaded.batcher.infer({manifest.inputs[0].name: image[np.newaxis]})
        milliseconds = 1000 * (time.perf_counter() - start)
        return write_image_response(loaded.model.prediction(arrays), image, milliseconds)

    async def find(self, name: str, version: str | None) -> LoadedModel:
        """Return a served version of a model; the latest if `version` is None.

        Waits a while: a restarted process gets requests before it has loaded its models.

        Raises:
            RequestError: there is no such model or version.
        """
        if not self._is_loaded.is_set():
            with suppress(TimeoutError):  # then the repository reports that it is not ready
                async with asyncio.timeout(_LOADING_S):
                    await self._is_loaded.wait()
        return self.repository.find(name, version)

    async def _show(self, path: str, document: Document) -> Response:
        # The metrics of all processes are read from files.
        response: Response = await self.call(path == "/metrics", document)
        return response

    async def call(self, is_long: bool, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function; in a thread if it would block the event loop for long."""
        if is_long:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, call, *arguments)
        return call(*arguments)


def _read_inference(model: Model, headers: Headers, body: bytes, max_rows: int | None) -> Inference:
    return model.open_inference.read(body, _json_length(headers), max_rows)


def _write_inference(model: Model, inference: Inference, outputs: Sequence[np.ndarray]) -> Response:
    content, json_length = model.open_inference.write(inference, outputs)
    if json_length is None:
        return Response(content)
    return Response(content, media_type=BINARY, headers=[(JSON_LENGTH, str(json_length))])


def _read_call(model: Model, _headers: Headers, body: bytes, max_rows: int | None) -> Call:
    return read_call(model.manifest, body, max_rows)


def _write_predictions(model: Model, call: Call, outputs: Sequence[np.ndarray]) -> Response:
    return write_predictions(model.manifest, call, outputs)


def is_short(outputs: Sequence[np.ndarray]) -> bool:
    """Return whether outputs are written quickly: a number is about 20 bytes of JSON."""
    return sum([array.size for array in outputs]) < LONG_BODY // 20


def _json_length(headers: Headers) -> int | None:
    length = headers.get(JSON_LENGTH)
    if length is None:
        return None
    if not (length.isdigit() and len(length) < 19):
        raise RequestError(f"{JSON_LENGTH} must be a number of bytes. Received: {length!r:.40}.")
    return int(length)
