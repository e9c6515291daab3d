"""The samples that a proof is made on: the evaluation data, and cases made to be hard."""

from dataclasses import dataclass

import numpy as np

EDGE_CASES = ("zeros", "maximum", "random")
_RANDOM_SAMPLES = 8


@dataclass(frozen=True)
class Samples:
    """Inputs of a model.

    Attributes:
        inputs: `(samples, …)`, the edge cases last.
        source: where those before the edge cases came from.
        num_edge_cases: how many lie at the end.
    """

    inputs: np.ndarray
    source: str
    num_edge_cases: int

    def __len__(self) -> int:
        """Return how many samples there are, edge cases not counted."""
        return len(self.inputs) - self.num_edge_cases


def with_edge_cases(inputs: np.ndarray, source: str) -> Samples:
    """Append all zeros, all at the maximum, and random samples.

    The maximum is 255 for uint8 and the largest of each column for floats; random samples lie
    between the extremes.

    Args:
        inputs: uint8 or float32 `(samples, …)`.
        source: what they are, in words.
    """
    random = np.random.default_rng(0)
    shape = (_RANDOM_SAMPLES, *inputs.shape[1:])
    zeros = np.zeros_like(inputs[:1])
    if inputs.dtype == np.uint8:
        maximum = np.full_like(zeros, 255)
        drawn = random.integers(0, 256, shape, np.uint8)
    else:
        lowest, maximum = inputs.min(axis=0, keepdims=True), inputs.max(axis=0, keepdims=True)
        drawn = random.uniform(lowest, maximum, shape).astype(inputs.dtype)
    edge_cases = np.concatenate([zeros, maximum, drawn])
    return Samples(np.concatenate([inputs, edge_cases]), source, len(edge_cases))


def choose_golden(samples: Samples, count: int = 22) -> np.ndarray:
    """Return `count` samples spread over the evaluation data, and every edge case."""
    spread = np.unique(np.linspace(0, len(samples) - 1, count).round().astype(int))
    return np.concatenate([samples.inputs[spread], samples.inputs[len(samples) :]])
