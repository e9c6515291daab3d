"""The server as an RSGI application: which address is answered by what."""

import asyncio
import hmac
import itertools
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from granian.rsgi import Headers, HTTPProtocol, Scope
from prometheus_client import Counter, Histogram

from ..cores import available_cores
from ..errors import ServingError, printable
from ..inputs import read_model_image
from .documents import Document, Documents
from .errors import RequestError
from .http import BINARY, Answer, Bodies, compressed, error_answer, send_answer
from .image_requests import require_images, write_image_answer
from .models import Model
from .open_inference import JSON_LENGTH
from .repository import LoadedModel, Repository
from .settings import Settings
from .telemetry import AccessLog, Answers, LogLine, Metrics
from .tf_serving import read_call, write_answer

_LOG = logging.getLogger("hornbill.server")
_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/([^/:]+))?:predict")
_IMAGE = re.compile(r"/images/([^/]+)(?:/versions/([^/]+))?")
# Read and written in a thread where it takes long enough for other requests to notice.
_LONG_BODY = 200_000
_FLUSH_S = 0.5
_TOO_DEEP = "JSON must be nested less than a thousand levels deep. Received: more."
_LOADING_S = 20.0
_ORPHAN_S = 30.0  # for requests under way when the main process is gone
_OPEN = ("/v2/health/live", "/v2/health/ready", "/")
# Of those that are kept: whoever asks can invent versions.
_MAX_ROUTES, _LONGEST_ROUTE = 1024, 256
Handle = Callable[[Headers, HTTPProtocol], Awaitable[Answer]]
Route = tuple[str, Handle]


class Server:
    """Serves the bundles of a folder.

    Examples:
        >>> server = Server(Settings(Path("dist")))  # for `granian module:server`
    """

    def __init__(self, settings: Settings, parent: int | None = None) -> None:
        """Make a server; it loads its models once it is started.

        Args:
            settings: of the server.
            parent: the process without which this one is to end; None if it is its own.
        """
        self._settings = settings
        self._parent = parent
        self._metrics = Metrics()
        self._log = AccessLog()
        self._threads = available_cores()
        # One more, so that new versions are loaded while all others run batches.
        self._executor = ThreadPoolExecutor(self._threads + 1, "hornbill")
        # Of their own: large ones wait for each other, and must not hold up anything else.
        self._image_threads = ThreadPoolExecutor(self._threads, "hornbill-images")
        self._repository = Repository(settings.folder, settings.versions, self._serve)
        self._documents = Documents(self._repository, self._metrics)
        self._is_loaded = asyncio.Event()
        self._under_way = 0
        self._numbers = itertools.count()
        self._bodies = Bodies(int(settings.max_body_mb * 1e6), settings.body_s)
        self._tasks: list[asyncio.Task[None]] = []
        self._series: dict[tuple[str, int], tuple[Histogram, Counter]] = {}
        self._routes: dict[tuple[str, str], Route] = {}

    def _serve(self, model: Model) -> LoadedModel:
        answers = Answers(self._metrics, model.manifest)
        batcher = model.batcher(answers.count, self._executor, self._threads, self._settings)
        return LoadedModel(model, batcher)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to load models, before the first request."""
        works = self._watch(), self._flush(), self._bodies.watch()
        self._tasks = [loop.create_task(work) for work in works]

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """End, after the last request."""
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
                self._note_present()
            except Exception:  # what is served must not stay so for ever because of it
                _LOG.exception("the folder of models could not be looked at")
            await asyncio.sleep(self._settings.poll_s)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            try:
                self._log.flush()
                self._note_present()
                self._end_with_parent()
            except Exception:  # else nothing would be logged or noted from here on
                _LOG.exception("the log could not be flushed")

    def _end_with_parent(self) -> None:
        """End if the process is gone that would start another, and hold the port no longer."""
        if self._parent is not None and os.getppid() != self._parent:
            _LOG.error("the main process is gone; this one ends")
            self._parent = None
            force = threading.Timer(_ORPHAN_S, os._exit, [1])
            force.daemon = True  # else the process would wait for it
            force.start()
            os.kill(os.getpid(), signal.SIGTERM)

    def _note_present(self) -> None:
        models, failures = self._repository.models, self._repository.failures()
        waiting = {
            name: sum(served.batcher.waiting for served in versions.values())
            for name, versions in models.items()
        }
        failed = {(name, number): False for name in failures for number in failures[name]}
        answering = {(name, number): True for name in models for number in models[name]}
        self._metrics.note(self._under_way, waiting, failed | answering)

    async def __rsgi__(self, scope: Scope, exchange: HTTPProtocol) -> None:
        """Answer a request."""
        start = time.perf_counter()
        method, path, headers = scope.method, scope.path, scope.headers
        request_id = headers.get("x-request-id") or f"{os.getpid():x}-{next(self._numbers):x}"
        route, handle = self._routes.get((method, path)) or self._route(method, path, headers)
        self._under_way += 1
        try:
            answer = await self._answer(method, path, headers, exchange, handle)
            size = len(answer.body)
            if size < _LONG_BODY:
                answer = compressed(answer, headers)
            else:
                answer = await self._in_thread(compressed, answer, headers)
            send_answer(method, exchange, answer, request_id)
        finally:
            self._under_way -= 1
        seconds = time.perf_counter() - start
        self._count(route, answer.status, seconds)
        if self._settings.log_requests:
            self._log.write(
                LogLine(
                    round(time.time(), 3),
                    request_id,
                    method,
                    path,
                    answer.status,
                    round(1000 * seconds, 3),
                    size,
                )
            )
        if answer.status != 200 or method != "POST":
            await self._bodies.drain(exchange)

    async def _answer(
        self, method: str, path: str, headers: Headers, exchange: HTTPProtocol, handle: Handle
    ) -> Answer:
        try:
            self._admit(path, headers)
            return await handle(headers, exchange)
        except ServingError as error:
            return _refusal(error)
        except RecursionError:
            return error_answer(_TOO_DEEP, 400, {})
        except Exception:
            _LOG.exception("%s %s", method, printable(path))
            return error_answer("The server failed. Its log says where.", 500, {})

    def _count(self, route: str, status: int, seconds: float) -> None:
        series = self._series.get((route, status))
        if series is None:
            metrics = self._metrics
            series = metrics.seconds.labels(route), metrics.requests.labels(route, str(status))
            self._series[route, status] = series
        series[0].observe(seconds)
        series[1].inc()

    def _admit(self, path: str, headers: Headers) -> None:
        """Raise `RequestError` where there is too much to do, or the token is missing."""
        if path in _OPEN:  # who watches a busy server must not take it for a dead one
            return
        if self._under_way > self._settings.max_requests:
            raise RequestError(
                f"At most {self._settings.max_requests} requests may be under way. "
                "Received: one more.",
                503,
                {"retry-after": "1"},
            )
        token = self._settings.token
        if token is None:
            return
        given = headers.get("authorization", "")
        scheme, _, borne = given.partition(" ")
        is_right = hmac.compare_digest(borne.strip().encode(), token.strip().encode())
        if scheme.lower() != "bearer" or not is_right:  # RFC 9110: schemes have no case
            raise RequestError(
                "Requests must bear the token: Authorization: Bearer …. Received: "
                f"{'another one' if given else 'none'}.",
                401,
                {"www-authenticate": "Bearer"},
            )

    def _route(self, method: str, path: str, headers: Headers) -> Route:
        """Return the name of a route, for metrics, and what answers it."""
        for name, pattern, call in (
            ("infer", _INFER, self._infer),
            ("predict", _PREDICT, self._predict),
            ("image", _IMAGE, self._image),
        ):
            match = pattern.fullmatch(path)
            if match is not None:
                if method != "POST":
                    return name, partial(_refuse_method, "POST", method)
                model, version = match.groups()
                route: Route = name, partial(call, model, version)
                is_known = model in self._repository.models and len(path) <= _LONGEST_ROUTE
                if is_known and len(self._routes) < _MAX_ROUTES:
                    self._routes[method, path] = route
                return route
        document = self._documents.find(path, headers.get("accept", ""))
        if document is None:
            return "none", partial(_refuse_path, path)
        if method not in ("GET", "HEAD"):
            return "document", partial(_refuse_method, "GET, HEAD", method)
        show = self._show_aside if path == "/metrics" else _show
        return "document", partial(show, document)

    async def _find(self, name: str, version: str | None) -> LoadedModel:
        # Beside a process that answers already, another is started: what it is handed waits.
        if not self._is_loaded.is_set():
            with suppress(TimeoutError):  # then the repository says that it is not ready
                async with asyncio.timeout(_LOADING_S):
                    await self._is_loaded.wait()
        return self._repository.find(name, version)

    async def _infer(
        self, name: str, version: str | None, headers: Headers, exchange: HTTPProtocol
    ) -> Answer:
        served = await self._find(name, version)
        body = await self._bodies.read(headers, exchange)
        protocol = served.model.protocol
        length = _json_length(headers)
        if len(body) < _LONG_BODY:
            inference = protocol.read(body, length)
        else:
            inference = await self._in_thread(protocol.read, body, length, self._settings.max_rows)
        outputs = await served.batcher.infer(inference.arrays)
        if _is_short(outputs):
            content, json_length = protocol.write(inference, outputs)
        else:
            content, json_length = await self._in_thread(protocol.write, inference, outputs)
        if json_length is None:
            return Answer(content)
        return Answer(content, media_type=BINARY, headers=[(JSON_LENGTH, str(json_length))])

    async def _predict(
        self, name: str, version: str | None, headers: Headers, exchange: HTTPProtocol
    ) -> Answer:
        served = await self._find(name, version)
        body = await self._bodies.read(headers, exchange)
        manifest = served.model.manifest
        if len(body) < _LONG_BODY:
            call = read_call(manifest, body)
        else:
            call = await self._in_thread(read_call, manifest, body, self._settings.max_rows)
        outputs = await served.batcher.infer(call.arrays)
        if _is_short(outputs):
            return Answer(write_answer(manifest, call, outputs))
        return Answer(await self._in_thread(write_answer, manifest, call, outputs))

    async def _image(
        self, name: str, version: str | None, headers: Headers, exchange: HTTPProtocol
    ) -> Answer:
        served = await self._find(name, version)
        manifest = served.model.manifest
        require_images(manifest)
        body = await self._bodies.read(headers, exchange)
        start = time.perf_counter()
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(self._image_threads, read_model_image, body, manifest)
        arrays = await served.batcher.infer({manifest.inputs[0].name: image[np.newaxis]})
        milliseconds = 1000 * (time.perf_counter() - start)
        return write_image_answer(served.model.prediction(arrays), image, milliseconds)

    async def _show_aside(
        self, document: Document, _headers: Headers, _exchange: HTTPProtocol
    ) -> Answer:
        answer: Answer = await self._in_thread(document)  # metrics of all processes lie in files
        return answer

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call in a thread what would keep the event loop for long."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)


def _is_short(outputs: Sequence[np.ndarray]) -> bool:
    """Tell whether outputs are written in a moment: a number is some 20 bytes of JSON."""
    return sum([array.size for array in outputs]) < _LONG_BODY // 20


def _json_length(headers: Headers) -> int | None:
    length = headers.get(JSON_LENGTH)
    if length is None:
        return None
    if not (length.isdigit() and len(length) < 19):
        raise RequestError(f"{JSON_LENGTH} must be a number of bytes. Received: {length!r:.40}.")
    return int(length)


def _refusal(error: ServingError) -> Answer:
    if isinstance(error, RequestError):
        return error_answer(str(error), error.status, error.headers)
    return error_answer(str(error), 400, {})


async def _show(document: Document, _headers: Headers, _exchange: HTTPProtocol) -> Answer:
    return document()


async def _refuse_method(
    method: str, received: str, _headers: Headers, _exchange: HTTPProtocol
) -> Answer:
    raise RequestError(
        f"This address takes {method}. Received: {received:.20}.", 405, {"allow": method}
    )


async def _refuse_path(path: str, _headers: Headers, _exchange: HTTPProtocol) -> Answer:
    raise RequestError(f"There must be such an address. Received: {path:.80}. See /docs.", 404)
