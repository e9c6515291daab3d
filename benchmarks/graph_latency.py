"""Latency of exported graphs on one thread, beside Keras' own ONNX, OnnxSlim, OpenVINO and LiteRT.

    python -m benchmarks.graph_latency [--environments FOLDER] [--seconds 2] [MODEL …]

Each model has random weights and gets one sample. "Ours" is the graph of Hornbill in ONNX Runtime.
Keras' own ONNX and what OnnxSlim makes of it run there too; OpenVINO reads our graph, LiteRT
converts our SavedModel. The runtimes are in a virtual environment of their own and take turns in
one process, in random order. Figures are processor time, which a busy machine hardly changes. Noise
is the ratio of two sets of sessions of our graph.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.environments import Unavailable, last_line, make_environment, read_versions
from benchmarks.results import write_results

ALLOWED = 1e-4
PACKAGES = ("onnxslim", "openvino", "ai-edge-litert", "onnx", "numpy")
_ROOT = Path(__file__).parent.parent
_SCRIPT = Path(__file__).parent / "rivals" / "graph_runtimes.py"


def build_mlp() -> Any:
    """Build a net of 784, 128, 64 and 10 units."""
    import keras
    from keras import layers

    x = start = keras.Input((784,), name="pixels")
    for units in (128, 64):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(start, layers.Dense(10, activation="softmax")(x))


def build_cnn() -> Any:
    """Build a net of two convolutions for digits."""
    import keras
    from keras import layers

    x = start = keras.Input((28, 28, 1), name="image")
    for filters in (16, 32):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(x))
    return keras.Model(start, layers.Dense(10, activation="softmax")(layers.Flatten()(x)))


def build_transformer(
    blocks: int = 4, width: int = 128, heads: int = 4, steps: int = 128, activation: str = "gelu"
) -> Any:
    """Build a transformer for tokens that normalizes before attention."""
    import keras
    from keras import layers

    x = start = keras.Input((steps,), dtype="int32", name="tokens")
    x = layers.Embedding(1000, width)(x)
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(y, y)
        y = layers.Dense(4 * width, activation=activation)(layers.LayerNormalization()(x))
        x = x + layers.Dense(width)(y)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(start, layers.Dense(5, activation="softmax")(x))


MODELS: dict[str, Callable[[], Any]] = {
    "mlp": build_mlp,
    "cnn": build_cnn,
    "transformer": build_transformer,
    "transformer, relu": lambda: build_transformer(activation="relu"),
    "small transformer": lambda: build_transformer(2, 32, 2, 16),
}


def write_model(name: str, folder: Path) -> None:
    """Write the files of a model in the way that `graph_runtimes.py` reads them."""
    import keras
    import numpy as np

    from benchmarks.conversion import draw
    from benchmarks.zoo import randomize
    from export.inference import trace_inference
    from export.onnx.convert import convert_to_onnx
    from export.saved_model import convert_to_litert, write_saved_model

    keras.utils.set_random_seed(0)
    model: keras.Model = randomize(MODELS[name]())
    inference = trace_inference(model)
    folder.mkdir()
    (folder / "ours.onnx").write_bytes(convert_to_onnx(inference, {}).SerializeToString())
    write_saved_model(inference, folder / "saved_model")
    (folder / "model.tflite").write_bytes(convert_to_litert(folder / "saved_model"))
    inputs = draw(inference, 1)
    np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]
    model(keras.tree.pack_sequence_as(model.input, list(inputs.values())))
    model.export(folder / "keras.onnx", format="onnx", verbose=False)


def main() -> None:
    """Measure the models that the arguments name, or all, and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=Path, default=_ROOT / "build" / "environments")
    parser.add_argument("--seconds", type=float, default=2.0, help="For each model.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    given = parser.parse_args()
    packages = [*PACKAGES, f"onnxruntime=={version('onnxruntime')}"]
    try:
        python = make_environment(given.environments / "graph_runtimes", packages)
    except Unavailable as error:
        raise SystemExit(str(error)) from None
    versions = read_versions(python, packages)
    with tempfile.TemporaryDirectory() as workplace:
        for name in given.models or MODELS:
            folder = Path(workplace) / name
            write_model(name, folder)
            command = [str(python), str(_SCRIPT), str(given.seconds), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {last_line(done.stderr)}")
            row = json.loads(done.stdout.splitlines()[-1])
            for runtime, found in row["runtimes"].items():
                if not found.get("difference", 0.0) <= ALLOWED:  # it may be NaN
                    raise SystemExit(f"{name}: {runtime} must answer as ours. Received: {found}")
            print(json.dumps(row, indent=1), flush=True)
            write_results("graph_latency", [{**row, "versions": versions}])


if __name__ == "__main__":
    main()
