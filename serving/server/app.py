"""The server as an ASGI application: which address is answered by what."""

import asyncio
import hmac
import itertools
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..cores import available_cores
from ..errors import InputError
from ..inputs import read_model_image
from .documents import Documents
from .errors import RequestError
from .http import (
    BINARY,
    Answer,
    Gone,
    Receive,
    Scope,
    Send,
    error_answer,
    header,
    read_body,
    send_answer,
)
from .image_requests import require_images, write_image_answer
from .models import Model
from .open_inference import JSON_LENGTH
from .repository import Repository, Served
from .settings import Settings
from .telemetry import AccessLog, Answers, Metrics
from .tf_serving import read_call, write_answer

_LOG = logging.getLogger("hornbill.server")
_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/([^/:]+))?:predict")
_IMAGE = re.compile(r"/images/([^/]+)(?:/versions/([^/]+))?")
# Read and written in a thread where it takes long enough for other requests to notice.
_LONG_BODY = 200_000
_FLUSH_S = 0.5
_OPEN = ("/v2/health/live", "/v2/health/ready", "/")


class Server:
    """Serves the bundles of a folder.

    Example:
        >>> uvicorn.run(Server(Settings(Path("dist"))))
    """

    def __init__(self, settings: Settings) -> None:
        """Make a server; it loads its models once it is started."""
        self._settings = settings
        self._metrics = Metrics()
        self._log = AccessLog()
        self._threads = available_cores()
        # One more, so that new versions are loaded while all others run batches.
        self._executor = ThreadPoolExecutor(self._threads + 1, "hornbill")
        self._repository = Repository(settings.folder, settings.versions, self._serve)
        self._documents = Documents(self._repository, self._metrics)
        self._under_way = 0
        self._numbers = itertools.count()
        self._max_body = int(settings.max_body_mb * 1e6)
        self._tasks: list[asyncio.Task[None]] = []
        self._seconds: dict[str, Any] = {}
        self._requests: dict[tuple[str, int], Any] = {}

    def _serve(self, model: Model) -> Served:
        answers = Answers(self._metrics, model.manifest)
        delay = self._settings.max_delay_ms
        return Served(model, model.batcher(answers.count, self._executor, self._threads, delay))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection's request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._respond(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._flush())]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._repository.is_ready = False
        for task in self._tasks:
            task.cancel()
        self._log.flush()
        self._executor.shutdown(cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch(self) -> None:
        while True:
            await self._repository.refresh(self._executor)
            self._note_present()
            self._repository.is_ready = True
            await asyncio.sleep(self._settings.poll_s)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._log.flush()
            self._note_present()

    def _note_present(self) -> None:
        models, failures = self._repository.models, self._repository.failures()
        waiting = {
            name: sum(served.batcher.waiting for served in versions.values())
            for name, versions in models.items()
        }
        failed = {(name, number): False for name in failures for number in failures[name]}
        answering = {(name, number): True for name in models for number in models[name]}
        self._metrics.note(self._under_way, waiting, failed | answering)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        request_id = header(scope, b"x-request-id") or f"{os.getpid():x}-{next(self._numbers):x}"
        route, handle = self._route(scope)
        self._under_way += 1
        try:
            answer = await self._answer(scope, receive, handle)
            await send_answer(scope, send, answer, {"x-request-id": request_id})
        except Gone:
            return
        finally:
            self._under_way -= 1
        seconds = time.perf_counter() - start
        self._count(route, answer.status, seconds)
        if self._settings.log_requests:
            self._log.write(
                {
                    "time": round(time.time(), 3),
                    "id": request_id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": answer.status,
                    "ms": round(1000 * seconds, 3),
                    "bytes": len(answer.body),
                }
            )

    def _count(self, route: str, status: int, seconds: float) -> None:
        if route not in self._seconds:
            self._seconds[route] = self._metrics.seconds.labels(route)
        if (route, status) not in self._requests:
            self._requests[route, status] = self._metrics.requests.labels(route, str(status))
        self._seconds[route].observe(seconds)
        self._requests[route, status].inc()

    async def _answer(
        self, scope: Scope, receive: Receive, handle: Callable[[Receive], Awaitable[Answer]]
    ) -> Answer:
        try:
            self._admit(scope)
            return await handle(receive)
        except RequestError as error:
            return error_answer(str(error), error.status, error.headers)
        except InputError as error:
            return error_answer(str(error), 400, {})
        except RecursionError:
            return error_answer(
                "JSON must be nested less than a thousand levels deep. Received: more.", 400, {}
            )
        except Gone:
            raise
        except Exception:
            _LOG.exception("%s %s", scope["method"], scope["path"])
            return error_answer("The server failed. Its log says where.", 500, {})

    def _admit(self, scope: Scope) -> None:
        """Raise `RequestError` where there is too much to do, or the token is missing."""
        if scope["path"] in _OPEN:  # who watches a busy server must not take it for a dead one
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
        given = header(scope, b"authorization") or ""
        if not hmac.compare_digest(given.encode("latin-1"), f"Bearer {token}".encode()):
            raise RequestError(
                "Requests must bear the token: Authorization: Bearer …. Received: "
                f"{'another one' if given else 'none'}.",
                401,
                {"www-authenticate": "Bearer"},
            )

    def _route(self, scope: Scope) -> tuple[str, Callable[[Receive], Awaitable[Answer]]]:
        """Return the name of a route, for metrics, and what answers it."""
        path, method = scope["path"], scope["method"]
        for name, pattern, call in (
            ("infer", _INFER, self._infer),
            ("predict", _PREDICT, self._predict),
            ("image", _IMAGE, self._image),
        ):
            match = pattern.fullmatch(path)
            if match is not None:
                if method != "POST":
                    return name, _only("POST", method)
                model, version = match.groups()
                return name, lambda receive: call(scope, receive, model, version)  # noqa: B023
        document = self._documents.find(path, header(scope, b"accept") or "")
        if document is None:
            return "none", _nothing(path)
        if method not in ("GET", "HEAD"):
            return "document", _only("GET", method)

        async def give(_: Receive) -> Answer:
            return document()

        return "document", give

    def _find(self, name: str, version: str | None) -> Served:
        if not self._repository.is_ready:
            raise RequestError("Models are still being loaded.", 503, {"retry-after": "1"})
        return self._repository.find(name, version)

    async def _infer(
        self, scope: Scope, receive: Receive, name: str, version: str | None
    ) -> Answer:
        served = self._find(name, version)
        body = await self._read(scope, receive)
        protocol = served.model.protocol
        length = _json_length(scope)
        inference = await self._maybe_aside(len(body), protocol.read, body, length)
        outputs = await served.batcher.infer(inference.arrays)
        size = _written_size(outputs)
        content, json_length = await self._maybe_aside(size, protocol.write, inference, outputs)
        if json_length is None:
            return Answer(content)
        return Answer(content, media_type=BINARY, headers={JSON_LENGTH: str(json_length)})

    async def _predict(
        self, scope: Scope, receive: Receive, name: str, version: str | None
    ) -> Answer:
        served = self._find(name, version)
        body = await self._read(scope, receive)
        manifest = served.model.manifest
        call = await self._maybe_aside(len(body), read_call, manifest, body)
        outputs = await served.batcher.infer(call.arrays)
        size = _written_size(outputs)
        return Answer(await self._maybe_aside(size, write_answer, manifest, call, outputs))

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        return await read_body(scope, receive, self._max_body, self._settings.body_s)

    async def _image(
        self, scope: Scope, receive: Receive, name: str, version: str | None
    ) -> Answer:
        served = self._find(name, version)
        manifest = served.model.manifest
        require_images(manifest)
        body = await self._read(scope, receive)
        start = time.perf_counter()
        image = await self._aside(read_model_image, body, manifest)
        arrays = await served.batcher.infer({manifest.inputs[0].name: image[np.newaxis]})
        milliseconds = 1000 * (time.perf_counter() - start)
        return write_image_answer(served.model.prediction(arrays), image, milliseconds)

    async def _aside(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)

    async def _maybe_aside(self, size: int, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call in a thread what would keep the event loop for long."""
        if size < _LONG_BODY:
            return call(*arguments)
        return await self._aside(call, *arguments)


def _written_size(outputs: Sequence[np.ndarray]) -> int:
    """Return about how many bytes outputs are in JSON."""
    return 20 * sum(array.size for array in outputs)


def _json_length(scope: Scope) -> int | None:
    length = header(scope, JSON_LENGTH.encode())
    if length is None:
        return None
    if not (length.isdecimal() and len(length) < 19):
        raise RequestError(f"{JSON_LENGTH} must be a number of bytes. Received: {length:.40}.")
    return int(length)


def _only(method: str, received: str) -> Callable[[Receive], Awaitable[Answer]]:
    async def refuse(_: Receive) -> Answer:
        raise RequestError(
            f"This address takes {method}. Received: {received:.20}.", 405, {"allow": method}
        )

    return refuse


def _nothing(path: str) -> Callable[[Receive], Awaitable[Answer]]:
    async def refuse(_: Receive) -> Answer:
        raise RequestError(f"There must be such an address. Received: {path:.80}. See /docs.", 404)

    return refuse
