"""The server as an RSGI application: its life, and what each request goes through."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from granian.rsgi import Headers, HTTPProtocol, Scope

from ..cores import available_cores
from ..errors import ServingError, printable
from ..limited_process import LimitedProcess
from .admission import Admission
from .answering import INFERENCE, LONG_BODY, PREDICTION, Answers
from .documents import Document, Documents
from .errors import RequestError
from .http import MIN_COMPRESSED, Response, compressed, error_response
from .models import Model
from .origins import preflight, with_origin
from .recording import Head, Recorder
from .repository import Repository
from .repository_requests import RepositoryRequests
from .router import TEMPLATES, ModelHandler, Route, Router, inside
from .selftest_runner import SelfTestRunner
from .sending import limit_connections, send_response
from .settings import Settings
from .supervisor import DRAIN_SIGNAL, REPLACES
from .telemetry import Metrics, PredictionCounter
from .tracing import Ended
from .trials import Trials
from .turns import Turns
from .versions import LoadedModel

if TYPE_CHECKING:
    from .rpc import RpcServer

_LOG = logging.getLogger("hornbill.server")
_FLUSH_S = 0.5
_BUSY_S = 0.5  # until the server may have room for the self-test of a new version
_UNREAD = 499  # in the log and metrics, as in those of nginx: the client has not read the response
_TOO_DEEP = "JSON must be nested less than a thousand levels deep. Received: more."
_LOADING_S = 20.0
_LISTENING_TRIES, _LISTENING_S = 200, 0.05
_END_S = 30.0  # for requests in flight when this process ends itself
# For gRPC calls in flight when the server ends; the process is killed soon after.
_RPC_DRAIN_S = 25.0
_CLOSING_S = 3.0  # for the threads that load models, when all requests are answered


class Server:
    """Serves the bundles of a folder over HTTP, and over gRPC if the settings say so.

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
        self._settings = settings
        self._parent = parent
        self._end = end or _end_process
        self._metrics = Metrics()
        threads = available_cores()
        # One more thread, so that new versions are loaded while all others read requests.
        self._executor = ThreadPoolExecutor(threads + 1, "hornbill")
        self._batch_threads = ThreadPoolExecutor(threads, "hornbill-batches")
        self._turns = Turns(self._batch_threads, threads)
        trials = Trials(settings.max_load_seconds, settings.max_load_memory_gb, idle)
        self._repository = Repository(settings, trials, self._serve, self._executor)
        self._admission = Admission(settings)
        self._recorder = Recorder(settings, self._metrics, lambda: self._repository.models)
        self._answers = Answers(
            settings, self._repository, self._admission, self._executor, threads
        )
        self._selftests = SelfTestRunner(self._answers, self._metrics)
        handlers: dict[str, ModelHandler] = {
            "infer": partial(self._answers.run, INFERENCE),
            "predict": partial(self._answers.run, PREDICTION),
            "image": self._answers.image,
        }
        documents = Documents(self._repository, self._metrics, settings.root_path)
        requests = RepositoryRequests(
            self._repository, self._answers.receive, settings.cors_origins
        )
        self._router = Router(handlers, documents, self._show, self._repository, requests)
        self._tasks: list[asyncio.Task[None]] = []
        self._rpc: RpcServer | None = None

    async def _serve(self, model: Model) -> LoadedModel:
        counter = PredictionCounter(self._metrics, model.manifest)
        batcher = model.batcher(counter.count, self._turns, self._settings)
        loaded = LoadedModel(model, batcher)
        while (reason := await self._selftests.test(loaded)) is None:
            await asyncio.sleep(_BUSY_S)
        if reason:
            raise ServingError(f"The self-test fails: {reason}")
        return loaded

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start loading the models; called before the first request."""
        works = [self._watch(), self._flush(), self._answers.bodies.watch()]
        works += [self._test_again(), self._limit_connections()]
        self._tasks = [loop.create_task(work) for work in works]
        if self._parent is not None and DRAIN_SIGNAL is not None:
            loop.add_signal_handler(DRAIN_SIGNAL, self._drain)
            if REPLACES in os.environ:
                loop.run_until_complete(self._load_first(_LOADING_S))

    async def _load_first(self, seconds: float) -> None:
        """Load the models before the first connection is accepted: other workers have them."""
        end = time.monotonic() + seconds
        while not self._repository.is_started and time.monotonic() < end:
            if self._repository.is_draining:
                os._exit(0)  # nothing has begun here
            await asyncio.sleep(_LISTENING_S)

    def _drain(self) -> None:
        """Be ready no longer, and let every response close its connection."""
        self._repository.is_draining = True

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Free all resources; called after the last request."""
        self._repository.close()
        if self._rpc is not None:
            if loop.is_running():
                self._rpc.close()
            else:
                loop.run_until_complete(self._rpc.stop(_RPC_DRAIN_S))
        if self._parent is not None:
            _force_end(_CLOSING_S)
        for task in self._tasks:
            task.cancel()
        self._recorder.close()
        self._executor.shutdown(cancel_futures=True)
        self._batch_threads.shutdown(cancel_futures=True)
        self._answers.close()

    def _listen(self, address: str) -> bool:
        """Serve gRPC too; return whether it can listen."""
        from .rpc import RpcServer, Services  # grpcio is an extra

        shared = self._repository, self._admission, self._answers, self._recorder
        rpc = RpcServer(self._settings, Services(self._settings.max_rows, *shared))
        try:
            rpc.listen(address)
        except OSError as error:
            _LOG.error("%s", error)
            return False
        self._rpc = rpc
        self._tasks.append(asyncio.create_task(rpc.watch()))
        return True

    async def _watch(self) -> None:
        loop, address = asyncio.get_running_loop(), self._settings.grpc_address
        while address is not None and not self._listen(address):  # not ready before it listens
            await asyncio.sleep(self._settings.poll_s)
        while True:
            try:
                if self._settings.token_file is not None:
                    await loop.run_in_executor(self._executor, self._admission.refresh)
                await self._repository.refresh()
            except Exception:  # the loop must go on, or new versions would never be served
                _LOG.exception("Looking for new versions failed.")
                await asyncio.sleep(self._settings.poll_s)
            await self._repository.wait_for_change(self._settings.poll_s)

    async def _limit_connections(self) -> None:
        for _ in range(_LISTENING_TRIES):  # Granian listens soon after this starts
            if limit_connections(self._settings.write_s):
                return
            await asyncio.sleep(_LISTENING_S)

    async def _flush(self) -> None:
        while True:
            try:
                self._recorder.flush()
                self._update_gauges()
                self._end_with_parent()
            except Exception:  # the loop must go on, or nothing more would be logged
                _LOG.exception("Writing the access log failed.")
            await asyncio.sleep(_FLUSH_S)

    def _end_with_parent(self) -> None:
        """End this process if the main process is gone: it would hold the port forever."""
        if self._parent is not None and os.getppid() != self._parent:
            _LOG.error("The main process has ended; this worker ends too.")
            self._parent = None
            self._end()

    async def _test_again(self) -> None:
        def end() -> None:
            self._drain()
            self._end()

        await self._selftests.watch(lambda: self._repository.models, self._settings.selftest_s, end)

    def _update_gauges(self, besides: int = 0) -> None:
        waiting = {
            name: sum(loaded.batcher.waiting for loaded in versions.values())
            for name, versions in self._repository.models.items()
        }
        waited_s = {
            name: sum(loaded.batcher.counts.new_queue_seconds() for loaded in versions.values())
            for name, versions in self._repository.models.items()
        }
        states = {(s.name, s.number): s.status for s in self._repository.states()}
        in_flight = self._admission.in_flight - besides
        self._metrics.update_gauges(in_flight, waiting, waited_s, states)

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        """Respond to a request."""
        start = time.perf_counter()
        method, path, headers = scope.method, scope.path, scope.headers
        client = scope.client
        if self._settings.root_path:
            path = inside(self._settings.root_path, path, headers.get("accept", ""))
        request_id = headers.get("x-request-id") or self._recorder.next_id()
        route = self._router.find(method, path, headers)
        self._admission.in_flight += 1
        response = Response(b"")
        try:
            handling = partial(route.handle, headers, protocol, client)
            response, token = await self._respond(method, path, headers, handling)
            size, sent = response.size, response
            if self._changes_all or size >= MIN_COMPRESSED:
                sent = await self._finished(response, headers)
            is_sent = await send_response(
                method, protocol, sent, request_id, self._settings.write_s
            )
        finally:
            self._admission.in_flight -= 1
            self._answers.leave(response)
        seconds = time.perf_counter() - start
        status, recorder = response.status if is_sent else _UNREAD, self._recorder
        recorder.count(route.name, route.model, status, seconds)
        if recorder.is_logging:
            head = Head(request_id, method, path or scope.path, headers.get("traceparent", ""))
            recorder.log(head, status, seconds, size, token)
        if recorder.trace is not None and route.name in TEMPLATES:
            recorder.trace(_ended(scope, route, status, seconds))
        if (status != 200 or method != "POST") and status not in (408, _UNREAD):
            await self._answers.bodies.drain(protocol, client)

    async def _respond(
        self,
        method: str,
        path: str,
        headers: Headers,
        handle: Callable[[], Awaitable[Response]],
    ) -> tuple[Response, str]:
        """Return the response to a request, and the name of its token."""
        token = ""
        try:
            self._admission.check_host(path, headers)
            origins = self._settings.cors_origins
            if method == "OPTIONS" and (answer := preflight(origins, headers)):
                return answer, token
            token = self._admission.identify(path, headers)
            self._admission.refuse_one_too_many(path)
            return await handle(), token
        except RequestError as error:
            return error_response(str(error), error.status, error.headers), token
        except ServingError as error:
            return error_response(str(error), 400, {}), token
        except RecursionError:
            return error_response(_TOO_DEEP, 400, {}), token
        except Exception:
            _LOG.exception("%s %s failed.", method, printable(path))
            failed = "The server failed. Its log has the traceback."
            return error_response(failed, 500, {}), token

    @property
    def _changes_all(self) -> bool:
        """Whether every response gets something of `_finished`."""
        return self._repository.is_draining or bool(self._settings.cors_origins)

    async def _finished(self, response: Response, headers: Headers) -> Response:
        """Return a response with what its client and the state of the server demand."""
        if self._settings.cors_origins:
            response = with_origin(self._settings.cors_origins, headers, response)
        is_long = response.size >= LONG_BODY
        finished: Response = await self._answers.call(is_long, compressed, response, headers)
        if self._repository.is_draining:
            finished = finished._replace(headers=[*finished.headers, ("connection", "close")])
        return finished

    async def _show(self, path: str, document: Document) -> Response:
        is_metrics = path == "/metrics"
        if is_metrics:
            self._update_gauges(besides=1)  # this request
        # The metrics of all processes are read from files.
        response: Response = await self._answers.call(is_metrics, document)
        return response


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
