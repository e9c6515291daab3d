"""Exports the backbones and tasks of KerasHub to ONNX, and compares with `Model.export`.

    python -m benchmarks.hub                  every model
    python -m benchmarks.hub Bert Gemma3 …    those whose name begins so

Needs `pip install keras-hub`. The models have the small configurations of KerasHub's own tests and
random weights. "Ours" is the bundle of Hornbill, "theirs" the file of Keras' own export to ONNX. A
file agrees if at two sizes of the variable axes each output differs from that of Keras by at
most 1e-4 of its largest magnitude.

Each model is exported in a process of its own, which may take minutes or die. A model that cannot
be exported with samples that are drawn for it is exported again with samples that are given, and
then with inputs of one size.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import logging
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.hub_models import Inputs, build_hub_model, draw_inputs, hub_classes, hub_models
from benchmarks.results import write_results

LIMIT_S = 900  # for each of ours and theirs
ALLOWED = 1e-4
SAMPLES = 16  # that are given if none can be drawn
_OURS, _THEIRS, _KERAS = "ours", "theirs", "keras"
_Case = tuple[Inputs, list[np.ndarray]]


@dataclass(frozen=True)
class _Exported:
    """A file, the names of its inputs and outputs in the order of Keras, and other findings."""

    path: Path
    inputs: list[str]
    outputs: list[str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def measure(name: str, results: Connection) -> None:
    """Export a model both ways; send what is found out, one after the other."""
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    try:
        model = build_hub_model(name)
        cases = list(_cases(name, model))
    except Exception as error:  # whatever Keras raises is the result
        results.send((_KERAS, _failure(error)))
        return
    results.send((_KERAS, {"agrees": True, "parameters": model.count_params()}))
    results.send((_OURS, _attempt(lambda folder: _our_file(name, model, folder), cases)))
    results.send((_THEIRS, _attempt(lambda folder: _their_file(model, folder), cases)))


def _cases(name: str, model: keras.Model) -> Iterator[_Case]:
    """Yield inputs of each size, and the outputs of Keras."""
    for size in hub_models()[name].sizes:
        inputs = draw_inputs(name, model, size, 2)
        outputs = model(_packed(model, inputs), training=False)
        yield inputs, [np.asarray(output) for output in keras.tree.flatten(outputs)]


def _packed(model: keras.Model, inputs: Inputs) -> Any:
    leaves = [keras.ops.convert_to_tensor(array) for array in inputs.values()]
    return keras.tree.pack_sequence_as(model.input, leaves)


def _attempt(export: Callable[[str], "_Exported"], cases: list[_Case]) -> dict[str, Any]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            exported = export(folder)
            seconds = time.perf_counter() - start
            tried = cases[:1] if "without_sizes" in exported.facts else cases
            largest = max(_difference(exported, *case) for case in tried)
        except Exception as error:  # any error of a converter is its result
            return _failure(error) | {"seconds": round(time.perf_counter() - start, 1)}
    return {
        "agrees": bool(largest <= ALLOWED),
        "relative_difference": largest,
        "seconds": round(seconds, 1),
        **exported.facts,
    }


def _our_file(name: str, model: keras.Model, folder: str) -> _Exported:
    from export import ExportError, ExportOptions, export_bundle
    from export.tensor_names import input_names, output_names

    options = ExportOptions(int8="never")
    inputs = input_names(model)
    names = inputs, output_names(model, inputs)
    try:
        bundle = export_bundle(model, folder, "drawn", options=options)
        return _Exported(bundle / "model.onnx", *names)
    except ExportError as error:
        without = " ".join(str(error).split())[:300]
    drawn = draw_inputs(name, model, hub_models()[name].sizes[0], SAMPLES)
    samples = dict(zip(inputs, drawn.values(), strict=True))
    facts = {"without_samples": without}
    try:
        bundle = export_bundle(model, folder, "given", samples=samples, options=options)
    except ExportError as error:
        facts["without_sizes"] = _failure(error)["error"]
        shapes = {
            key: keras.InputSpec(shape=(None, *a.shape[1:]), dtype=a.dtype)
            for key, a in drawn.items()
        }
        given = shapes if isinstance(model.input, dict) else next(iter(shapes.values()))
        bundle = export_bundle(
            model, folder, "fixed", samples=samples, options=options, inputs=given
        )
    return _Exported(bundle / "model.onnx", *names, facts)


def _their_file(model: keras.Model, folder: str) -> _Exported:
    path = Path(folder) / "model.onnx"
    model.export(path, format="onnx", verbose=False)
    return _Exported(path, [tensor.name.split(":")[0] for tensor in model.inputs])


def _difference(exported: _Exported, inputs: Inputs, expected: list[np.ndarray]) -> float:
    """Return the largest difference from Keras, relative to the largest magnitude of an output."""
    from serving.runtime import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        exported.path, options, providers=["CPUExecutionProvider"]
    )
    known = {item.name for item in session.get_inputs()}
    named = zip(exported.inputs, inputs.values(), strict=True)
    feeds = {key: array for key, array in named if key in known}
    # Where an input was left out, an output may have its name.
    found = {item.name for item in session.get_outputs()}
    outputs = exported.outputs and [
        name if name in found else name.removesuffix("_out") for name in exported.outputs
    ]
    received = session.run(outputs, feeds)
    if len(received) != len(expected):
        return float("inf")
    return max(_relative(array, wanted) for array, wanted in zip(received, expected, strict=True))


def _relative(received: np.ndarray, wanted: np.ndarray) -> float:
    if received.shape != wanted.shape:
        return float("inf")
    wide = wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):
        differences = np.where(received == wanted, 0, np.abs(received.astype(np.float64) - wide))
    magnitude = max(float(np.abs(wide[np.isfinite(wide)]).max(initial=0)), 1e-30)
    return float(np.nan_to_num(differences, nan=np.inf).max(initial=0) / magnitude)


def _failure(error: Exception) -> dict[str, Any]:
    text = f"{type(error).__name__}: {error}"
    return {"agrees": False, "error": " ".join(text.split())[:400]}


def run(name: str) -> dict[str, Any]:
    """Measure a model in another process; return its row."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.hub", "keras_hub", "export"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(name, sender))
    process.start()
    sender.close()
    found: dict[str, Any] = {}
    reason = f"more than {LIMIT_S} s"
    try:
        while len(found) < 3 and receiver.poll(LIMIT_S):
            key, value = receiver.recv()
            found[key] = value
            if not found[_KERAS]["agrees"]:
                break
    except EOFError:
        process.join()
        reason = f"died with {process.exitcode}"
    process.kill()
    process.join()
    if _KERAS in found and not found[_KERAS]["agrees"]:
        reason = "Keras cannot run it"
    for key in (_KERAS, _OURS, _THEIRS):
        found.setdefault(key, {"agrees": False, "error": reason})
    return {"what": name, **found}


def main() -> None:
    """Measure the models that the arguments name, and write the results."""
    beginnings = tuple(sys.argv[1:])
    models = hub_models()
    for missing in sorted(hub_classes().keys() - {name.partition(",")[0] for name in models}):
        print(f"no configuration of {missing}")
    for name in models:
        if not beginnings or name.startswith(beginnings):
            row = run(name)
            write_results("hub", [row])
            print(
                f"{name:36}",
                *(f"{side} {_told(row[side])};" for side in (_OURS, _THEIRS)),
                flush=True,
            )


def _told(found: dict[str, Any]) -> str:
    if found["agrees"]:
        return f"agrees ({found['seconds']} s)" + " with samples" * ("without_samples" in found)
    return str(found.get("error", found.get("relative_difference")))


if __name__ == "__main__":
    main()
