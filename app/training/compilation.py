"""Chooses the precision of the layers and whether XLA compiles the step."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from app.config.training_config import TrainingConfig

# Enough to tell candidates apart that are worth telling apart.
_STEPS = 5
# Each candidate's fastest turn counts: what else the machine does only ever adds to a turn.
_TURNS = 4
# Of float32's time: what is saved must show above the noise, and pay for the digits that are lost.
_MIN_GAIN = 0.2
# A choice takes some seconds itself, most of them to compile two models.
_MIN_STEPS = 1000
_MIN_SECONDS = 60.0


@dataclass(frozen=True)
class Compilation:
    """How a training step runs.

    Attributes:
        precision: Keras' dtype policy of the layers between input and head.
        xla: whether XLA compiles the step.
        step_ms: milliseconds of a step in each precision that was measured to choose this one.
    """

    precision: str
    xla: bool
    step_ms: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def policy(self) -> Iterator[None]:
        """Build layers in this precision."""
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
) -> Compilation:
    """Return what the settings say, or where they say `auto` what this device gains from.

    mixed_bfloat16 takes some steps in turns with float32 and must save `_MIN_GAIN` of their time,
    which GPUs and CPUs with units for it (AMX) do and others do not. Training that is over soon
    anyway is done in float32.

    Args:
        config: the settings.
        build: makes a compiled model of its own for a candidate.
        batch: inputs and targets of one step.
        steps: that the training takes.
    """
    # JAX knows no other compiler; TensorFlow with XLA gives up on repeating a run exactly.
    xla = config.xla or keras.backend.backend() == "jax"
    if config.precision != "auto":
        return Compilation(config.precision, xla)
    if steps < _MIN_STEPS:
        return Compilation("float32", xla)
    models = {"float32": build(Compilation("float32", xla))}
    seconds = {"float32": step_seconds(models["float32"], batch)}
    if seconds["float32"] * steps >= _MIN_SECONDS:
        models["mixed_bfloat16"] = build(Compilation("mixed_bfloat16", xla))
        turns = [
            {name: step_seconds(models[name], batch) for name in models} for _ in range(_TURNS)
        ]
        seconds = {name: min(turn[name] for turn in turns) for name in models}
    gain = 1 - seconds.get("mixed_bfloat16", math.inf) / seconds["float32"]
    chosen = "mixed_bfloat16" if gain > _MIN_GAIN else "float32"
    return Compilation(chosen, xla, {name: round(1000 * s, 2) for name, s in seconds.items()})


def step_seconds(model: keras.Model, batch: Sequence[Any]) -> float:
    """Return the seconds of one training step, compilation not counted."""
    model.train_on_batch(*batch)
    start = time.perf_counter()
    for _ in range(_STEPS):
        model.train_on_batch(*batch)
    return (time.perf_counter() - start) / _STEPS
