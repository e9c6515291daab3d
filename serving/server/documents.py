"""Everything that GET returns: health, metadata, metrics, API docs and the page."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from ..manifest import Manifest
from ..triton import describe_config
from ..version import VERSION
from .errors import RequestError
from .http import Response, json_response
from .image_requests import list_models
from .open_inference import EXTENSIONS, describe_model
from .openapi import describe_api, render_docs
from .repository import Repository
from .telemetry import Metrics
from .tf_serving import describe_signature
from .versions import LoadedModel, VersionState

Document = Callable[[], Response]
_HTML = "text/html; charset=utf-8"
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|config|stats|samples))?")
# Statistics of all models, unless a model has the name `stats`.
_ALL_STATS = "/v2/models/stats"
# A version in a path of TF Serving, or its label, which has a character that is no digit.
TF_VERSION = r"(?:versions/(?=[^/:])|labels/(?=[0-9]*[^/:0-9]))([^/:]+)"
_TF_MODEL = re.compile(rf"/v1/models/([^/:]+)(?:/{TF_VERSION})?(/metadata)?")
# The page may only contact this server, whatever text a label contains.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
_PAGE = Response(
    Path(__file__).with_name("page.html").read_bytes(),
    media_type=_HTML,
    headers=[("content-security-policy", _POLICY), ("cache-control", "no-cache")],
)


class Documents:
    """Finds the document of a path."""

    def __init__(self, repository: Repository, metrics: Metrics, root_path: str = "") -> None:
        self._repository = repository
        self._metrics = metrics
        self._root_path = root_path
        self._fixed: dict[str, Document] = {
            "/": lambda: _PAGE,
            "/docs": _docs,
            "/openapi.json": self._describe_api,
            "/models": lambda: list_models(repository),
            "/metrics": self._show_metrics,
            "/v2": _server,
            "/v2/": _server,
            "/v2/health/live": lambda: json_response({"live": True}),
            "/v2/health/ready": lambda: _ready(repository.is_ready),
            _ALL_STATS: self._all_stats,
            "/v1/models": lambda: json_response({"models": sorted(repository.models)}),
        }
        if root_path:  # the links of the page are relative to the folder below it
            self._fixed[""] = self._to_page
            self._fixed.setdefault(root_path, self._to_page)

    def find(self, path: str, accept: str) -> Document | None:
        """Return the document for a GET of `path`; None if there is none.

        Args:
            path: path of the request.
            accept: its `accept` header; may be empty.
        """
        if path == "/" and not wants_page(accept):
            return _alive
        is_model = path == _ALL_STATS and "stats" in self._repository.models
        if path in self._fixed and not is_model:
            return self._fixed[path]
        match = _MODEL.fullmatch(path)
        if match is not None:
            name, version, what = match.groups()
            return lambda: self._open_inference(name, version, what)
        match = _TF_MODEL.fullmatch(path)
        if match is not None:
            name, version, metadata = match.groups()
            if metadata:
                return lambda: json_response(describe_signature(self._manifest(name, version)))
            return lambda: self._tf_status(name, version)
        return None

    def _manifest(self, name: str, version: str | None) -> Manifest:
        return self._repository.find(name, version).model.manifest

    def _open_inference(self, name: str, version: str | None, what: str | None) -> Response:
        if what == "ready":
            return self._is_model_ready(name, version)
        loaded = self._repository.find(name, version)
        manifest = loaded.model.manifest
        if what == "config":
            return json_response(describe_config(manifest))
        if what == "stats":
            return json_response({"model_stats": [describe_stats(loaded)]})
        if what == "samples":
            return Response(loaded.model.samples)
        return json_response(describe_model(manifest, list(self._repository.models[name])))

    def _is_model_ready(self, name: str, version: str | None) -> Response:
        try:
            self._repository.find(name, version)
        except RequestError as error:
            if error.status != 503:
                raise
            return json_response({"name": name, "ready": False}, 503)
        is_ready = not self._repository.is_draining
        return json_response({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    def _all_stats(self) -> Response:
        models = self._repository.models.values()
        return json_response(
            {"model_stats": [describe_stats(s) for v in models for s in v.values()]}
        )

    def _tf_status(self, name: str, version: str | None) -> Response:
        """Return the status of a model's versions, with the keys of TF Serving and KServe's V1."""
        states = [state for state in self._repository.states() if state.name == name]
        if not states:
            self._repository.find(name, version)
        if version is not None:
            wanted = self._repository.resolve(name, version)
            states = [state for state in states if str(state.number) == wanted]
            if not states:
                raise RequestError(f"{name} has no such version. Received: {version:.40}.", 404)
        is_ready = any(state.status == "ready" for state in states)
        versions = [_status(state) for state in reversed(states)]
        return json_response({"name": name, "ready": is_ready, "model_version_status": versions})

    def _describe_api(self) -> Response:
        models = self._repository.models
        latest = {name: max(models[name]) for name in sorted(models)}
        return json_response(describe_api(latest, self._root_path))

    def _to_page(self) -> Response:
        return Response(b"", 307, headers=[("location", f"{self._root_path}/")])

    def _show_metrics(self) -> Response:
        return Response(self._metrics.render(), media_type=CONTENT_TYPE_LATEST)


def wants_page(accept: str) -> bool:
    """Return whether a request with this `accept` header is that of a browser for a page."""
    return "text/html" in accept


def _docs() -> Response:
    return Response(render_docs().encode(), media_type=_HTML)


def _alive() -> Response:
    # KServe's V1 checks its health at this path; browsers get the page instead.
    return json_response({"status": "alive"})


def _server() -> Response:
    return json_response({"name": "hornbill", "version": VERSION, "extensions": EXTENSIONS})


def _ready(is_ready: bool) -> Response:
    # The specification, KServe's client and Triton expect different keys.
    return json_response({"ready": is_ready, "live": True}, 200 if is_ready else 503)


def _status(state: VersionState) -> dict[str, Any]:
    name, code, message = "LOADING", "OK", ""
    if state.status == "ready":
        name = "AVAILABLE"
    elif state.failure is not None:
        name, code, message = "END", "FAILED_PRECONDITION", state.failure.reason
    return {
        "version": str(state.number),
        "state": name,
        "status": {"error_code": code, "error_message": message},
    }


def describe_stats(loaded: LoadedModel) -> dict[str, Any]:
    """Return the statistics of a version: those of Triton's fields that this server counts."""
    manifest, counts = loaded.model.manifest, loaded.batcher.counts
    success = {"count": counts.requests, "ns": int(counts.seconds * 1e9)}
    queue = {"count": counts.requests, "ns": int(counts.queue_seconds * 1e9)}
    return {
        "name": manifest.name,
        "version": str(manifest.version),
        "last_inference": int(counts.last_time * 1000),
        "inference_count": counts.rows,
        "execution_count": counts.batches,
        "inference_stats": {"success": success, "queue": queue},
    }
