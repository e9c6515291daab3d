"""Finds the handler for a method and a path."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

from granian.rsgi import Headers, HTTPProtocol

from .documents import TF_VERSION, Document, Documents
from .errors import RequestError
from .http import Response
from .repository import Repository

Handler = Callable[[Headers, HTTPProtocol], Awaitable[Response]]
# Takes a model's name and version (None for the latest), then the arguments of a `Handler`.
ModelHandler = Callable[[str, str | None, Headers, HTTPProtocol], Awaitable[Response]]
ShowDocument = Callable[[str, Document], Awaitable[Response]]
_PATTERNS = {
    "infer": re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer"),
    "predict": re.compile(rf"/v1/models/([^/:]+)(?:/{TF_VERSION})?:predict"),
    "image": re.compile(r"/images/([^/]+)(?:/versions/([^/]+))?"),
}
# What each route is called in traces.
TEMPLATES = {
    "infer": "/v2/models/{model}/infer",
    "predict": "/v1/models/{model}:predict",
    "image": "/images/{model}",
}
# Limits of the cached routes: clients can invent versions.
_MAX_ROUTES, _MAX_PATH = 1024, 256


class Route(NamedTuple):
    """The handler of a request, with the names of its route and of the model it asks for."""

    name: str
    handle: Handler
    model: str = ""


def inside(root_path: str, path: str) -> str:
    """Return a path without the prefix under which a proxy publishes the server.

    A path without the prefix stays as it is: some proxies remove it, and probes do not have it.
    """
    rest = path.removeprefix(root_path)
    return rest if rest.startswith("/") else path


class Router:
    """Maps requests to handlers; routes of known models are cached."""

    def __init__(
        self,
        handlers: Mapping[str, ModelHandler],
        documents: Documents,
        show: ShowDocument,
        repository: Repository,
    ) -> None:
        """Make a router.

        Args:
            handlers: the handler of each route that runs a model: `infer`, `predict`, `image`.
            documents: everything that a GET can read.
            show: makes the response for a path and its document.
            repository: the models that are known.
        """
        self._handlers = handlers
        self._documents = documents
        self._show = show
        self._repository = repository
        self._routes: dict[tuple[str, str], Route] = {}

    def find(self, method: str, path: str, headers: Headers) -> Route:
        """Return the route of a request. Unknown paths and methods get one that refuses them."""
        return self._routes.get((method, path)) or self._match(method, path, headers)

    def _match(self, method: str, path: str, headers: Headers) -> Route:
        for name, pattern in _PATTERNS.items():
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if method != "POST":
                return Route(name, partial(_refuse_method, "POST", method))
            model, version = match.groups()
            is_known = model in self._repository.models
            handle = partial(self._handlers[name], model, version)
            route = Route(name, handle, model)
            if is_known and len(path) <= _MAX_PATH and len(self._routes) < _MAX_ROUTES:
                self._routes[method, path] = route
            return route
        return self._match_document(method, path, headers)

    def _match_document(self, method: str, path: str, headers: Headers) -> Route:
        document = self._documents.find(path, headers.get("accept", ""))
        if document is None:
            return Route("none", partial(_refuse_path, path))
        if method not in ("GET", "HEAD"):
            return Route("document", partial(_refuse_method, "GET, HEAD", method))
        found = document

        async def show(_headers: Headers, _protocol: HTTPProtocol) -> Response:
            return await self._show(path, found)

        return Route("document", show)


async def _refuse_method(
    method: str, received: str, _headers: Headers, _protocol: HTTPProtocol
) -> Response:
    raise RequestError(
        f"This path only accepts {method}. Received: {received:.20}.", 405, {"allow": method}
    )


async def _refuse_path(path: str, _headers: Headers, _protocol: HTTPProtocol) -> Response:
    raise RequestError(
        f"There is no such path. Received: {path:.80}. See /docs for all paths.", 404
    )
