"""Milliseconds of a training step of `cnn` in each precision, with and without XLA.

    python -m benchmarks.compilation

It shows what `precision=auto` and `xla=auto` stand for on this machine.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf

from app.compiling import Compilation, step_seconds
from benchmarks.results import write_results
from models import DigitNetConfig, digit_net

BATCH_SIZE = 128


def step_ms(compilation: Compilation) -> float:
    """Return the milliseconds of a step behind the fitted ink."""
    with compilation.policy():
        net = digit_net(DigitNetConfig())
    ink = net.get_layer("fit_ink").output
    model = keras.Model(ink, net.get_layer("probabilities").output)
    model.compile("adam", "categorical_crossentropy", jit_compile=compilation.xla)
    random = np.random.default_rng(0)
    images = random.uniform(size=(BATCH_SIZE, 28, 28)).astype("float32")
    targets = np.eye(10, dtype="float32")[random.integers(0, 10, BATCH_SIZE)]
    return 1000 * step_seconds(model, [tf.constant(images), tf.constant(targets)])


def main() -> None:
    """Measure every combination."""
    rows = []
    for precision, xla in itertools.product(("float32", "mixed_bfloat16"), (False, True)):
        milliseconds = step_ms(Compilation(precision, xla))
        what = f"{precision}{', XLA' if xla else ''}"
        print(f"{what}: {milliseconds:.1f} ms", flush=True)
        rows.append({"what": what, "step_ms": round(milliseconds, 1)})
    write_results("compilation", rows)


if __name__ == "__main__":
    main()
