"""What the installed ONNX Runtime makes of a bundle's golden samples, as JSON on standard output.

    python -m serving.runtime_report FOLDER

Needs only numpy and onnxruntime, so that it runs in environments with other versions of them.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .decisions import decide, thresholds_of
from .errors import ServingError
from .golden import read_golden
from .manifest import Manifest
from .parity import (
    allowed_difference,
    as_inputs,
    by_value,
    count_samples,
    largest_difference,
    largest_magnitude,
    run_in_batches,
    take_samples,
)
from .predictor import Predictor
from .runtime import onnxruntime
from .timing import median_ms

_BATCH, _ROUNDS = 7, 15


@dataclass(frozen=True)
class RuntimeReport:
    """A bundle in one version of ONNX Runtime.

    Attributes:
        version: the version of ONNX Runtime.
        largest_difference: largest difference of a float output from the golden outputs, relative
            to the largest magnitude of the output, or of each predicted value by itself; None if it
            is not finite, or the bundle cannot be loaded.
        changed: golden samples that get another class or other labels, whose floats differ by more
            than the tolerances of the proof, or whose other outputs differ at all.
        samples: number of golden samples.
        load_ms: time to load the bundle.
        latency_ms: median time to predict one sample.
        failure: why the bundle cannot be loaded or run; empty if it can.
    """

    version: str
    largest_difference: float | None = None
    changed: int = 0
    samples: int = 0
    load_ms: float | None = None
    latency_ms: float | None = None
    failure: str = ""


def report_runtime(folder: Path) -> RuntimeReport:
    """Return what this process' ONNX Runtime makes of a version's golden samples."""
    version = str(onnxruntime.__version__)
    try:
        start = time.perf_counter()
        predictor = Predictor.load(folder, threads=1, int8="never")
        load_ms = 1000 * (time.perf_counter() - start)
        manifest = predictor.manifest
        inputs = read_golden(folder, "input", manifest.inputs)
        expected = read_golden(folder, "output", manifest.outputs)
        samples = as_inputs(inputs)
        is_whole = manifest.whole_batches
        if is_whole:  # whose outputs need no row for each sample
            received = predictor.predict(samples).outputs
        else:
            received = run_in_batches(lambda x: predictor.predict(x).outputs, samples, _BATCH)
        one = samples if is_whole else take_samples(samples, slice(0, 1))
        latency = median_ms({"one": lambda: predictor.predict(one)}, _ROUNDS)["one"]
    except ServingError as error:
        return RuntimeReport(version, failure=str(error))
    count = count_samples(samples)
    is_changed = np.zeros(count, bool)
    largest = 0.0
    for name, wanted in expected.items():
        found = received[name]
        differs = _differs(manifest, name, wanted, found)
        has_rows = differs.shape[:1] == (count,)
        is_changed |= differs.reshape(count, -1).any(axis=1) if has_rows else differs.any()
        if wanted.dtype.kind == "f":
            largest = max(largest, _relative_difference(manifest, name, wanted, found))
    finite = largest if np.isfinite(largest) else None  # JSON has no infinity
    return RuntimeReport(version, finite, int(is_changed.sum()), count, load_ms, latency)


def _differs(manifest: Manifest, name: str, wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return where an output is another answer, bool of its shape, or `()` if that is another."""
    if found.shape != wanted.shape:
        return np.array(True)
    if wanted.dtype.kind != "f":
        return np.asarray(wanted != found)
    is_probability = name == manifest.probabilities
    parts = [
        # never near for NaN
        ~(np.abs(other - one) <= allowed_difference(one, is_probability, manifest.tolerances))
        for one, other in by_value(name == manifest.values, wanted, found)
    ]
    differs = np.stack(parts, axis=-1).reshape(wanted.shape)
    if is_probability:
        thresholds = thresholds_of(manifest)
        before, after = (decide(manifest.task, x, thresholds) for x in (wanted, found))
        differs |= (before != after).reshape(len(wanted), -1)
    return np.asarray(differs)


def _relative_difference(
    manifest: Manifest, name: str, wanted: np.ndarray, found: np.ndarray
) -> float:
    return max(
        largest_difference(one, other) / largest_magnitude(one)
        for one, other in by_value(name == manifest.values, wanted, found)
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(report_runtime(Path(sys.argv[1])))) + "\n")
