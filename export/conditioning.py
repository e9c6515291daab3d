"""Leaves out samples whose outputs depend on how numbers are rounded."""

from dataclasses import replace

import numpy as np

from serving.parity import (
    Inputs,
    Outputs,
    allowed_difference,
    by_value,
    count_samples,
    run_in_batches,
    take_samples,
)

from .errors import ProofError
from .inference import InferenceFunction, largest_batch
from .output_kind import OutputKind
from .samples import Samples

# Keras' two ways of computing a sample may differ by this part of what an artifact may differ.
_PART = 0.1
_MOST_LEFT_OUT = 0.25  # a model whose outputs depend on rounding in general must fail the proof
_FEW = 7  # samples in a batch; other kernels compute larger ones


def stable_samples(
    inference: InferenceFunction,
    samples: Samples,
    expected: Outputs,
    kind: OutputKind,
    are_drawn: bool,
) -> tuple[Samples, Outputs]:
    """Return the samples on which Keras agrees with itself, and what it predicts for them.

    Layer normalization over two features, for example, divides rounding errors by nearly 0 where
    the features are nearly equal. Keras computes each sample twice: operation by operation and as a
    traced function in batches of two sizes, which round differently. Samples without a stable
    output prove nothing. All are kept if more than a quarter are not stable.

    Args:
        inference: The traced model.
        samples: Samples.
        expected: What Keras predicts for them.
        kind: What the outputs stand for.
        are_drawn: Whether they were drawn; of those that were given, only edge cases are left out.

    Raises:
        ProofError: Keras differs from itself by more than an artifact may.
    """
    excess = _excess(inference, samples.inputs, expected, kind)
    are_stable = excess <= _PART
    if are_drawn:
        are_stable = _or_all(are_stable)
    else:
        are_stable[: len(samples)] = True
    if excess[are_stable].max(initial=0) > 1:
        raise ProofError(
            "Outputs must not depend on how numbers are rounded. Received: those of "
            f"{(excess > 1).sum()} of {len(excess)} samples, which Keras itself computes "
            "differently as it calls the model and as it traces it. Nothing was published."
        )
    left_out = len(are_stable) - int(are_stable.sum())
    if not left_out:
        return samples, expected
    others = tuple(_stable_part(inference, inputs, kind) for inputs in samples.of_other_sizes)
    chosen = replace(
        samples,
        inputs=take_samples(samples.inputs, are_stable),
        source=f"{samples.source}, without {left_out} whose outputs depend on rounding",
        num_edge_cases=int(are_stable[len(samples) :].sum()),
        of_other_sizes=others,
    )
    return chosen, {name: array[are_stable] for name, array in expected.items()}


def _stable_part(inference: InferenceFunction, inputs: Inputs, kind: OutputKind) -> Inputs:
    excess = _excess(inference, inputs, inference.predict(inputs), kind)
    return take_samples(inputs, _or_all(excess <= _PART))


def _or_all(are_stable: np.ndarray) -> np.ndarray:
    return are_stable if are_stable.mean() >= 1 - _MOST_LEFT_OUT else np.ones_like(are_stable)


def _excess(
    inference: InferenceFunction, inputs: Inputs, expected: Outputs, kind: OutputKind
) -> np.ndarray:
    """Return how much Keras differs from itself, as parts of what an artifact may differ.

    Returns:
        float64 `(samples,)`.
    """
    found = np.zeros(count_samples(inputs))
    for size in {_FEW, max(_FEW, largest_batch(inputs))}:
        received = run_in_batches(inference.run, inputs, size)
        for name, wanted in expected.items():
            if wanted.dtype.kind != "f" or wanted.shape != received[name].shape:
                continue
            for one, other in by_value(kind.predicts_values(name), wanted, received[name]):
                differences = np.abs(one - other).reshape(len(one), -1).max(axis=1)
                allowed = allowed_difference(one, are_probabilities=False)
                found = np.maximum(found, differences / allowed)
    return found
