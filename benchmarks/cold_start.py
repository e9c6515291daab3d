"""Time from a fresh interpreter to the first prediction: serving, onnxruntime, TensorFlow.

    python -m benchmarks.cold_start dist/digits

The scripts run in turn, each in a new process, after one round that warms the disk cache. Each
prints the times of its imports, of loading and of the first prediction, and its resident memory.
Goals: at most 1.3 times the script with bare onnxruntime, at most a twentieth of the script with
TensorFlow, and less than 75 MB.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.results import write_results
from serving import Predictor
from serving.bundle import find_version

ROUNDS = 15
_START = "import time; times = [time.perf_counter()]\n"
_MARK = "times.append(time.perf_counter())\n"
_END = """
import json, os, pathlib
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
steps = [1000 * (end - start) for start, end in zip(times, times[1:])]
print(json.dumps([*steps, pages * os.sysconf("SC_PAGE_SIZE") / 1e6]))
"""
# For each script, the statements that import, load and predict.
SCRIPTS = {
    "serving": (
        "import numpy as np; from serving import Predictor",
        "predictor = Predictor.load({folder!r})",
        "predictor.predict(np.ones({shape}, np.{dtype})).probabilities",
    ),
    "bare onnxruntime": (
        "import numpy as np; import onnxruntime",
        # The same options as in serving: a small model is fastest on one thread.
        "options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1; "
        "session = onnxruntime.InferenceSession({folder!r} + '/model.onnx', options)",
        "session.run(['probabilities'], {{{name!r}: np.ones({shape}, np.{dtype})}})",
    ),
    "TensorFlow": (
        "import tensorflow as tf",
        "call = tf.saved_model.load({folder!r}).signatures['serving_default']",
        "call({name}=tf.ones({shape}, tf.{dtype}))['probabilities'].numpy()",
    ),
}
_STEPS = ("whole_ms", "import_ms", "load_ms", "run_ms", "resident_mb")


def main() -> None:
    """Measure the three scripts in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE")
    folder = find_version(parser.parse_args().bundle)
    spec = Predictor.load(folder).manifest.inputs[0]
    values = {
        "folder": str(folder.resolve()),
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": (1, *spec.shape[1:]),
    }
    scripts = {
        name: _START + "".join(f"{step.format(**values)}\n{_MARK}" for step in steps) + _END
        for name, steps in SCRIPTS.items()
    }
    runs: dict[str, list[list[float]]] = {name: [] for name in scripts}
    for turn in range(1 + ROUNDS):
        for name, script in scripts.items():
            figures = _run(script)
            if turn:
                runs[name].append(figures)
    results = {
        name: {step: statistics.median([row[i] for row in rows]) for i, step in enumerate(_STEPS)}
        for name, rows in runs.items()
    }
    ours = results["serving"]["whole_ms"]
    for name, medians in results.items():
        steps = "  ".join(f"{step} {value:7.1f}" for step, value in medians.items())
        print(f"{name:16} {steps}   serving: {ours / medians['whole_ms']:.3f} of this")
    row = {
        "what": "cold start",
        "medians": {
            name: {step: round(value, 1) for step, value in figures.items()}
            for name, figures in results.items()
        },
        "serving_to_bare": round(ours / results["bare onnxruntime"]["whole_ms"], 3),
        "serving_to_tensorflow": round(ours / results["TensorFlow"]["whole_ms"], 4),
    }
    write_results("cold_start", [row])


def _run(script: str) -> list[float]:
    """Return the wall time of a process, the times of its steps, and its resident memory."""
    start = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parent.parent,
    )
    whole = 1000 * (time.perf_counter() - start)
    return [whole, *json.loads(finished.stdout.splitlines()[-1])]


if __name__ == "__main__":
    main()
