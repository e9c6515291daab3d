"""Chooses the precision of the layers, and whether XLA compiles the training step."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from app.config.training_config import TrainingConfig

# Steps in a measurement, enough to see a difference that matters; fewer if they take this many
# seconds together.
_STEPS, _LONG = 5, 1.0
# The fastest turn of each candidate counts, since other load on the machine can only slow it down.
_TURNS = 4
# No load slows it down this many times, but a processor without instructions for bfloat16 does.
_HOPELESS = 4
# Fraction of float32's time to save: it must exceed the noise and be worth the lost digits.
_MIN_GAIN = 0.2
# Measuring takes some seconds itself, mostly to compile two models, so that it must save more. A
# training is measured if it seems to take `_MIN_ESTIMATE` seconds at a slow pace, and compared with
# bfloat16 if it takes `_MIN_SECONDS` by the measurement.
_MIN_ESTIMATE, _MIN_SECONDS = 10.0, 30.0
# A slow pace: the seconds of a step besides its products, and products in a second.
_STEP_OVERHEAD, _PRODUCTS_PER_S = 0.01, 25e9
# Products of a training step, relative to a prediction: the gradients take twice as many.
_TRAINING_FACTOR = 3


@dataclass(frozen=True)
class Compilation:
    """How a training step runs.

    Attributes:
        precision: Keras dtype policy of the layers between input and head.
        xla: whether XLA compiles the step.
        step_ms: step time in milliseconds for each precision that was measured.
    """

    precision: str
    xla: bool
    step_ms: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def policy(self) -> Iterator[None]:
        """Build layers in this precision inside the context."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.precision)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)


def choose_compilation(
    config: TrainingConfig,
    build: Callable[[Compilation], keras.Model],
    batch: Sequence[Any],
    steps: int,
    products: int = 0,
) -> Compilation:
    """Return the precision and the compiler that the settings name; `auto` measures this device.

    float32 and mixed_bfloat16 take turns of a few steps. mixed_bfloat16 is chosen if it saves more
    than `_MIN_GAIN` of the time. A training that seems short uses float32 without measuring.

    Args:
        config: settings of the training.
        build: builds and compiles a new model for a candidate.
        batch: inputs and targets of one step.
        steps: number of steps of the training.
        products: products that a prediction of a batch takes, see `count_products`.
    """
    # JAX has no other compiler; with XLA, TensorFlow no longer repeats a run exactly.
    xla = config.xla or keras.backend.backend() == "jax"
    if config.precision != "auto":
        return Compilation(config.precision, xla)
    if steps * (_STEP_OVERHEAD + _TRAINING_FACTOR * products / _PRODUCTS_PER_S) < _MIN_ESTIMATE:
        return Compilation("float32", xla)
    models = {"float32": build(Compilation("float32", xla))}
    seconds = {"float32": step_seconds(models["float32"], batch)}
    if seconds["float32"] * steps >= _MIN_SECONDS:
        models["mixed_bfloat16"] = build(Compilation("mixed_bfloat16", xla))
        seconds = _fastest_turns(models, batch)
    gain = 1 - seconds.get("mixed_bfloat16", math.inf) / seconds["float32"]
    chosen = "mixed_bfloat16" if gain > _MIN_GAIN else "float32"
    return Compilation(chosen, xla, {name: round(1000 * s, 2) for name, s in seconds.items()})


def _fastest_turns(models: dict[str, keras.Model], batch: Sequence[Any]) -> dict[str, float]:
    """Return the time of a step of each precision, in seconds, in its fastest turn."""
    turns: list[dict[str, float]] = []
    for _ in range(_TURNS):
        turn = {name: step_seconds(model, batch) for name, model in models.items()}
        turns.append(turn)
        if turn["mixed_bfloat16"] > _HOPELESS * turn["float32"]:
            break
    return {name: min(turn[name] for turn in turns) for name in models}


def count_products(model: keras.Model) -> int:
    """Return the number of products in which layers apply their kernels to one sample.

    These take nearly all the time of a heavy step. A kernel is used once for each position of the
    output, such as each pixel; an axis of any size counts as one.
    """
    layers = (layer for layer in model._flatten_layers() if hasattr(layer, "kernel"))
    return sum(
        math.prod(layer.kernel.shape) * math.prod(size or 1 for size in node.outputs[0].shape[1:-1])
        for layer in layers
        for node in layer._inbound_nodes
    )


def step_seconds(model: keras.Model, batch: Sequence[Any]) -> float:
    """Return the time of a training step in seconds, without its compilation."""
    model.train_on_batch(*batch)
    start, steps, seconds = time.perf_counter(), 0, 0.0
    while steps < _STEPS and seconds < _LONG:
        model.train_on_batch(*batch)
        steps, seconds = steps + 1, time.perf_counter() - start
    return seconds / steps
