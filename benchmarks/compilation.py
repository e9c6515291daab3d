"""Milliseconds of a training step of `cnn` in each precision, with and without fusion and XLA.

    python -m benchmarks.compilation

The result shows which precision `precision=auto` chooses on this machine, and how XLA, oneDNN and
fused batch normalization change the time of a step. A second process measures without oneDNN.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from app.training.compilation import Compilation, step_seconds
from app.training.fused_batch_norm import with_fused_normalization
from benchmarks.results import write_results
from models import DigitNetConfig
from models.digits import digit_net

BATCH_SIZE, ROUNDS = 128, 5
PRECISIONS = ("float32", "mixed_bfloat16")
# How the step is computed: suffix of the name, whether with XLA, whether fused.
WAYS = (("", False, True), (", Keras' own normalization", False, False), (", XLA", True, False))


def make_model(compilation: Compilation, is_fused: bool) -> keras.Model:
    """Return the layers of `cnn` after the preprocessing, compiled."""
    with compilation.policy():
        net = digit_net(DigitNetConfig())
    ink = net.get_layer("fit_ink").output
    model = keras.Model(ink, net.get_layer("probabilities").output)
    if is_fused:
        model = with_fused_normalization(model)
    model.compile("adam", "categorical_crossentropy", jit_compile=compilation.xla)
    return model


def measure_steps(onednn: str) -> dict[str, float]:
    """Return the milliseconds of all combinations in turn, measured by a process of its own."""
    code = "from benchmarks.compilation import print_steps; print_steps()"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def print_steps() -> None:
    """Print the milliseconds of all combinations as JSON."""
    models = {
        f"{precision}{way}": make_model(Compilation(precision, xla), is_fused)
        for precision, (way, xla, is_fused) in itertools.product(PRECISIONS, WAYS)
    }
    random = np.random.default_rng(0)
    images = random.uniform(size=(BATCH_SIZE, 28, 28)).astype("float32")
    targets = np.eye(10, dtype="float32")[random.integers(0, 10, BATCH_SIZE)]
    batch = [tf.constant(images), tf.constant(targets)]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            seconds[name].append(step_seconds(model, batch))
    print(
        json.dumps(
            {name: round(1000 * statistics.median(found), 1) for name, found in seconds.items()}
        )
    )


def main() -> None:
    """Measure all combinations with oneDNN, and the first one without."""
    steps = measure_steps("1")
    steps["float32, without oneDNN"] = measure_steps("0")["float32"]
    rows = [{"what": name, "step_ms": found} for name, found in steps.items()]
    for row in rows:
        print(f"{row['what']}: {row['step_ms']} ms", flush=True)
    write_results("compilation", rows)


if __name__ == "__main__":
    main()
