"""The samples that a proof is made on: the evaluation data, and cases made to be hard."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serving.parity import Inputs, Outputs, count_samples, take_samples

from .errors import ExportError

EDGE_CASES = ("zeros", "maximum", "random")
_RANDOM_SAMPLES = 8


@dataclass(frozen=True)
class Samples:
    """Inputs of a model.

    Attributes:
        inputs: one array `(samples, …)`, or one for each input's name; the edge cases last.
        source: where those before the edge cases came from.
        edge_cases: names of the kinds of edge cases.
        num_edge_cases: how many lie at the end.
        of_other_sizes: more inputs, of other sizes along the axes that are variable.
    """

    inputs: Inputs
    source: str
    edge_cases: tuple[str, ...]
    num_edge_cases: int
    of_other_sizes: tuple[Inputs, ...] = ()

    def __len__(self) -> int:
        """Return how many samples there are, edge cases not counted."""
        return count_samples(self.inputs) - self.num_edge_cases


def with_edge_cases(
    inputs: Inputs, source: str, nullable_columns: Sequence[int] = (), has_unknown: bool = True
) -> Samples:
    """Append all zeros, all at the maximum, random samples, and where they may be missing values.

    The maximum is 255 for uint8 and the largest of each element elsewhere; random samples lie
    between the extremes. Texts are unknown in the first, and drawn from those at hand elsewhere.

    Args:
        inputs: arrays `(samples, …)` of numbers or strings.
        source: what they are, in words.
        nullable_columns: columns of float32 rows that may have no value.
        has_unknown: whether the model takes texts that it does not know.
    """
    random = np.random.default_rng(0)
    arrays = inputs if isinstance(inputs, dict) else {"": inputs}
    unknown = "\x00 unknown" if has_unknown else None
    added = {
        name: _edge_cases(array, random, nullable_columns, unknown)
        for name, array in arrays.items()
    }
    joined = {name: np.concatenate([array, added[name]]) for name, array in arrays.items()}
    count = count_samples(joined) - count_samples(inputs)
    names = EDGE_CASES if not nullable_columns else (*EDGE_CASES, "missing")
    return Samples(joined if isinstance(inputs, dict) else joined[""], source, names, count)


def _edge_cases(
    array: np.ndarray,
    random: np.random.Generator,
    nullable_columns: Sequence[int],
    unknown: str | None,
) -> np.ndarray:
    shape = (_RANDOM_SAMPLES, *array.shape[1:])
    if array.dtype == object:
        drawn = random.choice(array, _RANDOM_SAMPLES + 2 + bool(nullable_columns))
        if unknown is not None:
            drawn[0] = unknown
        return drawn
    zeros = np.zeros_like(array[:1])
    if array.dtype == np.uint8:
        maximum = np.full_like(zeros, 255)
        return np.concatenate([zeros, maximum, random.integers(0, 256, shape, np.uint8)])
    if array.dtype.kind != "f":
        lowest, highest = array.min(axis=0, keepdims=True), array.max(axis=0, keepdims=True)
        drawn = random.integers(lowest, highest, shape, endpoint=True)
        return np.concatenate([zeros, highest, drawn.astype(array.dtype)])
    # A column may have no value at all in these samples.
    present = np.where(np.isnan(array), 0, array)
    lowest, maximum = present.min(axis=0, keepdims=True), present.max(axis=0, keepdims=True)
    cases = [zeros, maximum, random.uniform(lowest, maximum, shape).astype(array.dtype)]
    if len(nullable_columns):
        missing = np.array(maximum)
        missing[:, nullable_columns] = np.nan
        cases.append(missing)
    return np.concatenate(cases)


def finite_samples(samples: Samples, answers: Outputs) -> tuple[Samples, Outputs]:
    """Leave out edge cases whose answers are not finite: nothing can be compared with them.

    A mean over no token, or the logarithm of 0, is none of the model's faults.

    Raises:
        ExportError: the answer to a sample is not finite.
    """
    for name, array in answers.items():
        is_fine = _are_finite({name: array})
        if not is_fine[: len(samples)].all():
            place = int(np.argmin(is_fine))
            raise ExportError(
                f"Keras' answers must be finite. Received: {name} of sample {place} of "
                f"{samples.source}, with NaN or infinity."
            )
    chosen, left = finite_part(samples.inputs, answers)
    kept = count_samples(chosen) - len(samples)
    return replace(samples, inputs=chosen, num_edge_cases=kept), left


def finite_part(inputs: Inputs, answers: Outputs) -> tuple[Inputs, Outputs]:
    """Return the inputs, and their answers, whose answers are finite."""
    is_fine = _are_finite(answers)
    if is_fine.all():
        return inputs, answers
    return take_samples(inputs, is_fine), {name: a[is_fine] for name, a in answers.items()}


def _are_finite(answers: Outputs) -> np.ndarray:
    found = [
        np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if array.dtype.kind == "f"
        else np.ones(len(array), bool)
        for array in answers.values()
    ]
    are_finite: np.ndarray = np.logical_and.reduce(found)
    return are_finite


def choose_golden(samples: Samples, count: int = 22) -> np.ndarray:
    """Return the places of `count` samples spread over the data, and of every edge case."""
    edge_cases = np.arange(len(samples), len(samples) + samples.num_edge_cases)
    return np.concatenate([spread(len(samples), count), edge_cases])


def spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` of `count` places, spread evenly, int64."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
