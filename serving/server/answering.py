"""Answers requests: receives and reads the body, runs the model, and writes the response."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from granian.rsgi import Headers, HTTPProtocol

from ..errors import InputError
from .admission import Admission
from .batching import Run
from .bodies import Bodies, Body
from .errors import RequestError
from .http import Response, header_values
from .image_reading import ImageReader
from .image_requests import refused_image, require_images, write_image_response
from .models import Model
from .open_inference import JSON_LENGTH, Inference
from .repository import Repository
from .rooms import Room
from .settings import Settings
from .tf_serving import Call, is_table, read_call, write_predictions
from .versions import LoadedModel

# Bytes: longer bodies are read and written in a thread, part by part, since others would wait.
LONG_BODY = 65_536
_NUMBER_BYTES, _PIXEL_BYTES = 20, 4  # of JSON
_LOADING_S = 20.0


class Format(NamedTuple):
    """How the requests of a protocol are read, and its responses written.

    Attributes:
        read: reads the body of a request for a model.
        write: writes the outputs, part by part if they are long.
    """

    read: Callable[[Model, Headers, bytes, int | None], Inference | Call]
    write: Callable[[Model, Any, Sequence[np.ndarray], bool], Response]


class Answers:
    """Answers the requests that run a model.

    Attributes:
        bodies: receives their bodies.
    """

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        admission: Admission,
        executor: Executor,
        threads: int,
    ) -> None:
        """Make it.

        Args:
            settings: settings of the server.
            repository: its models.
            admission: counts the requests in flight.
            executor: reads and writes long bodies.
            threads: number of images that are read at once.
        """
        self._repository = repository
        self._admission = admission
        self._executor = executor
        self._images = ImageReader(threads)
        self._max_rows = settings.max_rows
        max_bytes = int(settings.max_body_mb * 1e6)
        # All long bodies together, and all long responses, may be as long as the longest body. A
        # request keeps its room until its response has some, so that outputs do not pile up.
        self._room = Room(max_bytes, settings.body_s)
        self._response_room = Room(max_bytes, settings.body_s)
        self.bodies = Bodies(max_bytes, settings.body_s, settings.max_requests, self._room)

    async def run(
        self, form: Format, name: str, version: str | None, headers: Headers, *arriving: Any
    ) -> Response:
        """Answer a request of a protocol; see `router.ModelHandler`."""
        loaded = self._repository.served(name, version) or await self.find(name, version)
        body, room = await self._receive(headers, *arriving)
        return await self.answer(form, loaded, headers, body, room)

    async def answer(
        self,
        form: Format,
        loaded: LoadedModel,
        headers: Headers,
        body: bytes,
        room: int = 0,
        run: Run | None = None,
    ) -> Response:
        """Return the response to a body.

        Args:
            form: reads it, and writes the response.
            loaded: answers it.
            headers: headers of the request.
            body: its body.
            room: the room that the body takes; it is left.
            run: runs the model, see `Batcher.infer`.

        Raises:
            RequestError: the body is not a request that the model can answer.
        """
        try:
            if len(body) < LONG_BODY:
                request = form.read(loaded.model, headers, body, None)
            else:
                given = loaded.model, headers, body, self._max_rows
                request = await self.call(True, form.read, *given)
                del given
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

    async def image(
        self, name: str, version: str | None, headers: Headers, *arriving: Any
    ) -> Response:
        """Answer a request whose body is an image file; see `router.ModelHandler`."""
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
        del body
        is_read = time.perf_counter()
        outputs = await loaded.batcher.infer({manifest.inputs[0].name: image[np.newaxis]})
        seconds = time.perf_counter() - is_read, is_read - start
        predicted = loaded.model.prediction(outputs)
        write = partial(write_image_response, predicted, image, *(1000 * s for s in seconds))
        size = _PIXEL_BYTES * image.size + _NUMBER_BYTES * sum([array.size for array in outputs])
        if size < LONG_BODY:
            return write()
        return await self._write_long(write, await self._response_room.take(size))

    async def find(self, name: str, version: str | None) -> LoadedModel:
        """Return a served version of a model; the latest if `version` is None.

        Waits a while: a restarted process gets requests before it has loaded its models.

        Raises:
            RequestError: there is no such model or version, or it cannot be served.
        """
        try:
            return self._repository.find(name, version)
        except RequestError as error:
            if error.status != 503:
                raise
        await self._repository.wait_for(name, version, _LOADING_S)
        return self._repository.find(name, version)

    async def receive(self, headers: Headers, *arriving: Any) -> bytes:
        """Return the body of a request that takes little memory, whatever its length."""
        body, room = await self._receive(headers, *arriving)
        self._room.leave(room)
        return body

    async def _receive(self, headers: Headers, protocol: HTTPProtocol, client: str) -> Body:
        """Receive a body. Its request is in flight once it is there."""
        admission = self._admission
        admission.in_flight -= 1
        try:
            body = await self.bodies.receive(headers, protocol, client)
        finally:
            admission.in_flight += 1
        try:
            admission.refuse_one_too_many()
        except RequestError:
            self._room.leave(body.room)
            raise
        return body

    async def call(self, is_long: bool, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function; in a thread if it would block the event loop for long."""
        if is_long:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, call, *arguments)
        return call(*arguments)

    def leave(self, response: Response) -> None:
        """Leave the room of a response that was sent, or will not be."""
        if response.room:
            self._response_room.leave(response.room)

    def close(self) -> None:
        """End the threads that read images and decompress."""
        self.bodies.close()
        self._images.close()


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


INFERENCE = Format(_read_inference, _write_inference)
PREDICTION = Format(_read_call, _write_predictions)


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
