"""Leaves out drawn samples whose outputs depend on how numbers are rounded."""

from dataclasses import replace

import numpy as np

from serving.parity import (
    Inputs,
    Outputs,
    allowed_difference,
    count_samples,
    run_in_batches,
    take_samples,
)

from .inference import InferenceFunction
from .samples import Samples

# Keras' two ways of computing a sample may differ by this part of what an artifact may differ.
_PART = 0.1
_MOST_LEFT_OUT = 0.25  # a model whose outputs depend on rounding in general must fail the proof
_BATCH = 7


def stable_samples(
    inference: InferenceFunction, samples: Samples, expected: Outputs
) -> tuple[Samples, Outputs]:
    """Return the samples on which Keras agrees with itself, and what it predicts for them.

    Layer normalization over two features, for example, divides rounding errors by nearly 0 where
    the features are nearly equal. Keras computes each sample twice: operation by operation and as a
    traced function, which round differently. Samples without a stable output prove nothing. All are
    kept if more than a quarter are not stable.

    Args:
        inference: The traced model.
        samples: Samples that were drawn, not given.
        expected: What Keras predicts for them.
    """
    are_stable = _are_stable(inference, samples.inputs, expected)
    kept = take_samples(samples.inputs, are_stable)
    edge_cases = int(are_stable[len(samples) :].sum())
    others = tuple(_stable_part(inference, inputs) for inputs in samples.of_other_sizes)
    left_out = len(are_stable) - int(are_stable.sum())
    chosen = replace(
        samples,
        inputs=kept,
        source=f"{samples.source}, without {left_out} whose outputs depend on rounding",
        num_edge_cases=edge_cases,
        of_other_sizes=others,
    )
    return chosen, {name: array[are_stable] for name, array in expected.items()}


def _stable_part(inference: InferenceFunction, inputs: Inputs) -> Inputs:
    expected = inference.predict(inputs)
    return take_samples(inputs, _are_stable(inference, inputs, expected))


def _are_stable(inference: InferenceFunction, inputs: Inputs, expected: Outputs) -> np.ndarray:
    """Return for each sample whether Keras agrees with itself, bool `(samples,)`."""
    received = run_in_batches(inference.run, inputs, _BATCH)
    found = np.ones(count_samples(inputs), bool)
    for name, wanted in expected.items():
        if wanted.dtype.kind == "f" and wanted.shape == received[name].shape:
            differences = np.abs(wanted - received[name]).reshape(len(wanted), -1).max(axis=1)
            found &= differences <= _PART * allowed_difference(wanted, are_probabilities=False)
    return found if found.mean() >= 1 - _MOST_LEFT_OUT else np.ones_like(found)
