"""How the outputs of a model depend on the batch: sample by sample, as a whole, or not at all."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from serving.errors import InputError
from serving.manifest import TensorSpec
from serving.parity import (
    Inputs,
    Outputs,
    allowed_difference,
    count_samples,
    is_within,
    largest_difference,
    run_in_batches,
    take_samples,
)

from .errors import ExportError
from .inference import InferenceFunction, largest_batch
from .samples import Samples, choose_golden, rows_of, spread
from .tensor_names import BATCH_AXIS, axis_name

# Some samples, and these between two others, since a model may use the first or the last one for
# all. An axis that follows the batch has these sizes.
_FEW, _MORE = 3, 5
_BATCH_SIZES = (1, 2, 7, 64)
_MOST_ROWS, _MOST_BATCHES = 64, 4


def with_observed_batch(inference: InferenceFunction, inputs: Inputs) -> InferenceFunction:
    """Return the function with the batch at its place in each output, as two batches show.

    An output may have the batch on two axes, as the similarities of CLIP, or on none, as a mean
    over all samples. A row may depend on other samples, as after batch normalization in training.
    In all these cases a batch is a whole.

    Args:
        inference: The traced model.
        inputs: Samples.
    """
    if inference.batch_size is not None:
        return inference
    few = inference.run(rows_of(inputs, _FEW))
    named = inference.by_name(inputs)
    more = inference.run(_among_others(named, others_of=lambda array: array))
    outputs = tuple(_observed(spec, few[spec.name], more[spec.name]) for spec in inference.outputs)
    is_by_row = all(_has_rows(spec) for spec in outputs) and _rows_are_same(few, _few_of(more))
    if is_by_row:
        with suppress(ExportError):  # the model may refuse what was changed
            changed = inference.run(_among_others(named, others_of=_changed))
            is_by_row = _rows_are_same(few, _few_of(changed))
    return replace(inference, outputs=outputs, whole_batches=not is_by_row)


def _among_others(
    inputs: dict[str, np.ndarray], others_of: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the first samples with another one before and after them."""
    batch = {}
    places = np.arange(_MORE) % count_samples(inputs)
    for name, whole in inputs.items():
        array = whole[places]
        first, last = np.split(others_of(array[_FEW:]), 2)
        batch[name] = np.concatenate([first, array[:_FEW], last])
    return batch


def _few_of(more: Outputs) -> Outputs:
    return {name: array[1 : 1 + _FEW] for name, array in more.items()}


def _changed(array: np.ndarray) -> np.ndarray:
    """Return other numbers: a scale that is the same in all samples may be that of the first one.

    Integers become smaller, since larger ones may be beyond a vocabulary.
    """
    changed = array
    if array.dtype.kind == "b":
        changed = np.logical_not(array)
    elif array.dtype.kind in "iu":
        changed = np.where(array > 0, array - (array > 0), array + 1)
    elif array.dtype.kind == "f":
        larger = np.abs(array) * 1.5 + 0.5
        changed = np.where(array < 0, -larger, larger)
    return changed.astype(array.dtype)


def explain_difference(
    inference: InferenceFunction, inputs: Inputs, expected: Outputs
) -> InferenceFunction:
    """Look for the reason for which an artifact differs from Keras: chance, or other samples.

    Args:
        inference: The traced model.
        inputs: Samples.
        expected: What Keras predicts for them.

    Returns:
        The function as one of whole batches, if Keras itself predicts something else for a sample
        that is alone, but its trace the same for the same batch; otherwise the function as it was.

    Raises:
        ExportError: Keras itself predicts something else if the model is called again.
    """
    if inference.whole_batches:
        return inference
    chosen = spread(count_samples(inputs), _FEW)  # with an edge case, which may be unlike others
    few = {name: array[chosen] for name, array in expected.items()}
    taken = take_samples(inputs, chosen)
    alone = _alone(inference, taken)
    again, once_more = inference.predict(taken), inference.predict(taken)
    if not _rows_are_same(again, once_more):
        differing = [name for name in again if not _rows_are_same({name: again[name]}, once_more)]
        raise ExportError(
            f"Outputs must not depend on chance. Received: {differing[0]}, which Keras predicts "
            "differently each time that it calls the model. Leave out random numbers of Python "
            "and numpy, or pass them as an input."
        )
    if not _rows_are_same(again, inference.run(taken)):
        return inference  # it differs for the same batch, so that the batch is not the reason
    is_by_row = bool(alone) and _rows_are_same(few, alone) and _rows_are_same(again, alone)
    return inference if is_by_row else replace(inference, whole_batches=True)


def _alone(inference: InferenceFunction, inputs: Inputs) -> Outputs:
    """Return what Keras predicts for samples one by one; empty if their shapes differ then."""
    try:
        return run_in_batches(inference.predict, inputs, 1)
    except InputError:
        return {}


def _observed(spec: TensorSpec, few: np.ndarray, more: np.ndarray) -> TensorSpec:
    """Return the spec with an axis called `batch` wherever the size is that of the batch."""
    sizes = zip(few.shape, more.shape, strict=True)
    axes = [
        BATCH_AXIS if pair == (_FEW, _MORE) else _other_axis(spec, axis, pair)
        for axis, pair in enumerate(sizes)
    ]
    return replace(spec, shape=tuple(axes))


def _other_axis(spec: TensorSpec, axis: int, sizes: tuple[int, int]) -> int | str:
    """Return an axis that is not the batch: as it was traced, or variable if that is not so."""
    traced = spec.shape[axis] if axis < len(spec.shape) else BATCH_AXIS
    is_as_traced = traced != BATCH_AXIS if isinstance(traced, str) else traced == sizes[0]
    if is_as_traced and sizes[0] == sizes[1]:
        return traced
    return axis_name(spec.name, 0, axis) if axis else f"{spec.name}_0"


def _has_rows(spec: TensorSpec) -> bool:
    return spec.shape[:1] == (BATCH_AXIS,) and BATCH_AXIS not in spec.shape[1:]


def _rows_are_same(few: Outputs, others: Outputs) -> bool:
    """Return whether samples have the same outputs in another batch, up to rounding."""
    return all(
        is_within(
            largest_difference(np.nan_to_num(array), np.nan_to_num(others[name])),
            allowed_difference(np.nan_to_num(array), are_probabilities=False),
        )
        if array.dtype.kind == "f"
        else bool(np.array_equal(array, others[name]))
        for name, array in few.items()
    )


def as_whole_batch(inference: InferenceFunction, samples: Samples) -> tuple[Samples, Outputs]:
    """Return samples that make one batch, and what Keras predicts for it.

    Edge cases are left out if they spoil the outputs of the others with NaN or infinity. A fixed
    batch becomes several, the further ones among `of_other_sizes`.

    Args:
        inference: A model of whole batches.
        samples: Samples.

    Raises:
        ExportError: An output is not finite.
    """
    size = inference.batch_size
    if size is not None:
        first, *others = _fixed_batches(samples.inputs, size)
        more = [rows_of(inputs, size) for inputs in samples.of_other_sizes]
        batch = Samples(first, samples.source, (), 0, (*others, *more))
        return batch, _finite(inference, batch)
    chosen = choose_golden(samples, _MOST_ROWS - samples.num_edge_cases)
    batch = replace(samples, inputs=take_samples(samples.inputs, chosen))
    try:
        return batch, _finite(inference, batch)
    except ExportError:
        inputs = take_samples(batch.inputs, slice(len(batch)))
        batch = Samples(inputs, samples.source, (), 0, samples.of_other_sizes)
        return batch, _finite(inference, batch)


def with_accepted_edge_cases(inference: InferenceFunction, samples: Samples) -> Samples:
    """Leave out the edge cases that Keras refuses, such as a division by a zero that was added.

    Args:
        inference: The traced model.
        samples: Samples that were given, with edge cases.
    """
    added = take_samples(samples.inputs, slice(len(samples), None))
    if not samples.num_edge_cases or _is_accepted(inference, added):
        return samples
    accepted = [
        place
        for place in range(samples.num_edge_cases)
        if _is_accepted(inference, take_samples(added, slice(place, place + 1)))
    ]
    kept = np.r_[np.arange(len(samples)), len(samples) + np.array(accepted, int)]
    inputs = take_samples(samples.inputs, kept)
    return replace(samples, inputs=inputs, num_edge_cases=len(accepted))


def _is_accepted(inference: InferenceFunction, inputs: Inputs) -> bool:
    try:
        inference.run(inputs)
    except ExportError:
        return False
    return True


def samples_taken_alone(
    inference: InferenceFunction, samples: Samples, expected: Outputs
) -> tuple[Samples, Outputs]:
    """Return the samples that Keras' trace takes without others, and what Keras predicts for them.

    A text without words has no steps: a recurrent layer takes it only beside a longer one.

    Args:
        inference: The traced model.
        samples: Samples.
        expected: What Keras predicts for them.

    Returns:
        Both, with how many were left out in `source`; as they were if all or none would be.
    """
    taken = _taken_alone(inference, samples.inputs)
    if taken.all() or not taken[: len(samples)].any():
        return samples, expected
    others = tuple(
        take_samples(inputs, _taken_alone(inference, inputs)) for inputs in samples.of_other_sizes
    )
    left_out = len(taken) - int(taken.sum())
    chosen = replace(
        samples,
        inputs=take_samples(samples.inputs, taken),
        source=f"{samples.source}, without {left_out} that Keras takes only beside others",
        num_edge_cases=int(taken[len(samples) :].sum()),
        of_other_sizes=others,
    )
    return chosen, {name: array[taken] for name, array in expected.items()}


def _taken_alone(inference: InferenceFunction, inputs: Inputs) -> np.ndarray:
    """Return for each sample whether the trace takes a batch of it alone, bool `(samples,)`."""
    found = np.ones(count_samples(inputs), bool)
    for place in range(len(found)):
        found[place] = _is_accepted(inference, take_samples(inputs, slice(place, place + 1)))
    return found


def batch_sizes(inputs: Inputs) -> list[int]:
    """Return the batch sizes to run `inputs` at, none larger than their count.

    A large batch of large inputs, such as images, would take more memory than the model.
    """
    most = min(count_samples(inputs), max(7, largest_batch(inputs)))
    return sorted({min(size, most) for size in _BATCH_SIZES})


def whole_batches(inference: InferenceFunction, inputs: Inputs) -> Iterator[tuple[Inputs, Outputs]]:
    """Yield batches of several sizes, the largest first, each with what Keras predicts for it.

    Those whose outputs are not finite are left out, such as a deviation over one sample.
    """
    fixed = inference.batch_size
    for size in reversed(batch_sizes(inputs)) if fixed is None else [fixed]:
        batch = take_samples(inputs, slice(size))
        outputs = inference.predict(batch)
        if all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"):
            yield batch, outputs


def _fixed_batches(inputs: Inputs, size: int) -> list[Inputs]:
    count = count_samples(inputs)
    starts = range(0, count, size)[:_MOST_BATCHES]
    return [take_samples(inputs, np.arange(start, start + size) % count) for start in starts]


def _finite(inference: InferenceFunction, batch: Samples) -> Outputs:
    outputs = inference.predict(batch.inputs)
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ExportError(
                f"Keras' outputs must be finite. Received: {name} of a batch of "
                f"{count_samples(batch.inputs)} samples of {batch.source}, with NaN or infinity."
            )
    return outputs
