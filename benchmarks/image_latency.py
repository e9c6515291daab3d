"""Latency of the default image net at batch size 1 on one thread, beside OpenVINO and LiteRT.

    python -m benchmarks.image_latency [--environments FOLDER] [--seconds 2]

The net of the default settings, with random weights, is exported as a bundle for images of 32x32
and of 96x96. Ours is its ONNX file on onnxruntime: through `Predictor`, through a bare session, and
quantized to int8. Theirs is the bundle's SavedModel, converted by OpenVINO and by LiteRT, each in
a virtual environment of its own, in float32 like ours; OpenVINO in bfloat16 too. The runtimes take
turns, each in a new process, five times; a figure is the median of the five medians. In float32, as
the Predictor is here, all must predict the same. Goal: at least as fast as both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import Unavailable, last_line, make_environment, read_versions
from benchmarks.results import write_results

SIDES = (32, 96)
REPETITIONS = 5
ALLOWED = 1e-4
# For each row, the runtime of the script, the file of the bundle that it runs, and the package.
RUNTIMES = {
    "Predictor": ("predictor", ".", None),
    "onnxruntime": ("onnxruntime", "model.onnx", None),
    "onnxruntime int8": ("onnxruntime", "model.int8.onnx", None),
    "OpenVINO": ("openvino", ".", "openvino"),
    "OpenVINO bfloat16": ("openvino-bf16", ".", "openvino"),
    "LiteRT": ("litert", "model.tflite", "ai-edge-litert"),
}
_ROUGH = ("onnxruntime int8", "OpenVINO bfloat16")  # which may predict a little differently
_ROOT = Path(__file__).parent.parent
_SCRIPT = Path(__file__).parent / "rivals" / "image_runtimes.py"


def export_default_net(side: int, folder: Path) -> Path:
    """Export the default net for a size of images; write it as `<folder>/<side>.tflite` too."""
    import keras
    import tensorflow as tf

    from app.config import make_config
    from app.config.chosen_defaults import choose_defaults
    from app.config.families import FAMILIES
    from benchmarks.zoo import randomize
    from export import ExportOptions, ModelFacts, export_bundle

    shape = (side, side, 3)
    config = choose_defaults(make_config("features"), 5000, shape)
    sizes: Any = replace(config.model, image_shape=shape, num_outputs=10)  # type: ignore[arg-type]
    model = randomize(FAMILIES["features"].build(sizes))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # after a training, all are above 0
            layer.gamma.assign(np.abs(layer.gamma))
    normalization = model.get_layer("normalize")  # as for images of medium brightness and contrast
    normalization.set_weights([np.full(3, 120.0), np.full(3, 4000.0), np.array(1)])
    normalization.finalize_state()
    facts = ModelFacts(labels=tuple("0123456789"))
    options = ExportOptions(int8="always")
    bundle = export_bundle(model, folder, f"images{side}", facts, options=options)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(bundle))
    (folder / f"{side}.tflite").write_bytes(converter.convert())
    return bundle


def measure(side: int, folder: Path, pythons: dict[str, str], seconds: float) -> dict[str, Any]:
    """Return the median time in ms of each runtime for images of a size, as a row of results."""
    bundle = export_default_net(side, folder)
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    np.save(folder / "image.npy", image)
    files = {"model.tflite": folder / f"{side}.tflite"}
    medians: dict[str, list[float]] = {name: [] for name in pythons}
    predictions = {}
    for _ in range(REPETITIONS):
        for name, python in pythons.items():
            runtime, file, _ = RUNTIMES[name]
            path = str(files.get(file, bundle / file))
            command = [python, str(_SCRIPT), runtime, path, str(folder / "image.npy"), str(seconds)]
            median, predictions[name] = _run(command)
            medians[name].append(median)
    milliseconds = {name: round(statistics.median(each), 4) for name, each in medians.items()}
    wanted = np.array(predictions["onnxruntime"])
    differences = {
        name: float(np.abs(wanted - values).max()) for name, values in predictions.items()
    }
    rivals = [name for name in ("OpenVINO", "LiteRT") if name in milliseconds]
    return {
        "what": f"{side}x{side}",
        "ms": milliseconds,
        "repetitions_ms": {n: [round(m, 4) for m in each] for n, each in medians.items()},
        "ratios": {
            f"{ours} to {theirs}": round(milliseconds[ours] / milliseconds[theirs], 3)
            for ours in ("Predictor", "onnxruntime")
            for theirs in rivals
        },
        "largest_difference": differences,
        "agree": all(d <= ALLOWED for name, d in differences.items() if name not in _ROUGH),
    }


def _run(command: list[str]) -> tuple[float, list[float]]:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {last_line(done.stderr)}")
    median, probabilities = json.loads(done.stdout.splitlines()[-1])
    return median, probabilities


def main() -> None:
    """Measure all sizes and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=Path, default=_ROOT / "build" / "environments")
    parser.add_argument("--seconds", type=float, default=2.0, help="For each measurement.")
    given = parser.parse_args()
    pythons: dict[str, str] = {}
    versions: dict[str, str] = {}
    for name, (_, _, package) in RUNTIMES.items():
        try:
            pythons[name] = sys.executable
            if package is not None:
                python = make_environment(given.environments / package, [package, "numpy"])
                pythons[name] = str(python)
                versions |= read_versions(python, [package])
        except Unavailable as error:
            del pythons[name]
            print(f"{name} is not available: {error}")
    for side in SIDES:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(side, Path(folder), pythons, given.seconds)
        print(json.dumps(row, indent=1), flush=True)
        if not row["agree"]:
            raise SystemExit(f"All must predict the same. Received: {row['largest_difference']}")
        write_results("image_latency", [{**row, "versions": versions}])


if __name__ == "__main__":
    main()
