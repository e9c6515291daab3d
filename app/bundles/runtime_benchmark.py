"""Benchmarks a bundle in every installed runtime: size, parity and latency."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from app.reports.plotting import COLORS, save
from export import ExportError
from export.inference import to_tensors, trace_inference
from export.saved_model import convert_to_litert, load_saved_model
from serving.bundle import INT8, MODEL, check_model, read_checksums, read_manifest
from serving.golden import read_golden
from serving.manifest import Calibration, Manifest
from serving.parity import (
    Inputs,
    Outputs,
    count_samples,
    largest_difference,
    take_samples,
    top1_match,
)
from serving.session import open_session
from serving.timing import quartiles_ms
from serving.versions import find_version

from .confidence import scaled
from .keras_files import read_model

BATCH_SIZES = (1, 32, 256)
ROUNDS = 20

Run = Callable[[Inputs], Outputs]


@dataclass(frozen=True)
class Row:
    """Results of one runtime.

    Attributes:
        runtime: name of the runtime.
        size: bytes of the model's files.
        same_class: fraction of the golden samples for which the most probable class is that of
            Keras; None if the model predicts no classes.
        largest_difference: largest absolute difference from Keras, over all outputs.
        milliseconds: latency of a call by batch size: lower quartile, median, upper quartile.
    """

    runtime: str
    size: int
    same_class: float | None
    largest_difference: float
    milliseconds: dict[int, tuple[float, float, float]]


@dataclass(frozen=True)
class Runtime:
    """A runtime with the model loaded.

    Attributes:
        name: name of the runtime.
        size: bytes of the model's files.
        run: function from a batch to the outputs by name.
    """

    name: str
    size: int
    run: Run


def bench_bundle(
    path: str | Path, keras_file: Path | None = None, rounds: int = ROUNDS
) -> list[Row]:
    """Measure every installed runtime, on a single thread if the runtime allows it.

    The runtimes take turns at each batch size. The golden samples are repeated to fill a batch.

    Args:
        path: path of a bundle.
        keras_file: the `.keras` file that the bundle was exported from, to measure Keras too.
        rounds: number of calls of each runtime at each batch size.

    Raises:
        ManifestError: the bundle is missing or damaged.
        ExportError: the outputs of the Keras model differ from those of the bundle.
    """
    folder = find_version(path)
    manifest = read_manifest(folder)
    inputs = read_golden(folder, "input", manifest.inputs)
    sizes = BATCH_SIZES if manifest.batch_size is None else (manifest.batch_size,)
    expected = read_golden(folder, "output", manifest.outputs)
    runtimes = _runtimes(folder, manifest, keras_file)
    latencies = {
        size: quartiles_ms(_calls(runtimes, _repeated(inputs, size)), rounds) for size in sizes
    }
    return [
        _row(runtime, manifest, runtime.run(inputs), expected, latencies) for runtime in runtimes
    ]


def _runtimes(folder: Path, manifest: Manifest, keras_file: Path | None) -> list[Runtime]:
    found = [_saved_model(folder), _onnx(folder, manifest, "ONNX Runtime", MODEL)]
    if manifest.int8 is not None and manifest.int8.kept:
        found.append(_onnx(folder, manifest, "ONNX int8", INT8))
    if keras_file is not None:
        found.insert(0, _keras(keras_file, manifest))
    has_texts = any(spec.dtype == "string" for spec in manifest.inputs)
    if find_spec("ai_edge_litert") and not has_texts:
        found.append(_litert(folder, manifest))
    if find_spec("openvino") and not has_texts:
        found.append(_openvino(folder, manifest))
    return found


def _calls(runtimes: list[Runtime], batch: Inputs) -> dict[str, Callable[[], object]]:
    def call(runtime: Runtime) -> Callable[[], object]:
        return lambda: runtime.run(batch)

    return {runtime.name: call(runtime) for runtime in runtimes}


def _repeated(inputs: Inputs, size: int) -> Inputs:
    return take_samples(inputs, np.arange(size) % count_samples(inputs))


def _row(
    runtime: Runtime,
    manifest: Manifest,
    received: Outputs,
    expected: Outputs,
    latencies: dict[int, dict[str, tuple[float, float, float]]],
) -> Row:
    same = None
    if manifest.task == "multiclass" and manifest.prediction_output is not None:
        same = top1_match(
            expected[manifest.prediction_output], received[manifest.prediction_output]
        )
    return Row(
        runtime.name,
        runtime.size,
        same,
        max(largest_difference(wanted, received[name]) for name, wanted in expected.items()),
        {size: found[runtime.name] for size, found in latencies.items()},
    )


def _keras(path: Path, manifest: Manifest) -> Runtime:
    model = read_model(path)
    must = "The Keras model must be the one that was exported. Received:"
    has_columns = bool(manifest.columns or manifest.string_columns)
    try:
        inference = trace_inference(model, has_columns=has_columns)
    except ExportError as error:
        raise ExportError(f"{must} {path}. {error}") from None
    if inference.outputs != manifest.outputs:
        names = ", ".join(spec.name for spec in inference.outputs)
        raise ExportError(f"{must} {path}, with the outputs {names}.")
    if manifest.calibration is not None:
        calibrated = _scaled(model, manifest, manifest.calibration)
        inference = trace_inference(calibrated, has_columns=has_columns)
    # Keras advises against `Model.predict` for single batches, whose overhead is many milliseconds.
    return Runtime("Keras", path.stat().st_size, inference.predict)


def _scaled(model: Any, manifest: Manifest, found: Calibration) -> Any:
    """Return a model with the temperature and the bias that its export put into it."""
    factors = str(manifest.prediction_output), found.temperature, found.bias
    if found.temperature == 1 and not any(found.bias):
        return model
    return scaled(model, *factors, manifest.task == "multiclass")


def _saved_model(folder: Path) -> Runtime:
    function = load_saved_model(folder)
    files = [folder / "saved_model.pb", *(folder / "variables").iterdir()]

    def run(batch: Any) -> Outputs:
        return {name: value.numpy() for name, value in function(**to_tensors(batch)).items()}

    return Runtime("SavedModel", sum(file.stat().st_size for file in files), run)


def _onnx(folder: Path, manifest: Manifest, name: str, file: str) -> Runtime:
    size = check_model(folder, file, read_checksums(folder))
    session = open_session(folder / file)
    names = [spec.name for spec in manifest.outputs]

    def run(batch: Inputs) -> Outputs:
        return dict(zip(names, session.run(names, batch), strict=True))

    return Runtime(name, size, run)


def _litert(folder: Path, manifest: Manifest) -> Runtime:
    litert = import_module("ai_edge_litert.interpreter")
    content = convert_to_litert(folder)
    runner = litert.Interpreter(model_content=content, num_threads=1).get_signature_runner()
    names = [spec.name for spec in manifest.outputs]

    def run(batch: Any) -> Outputs:
        outputs = runner(**batch)
        return {name: np.array(outputs[name]) for name in names}

    return Runtime("LiteRT", len(content), run)


def _openvino(folder: Path, manifest: Manifest) -> Runtime:
    openvino = import_module("openvino")
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(folder / MODEL, "CPU", settings)
    names = [spec.name for spec in manifest.outputs]

    def run(batch: Any) -> Outputs:
        outputs = model(batch)
        return {name: np.array(outputs[name]) for name in names}

    return Runtime("OpenVINO", (folder / MODEL).stat().st_size, run)


def rows_to_json(rows: list[Row]) -> str:
    """Return the rows as JSON."""
    return json.dumps([asdict(row) for row in rows])


def bench_table(rows: list[Row]) -> list[str]:
    """Return a text table: a header, and a line for each runtime."""
    heads = "".join(f"{f'batch {size}, ms':>27}" for size in rows[0].milliseconds)
    lines = [f"{'runtime':14}{'size':>12}{'same class':>12}{'difference':>12}{heads}"]
    for row in rows:
        same = "" if row.same_class is None else f"{row.same_class:.1%}"
        times = "".join(
            f"{f'{middle:.3f} ({low:.3f}-{high:.3f})':>27}"
            for low, middle, high in row.milliseconds.values()
        )
        size = f"{row.size / 1024:,.0f} KiB"
        lines.append(f"{row.runtime:14}{size:>12}{same:>12}{row.largest_difference:>12.1e}{times}")
    return lines


def draw_bench(rows: list[Row], path: Path) -> None:
    """Write a PNG of the latency of each runtime by batch size: median and quartiles."""
    sizes = list(rows[0].milliseconds)
    figure = Figure(figsize=(7, 1.2 + 0.9 * len(sizes)), layout="constrained")
    panels = figure.subplots(len(sizes), 1, squeeze=False)[:, 0]
    names = [row.runtime for row in rows]
    for axes, size in zip(panels, sizes, strict=True):
        low, middle, high = np.array([row.milliseconds[size] for row in rows]).T
        errors = [middle - low, high - middle]
        colors = [COLORS[place % len(COLORS)] for place in range(len(rows))]
        axes.barh(names, middle, xerr=errors, color=colors, height=0.7)
        # A whole power of ten below the shortest bar, so that there are always two ticks or more.
        start = 10 ** np.floor(np.log10(low.min() / 2))
        axes.set(xscale="log", ylabel=f"batch {size}", xlim=(start, 1.1 * high.max()))
        is_wide = high.max() > 1000 * start
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    panels[-1].set_xlabel("milliseconds per call: median and quartiles")
    save(figure, path)
