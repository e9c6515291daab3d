"""When two sets of answers count as the same: the one rule of the proof and of verification."""

from collections.abc import Callable
from typing import Any

import numpy as np

# Of probabilities, absolute: float32 sums in another order differ by about 1e-7 a layer, and the
# nets here reach 1e-6; a wrong layer shows as 1e-3 and more.
TOLERANCE = 1e-5

Outputs = dict[str, np.ndarray]
# What a model takes: one array, or for several inputs one for each name.
Inputs = np.ndarray | dict[str, np.ndarray]


def count_samples(inputs: Inputs) -> int:
    """Return the length of the first axis."""
    return len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)


def take_samples(inputs: Inputs, index: Any) -> Inputs:
    """Return the samples that a slice or an array of indices names."""
    if isinstance(inputs, dict):
        return {name: array[index] for name, array in inputs.items()}
    taken: np.ndarray = inputs[index]
    return taken


def run_in_batches(run: Callable[[Any], Outputs], inputs: Inputs, batch_size: int) -> Outputs:
    """Return the outputs for all inputs, run `batch_size` at a time; at least one input."""
    starts = range(0, count_samples(inputs), batch_size)
    batches = [run(take_samples(inputs, slice(start, start + batch_size))) for start in starts]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def largest_difference(expected: np.ndarray, received: np.ndarray) -> float:
    """Return the largest absolute difference; infinity where one is NaN."""
    difference = float(np.abs(received - expected).max())
    return difference if np.isfinite(difference) else float("inf")


def allowed_difference(expected: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Return `tolerance` times the larger of 1 and the largest magnitude of `expected`."""
    return tolerance * max(1.0, float(np.abs(expected).max()))


def top1_agreement(expected: np.ndarray, received: np.ndarray) -> float:
    """Return the share of samples with the same largest entry, both `(samples, classes)`."""
    return float((received.argmax(axis=1) == expected.argmax(axis=1)).mean())
