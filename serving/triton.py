"""Renders the files next to a model's versions: Triton's configuration and the labels.

Source: Triton Inference Server, model configuration.
"""

from typing import Any

from .manifest import Manifest, TensorSpec

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
# Triton splits larger requests; small nets gain nothing from larger batches.
MAX_BATCH_SIZE = 1024
_TYPES = {
    "uint8": "TYPE_UINT8",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "int8": "TYPE_INT8",
    "bool": "TYPE_BOOL",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "string": "TYPE_STRING",
}


def render_labels(manifest: Manifest) -> str:
    """Return the text of `labels.txt`: one label for each line, in the order of the classes."""
    return "".join(f"{' '.join(label.splitlines())}\n" for label in manifest.labels)


def render_config(manifest: Manifest) -> str:
    """Return the text of `config.pbtxt`, which depends only on the name and the signature."""
    lines = [
        f'name: "{manifest.name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {MAX_BATCH_SIZE}",
        *(_tensor("input", spec) for spec in manifest.inputs),
        *(
            _tensor("output", spec, spec.name == manifest.prediction_output)
            for spec in manifest.outputs
        ),
        "dynamic_batching { }",
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
    ]
    return "\n".join(lines) + "\n"


def describe_config(manifest: Manifest) -> dict[str, Any]:
    """Return the content of `config.pbtxt` as Triton returns it in JSON."""
    return {
        "name": manifest.name,
        "backend": "onnxruntime",
        "max_batch_size": MAX_BATCH_SIZE,
        "input": [_described(spec) for spec in manifest.inputs],
        "output": [_described(spec) for spec in manifest.outputs],
    }


def _described(spec: TensorSpec) -> dict[str, Any]:
    dims = [size if isinstance(size, int) else -1 for size in spec.shape[1:]]
    described = {"name": spec.name, "data_type": _TYPES[spec.dtype], "dims": dims or [1]}
    return described if dims else {**described, "reshape": {"shape": []}}


def _tensor(role: str, spec: TensorSpec, has_labels: bool = False) -> str:
    # max_batch_size declares the first axis as the batch; dims leave it out
    sizes = [str(size) if isinstance(size, int) else "-1" for size in spec.shape[1:]]
    dims = f"dims: [ {', '.join(sizes)} ]" if sizes else "dims: [ 1 ] reshape { shape: [ ] }"
    labels = f' label_filename: "{LABELS}"' if has_labels else ""
    return f'{role} [ {{ name: "{spec.name}" data_type: {_TYPES[spec.dtype]} {dims}{labels} }} ]'
