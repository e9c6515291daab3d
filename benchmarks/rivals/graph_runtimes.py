"""Times one model in every runtime, on one thread, a sample at a time; the runtimes take turns.

python graph_runtimes.py SECONDS FOLDER…

A folder has `ours.onnx`, `keras.onnx`, `model.tflite` (each of the last two may be missing) and
`inputs.npz`. Prints a JSON object for each folder: for each runtime the median processor time of a
call in ms, all threads together, which a busy machine hardly changes; the lower quartile of the
wall time; and the largest difference from ours relative to its largest magnitude.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

# Of each graph, because the place of its memory affects the time.
SESSIONS = 3
MIN_TURNS = 15
Run = Callable[[], list[np.ndarray]]
Arrays = list[np.ndarray]


def run_onnx(path: Path, inputs: Arrays) -> Run:
    """Return a call of an ONNX file in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = dict(zip([i.name for i in session.get_inputs()], inputs, strict=True))
    return lambda: session.run(None, given)


def run_slim(path: Path, inputs: Arrays) -> Run:
    """Return a call of an ONNX file, slimmed by OnnxSlim, in ONNX Runtime."""
    import onnx
    import onnxslim

    slim = path.with_name("slim.onnx")
    if not slim.exists():
        onnx.save(onnxslim.slim(str(path)), slim)
    return run_onnx(slim, inputs)


def run_openvino(path: Path, inputs: Arrays) -> Run:
    """Return a call of an ONNX file in OpenVINO, by its fastest interface."""
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(path, "CPU", options)
    request = compiled.create_infer_request()
    tensors = [openvino.Tensor(array) for array in inputs]

    def run() -> list[np.ndarray]:
        for place, tensor in enumerate(tensors):
            request.set_input_tensor(place, tensor)
        request.infer()
        return [request.get_output_tensor(n).data for n in range(len(compiled.outputs))]

    return run


def run_litert(path: Path, inputs: Arrays) -> Run:
    """Return a call of a LiteRT file with one input and one output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    (array,) = inputs

    def run() -> list[np.ndarray]:
        interpreter.set_tensor(given["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(wanted["index"])]

    return run


RUNTIMES: dict[str, tuple[Callable[[Path, Arrays], Run], str]] = {
    "ours": (run_onnx, "ours.onnx"),
    "ours again": (run_onnx, "ours.onnx"),  # the noise
    "Keras' ONNX": (run_onnx, "keras.onnx"),
    "OnnxSlim": (run_slim, "keras.onnx"),
    "OpenVINO": (run_openvino, "ours.onnx"),
    "LiteRT": (run_litert, "model.tflite"),
}


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """Return for each runtime that can run the model its time and its difference from ours."""
    with np.load(folder / "inputs.npz") as archive:
        inputs = [archive[name] for name in archive.files]
    calls: dict[str, list[Run]] = {}
    found: dict[str, Any] = {}
    for name, (make, file) in RUNTIMES.items():
        if not (folder / file).exists():
            continue
        try:
            calls[name] = [make(folder / file, inputs) for _ in range(SESSIONS)]
            found[name] = {"difference": _difference(calls["ours"][0](), calls[name][0]())}
        except Exception as error:  # what a runtime cannot run is its result
            calls.pop(name, None)
            found[name] = {"error": f"{type(error).__name__}: {error}"[:160]}
    for name, times in take_turns(calls, seconds).items():
        wall, processor = 1e3 * np.array(times).T
        found[name]["ms"] = round(float(np.median(processor)), 4)
        found[name]["wall_ms"] = round(float(np.quantile(wall, 0.25)), 4)
    return {"what": folder.name, "runtimes": found}


def take_turns(calls: dict[str, list[Run]], seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Return the wall and processor seconds of calls; each turn calls every session once.

    The order is random: a call takes half as long again after one of another runtime, which leaves
    its own code and weights in the caches.
    """
    random = np.random.default_rng(0)
    sessions = [(name, run) for name, runs in calls.items() for run in runs]
    for _, run in sessions:
        run()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    end, turns = time.perf_counter() + seconds, 0
    while turns < MIN_TURNS or time.perf_counter() < end:
        turns += 1
        for place in random.permutation(len(sessions)):
            name, run = sessions[place]
            start, before = time.perf_counter(), time.process_time()
            run()
            spent = time.process_time() - before
            times[name].append((time.perf_counter() - start, spent))
    return times


def _difference(wanted: Arrays, received: Arrays) -> float:
    differences = [
        np.abs(a.astype("float64") - b).max() / max(np.abs(a).max(), 1e-30)
        if a.shape == b.shape
        else np.inf
        for a, b in zip(wanted, received, strict=True)
    ]
    return float(np.max(differences))  # NaN if one of them is: Python's max drops it


def main() -> None:
    """Measure the folders that the arguments name."""
    for folder in sys.argv[2:]:
        print(json.dumps(measure(Path(folder), float(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    main()
