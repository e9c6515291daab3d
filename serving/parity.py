"""When two sets of answers count as the same: the one rule of the proof and of verification."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import InputError

# How far an output may be from Keras': probabilities absolutely, other floats as a fraction of the
# output's largest magnitude; whole numbers must be equal.
#
# float32 rounds to eps = 1.2e-7. Processors and runtimes add up the n products of a layer in
# different orders, which changes the sum by about sqrt(n) * eps of its magnitude, and d layers by
# sqrt(d) times as much. A hundred 3x3 convolutions of 512 channels give sqrt(100 * 4608) * eps =
# 8e-5: hence 1e-4. Softmax and sigmoid pass on at most a quarter of a difference, so that 1e-5
# allows 25 such layers before logits around 1. A wrong weight or operator shows as 1e-3 and more.
TOLERANCES = {"probabilities": 1e-5, "float32": 1e-4, "float64": 1e-4}

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
    """Return the outputs for all inputs, run `batch_size` at a time; at least one input.

    Raises:
        InputError: an output has not one answer of the same shape for each sample.
    """
    batches = []
    for start in range(0, count_samples(inputs), batch_size):
        batch = take_samples(inputs, slice(start, start + batch_size))
        batches.append(run(batch))
        for name, array in batches[-1].items():
            if array.shape != (count_samples(batch), *batches[0][name].shape[1:]):
                raise InputError(
                    "A model must give an answer of one shape for each sample. "
                    f"Received: {name} {array.shape} for {count_samples(batch)} samples."
                )
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def largest_difference(expected: np.ndarray, received: np.ndarray) -> float:
    """Return the largest absolute difference, infinity where one is NaN or shapes differ.

    Of what is no float: 1 if an element differs, else 0.
    """
    if expected.shape != received.shape:
        return float("inf")
    if expected.dtype.kind != "f":
        return float((received != expected).max())
    difference = float(np.abs(received - expected).max())
    return difference if np.isfinite(difference) else float("inf")


def is_within(difference: float, allowed: float) -> bool:
    """Return whether a difference is finite and allowed, which nothing is where that is NaN."""
    return bool(np.isfinite(difference) and difference <= allowed)


def largest_magnitude(array: np.ndarray) -> float:
    """Return the largest absolute value, at least that of the smallest normal float32."""
    return max(float(np.abs(array).max()), float(np.finfo(np.float32).tiny))


def allowed_difference(expected: np.ndarray, are_probabilities: bool) -> float:
    """Return the largest absolute difference that counts as agreement: see `TOLERANCES`."""
    if are_probabilities:
        return TOLERANCES["probabilities"]
    if expected.dtype.kind != "f":
        return 0.0
    return TOLERANCES.get(expected.dtype.name, 0.0) * largest_magnitude(expected)


def top1_match(expected: np.ndarray, received: np.ndarray) -> float:
    """Return the share of samples with the same largest entry, both `(samples, classes)`."""
    return float((received.argmax(axis=1) == expected.argmax(axis=1)).mean())
