"""Measures the time and memory of whole exports, the proof included.

    python -m benchmarks.export_cost                    everything
    python -m benchmarks.export_cost zoo command …      some of it

Each model is exported with random weights in a separate process. The time starts after the imports.
The memory is the peak of the process, TensorFlow included. `zoo` exports each small model of
`benchmarks.zoo` without int8, and by `Model.export(format="onnx")`, which proves nothing; the two
take turns in one process, and the ratio is the geometric mean. `command` is the whole command for a
net of 4,000 weights, imports included, the fastest of three runs. Processor time is what counts on
a busy machine.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results import write_results

# Goals in seconds and MB; None where there is no goal. For digit_net, int8 is tried too.
GOALS = {"digit_net": (10, None), "ResNet50": (60, 2000), "ResNet50 with int8": (None, None)}
# Goals: time relative to Keras' own export, and seconds of the command.
MOST_TIMES_KERAS, COMMAND_S = 3.0, 8.0
COMMAND_RUNS = 3


def measure(name: str) -> dict[str, Any]:
    """Export one model in this process."""
    _import_quietly()
    import keras

    from export import ModelFacts, export_bundle
    from models import DigitNetConfig
    from models.digits import digit_net

    imported_mb = _peak_mb()
    keras.utils.set_random_seed(0)
    architecture, _, tries_int8 = name.partition(" with ")
    # Without labels, accuracy is unknown and int8 is not tried.
    classes = {"digit_net": 10, "ResNet50": 1000 if tries_int8 else 0}[architecture]
    facts = ModelFacts(labels=tuple(map(str, range(classes))))
    model = (
        digit_net(DigitNetConfig())
        if architecture == "digit_net"
        else getattr(keras.applications, architecture)(weights=None)
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        export_bundle(model, folder, "measured", facts)
        seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 1), "peak_mb": _peak_mb(), "imported_mb": imported_mb}


def measure_zoo() -> dict[str, Any]:
    """Export every model of the zoo in this process, and by Keras' own export."""
    _import_quietly()
    import keras

    from benchmarks.conversion import build, draw
    from benchmarks.zoo import ZOO
    from export import ExportOptions, export_bundle
    from export.inference import trace_inference

    def ours(model: keras.Model, folder: str) -> None:
        export_bundle(model, folder, "measured", options=ExportOptions(int8="never"))

    def theirs(model: keras.Model, folder: str) -> None:
        model.export(Path(folder) / "model.onnx", format="onnx", verbose=False)

    rows = []
    for name in ("dropout", *ZOO):  # the first is not counted: it loads libraries
        model = build(name)
        inputs = draw(trace_inference(model), 2)
        model(keras.tree.pack_sequence_as(model.input, list(inputs.values())))
        mine, other = (_timed(export, model) for export in (ours, theirs))
        if mine is not None and other is not None:
            rows.append([mine[n] / other[n] for n in (0, 1)])
        keras.backend.clear_session()
    wall, processor = (statistics.geometric_mean(column) for column in zip(*rows[1:], strict=True))
    return {"models": len(rows) - 1, "ratio": wall, "processor_ratio": processor}


def _timed(export: Callable[[Any, str], None], model: Any) -> tuple[float, float] | None:
    """Return the wall and the processor time of an export in seconds; None if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        start, processor = time.perf_counter(), time.process_time()
        try:
            export(model, folder)
        except Exception:  # Keras' own export does not take every model
            return None
        return time.perf_counter() - start, time.process_time() - processor


def measure_command() -> dict[str, Any]:
    """Run `hornbill export` for a net of 4,000 weights; return the times of the fastest run."""
    _import_quietly()
    import keras

    layers = [keras.Input((28,)), *map(keras.layers.Dense, (64, 32, 10))]
    model = keras.Sequential(layers)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "net.keras")
        command = [sys.executable, "-c", "from app.entry import main; main()", "export"]
        command += ["net.keras", "--int8", "never", "--quiet"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        for _ in range(COMMAND_RUNS):
            start, before = time.perf_counter(), os.times()
            subprocess.run(command, cwd=folder, env=environment, check=True)
            after = os.times()
            processor = (
                after.children_user
                + after.children_system
                - before.children_user
                - before.children_system
            )
            runs.append((time.perf_counter() - start, processor))
    seconds, processor = min(runs)
    return {
        "weights": model.count_params(), "seconds": seconds, "processor_seconds": processor
    }  # fmt: skip


def _import_quietly() -> None:
    from app.system.tensorflow_import import import_tensorflow_quietly

    import_tensorflow_quietly()  # as `hornbill export` does


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measure each of the arguments, or everything, in a separate process."""
    if sys.argv[1:2] == ["--here"]:
        others = {"zoo": measure_zoo, "command": measure_command}
        name = sys.argv[2]
        print(json.dumps(others[name]() if name in others else measure(name)))
        return
    for name in sys.argv[1:] or [*GOALS, "zoo", "command"]:
        command = [sys.executable, "-m", "benchmarks.export_cost", "--here", name]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(finished.stdout.splitlines()[-1])
        if name in GOALS:
            row["goal_seconds"], row["goal_mb"] = GOALS[name]
        print(f"{name}: {row}", flush=True)
        write_results("export_cost", [{"what": name, **row}])


if __name__ == "__main__":
    main()
