"""Milliseconds of a training step of `cnn` in each precision, with and without fusion and XLA.

    python -m benchmarks.compilation

The result shows which precision `precision=auto` chooses on this machine, and how XLA and fused
batch normalization change the time of a step.
"""

import itertools
import statistics

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


def main() -> None:
    """Measure all combinations in turn."""
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
    rows = [
        {"what": name, "step_ms": round(1000 * statistics.median(found), 1)}
        for name, found in seconds.items()
    ]
    for row in rows:
        print(f"{row['what']}: {row['step_ms']} ms", flush=True)
    write_results("compilation", rows)


if __name__ == "__main__":
    main()
