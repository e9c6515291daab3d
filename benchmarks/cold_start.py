"""A fresh interpreter to its first prediction: serving, bare onnxruntime, TensorFlow.

    python -m benchmarks.cold_start dist/digits

Each script runs as a process of its own, in turn, after one round that warms the disk's cache, and
tells how long its imports, loading and the first run took, and how much memory it has. The bars:
at most 1.3 times the bare script and under 75 MB resident; at most a twentieth of TensorFlow with
the SavedModel.
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
# What each imports, loads and runs.
SCRIPTS = {
    "serving": (
        "import numpy as np; from serving import Predictor",
        "predictor = Predictor.load({folder!r})",
        "predictor.predict(np.ones({shape}, np.{dtype})).probabilities",
    ),
    "bare onnxruntime": (
        "import numpy as np; import onnxruntime",
        # With the options of serving's own session: a small model wants one thread.
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
    """Time the three scripts against each other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE")
    folder = find_version(parser.parse_args().bundle)
    spec = Predictor.load(folder).manifest.inputs[0]
    words = {
        "folder": str(folder.resolve()),
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": (1, *spec.shape[1:]),
    }
    scripts = {
        name: _START + "".join(f"{step.format(**words)}\n{_MARK}" for step in steps) + _END
        for name, steps in SCRIPTS.items()
    }
    runs: dict[str, list[list[float]]] = {name: [] for name in scripts}
    for turn in range(1 + ROUNDS):
        for name, script in scripts.items():
            figures = _run(script)
            if turn:
                runs[name].append(figures)
    found = {
        name: {step: statistics.median([row[i] for row in rows]) for i, step in enumerate(_STEPS)}
        for name, rows in runs.items()
    }
    ours = found["serving"]["whole_ms"]
    for name, medians in found.items():
        steps = "  ".join(f"{step} {value:7.1f}" for step, value in medians.items())
        print(f"{name:16} {steps}   serving is {ours / medians['whole_ms']:.3f} of it")
    row = {
        "what": "cold start",
        "medians": {
            name: {step: round(value, 1) for step, value in figures.items()}
            for name, figures in found.items()
        },
        "serving_to_bare": round(ours / found["bare onnxruntime"]["whole_ms"], 3),
        "serving_to_tensorflow": round(ours / found["TensorFlow"]["whole_ms"], 4),
    }
    write_results("cold_start", [row])


def _run(script: str) -> list[float]:
    """Return the wall time of a process, those of its steps, and its resident memory."""
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
