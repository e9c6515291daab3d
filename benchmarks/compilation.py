"""Milliseconds of a training step of `cnn` in each precision, fused, as Keras has it, and with XLA.

    python -m benchmarks.compilation

It shows what `precision=auto` and `xla=auto` stand for on this machine, and what fused batch
normalisation spares.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf

from app.compiling import Compilation, step_seconds
from app.fused import with_fused_normalization
from benchmarks.results import write_results
from models import DigitNetConfig, digit_net

BATCH_SIZE = 128
PRECISIONS = ("float32", "mixed_bfloat16")
# How the step is computed: what is said of it, by XLA, with fused normalisation.
WAYS = (("", False, True), (", Keras' own normalisation", False, False), (", XLA", True, False))


def step_ms(compilation: Compilation, is_fused: bool) -> float:
    """Return the milliseconds of a step behind the fitted ink."""
    with compilation.policy():
        net = digit_net(DigitNetConfig())
    ink = net.get_layer("fit_ink").output
    model = keras.Model(ink, net.get_layer("probabilities").output)
    if is_fused:
        model = with_fused_normalization(model)
    model.compile("adam", "categorical_crossentropy", jit_compile=compilation.xla)
    random = np.random.default_rng(0)
    images = random.uniform(size=(BATCH_SIZE, 28, 28)).astype("float32")
    targets = np.eye(10, dtype="float32")[random.integers(0, 10, BATCH_SIZE)]
    return 1000 * step_seconds(model, [tf.constant(images), tf.constant(targets)])


def main() -> None:
    """Measure every combination."""
    rows = []
    for precision, (way, xla, is_fused) in itertools.product(PRECISIONS, WAYS):
        milliseconds = step_ms(Compilation(precision, xla), is_fused)
        print(f"{precision}{way}: {milliseconds:.1f} ms", flush=True)
        rows.append({"what": f"{precision}{way}", "step_ms": round(milliseconds, 1)})
    write_results("compilation", rows)


if __name__ == "__main__":
    main()
