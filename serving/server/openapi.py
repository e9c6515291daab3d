"""The OpenAPI document of the server, and its rendering as a page.

The schemas are those of the structs that parse the requests and write the responses.
"""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import msgspec

from .http import ErrorResponse
from .image_requests import ImageResponse
from .open_inference import InferenceResponse, JsonInferenceRequest
from .repository_requests import ControlRequest, IndexRequest, IndexRow
from .tf_serving import PredictRequest, PredictResponse

_REFERENCE = "#/components/schemas/{name}"
_BODIES = (
    ErrorResponse,
    JsonInferenceRequest,
    InferenceResponse,
    PredictRequest,
    PredictResponse,
    ImageResponse,
    IndexRequest,
    IndexRow,
    ControlRequest,
)


def _describe_bodies() -> dict[str, Any]:
    """Return the schemas of all bodies; a generic struct loses its parameters in the name."""
    _, schemas = msgspec.json.schema_components(_BODIES, ref_template=_REFERENCE)
    text = json.dumps({**schemas, "Any": {"type": "object"}})
    for name, schema in schemas.items():
        short = name.partition("_")[0]
        text = text.replace(json.dumps(schema["title"]), json.dumps(short))
        text = text.replace(f'{name}"', f'{short}"')
    described: dict[str, Any] = json.loads(text)
    return described


_SCHEMAS = _describe_bodies()
_MODEL = "/v2/models/{model}"
_TF = "/v1/models/{model}"
# The summary of each path that only has a GET.
_DOCUMENTS = {
    "/v2": "Name and version of the server, and its protocol extensions",
    "/v2/health/live": "Whether the server is running",
    "/v2/health/ready": "Whether requests should be sent; 503 if models are missing",
    _MODEL: "Inputs, outputs and versions of a model",
    f"{_MODEL}/versions/{{version}}": "Inputs and outputs of a version",
    f"{_MODEL}/ready": "Whether a model is ready; 503 if it is being loaded or has failed",
    f"{_MODEL}/versions/{{version}}/ready": "Whether a version is ready",
    f"{_MODEL}/config": "Configuration of a model, in Triton's form",
    f"{_MODEL}/versions/{{version}}/config": "Configuration of a version",
    f"{_MODEL}/stats": "Statistics of a model, in Triton's form",
    f"{_MODEL}/versions/{{version}}/stats": "Statistics of a version",
    f"{_MODEL}/samples": "Samples to try a model with, and the columns of its rows",
    f"{_MODEL}/versions/{{version}}/samples": "Samples to try a version with",
    "/v2/models/stats": "Statistics of every model",
    "/models": "State of every version: loading, ready or failed",
    "/v1/models": "Names of the models",
    _TF: "State of a model's versions, in TF Serving's form",
    f"{_TF}/versions/{{version}}": "State of a version",
    f"{_TF}/labels/{{label}}": "State of the version that has a label",
    f"{_TF}/metadata": "Signature of a model, in TF Serving's form",
    f"{_TF}/versions/{{version}}/metadata": "Signature of a version",
}
# The errors of every request, of those that name a model, and of those that have a body.
_ERRORS = {
    "400": "The request does not fit the model, or is not HTTP.",
    "401": "The token is missing or wrong.",
    "503": "Too many requests are in flight, or the models are not loaded yet.",
}
_UNKNOWN = {"404": "There is no such model or version."}
_UNREADABLE = {
    "408": "The body arrived too slowly.",
    "413": "The body is too long, or has too many samples.",
    "415": "The encoding of the body is not supported.",
}
_FOREIGN = "The request is from a page whose origin is not allowed."
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_JSON_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Length in bytes of the JSON before the binary tensors. 0 if the body is a "
    "single raw sample.",
    "schema": {"type": "integer", "minimum": 0},
}


def describe_api(examples: Mapping[str, int] | None = None, root_path: str = "") -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Args:
        examples: a version of each model that is served, by name.
        root_path: path under which a proxy publishes the server; may be empty.
    """
    paths: dict[str, Any] = {
        path: {"get": _operation(path, summary, "Any")} for path, summary in _DOCUMENTS.items()
    }
    for version in ("", "/versions/{version}"):
        infer, predict = f"{_MODEL}{version}/infer", f"{_TF}{version}:predict"
        paths[infer] = {"post": _posted(infer, "Run a model: Open Inference Protocol", "Inference")}
        paths[predict] = {"post": _posted(predict, "Run a model: TF Serving", "Predict")}
        _allow_binary(paths[infer]["post"])
        paths[f"/images/{{model}}{version}"] = {"post": _posted_image(version)}
    paths |= _describe_repository()
    labeled = f"{_TF}/labels/{{label}}:predict"
    paths[labeled] = {"post": _posted(labeled, "Run the version that has a label", "Predict")}
    known = examples or {}
    parameters = {
        "label": _parameter("label", ["stable"]),
        "model": _parameter("model", list(known)),
        "version": _parameter("version", [str(version) for version in known.values()]),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hornbill",
            "version": "2",
            "description": "Predictions from models that were exported as bundles.",
        },
        **({"servers": [{"url": root_path}]} if root_path else {}),
        "paths": paths,
        "security": [{}, {"token": []}],  # a server may be started with a token or without
        "components": {
            "schemas": _SCHEMAS,
            "parameters": parameters,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _parameter(name: str, examples: list[str]) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "examples": examples}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _operation(path: str, summary: str, schema: str) -> dict[str, Any]:
    names = [name for name in ("model", "version", "label") if f"{{{name}}}" in path]
    parameters = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    responses: dict[str, Any] = {"200": _content("The result.", schema)}
    errors = _ERRORS | _UNKNOWN if names else _ERRORS
    responses |= {status: _content(text, "ErrorResponse") for status, text in errors.items()}
    if path.endswith("/ready"):
        responses["503"] = _content("Not ready.", "Any")
    return {"summary": summary, "parameters": parameters, "responses": responses}


def _posted(path: str, summary: str, kind: str) -> dict[str, Any]:
    body = _content("The request.", f"{kind}Request")
    return _with_body(_operation(path, summary, f"{kind}Response"), body["content"])


def _with_body(operation: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    for status, text in _UNREADABLE.items():
        operation["responses"][status] = _content(text, "ErrorResponse")
    return operation | {"requestBody": {"required": True, "content": content}}


def _allow_binary(operation: dict[str, Any]) -> None:
    """Declare that binary tensors may follow the JSON of the request and of the response."""
    operation["parameters"].append(_JSON_LENGTH)
    for place in (operation["requestBody"], operation["responses"]["200"]):
        place["content"] |= _BINARY


def _describe_repository() -> dict[str, Any]:
    """Return the paths of the model repository extension, whose bodies may be absent."""
    index = "/v2/repository/index"
    paths = {index: {"post": _posted(index, "Index of the folder, in Triton's form", "Index")}}
    rows = {"type": "array", "items": {"$ref": _REFERENCE.format(name="IndexRow")}}
    paths[index]["post"]["responses"]["200"]["content"] = {"application/json": {"schema": rows}}
    for action, summary in (("load", "Load a model"), ("unload", "Serve a model no longer")):
        path = f"/v2/repository/models/{{model}}/{action}"
        operation = _posted(path, f"{summary}, with --model-control explicit", "Control")
        operation["responses"]["200"] = _content("The result.", "Any")
        operation["responses"]["403"] = _content(_FOREIGN, "ErrorResponse")
        paths[path] = {"post": operation}
    for methods in paths.values():
        methods["post"]["requestBody"]["required"] = False
    return paths


def _posted_image(version: str) -> dict[str, Any]:
    summary = "Predict for an image file: PNG, JPEG, BMP, GIF, TIFF or WebP"
    operation = _operation(f"/images/{{model}}{version}", summary, "ImageResponse")
    content = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
    return _with_body(operation, content)


def _content(text: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": _REFERENCE.format(name=schema)}
    return {"description": text, "content": {"application/json": {"schema": reference}}}


def render_docs() -> str:
    """Return the document as a page that loads nothing else."""
    rows = [
        f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation['summary'])}</td></tr>"
        for path, methods in describe_api()["paths"].items()
        for method, operation in methods.items()
    ]
    return _DOCS.replace("ROWS", "\n".join(rows))


_DOCS = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Hornbill: API</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
td { padding: .2rem 1rem .2rem 0; vertical-align: top } code { overflow-wrap: anywhere }
</style>
<h1>API</h1>
<p>The OpenAPI document is at <a href="openapi.json">/openapi.json</a>, metrics for Prometheus at
<a href="metrics">/metrics</a>. Errors have the body <code>{"error": "…"}</code> and a matching
status.</p>
<table>ROWS</table>
</html>
"""
