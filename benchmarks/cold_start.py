"""A fresh interpreter to its first prediction: serving, bare onnxruntime, TensorFlow.

    python -m benchmarks.cold_start dist/digits

Each script runs as a process of its own, in turn, after one round that warms the disk's cache.
The bars: at most 1.5 times the bare script, at most a twentieth of TensorFlow with the SavedModel.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.results import write_results
from serving import Predictor
from serving.bundle import find_version
from serving.timing import median_ms

ROUNDS = 15
SCRIPTS = {
    "serving": """
import numpy as np
from serving import Predictor
print(Predictor.load({folder!r}).predict(np.ones({shape}, np.{dtype})).probabilities.shape)
""",
    "bare onnxruntime": """
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession({folder!r} + "/model.onnx")
print(session.run(["probabilities"], {{{name!r}: np.ones({shape}, np.{dtype})}})[0].shape)
""",
    "TensorFlow": """
import tensorflow as tf
loaded = tf.saved_model.load({folder!r})
answers = loaded.signatures["serving_default"]({name}=tf.ones({shape}, tf.{dtype}))
print(answers["probabilities"].numpy().shape)
""",
}


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
    scripts = {name: text.format(**words) for name, text in SCRIPTS.items()}
    root = Path(__file__).parent.parent

    def process(script: str) -> None:
        command = [sys.executable, "-c", script]
        subprocess.run(command, check=True, capture_output=True, cwd=root)

    calls = {name: lambda s=script: process(s) for name, script in scripts.items()}
    times = median_ms(calls, ROUNDS, warm_up=1)
    ours = times["serving"]
    for name, milliseconds in times.items():
        print(f"{name:18} {milliseconds:8.0f} ms   serving is {ours / milliseconds:.3f} of it")
    row = {
        "what": "cold start",
        "ms": {name: round(value, 1) for name, value in times.items()},
        "serving_to_bare": round(ours / times["bare onnxruntime"], 3),
        "serving_to_tensorflow": round(ours / times["TensorFlow"], 4),
    }
    write_results("cold_start", [row])


if __name__ == "__main__":
    main()
