"""Proves that Keras, the SavedModel and the ONNX graph compute one function."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from serving.bundle import MODEL
from serving.manifest import Parity, Proof
from serving.parity import (
    TOLERANCES,
    Inputs,
    Outputs,
    allowed_difference,
    count_samples,
    is_within,
    largest_difference,
    largest_magnitude,
    run_in_batches,
    top1_match,
)
from serving.session import open_session

from .errors import ProofError, explained
from .inference import InferenceFunction, plain_array, to_tensors
from .memory import return_memory
from .output_kind import OutputKind
from .samples import Samples, finite_part
from .saved_model import load_saved_model

_BATCH_SIZES = (1, 2, 7, 64)
# bfloat16 rounds to one part in 256, and does so in every layer.
_NARROW_TOLERANCE = 0.1

Run = Callable[[Inputs], Outputs]


def prove(
    inference: InferenceFunction,
    folder: Path,
    samples: Samples,
    answers: Outputs,
    meaning: OutputKind,
) -> Proof:
    """Run every sample through every artifact at several batch sizes, and compare.

    The SavedModel and the ONNX graph run as read back from `folder`, where they were written.

    Args:
        inference: the traced model.
        folder: of the version being made.
        samples: what to run.
        answers: what `keras.Model.predict` gives for them.
        meaning: of the outputs: of classes the most probable one must agree.

    Raises:
        ProofError: an output differs by more, or a sample has another most probable class.
    """
    artifacts: dict[str, Callable[[], Run]] = {
        "saved_model": lambda: _saved_model(inference, folder),
        "onnx": lambda: onnx_runner(inference, folder / MODEL),
    }
    others = (finite_part(x, inference.predict(x)) for x in samples.of_other_sizes)
    more = [(inputs, expected) for inputs, expected in others if count_samples(inputs)]
    agreements = []
    for artifact, load in artifacts.items():
        with explained(f"{artifact} must load."):
            run = load()
        for batch_size in batch_sizes(samples.inputs):
            for inputs, expected in ((samples.inputs, answers), *more):
                with explained(f"{artifact} must run as Keras does."):
                    received = run_in_batches(run, inputs, batch_size)
                for name, wanted in expected.items():
                    has_classes = meaning.task == "multiclass" and name == meaning.prediction_output
                    agreement = compare(
                        artifact, name, batch_size, wanted, received[name], has_classes
                    )
                    are_probabilities = (
                        name == meaning.prediction_output and meaning.task != "regression"
                    )
                    _require(agreement, allowed_difference(wanted, are_probabilities))
                    agreements.append(agreement)
        del run
        return_memory()
    dtypes = {"probabilities", *(spec.dtype for spec in inference.outputs)}
    tolerances = {name: value for name, value in TOLERANCES.items() if name in dtypes}
    return Proof(samples.source, len(samples), samples.edge_cases, tolerances, _worst(agreements))


def require_same_as_original(
    inference: InferenceFunction, inputs: Inputs, answers: Outputs
) -> None:
    """Require that a model that was rebuilt in float32 answers as it did before, but for rounding.

    Args:
        inference: the traced model.
        inputs: samples.
        answers: of the rebuilt model.

    Raises:
        ProofError: it answers otherwise.
    """
    if inference.original is inference.model:
        return
    before = replace(inference, model=inference.original).predict(inputs)
    for name, wanted in before.items():
        if wanted.dtype.kind not in "fV":  # bfloat16 is of the kind V
            continue
        wide = wanted.astype(np.float32)
        difference = largest_difference(wide, answers[name].astype(np.float32))
        allowed = _NARROW_TOLERANCE * largest_magnitude(wide)
        if not is_within(difference, allowed):
            raise ProofError(
                f"{name} in float32 must be within {allowed:.1e} of the model's own precision. "
                f"Received: {difference:.1e}. Nothing was published."
            )


def batch_sizes(inputs: Inputs) -> list[int]:
    """Return the batch sizes to run `inputs` at: none is larger than their count."""
    return sorted({min(size, count_samples(inputs)) for size in _BATCH_SIZES})


def _worst(agreements: list[Parity]) -> tuple[Parity, ...]:
    """Return for each artifact, output and batch size the largest differences."""
    found: dict[tuple[str, str, int], Parity] = {}
    for item in agreements:
        key = (item.artifact, item.output, item.batch_size)
        other = found.get(key, item)
        found[key] = replace(
            item,
            max_absolute_difference=max(
                item.max_absolute_difference, other.max_absolute_difference
            ),
            max_relative_difference=max(
                item.max_relative_difference, other.max_relative_difference
            ),
        )
    return tuple(found.values())


def compare(
    artifact: str,
    output: str,
    batch_size: int,
    expected: np.ndarray,
    received: np.ndarray,
    has_classes: bool,
) -> Parity:
    """Return how far `received` is from `expected`; NaN in either counts as infinitely far."""
    difference = largest_difference(expected, received)
    return Parity(
        artifact,
        output,
        batch_size,
        difference,
        difference / largest_magnitude(expected) if expected.dtype.kind == "f" else difference,
        top1_match(expected, received) if has_classes else None,
    )


def _require(agreement: Parity, allowed: float) -> None:
    where = f"{agreement.artifact} at batch size {agreement.batch_size}"
    if not is_within(agreement.max_absolute_difference, allowed):
        raise ProofError(
            f"{agreement.output} of every artifact must be within {allowed:.1e} of Keras'. "
            f"Received: {agreement.max_absolute_difference:.1e} from {where}. "
            "Nothing was published."
        )
    if agreement.top1_match not in (None, 1.0):
        raise ProofError(
            "Every sample must have the same most probable class in every artifact. "
            f"Received: {agreement.top1_match:.2%} of them from {where}. Nothing was published."
        )


def _saved_model(inference: InferenceFunction, folder: Path) -> Run:
    function = load_saved_model(folder)

    def run(batch: Inputs) -> Outputs:
        tensors = to_tensors(inference.by_name(batch))
        answers = function(**tensors)
        return {name: plain_array(value.numpy()) for name, value in answers.items()}

    return run


def onnx_runner(inference: InferenceFunction, path: Path) -> Run:
    """Return a function that runs the ONNX graph at `path`, from a batch to outputs by name."""
    session = open_session(path.read_bytes())
    names = [output.name for output in inference.outputs]

    def run(batch: Inputs) -> Outputs:
        return dict(zip(names, session.run(names, inference.by_name(batch)), strict=True))

    return run
