"""Parity: when the outputs of two runtimes count as equal. Used by export and by verification."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .errors import InputError

# Largest difference from Keras: absolute for probabilities, relative to the largest magnitude of
# each predicted value, and of the whole output for other floats. Integers, bools and strings must
# be equal.
#
# float32 rounds to eps = 1.2e-7. Processors and runtimes add up the n products of a layer in
# different orders, which changes the sum by about sqrt(n) * eps of its magnitude; d layers change
# it by sqrt(d) times as much. A hundred 3x3 convolutions of 512 channels give
# sqrt(100 * 4608) * eps = 8e-5, hence 1e-4. Softmax and sigmoid pass on at most a quarter of a
# difference: 1e-5 allows 25 such layers before logits of magnitude 1. A wrong weight or operator
# shows as 1e-3 and more.
TOLERANCES = {"probabilities": 1e-5, "float32": 1e-4, "float64": 1e-4}

# float16 rounds to eps = 9.8e-4, a thousandth. GPUs add up products in float32, so a layer rounds
# its weights and its outputs: each changes the sum of n products by about eps, and d layers by
# sqrt(d) * eps. A hundred layers give 1e-2, twice that is allowed. A wrong operator shows as more.
FLOAT16_TOLERANCES = {"probabilities": 2e-2, "float32": 2e-2}

# A model that Keras quantized to int8 rounds the inputs of each layer to 255 steps. A number
# between two steps may be rounded up by one runtime and down by another, if float32 rounding before
# it differs: by 1/127 of the layer's largest input. Later layers pass that on.
INT8_TOLERANCES = {"probabilities": 2e-2, "float32": 2e-2}

Outputs = dict[str, np.ndarray]
# The inputs of a model: one array, or a dict of arrays by name for several inputs.
Inputs = np.ndarray | dict[str, np.ndarray]


def as_inputs(named: dict[str, np.ndarray]) -> Inputs:
    """Return the array of a single input by itself, and several as they are."""
    return named if len(named) > 1 else next(iter(named.values()))


def count_samples(inputs: Inputs) -> int:
    """Return the number of samples, the length of the first axis."""
    return len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)


def take_samples(inputs: Inputs, index: Any) -> Inputs:
    """Return the samples that a slice or an array of indices selects."""
    if isinstance(inputs, dict):
        return {name: array[index] for name, array in inputs.items()}
    taken: np.ndarray = inputs[index]
    return taken


def run_in_batches(run: Callable[[Any], Outputs], inputs: Inputs, batch_size: int) -> Outputs:
    """Return the outputs for all samples, run in batches. There must be at least one sample.

    Args:
        run: the model; takes a batch of inputs and returns its outputs by name.
        inputs: all samples.
        batch_size: number of samples in each batch; the last one may be smaller.

    Raises:
        InputError: an output does not have one element of the same shape for each sample.
    """
    batches = []
    for start in range(0, count_samples(inputs), batch_size):
        batch = take_samples(inputs, slice(start, start + batch_size))
        batches.append(run(batch))
        for name, array in batches[-1].items():
            if array.shape != (count_samples(batch), *batches[0][name].shape[1:]):
                raise InputError(
                    "Each output must have one element of the same shape for each sample. "
                    f"Received: {name} {array.shape} for {count_samples(batch)} samples."
                )
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def largest_difference(expected: np.ndarray, received: np.ndarray) -> float:
    """Return the largest absolute difference; infinity if it is NaN or the shapes differ.

    For arrays that are not floats, return 1 if any element differs and 0 otherwise.
    """
    if expected.shape != received.shape:
        return float("inf")
    if expected.dtype.kind != "f":
        return float(np.any(received != expected))
    difference = float(np.abs(received - expected).max(initial=0))
    return difference if np.isfinite(difference) else float("inf")


def is_within(difference: float, allowed: float) -> bool:
    """Return whether a difference is finite and at most `allowed`; never if `allowed` is NaN."""
    return bool(np.isfinite(difference) and difference <= allowed)


def largest_magnitude(array: np.ndarray) -> float:
    """Return the largest absolute value, at least the smallest normal float32."""
    return max(float(np.abs(array).max(initial=0)), float(np.finfo(np.float32).tiny))


def by_value(are_values: bool, *arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield what is compared: each predicted value of all samples, or whole arrays.

    Values differ in unit and magnitude: a price of a million must not excuse a rate of 0.3.

    Args:
        are_values: whether the arrays are predicted values, `(samples, values)`.
        arrays: the same output of several runtimes. Arrays of other shapes are not divided.
    """
    if are_values and len({array.shape[1:] for array in arrays}) == 1:
        yield from zip(*(array.T for array in arrays), strict=True)
    else:
        yield arrays


def allowed_difference(
    expected: np.ndarray, are_probabilities: bool, tolerances: Mapping[str, float] = TOLERANCES
) -> float:
    """Return the largest absolute difference that counts as parity, from `tolerances`."""
    if are_probabilities:
        return tolerances["probabilities"]
    if expected.dtype.kind != "f":
        return 0.0
    return tolerances.get(expected.dtype.name, 0.0) * largest_magnitude(expected)


def top1_match(expected: np.ndarray, received: np.ndarray) -> float:
    """Return the fraction of samples with the same largest entry, both `(samples, classes)`."""
    return float((received.argmax(axis=1) == expected.argmax(axis=1)).mean())
