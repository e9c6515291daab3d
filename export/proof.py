"""Proves that Keras, the SavedModel and the ONNX graph compute one function."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from serving.agreement import (
    TOLERANCE,
    Inputs,
    Outputs,
    allowed_difference,
    largest_difference,
    run_in_batches,
    top1_agreement,
)
from serving.bundle import MODEL
from serving.manifest import Agreement, Proof
from serving.session import open_session

from .errors import ProofError
from .inference import InferenceFunction, predict_keras, to_tensors
from .samples import Samples
from .saved_model import load_saved_model

BATCH_SIZES = (1, 2, 7, 64)

Run = Callable[[Inputs], Outputs]


def prove(
    inference: InferenceFunction, folder: Path, samples: Samples, kind_of_targets: str = "classes"
) -> Proof:
    """Run every sample through every artifact at several batch sizes, and compare.

    Keras runs as `keras.Model.predict`; the SavedModel and the ONNX graph as read back from
    `folder`, where they were written.

    Args:
        inference: the traced model.
        folder: of the version being made.
        samples: what to run.
        kind_of_targets: `classes`, whose most probable one must agree, `labels` or `values`.

    Raises:
        ProofError: an output differs by more, or a sample has another most probable class.
    """
    artifacts = {"saved_model": _saved_model(inference, folder), "onnx": _onnx(inference, folder)}
    agreements = []
    for batch_size in BATCH_SIZES:
        expected = predict_keras(inference.model, samples.inputs, batch_size)
        for artifact, run in artifacts.items():
            received = run_in_batches(run, samples.inputs, batch_size)
            for name in expected:
                agreement = compare(artifact, name, batch_size, expected[name], received[name])
                if kind_of_targets != "classes":
                    agreement = replace(agreement, top1_agreement=None)
                _require(agreement, allowed_difference(expected[name]))
                agreements.append(agreement)
    return Proof(samples.source, len(samples), samples.edge_cases, TOLERANCE, tuple(agreements))


def compare(
    artifact: str, output: str, batch_size: int, expected: np.ndarray, received: np.ndarray
) -> Agreement:
    """Return how far `received` is from `expected`; NaN in either counts as infinitely far."""
    top1 = top1_agreement(expected, received) if output == "probabilities" else None
    return Agreement(artifact, output, batch_size, largest_difference(expected, received), top1)


def _require(agreement: Agreement, allowed: float) -> None:
    where = f"{agreement.artifact} at batch size {agreement.batch_size}"
    if agreement.max_absolute_difference > allowed:
        raise ProofError(
            f"{agreement.output} of every artifact must be within {allowed:.1e} of Keras'. "
            f"Received: {agreement.max_absolute_difference:.1e} from {where}. "
            "Nothing was published."
        )
    if agreement.top1_agreement not in (None, 1.0):
        raise ProofError(
            "Every sample must have the same most probable class in every artifact. "
            f"Received: {agreement.top1_agreement:.2%} of them from {where}. Nothing was published."
        )


def _saved_model(inference: InferenceFunction, folder: Path) -> Run:
    function = load_saved_model(folder)

    def run(batch: Inputs) -> Outputs:
        tensors = to_tensors(_by_name(inference, batch))
        answers = function(**tensors)
        return {name: keras.ops.convert_to_numpy(value) for name, value in answers.items()}

    return run


def _onnx(inference: InferenceFunction, folder: Path) -> Run:
    session = open_session((folder / MODEL).read_bytes())
    names = [output.name for output in inference.outputs]

    def run(batch: Inputs) -> Outputs:
        return dict(zip(names, session.run(names, _by_name(inference, batch)), strict=True))

    return run


def _by_name(inference: InferenceFunction, batch: Inputs) -> dict[str, np.ndarray]:
    return batch if isinstance(batch, dict) else {inference.inputs[0].name: batch}
