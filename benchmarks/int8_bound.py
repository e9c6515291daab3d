"""What int8 weights of 7 bits cost, and whether processors without VNNI answer the same.

    python -m benchmarks.int8_bound zoo             the small models of the zoo
    python -m benchmarks.int8_bound applications    one net of each family of keras.applications
    python -m benchmarks.int8_bound ResNet50 …      some of these
    python -m benchmarks.int8_bound RUN …           runs that were trained here

Weights have codes from -64 to 64, so that no processor clips a sum (see `serving/int8.py`). A model
of the zoo and a run are exported with them, and again with codes from -127 to 127, as onnxruntime
quantizes by default. What int8 answers is compared with float32: on the test split of a run, or on
the samples that are drawn for a model with random weights. A model is kept if it loses at most 0.1
percentage points and is faster, as `--int8 auto` decides.

Then every int8 model answers its golden samples on an emulated processor without VNNI (qemu-x86_64
of the Debian package qemu-user). The classes must be those of this processor, but ties, see
`serving.int8.count_other_answers`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np

from app.bundles.export_run import export_run
from benchmarks.results import write_results
from benchmarks.zoo import ZOO, build_zoo_model, randomize
from export import ExportError, ExportOptions, ModelFacts, export_bundle
from serving.bundle import read_manifest
from serving.golden import read_golden
from serving.int8 import ANSWERS, count_other_answers
from serving.manifest import Int8

_ALWAYS = ExportOptions(int8="always")
_MAX_LOST = 0.1  # percentage points, as `--int8 auto` allows
# One of each family; at this size each takes a minute on the emulated processor.
_APPLICATIONS = (
    "ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionV3",
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2",
    "VGG16", "Xception",
)  # fmt: skip
_PIXELS = 96
Export = Callable[[Path], Path]
# Runs on the emulated processor: for each folder, the int8 model's answers to the golden samples.
_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from serving.bundle import INT8, read_manifest
from serving.golden import read_golden
from serving.parity import as_inputs, run_in_batches
from serving.runtime import onnxruntime
for folder in map(Path, sys.argv[1:]):
    manifest = read_manifest(folder)
    session = onnxruntime.InferenceSession(folder / INT8, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    def run(batch):
        batch = batch if isinstance(batch, dict) else {manifest.inputs[0].name: batch}
        return dict(zip(names, session.run(names, batch), strict=True))
    samples = as_inputs(read_golden(folder, "input", manifest.inputs))
    np.savez(folder / "emulated.npz", **run_in_batches(run, samples, 7))
    print(folder, flush=True)
"""


@contextmanager
def _without_bound() -> Iterator[None]:
    """Let weights have codes of 8 bits, which an export would refuse."""
    from onnxruntime import quantization

    quantize = quantization.quantize_static

    def whole(*arguments: Any, **options: Any) -> Any:
        return quantize(*arguments, **options | {"reduce_range": False})

    with (
        mock.patch.object(quantization, "quantize_static", whole),
        mock.patch("serving.int8.LARGEST_SUM", 2**31),
    ):
        yield


def _measure(what: str, export: Export, folder: Path) -> tuple[dict[str, Any], Path] | None:
    """Export a model with the bound and without; return its row and the bundle with the bound."""
    if what in _APPLICATIONS:  # how random weights of large nets round says nothing
        return {"what": what}, export(folder)
    try:
        bundle = export(folder / "with")
        with _without_bound():
            other = export(folder / "without")
    except ExportError as error:
        print(f"{what:32} {str(error)[:100]}", flush=True)
        return None
    decisions = [read_manifest(path).int8 for path in (bundle, other)]
    row = {"what": what}
    for name, decision in zip(("bound", "whole"), decisions, strict=True):
        if decision is None:
            raise ValueError(f"{what} must have an int8 model. Received: none.")
        row |= {f"{name}_{key}": value for key, value in _facts(decision).items()}
    print(f"{what:32} {row}", flush=True)
    return row, bundle


def _facts(decision: Int8) -> dict[str, Any]:
    before, after = decision.accuracy_float32, decision.accuracy_int8
    lost = None if before is None or after is None else 100 * (before - after)
    is_faster = min(decision.latency_ratio_1, decision.latency_ratio_64) < 1
    return {"lost": lost, "is_kept": bool(is_faster and (lost is None or lost <= _MAX_LOST))}


def _emulated(bundles: list[Path]) -> Iterator[tuple[Path, int]]:
    """Yield each bundle, and how many golden samples get another class without VNNI."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        raise SystemExit("qemu-x86_64 must be installed: apt install qemu-user.")
    command = [emulator, "-cpu", "Haswell", sys.executable, "-c", _PROGRAM, *map(str, bundles)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for bundle, _ in zip(bundles, process.stdout or (), strict=False):
            manifest = read_manifest(bundle)
            expected = read_golden(bundle, "output", manifest.outputs, ANSWERS)
            with np.load(bundle / "emulated.npz") as received:
                yield bundle, count_other_answers(manifest, expected, dict(received))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, emulator)


def _classifier(model: keras.Model, labels: int, folder: Path) -> Path:
    facts = ModelFacts(labels=tuple(map(str, range(labels))))
    return export_bundle(model, folder, "net", facts, options=_ALWAYS)


def _zoo() -> Iterator[tuple[str, Export]]:
    """Yield the models of the zoo, each with a classifier of ten classes behind it."""
    for name in ZOO:
        keras.utils.clear_session()
        model = build_zoo_model(name)
        features = keras.tree.flatten(model.output)[0]
        if features.dtype != "float32" or None in features.shape[1:] or not features.shape[1:]:
            continue
        head = keras.Sequential([
            keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax"),
        ])  # fmt: skip
        whole = keras.Model(model.input, head(features))
        randomize(head)
        yield f"zoo {name}", partial(_classifier, whole, 10)


def _applications(names: Sequence[str] = _APPLICATIONS) -> Iterator[tuple[str, Export]]:
    for name in names:
        keras.utils.clear_session()
        build = getattr(keras.applications, name)
        model = build(weights=None, input_shape=(_PIXELS, _PIXELS, 3), classes=10)
        yield name, partial(_classifier, randomize(model), 10)


def _runs(folders: list[str]) -> Iterator[tuple[str, Export]]:
    for folder in folders:
        yield f"run {Path(folder).name}", partial(_export_run, folder)


def _export_run(run: str, folder: Path) -> Path:
    return export_run(run, folder, "net", _ALWAYS)


def main() -> None:
    """Measure the models that the arguments name, and write the results."""
    logging.disable(logging.ERROR)
    given = sys.argv[1:] or ["zoo", "applications"]
    kinds = {"zoo": _zoo, "applications": _applications}
    chosen = [kinds[name]() for name in given if name in kinds]
    some = [name for name in given if name in _APPLICATIONS]
    runs = [name for name in given if name not in (*kinds, *_APPLICATIONS)]
    models = chain(*chosen, _applications(some), _runs(runs))
    with tempfile.TemporaryDirectory() as place:
        rows: dict[Path, dict[str, Any]] = {}
        for number, (what, export) in enumerate(models):
            measured = _measure(what, export, Path(place) / str(number))
            if measured is not None:
                rows[measured[1]] = measured[0]
        for bundle, others in _emulated(list(rows)):
            golden = read_golden(bundle, "input", read_manifest(bundle).inputs)
            rows[bundle] |= {"others": others, "golden": len(next(iter(golden.values())))}
            write_results("int8_bound", [rows[bundle]])
            print(f"{rows[bundle]['what']:32} {others} golden samples get another class")


if __name__ == "__main__":
    main()
