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
    is_whole = manifest.whole_batches
    lines = [
        f'name: "{manifest.name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {_max_batch_size(manifest)}",
        *(_tensor("input", spec, is_whole) for spec in manifest.inputs),
        *(
            _tensor("output", spec, is_whole, spec.name == manifest.prediction_output)
            for spec in manifest.outputs
        ),
        *([] if is_whole else ["dynamic_batching { }"]),
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
    ]
    return "\n".join(lines) + "\n"


def describe_config(manifest: Manifest) -> dict[str, Any]:
    """Return the content of `config.pbtxt` as Triton returns it in JSON."""
    is_whole = manifest.whole_batches
    return {
        "name": manifest.name,
        "backend": "onnxruntime",
        "max_batch_size": _max_batch_size(manifest),
        "input": [_described(spec, is_whole) for spec in manifest.inputs],
        "output": [_described(spec, is_whole) for spec in manifest.outputs],
    }


def _max_batch_size(manifest: Manifest) -> int:
    """Return the largest batch; 0 if Triton must not make batches, and `dims` are the shape."""
    return 0 if manifest.whole_batches else MAX_BATCH_SIZE


def _dims(spec: TensorSpec, is_whole: bool) -> list[int]:
    """Return the sizes of the axes, -1 for variable ones; without the batch if Triton adds it."""
    axes = spec.shape if is_whole else spec.shape[1:]
    return [size if isinstance(size, int) else -1 for size in axes]


def _described(spec: TensorSpec, is_whole: bool) -> dict[str, Any]:
    dims = _dims(spec, is_whole)
    described = {"name": spec.name, "data_type": _TYPES[spec.dtype], "dims": dims or [1]}
    return described if dims else {**described, "reshape": {"shape": []}}


def _tensor(role: str, spec: TensorSpec, is_whole: bool, has_labels: bool = False) -> str:
    sizes = ", ".join(map(str, _dims(spec, is_whole)))
    dims = f"dims: [ {sizes} ]" if sizes else "dims: [ 1 ] reshape { shape: [ ] }"
    labels = f' label_filename: "{LABELS}"' if has_labels else ""
    return f'{role} [ {{ name: "{spec.name}" data_type: {_TYPES[spec.dtype]} {dims}{labels} }} ]'
