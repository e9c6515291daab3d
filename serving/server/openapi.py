"""The OpenAPI document of the server, and its rendering as a page."""

from collections.abc import Mapping
from html import escape
from typing import Any

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {
            "type": "string",
            "enum": ["BOOL", "UINT8", "INT8", "INT32", "INT64", "FP32", "FP64", "BYTES"],
        },
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}, "description": "nested, or flat and row-major"},
    },
}
_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    },
    "Tensor": _TENSOR,
    "InferenceRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"]},
            "parameters": {"type": ["object", "null"]},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "parameters": {"type": ["object", "null"]},
                    },
                },
            },
        },
    },
    "InferenceResponse": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
    "PredictRequest": {
        "type": "object",
        "description": "either instances, row by row, or inputs, by column",
        "properties": {
            "signature_name": {"type": "string"},
            "instances": {"type": "array", "items": {}},
            "inputs": {},
        },
    },
    "PredictResponse": {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": {}}, "outputs": {}},
    },
    "ImageResponse": {
        "type": "object",
        "required": ["model_name", "model_version", "label", "accepted", "probabilities"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "label": {"type": "string"},
            "accepted": {"type": "boolean"},
            "probabilities": {"type": "array", "items": {"type": "number"}},
            "image": {
                "type": "object",
                "description": "as it was brought to the model's input",
                "properties": {
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "data": {"type": "array", "items": {"type": "integer"}},
                },
            },
            "milliseconds": {"type": "number"},
        },
    },
    "Any": {"type": "object"},
}
_MODEL = "/v2/models/{model}"
_TF = "/v1/models/{model}"
# Of each address: what a GET of it shows.
_SHOWN = {
    "/v2": "the server, and the extensions of the protocol that it knows",
    "/v2/health/live": "whether the server runs",
    "/v2/health/ready": "whether its models are loaded; 503 if not",
    _MODEL: "inputs, outputs and versions of a model",
    f"{_MODEL}/versions/{{version}}": "the same of a version",
    f"{_MODEL}/ready": "whether a model answers",
    f"{_MODEL}/versions/{{version}}/ready": "whether a version answers",
    f"{_MODEL}/config": "the configuration, as Triton shows it",
    f"{_MODEL}/versions/{{version}}/config": "the configuration of a version",
    f"{_MODEL}/stats": "what was answered, as Triton counts it",
    f"{_MODEL}/versions/{{version}}/stats": "what a version answered",
    "/v2/models/stats": "what every model answered",
    "/models": "every version that answers, or failed to be loaded",
    "/v1/models": "the names of the models",
    _TF: "the state of a model's versions, as TF Serving shows it",
    f"{_TF}/versions/{{version}}": "the state of a version",
    f"{_TF}/metadata": "the signature, as TF Serving shows it",
    f"{_TF}/versions/{{version}}/metadata": "the signature of a version",
}
# What is refused: of any request, of those that name a model, of those that have a body.
_REFUSED = {
    "400": "not what the model takes, or no HTTP",
    "401": "the token is missing",
    "503": "too much to do, or not ready",
}
_UNKNOWN = {"404": "no such model or version"}
_UNREADABLE = {
    "408": "the body came too slowly",
    "413": "the body is too long",
    "415": "of an unknown encoding",
}
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_JSON_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "bytes of the JSON that binary tensors follow; 0 for a body of one raw sample",
    "schema": {"type": "integer", "minimum": 0},
}


def describe_api(examples: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Args:
        examples: models that are served, by name, and a version of each.
    """
    paths: dict[str, Any] = {
        path: {"get": _operation(path, text, "Any")} for path, text in _SHOWN.items()
    }
    for version in ("", "/versions/{version}"):
        for path, text, kind in (
            (
                f"{_MODEL}{version}/infer",
                "run a model, by the Open Inference Protocol",
                "Inference",
            ),
            (f"{_TF}{version}:predict", "run a model, as TF Serving does", "Predict"),
        ):
            paths[path] = {"post": _posted(path, text, kind)}
        _allow_binary(paths[f"{_MODEL}{version}/infer"]["post"])
        paths[f"/images/{{model}}{version}"] = {"post": _posted_image(version)}
    known = examples or {}
    parameters = {
        "model": _parameter("model", list(known)),
        "version": _parameter("version", [str(version) for version in known.values()]),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hornbill", "version": "2", "description": "Models exported as bundles."},
        "paths": paths,
        "security": [{}, {"token": []}],  # a server may ask for a token, or not
        "components": {
            "schemas": _SCHEMAS,
            "parameters": parameters,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _parameter(name: str, examples: list[str]) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "examples": examples}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _operation(path: str, text: str, answer: str) -> dict[str, Any]:
    names = [name for name in ("model", "version") if f"{{{name}}}" in path]
    parameters = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    responses: dict[str, Any] = {"200": _content("the answer", answer)}
    statuses = _REFUSED | _UNKNOWN if names else _REFUSED
    responses |= {status: _content(reason, "Error") for status, reason in statuses.items()}
    if path == "/v2/health/ready":
        responses["503"] = _content("not ready", "Any")
    return {"summary": text, "parameters": parameters, "responses": responses}


def _posted(path: str, text: str, kind: str) -> dict[str, Any]:
    body = _content("the request", f"{kind}Request")
    return _with_body(_operation(path, text, f"{kind}Response"), body["content"])


def _with_body(operation: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    for status, reason in _UNREADABLE.items():
        operation["responses"][status] = _content(reason, "Error")
    return operation | {"requestBody": {"required": True, "content": content}}


def _allow_binary(operation: dict[str, Any]) -> None:
    """Say that tensors may follow the JSON as bytes, both ways."""
    operation["parameters"].append(_JSON_LENGTH)
    for place in (operation["requestBody"], operation["responses"]["200"]):
        place["content"] |= _BINARY


def _posted_image(version: str) -> dict[str, Any]:
    text = "run a model of images on an image file: PNG, JPEG, BMP, GIF, TIFF or WebP"
    operation = _operation(f"/images/{{model}}{version}", text, "ImageResponse")
    content = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
    return _with_body(operation, content)


def _content(text: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": text, "content": {"application/json": {"schema": reference}}}


def render_docs() -> str:
    """Return the document as a page that needs nothing else."""
    rows = [
        f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation['summary'])}</td></tr>"
        for path, methods in describe_api()["paths"].items()
        for method, operation in methods.items()
    ]
    return _DOCS.replace("ROWS", "\n".join(rows))


_DOCS = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Hornbill: addresses</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
td { padding: .2rem 1rem .2rem 0; vertical-align: top } code { overflow-wrap: anywhere }
</style>
<h1>Addresses</h1>
<p>The same as OpenAPI: <a href="/openapi.json">/openapi.json</a>. Errors are
<code>{"error": "…"}</code> with a status that fits. Metrics for Prometheus:
<a href="/metrics">/metrics</a>.</p>
<table>ROWS</table>
</html>
"""
