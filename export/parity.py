"""Proves that Keras, the SavedModel and the ONNX graph compute one function."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from serving.bundle import MODEL
from serving.errors import InputError
from serving.manifest import Parity, Proof
from serving.parity import (
    INT8_TOLERANCES,
    TOLERANCES,
    Inputs,
    Outputs,
    allowed_difference,
    by_value,
    count_samples,
    is_within,
    largest_difference,
    largest_magnitude,
    run_in_batches,
    take_samples,
    top1_match,
)
from serving.session import open_session

from .batches import batch_sizes, whole_batches
from .errors import ProofError, explained
from .inference import InferenceFunction, plain_array, to_tensors
from .memory import return_memory
from .output_kind import OutputKind
from .samples import Samples, finite_part
from .saved_model import load_saved_model

_NAMES = {"saved_model": "SavedModel", "onnx": "ONNX graph"}
# bfloat16 rounds to one part in 256 in every layer.
_NARROW_TOLERANCE = 0.1

Run = Callable[[Inputs], Outputs]
# Inputs, what Keras predicts for them, the number of samples in each call, and how many to run.
# None runs all as one batch.
_Case = tuple[Inputs, Outputs, int, int | None]


def prove(
    inference: InferenceFunction,
    folder: Path,
    samples: Samples,
    expected: Outputs,
    kind: OutputKind,
) -> Proof:
    """Run every sample through every artifact, the first at more batch sizes; compare with Keras.

    The SavedModel and the ONNX graph are read back from `folder`, where they were written.

    Args:
        inference: The traced model.
        folder: Folder of the version being made.
        samples: Samples to run.
        expected: What Keras predicts for them.
        kind: What the outputs stand for. For classes, the most probable one must be the same.

    Raises:
        ProofError: An output differs by more than its tolerance, or a sample has another most
            probable class.
    """
    cases = list(_cases(inference, samples, expected))
    loaders: dict[str, Callable[[], Run]] = {
        "saved_model": lambda: _saved_model_runner(inference, folder),
        "onnx": lambda: onnx_runner(inference, folder / MODEL),
    }
    measured: list[Parity] = []
    known = TOLERANCES if inference.quantization is None else INT8_TOLERANCES
    for artifact, load in loaders.items():
        with explained(f"The {_NAMES[artifact]} that was written must load"):
            run = load()
        for parity, allowed in _measure(artifact, run, cases, kind, known):
            _require(parity, allowed, has_same_classes=inference.quantization is None)
            measured.append(parity)
        del run
        return_memory(inference.model)
    dtypes = {"probabilities", *(spec.dtype for spec in inference.outputs)}
    tolerances = {name: value for name, value in known.items() if name in dtypes}
    return Proof(samples.source, len(samples), samples.edge_cases, tolerances, worst(measured))


def _cases(inference: InferenceFunction, samples: Samples, expected: Outputs) -> Iterator[_Case]:
    if inference.whole_batches:
        yield from _whole_cases(inference, samples)
        return
    sizes = batch_sizes(samples.inputs)
    for batch_size, rows in _batch_runs(count_samples(samples.inputs), sizes):
        yield samples.inputs, expected, batch_size, rows
    for one in samples.of_other_sizes:
        inputs, wanted = finite_part(one, inference.predict(one))
        if count_samples(inputs):
            yield inputs, wanted, sizes[-1], count_samples(inputs)
            yield inputs, wanted, sizes[0], sizes[0]


def _batch_runs(count: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield batch sizes, each with the number of samples to run at it.

    All samples are run in the smallest and in the largest batches. What depends on the size of a
    batch shows on the first ones: at sizes between, two batches and a sample by itself are run.

    Args:
        count: number of samples.
        sizes: batch sizes, ascending.
    """
    for size in sizes:
        yield size, count if size in (sizes[0], sizes[-1]) else min(count, 2 * size + 1)


def _whole_cases(inference: InferenceFunction, samples: Samples) -> Iterator[_Case]:
    for inputs in (samples.inputs, *samples.of_other_sizes):
        for batch, expected in whole_batches(inference, inputs):
            yield batch, expected, count_samples(batch), None


def _measure(
    artifact: str,
    run: Run,
    cases: list[_Case],
    kind: OutputKind,
    tolerances: Mapping[str, float],
) -> Iterator[tuple[Parity, float]]:
    """Yield the parity of each output at each batch size, and the difference it may have."""
    for inputs, expected, batch_size, rows in cases:
        first = take_samples(inputs, slice(rows))
        is_one_call = rows is None or batch_size >= rows
        with explained(f"The {_NAMES[artifact]} must run on every input that Keras runs on"):
            try:
                received = run(first) if is_one_call else run_in_batches(run, first, batch_size)
            except InputError as error:  # rows of several lengths
                raise ProofError(f"{error} Nothing was published.") from None
        for name, array in expected.items():
            found = received[name]
            wanted = array if rows is None else array[:rows]
            _require_same_shape(artifact, name, wanted, found)
            is_probability = kind.predicts_probabilities(name)
            for parity, every in compare(artifact, name, batch_size, array, found, kind):
                yield parity, allowed_difference(every, is_probability, tolerances)


def _require_same_shape(artifact: str, name: str, wanted: np.ndarray, received: np.ndarray) -> None:
    if wanted.shape != received.shape:
        raise ProofError(
            f"{name} of every artifact must have the shape that it has in Keras, {wanted.shape}. "
            f"Received: {received.shape} from {artifact}. Nothing was published."
        )


def require_same_as_original(
    inference: InferenceFunction, inputs: Inputs, rebuilt: Outputs
) -> None:
    """Require that a model rebuilt in float32 predicts the same as the original, up to rounding.

    Args:
        inference: The traced model.
        inputs: Samples.
        rebuilt: Outputs of the rebuilt model.

    Raises:
        ProofError: An output differs by more than the rounding of the original's precision.
    """
    if inference.original is inference.model:
        return
    original = replace(inference, model=inference.original).predict(inputs)
    for name, wanted in original.items():
        if wanted.dtype.kind not in "fV":  # bfloat16 is of the kind V
            continue
        wide = wanted.astype(np.float32)
        difference = largest_difference(wide, rebuilt[name].astype(np.float32))
        allowed = _NARROW_TOLERANCE * largest_magnitude(wide)
        if not is_within(difference, allowed):
            raise ProofError(
                f"{name} in float32 must be within {allowed:.1e} of the model's own precision. "
                f"Received: {difference:.1e}. Nothing was published."
            )


def worst(measured: Iterable[Parity]) -> tuple[Parity, ...]:
    """Return the largest differences of each artifact, output and batch size."""
    worst: dict[tuple[str, str, int], Parity] = {}
    for item in measured:
        key = (item.artifact, item.output, item.batch_size)
        other = worst.get(key, item)
        worst[key] = replace(
            item,
            max_absolute_difference=max(
                item.max_absolute_difference, other.max_absolute_difference
            ),
            max_relative_difference=max(
                item.max_relative_difference, other.max_relative_difference
            ),
        )
    return tuple(worst.values())


def compare(
    artifact: str,
    output: str,
    batch_size: int,
    expected: np.ndarray,
    received: np.ndarray,
    kind: OutputKind,
) -> Iterator[tuple[Parity, np.ndarray]]:
    """Yield the parity of an output, or of each value by itself, and what is expected of it.

    NaN in either is an infinite difference.

    Args:
        artifact: `saved_model`, `onnx`, `int8` or `float16`.
        output: Name of the output.
        batch_size: Number of samples in each call.
        expected: What Keras predicts, `(samples, …)`.
        received: What the artifact predicts for the first of them, `(rows, …)`.
        kind: What the outputs stand for.
    """
    wanted = expected[: len(received)] if received.ndim else expected
    top1 = top1_match(wanted, received) if kind.predicts_classes(output) else None
    for every, first, found in by_value(kind.predicts_values(output), expected, wanted, received):
        difference = largest_difference(first, found)
        magnitude = largest_magnitude(every) if every.dtype.kind == "f" else 1.0
        relative = difference / magnitude
        yield Parity(artifact, output, batch_size, difference, relative, top1), every


def _require(parity: Parity, allowed: float, has_same_classes: bool) -> None:
    where = f"{parity.artifact} at batch size {parity.batch_size}"
    if not is_within(parity.max_absolute_difference, allowed):
        raise ProofError(
            f"{parity.output} of every artifact must be within {allowed:.1e} of Keras'. "
            f"Received: {parity.max_absolute_difference:.1e} from {where}. "
            "Nothing was published."
        )
    if has_same_classes and parity.top1_match not in (None, 1.0):
        raise ProofError(
            "Every sample must have the same most probable class in every artifact. "
            f"Received: {parity.top1_match:.2%} of them from {where}. Nothing was published."
        )


def _saved_model_runner(inference: InferenceFunction, folder: Path) -> Run:
    function = load_saved_model(folder)

    def run(batch: Inputs) -> Outputs:
        outputs = function(**to_tensors(inference.by_name(batch)))
        return {name: plain_array(value.numpy()) for name, value in outputs.items()}

    return run


def onnx_runner(inference: InferenceFunction, path: Path) -> Run:
    """Return a function that runs the ONNX graph at `path`, from a batch to outputs by name."""
    session = open_session(path)
    names = [output.name for output in inference.outputs]

    def run(batch: Inputs) -> Outputs:
        return dict(zip(names, session.run(names, inference.by_name(batch)), strict=True))

    return run
