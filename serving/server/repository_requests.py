"""The requests of Triton's model repository extension: the index, and loading and unloading models.

Source: Triton, "Model Repository Extension".
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from granian.rsgi import Headers

from ..errors import reason_of
from .errors import RequestError
from .http import Response, json_response
from .origins import refuse_foreign
from .repository import Repository


class IndexRequest(msgspec.Struct):
    """The body of a request for the index; may be absent.

    Attributes:
        ready: whether only versions that are served are listed.
    """

    ready: bool = False


class IndexRow(msgspec.Struct):
    """A version in the index; `state` is `READY`, `LOADING` or `UNAVAILABLE`."""

    name: str
    version: str
    state: str
    reason: str


class ControlRequest(msgspec.Struct):
    """The body of a request to load or to unload a model; may be absent."""

    parameters: dict[str, Any] | None = None


class RepositoryRequests:
    """Answers the requests of the extension."""

    def __init__(
        self,
        repository: Repository,
        receive: Callable[..., Awaitable[bytes]],
        origins: Sequence[str] = (),
    ) -> None:
        """Make it.

        Args:
            repository: its models.
            receive: returns the body of a request.
            origins: the origins whose pages may load and unload models.
        """
        self._repository = repository
        self._receive = receive
        self._origins = origins

    async def index(self, headers: Headers, *arriving: Any) -> Response:
        """Return the versions of the folder with their states."""
        request = _decode(await self._receive(headers, *arriving), IndexRequest)
        rows = await self._repository.index(only_ready=request.ready)
        return json_response([IndexRow(**row) for row in rows])

    async def load(self, name: str, headers: Headers, *arriving: Any) -> Response:
        """Load a model, or load it anew if its files have changed."""
        refuse_foreign(self._origins, headers)
        request = _decode(await self._receive(headers, *arriving), ControlRequest)
        await self._repository.load(name, request.parameters or ())
        return json_response({})

    async def unload(self, name: str, headers: Headers, *arriving: Any) -> Response:
        """Serve a model no longer. No model depends on another, so parameters change nothing."""
        refuse_foreign(self._origins, headers)
        _decode(await self._receive(headers, *arriving), ControlRequest)
        await self._repository.unload(name)
        return json_response({})


def _decode(body: bytes, kind: type[IndexRequest] | type[ControlRequest]) -> Any:
    try:
        return msgspec.json.decode(body.strip() or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(
            f"The body must be an object of the model repository extension: {reason_of(error)}."
        ) from None
