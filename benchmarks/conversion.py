"""Compares our conversion to ONNX with `Model.export(format="onnx")`: coverage, parity, latency.

    python -m benchmarks.conversion                     the zoo and keras.applications
    python -m benchmarks.conversion zoo                 the zoo alone
    python -m benchmarks.conversion ResNet50 …          some of the applications

"Ours" is the graph of Hornbill, "theirs" that of Keras. Weights and the statistics of batch
normalization are random. Each application runs in a separate process. A graph agrees if each output
differs from that of Keras by at most 1e-4 of its largest magnitude.

Latency is measured at batch size 1 on one thread. Four sessions of ours, four of theirs and four
more of theirs take turns. The ratio is that of the medians, with a 95% bootstrap interval. The
noise is the ratio of theirs to theirs.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

from benchmarks.results import write_results
from benchmarks.zoo import ZOO, build_zoo_model
from export.inference import InferenceFunction, trace_inference
from export.onnx.convert import convert_to_onnx
from serving.runtime import onnxruntime

APPLICATIONS = """
    ConvNeXtTiny ConvNeXtSmall ConvNeXtBase DenseNet121 DenseNet169 DenseNet201 EfficientNetB0
    EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetV2B0
    EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2S InceptionResNetV2
    InceptionV3 MobileNet MobileNetV2 MobileNetV3Large MobileNetV3Small NASNetMobile ResNet101
    ResNet101V2 ResNet152 ResNet152V2 ResNet50 ResNet50V2 VGG16 VGG19 Xception
""".split()  # noqa: SIM905
ALLOWED = 1e-4
SECONDS = {"zoo": 0.7, "application": 5.0}  # for taking turns
MIN_TURNS = 15
SESSIONS = 4  # for each graph
THEIR_TIMEOUT_S = 900


def application(name: str) -> keras.Model:
    """Build one of `keras.applications` with logits, random weights and random statistics.

    The statistics are those of a batch of noise, times a random factor, as if they were learned.
    With other statistics, signals vanish or grow until no two runtimes can agree.
    """
    build = getattr(keras.applications, name)
    model = build(weights=None, classifier_activation=None)
    random = np.random.default_rng(0)
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in layers:
        layer.momentum = 0.0  # keeps the statistics of the last batch
        for weight in layer.trainable_weights:
            middle = 1 if "gamma" in weight.path else 0
            weight.assign(random.uniform(middle - 0.2, middle + 0.2, weight.shape))
    model(_noise(model, 16, random), training=True)
    for layer in layers:
        for weight in (layer.moving_mean, layer.moving_variance):
            weight.assign(weight * random.uniform(0.8, 1.2, weight.shape))
    return model


def _noise(model: keras.Model, samples: int, random: np.random.Generator) -> np.ndarray:
    """Return images of coarse and fine noise, in the range of pixels that the model takes.

    Fine noise alone looks the same to deep layers.
    """
    prepares = any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    low, high = (0, 255) if prepares else (-1, 1)
    height, width, channels = (size or 224 for size in model.input_shape[1:])
    coarse = random.uniform(low, high, (samples, 1 + height // 48, 1 + width // 48, channels))
    enlarged = coarse.repeat(48, axis=1).repeat(48, axis=2)[:, :height, :width]
    fine = random.uniform(low, high, enlarged.shape)
    return (0.7 * enlarged + 0.3 * fine).astype("float32")


def draw(inference: InferenceFunction, samples: int) -> dict[str, np.ndarray]:
    """Draw inputs of a small model: integers, or floats that are normally distributed around -1."""
    random = np.random.default_rng(0)
    inputs = {}
    for spec in inference.inputs:
        shape = [samples, *(n if isinstance(n, int) else 13 for n in spec.shape[1:])]
        values = (
            random.integers(0, 5, shape) if "int" in spec.dtype else random.normal(-1, 1, shape)
        )
        inputs[spec.name] = values.astype(spec.dtype)
    return inputs


def measure(name: str) -> dict[str, Any]:
    """Convert a model both ways and compare."""
    is_small = name in ZOO
    kind = "zoo" if is_small else "application"
    model = build(name)
    inference = trace_inference(model)
    inputs = _inputs(inference, is_small)
    expected = inference.predict(inputs)
    tensor_names = [tensor.name for tensor in inference.model.inputs]
    renamed = dict(zip(tensor_names, inputs.values(), strict=True))
    # Model.export needs a model that was called.
    model(keras.tree.pack_sequence_as(model.input, list(inputs.values())))
    start = time.perf_counter()
    ours = _attempt(lambda: _our_graph(inference), inputs, expected)
    ours["seconds"] = round(time.perf_counter() - start, 2)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    # Their conversion of a large model can take all memory.
    theirs = _attempt(
        lambda: _their_graph(model) if is_small else _their_graph_in_another_process(name),
        renamed,
        expected,
    )
    row = {"what": name, "kind": kind, "ours": ours, "theirs": theirs, "peak_mb": peak_mb}
    if ours["agrees"] and theirs["agrees"]:
        row["latency"] = take_turns(
            SECONDS[kind], (ours["graph"], _first(inputs)), (theirs["graph"], _first(renamed))
        )
    for side in (ours, theirs):
        side.pop("graph", None)
    return row


def _inputs(inference: InferenceFunction, is_small: bool) -> dict[str, np.ndarray]:
    if is_small:
        return draw(inference, 2)
    return {inference.inputs[0].name: _noise(inference.model, 2, np.random.default_rng(0))}


def build(name: str) -> keras.Model:
    """Build a model of the zoo or of the applications; it is the same each time."""
    keras.utils.set_random_seed(0)
    return build_zoo_model(name) if name in ZOO else application(name)


def _attempt(
    export: Callable[[], bytes], inputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> dict[str, Any]:
    try:
        graph = export()
        answers = open_graph(graph).run(None, inputs)
    except Exception as error:  # any error of a converter is its result
        return {
            "agrees": False,
            "error": " ".join(f"{type(error).__name__}: {error}".split())[:200],
        }
    differences = [
        float(np.abs(a - e).max() / max(np.abs(e).max(), 1e-30))
        if a.shape == e.shape
        else float("inf")
        for a, e in zip(answers, _in_order(graph, expected), strict=True)
    ]
    largest = float(np.max(differences))  # NaN if one of them is: Python's max drops it
    nodes = Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)
    return {
        "agrees": largest <= ALLOWED,
        "relative_difference": largest,
        "nodes": sum(nodes.values()),
        "transposes": nodes["Transpose"],
        "graph": graph,
    }


def _in_order(graph: bytes, expected: dict[str, np.ndarray]) -> list[np.ndarray]:
    names = [output.name for output in open_graph(graph).get_outputs()]
    if set(names) == set(expected):
        return [expected[name] for name in names]
    return list(expected.values())


def _our_graph(inference: InferenceFunction) -> bytes:
    return bytes(convert_to_onnx(inference, {}).SerializeToString())


def _their_graph(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.export(path, format="onnx", verbose=False)
        return path.read_bytes()


def _their_graph_in_another_process(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        command = [sys.executable, "-m", "benchmarks.conversion", "--theirs", name, str(path)]
        finished = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=THEIR_TIMEOUT_S
        )
        if finished.returncode:
            last = finished.stderr.strip().splitlines()[-1:]
            raise RuntimeError(f"exit status {finished.returncode}: {last}")
        return path.read_bytes()


def open_graph(graph: bytes) -> onnxruntime.InferenceSession:
    """Open a graph on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _first(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array[:1] for name, array in inputs.items()}


def take_turns(
    seconds: float, ours: tuple[bytes, dict[str, np.ndarray]], theirs: tuple[bytes, dict[str, Any]]
) -> dict[str, Any]:
    """Return the median latencies in ms, their ratio (ours / theirs), its interval and the noise.

    The noise is the ratio of theirs to as many other sessions of theirs.
    """
    sides = [
        ([open_graph(graph) for _ in range(SESSIONS)], inputs)
        for graph, inputs in (ours, theirs, theirs)
    ]
    for sessions, inputs in sides:
        for session in sessions:
            session.run(None, inputs)
    turns: list[list[float]] = []
    start = time.perf_counter()
    while len(turns) < MIN_TURNS or time.perf_counter() - start < seconds:
        turns.append(_turn(sides, len(turns) % len(sides)))
    times = np.array(turns).T
    medians = np.median(times, axis=1)
    picks = np.random.default_rng(0).integers(0, times.shape[1], (1000, times.shape[1]))
    resampled = np.median(times[:, picks], axis=2)
    low, high = np.quantile(resampled[0] / resampled[1], [0.025, 0.975])
    return {
        "our_ms": round(1e3 * float(medians[0]), 4),
        "their_ms": round(1e3 * float(medians[1]), 4),
        "ratio": round(float(medians[0] / medians[1]), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "noise": round(float(medians[2] / medians[1]), 3),
    }


def _turn(sides: Sequence[tuple[Sequence[Any], dict[str, Any]]], first: int) -> list[float]:
    """Return for each side the mean seconds of a call of each of its sessions, starting at `first`.

    Several sessions of each graph, because the place of their memory affects the time.
    """
    seconds = [0.0] * len(sides)
    for number in range(SESSIONS):
        for place in range(len(sides)):
            side = (first + place) % len(sides)
            sessions, inputs = sides[side]
            before = time.perf_counter()
            sessions[number].run(None, inputs)
            seconds[side] += (time.perf_counter() - before) / SESSIONS
    return seconds


def measure_all(names: list[str]) -> None:
    """Print a JSON line for each model."""
    logging.disable(logging.ERROR)
    for name in names:
        print(json.dumps(measure(name)), flush=True)
        keras.backend.clear_session()


def run(names: list[str]) -> None:
    """Measure `names` in another process and write each result."""
    command = [sys.executable, "-m", "benchmarks.conversion", "--here", *names]
    count = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith('{"what"'):
                _store(json.loads(line))
                count += 1
    if count < len(names):
        print(f"died at {names[count]}", flush=True)


def _store(row: dict[str, Any]) -> None:
    ours, theirs = row["ours"], row["theirs"]
    print(
        f"{row['what']:28} ours {'agrees' if ours['agrees'] else ours} "
        f"in {ours['seconds']} s, {ours.get('transposes')} transposes; theirs "
        f"{'agrees' if theirs['agrees'] else theirs}, {theirs.get('transposes')} transposes; "
        f"{row.get('latency', {}).get('ratio')} {row.get('latency', {}).get('interval')}",
        flush=True,
    )
    write_results("conversion", [row])


def main() -> None:
    """Measure what the arguments name."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--here"]:
        measure_all(arguments[1:])
        return
    if arguments[:1] == ["--theirs"]:
        model = build(arguments[1])
        # Model.export needs a model that was called.
        model(np.zeros([size or 224 for size in (1, *model.inputs[0].shape[1:])]))
        Path(arguments[2]).write_bytes(_their_graph(model))
        return
    names = arguments or ["zoo", *APPLICATIONS]
    for name in names:
        run(list(ZOO) if name == "zoo" else [name])


if __name__ == "__main__":
    main()
