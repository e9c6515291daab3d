"""Times the steps of a user's model in `train` beside those of the same model in `model.fit`.

    python -m benchmarks.own_model

Both read the same `tf.data` pipeline and take turns in one process. The ratio of a turn is that of
the seconds of all steps but those of the first epoch, in which steps are compiled; `cpu_ratio` is
that of the processor's seconds, which other programs on the machine hardly change.
"""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.config import disable_op_determinism

from app.runs import train

from .results import write_results

TURNS, EPOCHS = 5, 6


class StepClock(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Sums the seconds of training steps, without the first epoch and without validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self._begun = (0.0, 0.0)
        self._is_training = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Start the clock."""
        self._is_training = epoch > 0
        self._begun = time.perf_counter(), time.process_time()

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Stop the clock: the steps of the epoch are over."""
        if self._is_training:
            self.seconds += time.perf_counter() - self._begun[0]
            self.cpu_seconds += time.process_time() - self._begun[1]


def dense_net() -> keras.Model:
    """Return a small net of rows, whose steps take about a millisecond."""
    inputs = keras.Input((32,))
    x = layers.Dense(64, activation="relu")(inputs)
    x = layers.Dense(64, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def conv_net() -> keras.Model:
    """Return a net of small images in color."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (16, 32, 64):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def pipelines(shape: tuple[int, ...], samples: int) -> dict[str, tf.data.Dataset]:
    """Return batches of 64 random samples with one-hot targets, for each split."""
    random = np.random.default_rng(0)
    found = {}
    for name, count in (("train", samples), ("validation", 256), ("test", 256)):
        x = random.normal(128, 60, (count, *shape)).astype(np.float32)
        y = np.eye(10, dtype=np.float32)[np.arange(count) % 10]
        rows = tf.data.Dataset.from_tensor_slices((x, y))
        rows = rows.shuffle(count, seed=0) if name == "train" else rows
        found[name] = rows.batch(64).prefetch(2)
    return found


def time_bare(build: Callable[[], keras.Model], data: dict[str, tf.data.Dataset]) -> StepClock:
    """Return the seconds of the steps in `keras.Model.fit`."""
    disable_op_determinism()
    keras.utils.set_random_seed(0)
    model, clock = build(), StepClock()
    steps = EPOCHS * int(data["train"].cardinality())
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    optimizer = keras.optimizers.Adam(rate)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        data["train"],
        validation_data=data["validation"],
        epochs=EPOCHS,
        verbose=0,
        callbacks=[clock],
    )
    return clock


def time_own(build: Callable[[], keras.Model], data: dict[str, tf.data.Dataset]) -> StepClock:
    """Return the seconds of the steps in `app.runs.train`."""
    clock = StepClock()
    settings = {"epochs": EPOCHS, "precision": "float32"}
    with tempfile.TemporaryDirectory() as folder:
        train(settings, folder, [clock], figures=False, model=build, data=data, quiet=True)
    return clock


def measure(what: str, build: Callable[[], keras.Model], data: dict[str, Any]) -> dict[str, Any]:
    """Return the times of a step in both, and the median ratio of the turns."""
    ways = {"fit": time_bare, "train": time_own}
    clocks: dict[str, list[StepClock]] = {name: [] for name in ways}
    for turn in range(TURNS):
        for name in list(ways) if turn % 2 else list(reversed(ways)):
            clocks[name].append(ways[name](build, data))
    seconds = {name: np.array([c.seconds for c in found]) for name, found in clocks.items()}
    cpu = {name: np.array([c.cpu_seconds for c in found]) for name, found in clocks.items()}
    steps = (EPOCHS - 1) * int(data["train"].cardinality())
    row = {
        "what": what,
        "turns": TURNS,
        "steps": steps,
        "fit_ms": round(1000 * float(np.median(seconds["fit"])) / steps, 3),
        "train_ms": round(1000 * float(np.median(seconds["train"])) / steps, 3),
        "ratio": round(float(np.median(seconds["train"] / seconds["fit"])), 3),
        "cpu_ratio": round(float(np.median(cpu["train"] / cpu["fit"])), 3),
    }
    print(row, flush=True)
    return row


def main() -> None:
    """Measure both nets and write `results/own_model.json`."""
    rows = [
        measure("dense net of 32 columns", dense_net, pipelines((32,), 12_800)),
        measure("convolutional net of 32x32 images", conv_net, pipelines((32, 32, 3), 2_560)),
    ]
    write_results("own_model", rows)


if __name__ == "__main__":
    main()
