"""The server as an RSGI application: admits, runs, logs and counts requests."""

import asyncio
import hmac
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from granian.rsgi import Headers, HTTPProtocol, Scope
from prometheus_client import Counter, Histogram

from ..cores import available_cores
from ..errors import ServingError, printable
from ..inputs import read_model_image
from .bodies import Bodies, Body
from .documents import Document, Documents
from .errors import RequestError
from .hosts import Hosts
from .http import Response, compressed, error_response, header_values
from .image_requests import require_images, write_image_response
from .models import Model
from .open_inference import JSON_LENGTH, Inference
from .repository import LoadedModel, Repository
from .rooms import Room
from .router import Handler, ModelHandler, Router
from .sending import limit_connections, send_response
from .settings import Settings
from .telemetry import AccessLog, LogLine, Metrics, PredictionCounter
from .tf_serving import Call, read_call, write_predictions

_LOG = logging.getLogger("hornbill.server")
# Bytes: longer bodies are read and written in a thread, part by part, since others would wait.
_LONG_BODY = 65_536
_NUMBER_BYTES = 20  # of JSON
_FLUSH_S = 0.5
_TOO_DEEP = "JSON must be nested less than a thousand levels deep. Received: more."
_LOADING_S = 20.0
_LISTENING_TRIES = 200
_ORPHAN_S = 30.0  # for requests in flight when the main process has ended
# Never refused: a busy server must not look dead to its health checks.
_OPEN = ("/v2/health/live", "/v2/health/ready", "/")


class Format(NamedTuple):
    """How the requests of a protocol are read, and its responses written.

    Attributes:
        read: reads the body of a request for a model.
        write: writes the outputs, part by part if they are long.
    """

    read: Callable[[Model, Headers, bytes, int | None], Inference | Call]
    write: Callable[[Model, Any, Sequence[np.ndarray], bool], Response]


class Server:
    """Serves the bundles of a folder.

    Examples:
        >>> server = Server(Settings(Path("dist")))  # for `granian module:server`
    """

    def __init__(self, settings: Settings, parent: int | None = None) -> None:
        """Make a server. It loads its models when it is started.

        Args:
            settings: settings of the server.
            parent: id of the main process; this one ends with it. None if there is none.
        """
        self._settings = settings
        self._parent = parent
        self._metrics = Metrics()
        self._log = AccessLog()
        self._threads = available_cores()
        # One more thread, so that new versions are loaded while all others run batches.
        self._executor = ThreadPoolExecutor(self._threads + 1, "hornbill")
        # A separate pool: large images wait for each other, and nothing else must wait for them.
        self._image_threads = ThreadPoolExecutor(self._threads, "hornbill-images")
        self._repository = Repository(settings.folder, settings.versions, self._serve)
        handlers: dict[str, ModelHandler] = {
            "infer": partial(self._run, Format(_read_inference, _write_inference)),
            "predict": partial(self._run, Format(_read_call, _write_predictions)),
            "image": self._image,
        }
        documents = Documents(self._repository, self._metrics)
        self._router = Router(handlers, documents, self._show, self._repository)
        self._is_loaded = asyncio.Event()
        self._in_flight = 0
        self._numbers = itertools.count()
        max_bytes = int(settings.max_body_mb * 1e6)
        # All long bodies and responses together may be as long as the longest body.
        self._room = Room(max_bytes, settings.body_s)
        self._bodies = Bodies(max_bytes, settings.body_s, settings.max_requests, self._room)
        self._hosts = Hosts(settings.allowed_hosts)
        self._tasks: list[asyncio.Task[None]] = []
        self._series: dict[tuple[str, int], tuple[Histogram, Counter]] = {}

    def _serve(self, model: Model) -> LoadedModel:
        counter = PredictionCounter(self._metrics, model.manifest)
        batcher = model.batcher(counter.count, self._executor, self._threads, self._settings)
        return LoadedModel(model, batcher)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start loading the models; called before the first request."""
        works = self._watch(), self._flush(), self._bodies.watch(), self._limit_connections()
        self._tasks = [loop.create_task(work) for work in works]

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Free all resources; called after the last request."""
        self._repository.is_ready = False
        for task in self._tasks:
            task.cancel()
        self._log.close()
        self._bodies.close()
        self._executor.shutdown(cancel_futures=True)
        self._image_threads.shutdown(cancel_futures=True)

    async def _watch(self) -> None:
        while True:
            try:
                if await self._repository.refresh(self._executor):
                    self._repository.is_ready = True
                    self._is_loaded.set()
                self._update_gauges()
            except Exception:  # the loop must go on, or new versions would never be served
                _LOG.exception("Looking for new versions failed.")
            await asyncio.sleep(self._settings.poll_s)

    async def _limit_connections(self) -> None:
        for _ in range(_LISTENING_TRIES):  # Granian listens soon after this starts
            if limit_connections(self._settings.write_s):
                return
            await asyncio.sleep(0.05)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            try:
                self._log.flush()
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
        models, failures = self._repository.models, self._repository.failures()
        waiting = {
            name: sum(loaded.batcher.waiting for loaded in versions.values())
            for name, versions in models.items()
        }
        failed = {(name, number): False for name in failures for number in failures[name]}
        served = {(name, number): True for name in models for number in models[name]}
        self._metrics.update_gauges(self._in_flight, waiting, failed | served)

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        """Respond to a request."""
        start = time.perf_counter()
        method, path, headers = scope.method, scope.path, scope.headers
        client = scope.client
        request_id = headers.get("x-request-id") or f"{os.getpid():x}-{next(self._numbers):x}"
        route, handle = self._router.find(method, path, headers)
        self._in_flight += 1
        room = 0
        try:
            response = await self._respond(method, path, headers, protocol, client, handle)
            room, size = response.room, response.size
            response = await self._call(size >= _LONG_BODY, compressed, response, headers)
            await send_response(method, protocol, response, request_id, self._settings.write_s)
        finally:
            self._in_flight -= 1
            self._room.leave(room)
        seconds = time.perf_counter() - start
        self._count(route, response.status, seconds)
        if self._settings.log_requests:
            self._log.write(
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
        if (response.status != 200 or method != "POST") and response.status != 408:
            await self._bodies.drain(protocol, client)

    async def _respond(
        self,
        method: str,
        path: str,
        headers: Headers,
        protocol: HTTPProtocol,
        client: str,
        handle: Handler,
    ) -> Response:
        try:
            self._hosts.check(headers, path in _OPEN)
            self._admit(path, headers)
            return await handle(headers, protocol, client)
        except RequestError as error:
            return error_response(str(error), error.status, error.headers)
        except ServingError as error:
            return error_response(str(error), 400, {})
        except RecursionError:
            return error_response(_TOO_DEEP, 400, {})
        except Exception:
            _LOG.exception("%s %s failed.", method, printable(path))
            return error_response("The server failed. Its log has the traceback.", 500, {})

    def _count(self, route: str, status: int, seconds: float) -> None:
        series = self._series.get((route, status))
        if series is None:
            metrics = self._metrics
            series = metrics.seconds.labels(route), metrics.requests.labels(route, str(status))
            self._series[route, status] = series
        series[0].observe(seconds)
        series[1].inc()

    def _admit(self, path: str, headers: Headers) -> None:
        """Raise `RequestError` if too many requests are in flight or the token is wrong."""
        if path in _OPEN:
            return
        self._refuse_one_too_many()
        token = self._settings.token
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

    def _refuse_one_too_many(self) -> None:
        if self._in_flight > self._settings.max_requests:
            raise RequestError(
                f"At most {self._settings.max_requests} requests may be in flight. "
                "Received: one more. Try again later.",
                503,
                {"retry-after": "1"},
            )

    async def _receive(self, headers: Headers, protocol: HTTPProtocol, client: str) -> Body:
        """Receive a body. Its request is in flight once it is there."""
        self._in_flight -= 1
        try:
            body = await self._bodies.receive(headers, protocol, client)
        finally:
            self._in_flight += 1
        if self._in_flight > self._settings.max_requests:
            self._room.leave(body.room)
            self._refuse_one_too_many()
        return body

    async def _run(
        self,
        form: Format,
        name: str,
        version: str | None,
        headers: Headers,
        protocol: HTTPProtocol,
        client: str,
    ) -> Response:
        """Read a request, run the model on it, and write the response."""
        if not self._is_loaded.is_set():
            await self._wait_until_loaded()
        loaded = self._repository.find(name, version)
        body, room = await self._receive(headers, protocol, client)
        try:
            is_long = len(body) >= _LONG_BODY
            max_rows = self._settings.max_rows if is_long else None
            request = await self._call(is_long, form.read, loaded.model, headers, body, max_rows)
            del body
            outputs = await loaded.batcher.infer(request.arrays)
        finally:
            self._room.leave(room)
        numbers = sum([array.size for array in outputs])
        if numbers < _LONG_BODY // _NUMBER_BYTES:
            return form.write(loaded.model, request, outputs, False)
        request.arrays.clear()  # they may be parts of the body
        return await self._write_long(form, loaded.model, request, outputs, numbers)

    async def _write_long(
        self, form: Format, model: Model, request: Any, outputs: Sequence[np.ndarray], numbers: int
    ) -> Response:
        room = await self._room.take(numbers * _NUMBER_BYTES)
        try:
            response: Response = await self._call(True, form.write, model, request, outputs, True)
        except BaseException:
            self._room.leave(room)
            raise
        return response._replace(room=room)

    async def _image(
        self,
        name: str,
        version: str | None,
        headers: Headers,
        protocol: HTTPProtocol,
        client: str,
    ) -> Response:
        if not self._is_loaded.is_set():
            await self._wait_until_loaded()
        loaded = self._repository.find(name, version)
        manifest = loaded.model.manifest
        require_images(manifest)
        body, room = await self._receive(headers, protocol, client)
        try:
            start = time.perf_counter()
            loop = asyncio.get_running_loop()
            image = await loop.run_in_executor(
                self._image_threads, read_model_image, body, manifest
            )
        finally:
            self._room.leave(room)
        arrays = await loaded.batcher.infer({manifest.inputs[0].name: image[np.newaxis]})
        milliseconds = 1000 * (time.perf_counter() - start)
        return write_image_response(loaded.model.prediction(arrays), image, milliseconds)

    async def _wait_until_loaded(self) -> None:
        """Wait a while: a restarted process gets requests before it has loaded its models."""
        with suppress(TimeoutError):  # then the repository reports that it is not ready
            async with asyncio.timeout(_LOADING_S):
                await self._is_loaded.wait()

    async def _show(self, path: str, document: Document) -> Response:
        # The metrics of all processes are read from files.
        response: Response = await self._call(path == "/metrics", document)
        return response

    async def _call(self, is_long: bool, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function; in a thread if it would block the event loop for long."""
        if is_long:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, call, *arguments)
        return call(*arguments)


def _read_inference(model: Model, headers: Headers, body: bytes, max_rows: int | None) -> Inference:
    return model.open_inference.read(body, _json_length(headers), max_rows)


def _write_inference(
    model: Model, inference: Inference, outputs: Sequence[np.ndarray], is_long: bool
) -> Response:
    return model.open_inference.write(inference, outputs, is_long)


def _read_call(model: Model, _headers: Headers, body: bytes, max_rows: int | None) -> Call:
    return read_call(model.manifest, body, max_rows)


def _write_predictions(
    model: Model, call: Call, outputs: Sequence[np.ndarray], is_long: bool
) -> Response:
    return write_predictions(model.manifest, call, outputs, is_long)


def _json_length(headers: Headers) -> int | None:
    if JSON_LENGTH not in headers:
        return None
    lengths = header_values(headers, JSON_LENGTH)
    if len(lengths) != 1 or not (lengths[0].isdigit() and len(lengths[0]) < 19):
        received = ", ".join(lengths)
        raise RequestError(f"{JSON_LENGTH} must be a number of bytes. Received: {received!r:.40}.")
    return int(lengths[0])
