"""Finds the handler for a method and a path."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

from granian.rsgi import Headers, HTTPProtocol

from .documents import TF_VERSION, Document, Documents, wants_page
from .errors import RequestError
from .http import Response
from .repository import Repository
from .repository_requests import RepositoryRequests

# Takes the headers, the protocol that gives the body, and the address and port of the client.
Handler = Callable[[Headers, HTTPProtocol, str], Awaitable[Response]]
# Takes a model's name and version (None for the latest), then the arguments of a `Handler`.
ModelHandler = Callable[[str, str | None, Headers, HTTPProtocol, str], Awaitable[Response]]
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
# No label is a number, which could be taken for a version.
_NUMBER_AS_LABEL = re.compile(r"/v1/models/([^/:]+)/labels/([0-9]+)(?::predict|/metadata)?")
_REPOSITORY = re.compile(r"/v2/repository/(?:(index)|models/([^/]+)/(load|unload))")
# Limits of the cached routes: clients can invent versions.
_MAX_ROUTES, _MAX_PATH = 1024, 256


class Route(NamedTuple):
    """The handler of a request, with the names of its route and of the model it asks for."""

    name: str
    handle: Handler
    model: str = ""


def inside(root_path: str, path: str, accept: str) -> str:
    """Return a path without the prefix under which a proxy publishes the server.

    A path without the prefix stays as it is: some proxies remove it, and probes do not have it. The
    prefix itself may also be one of the server's paths; for a browser it is the empty path, which
    leads to the page.

    Args:
        root_path: the prefix.
        path: path of a request.
        accept: its `accept` header; may be empty.
    """
    rest = path.removeprefix(root_path)
    is_page = not rest and wants_page(accept)
    return rest if rest.startswith("/") or is_page else path


class Router:
    """Maps requests to handlers; routes of known models are cached."""

    def __init__(
        self,
        handlers: Mapping[str, ModelHandler],
        documents: Documents,
        show: ShowDocument,
        repository: Repository,
        requests: RepositoryRequests,
    ) -> None:
        """Make a router.

        Args:
            handlers: the handler of each route that runs a model: `infer`, `predict`, `image`.
            documents: everything that a GET can read.
            show: makes the response for a path and its document.
            repository: the models that are known.
            requests: answers the requests of the model repository extension.
        """
        self._handlers = handlers
        self._documents = documents
        self._show = show
        self._repository = repository
        self._requests = requests
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
        match = _REPOSITORY.fullmatch(path)
        if match is not None:
            return self._repository_route(method, *match.groups())
        return self._match_document(method, path, headers)

    def _repository_route(
        self, method: str, index: str | None, model: str | None, action: str | None
    ) -> Route:
        if method != "POST":
            return Route("repository", partial(_refuse_method, "POST", method))
        if index or model is None:
            return Route("repository", self._requests.index)
        act = self._requests.load if action == "load" else self._requests.unload
        return Route("repository", partial(act, model))

    async def _refuse_label(
        self, name: str, label: str, _headers: Headers, _protocol: HTTPProtocol, _client: str
    ) -> Response:
        labels = ", ".join(self._repository.labels(name)) or "none"
        raise RequestError(
            f"The label of {name:.80} must be one of: {labels}. Received: {label:.40}. "
            f"A number is a version: versions/{label:.40}.",
            404,
        )

    def _match_document(self, method: str, path: str, headers: Headers) -> Route:
        if match := _NUMBER_AS_LABEL.fullmatch(path):
            return Route("none", partial(self._refuse_label, match[1], match[2]))
        document = self._documents.find(path, headers.get("accept", ""))
        if document is None:
            return Route("none", partial(_refuse_path, path))
        if method not in ("GET", "HEAD"):
            return Route("document", partial(_refuse_method, "GET, HEAD", method))
        found = document

        async def show(_headers: Headers, _protocol: HTTPProtocol, _client: str) -> Response:
            return await self._show(path, found)

        return Route("document", show)


async def _refuse_method(
    method: str, received: str, _headers: Headers, _protocol: HTTPProtocol, _client: str
) -> Response:
    raise RequestError(
        f"This path only accepts {method}. Received: {received:.20}.", 405, {"allow": method}
    )


async def _refuse_path(
    path: str, _headers: Headers, _protocol: HTTPProtocol, _client: str
) -> Response:
    raise RequestError(
        f"There is no such path. Received: {path:.80}. See /docs for all paths.", 404
    )
