"""The OpenAPI document of the server, and its rendering as a page."""

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
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
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
    f"{_MODEL}/stats": "what was answered, as Triton counts it",
    "/models": "every version that answers, or failed to be loaded",
    "/v1/models": "the names of the models",
    _TF: "the state of a model's versions, as TF Serving shows it",
    f"{_TF}/versions/{{version}}": "the state of a version",
    f"{_TF}/metadata": "the signature, as TF Serving shows it",
}


def describe_api() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
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
        paths[f"/images/{{model}}{version}"] = {"post": _posted_image(version)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hornbill", "version": "2", "description": "Models exported as bundles."},
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(path: str, text: str, answer: str) -> dict[str, Any]:
    names = [name for name in ("model", "version") if f"{{{name}}}" in path]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    statuses = {"400": "not what the model takes", "401": "the token is missing",
                "404": "no such model or version", "408": "the body came too slowly",
                "413": "the body is too long", "415": "of an unknown encoding",
                "503": "too much to do, or not ready"}  # fmt: skip
    responses: dict[str, Any] = {"200": _content("the answer", answer)}
    responses |= {status: _content(reason, "Error") for status, reason in statuses.items()}
    if path == "/v2/health/ready":
        responses["503"] = _content("not ready", "Any")
    return {"summary": text, "parameters": parameters, "responses": responses}


def _posted(path: str, text: str, kind: str) -> dict[str, Any]:
    body = _content("the request", f"{kind}Request")
    operation = _operation(path, text, f"{kind}Response")
    return operation | {"requestBody": {"required": True, "content": body["content"]}}


def _posted_image(version: str) -> dict[str, Any]:
    text = "run a model of images on an image file: PNG, JPEG, BMP, GIF, TIFF or WebP"
    operation = _operation(f"/images/{{model}}{version}", text, "ImageResponse")
    content = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
    return operation | {"requestBody": {"required": True, "content": content}}


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
