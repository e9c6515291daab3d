"""Chooses the precision of the layers and whether XLA compiles the step."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from .settings import TrainingConfig

# Enough to tell candidates apart that are worth telling apart; the first compiles.
_STEPS = 10


@dataclass(frozen=True)
class Compilation:
    """How a training step runs.

    Attributes:
        precision: Keras' dtype policy of the layers between input and head.
        xla: whether XLA compiles the step.
    """

    precision: str
    xla: bool

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
) -> Compilation:
    """Return what the settings say, or where they say `auto` what is fastest on this device.

    On a GPU float32 and mixed_bfloat16 take some steps; a CPU takes float32, which
    `benchmarks/compilation.py` shows to be fastest there.

    Args:
        config: the settings.
        build: makes a compiled model of its own for a candidate.
        batch: inputs and targets of one step.
    """
    # JAX knows no other compiler; TensorFlow with XLA gives up on repeating a run exactly.
    xla = config.xla == "on" or keras.backend.backend() == "jax"
    precisions = [config.precision]
    if config.precision == "auto":
        # Asked for GPUs by name, JAX raises where there is none.
        has_gpu = any(name.startswith("gpu") for name in keras.distribution.list_devices())
        precisions = ["float32", "mixed_bfloat16"] if has_gpu else ["float32"]
    candidates = [Compilation(precision, xla) for precision in precisions]
    if len(candidates) == 1:
        return candidates[0]
    seconds = {candidate: step_seconds(build(candidate), batch) for candidate in candidates}
    return min(candidates, key=seconds.__getitem__)


def step_seconds(model: keras.Model, batch: Sequence[Any]) -> float:
    """Return the seconds of one training step, compilation not counted."""
    model.train_on_batch(*batch)
    start = time.perf_counter()
    for _ in range(_STEPS):
        model.train_on_batch(*batch)
    return (time.perf_counter() - start) / _STEPS
