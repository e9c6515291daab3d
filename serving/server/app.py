"""The server as an RSGI application: admits, runs, logs and counts requests."""

import asyncio
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from granian.rsgi import Headers, HTTPProtocol, Scope
from prometheus_client import Counter, Histogram

from ..cores import available_cores
from ..errors import InputError, ServingError, printable
from ..limited_process import LimitedProcess
from .batching import Run
from .bodies import Bodies, Body
from .documents import Document, Documents
from .errors import RequestError
from .hosts import Hosts
from .http import Response, compressed, error_response, header_values
from .image_reading import ImageReader
from .image_requests import refused_image, require_images, write_image_response
from .models import Model
from .open_inference import JSON_LENGTH, Inference
from .origins import preflight, with_origin
from .repository import LoadedModel, Repository
from .repository_requests import RepositoryRequests
from .rereading import Reread
from .rooms import Room
from .router import TEMPLATES, ModelHandler, Route, Router, inside
from .selftest import SelfTest, SentBody
from .sending import limit_connections, send_response
from .settings import Settings
from .supervisor import DRAIN_SIGNAL, REPLACES
from .telemetry import AccessLog, LogLine, Metrics, PredictionCounter
from .tf_serving import Call, is_table, read_call, write_predictions
from .tokens import Tokens, identify, read_tokens
from .tracing import Ended, Traces, trace_id
from .trials import Trials
from .turns import Turns

if TYPE_CHECKING:
    from .rpc import RpcServer

_LOG = logging.getLogger("hornbill.server")
# Bytes: longer bodies are read and written in a thread, part by part, since others would wait.
LONG_BODY = 65_536
_NUMBER_BYTES = 20  # of JSON
_FLUSH_S = 0.5
_TOO_DEEP = "JSON must be nested less than a thousand levels deep. Received: more."
_LOADING_S = 20.0
_LISTENING_TRIES, _LISTENING_S = 200, 0.05
_END_S = 30.0  # for requests in flight when this process ends itself
_RPC_DRAIN_S = 10.0  # for gRPC calls in flight when the server ends
_CLOSING_S = 3.0  # for the threads that load models, when all requests are answered
# Never refused: a busy server must not look dead to its health checks.
_OPEN = frozenset((
    "/v2/health/live", "/v2/health/ready", "/",
    "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
    "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady",
))  # fmt: skip


class Format(NamedTuple):
    """How the requests of a protocol are read, and its responses written.

    Attributes:
        read: reads the body of a request for a model.
        write: writes the outputs, part by part if they are long.
    """

    read: Callable[[Model, Headers, bytes, int | None], Inference | Call]
    write: Callable[[Model, Any, Sequence[np.ndarray], bool], Response]


class Server:
    """Serves the bundles of a folder over HTTP, and over gRPC if the settings say so.

    Attributes:
        settings: settings of the server.
        repository: its models.
        in_flight: number of requests in flight.
        log: its access log.
        traces: its traces.

    Examples:
        >>> server = Server(Settings(Path("dist")))  # for `granian module:server`
    """

    def __init__(
        self,
        settings: Settings,
        parent: int | None = None,
        end: Callable[[], None] | None = None,
        idle: list[LimitedProcess] | None = None,
    ) -> None:
        """Make a server. It loads its models when it is started.

        Args:
            settings: settings of the server.
            parent: id of the main process; this one ends with it. None if there is none.
            end: ends this process when it must not go on; None sends it SIGTERM.
            idle: processes in which versions are tried, see `Trials`.
        """
        self._end = end or _end_process
        self.settings = settings
        self._parent = parent
        self._metrics = Metrics()
        self.log = AccessLog()
        self.traces = Traces()
        self._threads = available_cores()
        # One more thread, so that new versions are loaded while all others read requests.
        self._executor = ThreadPoolExecutor(self._threads + 1, "hornbill")
        self._batch_threads = ThreadPoolExecutor(self._threads, "hornbill-batches")
        self._turns = Turns(self._batch_threads, self._threads)
        self._images = ImageReader(self._threads)
        trials = Trials(settings.max_load_seconds, settings.max_load_memory_gb, idle)
        self.repository = Repository(settings, trials, self._serve, self._executor)
        handlers: dict[str, ModelHandler] = {
            "infer": partial(self._run, _INFERENCE),
            "predict": partial(self._run, Format(_read_call, _write_predictions)),
            "image": self._image,
        }
        documents = Documents(self.repository, self._metrics, settings.root_path)
        self.in_flight = 0
        self._numbers = itertools.count()
        requests = RepositoryRequests(self.repository, self._receive_text)
        self._router = Router(handlers, documents, self._show, self.repository, requests)
        max_bytes = int(settings.max_body_mb * 1e6)
        # All long bodies together, and all long responses, may be as long as the longest body. A
        # request keeps its room until its response has some, so that outputs do not pile up.
        self._room = Room(max_bytes, settings.body_s)
        self._response_room = Room(max_bytes, settings.body_s)
        self._bodies = Bodies(max_bytes, settings.body_s, settings.max_requests, self._room)
        self._hosts = Hosts(settings.allowed_hosts)
        self._tasks: list[asyncio.Task[None]] = []
        self._rpc: RpcServer | None = None
        self._series: dict[tuple[str, str, int | str], tuple[Histogram, Counter]] = {}
        nobody: Tokens | None = {}
        read = partial(read_tokens, settings.token, settings.token_file)
        self._tokens = Reread(read, nobody, settings.shared("tokens"))

    async def _serve(self, model: Model) -> LoadedModel:
        counter = PredictionCounter(self._metrics, model.manifest)
        batcher = model.batcher(counter.count, self._turns, self.settings)
        loaded = LoadedModel(model, batcher)
        if reason := await self.test(loaded):
            raise ServingError(f"The self-test fails: {reason}")
        return loaded

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start loading the models; called before the first request."""
        works = [self._watch(), self._flush(), self._bodies.watch(), self._test_again()]
        works.append(self._limit_connections())
        self._tasks = [loop.create_task(work) for work in works]
        if self._parent is not None and DRAIN_SIGNAL is not None:
            loop.add_signal_handler(DRAIN_SIGNAL, self.drain)
            if REPLACES in os.environ:
                loop.run_until_complete(self._load_first(_LOADING_S))

    async def _load_first(self, seconds: float) -> None:
        """Load the models before the first connection is accepted: other workers have them."""
        end = time.monotonic() + seconds
        while not self.repository.is_started and time.monotonic() < end:
            if self.repository.is_draining:
                os._exit(0)  # nothing has begun here
            await asyncio.sleep(_LISTENING_S)

    def drain(self) -> None:
        """Be ready no longer, and let every response close its connection."""
        self.repository.is_draining = True

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Free all resources; called after the last request."""
        self.repository.close()
        if self._rpc is not None:
            if loop.is_running():
                self._rpc.close()
            else:
                loop.run_until_complete(self._rpc.stop(_RPC_DRAIN_S))
        if self._parent is not None:
            _force_end(_CLOSING_S)
        for task in self._tasks:
            task.cancel()
        self.log.close()
        self.traces.close()
        self._bodies.close()
        self._executor.shutdown(cancel_futures=True)
        self._batch_threads.shutdown(cancel_futures=True)
        self._images.close()

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
        loop, address = asyncio.get_running_loop(), self.settings.grpc_address
        while address is not None and not self._listen(address):  # not ready before it listens
            await asyncio.sleep(self.settings.poll_s)
        while True:
            try:
                if self.settings.token_file is not None:
                    await loop.run_in_executor(self._executor, self._tokens.refresh)
                await self.repository.refresh()
                self._update_gauges()
            except Exception:  # the loop must go on, or new versions would never be served
                _LOG.exception("Looking for new versions failed.")
                await asyncio.sleep(self.settings.poll_s)
            await self.repository.wait_for_change(self.settings.poll_s)

    async def _limit_connections(self) -> None:
        for _ in range(_LISTENING_TRIES):  # Granian listens soon after this starts
            if limit_connections(self.settings.write_s):
                return
            await asyncio.sleep(_LISTENING_S)

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
            self._end()

    async def _test_again(self) -> None:
        """Test every served version again and again; end this process if one answers otherwise."""
        while True:
            await asyncio.sleep(self.settings.selftest_s)
            for versions in list(self.repository.models.values()):
                for loaded in versions.values():
                    if reason := await self.test(loaded):
                        manifest = loaded.model.manifest
                        _LOG.error(
                            "%s version %d fails its self-test: %s This process is replaced.",
                            *(manifest.name, manifest.version, reason),
                        )
                        self.repository.is_draining = True
                        self._end()
                        return

    async def test(self, loaded: LoadedModel) -> str:
        """Let a version answer a golden sample as a request; return what is wrong, or ""."""
        sent = loaded.model.selftest
        if sent is None:
            return ""
        try:
            reason = await self._send_to_itself(loaded, sent)
        except RequestError as error:  # as a client would get it
            reason = "" if error.status == 503 else str(error)
        except Exception as error:
            reason = printable(f"{type(error).__name__}: {error}")
        manifest = loaded.model.manifest
        result = "failed" if reason else "passed"
        self._metrics.selftests.labels(manifest.name, str(manifest.version), result).inc()
        return reason

    async def _send_to_itself(self, loaded: LoadedModel, sent: SelfTest) -> str:
        body: Any = SentBody(sent.body)
        headers: Any = sent.headers
        receiving = self._bodies.receive(headers, body, "")
        run = loaded.model.run
        response = await self._answer(_INFERENCE, loaded, headers, receiving, run)
        self._response_room.leave(response.room)
        if b"".join([response.body, *response.more]) == sent.expected:
            return ""
        return "a golden sample gets another answer than when the version was loaded."

    def _update_gauges(self) -> None:
        waiting = {
            name: sum(loaded.batcher.waiting for loaded in versions.values())
            for name, versions in self.repository.models.items()
        }
        waited_s = {
            name: sum(loaded.batcher.counts.new_queue_seconds() for loaded in versions.values())
            for name, versions in self.repository.models.items()
        }
        states = {(s.name, s.number): s.status for s in self.repository.states()}
        self._metrics.update_gauges(self.in_flight, waiting, waited_s, states)

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        """Respond to a request."""
        start = time.perf_counter()
        method, path, headers = scope.method, scope.path, scope.headers
        client = scope.client
        if self.settings.root_path:
            path = inside(self.settings.root_path, path)
        request_id = headers.get("x-request-id") or self.next_id()
        route = self._router.find(method, path, headers)
        self.in_flight += 1
        room = 0
        try:
            handling = partial(route.handle, headers, protocol, client)
            response = await self._respond(method, path, headers, handling)
            room = response.room
            if self.settings.cors_origins:
                response = with_origin(self.settings.cors_origins, headers, response)
            size = response.size
            response = await self.call(size >= LONG_BODY, compressed, response, headers)
            if self.repository.is_draining:
                response = response._replace(headers=[*response.headers, ("connection", "close")])
            await send_response(method, protocol, response, request_id, self.settings.write_s)
        finally:
            self.in_flight -= 1
            if room:
                self._response_room.leave(room)
        seconds = time.perf_counter() - start
        self.count(route.name, response.status, seconds, route.model)
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
                    self.token_name(headers) if self.settings.token_file else "",
                    trace_id(parent) if (parent := headers.get("traceparent", "")) else "",
                )
            )
        if self.traces.record is not None and route.name in TEMPLATES:
            self.traces.record(_ended(scope, route, response.status, seconds))
        if (response.status != 200 or method != "POST") and response.status != 408:
            await self._bodies.drain(protocol, client)

    async def _respond(
        self,
        method: str,
        path: str,
        headers: Headers,
        handle: Callable[[], Awaitable[Response]],
    ) -> Response:
        try:
            self._hosts.check(headers, path in _OPEN)
            if method == "OPTIONS" and (answer := preflight(self.settings.cors_origins, headers)):
                return answer
            self.admit(path, headers)
            return await handle()
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

    def count(self, route: str, status: int | str, seconds: float, model: str = "") -> None:
        """Count a completed request."""
        if model not in self.repository.models:  # clients can invent names
            model = ""
        key = route, model, status
        series = self._series.get(key)
        if series is None:
            metrics, names = self._metrics, (route, model)
            series = metrics.seconds.labels(*names), metrics.requests.labels(*names, str(status))
            self._series[key] = series
        series[0].observe(seconds)
        series[1].inc()

    def admit(self, path: str, headers: Headers | Mapping[str, str]) -> None:
        """Raise `RequestError` if too many requests are in flight or the token is wrong."""
        if path in _OPEN:
            return
        self._refuse_one_too_many()
        identify(self._tokens.value, headers.get("authorization", ""))

    def token_name(self, headers: Headers | Mapping[str, str]) -> str:
        """Return the name of the token of a request for the log; "" if it has none that counts."""
        with suppress(RequestError):
            return identify(self._tokens.value, headers.get("authorization", ""))
        return ""

    def _refuse_one_too_many(self) -> None:
        if self.in_flight > self.settings.max_requests:
            raise RequestError(
                f"At most {self.settings.max_requests} requests may be in flight. "
                "Received: one more. Try again later.",
                503,
                {"retry-after": "1"},
            )

    async def _receive(self, headers: Headers, protocol: HTTPProtocol, client: str) -> Body:
        """Receive a body. Its request is in flight once it is there."""
        self.in_flight -= 1
        try:
            body = await self._bodies.receive(headers, protocol, client)
        finally:
            self.in_flight += 1
        if self.in_flight > self.settings.max_requests:
            self._room.leave(body.room)
            self._refuse_one_too_many()
        return body

    async def _receive_text(self, headers: Headers, *arriving: Any) -> bytes:
        body, room = await self._receive(headers, *arriving)
        self._room.leave(room)
        return body

    async def _run(
        self,
        form: Format,
        name: str,
        version: str | None,
        headers: Headers,
        *arriving: Any,
    ) -> Response:
        """Read a request, run the model on it, and write the response."""
        loaded = await self.find(name, version)
        return await self._answer(form, loaded, headers, self._receive(headers, *arriving))

    async def _answer(
        self,
        form: Format,
        loaded: LoadedModel,
        headers: Headers,
        receiving: Awaitable[Body],
        run: Run | None = None,
    ) -> Response:
        body, room = await receiving
        try:
            is_long = len(body) >= LONG_BODY
            max_rows = self.settings.max_rows if is_long else None
            request = await self.call(is_long, form.read, loaded.model, headers, body, max_rows)
            del body
            start = time.perf_counter()
            outputs = await loaded.batcher.infer(request.arrays, run)
            seconds = time.perf_counter() - start
            is_long = not is_short(outputs)
            if is_long:
                request.arrays.clear()  # they may be parts of the body
                size = _NUMBER_BYTES * sum([array.size for array in outputs])
                response_room = await self._response_room.take(size)
        finally:
            if room:
                self._room.leave(room)
        if is_long:
            write = partial(form.write, loaded.model, request, outputs, True)
            response = await self._write_long(write, response_room)
        else:
            response = form.write(loaded.model, request, outputs, False)
        return _timed(response, seconds) if is_table(request) else response

    async def _write_long(self, write: Callable[[], Response], room: int) -> Response:
        try:
            response: Response = await self.call(True, write)
        except BaseException:
            self._response_room.leave(room)
            raise
        return response._replace(room=room)

    async def _image(
        self, name: str, version: str | None, headers: Headers, *arriving: Any
    ) -> Response:
        loaded = await self.find(name, version)
        manifest = loaded.model.manifest
        require_images(manifest)
        body, room = await self._receive(headers, *arriving)
        try:
            start = time.perf_counter()
            image = await self._images.read(body, manifest)
        except InputError as error:
            raise refused_image(error, body) from None
        finally:
            self._room.leave(room)
        is_read = time.perf_counter()
        arrays = await loaded.batcher.infer({manifest.inputs[0].name: image[np.newaxis]})
        seconds = time.perf_counter() - is_read, is_read - start
        return write_image_response(
            loaded.model.prediction(arrays), image, *(1000 * s for s in seconds)
        )

    async def find(self, name: str, version: str | None) -> LoadedModel:
        """Return a served version of a model; the latest if `version` is None.

        Waits a while: a restarted process gets requests before it has loaded its models.

        Raises:
            RequestError: there is no such model or version, or it cannot be served.
        """
        try:
            return self.repository.find(name, version)
        except RequestError as error:
            if error.status != 503:
                raise
        await self.repository.wait_for(name, version, _LOADING_S)
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


def _force_end(seconds: float) -> None:
    """End this process in some seconds, even if a thread still runs then."""
    force = threading.Timer(seconds, os._exit, [1])
    force.daemon = True  # else the process would wait for it
    force.start()


def _end_process() -> None:
    """End this process as the main process would; by force if requests do not end."""
    _force_end(_END_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _ended(scope: Scope, route: Route, status: int, seconds: float) -> Ended:
    """Return the description of a request for its trace."""
    template, headers = TEMPLATES[route.name], scope.headers
    is_error = status >= 500
    attributes: dict[str, str | int] = {
        "http.request.method": scope.method,
        "http.response.status_code": status,
        "http.route": template,
        "url.path": scope.path,
        "url.scheme": scope.scheme,
        "hornbill.model": route.model,
    }
    if is_error:
        attributes["error.type"] = str(status)
    return Ended(
        f"{scope.method if scope.method == 'POST' else 'HTTP'} {template}",
        headers.get("traceparent", ""),
        headers.get("tracestate", ""),
        seconds,
        attributes,
        is_error,
    )


def _read_inference(model: Model, headers: Headers, body: bytes, max_rows: int | None) -> Inference:
    return model.open_inference.read(body, _json_length(headers), max_rows)


def _write_inference(
    model: Model, inference: Inference, outputs: Sequence[np.ndarray], is_long: bool
) -> Response:
    return model.open_inference.write(inference, outputs, is_long)


_INFERENCE = Format(_read_inference, _write_inference)


def _read_call(model: Model, _headers: Headers, body: bytes, max_rows: int | None) -> Call:
    return read_call(model.manifest, body, max_rows)


def _write_predictions(
    model: Model, call: Call, outputs: Sequence[np.ndarray], is_long: bool
) -> Response:
    return write_predictions(model.manifest, call, outputs, is_long)


def _timed(response: Response, seconds: float) -> Response:
    """Return a response that also tells how long the model took (Server-Timing of the W3C)."""
    timing = ("server-timing", f"model;dur={1000 * seconds:.3f}")
    return response._replace(headers=[*response.headers, timing])


def is_short(outputs: Sequence[np.ndarray]) -> bool:
    """Return whether outputs are written quickly."""
    return sum([array.size for array in outputs]) < LONG_BODY // _NUMBER_BYTES


def _json_length(headers: Headers) -> int | None:
    if JSON_LENGTH not in headers:
        return None
    lengths = header_values(headers, JSON_LENGTH)
    if len(lengths) != 1 or not (lengths[0].isdigit() and len(lengths[0]) < 19):
        received = ", ".join(lengths)
        raise RequestError(f"{JSON_LENGTH} must be a number of bytes. Received: {received!r:.40}.")
    return int(lengths[0])
